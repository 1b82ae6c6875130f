"""`get`, `get_range`, `get_into` and `get_many`: one request, or parallel ranges straight into their place.

All ranges of one download are of one version, and what the store reports as the object's checksum is
compared before anything is returned. Memory comes from the pool, or is the caller's own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from . import _operations, _workers
from ._bytes_view import BytesView
from ._client import Cancelled, CancelScope, ClientLike, Response, Service, service_of
from ._http import ResponseHead
from ._operations import Checksum
from ._payload import flat_view, pool
from ._ranges import Range, auto_chunk, auto_concurrency, parse_content_range, plan_ranges
from ._uri import Location, format_uri, parse_uri
from .config import MAX_OBJECT_SIZE, MIB, DownloadSettings, check_integer
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


class _Download:
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
        self._progress = progress
        self._scope = scope or CancelScope()
        self._verify = verify and start == 0 and length is None
        self._etag: str | None = None
        self._wanted: int | None = None
        self._expected: Checksum | None = None
        self._changed = threading.Condition()
        self._pending: list[Range] = []
        self._working = 0
        self._crcs: dict[int, tuple[int, int]] = {}
        self._done = self._ranges_done = 0
        self._error: BaseException | None = None

    def run(self) -> int:
        """Fetches everything and returns the number of bytes; the destination holds them."""
        try:
            first = self._first()
            self._join()
        except BaseException:
            self._stop()
            raise
        if self._error is not None:
            raise self._error
        if self._verify:
            self._check(first)
        return self._wanted or 0

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
                cancel=self._scope,
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

    def _plan(self, head: ResponseHead, first_length: int) -> None:
        wanted = first_length
        if head.status == 206:
            first, last, total = self._content_range(head.headers)
            if first != self._start or last - first + 1 != first_length or total is None:
                raise self._out_of_step(f"Content-Range {head.headers.get('content-range')!r}")
            end = total if self._length is None else min(self._start + self._length, total)
            wanted = end - self._start
        elif self._start or (self._length is not None and first_length > self._length):
            raise self._out_of_step("the whole object instead of a range")
        if self._wanted is not None:  # an attempt before this one has planned
            return
        self._make_room(wanted)
        self._wanted = wanted
        if wanted > first_length:
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
        self._working = len(tasks)
        for task in tasks:
            _workers.start(task)

    def _fetch_ranges(self) -> None:
        """A worker's task: ranges, one after the other, until none is left or the download has failed."""
        try:
            while True:
                with self._changed:
                    if self._error is not None or not self._pending:
                        return
                    wanted = self._pending.pop()
                self._fetch(wanted)
        except BaseException as error:
            self._fail(error)
        finally:
            self._leave()

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
        first, last, _ = self._content_range(response.headers)
        if (first, last) != (offset, offset + wanted.length - 1) or response.received != wanted.length:
            raise self._out_of_step(f"Content-Range {response.headers.get('content-range')!r}")
        if _operations.bare_etag(response.headers.get("etag")) != self._etag:
            raise self._changed_error("its ETag changed")
        self._range_done(wanted)

    def _fetch_checksum(self) -> None:
        """A worker's task beside the ranges: the whole object's checksum, if it is of the version being read."""
        try:
            headers = _operations.head_object(
                self._service, self._location, version_id=self._version_id, cancel=self._scope
            )
            if _operations.bare_etag(headers.get("etag")) == self._etag:
                self._expected = _operations.full_object_checksum(headers)
        except BaseException as error:
            self._fail(error)
        finally:
            self._leave()

    def _range_done(self, done: Range) -> None:
        expected = self._expected
        crc = None
        if expected is not None and done.length:
            crc = expected.algorithm.update(self._place(*done), 0)  # while the bytes are warm
        with self._changed:
            if crc is not None:
                self._crcs[done.offset] = (crc, done.length)
            self._done += done.length
            self._ranges_done += 1
            event = ProgressEvent("download", self._uri, self._done, self._wanted, self._ranges_done)
            if self._progress is not None:
                try:
                    self._progress(event)
                except Exception:
                    _workers.log.exception("a progress callback failed")

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            if self._error is None or isinstance(self._error, Cancelled):
                self._error = error
        self._scope.cancel()

    def _leave(self) -> None:
        with self._changed:
            self._working -= 1
            self._changed.notify_all()

    def _join(self) -> None:
        with self._changed:
            while self._working:
                self._changed.wait(0.1)

    def _stop(self) -> None:
        """Ends all workers and waits until none writes into the destination any more."""
        self._scope.cancel()
        with self._changed:
            self._pending.clear()
            if self._error is None:
                self._error = Cancelled("the download was cancelled")
            while self._working:
                self._changed.wait(0.1)

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
        if algorithm.encode(crc) != expected.value:
            raise ChecksumMismatchError(
                f"{self._uri}: the bytes that arrived have {algorithm.s3_name} {algorithm.encode(crc)}, "
                f"the store reports {expected.value}"
            )

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
        crc: int = 0 if place is None else algorithm.update(place, 0)
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


