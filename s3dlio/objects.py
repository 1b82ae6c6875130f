"""Whole small objects and questions about objects: `put_bytes` and `stat`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from . import _operations
from ._client import ClientLike, service_of
from ._payload import flat_view
from ._upload_info import UploadInfo
from ._uri import format_uri, parse_uri
from .progress import Progress
from .writer import MultipartUploadWriter


@dataclass(frozen=True)
class ObjectInfo:
    """What the store says about an object.

    Attributes:
        uri: ``s3://bucket/key``.
        size: bytes.
        etag: without quotes.
        last_modified: aware datetime, or None where the store does not say.
        content_type: as stored, or None.
        metadata: user metadata, names in lower case.
        checksum: base64 of the full-object checksum, or None.
        storage_class: None means STANDARD.
        version_id: in a versioned bucket, else None.
    """

    uri: str
    size: int
    etag: str
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
        TypeError, ValueError: `data` is no contiguous buffer in host memory.
        S3Error, TransportError: the store refused or could not be reached.
    """
    view = flat_view(data)
    writer = MultipartUploadWriter.from_uri(uri, progress=progress, client=client, **options)
    with writer:
        writer.write(view, copy=False)
    return writer.close()


def stat(uri: str, *, version_id: str | None = None, client: ClientLike | None = None) -> ObjectInfo:
    """What the store says about an object (HeadObject).

    Raises:
        NotFoundError: there is no such object.
    """
    location = parse_uri(uri)
    headers = _operations.head_object(service_of(client), location, version_id=version_id)
    checksum = _operations.full_object_checksum(headers)
    modified = headers.get("last-modified")
    prefix = "x-amz-meta-"
    return ObjectInfo(
        uri=format_uri(*location),
        size=int(headers.get("content-length", "0")),
        etag=_operations.bare_etag(headers.get("etag")),
        last_modified=None if modified is None else parsedate_to_datetime(modified),
        content_type=headers.get("content-type"),
        metadata={name.removeprefix(prefix): text for name, text in headers.items() if name.startswith(prefix)},
        checksum=None if checksum is None else checksum.value,
        storage_class=headers.get("x-amz-storage-class"),
        version_id=_operations.version_of(headers),
    )
