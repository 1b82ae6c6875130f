"""`upload` and `download`: local files and folders to a store and back.

Arguments are checked here, before any request, and sources become items. `_files` moves them; a file of more than one
part goes through the writer.
"""

import contextlib
import functools
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Unpack

from ._files import comparing, fetching, sending
from ._files.names import Claimed, Target, ignores_case, relative_parts
from ._files.running import Failure, Run, Tally, guarded
from ._files.sources import Source
from ._files.unfinished import UnfinishedUpload
from ._files.walking import LocalFile, Unreadable, walk
from ._net.addresses import Location, format_uri, parse_uri
from ._runtime.kept_errors import without_traceback
from ._s3.default import ClientLike, service_of
from ._s3.requests import CancelScope
from ._s3.selection import Selection, compile_glob, select
from ._transfer.budget import Budget
from ._values.checks import check_boolean, check_integer
from ._values.environment import state_folder
from .buckets import create_bucket as make_bucket
from .config import MIB, DownloadSettings, MultipartUploadConfig
from .errors import ConfigurationError, NotFoundError, OptionTypeError
from .listing import iter_objects
from .options import GetOptions, Path, PutManyOptions, UploadOptions, checks_names
from .progress import Progress
from .results import TransferResult, UploadInfo
from .writer import MultipartUploadWriter

# Payload memory of one call, in bytes: as many parts or ranges are in flight as fit.
MEMORY = 512 * MIB
# Objects of this size and more are fetched by ranges; smaller ones in series.
RANGES_FROM = 16 * MIB
_SPECIAL = re.compile(r"[*?\[]")


class _One(NamedTuple):
    """A single file and its object."""

    path: str
    location: Location


class _Tree(NamedTuple):
    """The files below a folder, or those of them that match, and the prefix of their objects."""

    root: str
    bucket: str
    prefix: str
    matches: Callable[[str], object] | None
    recursive: bool
    what: str


@checks_names(PutManyOptions, MultipartUploadConfig)
def upload(
    source: Path | Sequence[Path],
    uri: str,
    max_in_flight: int = 32,
    create_bucket: bool = False,
    *,
    skip_existing: bool = False,
    resume: bool = False,
    preserve_times: bool = False,
    follow_symlinks: bool = True,
    progress: Progress | None = None,
    client: ClientLike | None = None,
    **options: Unpack[PutManyOptions],
) -> TransferResult:
    """Uploads files: one, several, those that match a glob, or all below a folder.

    Files and parts of files are sent side by side, in a fixed amount of memory (512 MiB, or one part for each of
    `max_in_flight` where that is less).

    Args:
        source: a path, a glob, or a sequence of these. A folder stands for all files below it, a glob for the files
            that it matches (`*` and `?` stay in one folder, `**` does not).
        uri: the object of a single file; or, with a ``/`` at its end, the prefix. Files of a folder, a glob or a
            sequence lie below it in any case, under their path relative to the folder, or to the part of the glob
            before its first special character. Whether anything is there already makes no difference.
        max_in_flight: files, and parts of large files, being sent at once (1 to 1024).
        create_bucket: create the bucket, if it does not exist, first.
        skip_existing: leave out a file whose object has its size and its checksum (or MD5, where the ETag is one).
            What cannot be compared is sent.
        resume: what a failure, an interrupt or a kill leaves of a large upload stays on the store and is noted in
            ``S3DLIO_STATE_DIR``; the next call with `resume` continues it, if the file is still the same. Each stored
            part is compared with the file by its checksum.
        preserve_times: store each file's modification time in the metadata ``mtime``, as rclone does.
        follow_symlinks: send what links lead to; False leaves links out.
        progress: called with a `ProgressEvent` for each file, and each part of a large one: bytes and files so far.
        client: a `Client`; None for the default one, built from the environment.
        options: the fields of `MultipartUploadConfig` but `max_in_flight`, for all objects.

    Returns:
        What was transferred and what was skipped, as a `TransferResult`.

    Raises:
        FileNotFoundError: a path does not exist, or a glob matches no file; nothing is sent then.
        ConfigurationError, UnsupportedUriError: an argument cannot be used.
        ManyFailedError: some of several files could not be read or stored; all others were. It holds both.
        FileChangedError: the file was changed while it was being read; it is not stored.
        S3Error, TransportError: the store refused the one file, or could not be reached.

    Example:
        >>> from pathlib import Path
        >>> Path("data.bin").write_bytes(b"12345")
        5
        >>> result = s3dlio.upload("data.bin", "s3://my-bucket/copy.bin")
        >>> result.total_bytes, bytes(s3dlio.get("s3://my-bucket/copy.bin"))
        (5, b'12345')

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
    """
    limit = check_integer("max_in_flight", max_in_flight, 1, 1024, "files")
    for name, value in (
        ("create_bucket", create_bucket), ("skip_existing", skip_existing), ("resume", resume),
        ("preserve_times", preserve_times), ("follow_symlinks", follow_symlinks),
    ):  # fmt: skip
        check_boolean(name, value)
    config = MultipartUploadConfig(max_in_flight=limit, **options)
    target = parse_uri(uri, require_key=False)
    planned = [_planned(path, target, several=not _is_path(source)) for path in _paths(source)]
    service = service_of(client)
    if create_bucket:
        make_bucket(target.bucket, client=client)
    budget = Budget(limit, max(config.part_size, min(MEMORY, limit * config.part_size)))
    tally = Tally("upload", progress)
    large = LargeUploads(client, limit, budget, tally, resume, str(service.endpoint), options)
    settings = sending.Settings(config, follow_symlinks, preserve_times)
    work = sending.Sends(service, settings, budget, large.send)
    items = (item for one in planned for item in _sends(one, follow_symlinks))
    if skip_existing:
        items = (
            item._replace(is_there=functools.partial(comparing.object_is_there, service, item.location, item.path))
            if isinstance(item, sending.Send)
            else item
            for item in items
        )
    alone = len(planned) == 1 and isinstance(planned[0], _One)
    return Run(work, limit, tally).run(items, uri, alone)


