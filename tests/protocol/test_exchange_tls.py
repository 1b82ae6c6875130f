"""The native exchange over TLS: the traps of CPython's ssl on a non-blocking socket, one a test."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from peers import (
    HELLO,
    REFUSAL,
    REQUEST,
    Peers,
    Script,
    answer,
    answer_and_close,
    contexts,
    patterned,
    read_exactly,
    read_head,
    resume,
    run,
    start,
)

from s3dlio._net import tls
from s3dlio._net.exchange import Outcome

NO_CONTENT = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def contexts_of(version: ssl.TLSVersion) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server and of a client that trusts it and speaks this version only."""
    server, client = contexts()
    client.minimum_version = client.maximum_version = version
    return server, client


WAYS = [(ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True), (ssl.TLSVersion.TLSv1_3, False)]


@pytest.fixture(scope="module", params=WAYS, ids=["1.2", "1.3", "1.3-by-methods"])
def both_contexts(request: pytest.FixtureRequest) -> Iterator[tuple[ssl.SSLContext, ssl.SSLContext]]:
    version, without_gil = request.param
    tls.without_gil(without_gil)
    yield contexts_of(version)
    tls.without_gil(True)


@pytest.fixture
def peers(both_contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[Peers]:
    with Peers(*both_contexts) as opened:
        yield opened


def test_openssl_is_found_beneath_a_connected_socket() -> None:
    with Peers(*contexts_of(ssl.TLSVersion.TLSv1_3)) as peers:
        sock = peers.connect(answer(HELLO))
        assert tls.without_gil(True)
        assert tls.TlsTransport(sock).native
        run(sock, [])


def test_a_socket_that_looks_otherwise_is_used_by_its_methods() -> None:
    class Other(ssl.SSLSocket):
        """Keeps its own kind of inner object, as another Python may."""

    ours, theirs = socket.socketpair()
    with ours, theirs:
        sock = Other.__new__(Other)
        socket.socket.__init__(sock, fileno=os.dup(ours.fileno()))
        sock._sslobj = ssl.SSLObject.__new__(ssl.SSLObject)  # type: ignore[assignment]
        assert not tls.TlsTransport(sock).native
        sock._sslobj = None
        assert not tls.TlsTransport(sock).native
        socket.socket.close(sock)


def digest_of_request(digests: list[str], size: int, *, piece: int = 1 << 18, pause: float = 0.0) -> Script:
    """A script that takes a whole request in, hashes it, and says thanks."""

    def script(sock: socket.socket) -> None:
        data = read_exactly(sock, len(REQUEST) + size, piece=piece, pause=pause)
        digests.append(hashlib.sha256(data).hexdigest())
        sock.sendall(NO_CONTENT)
        sock.recv(1)

    return script


def test_a_large_body_arrives_as_it_was(peers: Peers) -> None:
    segments: list[bytes | memoryview] = [
        patterned(5_000_001),
        b"",
        patterned(11_000_003),
        memoryview(patterned(300_000))[1:],
    ]
    size = sum(len(segment) for segment in segments)
    digests: list[str] = []
    exchange = run(peers.connect(digest_of_request(digests, size)), segments)
    assert (exchange.outcome, exchange.sent, exchange.reusable) == (Outcome.COMPLETE, size, True)
    assert digests == [hashlib.sha256(REQUEST + b"".join(segments)).hexdigest()]


def test_a_large_body_comes_straight_to_its_place(peers: Peers) -> None:
    body = patterned(20_000_001)
    place = bytearray(len(body))
    exchange = run(
        peers.connect(answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body)), into=place
    )
    assert (exchange.outcome, exchange.body_received, exchange.body_bytes) == (Outcome.COMPLETE, len(body), b"")
    assert place == body


@pytest.mark.parametrize("at", range(1, len(HELLO)))
def test_a_record_boundary_anywhere_in_an_answer_changes_nothing(peers: Peers, at: int) -> None:
    exchange = run(peers.connect(answer(HELLO[:at], HELLO[at:])))
    assert (exchange.outcome, exchange.head_bytes + exchange.body_bytes) == (Outcome.COMPLETE, HELLO)


def test_an_answer_in_one_byte_records_is_read(peers: Peers) -> None:
    exchange = run(peers.connect(answer(*[HELLO[n : n + 1] for n in range(len(HELLO))])))
    assert (exchange.outcome, exchange.body_bytes) == (Outcome.COMPLETE, b"hello")


