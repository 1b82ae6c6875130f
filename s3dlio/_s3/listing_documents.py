"""Reads the documents that list objects, versions and buckets, as columns: a page has up to 1,000 entries.

The C parser of the standard library builds their trees, which takes a tenth of what callbacks in Python take. What it
could be attacked by (a DOCTYPE) and what could hide one (another encoding) is left to `xml`, which refuses it.

Documents: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html,
https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html and
https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListBuckets.html
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_plus

from .._values.timestamps import parse_timestamp
from .xml import MAX_DOCUMENT, ForeignDocument, MalformedResponse, libraries, parse_tree

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_OTHER_ENCODING = re.compile(rb"<\?xml[^>]*encoding\s*=\s*[\"'](?!utf-8[\"'])", re.IGNORECASE)
_TOO_LARGE = 1 << 63


class ObjectsPage(NamedTuple):
    """A page of ListObjectsV2, column by column.

    Attributes:
        keys, sizes, modified, etags, storage_classes: of each object; a time or an ETag as the store sent it.
        prefixes: common prefixes, where a delimiter was given.
        next_token: of the page that follows; None on the last one.
        token: of this page, as the store repeats it; None where it does not.
    """

    keys: list[str]
    sizes: list[int]
    modified: list[str | None]
    etags: list[str | None]
    storage_classes: list[str | None]
    prefixes: list[str]
    is_truncated: bool
    next_token: str | None
    token: str | None


class ListedVersion(NamedTuple):
    """A version, or a delete marker, which has no size and no ETag."""

    key: str
    version_id: str
    is_latest: bool
    is_delete_marker: bool
    size: int | None
    modified: str | None
    etag: str | None
    storage_class: str | None


class VersionsPage(NamedTuple):
    """A page of ListObjectVersions; the markers name the page that follows."""

    versions: list[ListedVersion]
    prefixes: list[str]
    is_truncated: bool
    next_key_marker: str | None
    next_version_marker: str | None


class ListedBucket(NamedTuple):
    name: str
    created: datetime | None


class BucketsPage(NamedTuple):
    """A page of ListBuckets."""

    buckets: list[ListedBucket]
    is_truncated: bool
    next_token: str | None


def parse_list_objects(data: bytes) -> ObjectsPage:
    """A page of ListObjectsV2; percent-encoded keys are decoded.

    Raises:
        MalformedResponse: it is no such page, or contradicts itself.
    """
    root, space = _tree(data, "ListBucketResult")
    decode = _decoder(root, space)
    key, size, modified = f"{space}Key", f"{space}Size", f"{space}LastModified"
    etag, storage_class = f"{space}ETag", f"{space}StorageClass"
    entries = [{child.tag: child.text for child in entry} for entry in root.findall(f"{space}Contents")]
    try:
        keys = [decode(entry[key] or "") for entry in entries]
        sizes = [int(entry[size] or "") for entry in entries]
    except KeyError as error:
        raise MalformedResponse(f"an entry of the listing lacks {error.args[0].removeprefix(space)}") from None
    except ValueError as error:
        raise MalformedResponse(f"an entry of the listing has a size that is no number ({error})") from None
    if not all(keys) or not all(0 <= one < _TOO_LARGE for one in sizes):
        raise MalformedResponse("an entry of the listing has no key, or a size that no object has")
    truncated, following = _is_truncated_page(root, space), _text(root, f"{space}NextContinuationToken")
    if truncated is (following is None):
        raise MalformedResponse(
            "the page says that more follows and names no next page"
            if truncated
            else "the page says that it is the last and names a next one"
        )
    return ObjectsPage(
        keys,
        sizes,
        [entry.get(modified) for entry in entries],
        [entry.get(etag) for entry in entries],
        [entry.get(storage_class) for entry in entries],
        _prefixes(root, space, decode),
        truncated,
        following,
        _text(root, f"{space}ContinuationToken"),
    )


def parse_list_versions(data: bytes) -> VersionsPage:
    """A page of ListObjectVersions, delete markers included, in the order of the store."""
    root, space = _tree(data, "ListVersionsResult")
    decode = _decoder(root, space)
    versions = []
    for entry in root:
        kind = entry.tag.removeprefix(space)
        if kind not in ("Version", "DeleteMarker"):
            continue
        fields = {child.tag.removeprefix(space): child.text for child in entry}
        key, version_id = fields.get("Key"), fields.get("VersionId")
        if not key or not version_id:
            raise MalformedResponse(f"a {kind} of the listing lacks its key or its VersionId")
        size = fields.get("Size") or ""
        if kind == "Version" and not size.isdecimal():
            raise MalformedResponse(f"a version of the listing has the size {size!r}")
        versions.append(
            ListedVersion(
                decode(key),
                version_id,
                (fields.get("IsLatest") or "").strip().lower() == "true",
                kind == "DeleteMarker",
                int(size) if kind == "Version" else None,
                fields.get("LastModified"),
                fields.get("ETag"),
                fields.get("StorageClass"),
            )
        )
    marker = _text(root, f"{space}NextKeyMarker")
    return VersionsPage(
        versions,
        _prefixes(root, space, decode),
        _is_truncated_page(root, space),
        None if marker is None else decode(marker),
        _text(root, f"{space}NextVersionIdMarker"),
    )


def parse_list_buckets(data: bytes) -> BucketsPage:
    """A page of ListBuckets."""
    root, space = _tree(data, "ListAllMyBucketsResult")
    buckets = []
    for entry in root.iterfind(f"{space}Buckets/{space}Bucket"):
        name = _text(entry, f"{space}Name")
        if name is None:
            raise MalformedResponse("a bucket of the listing lacks its Name")
        buckets.append(ListedBucket(name, parse_timestamp(_text(entry, f"{space}CreationDate"))))
    following = _text(root, f"{space}ContinuationToken")
    return BucketsPage(buckets, following is not None, following)


def _tree(data: bytes, expected: str) -> tuple[Element, str]:
    """The root element, and what stands before the local name of each tag: ``{namespace}`` or nothing."""
    data = data.lstrip(b" \t\r\n")
    if len(data) > MAX_DOCUMENT or b"<!DOCTYPE" in data or b"\0" in data or _OTHER_ENCODING.match(data):
        root, space = parse_tree(data), ""
    else:
        root = _parsed(data)
        space = root.tag[: root.tag.rfind("}") + 1]
    if root.tag != space + expected:
        raise ForeignDocument(f"the response is a {root.tag.removeprefix(space)!r} document; expected {expected}")
    return root, space


def _parsed(data: bytes) -> Element:
    trees = libraries()[1]
    parser = trees.XMLParser()
    try:
        parser.feed(data)
        root: Element = parser.close()
    except trees.ParseError as error:
        raise ForeignDocument(f"the response is not XML: {error}") from error
    return root


def _text(element: Element, name: str) -> str | None:
    return element.findtext(name) or None


def _is_truncated_page(root: Element, space: str) -> bool:
    """As for other listings: any word but false means that more follows."""
    return (_text(root, f"{space}IsTruncated") or "").strip().lower() not in ("", "false", "0")


def _decoder(root: Element, space: str) -> Callable[[str], str]:
    """How keys are read. Bytes that are no UTF-8 stay apart as surrogates: such a key is listed, and never acted on."""
    if (_text(root, f"{space}EncodingType") or "").strip() != "url":
        return str
    return _decoded


def _decoded(text: str) -> str:
    return unquote_plus(text, errors="surrogateescape") if "%" in text or "+" in text else text


def _prefixes(root: Element, space: str, decode: Callable[[str], str]) -> list[str]:
    """Each once: some stores repeat them."""
    found = [one.findtext(f"{space}Prefix") for one in root.findall(f"{space}CommonPrefixes")]
    if not all(found):
        raise MalformedResponse("a common prefix of the listing is empty")
    return list(dict.fromkeys(decode(one) for one in found if one))
