"""One function per S3 operation: builds the request, has `service` run it, and reads the answer.

It decides nothing about parts, retries or threads. Callers are `upload`, `reader` and `objects`.
Each function names its S3 API page by its operation:
https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from .._net.addresses import Location, format_uri
from .._runtime.kept_errors import without_traceback
from .._values.entity_tags import EntityTag, parse_entity_tag
from ..config import HEADER_FIELDS, MultipartUploadConfig
from ..errors import (
    ChecksumMismatchError,
    InvalidRangeError,
    NotFoundError,
    PreconditionFailedError,
    S3dlioError,
    S3Error,
    TransportError,
)
from . import xml
from .checksums import Algorithm
from .checksums import Checksum as Checksum
from .endpoint_state import refuses_checksum
from .failures import Failed, described, s3_error
from .get_response import (
    WHOLE,
    Asked,
    Promise,
    UnfitResponse,
    content_length,
    full_object_checksum,
    judge,
    version_told,
)
from .requests import Cancelled, CancelScope, FailedAttempt, Request, Response
from .sending import unfit_error
from .series import Room
from .service import Service

log = logging.getLogger("s3dlio")

T = TypeVar("T")


class Stored(NamedTuple):
    """What the store answered about an object or part that it has, and None for what it did not say.

    `checksum` is its own value, or that of the bytes sent, which `confirmed` tells to be the same; `sent_twice`: it may
    take the part in once more.
    """

    etag: EntityTag | None
    checksum: str | None
    version_id: str | None
    sent_twice: bool = False
    confirmed: bool = False

    @property
    def bare_etag(self) -> str | None:
        """The ETag as callers get it, without quotes."""
        return None if self.etag is None else str(self.etag)


# What stores call a body that has not the checksum which came with it.
_MISMATCHES = frozenset({"BadDigest", "XAmzContentChecksumMismatch"})
LIKELY_CAUSE = "a buffer that was lent by write(copy=False) or read by other views may have changed on its way"
# Stores that take a checksum in one request may refuse it in the next.
WITHOUT_CHECKSUM = "the store does not take this checksum here, and checksum=None sends none"
# What an error says of a conditional write whose own earlier attempt may be what made its condition fail.
UNCERTAIN = (
    "an earlier attempt of this write ended without a response, and the object may be that attempt's own: look at it "
    "before you go on"
)


def bare_etag(etag: str | None) -> str:
    """The ETag without quotes."""
    return (etag or "").strip().removeprefix('"').removesuffix('"')


def version_of(headers: Mapping[str, str]) -> str | None:
    """The version id, or None in a bucket without versions (for which some stores say ``null``).

    A field that was sent twice arrives joined by a comma: equal ids count as one, different ones as none.
    """
    versions = {one.strip() for one in headers.get("x-amz-version-id", "").split(",")}
    version = versions.pop() if len(versions) == 1 else ""
    return None if version in ("", "null") else version


def size_of(headers: Mapping[str, str]) -> int | None:
    """Bytes of the object, by the answer to a HEAD; None where it does not say."""
    lengths = {one.strip() for one in headers.get("content-length", "").split(",")}
    length = lengths.pop() if len(lengths) == 1 else ""
    return int(length) if length.isascii() and length.isdecimal() else None


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
    """PutObject; `before` is how the same request failed as one of `put_objects`, and `uncertain` how many attempts
    with another checksum may have taken effect.

    It may be sent again whatever became of an attempt. But a condition that fails after one of unknown outcome proves
    nothing: equal bytes do not tell who wrote them, and the error says so.
    """
    found: list[Stored] = []

    def there(failed: FailedAttempt) -> bool:
        if not failed.unreadable or condition_headers(config):
            return False
        stored = _same_object(service, location, body, config, checksum, believed=not failed.body)
        found.extend([stored] if stored else [])
        return stored is not None

    request = _put_request(location, body, _put_headers(config), checksum)
    request.check_applied, request.doubt, request.uncertain = there, _doubt_of(checksum), uncertain
    try:
        response = _call_with_checksum(service, request, cancel, before)
    except PreconditionFailedError as error:
        _tell_uncertain(error)
        raise
    return _stored(service, request, response, checksum) if response.was_received else found[0]


def _tell_uncertain(error: S3Error) -> None:
    """Has the refusal of a conditional write say that an earlier attempt of its own may be the cause."""
    if error.uncertain:
        error.message = f"{error.message.rstrip('.')}; {UNCERTAIN}" if error.message else UNCERTAIN


def _doubt_of(checksum: Checksum | None, *, body_only: bool = False) -> Callable[[Response], str | None]:
    """Tells why a 2xx is not known to be the store's answer to a PUT: it has neither an ETag nor the checksum."""

    def doubt(response: Response) -> str | None:
        headers = response.headers
        if parse_entity_tag(headers.get("etag")) is not None or (body_only and not response.body):
            return None
        if checksum is not None and checksum.algorithm.told(headers.get(checksum.algorithm.header)) is not None:
            return None
        return "it names no ETag"

    return doubt


