"""One download: one request, or parallel ranges straight into the destination, all of one version of the object.

The checksum that the store reports is compared before any bytes are returned. Memory comes from the pool, or is the
caller's own. Called by `reader` and `batch`; it must never return while a worker may write.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from .._memory.bytes_view import BytesView
from .._memory.destinations import Bounded, Collected, Destination, FirstBytes
from .._memory.pool import pool
from .._net.addresses import Location, format_uri
from .._net.exchange import unbroken
from .._runtime import workers
from .._runtime.waiting import Changed
from .._s3 import checksums, object_operations
from .._s3.checksums import Checksum
from .._s3.failures import Failed
from .._s3.get_response import (
    WHOLE,
    Asked,
    Promise,
    RangeIgnored,
    UnfitResponse,
    Version,
    difference,
    full_object_checksum,
    version_in,
)
from .._s3.requests import Cancelled, CancelScope, Response, operation_scope
from .._s3.service import Service
from ..config import MIB, DownloadSettings
from ..errors import (
    ChecksumMismatchError,
    InvalidRangeError,
    ObjectChangedError,
    PreconditionFailedError,
    S3Error,
    TransportError,
)
from ..progress import Progress, ProgressEvent
from .ranges import Range, auto_chunk, auto_concurrency, plan_ranges
from .reports import Reports

# Bytes of the first range, whose response reports size and version. A longer first response is cut off after as many,
# and parallel ranges fetch the rest. As large as the largest automatic chunk.
FIRST_PART = 8 * MIB


class Download:
    """One download of the bytes [start, start + length) of one version of an object."""

    def __init__(
        self,
        service: Service,
        location: Location,
        settings: DownloadSettings,
        *,
        start: int = 0,
        length: int | None = None,
        version_id: str | None = None,
        version: Version | None = None,
        destination: memoryview | None = None,
        verify: bool = True,
        progress: Progress | None = None,
        scope: CancelScope | None = None,
        before: Failed | None = None,
    ) -> None:
        self._service = service
        self._location = location
        self._uri = format_uri(*location)
        self._settings = settings
        self._start = start
        self._length = length
        self._version_id = version_id
        # The version that all bytes must be of, where an earlier download has shown it.
        self._pinned = version
        self._lent = destination
        self._before = before
        self._outer = scope or operation_scope()
        self._verifies = verify and start == 0 and length is None
        self._in_one = False
        self._lock = threading.Lock()
        self._crew_changed = Changed(self._lock)
        self._crew = workers.Crew(self._lock, self._crew_changed)
        self._reports = Reports(self._lock, progress)
        self._begin()

    def _begin(self) -> None:
        """Resets everything that a response sets."""
        self._scope = CancelScope()
        self._destination = self._lent
        self._buffer: Any = None
        self._version: Version | None = self._pinned
        self._guard = None if self._version is None or self._version.tag is None else self._version.tag.if_match
        self._promise: Promise | None = None
        self._collected: Collected | None = None
        self._expected: Checksum | None = None
        self._wanted: int | None = None
        self._first_length = 0
        self._ranging = False
        self._pending: list[Range] = []
        # Tasks for which no thread could be started.
        self._own_tasks: list[Callable[[], None]] = []
        self._crcs: dict[int, tuple[int, int]] = {}
        # Bytes of the first response that are in its CRC already, and that CRC.
        self._ahead = (0, 0)
        self._done = self._ranges_done = 0
        self._error: BaseException | None = None

    def run(self) -> int:
        """Fetches everything and returns the number of bytes; the destination holds them."""
        while True:
            try:
                self._outer.enter(self._scope)
                try:
                    return self._run()
                finally:
                    self._outer.leave(self._scope)
            except S3Error as error:
                # However a store handles ranges, it can send the whole object in one response.
                if error.code != RangeIgnored.code or self._in_one or not self._is_whole:
                    raise
                self._service.ignores_ranges = self._in_one = True
                workers.log.info("%s: the store ignores ranges; the object is read in one response", self._uri)
            except _InOneResponse:
                self._in_one = True
            self._begin()

    @property
    def _is_whole(self) -> bool:
        return self._start == 0 and self._length is None

    def _run(self) -> int:
        try:
            try:
                self._first()
                self._do_own_tasks()
                self._crew.join()
                self._reports.join(self._fail)
            except BaseException:
                # However many interrupts arrive, nothing writes to the destination after this.
                unbroken(self._scope.end)
                raise
        except Cancelled:  # by a range that failed during the first response, or by the caller's scope
            self._stop()
        except BaseException:
            self._stop()
            self._error = None
            raise
        if self._error is not None:
            raise self._take_error()
        self._check()
        return self._wanted or 0

    def _do_own_tasks(self) -> None:
        tasks, self._own_tasks = self._own_tasks, []  # they refer to this object: a reference cycle
        for task in tasks:
            task()

    def _take_error(self) -> BaseException:
        """Removes and returns the error: keeping it here would make a reference cycle with its frames."""
        error, self._error = self._error, None
        assert error is not None
        return error

    @property
    def version(self) -> Version | None:
        """The version that was fetched; None until its first response, and for an empty object."""
        return self._version

    def view(self) -> BytesView:
        """What was fetched, as a view of pooled memory."""
        if self._buffer is None:
            return BytesView(b"")
        self._buffer.set_readonly()
        return BytesView(self._buffer, 0, self._wanted)

    # ---------------------------------------------------------------------------------------- the first response

    def _first(self) -> None:
        before, self._before = self._before, None
        try:
            response = object_operations.get_object(
                self._service,
                self._location,
                asked=self._asked_first(),
                if_match=self._guard if self._pinned is not None else None,
                version_id=self._version_id,
                on_head=self._on_head,
                on_bytes=self._on_bytes if self._verifies else None,
                cancel=self._scope,
                before=before,
            )
        except PreconditionFailedError as error:
            raise self._changed_error("If-Match failed") from error
        except InvalidRangeError as error:
            if self._pinned is not None:
                raise self._changed_error("it became shorter") from error
            if self._start == 0 and self._is_empty(error):
                self._wanted = 0
                return
            raise
        if self._wanted is None:
            self._take_collected(response)
        else:
            self._range_done(Range(0, response.received), self._part_of_destination(0, response.received))

    def _asked_first(self) -> Asked:
        """A whole object is requested without a range: only such a response also reports the object's checksum."""
        if self._is_whole:
            return WHOLE
        length = self._length
        if self._settings.range_optimization and not self._in_one:
            first = self._settings.chunk_size or FIRST_PART
            length = first if length is None else min(length, first)
        guarded = self._pinned is not None and self._guard is not None
        return Asked(self._start, length, True, self._length, self._pinned, guarded)

    def _on_head(self, promise: Promise) -> Destination:
        """Takes size and version from the head of the first response, allocates memory, and starts the other ranges."""
        self._ahead = (0, 0)
        if self._ranging:  # an earlier attempt has started them
            assert self._version is not None
            how = difference(self._version, promise.version)
            if how is not None:
                raise self._changed_error(how)
            return self._first_destination(promise)
        self._promise, self._version = promise, promise.version
        self._guard = None if self._version.tag is None else self._version.tag.if_match
        self._expected = promise.checksum if self._verifies else None
        self._wanted = self._wanted_bytes(promise)
        if self._wanted is None:
            if self._lent is not None:
                return Bounded(self._lent, self._too_long)
            self._collected = Collected()
            return self._collected
        self._first_length = self._first_part(promise, self._wanted)
        self._allocate(self._wanted)
        if self._wanted > self._first_length:
            self._start_ranges(self._first_length, self._wanted)
        return self._first_destination(promise)

    def _wanted_bytes(self, promise: Promise) -> int | None:
        """Bytes of the download; None if the response does not report how many."""
        if promise.length is None or promise.total is None:
            if promise.length is not None and promise.length != self._length:
                raise self._unexpected("a part of the object without saying where it ends")
            return promise.length
        end = promise.total if self._length is None else min(self._start + self._length, promise.total)
        return end - self._start

    def _first_part(self, promise: Promise, wanted: int) -> int:
        """Bytes taken from the first response; ranges fetch the rest."""
        assert promise.length is not None
        first = promise.length
        parallel = self._settings.range_optimization and not self._in_one and not self._service.ignores_ranges
        if self._is_whole and parallel and wanted >= self._settings.range_threshold and promise.identified:
            first = min(first, self._settings.chunk_size or FIRST_PART)
        if first < wanted and not promise.identified:
            if self._in_one:
                raise self._unexpected("a part of the object without saying of which version")
            raise _InOneResponse
        return first

    def _first_destination(self, promise: Promise) -> Destination:
        first = self._first_length
        view = self._part_of_destination(0, first) or memoryview(bytearray())
        if promise.length is not None and promise.length < first:
            raise self._unexpected("less of the object than at the first attempt")
        return Bounded(view) if promise.length == first else FirstBytes(view)

    def _on_bytes(self, count: int) -> None:
        """Adds newly arrived bytes of the first response to its CRC, while they are cached and the rest is arriving."""
        length, crc = self._ahead
        if self._expected is not None and not self._expected.algorithm.composite:
            self._ahead = count, self._expected.algorithm.update(self._part_of_destination(length, count - length), crc)

    def _allocate(self, wanted: int) -> None:
        if self._lent is not None:
            if len(self._lent) < wanted:
                raise self._too_long(wanted)
        elif wanted and (self._buffer is None or self._buffer.size != wanted):
            self._destination = None
            self._buffer = pool().acquire(wanted)
            self._destination = memoryview(self._buffer)

    def _too_long(self, wanted: int) -> Exception:
        return ValueError(
            f"buffer holds {len(self._lent or b'')} bytes, {self._uri} needs {wanted}; give a larger buffer or a length"
        )

    def _part_of_destination(self, offset: int, length: int) -> memoryview | None:
        if self._destination is None:
            return None
        return self._destination[offset : offset + length]

    def _is_empty(self, error: InvalidRangeError) -> bool:
        """Whether a range from byte 0 was refused because the object is empty."""
        size = error.object_size
        if size is None:
            _, size = object_operations.head_with_size(
                self._service, self._location, version_id=self._version_id, cancel=self._scope
            )
        return size == 0

    # --------------------------------------------------------------------------- a response without a length

    def _take_collected(self, response: Response) -> None:
        """Takes over the bytes of a response that reported no length; only its end has shown how many they are."""
        assert self._promise is not None
        received = response.received
        size = received if self._promise.delimited else self._whole_size(received)
        if self._lent is not None:
            self._allocate(size)
        elif self._collected is not None:
            self._buffer = self._collected.buffer(size)
            self._destination = None if self._buffer is None else memoryview(self._buffer)
        self._wanted = size
        self._range_done(Range(0, received), self._part_of_destination(0, received))
        if size > received:
            self._start_ranges(received, size)

    def _whole_size(self, received: int) -> int:
        """The object's size, after a response that ended with its connection, which may have truncated it."""
        promise = self._promise
        assert promise is not None
        headers, size = object_operations.head_with_size(
            self._service, self._location, version_id=self._version_id, cancel=self._scope
        )
        how = difference(promise.version, version_in(headers, size)) if promise.identified else None
        if how is not None:
            raise self._changed_error(how)
        if self._verifies and self._expected is None:
            self._expected = full_object_checksum(headers)
        if size is None and self._expected is None:
            raise self._unexpected("a body that ended with its connection, and nothing reports its length")
        if size is None:
            return received  # the checksum shows whether that is all
        if size < received:
            raise self._changed_error(f"{received} bytes arrived, and it has {size}")
        if size > received and not promise.identified:
            raise TransportError(f"GetObject of {self._uri}: the connection ended after {received} of {size} bytes")
        self._version = promise.version._replace(total=size)
        return size

    # -------------------------------------------------------------------------------------- further ranges

    def _start_ranges(self, offset: int, wanted: int) -> None:
        settings = self._settings
        if wanted >= settings.range_threshold:
            chunk = settings.chunk_size or auto_chunk(wanted)
            workers = settings.range_concurrency or auto_concurrency(wanted)
        else:
            chunk, workers = wanted, 1
        if self._verifies:
            checksums.load()
        self._ranging = True
        self._pending = list(reversed(self._plan(offset, wanted, chunk)))
        tasks: list[Callable[[], None]] = [self._fetch_ranges] * min(workers, len(self._pending))
        self._own_tasks = [task for task in tasks if not self._crew.start(task)]

    def _plan(self, offset: int, wanted: int, chunk: int) -> list[Range]:
        """The ranges of [offset, wanted) that are still to be fetched."""
        return plan_ranges(wanted, chunk=chunk, start=offset)

    def _fetch_ranges(self) -> None:
        """A worker's task: fetches one range after the other until none is left or the download has failed."""
        try:
            while True:
                with self._lock:
                    if self._error is not None or not self._pending:
                        return
                    wanted = self._pending.pop()
                self._fetch(wanted)
        except BaseException as error:
            self._fail(error)

    def _fetch(self, wanted: Range) -> None:
        view = self._part_of_destination(wanted.offset, wanted.length)
        self._range_done(self._receive(wanted, view), view)

    def _receive(self, wanted: Range, view: memoryview | None) -> Range:
        """Receives a range into `view`; what the store did not send of it is left to be fetched."""
        offset, length = self._start + wanted.offset, wanted.length
        try:
            response = object_operations.get_object(
                self._service,
                self._location,
                asked=Asked(offset, length, True, length, self._version, self._guard is not None),
                if_match=self._guard,
                version_id=self._version_id,
                into=view,
                cancel=self._scope,
            )
        except PreconditionFailedError as error:
            raise self._changed_error("If-Match failed") from error
        except InvalidRangeError as error:
            raise self._changed_error("it became shorter") from error
        if response.received < length:  # a store may send less than requested (RFC 9110, section 15.3.7)
            with self._lock:
                self._pending.append(Range(wanted.offset + response.received, length - response.received))
        return Range(wanted.offset, response.received)

    def _range_done(self, done: Range, view: memoryview | None) -> None:
        """Counts a range whose bytes are at the beginning of `view`."""
        expected = self._expected
        crc = None
        if expected is not None and done.length and not expected.algorithm.composite:
            assert view is not None
            ahead, crc = (0, 0) if done.offset else self._ahead
            crc = expected.algorithm.update(view[ahead : done.length], crc)  # while the bytes are in the cache
        with self._lock:
            if crc is not None:
                self._crcs[done.offset] = (crc, done.length)
            self._done += done.length
            self._ranges_done += 1
            event = ProgressEvent("download", self._uri, self._done, self._wanted, self._ranges_done)
            if self._error is None:
                self._reports.add(event)
        self._reports.deliver(self._fail)

    def _fail(self, error: BaseException) -> bool:
        with self._lock:
            if self._error is None or isinstance(self._error, Cancelled):
                self._error = error
            self._reports.drop()
        self._scope.cancel()
        return True

    def _stop(self) -> None:
        """Ends all workers and waits until none writes into the destination any more."""
        self._scope.cancel()
        with self._lock:
            self._pending.clear()
            self._own_tasks.clear()
            self._reports.drop()
            if self._error is None:
                self._error = Cancelled("the download was cancelled")
        self._crew.call_off()

    # ------------------------------------------------------------------------------------------- the check

    def _check(self) -> None:
        """Checks that all bytes arrived, and that they have the checksum that the store reports for the object."""
        wanted, expected = self._wanted or 0, self._expected
        if self._done != wanted:
            raise AssertionError(f"{self._done} bytes of {wanted} arrived")
        if expected is None:
            return
        algorithm, crc, position = expected.algorithm, 0, 0
        if algorithm.composite:
            crc = algorithm.of(self._everything(wanted))
        else:
            for offset, (part, length) in sorted(self._crcs.items()):
                assert offset == position
                crc = algorithm.combine(crc, part, length) if position else part
                position += length
        check_whole(self._location, expected, crc)

    def _everything(self, wanted: int) -> Iterable[memoryview]:
        """All bytes, in order."""
        whole = self._part_of_destination(0, wanted)
        return [] if whole is None else [whole]

    # -------------------------------------------------------------------------------------------- errors

    def _changed_error(self, how: str) -> ObjectChangedError:
        return ObjectChangedError(f"{self._uri} was replaced while it was being read ({how}); read it again")

    def _unexpected(self, what: str) -> S3Error:
        return S3Error("GetObject", *self._location, None, UnfitResponse.code, f"the store sent {what}")


class _InOneResponse(Exception):
    """The response does not identify a version, so bytes of two responses must not be combined."""


def check_whole(location: Location, expected: Checksum, crc: int) -> None:
    """Raises ChecksumMismatchError unless the CRC of an object's bytes is the one that the store reports."""
    algorithm = expected.algorithm
    if crc != algorithm.decode(expected.value):
        raise ChecksumMismatchError(
            f"{format_uri(*location)}: the bytes that arrived have {algorithm.s3_name} {algorithm.encode(crc)}, "
            f"the store reports {expected.value}"
        )
