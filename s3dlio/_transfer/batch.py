"""Many objects in one call: a few workers, each of which runs requests in series on one connection.

Small objects return to Python once per series. Large objects and failed ones are transferred alone, with retries.
`reader` and `objects` call it. A batch never returns while a worker may touch the caller's memory.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from .._memory.bytes_view import BytesView
from .._memory.pool import pool
from .._net.addresses import Location, format_uri
from .._net.exchange import unbroken
from .._runtime import workers
from .._runtime.kept_errors import without_traceback
from .._runtime.waiting import Changed
from .._s3 import object_operations
from .._s3.checksums import Algorithm, Checksum, load
from .._s3.failures import Failed
from .._s3.requests import Cancelled, CancelScope, Response, operation_scope
from .._s3.responses import Stored
from .._s3.service import Service
from ..config import KIB, DownloadSettings, MultipartUploadConfig
from ..errors import S3Error
from ..progress import Progress, ProgressEvent
from ..results import UploadInfo
from .download import FIRST_PART, Download, check_whole
from .ramp import Ramp
from .reports import Reports

# Bytes of one series; with more, the connections would not share the work evenly.
SERIES_BYTES = 2048 * KIB
# Bodies of up to SMALL_BODY bytes share a buffer of up to SHARED_BUFFER bytes. Keeping one view keeps all of it.
SMALL_BODY = 64 * KIB
SHARED_BUFFER = 256 * KIB


# The native series puts each body at a multiple of a cache line.
BODY_ALIGNMENT = 64


def aligned(length: int) -> int:
    """The room that a body takes in memory that several share."""
    return -(-length // BODY_ALIGNMENT) * BODY_ALIGNMENT


class Work(Protocol):
    """What a batch does with its objects, each identified by its index in the caller's list."""

    @property
    def count(self) -> int:
        """Number of objects."""

    def batch_size(self, first: int, most: int) -> int:
        """How many objects from `first` on may form a series, at most `most`; 0 if the first must go alone."""

    def run_batch(self, first: int, last: int, scope: CancelScope) -> tuple[list[Any], Failed | None]:
        """Runs [first, last) as a series.

        Returns:
            The results of the first objects, with an exception for a wrong response, and how the next one failed.
        """

    def run_alone(self, index: int, before: Failed | None, scope: CancelScope) -> Any:
        """Runs one object; `before` is how it failed in a series."""

    def size_of(self, index: int, result: Any) -> int:
        """Bytes transferred for an object; 0 where `result` is an exception."""

    def event(self, index: int, bytes_done: int, objects_done: int) -> ProgressEvent:
        """The progress event for a finished object."""


