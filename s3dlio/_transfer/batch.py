"""Many objects at once: workers that each take a few, send them as a series, and go on alone with what that left.

Small objects cost a return to Python for a series and not for each; large or failing ones go the ordinary way, with its
retries. Called by `reader` and `objects`; a batch never returns while a worker may touch the caller's memory.
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
from .._s3.requests import Cancelled, CancelScope, Response
from .._s3.responses import Stored
from .._s3.service import Service
from ..config import KIB, DownloadSettings, MultipartUploadConfig
from ..errors import S3Error
from ..progress import Progress, ProgressEvent
from ..results import UploadInfo
from .download import FIRST_PART, Download, check_whole
from .reports import Reports

# Requests of one series: the longer, the fewer returns to Python, and the longer the last one waits. Measured with GETs
# of 4 KiB on two busy cores, in CPU us an object: 224 one by one, 61 by eights, 34 by 32, 29 by 64 and by 128.
MOST_IN_SERIES = 64
# The first series of each worker: short, so that soon it is known how fast objects come and go.
FIRST_SERIES = 8
# Many workers keep a far store busy. Where an object is done more often than every so many seconds, the interpreter is
# what limits, and more than a few of them only shorten each other's series: one after the other leaves, down to a few.
# With GETs of 4 KiB, 64 workers came to 31,000 objects a second at 31 CPU us each, 8 of them to 37,000 at 22.
PYTHON_LIMITS = 50e-6
FEW_WORKERS = 8
# Bytes of one series; more would keep its connection from taking a fair share.
SERIES_BYTES = 2048 * KIB
# Bodies up to this share their memory with others of the series, at most so much: a view that is kept keeps it all.
SMALL_BODY = 64 * KIB
SHARED_PLACE = 256 * KIB


# Bodies lie apart by whole cache lines, as the native series puts them.
PLACE_ALIGNMENT = 64


def _aligned(length: int) -> int:
    return -(-length // PLACE_ALIGNMENT) * PLACE_ALIGNMENT


class Work(Protocol):
    """What a batch does with objects, named by their place in the list."""

    @property
    def count(self) -> int:
        """How many there are."""

    def together(self, first: int, most: int) -> int:
        """How many from `first` on may form a series, at most `most`; 0 where that one has to go alone."""

    def run_together(self, first: int, last: int, scope: CancelScope) -> tuple[list[Any], Failed | None]:
        """Does [first, last) as a series; returns what came of those that were answered, and how the next one failed.

        An exception stands for an object whose answer was wrong.
        """

    def run_alone(self, index: int, before: Failed | None, scope: CancelScope) -> Any:
        """Does one object; `before` is how it failed in a series."""

    def size_of(self, index: int, result: Any) -> int:
        """Bytes of an object that was moved; 0 where `result` is an exception."""

    def event(self, index: int, bytes_done: int, objects_done: int) -> ProgressEvent:
        """The report that an object is finished."""


class Batch:
    """The objects of one call.

    Args:
        work: what is done with each.
        limit: objects in flight at once.
        keep_errors: an exception takes the place of an object's result; else the first one ends everything.
        progress: called for each object that is finished.
    """

    def __init__(self, work: Work, limit: int, keep_errors: bool, progress: Progress | None = None) -> None:
        self._work = work
        self._keep_errors = keep_errors
        self._results: list[Any] = [None] * work.count
        self._workers = min(limit, work.count)
        self._measured = False
        self._next = 0
        self._error: BaseException | None = None
        self._stopped = False
        self._scope = CancelScope()
        self._lock = threading.Lock()
        self._crew = workers.Crew(self._lock, Changed(self._lock))
        self._reports = None if progress is None else Reports(self._lock, progress)
        self._bytes_done = self._objects_done = 0

    def run(self) -> list[Any]:
        """Does everything and returns the results."""
        try:
            self._start()
            self._crew.join()
            if self._reports is not None and self._error is None:
                self._reports.join(self._end_by_callback)
        except BaseException:
            try:
                self._stop(Cancelled("the call was interrupted"))
                self._crew.call_off()
            finally:
                unbroken(self._scope.end)  # however many interrupts come: no driver goes on with what is the caller's
            raise
        if self._error is not None:
            raise self._taken_error()
        return self._results

    def _start(self) -> None:
        """Starts the workers, or as many as there are threads for; the caller does it all where there is none."""
        wanted = self._workers
        for started in range(wanted):
            if not self._crew.start(self._serve):
                with self._lock:  # some may have left already
                    self._workers = max(1, self._workers - (wanted - started))
                if not started:
                    self._serve()
                return

    def _taken_error(self) -> BaseException:
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
        """The objects [first, last) that a worker does next; empty where it has to end."""
        with self._lock:
            first, left = self._next, self._work.count - self._next
            if self._stopped or left == 0:
                return first, first
            # In the end each worker takes fewer, so that all end at about the same time.
            most = MOST_IN_SERIES if self._measured else FIRST_SERIES
            share = min(most, max(1, left // (2 * self._workers)))
            self._next += max(1, self._work.together(first, share))
            return first, self._next

    def _serve(self) -> None:
        while True:
            first, last = self._take()
            if first == last:
                return
            began, count = time.monotonic(), last - first
            while first < last:
                first = self._advance(first, last)
            if self._is_too_many((time.monotonic() - began) / count):
                return

    def _is_too_many(self, seconds: float) -> bool:
        """Whether a worker that took so long for an object has to leave, as more than a few are of no use."""
        with self._lock:
            self._measured = True
            leaves = self._workers > FEW_WORKERS and seconds < self._workers * PYTHON_LIMITS
            self._workers -= leaves
            return leaves

    def _advance(self, first: int, last: int) -> int:
        """Does as many of [first, last) as one series comes to, or one alone; returns where to go on."""
        done: list[Any] = []
        failed: Failed | None = None
        try:
            with self._own_scope() as scope:
                if self._work.together(first, last - first):
                    done, failed = self._work.run_together(first, last, scope)
                if failed is not None or not done:
                    done.append(self._work.run_alone(first + len(done), failed, scope))
        except BaseException as error:
            done.append(error)
        return self._record(first, last, done)

    def _record(self, first: int, last: int, done: list[Any]) -> int:
        """Takes over what came of the objects from `first` on, and empties `done`, which an error's frames may hold."""
        for index, result in enumerate(done, first):
            if isinstance(result, BaseException):
                if not (self._keep_errors and isinstance(result, Exception)):
                    self._stop(result)
                    done.clear()
                    return last
                result = without_traceback(result)
            self._results[index] = result
        if self._reports is not None:
            self._report(self._reports, first, done)
        first += len(done)
        done.clear()
        return first

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
        """With errors kept a failing object cancels its own requests only; the end of the call cancels all."""
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
        # Bytes of the object that came last: what the next one is thought to have.
        self._usual = 0
        # From so many bytes on an object goes alone, in ranges; None for never.
        self._alone_from: int | None = None
        if settings.range_optimization:
            self._alone_from = max(settings.range_threshold, (settings.chunk_size or FIRST_PART) + 1)
        # What goes alone finds no room among others.
        self._shared_place = SHARED_PLACE if self._alone_from is None else min(SHARED_PLACE, self._alone_from - 1)
        # Shared places with room left, each with where that begins; a list's ends are atomic.
        self._open: list[tuple[Any, int]] = []
        if verify:
            load()

    @property
    def count(self) -> int:
        return len(self._locations)

    def together(self, first: int, most: int) -> int:
        if self._alone_from is not None and self._usual >= self._alone_from:
            return 0
        if self._usual:
            most = min(most, max(1, SERIES_BYTES // self._usual))
        return _of_one_bucket(self._locations, first, most)

    def run_together(self, first: int, last: int, scope: CancelScope) -> tuple[list[Any], Failed | None]:
        expected = self._usual if self._usual <= SMALL_BODY else 0
        responses, rest = object_operations.get_objects(
            self._service, self._locations[first:last], self._room, expected, scope
        )
        if responses and isinstance(responses[-1], Response):
            self._usual = responses[-1].received
            if responses[-1].place is not None:
                buffer, offset = responses[-1].place
                self._keep_open(buffer, offset + responses[-1].received)
        # Nothing shows that one which ended with its connection is whole: it goes alone, where that is looked into.
        if isinstance(rest, Response) and rest.promise is not None and rest.promise.delimited:
            responses.append(rest)
        views = [self._view_or_error(index, response) for index, response in enumerate(responses, first)]
        return views, rest if isinstance(rest, Failed) else None

    def _room(self, length: int, remaining: int) -> tuple[Any, int]:
        """Memory for the next body, and where that is small for those after it, if they are like it.

        Raises:
            GoesAlone: it is to come in parallel ranges.
        """
        if self._alone_from is not None and length >= self._alone_from:
            raise GoesAlone
        if length > SMALL_BODY:
            return pool().acquire(length), 0
        while self._open:
            try:
                buffer, start = self._open.pop()
            except IndexError:  # another worker was faster
                break
            if buffer.size - start >= length:
                return buffer, start
        return pool().acquire(max(length, min(self._shared_place, remaining * _aligned(length)))), 0

    def _keep_open(self, buffer: Any, used: int) -> None:
        if buffer.size - _aligned(used) >= max(self._usual, PLACE_ALIGNMENT):
            self._open.append((buffer, _aligned(used)))

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
        if response.received and response.place is not None:
            buffer, offset = response.place
            view = BytesView(buffer, offset, response.received)
        expected = response.promise.checksum if self._verify else None
        if expected is not None:
            check_whole(self._locations[index], expected, expected.algorithm.of([view]))
        return view

    def run_alone(self, index: int, before: Failed | None, scope: CancelScope) -> BytesView:
        download = Download(
            self._service, self._locations[index], self._settings, verify=self._verify, scope=scope, before=before
        )
        self._usual = download.run()
        return download.view()

    def size_of(self, index: int, result: Any) -> int:
        return len(result) if isinstance(result, BytesView) else 0

    def event(self, index: int, bytes_done: int, objects_done: int) -> ProgressEvent:
        return ProgressEvent("download", format_uri(*self._locations[index]), bytes_done, None, objects_done)


class GoesAlone(Exception):
    """An object is too large for a series."""


def _of_one_bucket(locations: Sequence[Location], first: int, most: int) -> int:
    bucket, last = locations[first].bucket, min(first + most, len(locations))
    return next((i for i in range(first, last) if locations[i].bucket != bucket), last) - first


class Puts:
    """Uploads of whole objects.

    Args:
        put_large: stores an object that is more than one part.
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

    def together(self, first: int, most: int) -> int:
        total, last = 0, first + _of_one_bucket(self._locations, first, most)
        for index in range(first, last):
            total += len(self._views[index])
            if len(self._views[index]) > self._config.part_size or (total > SERIES_BYTES and index > first):
                return index - first
        return last - first

    def run_together(self, first: int, last: int, scope: CancelScope) -> tuple[list[Any], Failed | None]:
        started = datetime.now(UTC)
        algorithm = self._service.checksum_algorithm(self._config.checksum)
        objects = [
            (self._locations[index], self._views[index], _checksum(algorithm, self._views[index]))
            for index in range(first, last)
        ]
        stored, failed = object_operations.put_objects(self._service, objects, self._config, scope)
        if failed is not None and self._service.without_algorithm(algorithm, failed):
            failed = None  # it says nothing about the algorithm that comes next
        infos: list[Any] = []
        for index, one, (_, _, checksum) in zip(range(first, last), stored, objects, strict=False):
            if isinstance(one, Failed):
                infos.append(self._outcome_alone(index, one, scope))
            else:
                infos.append(one if isinstance(one, Exception) else self._info(index, one, checksum, started))
        return infos, failed

    def _outcome_alone(self, index: int, before: Failed, scope: CancelScope) -> UploadInfo | Exception:
        """Goes on with an object whose answer in a series could not be read."""
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
                    self._service, self._locations[index], [view], self._config, checksum, scope, before, uncertain
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