def _call_with_checksum(
    service: Service, request: Request, cancel: CancelScope | None = None, before: Failed | None = None
) -> Response:
    """The answer; a body that the store refuses for its checksum is told as what it is, and so is a checksum that it
    does not know."""
    try:
        return service.call(request, cancel, before=before)
    except S3Error as error:
        if error.code in _MISMATCHES:
            raise ChecksumMismatchError(f"{error}; {LIKELY_CAUSE}") from error
        if refuses_checksum(error) and any(name.startswith("x-amz-checksum-") for name in request.headers):
            error.message = f"{(error.message or '').rstrip('.')}; {WITHOUT_CHECKSUM}"
        raise


def withdraw(service: Service, location: Location, version_id: str | None) -> str:
    """Deletes a version that is not what was sent; returns what the error has to say of the object.

    Only a version that the answer named, and of which it told another checksum of the whole object: what stands under
    the bare key may be another writer's by now, and nothing else proves that the version is wrong.
    """
    if version_id is None:
        return "it may be visible, for its bucket keeps no versions: write it again, or delete it"
    request = Request("DeleteObject", "DELETE", *location, query=_version(version_id))
    try:
        service.call(request)
    except S3dlioError as error:
        return f"its version {version_id} is visible, for it could not be deleted: {error}"
    return f"its version {version_id} was deleted again"


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


def put_objects(
    service: Service,
    objects: Sequence[tuple[Location, Any, Checksum | None]],
    config: MultipartUploadConfig,
    cancel: CancelScope,
) -> tuple[list[Stored | Failed | Exception], Failed | None]:
    """PutObject of small objects (location, bytes, checksum) of one bucket, one after the other on one connection.

    Returns:
        What the store has of the first ones, or how its answer was wrong (`Failed`: it could not be read, and
        `put_object` goes on from there); and how the one after them failed, as `put_object` takes it; None where it was
        not sent.
    """
    headers = _put_headers(config)
    requests = [_put_request(location, [data], headers, checksum) for location, data, checksum in objects]
    responses, rest = service.call_series(requests, cancel, lambda length, _: (bytearray(length), 0))
    if isinstance(rest, Response):
        responses.append(rest)
    stored: list[Stored | Failed | Exception] = []
    for request, response, (_, _, checksum) in zip(requests, responses, objects, strict=False):
        doubt = _doubt_of(checksum)(response)
        try:
            stored.append(Failed.of_doubt(response, doubt) if doubt else _stored(service, request, response, checksum))
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
    """What the store has, if that is what was to be written: the same size, description, and checksum or MD5.

    Args:
        believed: the answer to the PUT was of the right form; then it is enough that the store tells nothing else.
    """
    try:
        headers = head_object(service, location)
    except S3dlioError:
        return None
    size = size_of(headers)
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
    """Whether an object has the content type and the metadata that it was to be given, as far as the answer tells."""
    wanted = _put_headers(config)
    kind = headers.get("content-type", wanted["content-type"])
    metadata = {name: value for name, value in wanted.items() if name.startswith("x-amz-meta-")}
    return kind == wanted["content-type"] and all(headers.get(name) == value for name, value in metadata.items())