def test_session_tickets_that_come_during_a_send_are_no_answer() -> None:
    server, client = contexts_of(ssl.TLSVersion.TLSv1_3)
    server.num_tickets = 16
    body = patterned(8 << 20)
    digests: list[str] = []
    with Peers(server, client) as peers:
        exchange = run(peers.connect(digest_of_request(digests, len(body))), [body])
        assert (exchange.outcome, exchange.early, exchange.reusable) == (Outcome.COMPLETE, False, True)
    assert digests == [hashlib.sha256(REQUEST + body).hexdigest()]


def test_a_slice_that_waits_for_the_socket_is_repeated_and_not_mixed(peers: Peers) -> None:
    # Kernel buffers far below a slice: every slice has to wait several times.
    segments = [patterned(700_001), patterned(100), patterned(700_003)]
    digests: list[str] = []
    script = digest_of_request(digests, 1_400_104, piece=20_000)
    assert run(peers.connect(script, buffers=8192), segments).outcome == Outcome.COMPLETE
    assert digests == [hashlib.sha256(REQUEST + b"".join(segments)).hexdigest()]


def test_a_slow_peer_within_one_slice_is_progress(peers: Peers) -> None:
    body = patterned(256 << 10)
    digests: list[str] = []
    # About 64 reads, 60 ms apart: the slice takes several times the timeout, each read a fraction of it.
    script = digest_of_request(digests, len(body), piece=4096, pause=0.06)
    exchange = run(peers.connect(script, buffers=4096), [body], send_timeout=1.5)
    assert exchange.outcome == Outcome.COMPLETE
    assert digests == [hashlib.sha256(REQUEST + body).hexdigest()]


