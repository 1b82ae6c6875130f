"""Operations on objects: PutObject, GetObject, HeadObject and DeleteObject, one at a time or many in a series.

Each function builds a request, has `service` run it, and reads the response. It decides nothing about parts, retries or
threads. Callers are `upload`, `completion`, `batch`, `download` and the public `objects`.
Each function names its S3 API page by its operation:
https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from .._memory.destinations import Destination
from .._net.addresses import Location, format_uri
from .._runtime.kept_errors import without_traceback
from .._values.checks import check_version_id
from .._values.entity_tags import parse_entity_tag
from ..config import HEADER_FIELDS, MultipartUploadConfig
from ..errors import ChecksumMismatchError, InvalidRangeError, PreconditionFailedError, S3dlioError, S3Error
from .attempt import unfit_error
from .checksums import Checksum
from .endpoint_state import refuses_checksum
from .failures import Failed
from .get_response import (
    WHOLE,
    Asked,
    Promise,
    UnfitResponse,
    content_length,
    full_object_checksum,
    judge,
    version_in,
)
from .requests import Cancelled, CancelScope, FailedAttempt, Request, Response
from .responses import LIKELY_CAUSE, Stored, blame_earlier_attempt, doubt_of_put, reported_checksum, version_of
from .series import Room
from .service import Service

log = logging.getLogger("s3dlio")

# The codes with which stores refuse a body that does not match its checksum.
_MISMATCHES = frozenset({"BadDigest", "XAmzContentChecksumMismatch"})
# Part of a message: stores that accept a checksum in one request may refuse it in the next.
WITHOUT_CHECKSUM = "the store does not accept this checksum here, and checksum=None sends none"


def object_headers(config: MultipartUploadConfig) -> dict[str, str]:
    """The headers that describe a new object, for PutObject and CreateMultipartUpload."""
    headers = {header: getattr(config, name) for name, header in HEADER_FIELDS.items() if getattr(config, name)}
    for name, value in (config.metadata or {}).items():
        headers[f"x-amz-meta-{name.lower()}"] = value.strip()
    if config.tags:
        headers["x-amz-tagging"] = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in config.tags.items())
    return headers


def condition_headers(config: MultipartUploadConfig) -> dict[str, str]:
    """If-Match and If-None-Match, for PutObject and CompleteMultipartUpload."""
    if config.if_match is not None:
        return {"if-match": f'"{config.if_match}"'}
    return {} if config.if_none_match is None else {"if-none-match": config.if_none_match}


def _put_headers(config: MultipartUploadConfig) -> dict[str, str]:
    headers = {**object_headers(config), **condition_headers(config)}
    headers.setdefault("content-type", "binary/octet-stream")
    return headers


def _put_request(
    location: Location, body: Sequence[Any], headers: Mapping[str, str], checksum: Checksum | None
) -> Request:
    if checksum is not None:
        headers = {**headers, checksum.algorithm.header: checksum.value}
    return Request("PutObject", "PUT", *location, headers=headers, body=body)


def put_object(
    service: Service,
    location: Location,
    body: Sequence[Any],
    config: MultipartUploadConfig,
    checksum: Checksum | None,
    cancel: CancelScope | None = None,
    before: Failed | None = None,
    uncertain: int = 0,
) -> Stored:
    """PutObject. It may be retried whatever the outcome of an attempt was.

    A condition that fails after an attempt of unknown outcome proves nothing, because equal bytes do not show which
    writer wrote them; the error says so.

    Args:
        before: how the same request failed in `put_objects`.
        uncertain: how many attempts with another checksum may have taken effect.
    """
    found: list[Stored] = []

    def there(failed: FailedAttempt) -> bool:
        if not failed.unreadable or condition_headers(config):
            return False
        stored = _same_object(service, location, body, config, checksum, believed=not failed.body)
        found.extend([stored] if stored else [])
        return stored is not None

    request = _put_request(location, body, _put_headers(config), checksum)
    request.check_applied, request.doubt, request.uncertain = there, doubt_of_put(checksum), uncertain
    try:
        response = call_with_checksum(service, request, cancel, before)
    except PreconditionFailedError as error:
        blame_earlier_attempt(error)
        raise
    return stored_as_sent(service, request, response, checksum) if response.was_received else found[0]


def put_objects(
    service: Service,
    objects: Sequence[tuple[Location, Any, Checksum | None, MultipartUploadConfig]],
    cancel: CancelScope,
) -> tuple[list[Stored | Failed | Exception], Failed | None]:
    """PutObject of small objects in one bucket, one after the other on one connection.

    Returns:
        For the first objects, what the store has, or how its response was wrong (`Failed`: it could not be read, and
        `put_object` continues from there). And how the object after them failed, for `put_object`; None if not sent.
    """
    headers: dict[int, dict[str, str]] = {}
    requests = []
    for location, data, checksum, config in objects:
        if id(config) not in headers:  # most often one for all
            headers[id(config)] = _put_headers(config)
        requests.append(_put_request(location, [data], headers[id(config)], checksum))
    responses, rest = service.call_series(requests, cancel, lambda length, _: (bytearray(length), 0))
    if isinstance(rest, Response):
        responses.append(rest)
    stored: list[Stored | Failed | Exception] = []
    for request, response, (_, _, checksum, _) in zip(requests, responses, objects, strict=False):
        doubt = doubt_of_put(checksum)(response)
        try:
            stored.append(
                Failed.of_doubt(response, doubt) if doubt else stored_as_sent(service, request, response, checksum)
            )
        except S3dlioError as error:
            stored.append(without_traceback(error))
    return stored, rest if isinstance(rest, Failed) else None


def _same_object(
    service: Service,
    location: Location,
    body: Sequence[Any],
    config: MultipartUploadConfig,
    checksum: Checksum | None,
    believed: bool,
) -> Stored | None:
    """What the store has, if it is what was to be written: the same size, description, and checksum or MD5.

    Args:
        believed: the response to the PUT had the right form; then it is enough that the store reports nothing else.
    """
    try:
        headers = head_object(service, location)
    except S3dlioError:
        return None
    size = content_length(headers)
    if size != sum(memoryview(segment).nbytes for segment in body) or not described_as(headers, config):
        return None
    etag = parse_entity_tag(headers.get("etag"))
    reported = None if checksum is None else reported_checksum(headers, checksum.algorithm.of_kind(False))
    if checksum is not None and reported is not None:
        equal = reported == checksum.value
        return Stored(etag, reported, version_of(headers), confirmed=True) if equal else None
    if etag is None:
        return Stored(None, None, version_of(headers)) if believed else None
    digest = hashlib.md5(usedforsecurity=False)
    for segment in body:
        digest.update(segment)
    return Stored(etag, None, version_of(headers)) if digest.hexdigest() == etag.opaque else None


def described_as(headers: Mapping[str, str], config: MultipartUploadConfig) -> bool:
    """Whether an object has the content type and the metadata that were sent, as far as the response says."""
    wanted = _put_headers(config)
    kind = headers.get("content-type", wanted["content-type"])
    metadata = {name: value for name, value in wanted.items() if name.startswith("x-amz-meta-")}
    return kind == wanted["content-type"] and all(headers.get(name) == value for name, value in metadata.items())


def call_with_checksum(
    service: Service, request: Request, cancel: CancelScope | None = None, before: Failed | None = None
) -> Response:
    """The response.

    Raises:
        ChecksumMismatchError: the store found that the body does not match its checksum.
        S3Error: it refused; the message says so if the reason is that it does not support the checksum.
    """
    try:
        return service.call(request, cancel, before=before)
    except S3Error as error:
        if error.code in _MISMATCHES:
            raise ChecksumMismatchError(f"{error}; {LIKELY_CAUSE}") from error
        if refuses_checksum(error) and any(name.startswith("x-amz-checksum-") for name in request.headers):
            error.message = f"{(error.message or '').rstrip('.')}; {WITHOUT_CHECKSUM}"
        raise


def stored_as_sent(service: Service, request: Request, response: Response, sent: Checksum | None) -> Stored:
    """What the store has, by its response to a PUT. A checksum that it reports must be the one that was sent."""
    etag = parse_entity_tag(response.headers.get("etag"))
    reported = None if sent is None else sent.algorithm.reported(response.headers.get(sent.algorithm.header))
    if sent is not None and reported is not None and reported != sent.value:
        part, fate = f", part {request.part_number}", ""
        if request.part_number is None:
            location = Location(request.bucket or "", request.key)
            part, fate = "", "; " + withdraw(service, location, version_of(response.headers))
        raise ChecksumMismatchError(
            f"{request.operation} of s3://{request.bucket}/{request.key}{part}: the store computed "
            f"{sent.algorithm.s3_name} {reported}, {sent.value} was sent; {LIKELY_CAUSE}{fate}"
        )
    stored = Stored(etag, reported, version_of(response.headers), response.sent_twice, confirmed=reported is not None)
    return _named(service, request, stored) if etag is None and request.part_number is None else stored


def _named(service: Service, request: Request, stored: Stored) -> Stored:
    """`stored` with the ETag that a HEAD reports, if the checksum shows that it is of the same object."""
    location = Location(request.bucket or "", request.key)
    try:
        headers = head_object(service, location, version_id=stored.version_id)
    except S3dlioError:
        return stored
    checksum = full_object_checksum(headers)
    same = checksum is not None and checksum.value == stored.checksum
    return stored._replace(etag=parse_entity_tag(headers.get("etag"))) if same else stored


def withdraw(service: Service, location: Location, version_id: str | None) -> str:
    """Deletes a version that is not what was sent; returns what the error has to say about the object.

    Only a version that the response named, with another checksum of the whole object: without a version the key may be
    another writer's object by now, and nothing else proves that the version is wrong.
    """
    if version_id is None:
        return "it may be visible, because its bucket keeps no versions: write it again, or delete it"
    request = Request("DeleteObject", "DELETE", *location, query=_version(version_id))
    try:
        service.call(request)
    except S3dlioError as error:
        return f"its version {version_id} is visible, because it could not be deleted: {error}"
    return f"its version {version_id} was deleted again"


def get_object(
    service: Service,
    location: Location,
    *,
    asked: Asked = WHOLE,
    if_match: str | None = None,
    version_id: str | None = None,
    on_head: Callable[[Promise], Destination] | None = None,
    on_bytes: Callable[[int], None] | None = None,
    into: memoryview | None = None,
    cancel: CancelScope | None = None,
    before: Failed | None = None,
) -> Response:
    """GetObject: exactly the bytes that were asked for; `Response.promise` is what the head of the response said.

    `before` is how the same request failed in `get_objects`.

    Raises:
        S3Error: the store refused, or sent something else.
        ObjectChangedError: the bytes do not belong to the version in `asked`.
    """
    headers = {"x-amz-checksum-mode": "ENABLED"}
    if asked.ranged:
        headers["range"] = f"bytes={asked.offset}-" + (
            "" if asked.length is None else str(asked.offset + asked.length - 1)
        )
    if if_match is not None:
        headers["if-match"] = if_match
    request = Request(
        "GetObject",
        "GET",
        *location,
        query=_version(version_id),
        headers=headers,
        asked=asked,
        on_head=on_head,
        on_bytes=on_bytes,
        into=into,
    )
    return service.call(request, cancel, before=before)


def get_objects(
    service: Service, locations: Sequence[Location], room: Room, expected: int, cancel: CancelScope
) -> tuple[list[Response | Exception], Response | Failed | None]:
    """GetObject of small objects in one bucket, one after the other on one connection; see `Service.call_series`.

    Returns:
        The first responses, with an exception in place of each that is not what was asked for; and the next's outcome.
    """
    requests = [
        Request("GetObject", "GET", *location, headers={"x-amz-checksum-mode": "ENABLED"}, asked=WHOLE)
        for location in locations
    ]
    responses, rest = service.call_series(requests, cancel, room, expected)
    return [_judge(request, response) for request, response in zip(requests, responses, strict=False)], rest


def _judge(request: Request, response: Response) -> Response | Exception:
    try:
        response.promise = judge(WHOLE, response.status, response.headers)
    except UnfitResponse as error:
        return without_traceback(unfit_error(request, response.status, error))
    return response


def head_object(
    service: Service, location: Location, *, version_id: str | None = None, cancel: CancelScope | None = None
) -> Mapping[str, str]:
    """The object's headers, checksum included."""
    headers = {"x-amz-checksum-mode": "ENABLED"}
    request = Request("HeadObject", "HEAD", *location, query=_version(version_id), headers=headers)
    return service.call(request, cancel).headers