def create_upload(
    service: Service, location: Location, config: MultipartUploadConfig, algorithm: Algorithm | None
) -> str:
    """The new upload's id. Never cancelled: an answer that is not awaited leaves an upload nobody knows."""
    headers = object_headers(config)
    headers.setdefault("content-type", "binary/octet-stream")
    if algorithm is not None:
        headers["x-amz-checksum-algorithm"] = algorithm.s3_name
        headers["x-amz-checksum-type"] = algorithm.kind
    request = Request("CreateMultipartUpload", "POST", *location, query=[("uploads", "")], headers=headers)
    request.doubt = _unless_parsed(xml.parse_create_upload)
    unseen = 0
    try:
        response = _call_with_checksum(service, request)
        unseen = response.uncertain
        return parsed(request, response, xml.parse_create_upload)
    except (S3Error, TransportError) as error:
        unseen = error.uncertain
        raise
    finally:
        if unseen:
            _warn_of_unknown_uploads(location, unseen)


def _warn_of_unknown_uploads(location: Location, count: int) -> None:
    """An upload whose id nobody knows is never aborted by guess: it may be another writer's."""
    uri = format_uri(*location)
    log.warning(
        "attempts at CreateMultipartUpload of %s that may have taken effect unseen: %d; as many uploads without parts "
        "may be left on the store, and list_uploads(%r) shows them",
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
        doubt=_doubt_of(checksum, body_only=True),
    )
    return _stored(service, request, _call_with_checksum(service, request, cancel), checksum)


def _stored(service: Service, request: Request, response: Response, sent: Checksum | None) -> Stored:
    """Checks the store's echo: it has to name our checksum where it names one."""
    etag = parse_entity_tag(response.headers.get("etag"))
    echoed = None if sent is None else sent.algorithm.told(response.headers.get(sent.algorithm.header))
    if sent is not None and echoed is not None and echoed != sent.value:
        part, fate = f", part {request.part_number}", ""
        if request.part_number is None:
            location = Location(request.bucket or "", request.key)
            part, fate = "", "; " + withdraw(service, location, version_of(response.headers))
        raise ChecksumMismatchError(
            f"{request.operation} of s3://{request.bucket}/{request.key}{part}: the store computed "
            f"{sent.algorithm.s3_name} {echoed}, {sent.value} was sent; {LIKELY_CAUSE}{fate}"
        )
    stored = Stored(etag, echoed, version_of(response.headers), response.sent_twice, confirmed=echoed is not None)
    return _named(service, request, stored) if etag is None and request.part_number is None else stored


