"""`sync`: makes one side like the other, a folder and a prefix, or two prefixes.

Arguments are checked here, before any request; `_files` lists and merges both sides and moves what differs.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Unpack

from ._files import deleting, differing, fetching, sending
from ._files.copying import Copies, Copy
from ._files.filters import Filters as Filters  # the command filters by them, too
from ._files.names import Claimed, Target, relative_parts
from ._files.running import Tally, guarded
from ._files.sides import Entry, Pair, merged, of_files, of_objects
from ._files.synchronising import Direction, Rules, Synchronisation
from ._files.walking import walk
from ._net.addresses import Location, format_uri, parse_uri
from ._s3.default import ClientLike, service_of
from ._s3.delete_operations import Entry as Deleted
from ._s3.selection import Selection
from ._s3.service import Service
from ._transfer.budget import Budget
from ._transfer.deletion import Deletion
from ._values.checks import check_boolean, check_integer
from .config import DownloadSettings, MultipartUploadConfig
from .errors import ConfigurationError, ManyFailedError, OptionTypeError, S3dlioError
from .files import MEMORY, RANGES_FROM, LargeUploads, ignores_case_at
from .listing import ObjectIterator
from .options import Path, PutManyOptions, checks_names
from .progress import Progress
from .results import SyncResult

# Keys of one DeleteObjects.
BATCH = 1000


@checks_names(PutManyOptions, MultipartUploadConfig)
def sync(
    src: Path,
    dst: Path,
    *,
    delete: bool = False,
    max_delete: int | None = None,
    exclude: str | Sequence[str] = (),
    include: str | Sequence[str] = (),
    filters: Sequence[tuple[Literal["exclude", "include"], str]] = (),
    size_only: bool = False,
    checksum_always: bool = False,
    allow_empty: bool = False,
    dry_run: bool = False,
    resume: bool = False,
    follow_symlinks: bool = True,
    fsync: bool = True,
    max_in_flight: int = 64,
    progress: Progress | None = None,
    client: ClientLike | None = None,
    **options: Unpack[PutManyOptions],
) -> SyncResult:
    """Makes a target like its source: uploads, downloads or copies what differs, and deletes the rest on request.

    Both sides are listed in order and merged in a fixed amount of memory, while files are already being moved. A second
    sync moves nothing.

    Args:
        src: a folder, or ``s3://bucket/prefix/``; or a file, or ``s3://bucket/key``. No character is special in it.
        dst: a folder or ``s3://bucket/prefix/``, at least one of both on a store. For a single source it is the file or
            object itself, unless it ends in ``/``.
        delete: delete what the target has and the source has not, once everything else has succeeded.
        max_delete: delete nothing if that would be more files than this.
        exclude: globs of names that take no part, on either side: they are neither moved nor deleted. A glob without
            ``/`` is for the last part of a name at any depth; ``folder/`` is for all below it; otherwise it is for the
            name relative to the two roots.
        include: globs of names that take part nevertheless.
        filters: pairs ``("exclude", glob)`` and ``("include", glob)``, after these; the last one that matches decides.
        size_only: files of the same size are the same.
        checksum_always: compare checksums even where sizes and times are the same.
        allow_empty: with `delete`, an empty source empties the target; otherwise that is refused.
        dry_run: change nothing; the result is the same.
        resume, follow_symlinks, fsync: as for `upload` and `download`.
        max_in_flight: files, and parts of large files, being moved at once (1 to 1024).
        progress: called with a `ProgressEvent` for each file, and each part of a large one: bytes and files so far.
        client: a `Client`; None for the default one, built from the environment.
        options: the fields of `MultipartUploadConfig` but `max_in_flight`, for uploaded objects.

    Two files of the same size are the same if their times are: an upload stores a file's time in the metadata
    ``mtime``, and a download sets it. Other times prove nothing, so then the checksums decide, and where the store
    reports none that can be compared, the file is moved.

    Returns:
        What was done, as a `SyncResult`.

    Raises:
        ConfigurationError, UnsupportedUriError: an argument cannot be used.
        FileNotFoundError: the source does not exist.
        DeletionRefusedError: too much would be deleted; everything else was done.
        ManyFailedError: some files failed, and nothing was deleted for that reason, or some were not deleted; it holds
            what succeeded, too.

    Example:
        >>> infos = s3dlio.put_many([("s3://my-bucket/live/a", b"first"), ("s3://my-bucket/live/b", b"second")])
        >>> result = s3dlio.sync("s3://my-bucket/live/", "mirror/")
        >>> [(action.operation, action.target) for action in result.actions]
        [('download', 'mirror/a'), ('download', 'mirror/b')]
        >>> s3dlio.sync("s3://my-bucket/live/", "mirror/").actions
        []

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
    """
    for name, value in (
        ("delete", delete), ("size_only", size_only), ("checksum_always", checksum_always),
        ("allow_empty", allow_empty), ("dry_run", dry_run), ("resume", resume), ("follow_symlinks", follow_symlinks),
        ("fsync", fsync),
    ):  # fmt: skip
        check_boolean(name, value)
    limit = check_integer("max_in_flight", max_in_flight, 1, 1024, "files")
    if max_delete is not None:
        check_integer("max_delete", max_delete, 0, 1 << 62, "files")
    if size_only and checksum_always:
        raise ConfigurationError("size_only and checksum_always exclude each other")
    rules = Rules(Filters.of(exclude, include, filters), delete, max_delete, allow_empty, dry_run)
    source, target = _text("src", src), _text("dst", dst)
    if not _is_uri(source) and not _is_uri(target):
        raise ConfigurationError(f"neither src={source!r} nor dst={target!r} is an S3 URI; one of them has to be")
    config = MultipartUploadConfig(max_in_flight=limit, **options)
    service = service_of(client)
    one = _Sync(service, client, limit, rules, size_only, checksum_always, resume, follow_symlinks, fsync, progress)
    if not _is_uri(source):
        return one.up(source, target, config, options)
    return one.between(source, target) if _is_uri(target) else one.down(source, target)


def _text(name: str, value: Path) -> str:
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text:
        raise OptionTypeError(f"{name}={value!r} is neither a path nor a URI")
    return text


def _is_uri(text: str) -> bool:
    return text[:5].lower() == "s3://"


class _Sync:
    """The arguments of one call."""

    def __init__(
        self,
        service: Service,
        client: ClientLike | None,
        limit: int,
        rules: Rules,
        size_only: bool,
        checksum_always: bool,
        resume: bool,
        follow_symlinks: bool,
        fsync: bool,
        progress: Progress | None,
    ) -> None:
        self._service = service
        self._client = client
        self._limit = limit
        self._rules = rules
        self._size_only = size_only
        self._checksum_always = checksum_always
        self._resume = resume
        self._follow = follow_symlinks
        self._fsync = fsync
        self._progress = progress

    def up(self, source: str, target: str, config: MultipartUploadConfig, options: PutManyOptions) -> SyncResult:
        """From files to objects."""
        single = not stat.S_ISDIR(os.stat(source).st_mode)
        bucket, prefix, name = _destination(target, os.path.basename(source) if single else None)
        if single:
            self._refuse_delete(source)
            status = os.stat(source)
            entries: Any = iter([Entry(name, source, status.st_size, status.st_mtime_ns)])
        else:
            entries = guarded(of_files(walk(source, follow_symlinks=self._follow)), target, source)
        tally = Tally("upload", self._progress)
        budget = Budget(self._limit, max(config.part_size, min(MEMORY, self._limit * config.part_size)))
        large = LargeUploads(
            self._client, self._limit, budget, tally, self._resume, str(self._service.endpoint), options
        )
        work = sending.Sends(self._service, sending.Settings(config, self._follow, True), budget, large.send)

        def item(file: Entry, there: Entry | None) -> sending.Send | None:
            location = parse_uri(format_uri(bucket, prefix + file.name))
            compare = None
            if there is not None:
                if self._size_only:
                    return None
                compare = differing.of_file_and_object(self._service, file, location, checksum=self._checksum_always)
            return sending.Send(file.place, location, file.size or None, compare)

        direction = Direction(
            "upload", source, target, item, lambda name: format_uri(bucket, prefix + name),
            lambda names: self._delete_objects(bucket, prefix, names),
        )  # fmt: skip
        return self._run(work, tally, direction, entries, self._objects(bucket, prefix, name))

    def down(self, source: str, target: str) -> SyncResult:
        """From objects to files."""
        _, _, name, entries = self._source(source)
        folder = target
        if name:
            self._refuse_delete(source)
            if not target.endswith("/") and not os.path.isdir(target):
                folder, file_name = os.path.split(target)
                folder = folder or "."
                entries = (one._replace(name=file_name) if isinstance(one, Entry) else one for one in entries)
                name = file_name
        root = Target(folder)
        tally = Tally("download", self._progress)
        settings = fetching.Settings(
            DownloadSettings.resolve(True, RANGES_FROM, self._limit, None), self._service.verifies(None),
            preserve_times=True, resume=self._resume, fsync=self._fsync,
            on_bytes=tally.part if tally.wanted else None,
        )  # fmt: skip
        claimed = Claimed() if ignores_case_at(folder) else None
        work = fetching.Fetches(self._service, root, settings, Budget(self._limit, MEMORY), claimed)

        def item(found: Entry, there: Entry | None) -> fetching.Fetch | None:
            location, parts = Location(*parse_uri(found.place)), relative_parts(found.place, found.name)
            compare = None
            if there is not None:
                if self._size_only:
                    return None
                compare = differing.of_file_and_object(self._service, there, location, checksum=self._checksum_always)
            return fetching.Fetch(location, parts, found.size, compare)

        direction = Direction(
            "download", source, target, item, lambda name: root.path_of([name]),
            lambda names: deleting.delete_files(root, names),
        )  # fmt: skip
        return self._run(work, tally, direction, entries, self._files(folder, name))

    def between(self, source: str, target: str) -> SyncResult:
        """From objects to objects."""
        bucket, prefix, name, entries = self._source(source)
        if name:
            self._refuse_delete(source)
        to_bucket, to_prefix, to_name = _destination(target, name or None)
        if name:
            entries = (one._replace(name=to_name) if isinstance(one, Entry) else one for one in entries)
        elif bucket == to_bucket and (prefix.startswith(to_prefix) or to_prefix.startswith(prefix)):
            raise ConfigurationError(f"{source!r} and {target!r} overlap; a sync would never end as it began")

        def item(found: Entry, there: Entry | None) -> Copy | None:
            locations = Location(*parse_uri(found.place)), parse_uri(format_uri(to_bucket, to_prefix + found.name))
            compare = None
            if there is not None:
                if self._size_only:
                    return None
                compare = differing.of_objects(self._service, found, there, locations)
            return Copy(*locations, found.size, compare)

        direction = Direction(
            "copy", source, target, item, lambda name: format_uri(to_bucket, to_prefix + name),
            lambda names: self._delete_objects(to_bucket, to_prefix, names),
        )  # fmt: skip
        tally = Tally("copy", self._progress)
        work = Copies(self._service)
        return self._run(work, tally, direction, entries, self._objects(to_bucket, to_prefix, to_name))

    def _run(
        self, work: Any, tally: Tally, direction: Direction, source: Iterator[Any], target: Iterator[Any]
    ) -> SyncResult:
        pairs: Iterator[Pair] = guarded(merged(source, target), direction.target, direction.source)
        return Synchronisation(work, self._limit, tally, direction, self._rules).synchronise(pairs)

    def _source(self, uri: str) -> tuple[str, str, str, Iterator[Any]]:
        """Bucket, prefix and, of a single object, the name; and the entries."""
        bucket, key = parse_uri(uri, require_key=False)
        if key and not key.endswith("/"):
            name = key.rpartition("/")[2]
            prefix = key.removesuffix(name)
            return bucket, prefix, name, self._objects(bucket, prefix, name, what=uri)
        return bucket, key, "", self._objects(bucket, key, "", what=uri)

    def _objects(self, bucket: str, prefix: str, name: str, what: str = "") -> Iterator[Any]:
        """What lies below a prefix, or the one object of that name; no character of them is special."""
        uri = format_uri(bucket, prefix + name)
        objects = ObjectIterator(self._service, Selection(bucket, prefix + name, single=bool(name)), True, None, "")
        return guarded(of_objects(objects, len(format_uri(bucket, prefix))), what or uri, uri)

    def _files(self, folder: str, name: str) -> Iterator[Any]:
        if name:
            path = os.path.join(folder, name)
            if os.path.islink(path) or not os.path.isfile(path):
                return iter(())
            status = os.stat(path)
            return iter([Entry(name, path, status.st_size, status.st_mtime_ns)])
        if not os.path.isdir(folder):
            return iter(())
        return guarded(of_files(walk(folder, follow_symlinks=False)), folder, folder)

    def _refuse_delete(self, source: str) -> None:
        if self._rules.delete:
            raise ConfigurationError(f"delete=True with the single source {source!r}; give a folder or a prefix")

    def _delete_objects(self, bucket: str, prefix: str, names: Iterator[str]) -> tuple[list[str], dict[str, Exception]]:
        deletion = Deletion(self._service, bucket, format_uri(bucket, prefix))
        asked: list[str] = []

        def batches() -> Iterator[list[Deleted]]:
            batch: list[Deleted] = []
            for name in names:
                asked.append(format_uri(bucket, prefix + name))
                batch.append(Deleted(prefix + name))
                if len(batch) == BATCH:
                    yield batch
                    batch = []
            if batch:
                yield batch

        try:
            deletion.run(batches())
        except ManyFailedError as error:
            return [one for one in asked if one not in error.failed], dict(error.failed)
        except S3dlioError as error:
            return [], {format_uri(bucket, prefix): error}
        return asked, {}


def _destination(uri: str, name: str | None) -> tuple[str, str, str]:
    """Bucket, prefix and name of what a single source becomes; without a name for everything below a prefix."""
    bucket, key = parse_uri(uri, require_key=False)
    if name is None:
        return bucket, key if not key or key.endswith("/") else key + "/", ""
    if key and not key.endswith("/"):
        last = key.rpartition("/")[2]
        return bucket, key.removesuffix(last), last
    return bucket, key, name
