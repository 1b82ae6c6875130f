"""Which bytes answer a request: none that came before it, none of an earlier one, and no success that came too soon."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator

import pytest
from peers import HELLO, REFUSAL, REQUEST, Peers, answer, contexts, read_exactly, read_head, run, start

from s3dlio._net import tls
from s3dlio._net.drivers import drivers
from s3dlio._net.exchange import Exchange, Outcome

Contexts = tuple[ssl.SSLContext, ssl.SSLContext] | tuple[()]
MIB = 1 << 20
NAMED = b"HTTP/1.1 200 OK\r\nx-amz-request-id: %b\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nbody"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
PARTIAL = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture(scope="module", params=["plain", "tls", "tls-by-methods"])
def transport(request: pytest.FixtureRequest) -> Iterator[Contexts]:
    tls.without_gil(request.param != "tls-by-methods")
    server, client = contexts()
    server.num_tickets = 0  # so that what arrives is what the peer says
    yield () if request.param == "plain" else (server, client)
    tls.without_gil(True)


@pytest.fixture
def peers(transport: Contexts) -> Iterator[Peers]:
    with Peers(*transport) as opened:
        yield opened


# ----------------------------------------------------------------------------------- before the request has gone out


@pytest.mark.parametrize(
    "reply", [HELLO, CHUNKED, UNTIL_CLOSE, NO_CONTENT, PARTIAL], ids=["length", "chunked", "until-close", "204", "206"]
)
@pytest.mark.parametrize("pause", [False, True], ids=["", "pausing"])
def test_a_success_before_the_request_is_out_is_no_answer(peers: Peers, reply: bytes, pause: bool) -> None:
    def script(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(reply)
        peers.stall(sock)

    exchange = run(peers.connect(script), [bytes(64 * MIB)], pause_at_head=pause)
    assert (exchange.outcome, exchange.early, exchange.reusable) == (Outcome.EARLY_SUCCESS, True, False)
    assert not exchange.request_sent
    assert exchange.sent < 64 * MIB


def test_a_success_is_early_too_while_bytes_of_the_request_wait_in_this_system(peers: Peers) -> None:
    def script(sock: socket.socket) -> None:
        read_head(sock)
        all_is_sent.wait(30)
        sock.sendall(HELLO)
        peers.stall(sock)

    all_is_sent = threading.Event()
    sock = peers.connect(script, buffers=1 << 14)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MIB)  # takes all in, and the peer nearly nothing
    exchange = start(sock, [bytes(500_000)])
    while not exchange.request_sent:
        assert not exchange.wait(0.001)
    all_is_sent.set()
    assert exchange.wait(30)
    assert (exchange.outcome, exchange.early, exchange.request_sent) == (Outcome.EARLY_SUCCESS, True, True)
    assert not exchange.reusable


@pytest.mark.parametrize("size", [0, 1000, 64 << 10, 3 * MIB])
def test_a_success_after_the_request_is_its_answer(peers: Peers, size: int) -> None:
    def script(sock: socket.socket) -> None:
        for _ in range(20):
            assert len(read_exactly(sock, len(REQUEST) + size)) == len(REQUEST) + size
            sock.sendall(HELLO)

    sock, data = peers.connect(script), bytes(size)
    for turn in range(20):
        exchange = run(sock, [data], reused=turn > 0, previous_head=b"")
        assert (exchange.outcome, exchange.early, exchange.reusable) == (Outcome.COMPLETE, False, True)


def test_a_refusal_before_the_request_is_out_is_the_word_of_the_store(peers: Peers) -> None:
    def script(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(REFUSAL)
        peers.stall(sock)

    exchange = run(peers.connect(script), [bytes(64 * MIB)], reused=True)
    assert (exchange.outcome, exchange.status, exchange.body_bytes) == (Outcome.COMPLETE, 403, b"nope")


# ------------------------------------------------------------------------------------------ before it has even begun


def spoke_first(peers: Peers, said: bytes, received: list[bytes]) -> socket.socket:
    """A connection on which something has arrived, though nothing was asked."""

    def script(sock: socket.socket) -> None:
        sock.sendall(said)
        sock.settimeout(30)
        received.append(sock.recv(1 << 16))

    sock = peers.connect(script)
    sock.settimeout(30)
    wait_for_arrival(sock, said)
    return sock


def wait_for_arrival(sock: socket.socket, said: bytes) -> None:
    """Returns once so much waits in the kernel; a record of TLS is longer than what it says."""
    least = len(said) + (17 if isinstance(sock, ssl.SSLSocket) else 0)
    while len(socket.socket.recv(sock, 1 << 16, socket.MSG_PEEK)) < least:
        pass


@pytest.mark.parametrize("said", [HELLO, REFUSAL, b"HTTP/1.1 2", b"x", b"HTTP/1.1 100 Continue\r\n\r\n"])
@pytest.mark.parametrize("size", [0, 5 * MIB])
def test_what_came_on_a_kept_connection_before_a_request_ends_it_and_nothing_is_sent(
    peers: Peers, said: bytes, size: int
) -> None:
    received: list[bytes] = []
    sock = spoke_first(peers, said, received)
    exchange = run(sock, [bytes(size)], reused=True)
    assert (exchange.outcome, exchange.request_sent, exchange.sent) == (Outcome.OUT_OF_STEP, False, 0)
    assert (exchange.reusable, exchange.body_bytes) == (False, b"")
    sock.shutdown(socket.SHUT_RDWR)
    sock.close()
    peers.close()
    assert received == [b""]


@pytest.mark.parametrize("said", [HELLO, HELLO[:10]], ids=["whole", "begun"])
def test_a_success_that_a_fresh_connection_begins_with_answers_nothing(peers: Peers, said: bytes) -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(said)
        read_head(sock)
        sock.sendall(HELLO[len(said) :] or HELLO)
        peers.stall(sock)

    sock = peers.connect(script)
    wait_for_arrival(sock, said)
    assert run(sock).outcome == Outcome.EARLY_SUCCESS


def test_a_refusal_that_a_fresh_connection_begins_with_is_the_word_of_the_peer(peers: Peers) -> None:
    sock = spoke_first(peers, REFUSAL, [])
    exchange = run(sock, [b"body"])
    assert (exchange.outcome, exchange.status, exchange.body_bytes) == (Outcome.COMPLETE, 403, b"nope")
    assert not exchange.reusable


def test_what_tls_has_read_ahead_of_a_request_is_seen(transport: Contexts) -> None:
    if not transport:
        return
    with Peers(*transport) as peers:
        sock = peers.connect(lambda sock: sock.sendall(b"x" + HELLO) or sock.recv(1))  # type: ignore[func-returns-value]
        assert sock.recv(1) == b"x"  # what came with it waits in OpenSSL, and poll does not see it
        assert run(sock, reused=True).outcome == Outcome.OUT_OF_STEP


# --------------------------------------------------------------------------------------- the answer of another request


@pytest.mark.parametrize("status", [200, 404, 503])
def test_the_answer_before_once_more_is_no_answer(peers: Peers, status: int) -> None:
    named = NAMED.replace(b"200", b"%d" % status)
    before, other = named % b"A", named % b"B"
    previous = before[:-2]
    for came, outcome in ((before, Outcome.OUT_OF_STEP), (other, Outcome.COMPLETE)):
        exchange = run(peers.connect(answer(came)), reused=True, previous_head=previous)
        assert (exchange.outcome, exchange.head_bytes, exchange.request_sent) == (outcome, came[:-2], True)
    exchange = run(peers.connect(answer(before)), reused=True, previous_head=None)
    assert exchange.outcome == Outcome.COMPLETE


def test_an_answer_without_a_name_may_equal_the_one_before(peers: Peers) -> None:
    previous = HELLO[: HELLO.index(b"\r\n\r\n") + 4]
    assert run(peers.connect(answer(HELLO)), reused=True, previous_head=previous).outcome == Outcome.COMPLETE


@pytest.mark.parametrize("name", [b"", b" "])
def test_a_name_that_is_empty_is_none(peers: Peers, name: bytes) -> None:
    previous = (NAMED % name)[:-2]
    assert run(peers.connect(answer(NAMED % name)), reused=True, previous_head=previous).outcome == Outcome.COMPLETE


@pytest.mark.parametrize("at", [1, 3])
def test_a_series_ends_where_an_answer_comes_twice(peers: Peers, at: int) -> None:
    names = [b"A", b"B", b"C", b"D"]
    names[at] = names[at - 1]
    asked: list[bytes] = []

    def script(sock: socket.socket) -> None:
        for name in names:
            asked.append(read_head(sock))
            sock.sendall(NAMED % name)
        asked.append(read_head(sock))

    place, sock = bytearray(1000), peers.connect(script)
    exchange = Exchange(sock, REQUEST, [], followed_by=[(REQUEST, [])] * 3, into=place, previous_head=b"")
    drivers().submit(exchange)
    assert exchange.wait(30)
    assert (exchange.outcome, exchange.completed, exchange.request_sent) == (Outcome.OUT_OF_STEP, at, True)
    assert not exchange.reusable


def test_a_series_goes_by_the_last_answer_of_the_exchange_before(peers: Peers) -> None:
    previous = (NAMED % b"A")[:-2]
    exchange = run(
        peers.connect(answer(NAMED % b"A")), followed_by=[(REQUEST, [])], into=bytearray(9), previous_head=previous
    )
    assert (exchange.outcome, exchange.completed) == (Outcome.OUT_OF_STEP, 0)


def test_the_last_head_of_a_series_is_told(peers: Peers) -> None:
    def script(sock: socket.socket) -> None:
        for name in (b"A", b"B"):
            read_head(sock)
            sock.sendall(NAMED % name)
        sock.recv(1)

    exchange = run(peers.connect(script), followed_by=[(REQUEST, [])], into=bytearray(100))
    assert (exchange.completed, exchange.head_bytes) == (2, (NAMED % b"B")[:-2])


# --------------------------------------------------------------------------------------------------- interim answers


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 X\r\nx: %b\r\n\r\n" % (b"y" * 9000)]
)
def test_interim_answers_without_end_are_given_up(peers: Peers, interim: bytes) -> None:
    def script(sock: socket.socket) -> None:
        read_head(sock)
        while True:
            sock.sendall(interim)

    assert run(peers.connect(script)).outcome == Outcome.HEAD_TOO_LARGE


def test_interim_answers_within_bounds_are_dropped_before_every_answer_of_a_series(peers: Peers) -> None:
    def script(sock: socket.socket) -> None:
        for _ in range(3):
            read_head(sock)
            sock.sendall(b"HTTP/1.1 102 Processing\r\n\r\n" * 1500)
            sock.sendall(HELLO)
        sock.recv(1)

    exchange = run(peers.connect(script), followed_by=[(REQUEST, [])] * 2, into=bytearray(300))
    assert (exchange.outcome, exchange.completed) == (Outcome.COMPLETE, 3)
