"""Whole calls against a scripted peer: retries, replaced objects, corrupt bytes and refused answers."""

from __future__ import annotations

from typing import Any

import pytest
from small_store import Peer, Reply, Script, crc, error

import s3dlio
from s3dlio import RetryPolicy

MIB = 1 << 20


def failing_first(times: int, reply: Reply, method: str) -> Script:
    seen: dict[str, int] = {}

    def script(_: Peer, verb: str, path: str, __: dict[str, str], ___: bytes) -> Reply | None:
        seen[path] = seen.get(path, 0) + 1
        return reply if verb == method and seen[path] <= times else None

    return script


@pytest.mark.parametrize(
    ("status", "code"),
    [(500, "InternalError"), (502, "x"), (503, "SlowDown"), (504, "x"), (400, "RequestTimeout")],
)
def test_passing_failures_are_retried_and_parts_sent_again(
    peer: Peer, client: s3dlio.Client, status: int, code: str
) -> None:
    peer.script = failing_first(2, error(status, code), "PUT")
    data = bytes(range(256)) * (11 << 12)
    client.put_bytes("s3://b/k", data, part_size=5 * MIB)
    assert peer.objects["/b/k"] == data


def test_attempts_are_capped_and_told(peer: Peer, client: s3dlio.Client) -> None:
    peer.script = failing_first(99, error(503, "SlowDown"), "PUT")
    with pytest.raises(s3dlio.ThrottledError, match="after 4 attempts") as caught:
        client.put_bytes("s3://b/k", b"x")
    assert (caught.value.status, caught.value.code, caught.value.attempts) == (503, "SlowDown", 4)
    assert len(peer.requests) == 4


def test_a_refusal_is_not_retried_and_the_upload_is_aborted(peer: Peer, client: s3dlio.Client) -> None:
    peer.script = failing_first(99, error(403, "AccessDenied"), "PUT")
    with pytest.raises(PermissionError, match="part"):
        client.put_bytes("s3://b/k", bytes(11 * MIB), part_size=5 * MIB)
    assert peer.uploads == 0
    assert any(method == "DELETE" for method, _, _ in peer.requests)


def test_abort_on_failure_can_be_switched_off(peer: Peer, client: s3dlio.Client) -> None:
    peer.script = failing_first(99, error(403, "AccessDenied"), "PUT")
    writer = client.writer("s3://b/k", part_size=5 * MIB, abort_on_failure=False)
    writer.write(bytes(11 * MIB))
    with pytest.raises(s3dlio.AccessDeniedError):
        writer.close()
    assert peer.uploads == 1
    assert not any(method == "DELETE" for method, _, _ in peer.requests)


def test_a_wrong_checksum_in_the_complete_answer_is_an_error(peer: Peer, client: s3dlio.Client) -> None:
    def script(_: Peer, method: str, path: str, __: dict[str, str], ___: bytes) -> Reply | None:
        if method != "POST" or "uploadId" not in path:
            return None
        told = f"<ETag>x-3</ETag><ChecksumCRC64NVME>{crc(b'other')}</ChecksumCRC64NVME>"
        return 200, {}, f"<CompleteMultipartUploadResult>{told}</CompleteMultipartUploadResult>".encode()

    peer.script = script
    with pytest.raises(s3dlio.ChecksumMismatchError, match="CRC64NVME"):
        client.put_bytes("s3://b/k", bytes(11 * MIB), part_size=5 * MIB)


def test_an_error_inside_a_200_complete_is_an_error(peer: Peer, client: s3dlio.Client) -> None:
    def script(_: Peer, method: str, path: str, __: dict[str, str], ___: bytes) -> Reply | None:
        complete = method == "POST" and "uploadId" in path
        return (200, {}, b" \n <Error><Code>InvalidPart</Code></Error>") if complete else None

    peer.script = script
    with pytest.raises(s3dlio.S3Error, match="InvalidPart"):
        client.put_bytes("s3://b/k", bytes(11 * MIB), part_size=5 * MIB)
    assert peer.uploads == 0


def test_a_passing_error_inside_a_200_complete_is_retried(peer: Peer, client: s3dlio.Client) -> None:
    told = iter([(200, {}, b"<Error><Code>InternalError</Code></Error>")])

    def script(_: Peer, method: str, path: str, __: dict[str, str], ___: bytes) -> Reply | None:
        return next(told, None) if method == "POST" and "uploadId" in path else None

    peer.script = script
    assert client.put_bytes("s3://b/k", bytes(11 * MIB), part_size=5 * MIB).parts == 3
    assert len(peer.objects["/b/k"]) == 11 * MIB


def test_a_success_that_is_no_document_leaves_the_outcome_unknown(peer: Peer, client: s3dlio.Client) -> None:
    peer.script = lambda _, method, *__: (200, {}, b"<html>welcome") if method == "POST" else None
    with pytest.raises(s3dlio.TransportError, match="cannot be read") as caught:
        client.put_bytes("s3://b/k", bytes(11 * MIB), part_size=5 * MIB)
    assert caught.value.uncertain == caught.value.attempts > 1


