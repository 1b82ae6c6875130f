"""What responses to S3 operations mean: what the store has, and when a 2xx proves nothing.

Functions of values; nothing here sends a request. Callers are the modules of operations, `listings` and `completion`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from .._values.entity_tags import EntityTag, parse_entity_tag
from ..errors import S3Error
from . import xml
from .checksums import Algorithm, Checksum
from .failures import described, s3_error
from .requests import Request, Response

T = TypeVar("T")

# Part of a message: why the store's checksum may differ from ours.
LIKELY_CAUSE = "a buffer that was lent by write(copy=False) or read by other views may have changed during the upload"
# Part of the message about a conditional write: its own earlier attempt may be why its condition failed.
UNCERTAIN = (
    "an earlier attempt of this write ended without a response, and the object may be that attempt's own: look at it "
    "before you go on"
)


class Stored(NamedTuple):
    """What the store reported about an object or part that it has. None: it did not say.

    Attributes:
        checksum: the value that the store reported, or that of the bytes sent.
        sent_twice: another attempt to send it was cut short; the store may still apply that one.
        confirmed: the store reported the same checksum as that of the bytes sent.
    """

    etag: EntityTag | None
    checksum: str | None
    version_id: str | None
    sent_twice: bool = False
    confirmed: bool = False

    @property
    def bare_etag(self) -> str | None:
        """The ETag for callers, without quotes."""
        return None if self.etag is None else str(self.etag)


def version_of(headers: Mapping[str, str]) -> str | None:
    """The version id, or None in a bucket without versions (for which some stores say ``null``).

    Fields that were sent twice arrive joined by a comma: equal ids count as one, different ones as none.
    """
    versions = {one.strip() for one in headers.get("x-amz-version-id", "").split(",")}
    version = versions.pop() if len(versions) == 1 else ""
    return None if version in ("", "null") else version


def parsed(request: Request, response: Response, parse: Callable[[bytes], T]) -> T:
    """The response's document.

    Raises:
        S3Error: it cannot be read; the code is ``MalformedResponse``.
    """
    try:
        return parse(response.body)
    except xml.MalformedResponse as error:
        why = why_unreadable(error, response)
        raise s3_error(request, response.status, "MalformedResponse", why, attempts=response.attempts) from error


def why_unreadable(error: xml.MalformedResponse, response: Response) -> str:
    """The parser's message. If something other than the store has responded, the beginning of its text is added."""
    words = described(response.headers, response.body) if isinstance(error, xml.ForeignDocument) else None
    return f"{error}; {words}" if words else str(error)


def unless_parsed(parse: Callable[[bytes], Any]) -> Callable[[Response], str | None]:
    """A check that says why a response's document cannot be read; None where it can."""

    def doubt(response: Response) -> str | None:
        try:
            parse(response.body)
        except xml.MalformedResponse as error:
            return why_unreadable(error, response)
        return None

    return doubt


def doubt_of_put(checksum: Checksum | None, *, body_only: bool = False) -> Callable[[Response], str | None]:
    """A check that says why a 2xx may not be the store's response to a PUT: it has neither an ETag nor the checksum."""

    def doubt(response: Response) -> str | None:
        headers = response.headers
        if parse_entity_tag(headers.get("etag")) is not None or (body_only and not response.body):
            return None
        if checksum is not None and checksum.algorithm.reported(headers.get(checksum.algorithm.header)) is not None:
            return None
        return "it has no ETag"

    return doubt


def blame_earlier_attempt(error: S3Error) -> None:
    """Adds to the refusal of a conditional write that an earlier attempt of its own may be the cause."""
    if error.uncertain:
        error.message = f"{error.message.rstrip('.')}; {UNCERTAIN}" if error.message else UNCERTAIN


def reported_checksum(headers: Mapping[str, str], algorithm: Algorithm | None) -> str | None:
    """The object's checksum in a response, of the kind that `Algorithm.of_parts` returns; None: not reported.

    A value that cannot be read counts as not reported.
    """
    if algorithm is None or headers.get("x-amz-checksum-type", algorithm.kind).upper() != algorithm.kind:
        return None
    return of_kind(algorithm, algorithm.reported(headers.get(algorithm.header)))


def of_kind(algorithm: Algorithm, value: str | None) -> str | None:
    """The value if it is of the algorithm's kind: a composite one ends in ``-N``, one of the whole object does not."""
    return value if value is not None and ("-" in value) is algorithm.composite else None
