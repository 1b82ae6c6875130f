"""Reads and writes the XML documents of S3.

It never resolves an entity, loads a DTD or takes an unknown document for an empty one: what it cannot read is
`MalformedResponse`. That goes for a document as a whole and for what is required in it (keys, upload ids, part numbers,
sizes). Any other element that is absent or unreadable is None, and the rest is read. Callers are `responses`,
`multipart_operations` and `listings`, and `failures` for error documents.

Documents: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Types_Amazon_Simple_Storage_Service.html
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from urllib.parse import unquote_plus

from .._runtime.forking import no_fork
from .._values.entity_tags import EntityTag, parse_entity_tag
from .._values.timestamps import parse_timestamp

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

# A page of 1,000 keys of 1,024 bytes each, all percent-encoded, has 3 MB.
MAX_DOCUMENT = 16 << 20
_MAX_DEPTH = 16
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_WHOLE_NUMBER = re.compile("[0-9]{1,19}")
# Characters that XML cannot express (XML 1.0, section 2.2). Compiled when first used: that takes 2 ms.
_NOT_XML = "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"


class MalformedResponse(ValueError):
    """The response is not the document that S3 sends."""


class ForeignDocument(MalformedResponse):
    """The response is not a document of S3: something other than the store sent it, and its text may say what."""


class ErrorDocument(NamedTuple):
    """Why the store refused; `region` is the bucket's, `endpoint` the host to use for it."""

    code: str
    message: str | None = None
    request_id: str | None = None
    host_id: str | None = None
    region: str | None = None
    endpoint: str | None = None


class CompletedPart(NamedTuple):
    """A part of the upload to complete: its ETag as the store sent it; `checksum` is (element name, base64 value)."""

    number: int
    etag: str
    checksum: tuple[str, str] | None = None


class CompleteResult(NamedTuple):
    """The published object; `checksums` by element name."""

    etag: EntityTag | None
    checksums: dict[str, str]


class ListedPart(NamedTuple):
    """A part that the store has; `size` in bytes."""

    number: int
    etag: EntityTag | None
    size: int
    checksums: dict[str, str]


class PartsPage(NamedTuple):
    """Parts of an upload, and the checksum settings that it was created with.

    Attributes:
        checksum_algorithm, checksum_type: None where the store does not report them; empty where it reports none.
    """

    parts: list[ListedPart]
    is_truncated: bool
    next_marker: int | None
    checksum_algorithm: str | None = None
    checksum_type: str | None = None


class DeleteFailure(NamedTuple):
    """An object that DeleteObjects has not deleted, and why."""

    key: str
    version_id: str | None
    code: str
    message: str | None


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


# ------------------------------------------------------------------------------------------------- reading


def parse_error(data: bytes) -> ErrorDocument | None:
    """The error document in a response's body, or None where it is something else (for example a proxy's page)."""
    try:
        root = parse_tree(data)
        return _error(root) if root.tag == "Error" else None
    except MalformedResponse:
        return None


def parse_create_upload(data: bytes) -> str:
    """The upload id in the response to CreateMultipartUpload."""
    return _required(_root(data, "InitiateMultipartUploadResult"), "UploadId")


def parse_complete(data: bytes) -> CompleteResult | ErrorDocument:
    """The response to CompleteMultipartUpload. It may be an error with status 200, after white space that keeps the
    connection open."""
    root = _root(data, "CompleteMultipartUploadResult", "Error")
    if root.tag == "Error":
        return _error(root)
    return CompleteResult(_etag(root), _checksums(root))


def parse_copy(data: bytes) -> tuple[EntityTag | None, dict[str, str]]:
    """ETag and checksums in the response to CopyObject or UploadPartCopy, which may be an error with status 200."""
    root = _root(data, "CopyObjectResult", "CopyPartResult")
    return _etag(root), _checksums(root)


def parse_tagging(data: bytes) -> list[tuple[str, str]]:
    """The tags in the response to GetObjectTagging."""
    return [(_required(one, "Key"), _text(one, "Value") or "") for one in _root(data, "Tagging").findall("TagSet/Tag")]


def parse_list_parts(data: bytes) -> PartsPage:
    """A page of ListParts."""
    root = _root(data, "ListPartsResult", "ListPartsResponse")  # moto's name
    parts = [
        ListedPart(_integer(one, "PartNumber"), _etag(one), _integer(one, "Size"), _checksums(one))
        for one in root.findall("Part")
    ]
    marker = (_text(root, "NextPartNumberMarker") or "").strip()
    next_marker = int(marker) if _WHOLE_NUMBER.fullmatch(marker) else None
    algorithm, kind = (_upper(root, name) for name in ("ChecksumAlgorithm", "ChecksumType"))
    return PartsPage(parts, _is_truncated(root), next_marker, algorithm, kind)


def parse_list_uploads(data: bytes) -> UploadsPage:
    """A page of ListMultipartUploads; percent-encoded keys are decoded."""
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