def test_a_success_without_an_etag_leaves_the_outcome_unknown(peer: Peer, client: s3dlio.Client) -> None:
    peer.script = lambda _, method, *__: (200, {}, b"") if method == "PUT" else None
    with pytest.raises(s3dlio.TransportError, match="it has no ETag") as caught:
        client.put_bytes("s3://b/k", b"x")
    assert caught.value.uncertain == caught.value.attempts > 1


RANGED = {"range_optimization": True, "range_threshold": 0, "chunk_size": 65_536, "range_concurrency": 4}


@pytest.mark.parametrize("options", [{}, RANGED], ids=["single", "ranged"])
def test_a_flipped_bit_in_a_download_is_detected(peer: Peer, client: s3dlio.Client, options: dict[str, Any]) -> None:
    peer.objects["/b/k"] = bytes(400_000)

    def script(server: Peer, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply | None:
        status, told, data = server.ordinary(method, path, headers, body)
        wrong = method == "GET" and ("range" not in headers or headers["range"].startswith("bytes=65536-"))
        return status, told, (data[:-1] + b"\x01" if wrong else data)

    peer.script = script
    with pytest.raises(s3dlio.ChecksumMismatchError, match="CRC64NVME"):
        client.get("s3://b/k", **options)
    assert len(client.get("s3://b/k", verify=False, **options)) == 400_000


def test_an_object_replaced_between_ranges_is_never_mixed(peer: Peer, client: s3dlio.Client) -> None:
    peer.objects["/b/k"] = bytes(400_000)

    def replaced(_: Peer, __: str, ___: str, headers: dict[str, str], ____: bytes) -> Reply | None:
        if "if-match" not in headers:
            return None
        assert headers["if-match"] == '"tag"'
        return error(412, "PreconditionFailed")

    peer.script = replaced
    with pytest.raises(s3dlio.ObjectChangedError, match="read it again"):
        client.get("s3://b/k", **RANGED)


@pytest.mark.parametrize("wrong", ["bytes 1-65536/400000", "bytes 0-10/400000", "nonsense", ""])
def test_a_wrong_content_range_is_an_error(peer: Peer, client: s3dlio.Client, wrong: str) -> None:
    peer.objects["/b/k"] = bytes(400_000)

    def script(server: Peer, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply | None:
        status, told, data = server.ordinary(method, path, headers, body)
        return status, {**told, **({"Content-Range": wrong} if "range" in headers else {})}, data

    peer.script = script
    with pytest.raises((s3dlio.S3Error, s3dlio.TransportError), match="the store sent Content-Range"):
        client.get("s3://b/k", **RANGED)


def test_a_store_that_ignores_ranges_is_read_whole(peer: Peer, client: s3dlio.Client) -> None:
    peer.objects["/b/k"] = bytes(range(250)) * 2000
    peer.script = lambda server, method, path, headers, body: server.ordinary(method, path, {}, body)
    assert client.get("s3://b/k", **RANGED) == peer.objects["/b/k"]
    with pytest.raises(s3dlio.S3Error, match="the whole object instead of a range"):
        client.get_range("s3://b/k", 5, 5)


@pytest.mark.parametrize("trailer", [b"", b"x-a: b\r\n"])
def test_a_chunked_answer_is_read_too(peer: Peer, client: s3dlio.Client, trailer: bytes) -> None:
    body = b"5\r\nhello\r\n6\r\n world\r\n0\r\n" + trailer + b"\r\n"
    peer.script = lambda *_: (200, {"Transfer-Encoding": "chunked", "ETag": '"t"'}, body)
    assert client.get("s3://b/k") == b"hello world"


def test_a_pooled_connection_that_the_server_closed_is_replaced_unseen(peer: Peer, client: s3dlio.Client) -> None:
    peer.objects["/b/k"] = b"hello"
    peer.script = lambda server, *rest: (*server.ordinary(*rest)[:1], {"Connection": "close"}, b"hello")
    for _ in range(3):
        assert client.get("s3://b/k", verify=False) == b"hello"
    assert len(peer.requests) == 3


def test_requests_are_signed_and_carry_the_checksum(peer: Peer, client: s3dlio.Client) -> None:
    client.put_bytes("s3://b/k", b"hello")
    _, _, headers = peer.requests[0]
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=id/")
    assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    assert headers["x-amz-checksum-crc64nvme"] == crc(b"hello")
    assert "secret" not in str(headers)


def test_anonymous_requests_are_not_signed(peer: Peer) -> None:
    peer.objects["/b/k"] = b"public"
    with s3dlio.Client(endpoint_url=f"http://127.0.0.1:{peer.server_port}", credentials="anonymous") as client:
        assert client.get("s3://b/k") == b"public"
    assert "authorization" not in peer.requests[0][2]


def test_a_refused_connection_names_place_and_attempts() -> None:
    retries = RetryPolicy(max_attempts=2, base_delay=0.001)
    client = s3dlio.Client(endpoint_url="http://127.0.0.1:1", credentials="anonymous", retries=retries)
    with pytest.raises(ConnectionError, match="GetObject of s3://b/k failed after 2 attempts") as caught:
        client.get("s3://b/k")
    assert isinstance(caught.value, s3dlio.TransportError)
