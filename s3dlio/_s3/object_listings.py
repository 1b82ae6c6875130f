"""The pages of listings of objects and of versions, checked so that none is cut short and none is endless.

Callers are the public listings, `deletion` and `copying`. Where a page comes from on which thread is theirs to say.

Sources: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html and
https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

from .failures import s3_error
from .listing_documents import (
    BucketsPage,
    ObjectsPage,
    VersionsPage,
    parse_list_buckets,
    parse_list_objects,
    parse_list_versions,
)
from .requests import CancelScope, Request, Response
from .responses import parsed
from .service import Service

# Most keys of a page, in the store and here.
PAGE_SIZE = 1000
# Pages without an entry that may follow each other: a store may filter, but not for ever.
MOST_EMPTY = 1000


def list_objects(
    service: Service,
    bucket: str,
    prefix: str = "",
    *,
    delimiter: str = "",
    start_after: str = "",
    page_size: int = PAGE_SIZE,
    scope: CancelScope | None = None,
) -> Iterator[ObjectsPage]:
    """The objects whose keys begin with `prefix`, page by page.

    Raises:
        S3Error: the store refused; or a page leads nowhere, to a page that was there before, or holds what was not
            asked for (code ``MalformedResponse``).
    """
    fixed = [("encoding-type", "url"), ("list-type", "2"), ("max-keys", str(page_size))]
    fixed += [(name, text) for name, text in (("delimiter", delimiter), ("prefix", prefix)) if text]
    token: str | None = None
    seen: set[str] = set()
    last, empty = start_after, 0
    while True:
        at = [("start-after", start_after)] if token is None and start_after else []
        at += [] if token is None else [("continuation-token", token)]
        request = Request("ListObjectsV2", "GET", bucket, query=[*fixed, *at])
        response = service.call(request, scope)
        page = parsed(request, response, parse_list_objects)
        names = [*page.keys, *page.prefixes]
        if page.token not in (None, token):
            _refuse(request, response, "it is the page of another token")
        wrong = next((name for name in names if not name.startswith(prefix)), None)
        if wrong is not None:
            _refuse(request, response, f"it holds {wrong!r}, which does not begin with {prefix!r}")
        if token is None and page.keys and min(page.keys) <= start_after != "":
            _refuse(request, response, f"it holds {min(page.keys)!r}, which does not come after {start_after!r}")
        if names and max(names) <= last and last != start_after:
            _refuse(request, response, f"it begins again: {max(names)!r} comes after {last!r}")
        last, empty = max([last, *names]), 0 if names else empty + 1
        yield page
        if page.next_token is None:
            return
        if page.next_token in seen or empty > MOST_EMPTY:
            _refuse(request, response, "it leads to a page that was there before" if not empty else "it leads nowhere")
        token = page.next_token
        seen.add(token)


def list_versions(
    service: Service, bucket: str, prefix: str = "", *, scope: CancelScope | None = None
) -> Iterator[VersionsPage]:
    """The versions and delete markers of the objects whose keys begin with `prefix`, page by page.

    Raises:
        S3Error: as for `list_objects`.
    """
    fixed = [("encoding-type", "url"), ("max-keys", str(PAGE_SIZE)), ("versions", "")]
    fixed += [("prefix", prefix)] if prefix else []
    marker: tuple[str, str] | None = None
    seen: set[tuple[str, str]] = set()
    while True:
        at = [] if marker is None else [("key-marker", marker[0])]
        at += [("version-id-marker", marker[1])] if marker is not None and marker[1] else []
        request = Request("ListObjectVersions", "GET", bucket, query=[*fixed, *at])
        response = service.call(request, scope)
        page = parsed(request, response, parse_list_versions)
        wrong = next((one.key for one in page.versions if not one.key.startswith(prefix)), None)
        if wrong is not None:
            _refuse(request, response, f"it holds {wrong!r}, which does not begin with {prefix!r}")
        yield page
        if not page.is_truncated:
            return
        if page.next_key_marker is None:
            _refuse(request, response, "it says that more follows and names no next page")
        marker = (page.next_key_marker, page.next_version_marker or "")
        if marker in seen:
            _refuse(request, response, "it leads to a page that was there before")
        seen.add(marker)


def list_buckets(service: Service) -> Iterator[BucketsPage]:
    """The buckets that the credentials own, page by page."""
    token: str | None = None
    seen: set[str] = set()
    while True:
        query = [] if token is None else [("continuation-token", token)]
        request = Request("ListBuckets", "GET", None, query=query)
        response = service.call(request)
        page = parsed(request, response, parse_list_buckets)
        yield page
        token = page.next_token
        if token is None:
            return
        if token in seen:
            _refuse(request, response, "it leads to a page that was there before")
        seen.add(token)


def _refuse(request: Request, response: Response, why: str) -> NoReturn:
    raise s3_error(
        request,
        response.status,
        "MalformedResponse",
        f"a page of the listing cannot be used: {why}",
        attempts=response.attempts,
    )
