"""Reads and writes the XML documents of S3, and nothing but these.

It must never resolve an entity, load a DTD or take a document it does not know for an empty one: what it
cannot read is `MalformedResponse`. That goes for a document and for what it cannot do without (keys, upload ids,
part numbers, sizes); any other element that is absent or odd is None, and the rest is read all the same. Called by
`operations` and `listings`, and by `service` for error documents.

Documents: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Types_Amazon_Simple_Storage_Service.html
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from html import escape  # xml.sax.saxutils has it too, and imports urllib.request, http and email
from typing import NamedTuple, NoReturn
from urllib.parse import unquote_plus
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from .._values.entity_tags import EntityTag, parse_entity_tag
from .._values.timestamps import parse_timestamp

# A page of 1,000 keys of 1,024 bytes, each byte percent-encoded, has 3 MB.
MAX_DOCUMENT = 16 << 20
_MAX_DEPTH = 16
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_WHOLE_NUMBER = re.compile("[0-9]{1,19}")
# Source: XML 1.0, section 2.2
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class MalformedResponse(ValueError):
    """The answer is not the document that S3 sends in its place."""


class ForeignDocument(MalformedResponse):
    """The answer is no document of S3's at all: another machine's words, by which it can be found."""


class ErrorDocument(NamedTuple):
    """What the store says about a refusal; `region` is where the bucket really is, `endpoint` where to ask for it."""

    code: str
    message: str | None = None
    request_id: str | None = None
    host_id: str | None = None
    region: str | None = None
    endpoint: str | None = None


class CompletedPart(NamedTuple):
    """A part to complete an upload with: its ETag as the store gave it; `checksum` is (element name, base64 value)."""

    number: int
    etag: str
    checksum: tuple[str, str] | None = None


class CompleteResult(NamedTuple):
    """The published object; `checksums` by element name."""

    etag: EntityTag | None
    checksums: dict[str, str]


class CopyResult(NamedTuple):
    """The copied object or part; `checksums` by element name."""

    etag: EntityTag | None
    checksums: dict[str, str]


class ListedPart(NamedTuple):
    """A part the store has: `size` in bytes."""

    number: int
    etag: EntityTag | None
    size: int
    checksums: dict[str, str]


class PartsPage(NamedTuple):
    """Parts of an upload; how its checksums were fixed when it was created: None where the store does not say, empty
    where it says that they were not."""

    parts: list[ListedPart]
    is_truncated: bool
    next_marker: int | None
    checksum_algorithm: str | None = None
    checksum_type: str | None = None


class ListedObject(NamedTuple):
    """An object in a listing: `size` in bytes."""

    key: str
    size: int
    etag: EntityTag | None
    last_modified: datetime | None
    storage_class: str | None


class ObjectsPage(NamedTuple):
    objects: list[ListedObject]
    common_prefixes: list[str]
    is_truncated: bool
    next_token: str | None


class ListedUpload(NamedTuple):
    key: str
    upload_id: str
    initiated: datetime | None


class UploadsPage(NamedTuple):
    uploads: list[ListedUpload]
    common_prefixes: list[str]
    is_truncated: bool
    next_key_marker: str | None
    next_upload_id_marker: str | None


class DeleteFailure(NamedTuple):
    """A key that the store did not delete, and why."""

    key: str
    version_id: str | None
    code: str
    message: str | None


class DeleteResult(NamedTuple):
    deleted: list[str]
    failures: list[DeleteFailure]


class ListedBucket(NamedTuple):
    name: str
    created: datetime | None


class BucketsPage(NamedTuple):
    buckets: list[ListedBucket]
    next_token: str | None


# ------------------------------------------------------------------------------------------------- reading


def parse_error(data: bytes) -> ErrorDocument | None:
    """The error document in an answer's body, or None where it is something else (a proxy's page, say)."""
    try:
        root = _parse(data)
        return _error(root) if root.tag == "Error" else None
    except MalformedResponse:
        return None


def parse_create_upload(data: bytes) -> str:
    """The upload id in the answer to CreateMultipartUpload."""
    return _required(_root(data, "InitiateMultipartUploadResult"), "UploadId")


def parse_complete(data: bytes) -> CompleteResult | ErrorDocument:
    """The answer to CompleteMultipartUpload: maybe an error in a 200, after white space sent to stay open."""
    root = _root(data, "CompleteMultipartUploadResult", "Error")
    if root.tag == "Error":
        return _error(root)
    return CompleteResult(_etag(root), _checksums(root))


def parse_copy_part(data: bytes) -> CopyResult | ErrorDocument:
    """The answer to UploadPartCopy or CopyObject, which may be an error inside a 200."""
    root = _root(data, "CopyPartResult", "CopyObjectResult", "Error")
    if root.tag == "Error":
        return _error(root)
    return CopyResult(_etag(root), _checksums(root))


def parse_list_parts(data: bytes) -> PartsPage:
    """A page of ListParts."""
    root = _root(data, "ListPartsResult", "ListPartsResponse")  # the latter is moto's
    parts = [
        ListedPart(_integer(one, "PartNumber"), _etag(one), _integer(one, "Size"), _checksums(one))
        for one in root.findall("Part")
    ]
    marker = (_text(root, "NextPartNumberMarker") or "").strip()
    next_marker = int(marker) if _WHOLE_NUMBER.fullmatch(marker) else None
    algorithm, kind = (_told(root, name) for name in ("ChecksumAlgorithm", "ChecksumType"))
    return PartsPage(parts, _is_truncated(root), next_marker, algorithm, kind)


def parse_list_objects_v2(data: bytes) -> ObjectsPage:
    """A page of ListObjectsV2; keys that the store sent percent-encoded are decoded."""
    root = _root(data, "ListBucketResult")
    decode = _decoder(root)
    objects = [
        ListedObject(
            decode(_required(one, "Key")),
            _integer(one, "Size"),
            _etag(one),
            parse_timestamp(_text(one, "LastModified")),
            _text(one, "StorageClass"),
        )
        for one in root.findall("Contents")
    ]
    return ObjectsPage(
        objects, _common_prefixes(root, decode), _is_truncated(root), _text(root, "NextContinuationToken")
    )


def parse_list_uploads(data: bytes) -> UploadsPage:
    """A page of ListMultipartUploads; keys that the store sent percent-encoded are decoded."""
    root = _root(data, "ListMultipartUploadsResult")
    decode = _decoder(root)
    uploads = [
        ListedUpload(
            decode(_required(one, "Key")), _required(one, "UploadId"), parse_timestamp(_text(one, "Initiated"))
        )
        for one in root.findall("Upload")
    ]
    marker = _text(root, "NextKeyMarker")
    return UploadsPage(
        uploads,
        _common_prefixes(root, decode),
        _is_truncated(root),
        None if marker is None else decode(marker),
        _text(root, "NextUploadIdMarker"),
    )


def parse_delete_result(data: bytes) -> DeleteResult:
    """The answer to DeleteObjects, which is a 200 even when no key was deleted."""
    root = _root(data, "DeleteResult")
    failures = [
        DeleteFailure(_required(one, "Key"), _text(one, "VersionId"), _required(one, "Code"), _text(one, "Message"))
        for one in root.findall("Error")
    ]
    return DeleteResult([_required(one, "Key") for one in root.findall("Deleted")], failures)


def parse_list_buckets(data: bytes) -> BucketsPage:
    """A page of ListBuckets."""
    root = _root(data, "ListAllMyBucketsResult")
    buckets = [
        ListedBucket(_required(one, "Name"), parse_timestamp(_text(one, "CreationDate")))
        for one in root.findall("Buckets/Bucket")
    ]
    return BucketsPage(buckets, _text(root, "ContinuationToken"))


# ------------------------------------------------------------------------------------------------- writing


def complete_document(parts: Iterable[CompletedPart]) -> bytes:
    """The body of CompleteMultipartUpload; parts in ascending order of their numbers.

    It grows with each of up to 10,000 parts, and nothing beside it does.
    """
    begin, end = _tags("CompleteMultipartUpload")
    document = io.BytesIO()
    document.write(begin.encode())
    for number, etag, checksum in parts:
        named = "" if checksum is None else _element(*checksum)
        document.write(f"<Part><PartNumber>{number}</PartNumber>{_element('ETag', etag)}{named}</Part>".encode())
    document.write(end.encode())
    return document.getvalue()


def delete_document(keys: Iterable[str], *, quiet: bool = True) -> bytes:
    """The body of DeleteObjects, for at most 1,000 keys; `quiet` has the store list failures only.

    Raises:
        ValueError: a key holds a character that XML cannot express; delete that one by itself.
    """
    objects = "".join(f"<Object>{_element('Key', key)}</Object>" for key in keys)
    return _document("Delete", f"{objects}<Quiet>{str(quiet).lower()}</Quiet>")


def create_bucket_document(region: str) -> bytes:
    """The body of CreateBucket; empty for us-east-1, which S3 refuses to be told."""
    if region == "us-east-1":
        return b""
    return _document("CreateBucketConfiguration", _element("LocationConstraint", region))


def _document(name: str, content: str) -> bytes:
    begin, end = _tags(name)
    return f"{begin}{content}{end}".encode()


def _tags(name: str) -> tuple[str, str]:
    return f'<{name} xmlns="{_NAMESPACE}">', f"</{name}>"


def _element(name: str, text: str) -> str:
    wrong = _NOT_XML.search(text)
    if wrong:
        raise ValueError(f"{text!r} cannot stand in an XML document: {wrong.group()!r} at {wrong.start()}")
    # A parser turns a bare carriage return into a line feed: XML 1.0, section 2.11
    escaped = escape(text, quote=False).replace("\r", "&#13;")
    return f"<{name}>{escaped}</{name}>"


# ------------------------------------------------------------------------------------------------- the parser


class _Reader:
    """Expat's callbacks: builds a tree of local names, whatever namespace the store chose."""

    def __init__(self) -> None:
        self._builder = TreeBuilder()
        self._depth = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise MalformedResponse(f"the document nests more than {_MAX_DEPTH} elements")
        self._builder.start(name.rpartition(" ")[2], attributes)

    def end(self, name: str) -> None:
        self._depth -= 1
        self._builder.end(name.rpartition(" ")[2])

    def text(self, data: str) -> None:
        self._builder.data(data)

    def refuse_doctype(self, *_: object) -> NoReturn:
        raise ForeignDocument("the document has a DOCTYPE, which S3's never have")

    def close(self) -> Element:
        return self._builder.close()


