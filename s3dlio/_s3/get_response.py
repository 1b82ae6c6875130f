"""Judges the head of a GetObject response against what was asked, before any of its bytes has a destination.

Pure: status and headers in, a `Promise` out, or `UnfitResponse`. How the body is framed (Content-Length, chunks, the
end of the connection) plays no part: every framing passes through here. What a head does not say is unknown, and never
replaced by a default. Callers are `attempt` and `object_operations`; `download` compares versions by `difference`.

Source: https://www.rfc-editor.org/rfc/rfc9110#section-14.4 and #section-15.3.7
"""

from __future__ import annotations

from typing import NamedTuple

from .._net.http import Headers
from .._values.entity_tags import EntityTag, parse_entity_tag
from .._values.timestamps import parse_timestamp
from .checksums import ALGORITHMS, Algorithm, Checksum
from .content_range import parse_content_range


class Version(NamedTuple):
    """What a response says about the object's version; None for what it does not say.

    Attributes:
        tag: the entity tag.
        modified: Last-Modified as written.
        total: bytes of the whole object.
    """

    tag: EntityTag | None = None
    modified: str | None = None
    total: int | None = None


class Asked(NamedTuple):
    """What a GetObject asks for.

    Attributes:
        offset: first byte.
        length: bytes in the Range header; None for "to the end".
        ranged: whether there is a Range header.
        most: bytes from `offset` on that are needed, from this and further responses; None for all.
        version: the version that the bytes must belong to; None for any.
        guarded: whether If-Match names that version, so that the store compares too.
    """

    offset: int = 0
    length: int | None = None
    ranged: bool = False
    most: int | None = None
    version: Version | None = None
    guarded: bool = False


WHOLE = Asked()


class UnfitResponse(Exception):
    """The response is not what was asked for.

    Attributes:
        code: for `S3Error.code`.
        passing: the head contradicts itself, as if damaged on its way: a retry may help.
    """

    code = "UnexpectedRange"

    def __init__(self, what: str, *, passing: bool = False) -> None:
        super().__init__(what)
        self.passing = passing


class RangeIgnored(UnfitResponse):
    """The store sent the whole object instead of a range."""

    code = "RangeIgnored"


class OtherStatus(UnfitResponse):
    """The response is neither 200 nor 206; no other 2xx status says that the body is the object (RFC 9110, 15.3)."""

    code = "UnexpectedStatus"


class Replaced(UnfitResponse):
    """The response belongs to another version, or nothing shows that it belongs to the same one."""


class Promise:
    """What the head of a response says about its body. Only `judge` makes these, of heads that fit.

    Attributes:
        offset: where in the object the body begins.
        length: bytes of the body; None if unknown.
        total: bytes of the object; None if unknown.
        delimited: whether the framing shows where the body ends; else it ends with the connection.
    """

    __slots__ = ("_headers", "_version", "delimited", "length", "offset", "total")

    def __init__(self, offset: int, length: int | None, total: int | None, delimited: bool, headers: Headers) -> None:
        self.offset = offset
        self.length = length
        self.total = total
        self.delimited = delimited
        self._headers = headers
        self._version: Version | None = None

    @property
    def headers(self) -> Headers:
        """The headers of the response."""
        return self._headers

    @property
    def version(self) -> Version:
        if self._version is None:
            self._version = version_in(self._headers, self.total)
        return self._version

    @property
    def checksum(self) -> Checksum | None:
        """The whole object's, if the head reports it."""
        return full_object_checksum(self._headers)

    @property
    def identified(self) -> bool:
        """Whether the head identifies its version.

        Last-Modified alone does so once it is a second old (RFC 9110, section 8.8.2.2).
        """
        version = self.version
        if version.tag is not None:
            return True
        modified, now = parse_timestamp(version.modified), parse_timestamp(self._headers.get("date"))
        return modified is not None and now is not None and (now - modified).total_seconds() >= 1


