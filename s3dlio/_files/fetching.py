"""Fetches objects into local files as a batch: small ones in series, large ones by ranges, within one budget.

A file has a temporary name until all its bytes are there and were compared. `Fetches` is the work of a `Flow`; objects
are added while it runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from .._memory.bytes_view import BytesView
from .._net.addresses import Location, format_uri
from .._runtime.kept_errors import without_traceback
from .._s3.failures import Failed
from .._s3.requests import CancelScope, Response
from .._s3.service import Service
from .._transfer.batch import SERIES_BYTES, Gets, aligned, in_same_bucket
from .._transfer.budget import Budget
from .._transfer.journal import Journal
from .._transfer.ranged_file import RangedFile, write_all
from .._values.entity_tags import parse_entity_tag
from ..config import DownloadSettings
from ..errors import ChecksumMismatchError
from ..progress import ProgressEvent
from . import times
from .names import TEMPORARY, Claimed, Target, is_a_folder, temporary_name
from .sending import IsThere, Same


class Fetch(NamedTuple):
    """An object and the file that it becomes.

    Attributes:
        parts: folders and file below the target; a folder's marker ends with an empty part.
        size: bytes, as a listing reported; None where that is not known.
        is_there: asked before it is fetched, whether the file has the same bytes already; None for no.
    """

    location: Location
    parts: list[str]
    size: int | None
    is_there: IsThere | None = None

    @property
    def uri(self) -> str:
        return format_uri(*self.location)


class Fetched(NamedTuple):
    """What was stored in a file."""

    size: int
    etag: str | None


class Settings(NamedTuple):
    """How the objects of one call are fetched.

    Attributes:
        ranges: how large objects are cut.
        fsync: a file is on the disk before it gets its name.
        on_bytes: called with an object's URI and the bytes of it that have arrived.
    """

    ranges: DownloadSettings
    verify: bool
    preserve_times: bool = False
    resume: bool = False
    fsync: bool = True
    on_bytes: Callable[[ProgressEvent], object] | None = None


class Fetches(Gets):
    """Downloads into files below one target."""

    def __init__(
        self, service: Service, target: Target, settings: Settings, budget: Budget, claimed: Claimed | None
    ) -> None:
        self._added: list[Location] = []
        super().__init__(service, self._added, settings.ranges, settings.verify)
        self._target = target
        self._how = settings
        self._budget = budget
        self._claimed = claimed
        self._fetches: list[Fetch | None] = []
        self._heads: dict[int, Mapping[str, str]] = {}

    def add(self, fetch: Fetch) -> None:
        """One more object."""
        self._fetches.append(fetch)
        self._added.append(fetch.location)  # this counts

    def path_of(self, fetch: Fetch) -> str:
        """Where the file is stored."""
        return self._target.path_of(fetch.parts)

    def finished(self, index: int) -> Fetch:
        """The object whose result was consumed; nothing is kept of it."""
        fetch = self._fetch(index)
        self._fetches[index] = None
        return fetch

    def _fetch(self, index: int) -> Fetch:
        fetch = self._fetches[index]
        assert fetch is not None
        return fetch

    def batch_size(self, first: int, most: int) -> int:
        total, last = 0, first + in_same_bucket(self._locations, first, most)
        for index in range(first, last):
            size = self._fetch(index).size
            large = size is None or (self._alone_from is not None and size >= self._alone_from)
            if large or not self._fetch(index).parts[-1] or self._fetch(index).is_there is not None:
                return index - first
            total += aligned(size or 0)
            if total > SERIES_BYTES and index > first:
                return index - first
        return last - first

    def run_batch(self, first: int, last: int, scope: CancelScope) -> tuple[list[Any], Failed | None]:
        total = sum(aligned(self._fetch(index).size or 0) for index in range(first, last))
        self._budget.take(total, scope.check)
        try:
            results, failed = super().run_batch(first, last, scope)
            for at, result in enumerate(results):
                if isinstance(result, BytesView):
                    results[at] = self._store(first + at, result)
            return results, failed
        finally:
            self._budget.give(total)

    def _view(self, index: int, response: Response) -> BytesView:
        self._heads[index] = response.headers
        return super()._view(index, response)

    def _store(self, index: int, view: BytesView) -> Fetched | Exception:
        headers = self._heads.pop(index)
        try:
            with self._new_file(self._fetch(index)) as file:
                write_all(file.descriptor, memoryview(view), 0)
                file.publish(headers)
            return Fetched(len(view), _etag(headers))
        except Exception as error:
            return without_traceback(error)
        finally:
            with contextlib.suppress(BufferError):
                view.release()

    def run_alone(self, index: int, before: Failed | None, scope: CancelScope) -> Any:
        fetch = self._fetch(index)
        if not fetch.parts[-1]:
            return self._make_folder(fetch)
        if fetch.is_there is not None and fetch.is_there(scope):
            return Same(os.stat(self.path_of(fetch)).st_size)
        with self._new_file(fetch, resume=self._how.resume) as file:
            download = RangedFile(
                self._service, fetch.location, self._settings, file.descriptor, self._budget, file.journal,
                verify=self._how.verify, scope=scope, before=before, progress=self._how.on_bytes,
            )  # fmt: skip
            size = download.run()
            os.ftruncate(file.descriptor, size)
            file.publish(download.headers)
        return Fetched(size, download.etag)

    def size_of(self, index: int, result: Any) -> int:
        return result.size if isinstance(result, Fetched) else 0

    def _make_folder(self, fetch: Fetch) -> Fetched:
        with self._target.folder(fetch.uri, fetch.parts):
            return Fetched(0, None)

    @contextlib.contextmanager
    def _new_file(self, fetch: Fetch, resume: bool = False) -> Iterator[_NewFile]:
        if self._claimed is not None:
            self._claimed.claim(fetch.uri, fetch.parts)
        with self._target.folder(fetch.uri, fetch.parts) as folder:
            self._target.check_file(folder, fetch.uri, fetch.parts)
            file = _NewFile(folder, fetch, self.path_of(fetch), self._how, resume)
            try:
                yield file
            except ChecksumMismatchError:
                file.spoiled = True
                raise
            finally:
                file.close()


class _NewFile:
    """A file under its temporary name, and its side file if it may be resumed.

    Attributes:
        journal: None where it will not be resumed.
        spoiled: what it holds is wrong, so nothing of it may be used again.
    """

    spoiled = False

    def __init__(self, folder: int, fetch: Fetch, path: str, how: Settings, resume: bool) -> None:
        self._folder = folder
        self._uri, self._path = fetch.uri, path
        self._name = fetch.parts[-1]
        self._how = how
        self._published = False
        self._temporary, self._side = temporary_name(), ""
        self._side_file = -1
        self.journal: Journal | None = None
        if resume:
            self._claim()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | (0 if self.journal else os.O_EXCL)
        try:
            self.descriptor = os.open(self._temporary, flags, 0o666, dir_fd=folder)
        except BaseException:
            if self._side_file >= 0:
                os.close(self._side_file)
            raise

    def _claim(self) -> None:
        """Takes the names that a later run will find again, unless another process has them."""
        name = TEMPORARY + hashlib.sha256(f"{self._uri}\0{self._name}".encode()).hexdigest()[:24]
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name + ".ranges", flags, 0o666, dir_fd=self._folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return
        self._temporary, self._side, self._side_file = name, name + ".ranges", descriptor
        self.journal = Journal(descriptor, self._uri)

    def publish(self, headers: Mapping[str, str]) -> None:
        """Gives the file its name."""
        if self._how.preserve_times and (modified := times.modified_ns(headers)) is not None:
            times.set_modified(self.descriptor, modified)
        if self._how.fsync:
            os.fsync(self.descriptor)
        try:
            os.rename(self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except IsADirectoryError as error:  # made for another object since this one was begun
            raise is_a_folder(self._uri, self._path) from error
        self._published = True
        if self._how.fsync:
            os.fsync(self._folder)

    def close(self) -> None:
        """Removes what is not needed any more: everything, unless the file will be resumed."""
        os.close(self.descriptor)
        stays = self.journal is not None and not self._published and not self.spoiled and self.journal.noted
        if not self._published and not stays:
            self._remove(self._temporary)
        if self.journal is not None:
            if not stays:
                self._remove(self._side)
            os.close(self._side_file)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._folder)


def _etag(headers: Mapping[str, str]) -> str | None:
    tag = parse_entity_tag(headers.get("etag"))
    return None if tag is None else str(tag)
