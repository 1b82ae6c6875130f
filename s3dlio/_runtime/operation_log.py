"""The operation log: a line for each request, appended to the file that ``S3DLIO_OPLOG`` names.

Lines are collected and written together, at the latest after a second and at exit. Several processes may write to one
file: each write appends whole lines. A child begins with nothing collected. Only `observing` adds lines.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import threading
import time
import weakref

from ..errors import ConfigurationError
from . import workers

log = logging.getLogger("s3dlio")

COLUMNS = (
    "time", "operation", "bucket", "key", "bytes", "status", "first_byte", "duration", "attempts", "endpoint", "error",
)  # fmt: skip
# Bytes that wait before they are written, and for how long they may.
MOST_BYTES = 64 << 10
LONGEST_WAIT = 1.0
# What would end a line or a column, or could not be written as UTF-8.
_SPECIAL = re.compile(r"[\x00-\x1f\\\x7f\x85\u2028\u2029\ud800-\udfff]")


def escaped(key: str) -> str:
    """A key as the log has it: control characters, backslashes and what is no text as Python's escapes."""
    if _SPECIAL.search(key) is None:
        return key
    return _SPECIAL.sub(lambda found: found[0].encode("unicode_escape").decode(), key)


class OperationLog:
    """One file.

    Raises:
        ConfigurationError: it cannot be opened for writing.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._lines: list[bytes] = []
        self._size = 0
        self._pid = os.getpid()
        self._flushing = self._told = False
        self._file = -1
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            if os.fstat(self._file).st_size == 0:
                self._write("\t".join(COLUMNS).encode() + b"\n")
        except OSError as error:
            raise ConfigurationError(
                f"environment variable S3DLIO_OPLOG={path!r} cannot be used ({error.strerror}); name a file that can "
                "be written"
            ) from error
        _all.add(self)

    def add(self, lines: bytes) -> None:
        """Adds whole lines."""
        with self._lock:
            self._lines.append(lines)
            self._size += len(lines)
            flush_now, flush_soon = self._size >= MOST_BYTES or _exiting, not self._flushing
            self._flushing = True
        if flush_now:
            self.flush()
        elif flush_soon:
            with contextlib.suppress(RuntimeError):  # no thread can be started: it is written at exit
                workers.start(self._flush_later)

    def flush(self) -> None:
        """Writes what was collected."""
        if self._pid != os.getpid():
            return
        with self._lock:
            lines, self._lines, self._size = self._lines, [], 0
        if lines:
            try:
                self._write(b"".join(lines))
            except OSError as error:
                if not self._told:
                    log.warning("the operation log %s cannot be written: %s", self.path, error)
                self._told = True

    def _write(self, lines: bytes) -> None:
        left = memoryview(lines)
        while left:
            left = left[os.write(self._file, left) :]

    def _flush_later(self) -> None:
        time.sleep(LONGEST_WAIT)
        with self._lock:
            self._flushing = False
        self.flush()

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)


_all: weakref.WeakSet[OperationLog] = weakref.WeakSet()
# From here on nothing waits: the uploads that are aborted at exit still add lines.
_exiting = False
_lock = threading.Lock()
_current: OperationLog | None = None


def operation_log(path: str | None) -> OperationLog | None:
    """The log at `path`, opened once; None for no path. The log of another path is written to its end."""
    global _current
    current = _current
    if path is None and current is None:
        return None
    if current is not None and current.path == path:
        return current
    with _lock:
        current = _current
        if current is None or current.path != path:
            _current = None if path is None else OperationLog(path)
            if current is not None:
                current.flush()  # its file stays open as long as a client adds lines
        return _current


def _after_fork_in_child() -> None:
    global _current, _lock
    _lock = threading.Lock()
    _current = None


def _at_exit() -> None:
    global _exiting
    _exiting = True
    for one in list(_all):
        one.flush()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork_in_child)
