"""The public `Client`: explicit settings, and every function of the package as a method.

It adds no behaviour of its own; each method calls its function with itself as `client`.
"""

import builtins
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

from . import (
    async_streams,
    buckets,
    copying,
    counting,
    deletion,
    files,
    listing,
    objects,
    presigning,
    reader,
    streams,
    syncing,
    uploads,
    versions,
)
from ._memory.bytes_view import BytesView
from ._s3.service import Service
from ._values.redaction import redacted
from .async_listing import AsyncObjectIterator, AsyncVersionIterator
from .async_streams import AsyncObjectChunks, AsyncObjectReader, AsyncObjectWriter, AsyncOpening
from .async_writer import AsyncMultipartUploadWriter
from .awaiting import twin, twin_of_iterator
from .buckets import BucketInfo
from .config import MIB, ClientSettings, MultipartUploadConfig, RetryPolicy, Timeouts
from .listing import ObjectIterator
from .options import (
    AddressingStyle,
    Buffer,
    Credentials,
    GetOptions,
    OnError,
    Path,
    PutManyOptions,
    UploadOptions,
    checks_names,
)
from .presigning import Method, PresignedUrl
from .progress import Progress
from .results import ClientStats, ObjectInfo, SyncResult, TransferResult, UploadInfo, UploadSummary
from .sink import MultipartUploadSink
from .streams import ObjectChunks, ObjectReader, ObjectWriter
from .versions import VersionIterator
from .writer import MultipartUploadWriter