def judge(asked: Asked, status: int, headers: Headers) -> Promise:
    """What a 2xx response promises.

    Raises:
        UnfitResponse: it is not what was asked for, or contradicts itself.
    """
    coding = headers.get("transfer-encoding")
    if coding is not None and coding.strip().lower() != "chunked":
        raise UnfitResponse(f"Transfer-Encoding {coding!r}", passing=True)
    length = content_length(headers) if coding is None else None
    delimited = coding is not None or length is not None
    if status == 206:
        promise = _judge_range(asked, length, delimited, headers)
    elif status == 200:
        if asked.offset or (asked.most is not None and (length is None or length > asked.most)):
            raise RangeIgnored("the whole object instead of a range")
        promise = Promise(0, length, length, delimited, headers)
    else:
        raise OtherStatus(f"status {status} to a GET")
    if asked.version is not None:
        how = difference(asked.version, promise.version, asked.guarded)
        if how is not None:
            raise Replaced(how)
    return promise


def _judge_range(asked: Asked, length: int | None, delimited: bool, headers: Headers) -> Promise:
    text = single_value(headers.get("content-range")) or ""
    if not asked.ranged:
        raise UnfitResponse(f"a part of the object, Content-Range {text!r}, instead of the whole")
    try:
        first, last, total = parse_content_range(text)
    except ValueError:
        raise UnfitResponse(f"Content-Range {text!r}") from None
    reported = last - first + 1
    if first != asked.offset or (asked.length is not None and reported > asked.length):
        raise UnfitResponse(f"Content-Range {text!r}")
    if length is not None and length != reported:
        raise UnfitResponse(f"Content-Range {text!r} with a Content-Length of {length}", passing=True)
    if total is None and reported != asked.length:
        raise UnfitResponse(f"Content-Range {text!r}, which does not say where the object ends")
    return Promise(first, reported, total, delimited, headers)


def content_length(headers: Headers) -> int | None:
    """Content-Length; None if it is absent or not a number (RFC 9110, section 8.6). 18 digits hold every length."""
    text = single_value(headers.get("content-length"))
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 18 else None


def single_value(text: str | None) -> str | None:
    """The value of a field. If it was sent several times with the same value, that value; else the text unchanged."""
    if text is None or "," not in text:
        return text
    values = {part.strip() for part in text.split(",")}
    return values.pop() if len(values) == 1 else text


def version_in(headers: Headers, total: int | None) -> Version:
    """What a head says about the version; `total` is the object's size, if known."""
    return Version(parse_entity_tag(headers.get("etag")), headers.get("last-modified"), total)


def difference(known: Version, reported: Version, guarded: bool = False) -> str | None:
    """Why a response belongs to another version, or may do so; None if it belongs to the known one.

    Equal strong tags are proof. Weak ones are equal for equivalent content (RFC 9110, section 8.8.3.2), so that
    Last-Modified must agree too, if both report it. Without tags, Last-Modified must be reported and agree, unless the
    store itself has compared (`guarded`).
    """
    if None not in (known.total, reported.total) and known.total != reported.total:
        return f"it had {known.total} bytes and has {reported.total}"
    tagged = known.tag is not None and reported.tag is not None
    if known.tag is not None and reported.tag is not None:
        if known.tag.opaque != reported.tag.opaque:
            return f"its ETag was {known.tag} and is {reported.tag}"
        if not (known.tag.weak or reported.tag.weak):
            return None
    same = _same_moment(known.modified, reported.modified)
    if same is False:
        return f"its Last-Modified was {known.modified} and is {reported.modified}"
    if same is None and not tagged and not guarded:
        return "nothing in a response says which version it belongs to"
    return None


def _same_moment(one: str | None, other: str | None) -> bool | None:
    """Whether both are the same time; None if one is absent or unreadable."""
    if one == other and one:
        return True
    first, second = parse_timestamp(one), parse_timestamp(other)
    return None if first is None or second is None else first == second


def full_object_checksum(headers: Headers, algorithm: Algorithm | None = None) -> Checksum | None:
    """The checksum of the whole object that a head reports, by `algorithm` where that is given; else None.

    A composite one, of a multipart object's parts, ends in ``-N`` and says nothing about the bytes in a row. Neither
    does one of a type that S3 does not have. A value that is not base64 of its algorithm's width is unknown: nothing
    can be compared with it.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
    """
    if (single_value(headers.get("x-amz-checksum-type")) or "FULL_OBJECT") != "FULL_OBJECT":
        return None
    for one in ALGORITHMS.values() if algorithm is None else (algorithm,):
        value = one.reported(headers.get(one.header))
        if value is not None and "-" not in value:
            return Checksum(one, value)
    return None