class Batch:
    """The objects of one call.

    Args:
        work: what is done with each.
        limit: objects in flight at once.
        keep_errors: an exception takes the place of an object's result; otherwise the first one ends the call.
        progress: called for each object that is finished.
    """

    def __init__(self, work: Work, limit: int, keep_errors: bool, progress: Progress | None = None) -> None:
        self._work = work
        self._keep_errors = keep_errors
        self._results: list[Any] = [None] * work.count
        self._next = 0
        self._error: BaseException | None = None
        self._stopped = False
        self._scope = operation_scope()
        self._lock = threading.Lock()
        self._changed = Changed(self._lock)
        self._crew = workers.Crew(self._lock, self._changed)
        self._reports = None if progress is None else Reports(self._lock, progress)
        # All of these are guarded by the lock.
        self._bytes_done = self._objects_done = 0
        self._ramp = Ramp(min(limit, work.count))
        self._started = 0
        self._taken: dict[int, tuple[float, int]] = {}  # by the first object of a series: its start, its length

    def run(self) -> list[Any]:
        """Runs everything and returns the results."""
        try:
            while self._needs_workers():
                self._start()
            self._crew.join()
            if self._reports is not None and self._error is None:
                self._reports.join(self._end_by_callback)
        except BaseException:
            try:
                self._stop(Cancelled("the call was interrupted"))
                self._crew.call_off()
            finally:
                # However many interrupts arrive, no driver may still use the caller's memory afterwards.
                unbroken(self._scope.end)
            raise
        if self._error is not None:
            raise self._take_error()
        return self._results

    def _needs_workers(self) -> bool:
        """Waits until more workers are wanted; False once all objects are taken or the call has to end.

        As the store's pace changes, workers leave and are needed again, so this waits until no object is left.
        """
        while True:
            with self._lock:
                may_grow = self._ramp.workers < self._ramp.limit
                check_at = time.monotonic() + self._ramp.check_after if may_grow else None
            if self._changed.wait_for(lambda: self._all_taken or self._started < self._ramp.workers, check_at):
                with self._lock:
                    return not self._all_taken
            with self._lock:
                now = time.monotonic()
                self._ramp.delayed(max(((now - since) / count for since, count in self._taken.values()), default=0.0))

    @property
    def _all_taken(self) -> bool:
        """Whether nothing is left for a worker to start. Call with the lock held."""
        return self._stopped or self._next == self._work.count

    @property
    def _may_take(self) -> int:
        """How many more objects may be started now. Call with the lock held."""
        return self._work.count - self._next

    def _start(self) -> None:
        """Starts as many workers as are wanted; if no thread can be started, the caller's thread does the work."""
        with self._lock:
            missing = self._ramp.workers - self._started
            self._started += missing
        for number in range(missing):
            if not self._crew.start(self._serve):
                with self._lock:
                    self._started -= missing - number
                    self._ramp.no_more_threads(self._started)
                    alone, self._started = self._started == 0, self._ramp.workers
                if alone:
                    self._serve()
                return

    def _take_error(self) -> BaseException:
        error, self._error = self._error, None
        assert error is not None
        return error

    def _stop(self, error: BaseException) -> None:
        with self._lock:
            if not self._stopped:
                self._error, self._stopped = error, True
            if self._reports is not None:
                self._reports.drop()
        self._scope.cancel()

    def _end_by_callback(self, error: BaseException) -> bool:
        self._stop(error)
        return True

    def _take(self) -> tuple[int, int]:
        """The objects [first, last) that a worker runs next; empty if it has to end."""
        with self._lock:
            first, left = self._next, self._may_take
            if self._stopped or left == 0:
                return first, first
            self._next += max(1, self._work.batch_size(first, self._ramp.series_length(left)))
            self._taken[first] = time.monotonic(), self._next - first
            return first, self._next

    def _serve(self) -> None:
        try:
            self._run_series()
        except BaseException as error:  # a bug here ends the call too: no result may be missing without an error
            self._stop(error)

    def _run_series(self) -> None:
        leaves = False
        while not leaves:
            first, last = self._take()
            if first == last:
                return
            started, cpu_started = time.monotonic(), time.thread_time()
            at = first
            while at < last:
                at = self._advance(at, last)
            leaves = self._after_series(first, last, time.monotonic() - started, time.thread_time() - cpu_started)

    def _after_series(self, first: int, last: int, seconds: float, cpu_seconds: float) -> bool:
        """Adjusts the number of workers after a series; returns whether this one leaves."""
        with self._lock:
            del self._taken[first]
            left = self._work.count - self._next
            leaves = self._ramp.record(last - first, seconds, max(0.0, seconds - cpu_seconds), left)
            self._started -= leaves
            if self._started < self._ramp.workers:
                self._changed.notify_all()
            return leaves

    def _advance(self, first: int, last: int) -> int:
        """Runs one series from `first` on, or one object alone; returns the first object that is still to run."""
        done: list[Any] = []
        failed: Failed | None = None
        try:
            with self._own_scope() as scope:
                if self._work.batch_size(first, last - first):
                    done, failed = self._work.run_batch(first, last, scope)
                if failed is not None or not done:
                    done.append(self._work.run_alone(first + len(done), failed, scope))
        except BaseException as error:
            done.append(error)
        return self._record(first, last, done)

    def _record(self, first: int, last: int, done: list[Any]) -> int:
        """Stores the results of the objects from `first` on, and empties `done`: the frames of an error may hold it."""
        for at, result in enumerate(done):
            if isinstance(result, BaseException):
                if not (self._keep_errors and isinstance(result, Exception)):
                    self._store(first, done[:at])
                    self._stop(result)
                    done.clear()
                    return last
                done[at] = without_traceback(result)
        self._store(first, done)
        if self._reports is not None:
            self._report(self._reports, first, done)
        first += len(done)
        done.clear()
        return first

    def _store(self, first: int, done: list[Any]) -> None:
        """Keeps the results of the objects from `first` on."""
        self._results[first : first + len(done)] = done

    def _report(self, reports: Reports, first: int, done: list[Any]) -> None:
        with self._lock:
            for index, result in enumerate(done, first):
                self._bytes_done += self._work.size_of(index, result)
                self._objects_done += 1
                if not self._stopped:
                    reports.add(self._work.event(index, self._bytes_done, self._objects_done))
        reports.deliver(self._end_by_callback)

    @contextlib.contextmanager
    def _own_scope(self) -> Iterator[CancelScope]:
        """With `keep_errors`, a failing object cancels only its own requests; the end of the call cancels all."""
        if not self._keep_errors:
            yield self._scope
            return
        scope = CancelScope()
        self._scope.enter(scope)
        try:
            yield scope
        finally:
            self._scope.leave(scope)


