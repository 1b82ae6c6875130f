"""What must hold for any bytes that are taken for a response head or an XML document of S3.

Pure functions of bytes that raise `AssertionError`: the fuzzer calls them with what it makes up, the tests with the
corpus. Each compares with another reading of the same bytes: httptools, RFC 9112 by regular expressions, ElementTree.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import re
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import httptools

from s3dlio._s3 import xml

Facts = tuple[int, int, int, bool, bool]
Scan = Callable[[Any], Facts]


# ------------------------------------------------------------------------------------------------ response heads


class Fenced:
    """Memory between two pages that nobody may touch: what reads beyond its bytes ends the process."""

    ROOM = 1 << 16

    def __init__(self) -> None:
        page = mmap.PAGESIZE
        self._memory = mmap.mmap(-1, self.ROOM + 2 * page)
        self._first, self._last = page, page + self.ROOM
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for fence in (start, start + self._last):
            if libc.mprotect(fence, page, 0) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")

    def places(self, data: bytes) -> Iterator[memoryview]:
        """`data` right behind the first fence, and right before the second."""
        view = memoryview(self._memory)
        for start in (self._first, self._last - len(data)):
            view[start : start + len(data)] = data
            yield view[start : start + len(data)]


_FENCED = Fenced()


def check_head(data: bytes, scan: Scan) -> None:
    """The scanner reads what httptools and RFC 9112 read, never beyond `data`, in one piece or byte by byte."""
    data = data[: Fenced.ROOM]
    facts = scan(data)
    assert all(scan(place) == facts for place in _FENCED.places(data)), "it depends on what stands around the bytes"
    _check_prefixes(data, facts, scan)
    end, status, length, unusual, closes = facts
    assert -1 <= end <= len(data)
    if end <= 0:
        return
    head = data[:end]
    assert head.endswith(b"\r\n\r\n"), "the end is not that of a head"
    assert b"\r\n\r\n" not in head[:-1], "the head ended before"
    assert int(head[9:12]) == status
    if not unusual:
        _compare_with_rfc(head, length, closes)
        _compare_with_httptools(head, status, length)


def _check_prefixes(data: bytes, facts: Facts, scan: Scan) -> None:
    """What is incomplete stays so until the byte that ends it, and what is decided stays decided."""
    decided: Facts | None = None
    view = memoryview(data)
    for length in range(len(data)):
        found = scan(view[:length])
        assert found[0] <= length, f"the end of {length} bytes is at {found[0]}"
        if decided is None and found[0] != 0:
            decided = found
        assert decided is None or found == decided, f"{length} bytes say {found}, fewer said {decided}"
    assert decided is None or facts == decided, f"all bytes say {facts}, fewer said {decided}"
    assert facts[0] <= 0 or decided is None or decided[0] == facts[0]


# RFC 9110, section 5.6.2, and RFC 9112, section 5: a token, a colon at once, and a value between optional blanks.
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")


def _compare_with_rfc(head: bytes, length: int, closes: bool) -> None:
    lines = head[:-4].split(b"\r\n")[1:]
    assert not any(re.match(rb"[ \t]|[^:]*[ \t]:", line) for line in lines), (
        "a folded line, or a blank before the colon"
    )
    fields = [_FIELD.fullmatch(line) for line in lines]
    pairs = [(one[1].lower(), one[2]) for one in fields if one]
    if len(pairs) < len(lines):
        return  # no head by RFC 9112: httptools is asked
    lengths = {value for name, value in pairs if name == b"content-length"}
    assert all(re.fullmatch(rb"[0-9]+", value) for value in lengths)
    assert {int(value) for value in lengths} == ({length} if length >= 0 else set())
    assert not any(name == b"transfer-encoding" for name, _ in pairs)
    connection = b",".join(value for name, value in pairs if name == b"connection").lower().split(b",")
    assert closes or b"close" not in [one.strip() for one in connection]


class _Fields:
    """Takes httptools' callbacks."""

    def __init__(self) -> None:
        self.lengths: set[int] = set()
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-length":
            self.lengths.add(int(value))

    def on_headers_complete(self) -> None:
        self.complete = True


def _compare_with_httptools(head: bytes, status: int, length: int) -> None:
    """Where httptools refuses a head, the library refuses the answer; where it takes it, it reads the same."""
    fields = _Fields()
    parser = httptools.HttpResponseParser(fields)
    try:
        parser.feed_data(head[:-1])
        assert not fields.complete, "httptools saw the end before"
        parser.feed_data(head[-1:])
    except httptools.HttpParserError:
        return
    assert fields.complete, "httptools has not seen the end"
    assert parser.get_status_code() == status
    assert fields.lengths == ({length} if length >= 0 else set())


# ------------------------------------------------------------------------------------------------- XML documents

PARSERS: tuple[Callable[[bytes], Any], ...] = (
    xml.parse_create_upload,
    xml.parse_complete,
    xml.parse_list_parts,
    xml.parse_list_uploads,
)


def check_document(data: bytes) -> None:
    """Each reader gives a document or `MalformedResponse`, and never more text than came: no entity was expanded."""
    found = [xml.parse_error(data)]
    for parse in PARSERS:
        with contextlib.suppress(xml.MalformedResponse):
            found.append(parse(data))
    for document in found:
        assert sum(map(len, _texts(document))) <= len(data)
    _check_round_trip(data)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for pair in value.items() for text in pair)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def _check_round_trip(data: bytes) -> None:
    """Any text that XML can express comes back from the documents we write, and from a listing that names it."""
    text = data[:300].decode("utf-8", "replace")
    parts = [xml.CompletedPart(1, text, ("ChecksumCRC64NVME", text)), xml.CompletedPart(2, "e")]
    try:
        written = xml.complete_document(parts)
    except ValueError:
        # XML 1.0, section 2.2: Char
        assert re.search("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text), "it could have been written"
        return
    space = "{http://s3.amazonaws.com/doc/2006-03-01/}"
    root = ElementTree.fromstring(written)
    assert [one.findtext(f"{space}ETag") for one in root] == [text, "e"]
    assert root[0].findtext(f"{space}ChecksumCRC64NVME") == text
    if text:
        assert xml.parse_list_uploads(_listing(text)).uploads[0].key == text


def _listing(key: str) -> bytes:
    """A listing as a store writes it that escapes what it must."""
    name = escape(key, {"\r": "&#13;"})
    upload = f"<Upload><Key>{name}</Key><UploadId>u</UploadId></Upload>"
    return f"<ListMultipartUploadsResult>{upload}</ListMultipartUploadsResult>".encode()
