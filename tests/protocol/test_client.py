"""Whole calls against a scripted peer: retries, replaced objects, corrupt bytes, overlap and memory bounds."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from awscrt import checksums

import s3dlio
from s3dlio import MultipartUploadWriter, RetryPolicy

MIB = 1 << 20
Reply = tuple[int, dict[str, str], bytes]
Script = Callable[["Peer", str, str, dict[str, str], bytes], Reply | None]


def crc(data: bytes) -> str:
    return base64.b64encode(checksums.crc64nvme(data).to_bytes(8, "big")).decode()


def error(status: int, code: str) -> Reply:
    return status, {}, f"<Error><Code>{code}</Code><Message>as told</Message></Error>".encode()


class Peer(ThreadingHTTPServer):
    """Answers each request by the script, or like a small S3 that keeps what it accepted."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: Script = lambda *_: None
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.parts: dict[int, bytes] = {}
        self.objects: dict[str, bytes] = {}
        self.uploads = 0
        self.lock = threading.Lock()

    def respond(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        with self.lock:
            self.requests.append((method, path, headers))
        scripted = self.script(self, method, path, headers, body)
        return self.ordinary(method, path, headers, body) if scripted is None else scripted

    def ordinary(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        name, _, query = path.partition("?")
        part = re.search(r"partNumber=(\d+)", query)
        if method == "POST" and query == "uploads=":
            self.uploads += 1
            return 200, {}, b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>"
        if method == "PUT" and part:
            with self.lock:
                self.parts[int(part[1])] = body
            return 200, {"ETag": f'"part{part[1]}"'}, b""
        if method == "POST":
            self.objects[name] = b"".join(self.parts[n] for n in sorted(self.parts))
            tag = f"<ETag>&quot;x-{len(self.parts)}&quot;</ETag>"
            return 200, {}, f"<CompleteMultipartUploadResult>{tag}</CompleteMultipartUploadResult>".encode()
        if method == "DELETE":
            self.uploads -= 1
            return 204, {}, b""
        if method == "PUT":
            self.objects[name] = body
            return 200, {"ETag": '"whole"'}, b""
        if name not in self.objects or query.startswith("max-parts") or "uploadId" in query:
            return error(404, "NoSuchKey")
        return self.read(self.objects[name], headers)

    def read(self, data: bytes, headers: dict[str, str]) -> Reply:
        told = {"ETag": '"tag"', "x-amz-checksum-crc64nvme": crc(data), "x-amz-checksum-type": "FULL_OBJECT"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
        if not asked:
            return 200, told, data
        first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        if first >= len(data):
            return error(416, "InvalidRange")
        ranged = {"ETag": '"tag"', "Content-Range": f"bytes {first}-{last}/{len(data)}"}
        return 206, ranged, data[first : last + 1]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Peer

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, told, data = self.server.respond(self.command, self.path, headers, body)
        self.send_response(status)
        if "Transfer-Encoding" not in told:
            self.send_header("Content-Length", str(len(data)))
        for name, value in told.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


@pytest.fixture
def client(peer: Peer) -> Iterator[s3dlio.Client]:
    url = f"http://127.0.0.1:{peer.server_port}"
    retries = RetryPolicy(max_attempts=4, base_delay=0.001)
    with s3dlio.Client(endpoint_url=url, credentials=("id", "secret"), region="r", retries=retries) as made:
        yield made


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


def test_an_answer_that_is_no_document_is_an_error_of_the_store(peer: Peer, client: s3dlio.Client) -> None:
    peer.script = lambda _, method, *__: (200, {}, b"<html>welcome") if method == "POST" else None
    with pytest.raises(s3dlio.S3Error, match="MalformedResponse"):
        client.put_bytes("s3://b/k", bytes(11 * MIB), part_size=5 * MIB)


def test_a_missing_etag_is_an_error(peer: Peer, client: s3dlio.Client) -> None:
    peer.script = lambda _, method, *__: (200, {}, b"") if method == "PUT" else None
    with pytest.raises(s3dlio.S3Error, match="MissingETag"):
        client.put_bytes("s3://b/k", b"x")


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
    with pytest.raises(s3dlio.S3Error, match="UnexpectedRange"):
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


def test_parts_travel_while_the_caller_is_still_writing(peer: Peer, client: s3dlio.Client) -> None:
    arrived, go_on = threading.Event(), threading.Event()

    def slow(_: Peer, method: str, *__: Any) -> None:
        if method == "PUT":
            arrived.set()
            assert go_on.wait(30)

    peer.script = slow
    writer = client.writer("s3://b/k", part_size=5 * MIB)
    writer.write(bytes(6 * MIB))
    assert arrived.wait(30)  # part 1 is on its way, and the peer holds it
    writer.write(bytes(6 * MIB))
    assert writer.parts_uploaded == 0
    go_on.set()
    assert writer.close().total_bytes == 12 * MIB


def test_abort_wakes_a_caller_that_waits_for_room(peer: Peer, client: s3dlio.Client) -> None:
    go_on = threading.Event()
    peer.script = lambda _, method, *__: go_on.wait(30) and None if method == "PUT" else None
    writer = client.writer("s3://b/k", part_size=5 * MIB, max_in_flight=1)
    raised: list[BaseException] = []
    full = threading.Event()

    def fill() -> None:
        try:
            for number in range(100):
                if number == 1:
                    full.set()
                writer.write(bytearray(5 * MIB))
        except s3dlio.WriterClosedError as error:
            raised.append(error)

    thread = threading.Thread(target=fill)
    thread.start()
    assert full.wait(30)
    writer.abort()
    thread.join(30)
    go_on.set()
    assert raised


@pytest.mark.parametrize("max_in_flight", [1, 2, 4])
@pytest.mark.parametrize(
    "calls",
    [
        [("reserve", 5, 5)] * 6,
        [("reserve", 16, 16)] * 3,
        [("reserve", 7, 0.0001)] * 8,
        [("reserve", 9, 4)] * 6,
        [("reserve", 5, 3)] * 8,
        [("write", 1, 0)] * 20,
        [("write", 12, 0)] * 3,
        [("borrow", 12, 0)] * 3,
        [("borrow", 3, 0)] * 8,
        [("borrow", 3, 0), ("reserve", 6, 2), ("write", 1, 0)] * 4,
    ],
    ids=[
        "parts",
        "large",
        "hardly-used",
        "half-used",
        "tails",
        "small-writes",
        "large-writes",
        "lent",
        "lent-small",
        "mixed",
    ],
)
def test_the_account_never_exceeds_its_formula(
    client: s3dlio.Client, calls: list[tuple[str, int, float]], max_in_flight: int
) -> None:
    part_size = 5 * MIB
    largest = max(int(call[1] * MIB) for call in calls)
    bound = (max_in_flight + 2) * part_size + max(0, largest - part_size)
    writer = client.writer("s3://b/k", part_size=part_size, max_in_flight=max_in_flight)
    upload, peak, total = writer._state, 0, 0
    take = upload.take

    def taking(*arguments: Any) -> None:
        nonlocal peak
        take(*arguments)
        peak = max(peak, upload.account)

    upload.take = taking  # type: ignore[method-assign]  # observes, changes nothing
    for kind, size, committed in calls:
        if kind == "reserve":
            writer.reserve(int(size * MIB))
            writer.commit(int(committed * MIB))
            total += int(committed * MIB)
        else:
            total += writer.write(bytearray(size * MIB), copy=kind == "write")
    assert writer.close().total_bytes == total
    assert 0 < peak <= bound
    assert upload.account == 0


def test_misuse_of_reservations_names_the_remedy(client: s3dlio.Client) -> None:
    writer = client.writer("s3://b/k")
    with pytest.raises(s3dlio.ReservationError, match="reserve"):
        writer.commit(1)
    view = writer.reserve(10)
    for call in (lambda: writer.reserve(1), lambda: writer.write(b"x"), writer.flush, writer.close):
        with pytest.raises(s3dlio.ReservationError, match="commit"):
            call()
    with pytest.raises(s3dlio.ConfigurationError, match="n=11"):
        writer.commit(11)
    view[:] = b"0123456789"
    writer.commit(10)
    with pytest.raises(ValueError, match="released"):
        view[0] = 1
    assert writer.close().total_bytes == 10


@pytest.mark.parametrize("size", [0, -1, 1.5, float("nan"), "7", True])
def test_reservations_of_no_size_are_refused(client: s3dlio.Client, size: Any) -> None:
    with pytest.raises(s3dlio.ConfigurationError, match="n="):
        client.writer("s3://b/k").reserve(size)


def test_a_view_held_across_commit_never_shows_other_bytes(client: s3dlio.Client) -> None:
    import numpy as np

    writer = client.writer("s3://b/k", part_size=5 * MIB)
    held = []
    for number in range(6):
        array = np.frombuffer(writer.reserve(MIB), np.uint8)
        array[:] = number
        writer.commit(MIB)
        held.append(array)
    writer.close()
    assert [set(array.tolist()) for array in held] == [{number} for number in range(6)]


@pytest.mark.parametrize(
    ("data", "named"),
    [("text", "encode"), (5, "offers no buffer"), (None, "offers no buffer"), ([1, 2], "offers no buffer")],
)
def test_data_that_is_no_buffer_is_refused(peer: Peer, client: s3dlio.Client, data: Any, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        client.put_bytes("s3://b/k", data)
    assert peer.requests == []


def test_data_that_is_not_contiguous_is_refused(peer: Peer, client: s3dlio.Client) -> None:
    import numpy as np

    with pytest.raises(ValueError, match="ascontiguousarray"):
        client.put_bytes("s3://b/k", np.zeros((4, 4))[:, 1])
    with pytest.raises(ValueError, match="read-only"):
        client.get_into("s3://b/k", b"xxxx")

    class OnDevice:
        __cuda_array_interface__ = None

    with pytest.raises(TypeError, match="cpu"):
        client.put_bytes("s3://b/k", OnDevice())
    assert peer.requests == []


@pytest.mark.parametrize("uri", ["http://b/k", "s3:/b/k", "s3://", "s3://b", "s3://b/", "b/k", "s3://b/a\r\nb"])
def test_uris_that_are_none_are_refused(peer: Peer, client: s3dlio.Client, uri: str) -> None:
    with pytest.raises(s3dlio.UnsupportedUriError):
        client.put_bytes(uri, b"x")
    with pytest.raises(s3dlio.UnsupportedUriError):
        client.get_many(["s3://b/k", uri])
    assert peer.requests == []


def test_an_unknown_option_is_named(client: s3dlio.Client) -> None:
    with pytest.raises(TypeError, match="part_sise"):
        MultipartUploadWriter("b", "k", client=client, part_sise=5)


def test_the_writers_of_many_threads_keep_each_write_whole(peer: Peer, client: s3dlio.Client) -> None:
    writer = client.writer("s3://b/k", part_size=5 * MIB)

    def write(mark: int) -> None:
        for _ in range(20):
            writer.write(bytes([mark]) * 100_003)

    threads = [threading.Thread(target=write, args=(mark,)) for mark in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert writer.close().total_bytes == 8 * 20 * 100_003
    data = peer.objects["/b/k"]
    runs = [data[start : start + 100_003] for start in range(0, len(data), 100_003)]
    assert all(run == run[:1] * 100_003 for run in runs)