class Gets:
    """Downloads of whole objects."""

    def __init__(
        self,
        service: Service,
        locations: Sequence[Location],
        settings: DownloadSettings,
        verify: bool,
    ) -> None:
        self._service = service
        self._locations = locations
        self._settings = settings
        self._verify = verify
        # Size in bytes of the latest object: the guess for the next one.
        self._last_size = 0
        # An object of at least this many bytes is downloaded alone, in ranges; None for never.
        self._alone_from: int | None = None
        if settings.range_optimization:
            self._alone_from = max(settings.range_threshold, (settings.chunk_size or FIRST_PART) + 1)
        # A shared buffer has no room for an object that is downloaded alone.
        self._shared_buffer = SHARED_BUFFER if self._alone_from is None else min(SHARED_BUFFER, self._alone_from - 1)
        # Shared buffers with room left, each with the offset of that room; append and pop are atomic.
        self._open_buffers: list[tuple[Any, int]] = []
        if verify:
            load()

    @property
    def count(self) -> int:
        return len(self._locations)

    def batch_size(self, first: int, most: int) -> int:
        if self._alone_from is not None and self._last_size >= self._alone_from:
            return 0
        if self._last_size:
            most = min(most, max(1, SERIES_BYTES // self._last_size))
        return in_same_bucket(self._locations, first, most)

    def run_batch(self, first: int, last: int, scope: CancelScope) -> tuple[list[Any], Failed | None]:
        expected = self._last_size if self._last_size <= SMALL_BODY else 0
        responses, rest = object_operations.get_objects(
            self._service, self._locations[first:last], self._room, expected, scope
        )
        if responses and isinstance(responses[-1], Response):
            self._last_size = responses[-1].received
            if responses[-1].body_at is not None:
                buffer, offset = responses[-1].body_at
                self._keep_open(buffer, offset + responses[-1].received)
        # A body that ended with its connection may be truncated: the object is fetched alone, which checks its length.
        if isinstance(rest, Response) and rest.promise is not None and rest.promise.delimited:
            responses.append(rest)
        views = [self._view_or_error(index, response) for index, response in enumerate(responses, first)]
        return views, rest if isinstance(rest, Failed) else None

    def _room(self, length: int, remaining: int) -> tuple[Any, int]:
        """Memory for the next body. Memory for a small one also has room for those after it, if they are of its size.

        Raises:
            GoesAlone: the object has to be downloaded in parallel ranges.
        """
        if self._alone_from is not None and length >= self._alone_from:
            raise GoesAlone
        if length > SMALL_BODY:
            return pool().acquire(length), 0
        while self._open_buffers:
            try:
                buffer, start = self._open_buffers.pop()
            except IndexError:  # another worker took it
                break
            if buffer.size - start >= length:
                return buffer, start
        return pool().acquire(max(length, min(self._shared_buffer, remaining * aligned(length)))), 0

    def _keep_open(self, buffer: Any, used: int) -> None:
        if buffer.size - aligned(used) >= max(self._last_size, BODY_ALIGNMENT):
            self._open_buffers.append((buffer, aligned(used)))

    def _view_or_error(self, index: int, response: Response | Exception) -> BytesView | Exception:
        if isinstance(response, Exception):
            return response
        try:
            return self._view(index, response)
        except Exception as error:
            return without_traceback(error)

    def _view(self, index: int, response: Response) -> BytesView:
        assert response.promise is not None
        view = BytesView(b"")
        if response.received and response.body_at is not None:
            buffer, offset = response.body_at
            view = BytesView(buffer, offset, response.received)
        expected = response.promise.checksum if self._verify else None
        if expected is not None:
            check_whole(self._locations[index], expected, expected.algorithm.of([view]))
        return view

    def run_alone(self, index: int, before: Failed | None, scope: CancelScope) -> BytesView:
        download = Download(
            self._service, self._locations[index], self._settings, verify=self._verify, scope=scope, before=before
        )
        self._last_size = download.run()
        return download.view()

    def size_of(self, index: int, result: Any) -> int:
        return len(result) if isinstance(result, BytesView) else 0

    def event(self, index: int, bytes_done: int, objects_done: int) -> ProgressEvent:
        return ProgressEvent("download", format_uri(*self._locations[index]), bytes_done, None, objects_done)


class GoesAlone(Exception):
    """The object is too large for a series."""


def in_same_bucket(locations: Sequence[Location], first: int, most: int) -> int:
    bucket, last = locations[first].bucket, min(first + most, len(locations))
    return next((i for i in range(first, last) if locations[i].bucket != bucket), last) - first


class Puts:
    """Uploads of whole objects.

    Args:
        put_large: stores an object of more than one part.
    """

    def __init__(
        self,
        service: Service,
        locations: Sequence[Location],
        views: Sequence[memoryview],
        config: MultipartUploadConfig,
        put_large: Callable[[int, CancelScope], UploadInfo],
    ) -> None:
        self._service = service
        self._locations = locations
        self._views = views
        self._config = config
        self._put_large = put_large
        self._total_bytes = sum(map(len, views))
        if config.checksum is not None:
            load()

    @property
    def count(self) -> int:
        return len(self._locations)

    def batch_size(self, first: int, most: int) -> int:
        total, last = 0, first + in_same_bucket(self._locations, first, most)
        for index in range(first, last):
            total += len(self._views[index])
            if len(self._views[index]) > self._config.part_size or (total > SERIES_BYTES and index > first):
                return index - first
        return last - first

    def run_batch(self, first: int, last: int, scope: CancelScope) -> tuple[list[Any], Failed | None]:
        started = datetime.now(UTC)
        algorithm = self._service.checksum_algorithm(self._config.checksum)
        objects = [
            (
                self._locations[index],
                self._views[index],
                _checksum(algorithm, self._views[index]),
                self._config_of(index),
            )
            for index in range(first, last)
        ]
        stored, failed = object_operations.put_objects(self._service, objects, scope)
        if failed is not None and self._service.without_algorithm(algorithm, failed):
            failed = None  # this failure says nothing about the algorithm that is used next
        infos: list[Any] = []
        for index, one, (_, _, checksum, _) in zip(range(first, last), stored, objects, strict=False):
            if isinstance(one, Failed):
                infos.append(self._outcome_alone(index, one, scope))
            else:
                infos.append(one if isinstance(one, Exception) else self._info(index, one, checksum, started))
        return infos, failed

    def _config_of(self, index: int) -> MultipartUploadConfig:
        """The headers of an object."""
        return self._config

    def _outcome_alone(self, index: int, before: Failed, scope: CancelScope) -> UploadInfo | Exception:
        """Retries an object whose response in a series could not be read."""
        try:
            return self.run_alone(index, before, scope)
        except Exception as error:
            return without_traceback(error)

    def run_alone(self, index: int, before: Failed | None, scope: CancelScope) -> UploadInfo:
        view, started, uncertain = self._views[index], datetime.now(UTC), 0
        if len(view) > self._config.part_size:
            return self._put_large(index, scope)
        while True:
            algorithm = self._service.checksum_algorithm(self._config.checksum)
            checksum = _checksum(algorithm, view)
            try:
                stored = object_operations.put_object(
                    self._service,
                    self._locations[index],
                    [view],
                    self._config_of(index),
                    checksum,
                    scope,
                    before,
                    uncertain,
                )
                return self._info(index, stored, checksum, started)
            except S3Error as error:
                before, uncertain = None, error.uncertain
                if not self._service.without_algorithm(algorithm, error):
                    raise

    def size_of(self, index: int, result: Any) -> int:
        return len(self._views[index]) if isinstance(result, UploadInfo) else 0

    def event(self, index: int, bytes_done: int, objects_done: int) -> ProgressEvent:
        uri = format_uri(*self._locations[index])
        return ProgressEvent("upload", uri, bytes_done, self._total_bytes, objects_done)

    def _info(self, index: int, stored: Stored, checksum: Checksum | None, started: datetime) -> UploadInfo:
        return UploadInfo(
            etag=stored.bare_etag,
            parts=1,
            total_bytes=len(self._views[index]),
            checksum=None if checksum is None else checksum.value,
            checksum_algorithm=None if checksum is None else checksum.algorithm.name,
            checksum_confirmed=stored.confirmed,
            version_id=stored.version_id,
            started_at=started,
            completed_at=datetime.now(UTC),
            upload_id=None,
        )


def _checksum(algorithm: Algorithm | None, view: memoryview) -> Checksum | None:
    return None if algorithm is None else Checksum(algorithm, algorithm.encode(algorithm.of([view])))


def put_whole(service: Service, location: Location, view: memoryview, config: MultipartUploadConfig) -> UploadInfo:
    """Stores an object that fits one part, in the caller's thread; an interrupt ends it immediately."""
    scope = operation_scope()
    try:
        return Puts(service, [location], [view], config, _never_large).run_alone(0, None, scope)
    except BaseException:
        unbroken(scope.end)
        raise


def _never_large(index: int, scope: CancelScope) -> UploadInfo:
    raise AssertionError("the object fits one part")