def _named(service: Service, request: Request, stored: Stored) -> Stored:
    """With the ETag that a HEAD names, if that is of the same object."""
    location = Location(request.bucket or "", request.key)
    try:
        headers = head_object(service, location, version_id=stored.version_id)
    except S3dlioError:
        return stored
    checksum = full_object_checksum(headers)
    same = checksum is not None and checksum.value == stored.checksum
    return stored._replace(etag=parse_entity_tag(headers.get("etag"))) if same else stored


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
    """Completes, and reads the answer that may be an error inside a 200; None where `published` said it was done.

    Args:
        checksum: of the whole object; None leaves it out, and its kind and size with it.
        published: asked before a Complete of unknown outcome is sent again or given up.
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
            return _why_unreadable(error, response)
        return "it names no ETag" if isinstance(result, xml.CompleteResult) and result.etag is None else None

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
        response = _call_with_checksum(service, request)
    except PreconditionFailedError as error:
        _tell_uncertain(error)
        raise
    if not response.was_received:
        return None
    result = parsed(request, response, xml.parse_complete)
    assert isinstance(result, xml.CompleteResult)  # an error would have been raised by the call
    return Stored(result.etag, None, version_of(response.headers)), result


def abort_upload(service: Service, location: Location, upload_id: str) -> None:
    """Aborts; an upload that is gone already counts as aborted (MinIO answers 204, others 404)."""
    request = Request("AbortMultipartUpload", "DELETE", *location, query=[("uploadId", upload_id)], upload_id=upload_id)
    try:
        service.call(request)
    except NotFoundError as error:
        if error.code == "NoSuchBucket":
            raise


def get_object(
    service: Service,
    location: Location,
    *,
    asked: Asked = WHOLE,
    if_match: str | None = None,
    version_id: str | None = None,
    on_head: Callable[[Promise], Any] | None = None,
    on_bytes: Callable[[int], None] | None = None,
    into: memoryview | None = None,
    cancel: CancelScope | None = None,
    before: Failed | None = None,
) -> Response:
    """GetObject: the bytes that were asked for, and no others; `Response.promise` is what the response told.

    `before` is how the same request failed as one of `get_objects`.

    Raises:
        S3Error: the store refused, or answered something else.
        ObjectChangedError: the bytes are not of the version that `asked` names.
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
    """GetObject of small objects of one bucket, one after the other on one connection; see `Service.call_series`.

    Returns:
        The first responses, an exception for one that is not what was asked for, and what came of the next.
    """
    requests = [
        Request("GetObject", "GET", *location, headers={"x-amz-checksum-mode": "ENABLED"}, asked=WHOLE)
        for location in locations
    ]
    responses, rest = service.call_series(requests, cancel, room, expected)
    return [_judged(request, response) for request, response in zip(requests, responses, strict=False)], rest


def _judged(request: Request, response: Response) -> Response | Exception:
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

    Where HeadObject does not tell the size, a GetObject of its first byte is asked for; None where that does not tell
    it either, or is of another version.
    """
    headers = head_object(service, location, version_id=version_id, cancel=cancel)
    size = content_length(headers)
    if size is not None:
        return headers, size
    version = version_told(headers, None)
    if_match = version.tag.if_match if version.tag is not None else None
    told = version if version.tag is not None or version.modified is not None else None
    asked = Asked(0, 1, ranged=True, version=told, guarded=if_match is not None)
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
    """The head told what was to be known; no body is wanted."""

    def __init__(self, total: int | None) -> None:
        super().__init__()
        self.total = total


def _stop_at_head(promise: Promise) -> None:
    raise _Seen(promise.total)


def parsed(request: Request, response: Response, parse: Callable[[bytes], T]) -> T:
    """The answer's document; one that cannot be read is an error of the store."""
    try:
        return parse(response.body)
    except xml.MalformedResponse as error:
        why = _why_unreadable(error, response)
        raise s3_error(request, response.status, "MalformedResponse", why, attempts=response.attempts) from error


def _why_unreadable(error: xml.MalformedResponse, response: Response) -> str:
    """With the first words of what another machine sent in the store's place."""
    words = described(response.headers, response.body) if isinstance(error, xml.ForeignDocument) else None
    return f"{error}; {words}" if words else str(error)


def _unless_parsed(parse: Callable[[bytes], Any]) -> Callable[[Response], str | None]:
    """Tells why an answer's document cannot be read."""

    def doubt(response: Response) -> str | None:
        try:
            parse(response.body)
        except xml.MalformedResponse as error:
            return _why_unreadable(error, response)
        return None

    return doubt


def _version(version_id: str | None) -> list[tuple[str, str]]:
    return [] if version_id is None else [("versionId", version_id)]


def reported_checksum(headers: Mapping[str, str], algorithm: Algorithm | None) -> str | None:
    """What a response reports of the object by this algorithm, of the kind that `Algorithm.of_parts` gives; or None.

    A value that cannot be read is unknown: it differs from nothing.
    """
    if algorithm is None or headers.get("x-amz-checksum-type", algorithm.kind).upper() != algorithm.kind:
        return None
    return of_kind(algorithm, algorithm.told(headers.get(algorithm.header)))


def of_kind(algorithm: Algorithm, value: str | None) -> str | None:
    """The value if it is of the algorithm's kind: a composite one ends in ``-N``, that of bytes in a row does not."""
    return value if value is not None and ("-" in value) is algorithm.composite else None