class Client:
    """Settings of one store. A setting of None comes from the environment and botocore's chain.

    A pickle or copy holds the settings that were given, but no connections and nothing learned from the store. So
    credentials given as a tuple are in the pickle. Those from the environment, the shared files or a provider never
    are; the process that loads it looks them up.

    Args:
        endpoint_url: ``https://host[:port]``, or several of one store, also as ``http://10.0.0.{1...8}:9000``: requests
            are spread over those that answer. None for ``S3DLIO_ENDPOINTS``, ``AWS_ENDPOINT_URL_S3``,
            ``AWS_ENDPOINT_URL``, the profile, AWS.
        region: region to sign for.
        profile: profile of the shared files.
        credentials: (access key, secret key[, session token]), ``"anonymous"``, or None.
        addressing_style: ``"path"``, ``"virtual"``, or ``"auto"``: the profile's, else virtual at Amazon's endpoints.
        verify: False accepts any TLS certificate, with a warning.
        ca_bundle: PEM file, or directory of PEM files, with the authorities to trust; ``~`` is the home directory.
        max_connections: upper bound on connections to one host; None for no bound.
        checksum_fallback: where the store clearly refuses a checksum algorithm, use the next of crc64nvme, crc32c,
            crc32, none; False raises the refusal instead.
        timeouts: `Timeouts`, seconds without progress; None for the defaults.
        retries: `RetryPolicy`; None for the default with as many attempts as ``AWS_MAX_ATTEMPTS`` or the profile says.

    Raises:
        ConfigurationError: a value cannot be used; it is a TypeError too where the value has the wrong type.

    Example:
        >>> retries = s3dlio.RetryPolicy(max_attempts=3)
        >>> with s3dlio.Client(region="us-east-1", retries=retries) as client:
        ...     info = client.put_bytes("s3://my-bucket/key", b"content")
        ...     client.stat("s3://my-bucket/key").size
        7
    """

    @checks_names()
    def __init__(
        self,
        *,
        endpoint_url: str | Sequence[str] | None = None,
        region: str | None = None,
        profile: str | None = None,
        credentials: Credentials | None = None,
        addressing_style: AddressingStyle = "auto",
        verify: bool = True,
        ca_bundle: str | None = None,
        max_connections: int | None = None,
        checksum_fallback: bool = True,
        timeouts: Timeouts | None = None,
        retries: RetryPolicy | None = None,
    ) -> None:
        self._settings = ClientSettings(
            endpoint_url=endpoint_url,
            region=region,
            profile=profile,
            credentials=credentials,
            addressing_style=addressing_style,
            verify=verify,
            ca_bundle=ca_bundle,
            max_connections=max_connections,
            checksum_fallback=checksum_fallback,
            timeouts=Timeouts() if timeouts is None else timeouts,
            retries=retries,
        )
        self._service = Service(self._settings)

    def __getstate__(self) -> ClientSettings:
        return self._settings

    def __setstate__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._service = Service(settings)

    @property
    def service(self) -> Service:
        """Runs this client's requests (internal)."""
        return self._service

    def close(self) -> None:
        """Closes idle connections; the client stays usable."""
        self._service.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return redacted(f"Client(endpoint_url={self._settings.endpoint_url!r}, region={self._settings.region!r})")

    @checks_names(UploadOptions, MultipartUploadConfig)
    def writer(
        self, uri: str, *, progress: Progress | None = None, **options: Unpack[UploadOptions]
    ) -> MultipartUploadWriter:
        """Opens a `MultipartUploadWriter` of the object `uri`; see `MultipartUploadWriter.from_uri`."""
        return MultipartUploadWriter.from_uri(uri, progress=progress, client=self, **options)

    @checks_names()
    def sink(self, bucket: str, key: str, config: MultipartUploadConfig | None = None) -> MultipartUploadSink:
        """Opens a `MultipartUploadSink`."""
        return MultipartUploadSink(bucket, key, config, client=self)

    @checks_names(UploadOptions, MultipartUploadConfig)
    def resume(
        self, uri: str, upload_id: str, *, progress: Progress | None = None, **options: Unpack[UploadOptions]
    ) -> MultipartUploadWriter:
        """Continues an upload that another writer left on the store; see `MultipartUploadWriter.resume`."""
        return MultipartUploadWriter.resume(uri, upload_id, progress=progress, client=self, **options)

    @checks_names(GetOptions)
    def get(
        self,
        uri: str,
        *,
        version_id: str | None = None,
        progress: Progress | None = None,
        **options: Unpack[GetOptions],
    ) -> BytesView:
        """Fetches a whole object; see `s3dlio.get`."""
        return reader.get(uri, version_id=version_id, progress=progress, client=self, **options)

    @checks_names(GetOptions)
    def get_range(
        self,
        uri: str,
        offset: int,
        length: int | None = None,
        *,
        version_id: str | None = None,
        progress: Progress | None = None,
        **options: Unpack[GetOptions],
    ) -> BytesView:
        """Fetches the bytes [offset, offset + length) of an object; see `s3dlio.get_range`."""
        return reader.get_range(uri, offset, length, version_id=version_id, progress=progress, client=self, **options)

    @checks_names(GetOptions)
    def get_into(
        self,
        uri: str,
        buffer: Buffer,
        *,
        offset: int = 0,
        length: int | None = None,
        version_id: str | None = None,
        progress: Progress | None = None,
        **options: Unpack[GetOptions],
    ) -> int:
        """Fetches bytes of an object into the caller's memory; see `s3dlio.get_into`."""
        return reader.get_into(
            uri, buffer, offset=offset, length=length, version_id=version_id, progress=progress, client=self, **options
        )

    @overload
    def open(
        self,
        uri: str,
        mode: Literal["rb"] = "rb",
        *,
        version_id: str | None = None,
        read_ahead: int = 64 * MIB,
    ) -> ObjectReader: ...

    @overload
    def open(
        self,
        uri: str,
        mode: Literal["wb", "xb"],
        *,
        progress: Progress | None = None,
        **options: Unpack[UploadOptions],
    ) -> ObjectWriter: ...

    @checks_names(UploadOptions, MultipartUploadConfig)
    def open(
        self,
        uri: str,
        mode: Literal["rb", "wb", "xb"] = "rb",
        *,
        version_id: str | None = None,
        read_ahead: int = 64 * MIB,
        progress: Progress | None = None,
        **options: Unpack[UploadOptions],
    ) -> ObjectReader | ObjectWriter:
        """Opens an object as a binary file; see `s3dlio.open`."""
        opened: ObjectReader | ObjectWriter = streams.open(  # type: ignore[call-overload]
            uri, mode, version_id=version_id, read_ahead=read_ahead, progress=progress, client=self, **options
        )
        return opened

    @checks_names()
    def get_iter(
        self,
        uri: str,
        *,
        chunk_size: int = 8 * MIB,
        max_in_flight: int = 8,
        version_id: str | None = None,
        verify: bool | None = None,
        progress: Progress | None = None,
    ) -> ObjectChunks:
        """Fetches an object in order, chunk after chunk; see `s3dlio.get_iter`."""
        return streams.get_iter(
            uri, chunk_size=chunk_size, max_in_flight=max_in_flight, version_id=version_id, verify=verify,
            progress=progress, client=self,
        )  # fmt: skip

    @overload
    def get_many(
        self,
        uris: Sequence[str],
        *,
        max_in_flight: int = 64,
        on_error: Literal["raise"] = "raise",
        progress: Progress | None = None,
        **options: Unpack[GetOptions],
    ) -> builtins.list[tuple[str, BytesView]]: ...

    @overload
    def get_many(
        self,
        uris: Sequence[str],
        *,
        max_in_flight: int = 64,
        on_error: Literal["return"],
        progress: Progress | None = None,
        **options: Unpack[GetOptions],
    ) -> builtins.list[tuple[str, BytesView | Exception]]: ...

    @checks_names(GetOptions)
    def get_many(
        self,
        uris: Sequence[str],
        *,
        max_in_flight: int = 64,
        on_error: OnError = "raise",
        progress: Progress | None = None,
        **options: Unpack[GetOptions],
    ) -> builtins.list[tuple[str, BytesView]] | builtins.list[tuple[str, BytesView | Exception]]:
        """Fetches many objects at once; see `s3dlio.get_many`."""
        return reader.get_many(
            uris, max_in_flight=max_in_flight, on_error=on_error, progress=progress, client=self, **options
        )

    @checks_names(UploadOptions, MultipartUploadConfig)
    def put_bytes(
        self, uri: str, data: Buffer, *, progress: Progress | None = None, **options: Unpack[UploadOptions]
    ) -> UploadInfo:
        """Stores a buffer as one object; see `s3dlio.put_bytes`."""
        return objects.put_bytes(uri, data, progress=progress, client=self, **options)

    @overload
    def put_many(
        self,
        items: Sequence[tuple[str, Buffer]],
        *,
        max_in_flight: int = 64,
        on_error: Literal["raise"] = "raise",
        part_max_in_flight: int = 16,
        progress: Progress | None = None,
        **options: Unpack[PutManyOptions],
    ) -> builtins.list[UploadInfo]: ...

    @overload
    def put_many(
        self,
        items: Sequence[tuple[str, Buffer]],
        *,
        max_in_flight: int = 64,
        on_error: Literal["return"],
        part_max_in_flight: int = 16,
        progress: Progress | None = None,
        **options: Unpack[PutManyOptions],
    ) -> builtins.list[UploadInfo | Exception]: ...

    @checks_names(PutManyOptions, MultipartUploadConfig)
    def put_many(
        self,
        items: Sequence[tuple[str, Buffer]],
        *,
        max_in_flight: int = 64,
        on_error: OnError = "raise",
        part_max_in_flight: int = 16,
        progress: Progress | None = None,
        **options: Unpack[PutManyOptions],
    ) -> builtins.list[UploadInfo] | builtins.list[UploadInfo | Exception]:
        """Stores many objects at once; see `s3dlio.put_many`."""
        return objects.put_many(
            items,
            max_in_flight=max_in_flight,
            on_error=on_error,
            part_max_in_flight=part_max_in_flight,
            progress=progress,
            client=self,
            **options,
        )

    @checks_names()
    def stat(self, uri: str, *, version_id: str | None = None) -> ObjectInfo:
        """Returns what the store reports about an object; see `s3dlio.stat`."""
        return objects.stat(uri, version_id=version_id, client=self)

    @checks_names()
    def exists(self, uri: str, *, version_id: str | None = None) -> bool:
        """Whether there is an object under a URI; see `s3dlio.exists`."""
        return listing.exists(uri, version_id=version_id, client=self)

    @checks_names()
    def iter_objects(
        self, uri: str, *, recursive: bool = True, pattern: str | None = None, start_after: str | None = None
    ) -> ObjectIterator:
        """Iterates over the objects that a URI selects; see `s3dlio.iter_objects`."""
        return listing.iter_objects(uri, recursive=recursive, pattern=pattern, start_after=start_after, client=self)

    @checks_names()
    def list(self, uri: str, recursive: bool = False, pattern: str | None = None) -> builtins.list[str]:
        """Lists the URIs of the objects that a URI selects; see `s3dlio.list`."""
        return listing.list(uri, recursive, pattern, client=self)

    @checks_names()
    def copy(self, src: str, dst: str, *, source_version_id: str | None = None) -> UploadInfo:
        """Copies an object within the store; see `s3dlio.copy`."""
        return copying.copy(src, dst, source_version_id=source_version_id, client=self)

    @checks_names()
    def delete(self, uri: str | Sequence[str], *, recursive: bool = False, version_id: str | None = None) -> int:
        """Deletes the objects that a URI selects; see `s3dlio.delete`."""
        return deletion.delete(uri, recursive=recursive, version_id=version_id, client=self)

    @checks_names()
    def presign(
        self,
        uri: str,
        *,
        method: Method = "GET",
        expires: float | timedelta = 3600,
        version_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        response_headers: Mapping[str, str] | None = None,
    ) -> PresignedUrl:
        """Signs a request for one object, for callers without credentials; see `s3dlio.presign`."""
        return presigning.presign(
            uri, method=method, expires=expires, version_id=version_id, headers=headers,
            response_headers=response_headers, client=self,
        )  # fmt: skip

    @checks_names(PutManyOptions, MultipartUploadConfig)
    def upload(
        self,
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
        **options: Unpack[PutManyOptions],
    ) -> TransferResult:
        """Uploads files; see `s3dlio.upload`."""
        return files.upload(
            source, uri, max_in_flight, create_bucket, skip_existing=skip_existing, resume=resume,
            preserve_times=preserve_times, follow_symlinks=follow_symlinks, progress=progress, client=self, **options,
        )  # fmt: skip

    @checks_names(GetOptions)
    def download(
        self,
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
        **options: Unpack[GetOptions],
    ) -> TransferResult:
        """Downloads objects into files; see `s3dlio.download`."""
        return files.download(
            uri, path, max_in_flight, recursive, skip_existing=skip_existing, resume=resume,
            preserve_times=preserve_times, fsync=fsync, progress=progress, client=self, **options,
        )  # fmt: skip

    @checks_names(PutManyOptions, MultipartUploadConfig)
    def sync(
        self,
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
        **options: Unpack[PutManyOptions],
    ) -> SyncResult:
        """Makes a target like its source; see `s3dlio.sync`."""
        return syncing.sync(
            src, dst, delete=delete, max_delete=max_delete, exclude=exclude, include=include, filters=filters,
            size_only=size_only, checksum_always=checksum_always, allow_empty=allow_empty, dry_run=dry_run,
            resume=resume, follow_symlinks=follow_symlinks, fsync=fsync, max_in_flight=max_in_flight,
            progress=progress, client=self, **options,
        )  # fmt: skip

    @checks_names()
    def list_versions(self, uri: str) -> VersionIterator:
        """Iterates over the versions of the objects that a URI selects; see `s3dlio.list_versions`."""
        return versions.list_versions(uri, client=self)

    @checks_names()
    def delete_all_versions(self, uri: str) -> int:
        """Deletes all versions of the objects that a URI selects; see `s3dlio.delete_all_versions`."""
        return versions.delete_all_versions(uri, client=self)

    @checks_names()
    def create_bucket(self, name_or_uri: str) -> bool:
        """Creates a bucket in the client's region; see `s3dlio.create_bucket`."""
        return buckets.create_bucket(name_or_uri, client=self)

    @checks_names()
    def delete_bucket(self, name_or_uri: str) -> None:
        """Deletes an empty bucket; see `s3dlio.delete_bucket`."""
        buckets.delete_bucket(name_or_uri, client=self)

    @checks_names()
    def stats(self) -> ClientStats:
        """What this client has done so far, and what it holds; see `s3dlio.stats`."""
        return counting.stats(client=self)

    @checks_names()
    def list_buckets(self) -> builtins.list[BucketInfo]:
        """Lists the buckets that the credentials own; see `s3dlio.list_buckets`."""
        return buckets.list_buckets(client=self)

    @checks_names()
    def list_uploads(self, uri: str) -> builtins.list[UploadSummary]:
        """Lists the multipart uploads in progress; see `s3dlio.list_uploads`."""
        return uploads.list_uploads(uri, client=self)

    @checks_names()
    def abort_uploads(self, uri: str, *, older_than: timedelta | float) -> builtins.list[UploadSummary]:
        """Aborts old multipart uploads; see `s3dlio.abort_uploads`."""
        return uploads.abort_uploads(uri, older_than=older_than, client=self)

    # The asynchronous twins. A client is bound to no event loop either.
    get_async = twin(get)
    get_range_async = twin(get_range)
    get_into_async = twin(get_into)
    get_iter_async = twin_of_iterator(get_iter, AsyncObjectChunks)
    get_many_async = twin(get_many)
    put_bytes_async = twin(put_bytes)
    put_many_async = twin(put_many)
    stat_async = twin(stat)
    exists_async = twin(exists)
    iter_objects_async = twin_of_iterator(iter_objects, AsyncObjectIterator)
    list_async = twin(list)  # noqa: A003
    copy_async = twin(copy)
    delete_async = twin(delete)
    presign_async = twin(presign)
    upload_async = twin(upload)
    download_async = twin(download)
    sync_async = twin(sync)
    list_versions_async = twin_of_iterator(list_versions, AsyncVersionIterator)
    delete_all_versions_async = twin(delete_all_versions)
    create_bucket_async = twin(create_bucket)
    delete_bucket_async = twin(delete_bucket)
    list_buckets_async = twin(list_buckets)
    list_uploads_async = twin(list_uploads)
    abort_uploads_async = twin(abort_uploads)

    @checks_names(UploadOptions, MultipartUploadConfig)
    def writer_async(
        self, uri: str, *, progress: Progress | None = None, **options: Unpack[UploadOptions]
    ) -> AsyncMultipartUploadWriter:
        """Opens an `AsyncMultipartUploadWriter` of the object `uri`."""
        return AsyncMultipartUploadWriter.from_uri(uri, progress=progress, client=self, **options)

    @checks_names(UploadOptions, MultipartUploadConfig)
    async def resume_async(
        self, uri: str, upload_id: str, *, progress: Progress | None = None, **options: Unpack[UploadOptions]
    ) -> AsyncMultipartUploadWriter:
        """Continues an upload that another writer left on the store; see `AsyncMultipartUploadWriter.resume`."""
        return await AsyncMultipartUploadWriter.resume(uri, upload_id, progress=progress, client=self, **options)

    @overload
    def open_async(
        self,
        uri: str,
        mode: Literal["rb"] = "rb",
        *,
        version_id: str | None = None,
        read_ahead: int = 64 * MIB,
    ) -> AsyncOpening[AsyncObjectReader]: ...

    @overload
    def open_async(
        self,
        uri: str,
        mode: Literal["wb", "xb"],
        *,
        progress: Progress | None = None,
        **options: Unpack[UploadOptions],
    ) -> AsyncOpening[AsyncObjectWriter]: ...

    @checks_names(UploadOptions, MultipartUploadConfig)
    def open_async(
        self,
        uri: str,
        mode: Literal["rb", "wb", "xb"] = "rb",
        *,
        version_id: str | None = None,
        read_ahead: int = 64 * MIB,
        progress: Progress | None = None,
        **options: Unpack[UploadOptions],
    ) -> AsyncOpening[Any]:
        """The asynchronous twin of `open`; see `s3dlio.open_async`."""
        opened: AsyncOpening[Any] = async_streams.open_async(  # type: ignore[call-overload]
            uri, mode, version_id=version_id, read_ahead=read_ahead, progress=progress, client=self, **options
        )
        return opened