def _parse(data: bytes) -> Element:
    if len(data) > MAX_DOCUMENT:
        raise MalformedResponse(f"the document has {len(data)} bytes; S3's have at most {MAX_DOCUMENT}")
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    # Without a DOCTYPE there can be no entity but the five built in.
    parser.StartDoctypeDeclHandler = reader.refuse_doctype
    try:
        parser.Parse(data.lstrip(b" \t\r\n"), True)
    except expat.ExpatError as error:
        raise ForeignDocument(f"the answer is not XML: {error}") from error
    except (LookupError, ValueError) as error:
        if isinstance(error, MalformedResponse):
            raise
        raise ForeignDocument(f"the document's encoding is unknown: {error}") from error
    return reader.close()


def _root(data: bytes, *expected: str) -> Element:
    root = _parse(data)
    if root.tag not in expected:
        raise ForeignDocument(f"the answer is a {root.tag!r} document; expected {' or '.join(expected)}")
    return root


def _text(element: Element, name: str) -> str | None:
    """The child's text, white space included because keys may consist of it; None where absent or empty."""
    return element.findtext(name) or None


def _required(element: Element, name: str) -> str:
    text = _text(element, name)
    if text is None:
        raise MalformedResponse(f"{element.tag} lacks {name}")
    return text


def _integer(element: Element, name: str) -> int:
    text = _required(element, name).strip()
    if not _WHOLE_NUMBER.fullmatch(text):
        raise MalformedResponse(f"{name} of {element.tag} is {text!r}")
    return int(text)