def get(
    uri: str,
    *,
    version_id: str | None = None,
    progress: Progress | None = None,
    verify: bool = True,
    range_optimization: bool | None = None,
    range_threshold: int | None = None,
    range_concurrency: int | None = None,
    chunk_size: int | None = None,
    client: ClientLike | None = None,
) -> BytesView:
    """The whole object as a `BytesView` of pooled memory.

    Args:
        uri: ``s3://bucket/key``.
        version_id: a version other than the current one.
        progress: called with a `ProgressEvent` after each finished range.
        verify: compare with the full-object checksum where the store reports one.
        range_optimization: parallel ranges for large objects; None follows ``S3DLIO_ENABLE_RANGE_OPTIMIZATION``.
        range_threshold: bytes from which ranges are used; None follows ``S3DLIO_RANGE_THRESHOLD_MB``.
        range_concurrency: ranges in flight; None follows ``S3DLIO_RANGE_CONCURRENCY``.
        chunk_size: bytes of one range; None follows ``S3DLIO_CHUNK_SIZE``.
        client: a `Client`; None for the default one.

    Raises:
        NotFoundError, S3Error, TransportError: the object could not be read.
        ObjectChangedError: it was replaced meanwhile.
        ChecksumMismatchError: its bytes are not what the store says they are.
    """
    settings = DownloadSettings.resolve(range_optimization, range_threshold, range_concurrency, chunk_size)
    download = _Download(
        service_of(client), parse_uri(uri), settings, version_id=version_id, progress=progress, verify=verify
    )
    download.run()
    return download.view()


def get_range(
    uri: str,
    offset: int,
    length: int | None = None,
    *,
    version_id: str | None = None,
    range_optimization: bool | None = None,
    range_threshold: int | None = None,
    range_concurrency: int | None = None,
    chunk_size: int | None = None,
    client: ClientLike | None = None,
) -> BytesView:
    """The bytes [offset, offset + length) of the object; fewer where it ends before, None for "to its end".

    Raises:
        InvalidRangeError: `offset` is at or past the end (offset 0 of an empty object gives an empty view).
        ConfigurationError: `offset` or `length` is negative or not a whole number.
    """
    location = parse_uri(uri)
    start = check_integer("offset", offset, 0, MAX_OBJECT_SIZE, "bytes")
    count = None if length is None else check_integer("length", length, 0, MAX_OBJECT_SIZE, "bytes")
    settings = DownloadSettings.resolve(range_optimization, range_threshold, range_concurrency, chunk_size)
    if count == 0:
        return BytesView(b"")
    download = _Download(
        service_of(client), location, settings, start=start, length=count, version_id=version_id, verify=False
    )
    download.run()
    return download.view()


