"""How far a command has come: a line that is redrawn on a terminal, and elsewhere a line every few seconds.

A thread of its own draws, so that a transfer never waits for a terminal.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Self

from .report import Report
from .text import duration, human

# Seconds between two drawings on a terminal.
REDRAW = 0.1


class Progress:
    """The progress of one command, shown while its context is open.

    Args:
        noun: what is counted: ``objects``.
        every: seconds between two lines where there is no terminal; 0 shows nothing at all.
    """

    def __init__(self, report: Report, noun: str, *, every: float) -> None:
        self._report = report
        self._noun = noun
        self._shows = every > 0 and not report.quiet
        self._every = every
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._begun = time.monotonic()
        self._bytes = self._items = 0
        self._all_bytes: int | None = 0
        self._all_items: int | None = 0

    def expect(self, items: int = 0, size: int | None = 0) -> None:
        """Adds to what there is to do; a size of None makes the whole unknown."""
        with self._lock:
            if self._all_items is not None:
                self._all_items += items
            self._all_bytes = None if size is None or self._all_bytes is None else self._all_bytes + size

    def expect_more(self) -> None:
        """It is not known how much there is to do."""
        with self._lock:
            self._all_bytes = self._all_items = None

    def add(self, size: int = 0, items: int = 0) -> None:
        """Counts what is done."""
        with self._lock:
            self._bytes += size
            self._items += items

    def of_one(self) -> Any:
        """A callable for ``progress=`` of one transfer, which adds what has come since it was last called."""
        before = 0

        def report(event: Any) -> None:
            nonlocal before
            self.add(event.bytes_done - before)
            before = event.bytes_done

        return report

    def of_many(self) -> Any:
        """A callable for ``progress=`` of a call that transfers many files, of which it does not know how many."""
        self.expect_more()
        before = (0, 0)

        def report(event: Any) -> None:
            nonlocal before
            now = event.bytes_done, event.parts_done
            self.add(now[0] - before[0], now[1] - before[1])
            before = now

        return report

    def line(self) -> str:
        """What is shown."""
        with self._lock:
            done, items, all_bytes, all_items = self._bytes, self._items, self._all_bytes, self._all_items
        seconds = max(time.monotonic() - self._begun, 1e-3)
        parts = []
        if all_items is None or all_items > 1:
            parts.append(f"{items} {self._noun}" if all_items is None else f"{items} of {all_items} {self._noun}")
        if all_bytes is None and done:
            parts.append(human(done))
        elif all_bytes:
            parts.append(f"{human(done)} of {human(all_bytes)} ({100 * done // all_bytes} %)")
        if done:
            rate = done / seconds
            parts.append(f"{human(rate)}/s")
            if all_bytes and done < all_bytes:
                parts.append(f"{duration((all_bytes - done) / rate)} left")
        elif all_items is None and items:
            parts.append(f"{items / seconds:.0f}/s")
        return ", ".join(parts)

    def __enter__(self) -> Self:
        if self._shows:
            self._thread = threading.Thread(target=self._draw, name="s3dlio-progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._report.console.progress("")

    def _draw(self) -> None:
        console = self._report.console
        live = console.live
        while not self._ended.wait(REDRAW if live else self._every):
            line = self.line()
            if live:
                console.progress(line)
            elif line:
                console.note(f"s3dlio {self._report.name}: {line}")
