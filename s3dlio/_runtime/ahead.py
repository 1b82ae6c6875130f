"""Reads an iterator one item ahead on a worker, while its consumer is busy with the item before.

Only one thread at a time runs the iterator. Callers are the public listings.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Generic, Self, TypeVar

from ..errors import ForkedError, S3dlioError
from .waiting import Changed
from .workers import Crew

T = TypeVar("T")


class _Read(Generic[T]):
    """The item that was read last, or the error that ended the reading. A worker holds this, and not its consumer."""

    def __init__(self, source: Iterator[T]) -> None:
        self._source = source
        self.items: list[T] = []
        self.error: BaseException | None = None

    def __call__(self) -> None:
        try:
            self.items.append(next(self._source))
        except BaseException as error:
            self.error = error


class Ahead(Iterator[T]):
    """The items of `source`.

    After an error, or an interrupt, there are no more: a listing that is cut short is never taken for a whole one.

    Args:
        cancel: ends what `source` waits for, from any thread.
    """

    def __init__(self, source: Iterator[T], cancel: Callable[[], None]) -> None:
        lock = threading.Lock()
        self._read = _Read(source)
        self._crew = Crew(lock, Changed(lock))
        self._cancel = cancel
        self._pid = os.getpid()
        self._ended = False
        self._failed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self._ended:
            raise StopIteration
        if self._failed:
            raise S3dlioError("the listing ended by an error or an interrupt; begin another one, with start_after")
        if self._pid != os.getpid():
            raise ForkedError("the listing belongs to the process that this one was forked from; begin one here")
        try:
            return self._next()
        except StopIteration:
            self._ended = True
            raise
        except BaseException:
            self._failed = True
            self._cancel()
            self._crew.call_off()
            raise

    def _next(self) -> T:
        self._crew.join()
        read = self._read
        if not read.items and read.error is None:
            read()  # the first item, or one for which there was no thread
        if read.error is not None:
            error, read.error = read.error, None
            raise error
        item = read.items.pop()
        self._crew.start(read)
        return item

    def cancel(self) -> None:
        """Ends what the reading waits for, from any thread; the thread that waits raises."""
        self._cancel()

    def close(self) -> None:
        """Ends the reading: there are no more items. Returns when no worker runs the iterator any more."""
        if self._ended or self._pid != os.getpid():
            return
        self._ended = True
        self._cancel()
        self._crew.call_off()

    def __del__(self) -> None:
        if not getattr(self, "_ended", True) and self._pid == os.getpid():
            self._cancel()
