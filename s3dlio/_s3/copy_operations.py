"""CopyObject and UploadPartCopy: the store copies, and no byte of the object comes here.

Every request names the source's ETag, so that all bytes are of one version. It decides nothing about parts or threads;
`copying` does.

Sources: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html,
https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html and
https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectTagging.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote

from .._net.addresses import Location, encode_key, format_uri
from .._values.entity_tags import EntityTag, parse_entity_tag
from ..errors import ObjectChangedError, PreconditionFailedError, S3Error
from . import xml
from .get_response import content_length
from .object_operations import head_object
from .requests import CancelScope, Request
from .responses import parsed, unless_parsed, version_of
from .service import Service

# Headers of an object that CreateMultipartUpload takes as they are; CopyObject copies all but the storage class.
_CARRIED = (
    "content-type", "cache-control", "content-encoding", "content-disposition", "content-language", "expires",
    "x-amz-storage-class", "x-amz-website-redirect-location",
)  # fmt: skip


class Source(NamedTuple):
    """The object to copy.

    Attributes:
        version_id: None for the current version.
        headers: of the HeadObject response.
        size: bytes.
        tag: None where the store reports none.
    """

    location: Location
    version_id: str | None
    headers: Mapping[str, str]
    size: int
    tag: EntityTag | None

    @property
    def copy_headers(self) -> dict[str, str]:
        """The headers that name the object, and the ETag that it must still have."""
        named = f"{self.location.bucket}/{encode_key(self.location.key)}"
        if self.version_id is not None:
            named += f"?versionId={quote(self.version_id, safe='')}"
        if_match = None if self.tag is None else self.tag.if_match
        headers = {"x-amz-copy-source": named}
        return headers if if_match is None else {**headers, "x-amz-copy-source-if-match": if_match}

    @property
    def carried_headers(self) -> dict[str, str]:
        """What describes the object, for CreateMultipartUpload."""
        carried = {name: self.headers[name] for name in _CARRIED if self.headers.get(name)}
        carried.update((name, self.headers[name]) for name in self.headers if name.startswith("x-amz-meta-"))
        return carried


class Copied(NamedTuple):
    """What the store made. `checksums` are by element name, as in its document."""

    tag: EntityTag | None
    checksums: Mapping[str, str]
    version_id: str | None


def find_source(service: Service, location: Location, version_id: str | None, scope: CancelScope) -> Source:
    """Asks for what the source is.

    Raises:
        NotFoundError: there is no such object.
        S3Error: the store refused, or does not report the size.
    """
    headers = head_object(service, location, version_id=version_id, cancel=scope)
    size = content_length(headers)
    if size is None:
        raise S3Error("HeadObject", *location, None, "MalformedResponse", "the response does not report the size")
    return Source(location, version_id, headers, size, parse_entity_tag(headers.get("etag")))


def read_tags(service: Service, source: Source, scope: CancelScope) -> str | None:
    """The source's tags as `x-amz-tagging` takes them; None for none."""
    if not (source.headers.get("x-amz-tagging-count") or "").strip("0 "):
        return None
    query = [("tagging", "")] + ([] if source.version_id is None else [("versionId", source.version_id)])
    request = Request("GetObjectTagging", "GET", *source.location, query=query)
    tags = parsed(request, service.call(request, scope), xml.parse_tagging)
    return "&".join(f"{quote(name, safe='')}={quote(text, safe='')}" for name, text in tags)


def copy_object(service: Service, source: Source, destination: Location, scope: CancelScope) -> Copied:
    """CopyObject, of up to 5 GiB. The response may be an error with status 200."""
    headers = source.copy_headers
    if source.headers.get("x-amz-storage-class"):
        headers["x-amz-storage-class"] = source.headers["x-amz-storage-class"]
    request = Request("CopyObject", "PUT", *destination, headers=headers)
    return _copied(service, source, request, scope)


def copy_part(
    service: Service,
    source: Source,
    destination: Location,
    upload_id: str,
    number: int,
    start: int,
    length: int,
    scope: CancelScope,
) -> Copied:
    """UploadPartCopy of `length` bytes from `start` on."""
    request = Request(
        "UploadPartCopy",
        "PUT",
        *destination,
        query=[("partNumber", str(number)), ("uploadId", upload_id)],
        headers={**source.copy_headers, "x-amz-copy-source-range": f"bytes={start}-{start + length - 1}"},
        upload_id=upload_id,
        part_number=number,
    )
    return _copied(service, source, request, scope)


def _copied(service: Service, source: Source, request: Request, scope: CancelScope) -> Copied:
    request.error_in_body, request.doubt = True, unless_parsed(xml.parse_copy)
    try:
        response = service.call(request, scope)
    except PreconditionFailedError as error:
        uri = format_uri(*source.location)
        raise ObjectChangedError(f"{uri} was replaced while it was being copied; copy it again ({error})") from error
    tag, checksums = parsed(request, response, xml.parse_copy)
    return Copied(tag, checksums, version_of(response.headers))
