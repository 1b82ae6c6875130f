"""Nothing is injected, no secret gets out, and no answer is believed beyond its bounds."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from behaviours import InRegion, Status, WrongETag
from marks import Connect
from model import MIB
from peer import Over, Peer, Rule

import s3dlio
from s3dlio import Client
from s3dlio._values.redaction import redacted

URI = "s3://b/k"
DATA = bytes(300_000)

# ------------------------------------------------------------------------------------------------------- injection

INJECTED = [
    "x\r\nX-Injected: yes",
    "x\nX-Injected: yes",
    "x\rX-Injected: yes",
    "x\r\n\r\nGET /b/other HTTP/1.1",
    "x\0y",
]
HEADERS = [
    "content_type", "cache_control", "content_encoding", "content_disposition", "storage_class", "acl",
    "server_side_encryption", "sse_kms_key_id", "if_none_match", "if_match", "checksum",
]  # fmt: skip
Call = Callable[[Connect, Peer, str], object]
ARGUMENTS: dict[str, Call] = {
    **{
        f"{name}-{size}": (
            lambda connect, peer, text, name=name, size=size: connect(peer).put_bytes(
                URI, bytes(size), part_size=5 * MIB, **{name: text}
            )
        )
        for name in HEADERS
        for size in (1, 6 * MIB)
    },
    "metadata-value": lambda connect, peer, text: connect(peer).put_bytes(URI, b"", metadata={"a": text}),
    "metadata-name": lambda connect, peer, text: connect(peer).put_bytes(URI, b"", metadata={text: "a"}),
    "tag-value": lambda connect, peer, text: connect(peer).put_bytes(URI, b"", tags={"a": text}),
    "tag-name": lambda connect, peer, text: connect(peer).put_bytes(URI, b"", tags={text: "a"}),
    "bucket": lambda connect, peer, text: connect(peer).sink(text, "k").finish_blocking(),
    "key": lambda connect, peer, text: connect(peer).sink("b", text).finish_blocking(),
    "uri-bucket": lambda connect, peer, text: connect(peer).put_bytes(f"s3://{text}/k", b""),
    "uri-key": lambda connect, peer, text: connect(peer).put_bytes(f"s3://b/{text}", b""),
    "get-uri": lambda connect, peer, text: connect(peer).get(f"s3://b/{text}"),
    "get_many-uri": lambda connect, peer, text: connect(peer).get_many([f"s3://b/{text}"]),
    "get-version": lambda connect, peer, text: connect(peer).get(URI, version_id=text),
    "get_range-version": lambda connect, peer, text: connect(peer).get_range(URI, 0, 1, version_id=text),
    "get_into-version": lambda connect, peer, text: connect(peer).get_into(URI, bytearray(9), version_id=text),
    "stat-version": lambda connect, peer, text: connect(peer).stat(URI, version_id=text),
    "resume-upload": lambda connect, peer, text: connect(peer).resume(URI, text),
    "resume-uri": lambda connect, peer, text: connect(peer).resume(f"s3://b/{text}", "u"),
    "list_uploads": lambda connect, peer, text: connect(peer).list_uploads(f"s3://{text}"),
    "list_uploads-prefix": lambda connect, peer, text: connect(peer).list_uploads(f"s3://b/{text}"),
    "abort_uploads": lambda connect, peer, text: connect(peer).abort_uploads(f"s3://{text}", older_than=timedelta(1)),
    "region": lambda connect, peer, text: connect(peer, region=text).stat(URI),
    "endpoint-path": lambda connect, peer, text: connect(peer, endpoint_url=f"{peer.endpoint_url}/{text}").stat(URI),
    "endpoint-host": lambda connect, peer, text: connect(peer, endpoint_url=f"http://{text}").stat(URI),
    "profile": lambda connect, peer, text: connect(peer, profile=text).stat(URI),
    "ca_bundle": lambda connect, peer, text: connect(peer, ca_bundle=text).stat(URI),
    "access-key": lambda connect, peer, text: connect(peer, credentials=(text, "secret")).stat(URI),
    "secret-key": lambda connect, peer, text: connect(peer, credentials=("id", text)).stat(URI),
    "token": lambda connect, peer, text: connect(peer, credentials=("id", "secret", text)).stat(URI),
    "style": lambda connect, peer, text: connect(peer, addressing_style=text).stat(URI),
}


@pytest.mark.parametrize("text", INJECTED, ids=["crlf", "lf", "cr", "request", "nul"])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_no_argument_adds_a_line_to_a_request(peer: Peer, connect: Connect, name: str, text: str) -> None:
    """Refused before a byte goes out, or encoded so that it stays what it is."""
    with contextlib.suppress(s3dlio.S3dlioError):
        ARGUMENTS[name](connect, peer, text)
    assert_no_line_was_added(peer)


@pytest.mark.parametrize(
    "variable", ["AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AWS_SECRET_ACCESS_KEY"]
)
@pytest.mark.parametrize("text", INJECTED[:4], ids=["crlf", "lf", "cr", "request"])
def test_no_variable_adds_a_line_to_a_request(
    peer: Peer, connect: Connect, monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "good")
    monkeypatch.setenv(variable, text)
    with pytest.raises(s3dlio.S3dlioError):
        connect(peer, credentials=None, region=None).stat(URI)
    assert_no_line_was_added(peer)


def assert_no_line_was_added(peer: Peer) -> None:
    for one in peer.requests():
        assert "x-injected" not in one.headers, one.headers
        assert one.key != "other"
        assert not re.search(r"[\r\n\0]", "".join([*one.headers, *one.headers.values()])), one.headers


@pytest.mark.parametrize("etag", ["\xff\xfe", 'a"b', "a\x01b", "a\tb", "x" * 5000])
def test_an_etag_that_no_header_can_hold_is_an_error_of_the_store(peer: Peer, client: Client, etag: str) -> None:
    peer.store.put("b", "k", DATA)
    peer.play(Rule("GetObject", do=WrongETag(etag)), Rule("UploadPart", do=WrongETag(etag)))
    ranged = {"range_optimization": True, "range_threshold": 0, "chunk_size": 1 << 16}
    for call in (lambda: client.get(URI, **ranged), lambda: client.put_bytes(URI, bytes(6 * MIB), part_size=5 * MIB)):
        with contextlib.suppress(s3dlio.S3dlioError):
            call()
    assert_no_line_was_added(peer)


# ------------------------------------------------------------------------------------------------------- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("named", [None, "eu-west-1", "evil.example/"], ids=["no-region", "region", "no-region-name"])
def test_a_redirect_never_takes_a_request_to_another_host(
    peer: Peer, client: Client, status: int, named: str | None
) -> None:
    with Peer() as other:
        headers = {"Location": f"{other.endpoint_url}/b/k"}
        if named is not None:
            headers["x-amz-bucket-region"] = named
        peer.play(Rule(do=Status(status, "PermanentRedirect", headers)))
        for call in (lambda: client.get(URI), lambda: client.put_bytes(URI, b"x"), lambda: client.stat(URI)):
            with pytest.raises(s3dlio.S3Error):
                call()
        assert other.requests() == []
    assert {"authorization" in one.headers for one in peer.requests()} == {True}


def test_another_region_is_asked_at_the_same_endpoint(peer: Peer, client: Client) -> None:
    with Peer() as other:
        peer.store.put("b", "k", DATA)
        peer.play(Rule(do=InRegion("eu-west-1", 307, location=other.endpoint_url)))
        assert client.get(URI) == DATA
        assert other.requests() == []


# ----------------------------------------------------------------------------------------------------------- bounds


class Endless:
    """A head, and then the same piece until the other end has had enough; `sent` counts it."""

    MOST = 256 * MIB

    def __init__(self, head: str, piece: bytes) -> None:
        self._head, self._piece = head.replace("\n", "\r\n").encode(), piece
        self.sent = 0

    def __call__(self, turn: Any) -> None:
        turn.read()
        turn.link.send(self._head)
        while self.sent < self.MOST:
            turn.link.send(self._piece)
            self.sent += len(self._piece)
        raise Over


LARGE = 1 << 40
ENDLESS: dict[str, tuple[str, str, bytes]] = {
    "head": ("GetObject", "HTTP/1.1 200 OK\nX-Long: ", b"x" * 65_536),
    "headers": ("GetObject", "HTTP/1.1 200 OK\n", b"X-One: more\r\n" * 5000),
    "interim-head": ("GetObject", "HTTP/1.1 100 Continue\nX-Long: ", b"x" * 65_536),
    "error-body": ("GetObject", f"HTTP/1.1 500 Error\nContent-Length: {LARGE}\n\n", bytes(65_536)),
    "error-chunks": (
        "GetObject",
        "HTTP/1.1 403 No\nTransfer-Encoding: chunked\n\n",
        b"10000\r\n" + bytes(65_536) + b"\r\n",
    ),
    "body-without-length": ("ListMultipartUploads", "HTTP/1.1 200 OK\nConnection: close\n\n", bytes(65_536)),
    "document": ("ListMultipartUploads", f"HTTP/1.1 200 OK\nContent-Length: {LARGE}\n\n", b" " * 65_536),
    "chunk-extension": ("GetObject", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1;", b"x" * 65_536),
    "trailers": ("GetObject", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n0\n", b"X-One: more\r\n" * 5000),
    "empty-parts": ("UploadPart", f"HTTP/1.1 200 OK\nETag: x\nContent-Length: {LARGE}\n\n", bytes(65_536)),
}


@pytest.mark.parametrize(("operation", "head", "piece"), ENDLESS.values(), ids=ENDLESS)
def test_an_answer_without_an_end_is_given_up(
    peer: Peer, connect: Connect, operation: str, head: str, piece: bytes
) -> None:
    endless = Endless(head, piece)
    peer.play(Rule(operation, do=endless))
    client = connect(peer, attempts=1, deadline=10.0)
    calls: dict[str, Callable[[], object]] = {
        "GetObject": lambda: client.get(URI, verify=False),
        "ListMultipartUploads": lambda: client.list_uploads("s3://b"),
        "UploadPart": lambda: client.put_bytes(URI, bytes(6 * MIB), part_size=5 * MIB, max_in_flight=1),
    }
    with pytest.raises(s3dlio.S3dlioError):
        calls[operation]()
    peer.wait_until_quiet()
    assert endless.sent < endless.MOST // 2
    peer.wait_for(lambda: not peer.store.orphans())


def test_a_page_of_xml_beyond_all_bounds_is_refused(peer: Peer, client: Client) -> None:
    class Huge:
        def __call__(self, turn: Any) -> None:
            reply = turn.serve()
            padding = b"<!--" + b"x" * (17 * MIB) + b"-->"
            turn.send(type(reply)(200, {}, reply.body + padding))

    peer.play(Rule("ListMultipartUploads", do=Huge()))
    with pytest.raises(s3dlio.S3Error, match="S3's have at most"):
        client.list_uploads("s3://b")


# ---------------------------------------------------------------------------------------------------------- secrets

TALKATIVE = """
import io, logging, os, sys, traceback
log = io.StringIO()
logging.basicConfig(level=logging.DEBUG, stream=log)
import s3dlio
from s3dlio import RetryPolicy
client = s3dlio.Client(retries=RetryPolicy(max_attempts=2, base_delay=0.001))
given = s3dlio.Client(credentials=(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"],
    os.environ["AWS_SESSION_TOKEN"]), retries=RetryPolicy(max_attempts=2, base_delay=0.001))
