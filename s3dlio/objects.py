"""Whole objects: `put_bytes` and `put_many` store them, `stat` returns what the store reports about one.

Arguments are checked here, before any request; the writer and `batch` send the bytes.
"""

import contextlib
from collections.abc import Sequence
from typing import Any, Literal, Unpack, overload

from ._memory.pool import flat_view
from ._net.addresses import format_uri, parse_uri
from ._s3 import object_operations, responses
from ._s3.default import ClientLike, service_of
from ._s3.get_response import full_object_checksum
from ._s3.requests import CancelScope, operation_scope
from ._transfer.batch import Batch, Puts, put_whole
from ._values.checks import check_integer
from ._values.entity_tags import parse_entity_tag
from ._values.timestamps import parse_timestamp
from .config import MultipartUploadConfig
from .options import Buffer, OnError, PutManyOptions, UploadOptions, checks_names
from .progress import Progress
from .results import ObjectInfo, UploadInfo
from .writer import MultipartUploadWriter


@checks_names(UploadOptions, MultipartUploadConfig)
def put_bytes(
    uri: str,
    data: Buffer,
    *,
    progress: Progress | None = None,
    client: ClientLike | None = None,
    **options: Unpack[UploadOptions],
) -> UploadInfo:
    """Stores a buffer as one object, without copying it.

    An object that fits one part is sent by one PutObject; a larger one is sent in parallel parts.

    Args:
        uri: ``s3://bucket/key``.
        data: any C-contiguous buffer, of any format and shape; do not change it before the call returns.
        progress: called with a `ProgressEvent` for each stored part.
        client: a `Client`; None for the default one, built from the environment.
        options: the fields of `MultipartUploadConfig`.

    Returns:
        What the store has, as an `UploadInfo`.

    Raises:
        TypeError, ValueError: `data` is not a contiguous buffer in host memory, or its bytes are not its value
            (objects, pointers, masked arrays); the message names the remedy.
        ConfigurationError: an option is out of its range.
        PreconditionFailedError: `if_match` or `if_none_match` did not hold.
        S3Error, TransportError: the store refused, or could not be reached.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/greeting", b"hello, world", content_type="text/plain")
        >>> info.total_bytes, info.parts, info.checksum_algorithm
        (12, 1, 'crc64nvme')

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
    """
    view = flat_view(data)
    config = MultipartUploadConfig(**options)
    if progress is None and len(view) <= config.part_size:
        location = parse_uri(uri)
        try:
            return put_whole(service_of(client), location, view, config)
        finally:
            with contextlib.suppress(BufferError):  # an error's frames may outlive the call
                view.release()
    scope = operation_scope()
    upload = _Upload(MultipartUploadWriter.from_uri(uri, progress=progress, client=client, **options))
    scope.enter(upload)
    try:
        return upload.run(view)
    finally:
        scope.leave(upload)


@overload
def put_many(
    items: Sequence[tuple[str, Buffer]],
    *,
    max_in_flight: int = 64,
    on_error: Literal["raise"] = "raise",
    part_max_in_flight: int = 16,
    progress: Progress | None = None,
    client: ClientLike | None = None,
    **options: Unpack[PutManyOptions],
) -> list[UploadInfo]: ...


@overload
def put_many(
    items: Sequence[tuple[str, Buffer]],
    *,
    max_in_flight: int = 64,
    on_error: Literal["return"],
    part_max_in_flight: int = 16,
    progress: Progress | None = None,
    client: ClientLike | None = None,
    **options: Unpack[PutManyOptions],
) -> list[UploadInfo | Exception]: ...


