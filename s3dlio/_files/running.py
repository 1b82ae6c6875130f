"""Runs the transfers of one call and collects how each file ended.

Items come from a walk or a listing while earlier ones are being transferred. A failure is kept with its URI, and the
rest goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from .._runtime.kept_errors import without_traceback
from .._s3.requests import operation_scope
from .._transfer.flow import Flow
from .._transfer.reports import Reports
from ..errors import ManyFailedError, S3dlioError
from ..progress import Progress, ProgressEvent
from ..results import SkippedFile, TransferredFile, TransferResult, UploadInfo
from .fetching import Fetch, Fetched
from .sending import Same

# Files that were found and whose results were not collected yet: a bound of memory, far above what is in flight.
WINDOW = 4096
TAKE = 256


class Failure(NamedTuple):
    """A file that was not even begun."""

    uri: str
    path: str
    error: Exception


def guarded(items: Iterator[Any], uri: str, path: str) -> Iterator[Any]:
    """The items; an error of the walk or the listing itself becomes the last one."""
    try:
        yield from items
    except (OSError, S3dlioError) as error:
        yield Failure(uri, path, without_traceback(error))


class Tally:
    """Counts bytes and files of one call, and reports them: one call of the callback at a time.

    Args:
        operation: ``"upload"`` or ``"download"``.
    """

    def __init__(self, operation: str, progress: Progress | None) -> None:
        self._operation = operation
        self._lock = threading.Lock()
        self._reports = Reports(self._lock, progress)
        self.wanted = progress is not None
        self._bytes = self._files = 0
        self._arrived: dict[str, int] = {}
        self.error: BaseException | None = None

    def part(self, event: ProgressEvent) -> None:
        """A part of a large file is done."""
        with self._lock:
            self._bytes += event.bytes_done - self._arrived.get(event.uri, 0)
            self._arrived[event.uri] = event.bytes_done
            self._add(event.uri)
        self._reports.deliver(self._end)

    def file(self, uri: str, size: int) -> None:
        """A file is done, or failed with `size` 0."""
        if not self.wanted:
            return
        with self._lock:
            self._files += 1
            self._bytes += size - self._arrived.pop(uri, 0)
            self._add(uri)
        self._reports.deliver(self._end)

    def _add(self, uri: str) -> None:
        self._reports.add(ProgressEvent(self._operation, uri, self._bytes, None, self._files))

    def _end(self, error: BaseException) -> bool:
        self.error = error
        return True

    def check(self) -> None:
        """Raises what the callback raised to end the call."""
        error, self.error = self.error, None
        if error is not None:
            raise error

    def join(self) -> None:
        """Returns when everything was reported."""
        self._reports.join(self._end)
        self.check()


class Run:
    """One call's transfers.

    Args:
        limit: files in flight at once.
    """

    def __init__(self, work: Any, limit: int, tally: Tally) -> None:
        self._work = work
        self._limit = limit
        self._tally = tally
        self._scope = operation_scope()
        self._done: list[TransferredFile] = []
        self._skipped: list[SkippedFile] = []
        self._failed: dict[str, Exception] = {}

    def run(self, items: Iterable[Any], what: str, alone: bool) -> TransferResult:
        """Transfers everything.

        Args:
            what: of which the files are, for the error.
            alone: one file was asked for: its error is raised as it is.

        Raises:
            ManyFailedError: some files failed; the others were transferred.
        """
        self._move(items)
        if self._failed:
            raise self._error(what, alone)
        return TransferResult(self._done, self._skipped)

    def _move(self, items: Iterable[Any]) -> None:
        flow = Flow(self._work, self._limit, WINDOW, keep_errors=True, complete=False)
        try:
            for item in items:
                self._scope.check()
                if isinstance(item, Failure):
                    self._failed[item.uri] = item.error
                    continue
                self._work.add(item)  # of the kind that it takes
                flow.grown()
                while flow.full:
                    self._collect(flow)
            flow.grown(complete=True)
            while self._collect(flow):
                pass
        finally:
            flow.close()
        self._tally.join()

    def _collect(self, flow: Flow) -> bool:
        """Takes some results; False at the end."""
        taken = flow.take(TAKE)
        self._scope.check()
        for index, result in taken:
            self._result(index, self._work.finished(index), result)
        more = bool(taken)
        taken.clear()
        self._tally.check()
        return more

    def _path(self, item: Any) -> str:
        path: str = self._work.path_of(item) if isinstance(item, Fetch) else item.path
        return path

    def _size_of(self, result: UploadInfo | Fetched) -> int:
        return result.total_bytes if isinstance(result, UploadInfo) else result.size

    def _result(self, index: int, item: Any, result: Any) -> None:
        """Notes how an item ended."""
        uri, path, size = item.uri, self._path(item), 0
        if isinstance(result, Exception):
            self._failed[uri] = result
        elif isinstance(result, Same):
            self._skipped.append(SkippedFile(uri, path, result.size))
        else:
            size = self._size_of(result)
            self._done.append(TransferredFile(uri, path, size, result.etag))
        self._tally.file(uri, size)

    def _error(self, what: str, alone: bool) -> Exception:
        only = next(iter(self._failed.values()))
        nothing = not self._done and not self._skipped
        if len(self._failed) == 1 and (alone or (nothing and isinstance(only, S3dlioError))):
            return only
        count = len(self._failed) + len(self._done) + len(self._skipped)
        succeeded = [one.uri for one in self._done] + [one.uri for one in self._skipped]
        return ManyFailedError(f"{len(self._failed)} of {count} files of {what} failed", succeeded, self._failed)