def test_bytes_that_the_tls_layer_holds_are_found_after_a_pause_at_the_head(peers: Peers) -> None:
    # One record holds more than the head's first scratch: poll never sees what is left of it.
    body = patterned(12_000)
    exchange = run(
        peers.connect(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 12000\r\n\r\n" + body)), pause_at_head=True
    )
    assert exchange.outcome == Outcome.HEAD_READY
    place = bytearray(12_000)
    resume(exchange, place)
    assert (exchange.outcome, bytes(place)) == (Outcome.COMPLETE, body)


def test_an_early_refusal_stops_the_sending(peers: Peers) -> None:
    def refuse(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(REFUSAL)
        peers.stall(sock)

    exchange = run(peers.connect(refuse), [bytes(64 << 20)])
    assert (exchange.status, exchange.body_bytes, exchange.early) == (403, b"nope", True)
    assert not exchange.reusable


def test_a_broken_pipe_hides_no_early_answer(peers: Peers) -> None:
    exchange = run(peers.connect(answer_and_close(REFUSAL)), [bytes(64 << 20)])
    assert (exchange.outcome, exchange.status, exchange.body_bytes) == (Outcome.COMPLETE, 403, b"nope")
    assert exchange.error is None
    assert not exchange.reusable


@pytest.mark.parametrize(
    ("sent", "outcome"),
    [
        (b"", Outcome.CLOSED_BEFORE_RESPONSE),
        (HELLO[:20], Outcome.CLOSED_IN_RESPONSE),
        (HELLO[:-2], Outcome.CLOSED_IN_RESPONSE),
        (HELLO, Outcome.COMPLETE),
    ],
    ids=["nothing", "head", "body", "all"],
)
def test_a_peer_that_closes_without_saying_so_is_told_by_what_it_sent(
    peers: Peers, sent: bytes, outcome: Outcome
) -> None:
    def script(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(sent)
        os.close(sock.detach())  # no close_notify

    assert run(peers.connect(script)).outcome == outcome


@pytest.mark.parametrize(
    ("sent", "outcome"), [(b"", Outcome.CLOSED_BEFORE_RESPONSE), (HELLO[:-2], Outcome.CLOSED_IN_RESPONSE)]
)
def test_a_peer_that_says_it_closes_is_told_by_what_it_sent(peers: Peers, sent: bytes, outcome: Outcome) -> None:
    def script(sock: ssl.SSLSocket) -> None:
        read_head(sock)
        sock.sendall(sent)
        sock.unwrap()

    assert run(peers.connect(script)).outcome == outcome  # type: ignore[arg-type]


def test_bytes_that_are_no_tls_are_an_error_with_its_cause(peers: Peers) -> None:
    def script(sock: ssl.SSLSocket) -> None:
        read_head(sock)
        with socket.socket(fileno=sock.detach()) as raw:
            raw.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            peers.stall(raw)

    exchange = run(peers.connect(script))  # type: ignore[arg-type]
    assert exchange.outcome == Outcome.RECEIVE_ERROR
    assert isinstance(exchange.error, ssl.SSLError)


def test_a_peer_that_takes_nothing_ends_for_lack_of_progress(peers: Peers) -> None:
    assert run(peers.connect(peers.stall), [bytes(64 << 20)], send_timeout=0.3).outcome == Outcome.SEND_TIMEOUT


def test_a_peer_that_answers_nothing_ends_for_lack_of_progress(peers: Peers) -> None:
    assert run(peers.connect(answer()), first_byte_timeout=0.3).outcome == Outcome.FIRST_BYTE_TIMEOUT
    assert run(peers.connect(answer(HELLO[:-2])), idle_timeout=0.3).outcome == Outcome.IDLE_TIMEOUT


@pytest.mark.parametrize("size", [0, 64 << 20], ids=["receiving", "sending"])
def test_cancelling_ends_an_exchange_with_a_stalled_peer(peers: Peers, size: int) -> None:
    body = bytearray(size)
    exchange = start(peers.connect(peers.stall), [body])
    assert not exchange.wait(0.1)
    exchange.cancel()
    assert exchange.wait(30)
    assert exchange.outcome == Outcome.CANCELLED
    body.append(1)


TRACED = """
import fcntl, socket, ssl, sys
from s3dlio._net import tls
from s3dlio._net.drivers import drivers
from s3dlio._net.exchange import Exchange
port, authority, head, size, count = int(sys.argv[1]), sys.argv[2], sys.argv[3].encode(), int(sys.argv[4]), 50
raw = socket.create_connection(("127.0.0.1", port))
raw = socket.socket(fileno=fcntl.fcntl(raw.detach(), fcntl.F_DUPFD, 300))
sock = ssl.create_default_context(cafile=authority).wrap_socket(raw, server_hostname="localhost",
                                                                do_handshake_on_connect=False)
tls.prepare(sock)
sock.do_handshake()
body = [bytes(size)] if size else []
one = Exchange(sock, head, body, into=bytearray(count * 4096), followed_by=[(head, body)] * (count - 1))
print(f"fd {sock.fileno()}", flush=True)
drivers().submit(one)
assert one.wait(30) and one.completed == count, (one.outcome, one.answered)
"""


def _can_trace() -> bool:
    strace = shutil.which("strace")
    return strace is not None and subprocess.run([strace, "-qq", "-o", os.devnull, "true"], check=False).returncode == 0


@pytest.mark.skipif(not _can_trace() or "S3DLIO_SANITIZED" in os.environ, reason="strace cannot trace here")
@pytest.mark.parametrize("size", [0, 4096], ids=["get", "put"])
def test_a_small_object_over_tls_takes_three_system_calls(size: int, tmp_path: Path) -> None:
    authority, trace = tmp_path / "authority.pem", tmp_path / "trace"
    issuer = trustme.CA()
    issuer.cert_pem.write_to_path(str(authority))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer.issue_cert("localhost").configure_cert(context)
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (4096 - size) + bytes(4096 - size)

    def serve(listener: socket.socket) -> None:
        plain, _ = listener.accept()
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_side=True) as sock:
            for _ in range(50):
                read_exactly(sock, len(REQUEST) + size)
                sock.sendall(reply)
            sock.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        command = [sys.executable, "-c", TRACED, str(listener.getsockname()[1]), authority, REQUEST, str(size)]
        wanted = "trace=read,write,poll,recvfrom,sendto,sendmsg"
        done = subprocess.run(
            ["strace", "-f", "-qq", "-e", wanted, "-o", trace, *command], check=True, capture_output=True, timeout=120
        )
        thread.join(20)
    assert done.stdout == b"fd 300\n"
    lines = trace.read_text().splitlines()
    begun = next(n for n, line in enumerate(lines) if "fd 300" in line)
    calls = [line for line in lines[begun + 1 :] if re.search(r"\((\[.*fd=)?300\b", line)]
    assert 3 * 50 <= len(calls) < 3.3 * 50, calls  # and a few at the beginning and the end
