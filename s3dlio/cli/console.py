"""What is written where: data to stdout, everything else to stderr, one progress line that nothing is mixed into.

Any thread may call it. It decides once, at the start, what each of the two can show.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any, TextIO

from .exits import OutputClosed
from .text import shown

ERASE = "\r\x1b[K"
# Seconds after which lines reach a pipe, although more may follow at once.
LONGEST_HELD = 0.2


class Console:
    """Both streams of the process.

    Attributes:
        live: stderr is a terminal that can show a progress line.
        asks: there is a person who can answer a question.
    """

    def __init__(self) -> None:
        self._out, self._err = _stream(sys.stdout), _stream(sys.stderr)
        self._lock = threading.RLock()
        self._line = ""
        self._flushed = 0.0
        self._out_is_terminal = _is_terminal(self._out)
        self._err_is_terminal = _is_terminal(self._err)
        dumb = os.environ.get("TERM", "") in ("", "dumb") or bool(os.environ.get("CI"))
        self._coloured = self._err_is_terminal and not dumb and not os.environ.get("NO_COLOR")
        self.live = self._coloured
        self.asks = self._err_is_terminal and _is_terminal(sys.stdin)

    @property
    def width(self) -> int:
        """Columns of the terminal at stderr."""
        try:
            return os.get_terminal_size(2).columns or 80
        except OSError:
            return 80

    def data(self, text: str, end: str = "\n") -> None:
        """Writes to stdout; on a terminal, without what it would act on.

        Raises:
            OutputClosed: its reader has gone.
        """
        with self._lock:
            if self._out is None:
                raise OutputClosed
            self._erase()
            try:
                self._out.write((shown(text) if self._out_is_terminal else text) + end)
                now = time.monotonic()
                if self._out_is_terminal or now - self._flushed > LONGEST_HELD:
                    self._out.flush()
                    self._flushed = now
            except BrokenPipeError:
                raise OutputClosed from None
            self._draw()

    def lines(self, text: str) -> None:
        """Writes several lines of ours to stdout."""
        for line in text.split("\n"):
            self.data(line)

    def bytes(self, data: Any) -> None:
        """Writes a buffer to stdout, as it is.

        Raises:
            OutputClosed: its reader has gone.
        """
        if self._out is None:
            raise OutputClosed
        try:
            self._out.flush()
            # Released before any error leaves: its frames would keep the object's memory exported.
            with memoryview(data) as view:
                at = 0
                while at < len(view):
                    with view[at:] as rest:
                        at += _write_some(self._out.fileno(), rest)
        except BrokenPipeError:
            raise OutputClosed from None

    def note(self, text: str) -> None:
        """Writes to stderr, line by line."""
        self._write("".join(f"{shown(line)}\n" for line in text.split("\n")))

    def question(self, text: str) -> None:
        """Writes to stderr, and stays in the line."""
        self._write(shown(text))

    def error(self, command: str, text: str) -> None:
        """Writes an error to stderr, in one line."""
        command = f"\x1b[31m{command}:\x1b[0m" if self._coloured else f"{command}:"
        self._write(f"{command} {shown(text)}\n")

    def progress(self, line: str) -> None:
        """Shows a line in the place of the last one, at the end of the terminal; an empty one ends that."""
        with self._lock:
            self._erase()
            self._line = shown(line)[: max(1, self.width - 1)]
            self._draw()

    def close(self) -> None:
        """Writes what is left.

        Raises:
            OutputClosed: the reader of stdout has gone.
            OSError: it could not be written.
        """
        with self._lock:
            self.progress("")
            if self._out is None:
                return
            try:
                self._out.flush()
            except BrokenPipeError:
                raise OutputClosed from None

    def abandon_output(self) -> None:
        """Sends what is still buffered nowhere, so that the interpreter's exit has nothing to complain about."""
        if self._out is not None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._out.fileno())
            os.close(nowhere)

    def _write(self, text: str) -> None:
        with self._lock:
            if self._err is None:
                return
            self._erase()
            try:
                self._err.write(text)
                self._err.flush()
            except OSError:  # there is nowhere to say so
                self._err = None
            self._draw()

    def _erase(self) -> None:
        self._put(ERASE)

    def _draw(self) -> None:
        self._put(self._line)

    def _put(self, text: str) -> None:
        """Changes the progress line, where there is one."""
        if self._line and self._err is not None:
            self._err.write(text)
            self._err.flush()


def _stream(stream: Any) -> TextIO | None:
    """The stream in UTF-8, which keys are, and with bytes that are none left as they came; None where it is closed."""
    if stream is None:
        return None
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(encoding="utf-8", errors="surrogateescape", newline="\n")
    text: TextIO = stream
    return text


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def _write_some(descriptor: int, data: memoryview) -> int:
    """Writes as much as the descriptor takes; the bytes written."""
    while True:
        try:
            return os.write(descriptor, data)
        except BlockingIOError:
            import select

            poller = select.poll()
            poller.register(descriptor, select.POLLOUT)
            poller.poll()
