"""One download that is consumed in order while it runs: chunks in a window that slides over the object.

Each chunk has a buffer of its own, which belongs to whoever takes it. No chunk is fetched that lies further ahead than
the window, however slowly the chunks are taken. Callers are `get_iter` and readers.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any

from .._memory.bytes_view import BytesView
from .._memory.pool import pool
from .._net.addresses import Location
from .._runtime import workers
from .._runtime.waiting import LOOK_AGAIN
from .._s3.requests import Cancelled
from .._s3.service import Service
from ..config import DownloadSettings
from ..errors import ForkedError, S3dlioError
from .download import Download, check_whole
from .ranges import Range


class Stream(Download):
    """The bytes of one download, chunk after chunk.

    Args:
        window: bytes that may be in flight or wait to be taken.
    """

    def __init__(
        self, service: Service, location: Location, settings: DownloadSettings, window: int, **options: Any
    ) -> None:
        self._window = window
        self._pid = os.getpid()
        # By offset, what was fetched and not taken yet. Guarded by the lock, like the rest.
        self._chunks: dict[int, BytesView] = {}
        self._taken = 0
        self._over = self._closed = False
        self._failure: BaseException | None = None
        self._digest: Any = None
        # Set by a finalizer, which may take no lock; waiting workers look at it from time to time.
        self.abandoned = False
        super().__init__(service, location, settings, **options)

    def start(self) -> None:
        """Begins on a worker."""
        try:
            workers.start(self._run_to_end)
        except RuntimeError as error:
            self._over = True
            raise S3dlioError("no thread can be started to read ahead; use get, which needs none") from error

    def _begin(self) -> None:
        if self._taken:  # what was handed out cannot be fetched again
            raise S3dlioError(f"{self._uri}: the store began to ignore ranges while it was being read; read it again")
        self._chunks.clear()
        super()._begin()

    def _run_to_end(self) -> None:
        failure: BaseException | None = None
        try:
            self.run()
        except BaseException as error:
            failure = error
        with self._lock:
            self._failure, self._over = failure, True
            self._crew_changed.notify_all()

    def take(self) -> BytesView | None:
        """Waits for the next chunk; None at the end.

        The last chunk comes once the checksum of the whole object was compared, where there is one to compare.
        """
        if self._pid != os.getpid():
            raise ForkedError(f"the stream of {self._uri} belongs to the process that this one was forked from")
        found: list[BytesView] = []

        def ready() -> bool:
            chunk = self._chunks.get(self._taken)
            whole = self._wanted is not None and chunk is not None and self._taken + len(chunk) == self._wanted
            if chunk is not None and (self._over or not whole) and self._failure is None:
                found.append(self._chunks.pop(self._taken))
                self._taken += len(chunk)
                self._crew_changed.notify_all()
            return bool(found) or self._over

        self._crew_changed.wait_for(ready)
        if not found:
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            return None
        self._hash(found[0])
        return found[0]

    def _hash(self, chunk: BytesView) -> None:
        """Adds a chunk to a hash, which cannot be combined from those of chunks, and compares it at the end."""
        expected = self._expected
        if expected is None or not expected.algorithm.hashed:
            return
        if self._digest is None:
            self._digest = hashlib.new(expected.algorithm.name, usedforsecurity=False)
        self._digest.update(chunk)
        if self._taken == self._wanted:
            check_whole(self._location, expected, int.from_bytes(self._digest.digest(), "big"))

    def _check(self) -> None:
        if self._expected is None or not self._expected.algorithm.hashed:
            super()._check()

    def cancel(self) -> None:
        """Ends all requests, from any thread; a thread that waits for a chunk raises."""
        self._outer.cancel()

    def close(self) -> None:
        """Ends all requests; returns when none is left."""
        if self._closed or self._pid != os.getpid():
            return
        self._closed = True
        self.cancel()
        self._crew_changed.wait_for(lambda: self._over)
        self._chunks.clear()
        self._failure = None  # it would make a reference cycle with its frames

    # ------------------------------------------------------------------------------------------- on the workers

    def _first(self) -> None:
        super()._first()
        buffer, self._buffer, self._destination = self._buffer, None, None
        if buffer is not None and self._done:
            with self._lock:
                self._chunks.setdefault(0, BytesView(buffer, 0, self._first_received))
                self._crew_changed.notify_all()

    def _allocate(self, wanted: int) -> None:
        first = self._first_length
        if first and (self._buffer is None or self._buffer.size != first):
            self._destination = None
            self._buffer = pool().acquire(first)
            self._destination = memoryview(self._buffer)

    def _range_done(self, done: Range, view: memoryview | None) -> None:
        if done.offset == 0:
            self._first_received = done.length
        super()._range_done(done, view)

    def _fetch(self, wanted: Range) -> None:
        self._wait_for_room(wanted)
        buffer = pool().acquire(wanted.length)
        done = self._receive(wanted, memoryview(buffer))
        self._range_done(done, memoryview(buffer))
        with self._lock:
            self._chunks[done.offset] = BytesView(buffer, 0, done.length)
            self._crew_changed.notify_all()

    def _wait_for_room(self, wanted: Range) -> None:
        def room() -> bool:
            return wanted.offset <= self._taken or wanted.offset + wanted.length <= self._taken + self._window

        while not self._crew_changed.wait_for(room, time.monotonic() + LOOK_AGAIN):
            self._scope.check()
            if self.abandoned:
                raise Cancelled("nobody reads the stream any more")