def _told(element: Element, name: str) -> str | None:
    """The child's text in upper case, empty where it is; None where there is no such child."""
    text = element.findtext(name)
    return None if text is None else text.strip().upper()


def _is_truncated(root: Element) -> bool:
    """An odd word counts as yes: a listing is never taken for whole that does not say so, or says nothing of it."""
    return (_text(root, "IsTruncated") or "").strip().lower() not in ("", "false", "0")


def _etag(element: Element) -> EntityTag | None:
    return parse_entity_tag(_text(element, "ETag"))


def _checksums(element: Element) -> dict[str, str]:
    return {
        child.tag: child.text.strip()
        for child in element
        if child.tag.startswith("Checksum") and child.tag not in ("ChecksumAlgorithm", "ChecksumType") and child.text
    }


def _error(root: Element) -> ErrorDocument:
    return ErrorDocument(
        _required(root, "Code").strip(),
        _text(root, "Message"),
        _text(root, "RequestId"),
        _text(root, "HostId"),
        _text(root, "Region"),
        _text(root, "Endpoint"),
    )


def _decoder(root: Element) -> Callable[[str], str]:
    """How this page's keys are written: ``EncodingType`` url means as in a form, a space being ``+``."""
    return unquote_plus if (_text(root, "EncodingType") or "").strip() == "url" else str


def _common_prefixes(root: Element, decode: Callable[[str], str]) -> list[str]:
    return [decode(_required(one, "Prefix")) for one in root.findall("CommonPrefixes")]