@checks_names(PutManyOptions, MultipartUploadConfig)
def put_many(
    items: Sequence[tuple[str, Buffer]],
    *,
    max_in_flight: int = 64,
    on_error: OnError = "raise",
    part_max_in_flight: int = 16,
    progress: Progress | None = None,
    client: ClientLike | None = None,
    **options: Unpack[PutManyOptions],
) -> list[UploadInfo] | list[UploadInfo | Exception]:
    """Stores many objects at once, without copying them.

    An object that fits one part is sent by one PutObject; a larger one is sent in parallel parts. If a URI is given
    twice, the store may keep either object.

    Args:
        items: pairs of ``s3://bucket/key`` and any C-contiguous buffer; all are checked before any request. Do not
            change the buffers before the call returns.
        max_in_flight: objects being stored at once (1 to 1024).
        on_error: ``"raise"`` ends the call at the first error; ``"return"`` returns the exception in place of the info.
        part_max_in_flight: parts of one large object being sent at once (1 to 1024).
        progress: called with a `ProgressEvent` after each finished object.
        client: a `Client`; None for the default one, built from the environment.
        options: the other fields of `MultipartUploadConfig`, for all objects.

    Returns:
        An `UploadInfo` for each item, in the order given.

    Raises:
        TypeError, ValueError: an item is not a pair, or its data is not a contiguous buffer in host memory, or its
            bytes are not its value (objects, pointers, masked arrays).
        ConfigurationError: an option is out of its range.
        S3Error, TransportError: the store refused, or could not be reached; some objects may be stored.

    Example:
        >>> infos = s3dlio.put_many([("s3://my-bucket/a", b"first"), ("s3://my-bucket/b", b"second")])
        >>> [info.total_bytes for info in infos]
        [5, 6]

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
    """
    if on_error not in ("raise", "return"):
        raise ValueError(f"on_error={on_error!r}: expected 'raise' or 'return'")
    limit = check_integer("max_in_flight", max_in_flight, 1, 1024, "objects")
    check_integer("part_max_in_flight", part_max_in_flight, 1, 1024, "parts")
    config = MultipartUploadConfig(max_in_flight=part_max_in_flight, **options)
    pairs = [_pair(item, index) for index, item in enumerate(items)]
    locations = [parse_uri(uri) for uri, _ in pairs]
    views = [flat_view(data, f"items[{index}]") for index, (_, data) in enumerate(pairs)]

    def put_large(index: int, scope: CancelScope) -> UploadInfo:
        writer = MultipartUploadWriter.from_uri(
            pairs[index][0], client=client, max_in_flight=part_max_in_flight, **options
        )
        upload = _Upload(writer)
        scope.enter(upload)
        try:
            return upload.run(views[index])
        finally:
            scope.leave(upload)

    try:
        puts = Puts(service_of(client), locations, views, config, put_large)
        return Batch(puts, limit, on_error == "return", progress).run()
    finally:
        for view in views:  # an error's frames may outlive the call
            with contextlib.suppress(BufferError):
                view.release()


# Seconds to wait for the cancelled parts of an upload. They end immediately; only a CreateMultipartUpload in flight
# takes longer, and nothing reads the caller's memory after it.
LONGEST_JOIN = 0.1


class _Upload:
    """An upload in parts that a `CancelScope` can end."""

    def __init__(self, writer: MultipartUploadWriter) -> None:
        self._writer = writer
        self._cancelled = False

    def run(self, view: memoryview) -> UploadInfo:
        try:
            self._writer.write(view, copy=False)
            return self._writer.close()
        except BaseException as error:
            if self._cancelled:
                self._writer._join(LONGEST_JOIN)
            else:
                self._writer._abort_after(error)
            raise

    def cancel(self) -> None:
        self._cancelled = True
        self._writer._abandon()


def _pair(item: Any, index: int) -> tuple[str, Any]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise TypeError(f"items[{index}] is not a (uri, data) pair")
    return item[0], item[1]


@checks_names()
def stat(uri: str, *, version_id: str | None = None, client: ClientLike | None = None) -> ObjectInfo:
    """Returns what the store reports about an object. A value that is missing or unreadable is None.

    Args:
        uri: ``s3://bucket/key``.
        version_id: a version other than the current one.
        client: a `Client`; None for the default one, built from the environment.

    Raises:
        NotFoundError: there is no such object, bucket or version.
        S3Error, TransportError: the store refused, or could not be reached.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/greeting", b"hello", metadata={"language": "en"})
        >>> found = s3dlio.stat("s3://my-bucket/greeting")
        >>> found.size, found.etag == info.etag, found.metadata["language"]
        (5, True, 'en')

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
    """
    location = parse_uri(uri)
    headers, size = object_operations.head_with_size(service_of(client), location, version_id=version_id)
    checksum, tag = full_object_checksum(headers), parse_entity_tag(headers.get("etag"))
    prefix = "x-amz-meta-"
    return ObjectInfo(
        uri=format_uri(*location),
        size=size,
        etag=None if tag is None else str(tag),
        last_modified=parse_timestamp(headers.get("last-modified")),
        content_type=headers.get("content-type"),
        metadata={name.removeprefix(prefix): text for name, text in headers.items() if name.startswith(prefix)},
        checksum=None if checksum is None else checksum.value,
        checksum_algorithm=None if checksum is None else checksum.algorithm.name,
        storage_class=headers.get("x-amz-storage-class"),
        version_id=responses.version_of(headers),
    )