def parse_delete_result(data: bytes) -> list[DeleteFailure]:
    """What a DeleteObjects could not delete."""
    root = _root(data, "DeleteResult")
    return [
        DeleteFailure(
            _required(one, "Key"), _text(one, "VersionId"), _required(one, "Code").strip(), _text(one, "Message")
        )
        for one in root.findall("Error")
    ]


# ------------------------------------------------------------------------------------------------- writing


def complete_document(parts: Iterable[CompletedPart]) -> bytes:
    """The body of CompleteMultipartUpload; parts in ascending order of their numbers.

    With up to 10,000 parts it is written piece by piece, so that it is in memory once.
    """
    begin, end = _tags("CompleteMultipartUpload")
    document = io.BytesIO()
    document.write(begin.encode())
    for number, etag, checksum in parts:
        named = "" if checksum is None else _element(*checksum)
        document.write(f"<Part><PartNumber>{number}</PartNumber>{_element('ETag', etag)}{named}</Part>".encode())
    document.write(end.encode())
    return document.getvalue()


def delete_document(objects: Iterable[tuple[str, str | None]]) -> bytes:
    """The body of DeleteObjects: keys, each with a version id or None. The store is to report errors only.

    Raises:
        ValueError: a key holds a character that XML cannot express; DeleteObject takes such a key.
    """
    begin, end = _tags("Delete")
    listed = (
        f"<Object>{_element('Key', key)}{'' if version is None else _element('VersionId', version)}</Object>"
        for key, version in objects
    )
    return f"{begin}<Quiet>true</Quiet>{''.join(listed)}{end}".encode()


def bucket_document(region: str) -> bytes:
    """The body of CreateBucket for a region other than us-east-1."""
    begin, end = _tags("CreateBucketConfiguration")
    return f"{begin}{_element('LocationConstraint', region)}{end}".encode()


def _tags(name: str) -> tuple[str, str]:
    return f'<{name} xmlns="{_NAMESPACE}">', f"</{name}>"


# `&` comes first. A parser turns a bare carriage return into a line feed (XML 1.0, section 2.11).
_REFERENCES = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\r", "&#13;"))


def _element(name: str, text: str) -> str:
    wrong = re.search(_NOT_XML, text)
    if wrong:
        raise ValueError(f"{text!r} cannot be written in an XML document: {wrong.group()!r} at {wrong.start()}")
    for character, reference in _REFERENCES:
        text = text.replace(character, reference)
    return f"<{name}>{text}</{name}>"


# ------------------------------------------------------------------------------------------------- the parser


@functools.cache
def libraries() -> tuple[Any, Any]:
    """The parser, and the package that builds trees."""
    with no_fork():
        from xml.etree import ElementTree
        from xml.parsers import expat

    return expat, ElementTree


def load() -> None:
    """Imports the parser in the caller's thread, because workers import nothing."""
    libraries()


class _Reader:
    """Expat's callbacks: they build a tree of local names, because stores differ in their namespaces."""

    def __init__(self, builder: Any) -> None:
        self._builder = builder
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
        root: Element = self._builder.close()
        return root


def parse_tree(data: bytes) -> Element:
    """The root of a document, with local names as tags."""
    if len(data) > MAX_DOCUMENT:
        raise MalformedResponse(f"the document has {len(data)} bytes; S3's have at most {MAX_DOCUMENT}")
    expat, trees = libraries()
    reader = _Reader(trees.TreeBuilder())
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    # Without a DOCTYPE there are only the five built-in entities.
    parser.StartDoctypeDeclHandler = reader.refuse_doctype
    try:
        parser.Parse(data.lstrip(b" \t\r\n"), True)
    except expat.ExpatError as error:
        raise ForeignDocument(f"the response is not XML: {error}") from error
    except (LookupError, ValueError) as error:
        if isinstance(error, MalformedResponse):
            raise
        raise ForeignDocument(f"the document's encoding is unknown: {error}") from error
    return reader.close()


def _root(data: bytes, *expected: str) -> Element:
    root = parse_tree(data)
    if root.tag not in expected:
        raise ForeignDocument(f"the response is a {root.tag!r} document; expected {' or '.join(expected)}")
    return root


def _text(element: Element, name: str) -> str | None:
    """The child's text, with its white space (a key may consist of it); None where absent or empty."""
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


def _upper(element: Element, name: str) -> str | None:
    """The child's text in upper case, which may be empty; None where there is no such child."""
    text = element.findtext(name)
    return None if text is None else text.strip().upper()


def _is_truncated(root: Element) -> bool:
    """Absent means no. Any word but false means yes: an incomplete listing is never taken for a complete one."""
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
    """How to read this page's keys: with ``EncodingType`` url they are encoded as in a form, with ``+`` for a space."""
    return unquote_plus if (_text(root, "EncodingType") or "").strip() == "url" else str


def _common_prefixes(root: Element, decode: Callable[[str], str]) -> list[str]:
    return [decode(_required(one, "Prefix")) for one in root.findall("CommonPrefixes")]