for one in (client, given):
    for key in ("there", "denied", "slow", "dropped", "missing", "expired", "region"):
        uri = f"s3://b/{key}"
        for call in (lambda: one.get(uri), lambda: one.put_bytes(uri, bytes(6 << 20), part_size=5 << 20),
                     lambda: one.put_bytes(uri, b"x"), lambda: one.stat(uri),
                     lambda: one.resume(uri, "nothing"), lambda: one.get_many([uri])):
            try:
                print(repr(call()))
            except Exception as error:
                print(repr(error), str(error), error.__dict__)
                traceback.print_exc(file=sys.stdout)
    service = one.service
    print(repr(one), repr(one.__dict__), repr(service.__dict__), repr(service.settings))
    print(repr(service._credentials.frozen()), repr(service._signer))
print(log.getvalue())
"""


def test_no_secret_is_in_a_log_a_repr_a_traceback_or_an_error(peer: Peer) -> None:
    """Everything that any library logs at DEBUG while ours works and fails, and whatever it says of itself."""
    peer.store.put("b", "there", DATA)
    peer.play(
        Rule(key="denied", do=Status(403, "AccessDenied")),
        Rule(key="slow", do=Status(503, "SlowDown")),
        Rule(key="expired", do=Status(400, "ExpiredToken")),
        Rule(key="region", do=Status(301, "PermanentRedirect", {"x-amz-bucket-region": "eu-west-1"})),
        Rule(key="dropped", do=Dropping()),
    )
    secrets = {
        "AWS_ACCESS_KEY_ID": "AKIDOFTHETEST",
        "AWS_SECRET_ACCESS_KEY": "hush/Never+To.Be*Seen",
        "AWS_SESSION_TOKEN": "token-Never-To-Be-Seen",
    }
    environment = {**os.environ, **secrets, "AWS_ENDPOINT_URL": peer.endpoint_url}
    shown = subprocess.run(
        [sys.executable, "-c", TALKATIVE], env=environment, capture_output=True, text=True, timeout=100, check=True
    )
    text = shown.stdout + shown.stderr
    assert "DEBUG" in text
    assert "AccessDenied" in text
    assert "Traceback" in text
    for secret in ("Never", "hush", "AWS4-HMAC-SHA256", "Signature="):
        assert secret not in text, text[max(0, text.index(secret) - 300) :][:600]
    signatures = {one.headers["authorization"].rpartition("=")[2] for one in peer.requests()}
    assert len(signatures) > 20
    assert not [one for one in signatures if one in text]


class Dropping:
    def __call__(self, turn: Any) -> None:
        turn.read()
        turn.close()


PRESIGNED = "X-Amz-Credential=AKID%2F2026&X-Amz-Security-Token=tok%2B&X-Amz-Signature=abc123"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"https://h/b/k?{PRESIGNED}&partNumber=3", "&partNumber=3"),
        (f"GET '/b/k?{PRESIGNED}' was refused", "' was refused"),
        ("/k?AWSAccessKeyId=AKID&Expires=1&Signature=abc123%3D", "&Expires=1&"),
        ("x-amz-signature%3Dabc123 in a log", " in a log"),
    ],
)
def test_a_presigned_query_loses_what_gives_access(text: str, kept: str) -> None:
    clean = redacted(text)
    assert kept in clean
    assert not [secret for secret in ("AKID", "tok", "abc123") if secret in clean], clean
    assert redacted(clean) == clean


def test_a_text_without_a_presigned_query_stays_as_it_is() -> None:
    for text in ("GetObject of s3://b/k?a=b&c=d was refused", "100%", "Signature v4", ""):
        assert redacted(text) == text


def test_a_presigned_url_is_repeated_nowhere(peer: Peer, connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """As a URI, as an endpoint, as a key, and in the words of a store."""
    url = f"https://h/b/k?{PRESIGNED}"
    client = connect(peer)
    peer.play(Rule(key="echo", do=Echoing(url)))
    calls: list[Callable[[], object]] = [
        lambda: client.get(url),
        lambda: client.get(f"s3://b/k?{PRESIGNED}"),
        lambda: client.writer(f"s3://b/k?{PRESIGNED}", part_size=1),
        lambda: connect(peer, endpoint_url=url).get(URI),
        lambda: client.get("s3://b/echo"),
    ]
    with caplog.at_level(logging.DEBUG):
        for call in calls:
            with pytest.raises(s3dlio.S3dlioError) as caught:
                call()
            told = f"{caught.value} {caught.value!r} {caught.value.args} {getattr(caught.value, 'message', '')}"
            assert "abc123" not in told
            assert "AKID" not in told
        logging.getLogger("s3dlio").warning("asked for %s", url)
    assert "asked for https://h/b/k" in caplog.text
    assert "abc123" not in caplog.text


class Echoing:
    """An error whose message repeats the request's URL."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, turn: Any) -> None:
        reply = Status(403, "AccessDenied").reply(turn)
        turn.read()
        turn.send(type(reply)(403, {}, reply.body.replace(b"as told", self._url.replace("&", "&amp;").encode())))