def _is_path(source: Path | Sequence[Path]) -> bool:
    return isinstance(source, str | os.PathLike)


def _paths(source: Path | Sequence[Path]) -> list[str]:
    """The paths, as text."""
    if isinstance(source, str | os.PathLike):
        paths: Sequence[Path] = [source]
    elif isinstance(source, Sequence) and not isinstance(source, bytes | bytearray | memoryview):
        paths = source
    else:
        raise OptionTypeError(f"source={source!r} is no path, and no sequence of paths")
    texts = []
    for path in paths:
        text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
        if not isinstance(text, str) or not text:
            raise OptionTypeError(f"source {path!r} is not a path; give a str or a path object")
        texts.append(text)
    if not texts:
        raise ConfigurationError("source is an empty sequence; give at least one path")
    return texts


def _planned(path: str, target: Location, *, several: bool) -> _One | _Tree:
    """What a source stands for.

    Raises:
        FileNotFoundError: it does not exist.
        ConfigurationError: its object would have no name.
    """
    below = target.key if not target.key or target.key.endswith("/") else target.key + "/"
    special = _SPECIAL.search(path)
    if special is not None and not os.path.lexists(path):
        at = path.rfind("/", 0, special.start()) + 1
        glob = path[at:]
        root = path[:at] or "."
        if not os.path.isdir(root):
            raise FileNotFoundError(f"{root!r}, which the glob {path!r} begins with, is no folder")
        deep = "/" in glob or "**" in glob
        return _Tree(root, target.bucket, below, compile_glob(glob).fullmatch, deep, path)
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        return _Tree(path, target.bucket, below, None, True, path)
    into = several or target.key == "" or target.key.endswith("/")
    key = below + os.path.basename(path) if into else target.key
    return _One(path, parse_uri(format_uri(target.bucket, key)))


def _sends(planned: _One | _Tree, follow_symlinks: bool) -> Iterator[sending.Send | Failure]:
    if isinstance(planned, _One):
        status = os.stat(planned.path)
        size = status.st_size if stat.S_ISREG(status.st_mode) and status.st_size else None
        yield sending.Send(planned.path, planned.location, size)
        return
    uri = format_uri(planned.bucket, planned.prefix)
    found = False
    walked = walk(planned.root, follow_symlinks=follow_symlinks, recursive=planned.recursive)
    for one in guarded(walked, uri, planned.root):
        if isinstance(one, Failure):
            found = True
            yield one
        elif isinstance(one, Unreadable):
            found = True
            yield Failure(uri + one.name, one.path, without_traceback(one.error))
        elif planned.matches is None or planned.matches(one.name):
            found = True
            yield _send(planned, one)
    if planned.matches is not None and not found:
        yield Failure(uri, planned.root, FileNotFoundError(f"no file matches the glob {planned.what!r}"))


def _send(planned: _Tree, file: LocalFile) -> sending.Send | Failure:
    try:
        location = parse_uri(format_uri(planned.bucket, planned.prefix + file.name))
    except ValueError as error:  # too long for a key, for example
        return Failure(format_uri(planned.bucket, planned.prefix + file.name), file.path, without_traceback(error))
    return sending.Send(file.path, location, file.status.st_size or None)


