"""One download into a file: ranges in pooled memory, written where they belong, within the budget of a call.

The first response fills a buffer of its own, and each further range another one, so that the memory in use does not
depend on the object's size. Where a side file is given, finished ranges are noted there, and those of an earlier run
are read back instead of being fetched again.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping
from typing import Any

from .._memory.pool import pool
from .._net.addresses import Location
from .._s3.service import Service
from ..config import MIB, DownloadSettings
from .budget import Budget
from .download import FIRST_PART, Download
from .journal import Journal
from .ranges import Range, plan_ranges

# Bytes that are read back at a time.
READ_SIZE = 8 * MIB


class RangedFile(Download):
    """The download of one object into a file.

    Args:
        descriptor: of the file, open for reading and writing.
        budget: what the call may use.
        journal: the side file of finished ranges; None for none.
    """

    def __init__(
        self,
        service: Service,
        location: Location,
        settings: DownloadSettings,
        descriptor: int,
        budget: Budget,
        journal: Journal | None = None,
        **options: Any,
    ) -> None:
        self._file = descriptor
        self._budget = budget
        self._journal = journal
        self._mapped: mmap.mmap | None = None
        # What an earlier run has noted: ranges, and the checksum of each.
        self._noted: dict[Range, int] = {}
        super().__init__(service, location, settings, **options)

    @property
    def etag(self) -> str | None:
        """ETag of the version that was fetched; None where the store reports none."""
        tag = None if self._version is None else self._version.tag
        return None if tag is None else str(tag)

    @property
    def headers(self) -> Mapping[str, str]:
        """The head of the first response."""
        return {} if self._promise is None else self._promise.headers

    def _first(self) -> None:
        self._budget.take(FIRST_PART, self._check_scope)
        try:
            super()._first()
        finally:
            self._buffer = self._destination = self._mapped = None
            self._budget.give(FIRST_PART)

    def _check_scope(self) -> None:
        self._scope.check()

    def _allocate(self, wanted: int) -> None:
        """Room on the disk for all of it, and memory for the first response.

        A response that cannot be cut short, because nothing identifies its version, goes into the mapped file.
        """
        os.ftruncate(self._file, wanted)
        if wanted and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._file, 0, wanted)  # a full disk is told before anything is fetched
        first = self._first_length
        if first > FIRST_PART:
            self._mapped = mmap.mmap(self._file, first)
            self._destination = memoryview(self._mapped)
        elif first and (self._buffer is None or self._buffer.size != first):
            self._destination = None
            self._buffer = pool().acquire(first)
            self._destination = memoryview(self._buffer)

    def _plan(self, offset: int, wanted: int, chunk: int) -> list[Range]:
        if self._journal is None:
            return plan_ranges(wanted, chunk=chunk, start=offset)
        planned: list[Range] = []
        self._noted = dict(self._journal.open(self.etag, wanted))
        for noted in list(self._noted):
            if offset <= noted.offset and noted.offset + noted.length <= wanted and noted.length <= 2 * chunk:
                planned += [*plan_ranges(noted.offset, chunk=chunk, start=offset), noted]
                offset = noted.offset + noted.length
        return planned + plan_ranges(wanted, chunk=chunk, start=offset)

    def _fetch(self, wanted: Range) -> None:
        self._budget.take(wanted.length, self._check_scope)
        try:
            view = memoryview(pool().acquire(wanted.length))
            if self._is_there(wanted, view):
                super()._range_done(wanted, view)
            else:
                self._range_done(self._receive(wanted, view), view)
            del view
        finally:
            self._budget.give(wanted.length)

    def _is_there(self, wanted: Range, view: memoryview) -> bool:
        """Whether an earlier run has written the range: its bytes are read into `view` and compared with the note."""
        noted = self._noted.pop(wanted, None)
        if noted is None:
            return False
        done = 0
        while done < wanted.length:
            count = os.preadv(self._file, [view[done:]], wanted.offset + done)
            if not count:
                return False
            done += count
        return Journal.algorithm.of([view]) == noted

    def _range_done(self, done: Range, view: memoryview | None) -> None:
        if view is not None and self._mapped is None:
            write_all(self._file, view[: done.length], done.offset)
        if view is not None and self._journal is not None and done.length:
            self._journal.note(done, view[: done.length])
        super()._range_done(done, view)

    def _everything(self, wanted: int) -> Iterator[memoryview]:
        at = 0
        while data := os.pread(self._file, min(READ_SIZE, wanted - at), at):
            yield memoryview(data)
            at += len(data)


def write_all(descriptor: int, view: memoryview, offset: int) -> None:
    """Writes all bytes at an offset of a file."""
    done = 0
    while done < len(view):
        done += os.pwrite(descriptor, view[done:], offset + done)