def head_with_size(
    service: Service, location: Location, *, version_id: str | None = None, cancel: CancelScope | None = None
) -> tuple[Mapping[str, str], int | None]:
    """The object's headers and its size in bytes.

    Where HeadObject does not report the size, a GetObject of the first byte is tried. The size is None where that does
    not report it either, or is of another version.
    """
    headers = head_object(service, location, version_id=version_id, cancel=cancel)
    size = content_length(headers)
    if size is not None:
        return headers, size
    version = version_in(headers, None)
    if_match = version.tag.if_match if version.tag is not None else None
    known = version if version.tag is not None or version.modified is not None else None
    asked = Asked(0, 1, ranged=True, version=known, guarded=if_match is not None)
    try:
        get_object(
            service, location, asked=asked, if_match=if_match, version_id=version_id, on_head=_stop_at_head,
            cancel=cancel,
        )  # fmt: skip
    except _Seen as seen:
        return headers, seen.total
    except InvalidRangeError as error:  # an empty object has no first byte
        return headers, error.object_size
    except Cancelled:
        raise
    except S3dlioError as error:
        log.info("the size of %s stays unknown: %s", format_uri(*location), error)
    return headers, None


class _Seen(Exception):
    """The head said what was needed; the body is not received."""

    def __init__(self, total: int | None) -> None:
        super().__init__()
        self.total = total


def _stop_at_head(promise: Promise) -> Destination:
    raise _Seen(promise.total)


def _version(version_id: str | None) -> list[tuple[str, str]]:
    return [] if version_id is None else [("versionId", check_version_id(version_id))]
