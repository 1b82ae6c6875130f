"""One download: one request, or parallel ranges straight into their place, all of one version of the object.

What the store reports as the object's checksum is compared before anything is handed out. Memory comes from
the pool, or is the caller's own. Called by `reader`; it must never return while a worker may write.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from . import _checksums, _operations, _workers
from ._bytes_view import BytesView
from ._client import Service
from ._failures import Failed
from ._http import ResponseHead
from ._operations import Checksum
from ._payload import pool
from ._ranges import Range, auto_chunk, auto_concurrency, parse_content_range, plan_ranges
from ._reports import Reports
from ._requests import Cancelled, CancelScope, Response
from ._uri import Location, format_uri
from ._waiting import Changed
from .config import MIB, DownloadSettings
from .errors import (
    ChecksumMismatchError,
    InvalidRangeError,
    ObjectChangedError,
    PreconditionFailedError,
    S3Error,
)
from .progress import Progress, ProgressEvent

# The first range tells size and version; as large as the largest automatic chunk, it is most small objects whole.
PROBE = 8 * MIB


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
        self._destination = destination
        self._buffer: Any = None
        self._before = before
        self._scope = scope or CancelScope()
        self._verify = verify and start == 0 and length is None
        if self._verify:
            _checksums.load()
        self._etag: str | None = None
        self._wanted: int | None = None
        self._total: int | None = None
        self._expected: Checksum | None = None
        self._lock = threading.Lock()
        self._pending: list[Range] = []
        self._crew = _workers.Crew(self._lock, Changed(self._lock))
        self._reports = Reports(self._lock, progress)
        # Tasks that no thread could be had for.
        self._own_tasks: list[Callable[[], None]] = []
        self._crcs: dict[int, tuple[int, int]] = {}
        self._ahead = (0, 0)
        self._done = self._ranges_done = 0
        self._error: BaseException | None = None

    def run(self) -> int:
        """Fetches everything and returns the number of bytes; the destination holds them."""
        try:
            first = self._first()
            self._do_own_tasks()
            self._crew.join()
            self._reports.join(self._fail)
        except Cancelled:  # by a range that failed while the first was on its way, or from outside
            self._stop()
        except BaseException:
            self._stop()
            self._error = None
            raise
        if self._error is not None:
            raise self._taken_error()
        if self._verify:
            self._check(first)
        return self._wanted or 0

    def _do_own_tasks(self) -> None:
        tasks, self._own_tasks = self._own_tasks, []  # which name this
        for task in tasks:
            task()

    def _taken_error(self) -> BaseException:
        """The error, which nothing here may hold once it is raised: its frames hold this."""
        error, self._error = self._error, None
        assert error is not None
        return error

    def view(self) -> BytesView:
        """What was fetched, as a view of pooled memory."""
        if self._buffer is None:
            return BytesView(b"")
        self._buffer.set_readonly()
        return BytesView(self._buffer)

    # ------------------------------------------------------------------------------------ the first answer

    def _first(self) -> Range:
        asked = self._first_range()
        try:
            response = _operations.get_object(
                self._service,
                self._location,
                byte_range=asked,
                version_id=self._version_id,
                on_head=self._on_head,
                on_bytes=self._on_bytes if self._verify else None,
                cancel=self._scope,
                before=self._before,
            )
        except InvalidRangeError:
            if self._start == 0 and self._is_empty():
                self._wanted, self._verify = 0, False
                return Range(0, 0)
            raise
        if self._wanted is None or response.body:  # no length was announced: the bytes were collected aside
            return self._take_collected(response)
        length = min(response.received, self._wanted)
        if self._first_length is not None and response.received != self._first_length:
            raise self._changed_error(f"{response.received} bytes came, {self._first_length} were announced")
        self._range_done(Range(0, length))
        return Range(0, length)

    _first_length: int | None = None

    def _first_range(self) -> tuple[int, int | None] | None:
        if self._settings.range_optimization:
            probe = self._settings.chunk_size or PROBE
            return self._start, probe if self._length is None else min(self._length, probe)
        return None if self._start == 0 and self._length is None else (self._start, self._length)

    def _on_head(self, head: ResponseHead) -> memoryview | None:
        """Learns size and version from the head of the first answer, makes room, and starts the other ranges."""
        self._ahead = (0, 0)
        etag = _operations.bare_etag(head.headers.get("etag"))
        if self._etag is not None and etag != self._etag:
            raise self._changed_error(f"its ETag was {self._etag} and is {etag}")
        self._etag = etag
        if self._expected is None and self._verify:
            self._expected = _operations.full_object_checksum(head.headers)
        text = head.headers.get("content-length")
        if text is None:
            return None
        self._first_length = int(text)
        self._plan(head, self._first_length)
        return self._place(0, self._first_length)

    def _on_bytes(self, count: int) -> None:
        """Computes the checksum of what came of the first answer: while it is warm, and while the rest comes."""
        length, crc = self._ahead
        if self._expected is not None and not self._expected.algorithm.composite:
            self._ahead = count, self._expected.algorithm.update(self._place(length, count - length), crc)

    def _plan(self, head: ResponseHead, first_length: int) -> None:
        wanted = first_length
        if head.status == 206:
            first, last, total = self._content_range(head.headers)
            if first != self._start or last - first + 1 != first_length or total is None:
                raise self._out_of_step(f"Content-Range {head.headers.get('content-range')!r}")
            self._total = total
            end = total if self._length is None else min(self._start + self._length, total)
            wanted = end - self._start
        elif self._start or (self._length is not None and first_length > self._length):
            raise self._out_of_step("the whole object instead of a range")
        if self._wanted is not None:  # an attempt before this one has planned
            return
        self._make_room(wanted)
        self._wanted = wanted
        if wanted > first_length and self._etag and not (self._etag.isascii() and self._etag.isprintable()):
            raise self._out_of_step(f"the ETag {self._etag!r}, which no If-Match can name")
        # The answer to a range tells no checksum of the object, even where the range is all of it.
        if wanted > first_length or (wanted and head.status == 206 and self._verify and self._expected is None):
            self._start_ranges(first_length, wanted)

    def _make_room(self, wanted: int) -> None:
        if self._destination is not None:
            if len(self._destination) < wanted:
                raise ValueError(
                    f"buffer holds {len(self._destination)} bytes, {self._uri} needs {wanted}; "
                    "give a larger buffer or a length"
                )
        elif wanted:
            self._buffer = pool().acquire(wanted)
            self._destination = memoryview(self._buffer)

    def _place(self, offset: int, length: int) -> memoryview | None:
        if self._destination is None:
            return None
        return self._destination[offset : offset + length]

    def _take_collected(self, response: Response) -> Range:
        """An answer without a length (a proxy's chunked one): its bytes are copied to their place."""
        body = response.body
        self._wanted = None
        self._make_room(len(body))
        self._wanted = len(body)
        if body:
            assert self._destination is not None
            self._destination[: len(body)] = body
        return Range(0, len(body))

    def _is_empty(self) -> bool:
        headers = _operations.head_object(
            self._service, self._location, version_id=self._version_id, cancel=self._scope
        )
        return headers.get("content-length") == "0"

    # -------------------------------------------------------------------------------------- further ranges

    def _start_ranges(self, offset: int, wanted: int) -> None:
        settings = self._settings
        if wanted >= settings.range_threshold:
            chunk = settings.chunk_size or auto_chunk(wanted)
            workers = settings.range_concurrency or auto_concurrency(wanted)
        else:
            chunk, workers = wanted, 1
        self._pending = list(reversed(plan_ranges(wanted, chunk=chunk, start=offset)))
        tasks: list[Callable[[], None]] = [self._fetch_ranges] * min(workers, len(self._pending))
        if self._verify and self._expected is None:
            tasks.append(self._fetch_checksum)
        self._own_tasks = [task for task in tasks if not self._crew.start(task)]

    def _fetch_ranges(self) -> None:
        """A worker's task: ranges, one after the other, until none is left or the download has failed."""
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
        offset = self._start + wanted.offset
        try:
            response = _operations.get_object(
                self._service,
                self._location,
                byte_range=(offset, wanted.length),
                if_match=self._etag,
                version_id=self._version_id,
                into=self._place(wanted.offset, wanted.length),
                cancel=self._scope,
            )
        except PreconditionFailedError as error:
            raise self._changed_error("If-Match failed") from error
        except InvalidRangeError as error:
            raise self._changed_error("it became shorter") from error
        if response.status != 206:
            raise self._out_of_step("the whole object instead of a range")
        first, last, total = self._content_range(response.headers)
        if total is not None and total != self._total:
            raise self._changed_error(f"it had {self._total} bytes and has {total}")
        if (first, last) != (offset, offset + wanted.length - 1) or response.received != wanted.length:
            raise self._out_of_step(f"Content-Range {response.headers.get('content-range')!r}")
        if _operations.bare_etag(response.headers.get("etag")) != self._etag:
            raise self._changed_error("its ETag changed")
        self._range_done(wanted)

    def _fetch_checksum(self) -> None:
        """A worker's task beside the ranges: the whole object's checksum.

        A successor's says nothing of the bytes being read, and theirs cannot be asked for any more.
        """
        try:
            headers = _operations.head_object(
                self._service, self._location, version_id=self._version_id, cancel=self._scope
            )
            if _operations.bare_etag(headers.get("etag")) != self._etag:
                raise self._changed_error("before its checksum was known")
            self._expected = _operations.full_object_checksum(headers)
        except BaseException as error:
            self._fail(error)

    def _range_done(self, done: Range) -> None:
        expected = self._expected
        crc = None
        if expected is not None and done.length and not expected.algorithm.composite:
            ahead, crc = (0, 0) if done.offset else self._ahead
            rest = self._place(done.offset + ahead, done.length - ahead)
            crc = expected.algorithm.update(rest, crc)  # while the bytes are warm
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

    def _check(self, first: Range) -> None:
        """Compares the bytes with the checksum the store reports for the whole object."""
        expected, wanted = self._expected, self._wanted
        if expected is None or wanted is None:
            return
        algorithm, crc, position = expected.algorithm, 0, 0
        spans = sorted([(first.offset, first.length), *((r, n) for r, (_, n) in self._crcs.items() if r)])
        if sum(length for _, length in spans) != wanted:  # some ranges came before the checksum was known
            spans = [(0, wanted)] if len(self._crcs) == 0 else self._all_spans(wanted)
        for offset, length in spans:
            known = self._crcs.get(offset)
            part = known[0] if known and known[1] == length else self._crc(algorithm, offset, length)
            crc = part if position == 0 else algorithm.combine(crc, part, length)
            position += length
        check_whole(self._location, expected, crc)

    def _all_spans(self, wanted: int) -> list[tuple[int, int]]:
        """Spans that cover everything: the ranges with a known checksum, and the gaps between them."""
        spans, position = [], 0
        for offset, (_, length) in sorted(self._crcs.items()):
            if offset > position:
                spans.append((position, offset - position))
            spans.append((offset, length))
            position = offset + length
        if position < wanted:
            spans.append((position, wanted - position))
        return spans

    def _crc(self, algorithm: Any, offset: int, length: int) -> int:
        place = self._place(offset, length)
        crc: int = algorithm.of([] if place is None else [place])
        return crc

    # -------------------------------------------------------------------------------------------- errors

    def _content_range(self, headers: Mapping[str, str]) -> tuple[int, int, int | None]:
        text = headers.get("content-range", "")
        try:
            return parse_content_range(text)
        except ValueError:
            raise self._out_of_step(f"Content-Range {text!r}") from None

    def _changed_error(self, how: str) -> ObjectChangedError:
        return ObjectChangedError(f"{self._uri} was replaced while it was being read ({how}); read it again")

    def _out_of_step(self, what: str) -> S3Error:
        return S3Error("GetObject", *self._location, None, "UnexpectedRange", f"the store answered {what}")


def check_whole(location: Location, expected: Checksum, crc: int) -> None:
    """Raises ChecksumMismatchError unless the CRC of an object's bytes is the one that the store reports."""
    algorithm = expected.algorithm
    if algorithm.encode(crc) != expected.value:
        raise ChecksumMismatchError(
            f"{format_uri(*location)}: the bytes that arrived have {algorithm.s3_name} {algorithm.encode(crc)}, "
            f"the store reports {expected.value}"
        )