def get_into(
    uri: str,
    buffer: Any,
    *,
    offset: int = 0,
    length: int | None = None,
    version_id: str | None = None,
    progress: Progress | None = None,
    verify: bool = True,
    range_optimization: bool | None = None,
    range_threshold: int | None = None,
    range_concurrency: int | None = None,
    chunk_size: int | None = None,
    client: ClientLike | None = None,
) -> int:
    """Fetches the object's bytes [offset, offset + length) into ``buffer[0:]`` and returns their number.

    `buffer` is any writable C-contiguous memory. After an error its contents are undefined.

    Raises:
        ValueError: the buffer is read-only, not contiguous, or shorter than what was asked for.
        InvalidRangeError: `offset` is at or past the end.
    """
    location = parse_uri(uri)
    start = check_integer("offset", offset, 0, MAX_OBJECT_SIZE, "bytes")
    count = None if length is None else check_integer("length", length, 0, MAX_OBJECT_SIZE, "bytes")
    destination = flat_view(buffer, "buffer", writable=True)
    if count is not None and count > len(destination):
        raise ValueError(f"buffer holds {len(destination)} bytes, length={count} asks for more; give a larger buffer")
    settings = DownloadSettings.resolve(range_optimization, range_threshold, range_concurrency, chunk_size)
    if count == 0:
        return 0
    download = _Download(
        service_of(client), location, settings, start=start, length=count, version_id=version_id,
        destination=destination, verify=verify, progress=progress,
    )  # fmt: skip
    return download.run()


def get_many(
    uris: Sequence[str],
    *,
    max_in_flight: int = 64,
    on_error: Literal["raise", "return"] = "raise",
    verify: bool = True,
    range_optimization: bool | None = None,
    range_threshold: int | None = None,
    range_concurrency: int | None = None,
    chunk_size: int | None = None,
    client: ClientLike | None = None,
) -> list[tuple[str, Any]]:
    """Many objects: ``[(uri, BytesView)]`` in the order given, duplicates included.

    Args:
        uris: ``s3://bucket/key`` each; all are checked before any request.
        max_in_flight: objects being fetched at once (1 to 1024).
        on_error: ``"raise"`` ends everything at the first error; ``"return"`` puts the exception in the view's place.
    """
    if isinstance(uris, str):
        raise TypeError("uris is a str; give a sequence of URIs, for example [uri]")
    if on_error not in ("raise", "return"):
        raise ValueError(f"on_error={on_error!r}: expected 'raise' or 'return'")
    limit = check_integer("max_in_flight", max_in_flight, 1, 1024, "objects")
    settings = DownloadSettings.resolve(range_optimization, range_threshold, range_concurrency, chunk_size)
    names = list(uris)
    batch = _Batch(service_of(client), [parse_uri(uri) for uri in names], settings, on_error == "return", verify)
    return list(zip(names, batch.run(limit), strict=True))


class _Batch:
    """The objects of one `get_many`, fetched by as many workers as may be in flight."""

    def __init__(
        self,
        service: Service,
        locations: list[Location],
        settings: DownloadSettings,
        keep: bool,
        verify: bool,
    ) -> None:
        self._service = service
        self._locations = locations
        self._settings = settings
        self._keep_errors = keep
        self._verify = verify
        self._results: list[Any] = [None] * len(locations)
        self._next = 0
        self._working = 0
        self._error: BaseException | None = None
        self._scope = CancelScope()
        self._changed = threading.Condition()

    def run(self, limit: int) -> list[Any]:
        workers = min(limit, len(self._locations))
        self._working = workers
        for _ in range(workers):
            _workers.start(self._work)
        try:
            self._join()
        except BaseException:
            self._stop(Cancelled("the call was interrupted"))
            self._join()
            raise
        if self._error is not None:
            raise self._error
        return self._results

    def _join(self) -> None:
        with self._changed:
            while self._working:
                self._changed.wait(0.1)

    def _stop(self, error: BaseException) -> None:
        with self._changed:
            if self._error is None:
                self._error = error
        self._scope.cancel()

    def _work(self) -> None:
        while True:
            with self._changed:
                index = self._next
                if self._error is not None or index == len(self._locations):
                    self._working -= 1
                    self._changed.notify_all()
                    return
                self._next += 1
            try:
                download = _Download(
                    self._service,
                    self._locations[index],
                    self._settings,
                    verify=self._verify,
                    scope=self._scope_of(),
                )
                download.run()
                self._results[index] = download.view()
            except BaseException as error:
                if self._keep_errors and isinstance(error, Exception):
                    self._results[index] = error
                else:
                    self._stop(error)

    def _scope_of(self) -> CancelScope:
        """A failing object cancels its own ranges; only where errors end the call may that reach the others."""
        return CancelScope() if self._keep_errors else self._scope