class LargeUploads:
    """Sends files of more than one part, or of unknown size, through writers that share one budget."""

    def __init__(
        self,
        client: ClientLike | None,
        limit: int,
        budget: Budget,
        tally: Tally,
        resume: bool,
        endpoint: str,
        options: PutManyOptions,
    ) -> None:
        self._client = client
        self._limit = limit
        self._budget = budget
        self._tally = tally
        self._resume = resume
        self._endpoint = endpoint
        self._options = options

    def send(self, send: sending.Send, source: Source, config: MultipartUploadConfig, scope: CancelScope) -> UploadInfo:
        """Stores one file; cancelling the scope ends it at once."""
        note: UnfinishedUpload | None = None
        if self._resume and source.size is not None:
            note = UnfinishedUpload.claim(
                state_folder(), send.uri, self._endpoint, send.path, source.status, part_size=config.part_size
            )
        try:
            writer = self._writer(send, source, config, note)
            upload = _Cancellable(writer)
            scope.enter(upload)
            try:
                info = self._write(writer, source, note)
            except BaseException as error:
                upload.end(error)
                raise
            finally:
                scope.leave(upload)
            if note is not None:
                note.forget()
            return info
        finally:
            if note is not None:
                note.close()

    def _writer(
        self, send: sending.Send, source: Source, config: MultipartUploadConfig, note: UnfinishedUpload | None
    ) -> MultipartUploadWriter:
        options: UploadOptions = {**self._options, "metadata": config.metadata, "max_in_flight": self._limit}
        if source.size is not None:
            options["expected_size"] = source.size
        progress = self._tally.part if self._tally.wanted else None
        writer: MultipartUploadWriter | None = None
        if note is not None and note.upload_id is not None:
            with contextlib.suppress(NotFoundError):
                writer = MultipartUploadWriter._continue(
                    send.uri, note.upload_id, progress, self._client, options, compare=True
                )
        if writer is None:
            writer = MultipartUploadWriter.from_uri(send.uri, progress=progress, client=self._client, **options)
        writer._state.budget, writer._state.kept = self._budget, note is not None
        writer._intake.assembler.in_parts = True  # a part that is held back would keep its share of the budget
        return writer

    def _write(self, writer: MultipartUploadWriter, source: Source, note: UnfinishedUpload | None) -> UploadInfo:
        at = 0
        while source.size is None or at < source.size:
            room = writer.part_size if source.size is None else min(writer.part_size, source.size - at)
            with writer.reserve(room) as view:
                count = source.read_into(view, at)
            writer.commit(count)
            at += count
            if note is not None and writer.upload_id is not None:
                note.note(writer.upload_id)
            if count < room:
                break
        source.check_unchanged(at)
        return writer.close()


class _Cancellable:
    """An upload that a `CancelScope` can end."""

    # Seconds to wait for the cancelled parts; see `objects`.
    LONGEST_JOIN = 0.1

    def __init__(self, writer: MultipartUploadWriter) -> None:
        self._writer = writer
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True
        self._writer._abandon()

    def end(self, error: BaseException) -> None:
        """Ends the upload after an error, and leaves no part in flight."""
        if self._cancelled:
            self._writer._join(self.LONGEST_JOIN)
        else:
            self._writer._abort_after(error)


