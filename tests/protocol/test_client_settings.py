"""What environment, profile and arguments say is what goes over the wire, in every call; and a client travels by it."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
from small_store import Peer, Reply, client_of, error

import s3dlio
from s3dlio import Client, ConfigurationError, RetryPolicy, Timeouts, UnsupportedUriError

DATA = bytes(range(256)) * 16
PART = 5 << 20
URI = "s3://b/k"
ALIKE = [URI] * 3

READS: dict[str, Callable[..., Any]] = {
    "get": lambda client, **options: client.get(URI, **options),
    "get_range": lambda client, **options: client.get_range(URI, 0, len(DATA), **options),
    "get_into": lambda client, **options: client.get_into(URI, bytearray(len(DATA)), **options),
    "get_many": lambda client, **options: client.get_many(ALIKE, **options),
}
# A range of given length has no checksum of its own.
VERIFIED = {**READS, "get_range": lambda client, **options: client.get_range(URI, 0, **options)}
WRITES: dict[str, Callable[..., Any]] = {
    "put_bytes": lambda client, **options: client.put_bytes(URI, DATA, **options),
    "put_bytes-multipart": lambda client, **options: client.put_bytes(URI, bytes(PART + 1), part_size=PART, **options),
    "put_many": lambda client, **options: client.put_many([(uri, DATA) for uri in ALIKE], **options),
}
CALLS = {**READS, **WRITES, "stat": lambda client: client.stat(URI)}


@pytest.fixture(autouse=True)
def stored(peer: Peer) -> None:
    peer.objects["/b/k"] = DATA


def from_environment(peer: Peer, **settings: Any) -> Client:
    """A client that was not told how to retry."""
    return client_of(peer, retries=None, **settings)


# ------------------------------------------------------------------------------------------------- Amazon's settings


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_number_of_attempts_comes_from_the_environment(
    peer: Peer, call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    peer.script = lambda *_: error(503, "SlowDown")
    with from_environment(peer) as client, pytest.raises(s3dlio.S3Error) as caught:
        call(client)
    assert caught.value.attempts == 1


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("AWS_MAX_ATTEMPTS", "many"),
        ("AWS_RETRY_MODE", "adaptive"),
        ("AWS_USE_FIPS_ENDPOINT", "true"),
        ("AWS_USE_DUALSTACK_ENDPOINT", "true"),
    ],
)
def test_what_cannot_be_honoured_is_refused_before_a_byte_moves(
    peer: Peer, call: Callable[..., Any], variable: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)
    with from_environment(peer) as client, pytest.raises(ConfigurationError, match=variable):
        call(client)
    assert peer.requests == []


@pytest.mark.parametrize(
    ("variable", "host"),
    [
        ("AWS_USE_FIPS_ENDPOINT", "s3-fips.us-west-2.amazonaws.com"),
        ("AWS_USE_DUALSTACK_ENDPOINT", "s3.dualstack.us-west-2.amazonaws.com"),
    ],
)
def test_the_kind_of_amazons_endpoint_comes_from_the_environment(
    variable: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "true")
    with Client(region="us-west-2", credentials="anonymous") as client:
        assert client.service.endpoint.host == host


@pytest.mark.parametrize("call", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize(
    ("options", "sent"), [({}, False), ({"checksum": "crc32c"}, True), ({"checksum": "crc64nvme"}, True)]
)
def test_a_checksum_that_nobody_asked_for_is_left_out_where_the_environment_says_so(
    peer: Peer, call: Callable[..., Any], options: dict[str, Any], sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    with from_environment(peer) as client:
        call(client, **options)
    names = {name for method, _, headers in peer.requests if method in ("PUT", "POST") for name in headers}
    assert any(name.startswith("x-amz-checksum-") for name in names) == sent
    assert len(peer.requests) >= 1


@pytest.mark.parametrize("name", VERIFIED)
def test_a_download_is_verified_unless_the_environment_says_no(
    peer: Peer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flipped(served: Peer, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply | None:
        status, told, data = served.ordinary(method, path, headers, body)
        return status, told, data[:-1] + bytes([data[-1] ^ 1])

    peer.script = flipped
    with from_environment(peer) as client, pytest.raises(s3dlio.ChecksumMismatchError):
        VERIFIED[name](client)
    monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
    with from_environment(peer) as client:
        VERIFIED[name](client)
        with pytest.raises(s3dlio.ChecksumMismatchError):
            VERIFIED[name](client, verify=True)


# ------------------------------------------------------------------------------------------------------ our variables


OURS = {
    "chunk_size": ("S3DLIO_CHUNK_SIZE", 1 << 20),
    "range_concurrency": ("S3DLIO_RANGE_CONCURRENCY", 2),
    "range_threshold": ("S3DLIO_RANGE_THRESHOLD_MB", 1 << 20),
    "range_optimization": ("S3DLIO_ENABLE_RANGE_OPTIMIZATION", True),
}


@pytest.mark.parametrize("call", READS.values(), ids=READS)
@pytest.mark.parametrize("keyword", OURS)
def test_a_bad_variable_breaks_only_calls_that_need_it(
    client: Client, call: Callable[..., Any], keyword: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable, value = OURS[keyword]
    monkeypatch.setenv(variable, "nonsense")
    if keyword != "range_optimization" or call is not READS["get_range"]:
        call(client, **{keyword: value})
        with pytest.raises(ConfigurationError, match=f"{variable}='nonsense'"):
            call(client)


# ------------------------------------------------------------------------------------------------------------ statuses


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("status", [509, 520, 521, 522, 523, 524, 529, 530, 598])
def test_what_machines_before_the_store_say_of_it_is_retried(
    peer: Peer, client: Client, call: Callable[..., Any], status: int
) -> None:
    def once(served: Peer, *_: object) -> Reply | None:
        return (status, {"Content-Type": "text/html"}, b"<html>busy</html>") if len(served.requests) == 1 else None

    peer.script = once
    call(client)
    assert len(peer.requests) > 1


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("code", ["SlowDownRead", "SlowDownWrite"])
def test_minios_throttles_are_retried_and_told_as_throttles(
    peer: Peer, client: Client, call: Callable[..., Any], code: str
) -> None:
    def busy(*_: object) -> Reply:
        return 503, {"x-minio-error-code": code}, error(503, code)[2]

    peer.script = busy
    with pytest.raises(s3dlio.ThrottledError) as caught:
        call(client)
    assert (caught.value.code, caught.value.attempts) == (code, 4)


# ------------------------------------------------------------------------------------------- answers of other machines


PAGE = b"<html>\n<head><title>Sign in</title></head><body>" + b"x" * 500 + b"</body></html>"
HEADS = {
    "page": ({"Content-Type": "text/html"}, PAGE),
    "page-with-doctype": ({"Content-Type": "text/html"}, b"<!DOCTYPE html>" + PAGE),
    "unclosed": ({"Content-Type": "text/html"}, PAGE[:-7]),
}


@pytest.mark.parametrize("status", [200, 403])
@pytest.mark.parametrize(("told", "body"), HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("name", ["list_uploads", "put_bytes-multipart"])
def test_a_page_in_place_of_a_document_is_told_by_its_first_words(
    peer: Peer, client: Client, name: str, told: dict[str, str], body: bytes, status: int
) -> None:
    calls = {**CALLS, "list_uploads": lambda client: client.list_uploads("s3://b")}
    peer.script = lambda *_: (status, told, body)
    with pytest.raises(s3dlio.S3dlioError, match=r"not S3's XML but text/html.*<head><title>Sign in") as caught:
        calls[name](client)
    assert "x" * 81 not in str(caught.value)


@pytest.mark.parametrize("call", [one for name, one in CALLS.items() if name != "stat"])
def test_a_redirect_that_leads_nowhere_tells_where_it_points(
    peer: Peer, client: Client, call: Callable[..., Any]
) -> None:
    document = b"<Error><Code>PermanentRedirect</Code><Endpoint>b.s3-eu.example</Endpoint></Error>"
    peer.script = lambda *_: (301, {}, document)
    with pytest.raises(s3dlio.S3Error, match=r"points to b\.s3-eu\.example"):
        call(client)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_location_header_is_told_by_every_call(peer: Peer, client: Client, call: Callable[..., Any]) -> None:
    peer.script = lambda *_: (302, {"Location": "https://login.example/"}, b"")
    with pytest.raises(s3dlio.S3Error, match=r"points to https://login\.example/"):
        call(client)


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("bucket", ["b--usw2-az1--x-s3", "arn:aws:s3:us-west-2:1:accesspoint"])
def test_a_bucket_of_another_kind_is_refused_by_every_call(call: str, bucket: str) -> None:
    uri = f"s3://{bucket}/k"
    with Client(region="us-west-2", credentials="anonymous") as client:
        calls: dict[str, Callable[[], Any]] = {
            "get": lambda: client.get(uri),
            "get_range": lambda: client.get_range(uri, 0, 1),
            "get_into": lambda: client.get_into(uri, bytearray(1)),
            "get_many": lambda: client.get_many([uri] * 3),
            "put_bytes": lambda: client.put_bytes(uri, b"x"),
            "put_bytes-multipart": lambda: client.put_bytes(uri, bytes(PART + 1), part_size=PART),
            "put_many": lambda: client.put_many([(uri, b"x")] * 3),
            "stat": lambda: client.stat(uri),
        }
        with pytest.raises(UnsupportedUriError, match=r"directory bucket|ARN"):
            calls[call]()


# ------------------------------------------------------------------------------------------------ a client that travels


WAYS: dict[str, Callable[[Client], Client]] = {
    **{
        f"pickle-{protocol}": (lambda one, protocol=protocol: pickle.loads(pickle.dumps(one, protocol)))
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    },
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_client_travels_by_its_settings(peer: Peer, way: Callable[[Client], Client], used: bool) -> None:
    given: dict[str, Any] = {
        "endpoint_url": peer.endpoint_url, "region": "r", "credentials": ("id", "hush", "token"),
        "addressing_style": "path", "verify": False, "ca_bundle": "~/ca.pem", "max_connections": 3,
        "checksum_fallback": False, "timeouts": Timeouts(connect=3.0), "retries": RetryPolicy(max_attempts=2),
    }  # fmt: skip
    with Client(**given) as client:
        if used:
            client.get(URI)
        with way(client) as other:
            assert other.service is not client.service
            for name, value in given.items():
                assert getattr(other.service.settings, name) == value
            assert other.get(URI) == DATA
            assert "hush" not in repr(other)


def test_a_client_takes_no_secret_along_that_it_was_not_told(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "first-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "hush-token")
    with Client(endpoint_url=peer.endpoint_url, region="r") as client:
        client.get(URI)
        packed = pickle.dumps(client)
    assert b"hush" not in packed
    assert b"first-key" not in packed
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "second-key")
    with pickle.loads(packed) as other:
        other.get(URI)
    keys = [re.search("Credential=([^/]*)/", headers["authorization"]) for _, _, headers in peer.requests]
    assert [one[1] for one in keys if one] == ["first-key", "second-key"]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_password_in_an_endpoint_is_in_no_repr_and_no_refusal(call: Callable[..., Any]) -> None:
    with Client(endpoint_url="https://AKIA:hush@store.invalid", credentials=("id", "s"), region="r") as client:
        assert "hush" not in f"{client!r} {client.service.settings!r}"
        with pytest.raises(ConfigurationError) as caught:
            call(client)
    assert "hush" not in f"{caught.value!r} {caught.value}"


def test_a_password_in_an_endpoint_that_is_refused_at_once_is_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Client(endpoint_url="https://AKIA:hush@store\n.invalid")
    assert "hush" not in f"{caught.value!r} {caught.value}"


@pytest.mark.parametrize("call", CALLS)
def test_a_password_in_a_uri_is_repeated_by_no_call(client: Client, call: str) -> None:
    uri = "s3://AKIA:hush@bucket/key"
    calls: dict[str, Callable[[], Any]] = {
        "get": lambda: client.get(uri),
        "get_range": lambda: client.get_range(uri, 0, 1),
        "get_into": lambda: client.get_into(uri, bytearray(1)),
        "get_many": lambda: client.get_many([URI, uri]),
        "put_bytes": lambda: client.put_bytes(uri, b"x"),
        "put_bytes-multipart": lambda: client.writer(uri),
        "put_many": lambda: client.put_many([(URI, b"x"), (uri, b"x")]),
        "stat": lambda: client.stat(uri),
    }
    with pytest.raises(UnsupportedUriError) as caught:
        calls[call]()
    assert "hush" not in f"{caught.value!r} {caught.value}"
