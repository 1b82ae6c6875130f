"""Whole objects and questions about them: `put_bytes`, `put_many` and `stat`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from ._memory.pool import flat_view
from ._net.addresses import format_uri, parse_uri
from ._s3 import operations
from ._s3.default import ClientLike, service_of
from ._s3.get_response import full_object_checksum
from ._s3.requests import CancelScope
from ._transfer.batch import Batch, Puts
from ._values.entity_tags import parse_entity_tag
from ._values.timestamps import parse_timestamp
from .config import check_integer
from .progress import Progress
from .results import UploadInfo
from .writer import MultipartUploadWriter, make_config


@dataclass(frozen=True)
class ObjectInfo:
    """What the store says about an object.

    Attributes:
        uri: ``s3://bucket/key``.
        size: bytes; None where neither HeadObject nor a GetObject of the first byte tells.
        etag: without quotes, a weak one with its ``W/``; None where the store tells none that can be read.
        last_modified: aware datetime in UTC, or None where the store does not say.
        content_type: as stored, or None.
        metadata: user metadata, names in lower case.
        checksum: base64 of the full-object checksum, or None.
        storage_class: None means STANDARD.
        version_id: in a versioned bucket, else None.
    """

    uri: str
    size: int | None
    etag: str | None
    last_modified: datetime | None
    content_type: str | None
    metadata: Mapping[str, str]
    checksum: str | None
    storage_class: str | None
    version_id: str | None


def put_bytes(
    uri: str, data: Any, *, progress: Progress | None = None, client: ClientLike | None = None, **options: Any
) -> UploadInfo:
    """Stores `data` (any C-contiguous buffer) as one object and returns what the store has.

    The options are the fields of `MultipartUploadConfig`; what fits one part is one PutObject, the rest
    goes up in parallel parts, without a copy in either case.

    Raises:
        TypeError, ValueError: `data` is no contiguous buffer in host memory, or its bytes are not its value (objects,
            pointers, masked arrays); the message names the remedy.
        S3Error, TransportError: the store refused or could not be reached.
    """
    view = flat_view(data)
    writer = MultipartUploadWriter.from_uri(uri, progress=progress, client=client, **options)
    with writer:
        writer.write(view, copy=False)
    return writer.close()


def put_many(
    items: Sequence[tuple[str, Any]],
    *,
    max_in_flight: int = 64,
    on_error: Literal["raise", "return"] = "raise",
    client: ClientLike | None = None,
    **options: Any,
) -> list[Any]:
    """Stores many objects: an `UploadInfo` for each (uri, data), in the order given.

    All data are borrowed until it returns. What fits one part is one PutObject, sent in series with others; the rest
    goes up in parallel parts. Where a URI stands twice, either of its data may be what the store has in the end.

    Args:
        items: ``s3://bucket/key`` and any C-contiguous buffer each; all are checked before any request.
        max_in_flight: objects being stored at once (1 to 1024).
        on_error: ``"raise"`` ends everything at the first error; ``"return"`` puts the exception in the info's place.
        options: the fields of `MultipartUploadConfig`, for all of them.

    Raises:
        TypeError, ValueError: an item is no pair, or its data no contiguous buffer in host memory, or not its value's
            bytes (objects, pointers, masked arrays).
        S3Error, TransportError: the store refused or could not be reached; objects before it may be stored.
    """
    if on_error not in ("raise", "return"):
        raise ValueError(f"on_error={on_error!r}: expected 'raise' or 'return'")
    limit = check_integer("max_in_flight", max_in_flight, 1, 1024, "objects")
    config = make_config(options)
    pairs = [_pair(item, index) for index, item in enumerate(items)]
    locations = [parse_uri(uri) for uri, _ in pairs]
    views = [flat_view(data, f"items[{index}]") for index, (_, data) in enumerate(pairs)]

    def put_large(index: int, scope: CancelScope) -> UploadInfo:
        upload = _Upload(MultipartUploadWriter.from_uri(pairs[index][0], client=client, **options))
        scope.enter(upload)
        try:
            return upload.run(views[index])
        finally:
            scope.leave(upload)

    try:
        return Batch(Puts(service_of(client), locations, views, config, put_large), limit, on_error == "return").run()
    finally:
        for view in views:  # an error's frames may outlive the call
            with contextlib.suppress(BufferError):
                view.release()


# Seconds that an upload's cancelled parts are waited for, which end at once: only a CreateMultipartUpload under way
# takes longer, and after that nothing reads the caller's memory any more.
LONGEST_JOIN = 0.1


class _Upload:
    """An upload in parts, as a `CancelScope` ends it."""

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
        raise TypeError(f"items[{index}] is no (uri, data) pair")
    return item[0], item[1]


def stat(uri: str, *, version_id: str | None = None, client: ClientLike | None = None) -> ObjectInfo:
    """What the store says about an object (HeadObject). What it does not say, or what cannot be read, is None.

    Raises:
        NotFoundError: there is no such object.
    """
    location = parse_uri(uri)
    headers, size = operations.head_with_size(service_of(client), location, version_id=version_id)
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
        storage_class=headers.get("x-amz-storage-class"),
        version_id=operations.version_of(headers),
    )
