"""What a series says and reads, without a socket: heads as a single request has them, fields as httptools has them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from s3dlio import ConfigurationError
from s3dlio._net import http
from s3dlio._net.connections import Lease
from s3dlio._net.exchange import head_field, scan_head
from s3dlio._net.http import OrdinaryHeaders
from s3dlio._s3.credentials import Credentials
from s3dlio._s3.failures import SignedWith
from s3dlio._s3.request_heads import write_heads
from s3dlio._s3.requests import Request
from s3dlio._s3.service import Service
from s3dlio._s3.signing import Signer
from s3dlio.config import ClientSettings

# ------------------------------------------------------------------------------------------ what an answer says

NAMES = st.sampled_from(
    [
        "ETag",
        "etag",
        "x",
        "X-Amz-Version-Id",
        "x-amz-checksum-crc64nvme",
        "Content-Length",
        "a-b",
        "a_1",
        "a b",
        "é",
        "",
    ]
)
BLANKS = st.text(" \t", max_size=3)
VALUES = st.one_of(
    st.integers(0, 10**6).map(str),
    st.text(st.characters(max_codepoint=0xFF, exclude_characters="\n"), max_size=12),
    st.sampled_from(["", ":", '"tag"', "a:b", "x, y", "é"]),
)
FIELDS = st.lists(st.tuples(NAMES, BLANKS, VALUES, BLANKS), max_size=7)


@given(st.integers(200, 599), FIELDS, st.sampled_from(["OK", "", "Not Found", "x: y"]))
@example(200, [("x", "", "one", ""), ("X", " ", "two", "\t"), ("x-y", "", "three", "")], "OK")
@example(200, [("x", " ", "", ""), ("x", "", "", " ")], "")
@example(200, [("x", " ", "\xa0", ""), ("x", "", "\x85y", " ")], "")
def test_fields_of_every_usual_head_read_as_httptools_reads_them(
    status: int, fields: Sequence[tuple[str, str, str, str]], reason: str
) -> None:
    lines = [f"HTTP/1.1 {status} {reason}"]
    lines += [f"{name}:{before}{value}{after}" for name, before, value, after in fields]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    end, _, _, unusual, _ = scan_head(head)
    assert end == len(head)
    if unusual:
        return
    expected = http.read_headers(head, ordinary=False)
    found = OrdinaryHeaders(head)
    assert dict(found) == expected
    assert len(found) == len(expected)
    for name in [*expected, "x", "x-", "content-length", "status", "HTTP/1.1 200 OK\r\nx"]:
        assert found.get(name) == found.get(name.upper()) == expected.get(name)
        assert (name in found) == (name in expected)


def test_a_field_that_is_not_there_is_absent() -> None:
    head = b"HTTP/1.1 200 x: y\r\nxy: z\r\n\r\n"
    assert head_field(head, b"x") is None
    assert OrdinaryHeaders(head).get("x", "else") == "else"
    assert "x" not in OrdinaryHeaders(head)
    with pytest.raises(KeyError, match="x"):
        OrdinaryHeaders(head)["x"]


@given(st.binary(max_size=60), st.binary(max_size=5))
def test_looking_for_a_field_takes_any_bytes(data: bytes, name: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + data
    value = head_field(head, name)
    assert value is None or len(value) <= len(data)


# ------------------------------------------------------------------------------------------ what a request says

TEXT = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=12)
SPACED = st.lists(TEXT, min_size=1, max_size=3).map("  ".join)
KEYS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12) | st.text(
    "%s%%/é ", min_size=1, max_size=9
)
HEADER_NAMES = st.sampled_from(["content-type", "x-amz-meta-a", "x-amz-checksum-crc64nvme", "if-none-match", "range"])
CREDENTIALS = st.none() | st.builds(Credentials, TEXT, TEXT, st.none() | TEXT)


def service_with(credentials: Credentials | None, style: Any) -> Service:
    given: Any = "anonymous"
    if credentials is not None:
        given = (credentials.access_key, credentials.secret_key, *([credentials.token] if credentials.token else []))
    url = "http://store.example:9000"
    return Service(ClientSettings(endpoint_url=url, region="eu-central-1", credentials=given, addressing_style=style))


def instant_of(head: bytes) -> datetime | None:
    """The instant that a head was signed for."""
    found = re.search(rb"\r\nx-amz-date: (\w+)\r\n", head)
    return None if found is None else datetime.strptime(found[1].decode(), "%Y%m%dT%H%M%S%z")


def lease_of(proxied: bool) -> Lease:
    headers = {"proxy-authorization": "Basic eDp5"} if proxied else {}
    return cast("Lease", SimpleNamespace(origin_form_absolute=proxied, proxy_headers=headers))


def lines_of(head: bytes) -> tuple[bytes, list[bytes]]:
    """The request line, and the fields in any order."""
    assert head.endswith(b"\r\n\r\n")
    first, *fields = head[:-4].split(b"\r\n")
    return first, sorted(fields)


@settings(deadline=None, max_examples=60)
@given(
    method=st.sampled_from(["GET", "PUT"]),
    names=st.lists(HEADER_NAMES, unique=True, max_size=4),
    keys=st.lists(KEYS, min_size=1, max_size=5),
    credentials=CREDENTIALS,
    style=st.sampled_from(["path", "virtual"]),
    proxied=st.booleans(),
    data=st.data(),
)
def test_every_head_of_a_series_says_what_the_request_s_own_head_would(
    method: str,
    names: list[str],
    keys: list[str],
    credentials: Credentials | None,
    style: str,
    proxied: bool,
    data: st.DataObject,
) -> None:
    values = [{name: data.draw(SPACED | st.just("%s"), name) for name in names} for _ in keys]
    bodies = [[b"x" * data.draw(st.integers(0, 3), "length")] if method == "PUT" else [] for _ in keys]
    query = data.draw(st.sampled_from([[], [("versionId", "a%s&b"), ("b", "")]]), "query")
    requests = [
        Request("Any", method, "bucket", key, query=query, headers=headers, body=body)
        for key, headers, body in zip(keys, values, bodies, strict=True)
    ]
    try:
        service, lease = service_with(credentials, style), lease_of(proxied)
        targets = [service.endpoint.target(one.bucket, one.key, one.query) for one in requests]
    except (ConfigurationError, ValueError):
        return  # no key that a store could have
    which = data.draw(st.integers(0, len(keys) - 1), "which")
    signed = SignedWith("eu-central-1", service._credentials.frozen(), 0.0)
    alone = write_heads([requests[which]], [targets[which]], lease, Signer(), signed)[0]
    made = write_heads(requests, targets, lease, Signer(), signed, instant_of(alone))
    assert len(made) == len(keys)
    assert lines_of(made[which]) == lines_of(alone)


def test_heads_of_unsigned_requests_are_written_byte_for_byte() -> None:
    service = service_with(None, "path")
    requests = [
        Request("PutObject", "PUT", "b", key, headers={"x-same": "s", "if-match": tag}, body=[b"x" * size])
        for key, tag, size in [("one", "1", 3), ("two", "2", 0)]
    ]
    targets = [service.endpoint.target(one.bucket, one.key, one.query) for one in requests]
    signed = SignedWith("r", None, 0.0)
    fixed = "host: store.example:9000\r\nuser-agent: s3dlio\r\nx-same: s\r\n"
    assert write_heads(requests, targets, lease_of(False), Signer(), signed) == [
        f"PUT /b/one HTTP/1.1\r\n{fixed}if-match: 1\r\ncontent-length: 3\r\n\r\n".encode(),
        f"PUT /b/two HTTP/1.1\r\n{fixed}if-match: 2\r\ncontent-length: 0\r\n\r\n".encode(),
    ]
    get = Request("GetObject", "GET", "b", "one", headers={"range": "bytes=0-1"})
    proxied = "proxy-authorization: Basic eDp5\r\n\r\n"
    assert write_heads([get], targets[:1], lease_of(True), Signer(), signed) == [
        "GET http://store.example:9000/b/one HTTP/1.1\r\nhost: store.example:9000\r\nuser-agent: s3dlio\r\n"
        f"range: bytes=0-1\r\n{proxied}".encode()
    ]


def test_a_request_is_dated_by_the_store_s_clock() -> None:
    service = service_with(Credentials("id", "secret"), "path")
    request = Request("GetObject", "GET", "b", "k")
    target = service.endpoint.target("b", "k", ())
    before = datetime.now(UTC)
    signed = SignedWith("r", Credentials("id", "secret"), 3600.0)
    dated = instant_of(write_heads([request], [target], lease_of(False), Signer(), signed)[0])
    assert dated is not None
    assert timedelta(seconds=3598) < dated - before < timedelta(hours=2)
