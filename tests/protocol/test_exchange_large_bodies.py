"""A large body is received in few large pieces: what the kernel is asked for, and that a slow peer notices nothing."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from peers import HELLO, Peers, Script, answer, contexts, patterned, read_head, run, start

from s3dlio._net import tls
from s3dlio._net.exchange import Outcome

SIZE = 1 << 20
LOW_WATER = 512 << 10
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems are not asked for fewer pieces")


@pytest.fixture(params=["plain", "tls", "tls-by-methods"])
def peers(request: pytest.FixtureRequest) -> Iterator[Peers]:
    tls.without_gil(request.param != "tls-by-methods")
    try:
        with Peers(*(() if request.param == "plain" else contexts())) as opened:
            yield opened
    finally:
        tls.without_gil(True)


def low_water(sock: socket.socket) -> int:
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)


def comes_true(holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + 20
    while not holds() and time.monotonic() < until:
        time.sleep(0.01)
    return holds()


def answer_in_two(body: bytes, first: int, go_on: threading.Event) -> Script:
    """Head, the first bytes of the body, when told so the others, and HELLO to the next request."""

    def script(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(HEAD % len(body))
        time.sleep(0.05)  # so that they do not come with the head
        sock.sendall(body[:first])
        go_on.wait(60)
        sock.sendall(body[first:])
        read_head(sock)
        sock.sendall(HELLO)
        sock.recv(1)

    return script


@on_linux
def test_poll_waits_for_much_of_a_large_body_and_for_any_byte_after_it(peers: Peers) -> None:
    body, place, go_on = patterned(4 * SIZE), bytearray(4 * SIZE), threading.Event()
    sock = peers.connect(answer_in_two(body, SIZE, go_on))
    exchange = start(sock, into=place)
    assert comes_true(lambda: low_water(sock) == LOW_WATER)
    go_on.set()
    assert exchange.wait(60)
    assert (exchange.outcome, exchange.reusable, low_water(sock)) == (Outcome.COMPLETE, True, 1)
    assert place == body
    assert run(sock).body_bytes == b"hello"


@on_linux
def test_poll_waits_for_any_byte_of_a_small_body(peers: Peers) -> None:
    body, go_on = patterned(SIZE - 1), threading.Event()
    sock = peers.connect(answer_in_two(body, SIZE // 2, go_on))
    exchange = start(sock)
    assert comes_true(lambda: exchange.body_received == SIZE // 2)
    assert low_water(sock) == 1
    go_on.set()
    assert exchange.wait(60)
    assert exchange.body_bytes == body


@pytest.mark.parametrize("first", [0, 1, LOW_WATER - 1, LOW_WATER, SIZE - 1])
def test_what_is_there_is_received_though_it_is_little(peers: Peers, first: int) -> None:
    body, place, go_on = patterned(SIZE), bytearray(SIZE), threading.Event()
    exchange = start(peers.connect(answer_in_two(body, first, go_on)), into=place)
    assert comes_true(lambda: exchange.body_received == first)
    go_on.set()
    assert exchange.wait(60)
    assert (exchange.outcome, exchange.reusable) == (Outcome.COMPLETE, True)
    assert place == body


def test_a_large_body_that_comes_slowly_but_steadily_outlives_its_deadline(peers: Peers) -> None:
    body, place, count = patterned(SIZE), bytearray(SIZE), 40
    pieces = [body[at : at + SIZE // count + 1] for at in range(0, SIZE, SIZE // count + 1)]
    # Half of it, for which poll waits, takes longer than the deadline.
    exchange = run(peers.connect(answer(HEAD % SIZE, *pieces, pause=0.1)), into=place, idle_timeout=1.5)
    assert exchange.outcome == Outcome.COMPLETE
    assert place == body


@pytest.mark.parametrize("idle", [0.02, 0.3])
def test_a_large_body_that_stalls_ends_for_lack_of_progress(peers: Peers, idle: float) -> None:
    sent = HEAD % (4 * SIZE) + bytes(SIZE)
    exchange = run(peers.connect(answer(sent)), into=bytearray(4 * SIZE), idle_timeout=idle, first_byte_timeout=30)
    assert exchange.outcome == Outcome.IDLE_TIMEOUT


def test_cancelling_ends_a_large_body_of_which_little_came(peers: Peers) -> None:
    exchange = start(peers.connect(answer(HEAD % (4 * SIZE) + bytes(100))), into=bytearray(4 * SIZE))
    assert comes_true(lambda: exchange.body_received == 100)
    exchange.cancel()
    assert exchange.wait(20)
    assert exchange.outcome == Outcome.CANCELLED


@pytest.mark.parametrize("sent", [100, 2 * SIZE])
def test_a_peer_that_closes_within_a_large_body_is_noticed(peers: Peers, sent: int) -> None:
    def script(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(HEAD % (4 * SIZE) + bytes(sent))

    exchange = run(peers.connect(script), into=bytearray(4 * SIZE))
    assert exchange.outcome in (Outcome.CLOSED_IN_RESPONSE, Outcome.RECEIVE_ERROR)
    assert exchange.body_received == sent


def test_a_connection_that_broke_says_nothing_of_the_next_one_on_its_thread() -> None:
    """OpenSSL keeps errors by thread, and CPython takes the first that it finds for that of its own call."""

    def broken(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(HEAD % (4 * SIZE) + bytes(2 * SIZE))

    both = contexts()
    try:
        for _ in range(30):
            tls.without_gil(True)
            with Peers(*both) as natively:
                assert run(natively.connect(broken), into=bytearray(4 * SIZE)).body_received == 2 * SIZE
            tls.without_gil(False)
            with Peers(*both) as by_methods:
                exchange = run(by_methods.connect(answer(b"", HELLO[:20], HELLO[20:], pause=0.02)))
                assert (exchange.outcome, exchange.body_bytes) == (Outcome.COMPLETE, b"hello")
    finally:
        tls.without_gil(True)