@checks_names(GetOptions)
def download(
    uri: str | Sequence[str],
    path: Path,
    max_in_flight: int = 64,
    recursive: bool = True,
    *,
    skip_existing: bool = False,
    resume: bool = False,
    preserve_times: bool = False,
    fsync: bool = True,
    progress: Progress | None = None,
    client: ClientLike | None = None,
    **options: Unpack[GetOptions],
) -> TransferResult:
    """Downloads objects into files: one, several, those that match a glob, or all below a prefix.

    A file has a temporary name, which begins with ``.s3dlio-``, until all its bytes are there and were compared with
    the store's checksum. Objects and ranges of objects are fetched side by side, in at most 512 MiB of memory.

    Args:
        uri: ``s3://bucket/key``, a prefix with a ``/`` at its end, a glob, or a sequence of these.
        path: the file of a single object; or the folder, if it ends in ``/`` or exists. What a prefix, a glob or a
            sequence selects lies below this folder in any case, under its key relative to the prefix, or to the last
            ``/`` before the glob's first special character.
        max_in_flight: objects, and ranges of large objects, being fetched at once (1 to 1024).
        recursive: False leaves out what lies below another ``/``.
        skip_existing: leave out an object whose file has its size and its checksum (or MD5, where the ETag is one).
        resume: finished ranges of a large object are noted in a side file, and what a failure, an interrupt or a kill
            leaves is continued by the next call with `resume`, if the object is still the same. The noted ranges are
            compared by their checksums.
        preserve_times: set each file's modification time: the metadata ``mtime``, or else Last-Modified.
        fsync: wait for the disk before a file gets its name. False is faster for many small files.
        progress: called with a `ProgressEvent` for each file, and each range of a large one: bytes and files so far.
        client: a `Client`; None for the default one, built from the environment.
        options: see `GetOptions`. Large objects are fetched by ranges unless `range_optimization` is False.

    Returns:
        What was transferred and what was skipped, as a `TransferResult`.

    Raises:
        ConfigurationError, UnsupportedUriError: an argument cannot be used.
        UnsafePathError: the key of the one object cannot become a file there.
        ManyFailedError: some of several objects could not be fetched or stored; all others were. It holds both.
        NotFoundError, ObjectChangedError, ChecksumMismatchError, S3Error, TransportError: as for `get`, of the one
            object.
        OSError: the one file could not be written.

    Example:
        >>> infos = s3dlio.put_many([("s3://my-bucket/outputs/a", b"first"), ("s3://my-bucket/outputs/b/c", b"second")])
        >>> result = s3dlio.download("s3://my-bucket/outputs/", "results/")
        >>> sorted((file.path, file.size) for file in result.transferred)
        [('results/a', 5), ('results/b/c', 6)]

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    """
    limit = check_integer("max_in_flight", max_in_flight, 1, 1024, "files")
    for name, value in (
        ("recursive", recursive), ("skip_existing", skip_existing), ("resume", resume),
        ("preserve_times", preserve_times), ("fsync", fsync),
    ):  # fmt: skip
        check_boolean(name, value)
    if not isinstance(path, str | os.PathLike) or not isinstance(text := os.fspath(path), str) or not text:
        raise OptionTypeError(f"path={path!r} is not a path; give a str or a path object")
    uris = [uri] if isinstance(uri, str) else list(uri)
    if not uris:
        raise ConfigurationError("uri is an empty sequence; give at least one URI")
    selections = [select(one) for one in uris]
    single = len(uris) == 1 and isinstance(uri, str) and selections[0].single
    target, file_name = _target(text, selections[0].prefix if single else None)
    service = service_of(client)
    ranges = DownloadSettings.resolve(
        True if options.get("range_optimization") is None else options.get("range_optimization"),
        options.get("range_threshold") or RANGES_FROM,
        options.get("range_concurrency") or limit,
        options.get("chunk_size"),
    )
    tally = Tally("download", progress)
    settings = fetching.Settings(
        ranges, service.verifies(options.get("verify")), preserve_times, resume, fsync,
        tally.part if tally.wanted else None,
    )  # fmt: skip
    claimed = Claimed() if not single and ignores_case_at(text) else None
    work = fetching.Fetches(service, target, settings, Budget(limit, MEMORY), claimed)
    items = (
        item
        for one, selection in zip(uris, selections, strict=True)
        for item in guarded(_fetches(one, selection, file_name, recursive, client), one, target.path)
    )
    if skip_existing:
        items = (
            item._replace(is_there=functools.partial(
                comparing.file_is_there, service, item.location, item.size, target.path_of(item.parts)
            ))
            if isinstance(item, fetching.Fetch) and item.parts[-1]
            else item
            for item in items
        )  # fmt: skip
    return Run(work, limit, tally).run(items, uris[0] if len(uris) == 1 else f"{len(uris)} URIs", single)


def _target(path: str, key: str | None) -> tuple[Target, str | None]:
    """The folder that files are stored below; and, where `key` is that of the one object, the name of its file."""
    if key is None:
        return Target(path), None
    if path.endswith("/") or os.path.isdir(path):
        return Target(path), key.rpartition("/")[2]
    folder, name = os.path.split(path)
    return Target(folder or "."), name


def ignores_case_at(path: str) -> bool:
    """Whether the target's file system takes ``a`` and ``A`` for one name, as the nearest existing folder shows."""
    folder = os.path.abspath(path)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return os.access(folder, os.W_OK) and ignores_case(folder)


def _fetches(
    uri: str, selection: Selection, name: str | None, recursive: bool, client: ClientLike | None
) -> Iterator[fetching.Fetch | Failure]:
    """The objects that a URI selects, with the files that they become."""
    if selection.single:
        location = Location(selection.bucket, selection.prefix)
        yield _fetch(location, name or selection.prefix.rpartition("/")[2], None)
        return
    start = selection.prefix.rfind("/") + 1
    for page in iter_objects(uri, recursive=recursive or bool(selection.glob), client=client).pages():
        for one in page.objects:
            bucket, key = parse_uri(one.uri)
            if key == selection.prefix:  # the marker of the folder itself
                continue
            yield _fetch(Location(bucket, key), key[start:], one.size)


def _fetch(location: Location, name: str, size: int | None) -> fetching.Fetch | Failure:
    uri = format_uri(*location)
    try:
        folder = name.endswith("/") and not size  # an empty object whose key ends in / stands for a folder
        parts = relative_parts(uri, name[:-1] if folder else name)
        return fetching.Fetch(location, [*parts, ""] if folder else parts, size)
    except ValueError as error:
        return Failure(uri, name, without_traceback(error))
