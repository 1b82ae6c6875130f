"""Operations of multipart uploads: create, upload a part, complete, abort.

Each function builds a request, has `service` run it, and reads the response. It decides nothing about parts, retries or
threads. Callers are `upload`, `completion`, `aborting` and the public `uploads`.
Each function names its S3 API page by its operation:
https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .._net.addresses import Location, format_uri
from ..config import MultipartUploadConfig
from ..errors import NotFoundError, PreconditionFailedError, S3Error, TransportError
from . import xml
from .checksums import Algorithm, Checksum
from .object_operations import call_with_checksum, condition_headers, object_headers, stored_as_sent
from .requests import CancelScope, FailedAttempt, Request, Response
from .responses import (
    Stored,
    blame_earlier_attempt,
    doubt_of_put,
    parsed,
    unless_parsed,
    version_of,
    why_unreadable,
)
from .service import Service

log = logging.getLogger("s3dlio")


def create_upload(
    service: Service, location: Location, config: MultipartUploadConfig, algorithm: Algorithm | None
) -> str:
    """The id of a new upload; see `create_upload_of`."""
    return create_upload_of(service, location, object_headers(config), algorithm)


def create_upload_of(
    service: Service, location: Location, headers: Mapping[str, str], algorithm: Algorithm | None
) -> str:
    """The id of a new upload of an object with these headers.

    Never cancelled: without the response, an upload of unknown id is left at the store.
    """
    headers = {"content-type": "binary/octet-stream", **headers}
    if algorithm is not None:
        headers["x-amz-checksum-algorithm"] = algorithm.s3_name
        headers["x-amz-checksum-type"] = algorithm.kind
    request = Request("CreateMultipartUpload", "POST", *location, query=[("uploads", "")], headers=headers)
    request.doubt = unless_parsed(xml.parse_create_upload)
    unseen = 0
    try:
        response = call_with_checksum(service, request)
        unseen = response.uncertain
        return parsed(request, response, xml.parse_create_upload)
    except (S3Error, TransportError) as error:
        unseen = error.uncertain
        raise
    finally:
        if unseen:
            _warn_of_unknown_uploads(location, unseen)


def _warn_of_unknown_uploads(location: Location, count: int) -> None:
    """Uploads whose id is unknown are never aborted on a guess: they may belong to another writer."""
    uri = format_uri(*location)
    log.warning(
        "attempts at CreateMultipartUpload of %s that may have taken effect unseen: %d; as many uploads without parts "
        "may be left at the store, and list_uploads(%r) shows them",
        uri,
        count,
        uri,
    )


def upload_part(
    service: Service,
    location: Location,
    upload_id: str,
    number: int,
    body: Sequence[Any],
    checksum: Checksum | None,
    cancel: CancelScope,
) -> Stored:
    headers = {} if checksum is None else {checksum.algorithm.header: checksum.value}
    query = [("partNumber", str(number)), ("uploadId", upload_id)]
    request = Request(
        "UploadPart",
        "PUT",
        *location,
        query=query,
        headers=headers,
        body=body,
        upload_id=upload_id,
        part_number=number,
        doubt=doubt_of_put(checksum, body_only=True),
    )
    return stored_as_sent(service, request, call_with_checksum(service, request, cancel), checksum)


def complete_upload(
    service: Service,
    location: Location,
    upload_id: str,
    parts: Iterable[xml.CompletedPart],
    config: MultipartUploadConfig,
    checksum: Checksum | None,
    total: int,
    published: Callable[[FailedAttempt], bool],
    uncertain: int = 0,
) -> tuple[Stored, xml.CompleteResult] | None:
    """CompleteMultipartUpload, whose response may be an error with status 200; None where `published` returned True.

    Args:
        checksum: of the whole object; None sends neither a checksum nor its kind nor the size.
        published: called after an attempt of unknown outcome, before the next: whether the object was published.
        uncertain: how many attempts before this call may have taken effect.
    """
    headers = {**condition_headers(config), "content-type": "application/xml"}
    if checksum is not None:
        if not checksum.algorithm.composite:  # a composite value follows from those of the parts in the document
            headers[checksum.algorithm.header] = checksum.value
        headers["x-amz-checksum-type"] = checksum.algorithm.kind
        headers["x-amz-mp-object-size"] = str(total)

    def doubt(response: Response) -> str | None:
        try:
            result = xml.parse_complete(response.body)
        except xml.MalformedResponse as error:
            return why_unreadable(error, response)
        return "it has no ETag" if isinstance(result, xml.CompleteResult) and result.etag is None else None

    request = Request(
        "CompleteMultipartUpload",
        "POST",
        *location,
        query=[("uploadId", upload_id)],
        headers=headers,
        body=[xml.complete_document(parts)],
        error_in_body=True,
        check_applied=published,
        doubt=doubt,
        uncertain=uncertain,
        upload_id=upload_id,
    )
    try:
        response = call_with_checksum(service, request)
    except PreconditionFailedError as error:
        blame_earlier_attempt(error)
        raise
    if not response.was_received:
        return None
    result = parsed(request, response, xml.parse_complete)
    assert isinstance(result, xml.CompleteResult)  # an error would have been raised by the call
    return Stored(result.etag, None, version_of(response.headers)), result


def abort_upload(service: Service, location: Location, upload_id: str) -> None:
    """AbortMultipartUpload. An upload that no longer exists counts as aborted (MinIO responds with 204, others 404)."""
    request = Request("AbortMultipartUpload", "DELETE", *location, query=[("uploadId", upload_id)], upload_id=upload_id)
    try:
        service.call(request)
    except NotFoundError as error:
        if error.code == "NoSuchBucket":
            raise
