"""Listings that come in pages: the parts of an upload, and the uploads of a bucket.

The store says where a listing ends, but every page must lead to a new one: a listing that is cut short is an error,
never a complete one. Callers are `completion`, `upload`, `writer` and `uploads`.

Sources: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html and
https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar

from .._net.addresses import Location
from .._values.timestamps import parse_timestamp
from ..config import MAX_PARTS
from . import xml
from .failures import s3_error
from .requests import Request
from .responses import parsed
from .service import Service

# Pages of up to 1,000 uploads each: far more than a bucket has, and a limit for a store that never ends.
MOST_PAGES = 10_000


class Page(Protocol):
    """What every page says."""

    @property
    def is_truncated(self) -> bool: ...


P = TypeVar("P", bound=Page)
M = TypeVar("M", bound=Hashable)


class PartsListing(NamedTuple):
    """All parts the store has of an upload, by number, and what it says about the upload's checksums.

    `checksum_algorithm` and `checksum_type` are S3's own words; None if the store does not say, empty if it says that
    the upload has none.
    """

    parts: list[xml.ListedPart]
    checksum_algorithm: str | None
    checksum_type: str | None


class UploadsPage(NamedTuple):
    """Uploads in progress, and the store's time when it listed them; None if it does not say."""

    uploads: list[xml.ListedUpload]
    date: datetime | None


def list_parts(service: Service, location: Location, upload_id: str) -> PartsListing:
    """All parts the store has of an upload.

    Raises:
        S3Error: the store refused, or its pages do not lead on.
    """

    def ask(marker: int | None) -> Request:
        query = [("part-number-marker", str(marker or 0)), ("uploadId", upload_id)]
        return Request("ListParts", "GET", *location, query=query, upload_id=upload_id)

    def following(page: xml.PartsPage, marker: int | None) -> list[int]:
        # By part number: some stores send a marker of 0, or none.
        last = max((part.number for part in page.parts), default=page.next_marker or 0)
        return [last] if last > (marker or 0) else []

    parts: dict[int, xml.ListedPart] = {}
    algorithm = kind = None
    for page, _ in _pages(service, ask, xml.parse_list_parts, following, MAX_PARTS):
        parts.update((part.number, part) for part in page.parts)
        algorithm = algorithm or page.checksum_algorithm
        kind = kind or page.checksum_type
    return PartsListing([parts[number] for number in sorted(parts)], algorithm, kind)


def upload_exists(service: Service, location: Location, upload_id: str) -> None:
    """Returns if the store has the upload, neither completed nor aborted.

    Raises:
        NotFoundError: it does not have it (code NoSuchUpload).
        S3Error, TransportError: it did not say.
    """
    query = [("max-parts", "1"), ("uploadId", upload_id)]
    request = Request("ListParts", "GET", *location, query=query, upload_id=upload_id)
    parsed(request, service.call(request), xml.parse_list_parts)


def list_uploads(service: Service, bucket: str, prefix: str = "") -> Iterator[UploadsPage]:
    """The multipart uploads in progress in a bucket, or those of keys that begin with `prefix`, page by page.

    Raises:
        S3Error: the store refused, or its pages do not lead on.
    """
    named = [("prefix", prefix)] if prefix else []
    known: set[tuple[str, str]] = set()

    def ask(marker: tuple[str, str | None] | None) -> Request:
        markers = [] if marker is None else [("key-marker", marker[0])]
        if marker is not None and marker[1]:
            markers.append(("upload-id-marker", marker[1]))
        query = [("encoding-type", "url"), *markers, *named, ("uploads", "")]
        return Request("ListMultipartUploads", "GET", bucket, query=query)

    def following(page: xml.UploadsPage, _: object) -> list[tuple[str, str | None]]:
        # Not every store lists in order of keys. A page leads on if it has an upload that no page before it had.
        new = [one for one in page.uploads if (one.key, one.upload_id) not in known]
        known.update((one.key, one.upload_id) for one in new)
        markers: list[tuple[str, str | None]] = []
        if page.next_key_marker is not None and (new or not page.uploads):
            markers.append((page.next_key_marker, page.next_upload_id_marker))
        return markers + [(one.key, one.upload_id) for one in new[-1:]]

    for page, date in _pages(service, ask, xml.parse_list_uploads, following, MOST_PAGES, prefix):
        yield UploadsPage(page.uploads, date)


def _pages(
    service: Service,
    ask: Callable[[M | None], Request],
    parse: Callable[[bytes], P],
    following: Callable[[P, M | None], Sequence[M]],
    most: int,
    prefix: str = "",
) -> Iterator[tuple[P, datetime | None]]:
    """The pages of a listing, each with the store's time.

    Args:
        ask: the request for the page after a marker; None for the first.
        following: the markers that may lead to the page after this one, the best first.
        most: the greatest number of pages.
        prefix: what the listing is of, for errors.
    """
    marker: M | None = None
    asked: set[M] = set()
    while True:
        request = ask(marker)
        response = service.call(request)
        page = parsed(request, response, parse)
        yield page, parse_timestamp(response.headers.get("date"))
        if not page.is_truncated:
            return
        marker = next((one for one in following(page, marker) if one not in asked), None)
        if marker is None or marker in asked or len(asked) + 1 >= most:
            raise s3_error(
                request,
                response.status,
                "MalformedResponse",
                f"page {len(asked) + 1} of the listing{f' of keys that begin with {prefix!r}' if prefix else ''} is "
                "not the last one by its own word, but leads to no new one",
                attempts=response.attempts,
            )
        asked.add(marker)
