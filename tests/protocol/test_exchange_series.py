"""A series of requests on one connection against peers on loopback, plain and TLS: what ends it, and what is kept."""

from __future__ import annotations

import re
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peers import Peers, contexts, patterned, resume

from s3dlio._net import tls as native_tls
from s3dlio._net.drivers import drivers
from s3dlio._net.exchange import Exchange, Outcome

Request = tuple[bytes, list[Any]]
Contexts = tuple[ssl.SSLContext, ssl.SSLContext] | tuple[()]
MIB = 1 << 20


@pytest.fixture(scope="module")
def tls() -> Contexts:
    return contexts()


@pytest.fixture(scope="module", params=["plain", "tls"])
def transport(request: pytest.FixtureRequest, tls: Contexts) -> Contexts:
    return tls if request.param == "tls" else ()


@pytest.fixture
def by_methods() -> Iterator[None]:
    """TLS by the socket's methods, as where OpenSSL is not found beneath it."""
    native_tls.without_gil(False)
    yield
    native_tls.without_gil(True)


@pytest.fixture
def peers(transport: Contexts) -> Iterator[Peers]:
    with Peers(*transport) as opened:
        yield opened


def request(number: int, *body: Any) -> Request:
    length = sum(memoryview(segment).nbytes for segment in body)
    return b"PUT /%d HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (number, length), list(body)


def answer(body: bytes = b"", status: int = 200, fields: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%b\r\n%b" % (status, len(body), fields, body)


def read_request(sock: socket.socket) -> bytes:
    """One request, head and body; empty at the end of the stream."""
    data = bytearray()
    while b"\r\n\r\n" not in data:
        piece = sock.recv(1)
        if not piece:
            return b""
        data += piece
    found = re.search(rb"content-length: (\d+)", data)
    left = int(found[1]) if found else 0
    while left:
        piece = sock.recv(min(left, MIB))
        if not piece:
            return b""
        data += piece
        left -= len(piece)
    return bytes(data)


class Answers:
    """A script that takes requests in one after the other and sends each its pieces; then waits, or closes.

    Attributes:
        requests: what came, those after the last answer included.
        over: the other end has closed.
    """

    def __init__(self, *answers: bytes | Sequence[bytes], close: bool = False) -> None:
        self._answers = [[one] if isinstance(one, bytes) else one for one in answers]
        self._close = close
        self.requests: list[bytes] = []
        self.over = threading.Event()

    def __call__(self, sock: socket.socket) -> None:
        try:
            for pieces in self._answers:
                self.requests.append(read_request(sock))
                for piece in pieces:
                    sock.sendall(piece)
            while not self._close:
                last = read_request(sock)
                if not last:
                    break
                self.requests.append(last)
        finally:
            self.over.set()


def series(sock: socket.socket, requests: Sequence[Request], **options: Any) -> Exchange:
    """A series under way on the process's drivers."""
    (head, body), *further = requests
    exchange = Exchange(sock, head, body, followed_by=further, **{"idle_timeout": 30, **options})
    drivers().submit(exchange)
    return exchange


def run(sock: socket.socket, requests: Sequence[Request], **options: Any) -> Exchange:
    """A series that has ended or paused."""
    exchange = series(sock, requests, **options)
    assert exchange.wait(60), "the series did not end"
    return exchange


def bodies(exchange: Exchange, place: Any) -> list[bytes]:
    return [bytes(memoryview(place)[at : at + length]) for _, _, at, length in exchange.responses]


def heads(exchange: Exchange) -> list[bytes]:
    return [head for _, head, _, _ in exchange.responses]


def head_of(sent: bytes) -> bytes:
    return sent[: sent.index(b"\r\n\r\n") + 4]


FOUR = [request(number) for number in range(4)]


# --------------------------------------------------------------------------------------------- all is answered


def test_every_request_is_answered_and_each_body_lies_at_the_next_cache_line(peers: Peers) -> None:
    sent = [patterned(size) for size in (1, 64, 65, 20_000)]
    place = bytearray(64 + 64 + 128 + 20_000)
    exchange = run(peers.connect(Answers(*map(answer, sent))), FOUR, into=place)
    assert (exchange.outcome, exchange.completed, exchange.reusable) == (Outcome.COMPLETE, 4, True)
    assert [(status, at, length) for status, _, at, length in exchange.responses] == [
        (200, 0, 1), (200, 64, 64), (200, 128, 65), (200, 256, 20_000),
    ]  # fmt: skip
    assert bodies(exchange, place) == sent


def test_the_response_of_a_series_is_the_last_one(peers: Peers) -> None:
    sent = [answer(b"x" * size, status=200 + size) for size in range(4)]
    exchange = run(peers.connect(Answers(*sent)), FOUR, into=bytearray(500))
    assert (exchange.status, exchange.head_bytes, exchange.body_received) == (203, head_of(sent[3]), 3)
    assert (exchange.body_bytes, exchange.leftover) == (b"", b"")


def test_heads_and_bodies_of_the_requests_go_out_whole_and_in_order(peers: Peers) -> None:
    asked = [
        request(0),
        request(1, patterned(3 * MIB), b"", memoryview(patterned(100))[7:]),
        request(2, *[patterned(n % 7) for n in range(200)]),
        request(3, bytearray(patterned(MIB))),
    ]
    peer = Answers(*[answer()] * 4)
    assert run(peers.connect(peer), asked).completed == 4
    assert peer.requests == [head + b"".join(map(bytes, body)) for head, body in asked]


def test_no_byte_of_a_request_goes_out_before_the_one_before_it_is_answered(peers: Peers) -> None:
    early: list[bool] = []

    def script(sock: socket.socket) -> None:
        for _ in range(4):
            read_request(sock)
            sock.sendall(answer(b"body")[:-1])
            early.append(bool(select.select([sock], [], [], 0.02)[0]))
            sock.sendall(b"y")

    exchange = run(peers.connect(script), FOUR, into=bytearray(500))
    assert (exchange.completed, early) == (4, [False] * 4)


def test_bodies_of_no_bytes_need_no_place(peers: Peers) -> None:
    exchange = run(peers.connect(Answers(*[answer()] * 4)), FOUR)
    assert [(at, length) for _, _, at, length in exchange.responses] == [(0, 0)] * 4
    assert exchange.reusable


def test_an_empty_body_between_others_takes_no_room(peers: Peers) -> None:
    place = bytearray(70)
    exchange = run(peers.connect(Answers(answer(b"ab"), answer(), answer(b"cd"))), FOUR[:3], into=place)
    assert (bodies(exchange, place), exchange.responses[2][2]) == ([b"ab", b"", b"cd"], 64)


def test_the_last_body_may_fill_its_place_to_the_end(peers: Peers) -> None:
    place = bytearray(69)
    exchange = run(peers.connect(Answers(answer(b"ab"), answer(b"12345"), answer())), FOUR[:3], into=place)
    assert bodies(exchange, place) == [b"ab", b"12345", b""]


def test_a_series_of_one_is_a_series(peers: Peers) -> None:
    place = bytearray(5)
    exchange = run(peers.connect(Answers(answer(b"hello"))), FOUR[:1], into=place)
    assert (exchange.outcome, exchange.responses, bytes(place)) == (
        Outcome.COMPLETE, [(200, head_of(answer(b"hello")), 0, 5)], b"hello",
    )  # fmt: skip
    assert exchange.reusable


def test_heads_of_any_size_are_kept_byte_for_byte(peers: Peers) -> None:
    fields = [b"x: %b\r\n" % (b"y" * size) for size in (0, 5000, 1, 60_000)]
    sent = [answer(b"body", fields=one) for one in fields]
    exchange = run(peers.connect(Answers(*sent)), FOUR, into=bytearray(500))
    assert heads(exchange) == [head_of(one) for one in sent]


def test_interim_answers_and_answers_without_a_body_are_part_of_a_series(peers: Peers) -> None:
    sent = [
        b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"one"),
        b"HTTP/1.1 204 None\r\n\r\n",
        answer(b"created", status=201),
    ]
    place = bytearray(100)
    exchange = run(peers.connect(Answers(*sent)), FOUR[:3], into=place)
    assert [status for status, *_ in exchange.responses] == [200, 204, 201]
    assert bodies(exchange, place) == [b"one", b"", b"created"]
    assert exchange.reusable


def test_answers_to_head_requests_have_no_body(peers: Peers) -> None:
    sent = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size for size in (5, 10**12, 0)]
    exchange = run(peers.connect(Answers(*sent)), FOUR[:3], no_body=True)
    assert (heads(exchange), exchange.reusable) == (sent, True)


def test_many_series_at_once_are_not_mixed(peers: Peers) -> None:
    sent = [[patterned(100 + 37 * one + 501 * n) for n in range(12)] for one in range(20)]
    places = [bytearray(sum(-(-len(body) // 64) * 64 for body in own)) for own in sent]
    asked = [[request(n, patterned(n * 1000)) for n in range(12)] for _ in sent]
    scripts = [Answers(*map(answer, own)) for own in sent]
    under_way = [
        series(peers.connect(script), own, into=place)
        for script, own, place in zip(scripts, asked, places, strict=True)
    ]
    assert all(exchange.wait(60) for exchange in under_way)
    assert [bodies(one, place) for one, place in zip(under_way, places, strict=True)] == sent
    for script, own in zip(scripts, asked, strict=True):
        assert script.requests == [head + b"".join(body) for head, body in own]


@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_whatever_the_packets_the_answers_are_what_was_sent(transport: Contexts, data: st.DataObject) -> None:
    check_some_packets(transport, data)


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.usefixtures("by_methods")
def test_a_socket_that_is_used_by_its_methods_gives_the_same_answers(tls: Contexts, data: st.DataObject) -> None:
    check_some_packets(tls, data)


def check_some_packets(transport: Contexts, data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.sampled_from([0, 1, 63, 64, 65, 8000, 9000, 30_000]), min_size=1, max_size=6))
    room = data.draw(st.integers(0, 40_000))
    sent = [answer(patterned(size), fields=b"n: %d\r\n" % n) for n, size in enumerate(sizes)]
    cuts = [data.draw(st.lists(st.integers(0, len(one)), max_size=4).map(sorted)) for one in sent]
    pieces = [[one[a:b] for a, b in pairwise([0, *cut, len(one)])] for one, cut in zip(sent, cuts, strict=True)]
    asked = [request(n, patterned(size % 1000)) for n, size in enumerate(sizes)]
    peer = Answers(*pieces)
    found: list[bytes] = []
    with Peers(*transport) as peers:
        place = bytearray(room)
        exchange = run(peers.connect(peer), asked, into=place)
        while exchange.outcome == Outcome.HEAD_READY:
            found += bodies(exchange, place)[len(found) :]
            place = bytearray(exchange.content_length + data.draw(st.integers(0, 10_000)))
            resume(exchange, place)
        assert (exchange.outcome, exchange.completed, exchange.reusable) == (Outcome.COMPLETE, len(sizes), True)
        found += bodies(exchange, place)[len(found) :]
    assert [head + body for head, body in zip(heads(exchange), found, strict=True)] == sent
    assert peer.requests == [head + b"".join(body) for head, body in asked]


# ------------------------------------------------------------------------------- a body that finds no room


def test_before_a_body_that_does_not_fit_the_series_pauses_and_goes_on_in_a_new_place(peers: Peers) -> None:
    sent = [patterned(size) for size in (60, 100, 30_000, 5)]
    first, second, third = bytearray(100), bytearray(128), bytearray(40_000)
    exchange = run(peers.connect(Answers(*map(answer, sent))), FOUR, into=first)
    assert (exchange.outcome, exchange.completed, exchange.content_length) == (Outcome.HEAD_READY, 1, 100)
    assert bodies(exchange, first) == sent[:1]
    resume(exchange, second)
    first.append(1)
    assert (exchange.outcome, exchange.completed, exchange.content_length) == (Outcome.HEAD_READY, 2, 30_000)
    resume(exchange, third)
    assert (exchange.outcome, exchange.completed, exchange.reusable) == (Outcome.COMPLETE, 4, True)
    assert [at for _, _, at, _ in exchange.responses] == [0, 0, 0, 30_016]
    assert (first[:60], second[:100], third[:30_000], third[30_016:30_021]) == tuple(sent)


@pytest.mark.parametrize("size", [5, 12_000], ids=["all-came-with-the-head", "more-to-come"])
def test_a_series_without_a_place_asks_for_one_at_the_first_body(peers: Peers, size: int) -> None:
    sent = [patterned(size) for _ in range(4)]
    exchange = run(peers.connect(Answers(*map(answer, sent))), FOUR, into=bytearray())
    assert (exchange.outcome, exchange.completed, exchange.content_length) == (Outcome.HEAD_READY, 0, size)
    place = bytearray(4 * size + 4 * 64)
    resume(exchange, place)
    assert (exchange.completed, bodies(exchange, place)) == (4, sent)


def test_a_place_that_is_too_small_again_leaves_the_series_paused(peers: Peers) -> None:
    exchange = run(peers.connect(Answers(*[answer(b"hello")] * 4)), FOUR, into=bytearray(4))
    for small in (bytearray(3), bytearray()):
        resume(exchange, small)
        assert (exchange.outcome, exchange.completed) == (Outcome.HEAD_READY, 0)
    place = bytearray(500)
    resume(exchange, place)
    assert bodies(exchange, place) == [b"hello"] * 4


def test_a_body_of_our_memory_is_the_last_of_a_series(peers: Peers) -> None:
    peer = Answers(answer(), answer(b"hello"))
    exchange = run(peers.connect(peer), FOUR)
    assert (exchange.outcome, exchange.completed, exchange.status) == (Outcome.COMPLETE, 1, 200)
    assert (exchange.body_bytes, exchange.reusable, len(peer.requests)) == (b"hello", True, 2)


def test_a_series_may_pause_at_every_head_and_lose_its_place_there(peers: Peers) -> None:
    exchange = run(peers.connect(Answers(*[answer(b"hello")] * 3)), FOUR[:3], into=bytearray(500), pause_at_head=True)
    places = [bytearray(5) for _ in range(3)]
    for answered, place in enumerate(places):
        assert (exchange.outcome, exchange.completed) == (Outcome.HEAD_READY, answered)
        resume(exchange, bytearray(4))
        assert (exchange.outcome, exchange.completed) == (Outcome.HEAD_READY, answered)
        resume(exchange, place)
    assert (exchange.outcome, places) == (Outcome.COMPLETE, [b"hello"] * 3)


# ------------------------------------------------------------------------------------------------ what ends it


@pytest.mark.parametrize("status", [304, 404, 503])
@pytest.mark.parametrize("good", [0, 2])
def test_an_error_answer_ends_the_series_and_leaves_the_connection_in_step(
    peers: Peers, good: int, status: int
) -> None:
    refusal = b"HTTP/1.1 304 X\r\n\r\n" if status == 304 else answer(b"nope", status=status)
    peer = Answers(*[answer(b"fine")] * good, refusal)
    place = bytearray(500)
    exchange = run(peers.connect(peer), FOUR, into=place)
    assert (exchange.outcome, exchange.completed, exchange.status) == (Outcome.COMPLETE, good, status)
    assert exchange.head_bytes + exchange.body_bytes == refusal
    assert bodies(exchange, place) == [b"fine"] * good
    assert exchange.reusable
    assert len(peer.requests) == good + 1


def test_an_unusual_answer_ends_the_series_and_is_left_to_python(peers: Peers) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    exchange = run(peers.connect(Answers(answer(b"one"), chunked + b"5\r\nhello")), FOUR, into=bytearray(500))
    assert (exchange.outcome, exchange.completed, exchange.status) == (Outcome.UNUSUAL, 1, 200)
    assert (exchange.head_bytes, exchange.leftover, exchange.reusable) == (chunked, b"5\r\nhello", False)


def test_a_connection_that_is_to_close_ends_the_series(peers: Peers) -> None:
    closing = answer(b"two", fields=b"Connection: close\r\n")
    peer, place = Answers(answer(b"one"), closing, close=True), bytearray(500)
    exchange = run(peers.connect(peer), FOUR, into=place)
    assert (exchange.outcome, exchange.status, exchange.completed) == (Outcome.COMPLETE, 200, 2)
    assert bodies(exchange, place) == [b"one", b"two"]
    assert not exchange.reusable
    assert len(peer.requests) == 2


# What fits the scratch of a head, and what is read up to its end and no further.
SIZES = pytest.mark.parametrize("size", [0, 10, 10_000], ids=["empty", "small", "large"])


@SIZES
@pytest.mark.parametrize("at", [1, 3], ids=["between", "after-the-last"])
def test_bytes_that_nobody_asked_for_end_the_series(peers: Peers, size: int, at: int) -> None:
    sent = [answer(patterned(size)) for _ in range(4)]
    peer, place = Answers(*sent[:at], sent[at] + answer(b"not asked for")), bytearray(100_000)
    sock = peers.connect(peer)
    exchange = run(sock, FOUR, into=place)
    assert (exchange.outcome, exchange.completed, exchange.status) == (Outcome.COMPLETE, at + 1, 200)
    assert [head + body for head, body in zip(heads(exchange), bodies(exchange, place), strict=True)] == sent[: at + 1]
    if at < 3:
        assert not exchange.reusable
    assert len(peer.requests) == at + 1
    sock.close()
    assert peer.over.wait(30)
    assert len(peer.requests) == at + 1


@SIZES
@pytest.mark.parametrize("good", [0, 2])
def test_a_peer_that_closes_between_answers_leaves_those_before(peers: Peers, good: int, size: int) -> None:
    sent, place = [patterned(size) for _ in range(good)], bytearray(50_000)
    gone = threading.Event()

    def script(sock: socket.socket) -> None:
        Answers(*map(answer, sent), close=True)(sock)
        read_request(sock)
        gone.set()

    exchange = run(peers.connect(script), FOUR, into=place)
    assert (exchange.outcome, exchange.completed) == (Outcome.CLOSED_BEFORE_RESPONSE, good)
    assert (exchange.status, exchange.head_bytes, exchange.request_sent) == (0, b"", True)
    assert bodies(exchange, place) == sent
    assert not exchange.reusable


@pytest.mark.parametrize("came", [3, -2], ids=["in-the-head", "in-the-body"])
def test_a_peer_that_closes_within_an_answer_leaves_those_before(peers: Peers, came: int) -> None:
    peer, place = Answers(answer(b"one"), answer(b"two"), answer(b"three")[:came], close=True), bytearray(500)
    exchange = run(peers.connect(peer), FOUR, into=place)
    assert (exchange.outcome, bodies(exchange, place)) == (Outcome.CLOSED_IN_RESPONSE, [b"one", b"two"])


def test_a_reset_leaves_the_answers_before(peers: Peers) -> None:
    def script(sock: socket.socket) -> None:
        Answers(answer(b"one"), answer(b"two"), close=True)(sock)
        sock.recv(10)  # of a request that is longer, so that closing is a reset
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    place = bytearray(500)
    exchange = run(peers.connect(script), [*FOUR[:2], request(2, bytes(32 * MIB)), FOUR[3]], into=place)
    # Python's ssl may tell a reset as the end of the stream.
    assert exchange.outcome in (Outcome.RECEIVE_ERROR, Outcome.SEND_ERROR, Outcome.CLOSED_BEFORE_RESPONSE)
    assert (exchange.error is None) == (exchange.outcome == Outcome.CLOSED_BEFORE_RESPONSE)
    assert bodies(exchange, place) == [b"one", b"two"]


@pytest.mark.parametrize(
    ("stalled", "outcome"),
    [
        (b"", Outcome.FIRST_BYTE_TIMEOUT),
        (b"HTTP/1.1 2", Outcome.IDLE_TIMEOUT),
        (answer(b"x")[:-1], Outcome.IDLE_TIMEOUT),
    ],
    ids=["no-answer", "in-the-head", "in-the-body"],
)
def test_a_stall_ends_the_series_and_leaves_the_answers_before(peers: Peers, stalled: bytes, outcome: Outcome) -> None:
    place = bytearray(500)
    peer = Answers(answer(b"one"), answer(b"two"), stalled)
    exchange = run(peers.connect(peer), FOUR, into=place, first_byte_timeout=0.3, idle_timeout=0.3)
    assert (exchange.outcome, bodies(exchange, place)) == (outcome, [b"one", b"two"])
    assert not exchange.reusable


def test_a_peer_that_takes_no_further_request_leaves_the_answers_before(peers: Peers) -> None:
    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(answer(b"one"))
        peers.stall(sock)

    place = bytearray(500)
    exchange = run(peers.connect(script), [FOUR[0], request(1, bytes(64 * MIB))], into=place, send_timeout=0.4)
    assert (exchange.outcome, bodies(exchange, place)) == (Outcome.SEND_TIMEOUT, [b"one"])
    assert not exchange.request_sent


def test_every_request_has_the_whole_time_for_its_first_byte() -> None:
    def script(sock: socket.socket) -> None:
        for _ in range(24):
            read_request(sock)
            peers.released.wait(0.06)
            sock.sendall(answer(b"slow"))

    asked = [request(number) for number in range(24)]
    with Peers() as peers:
        exchange = run(peers.connect(script), asked, into=bytearray(2000), first_byte_timeout=1.2, idle_timeout=1.2)
    assert (exchange.outcome, exchange.completed) == (Outcome.COMPLETE, 24)


def test_an_early_refusal_stops_the_sending_and_ends_the_series(peers: Peers) -> None:
    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(answer(b"one"))
        sock.recv(100)
        sock.sendall(answer(b"nope", status=403))
        peers.stall(sock)

    place = bytearray(500)
    exchange = run(peers.connect(script), [FOUR[0], request(1, bytes(64 * MIB)), FOUR[2]], into=place)
    assert (exchange.outcome, exchange.status, exchange.body_bytes) == (Outcome.COMPLETE, 403, b"nope")
    assert (exchange.early, exchange.reusable, bodies(exchange, place)) == (True, False, [b"one"])


def test_an_answer_before_its_request_is_out_is_none_of_the_series(peers: Peers) -> None:
    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(answer(b"one"))
        sock.recv(100)
        sock.sendall(answer(b"so soon"))
        peers.stall(sock)

    place = bytearray(500)
    exchange = run(peers.connect(script), [FOUR[0], request(1, bytes(64 * MIB)), FOUR[2]], into=place)
    assert (exchange.outcome, exchange.status, exchange.completed) == (Outcome.EARLY_SUCCESS, 200, 1)
    assert (exchange.early, exchange.reusable, bodies(exchange, place)) == (True, False, [b"one"])


# ------------------------------------------------------------------------------------------------ whose memory


def test_nothing_is_told_of_the_answers_while_a_loop_has_the_series(peers: Peers) -> None:
    answered = threading.Event()

    def script(sock: socket.socket) -> None:
        Answers(answer(b"one"), close=True)(sock)
        read_request(sock)
        answered.set()
        peers.stall(sock)

    exchange = series(peers.connect(script), FOUR, into=bytearray(500))
    assert answered.wait(30)
    assert (exchange.outcome, exchange.completed, exchange.responses) == (Outcome.PENDING, 1, [])
    exchange.cancel()
    assert exchange.wait(30)
    assert len(exchange.responses) == 1


def held(*buffers: bytearray) -> list[bool]:
    """Which of them somebody has an export of: those cannot change their size."""
    found = []
    for buffer in buffers:
        try:
            buffer.append(0)
            buffer.pop()
            found.append(False)
        except BufferError:
            found.append(True)
    return found


def test_the_memory_of_all_requests_is_held_to_the_end_and_no_longer(peers: Peers) -> None:
    go_on, second_came = threading.Event(), threading.Event()

    def script(sock: socket.socket) -> None:
        Answers(answer(), close=True)(sock)
        read_request(sock)
        second_came.set()
        go_on.wait(30)
        sock.sendall(answer())
        Answers(answer())(sock)

    memory = [bytearray(patterned(1000)) for _ in range(3)]
    place = bytearray(10)
    exchange = series(peers.connect(script), [request(n, one) for n, one in enumerate(memory)], into=place)
    assert second_came.wait(30)
    assert held(*memory, place) == [True] * 4  # though the first has been answered
    go_on.set()
    assert exchange.wait(30)
    assert exchange.completed == 3
    assert held(*memory, place) == [False] * 4


def test_a_paused_series_holds_its_requests_and_its_place(peers: Peers) -> None:
    memory, place, second = [bytearray(10) for _ in range(3)], bytearray(70), bytearray(8)
    peer = Answers(*[answer(b"12345678")] * 3)
    exchange = run(peers.connect(peer), [request(n, one) for n, one in enumerate(memory)], into=place)
    assert (exchange.outcome, exchange.completed) == (Outcome.HEAD_READY, 1)
    assert held(*memory, place) == [True] * 4
    resume(exchange, second)
    assert (exchange.outcome, exchange.completed) == (Outcome.HEAD_READY, 2)
    assert held(*memory, place, second) == [False] * 4 + [True]  # no request is left to send
    resume(exchange, bytearray(8))
    assert (exchange.completed, held(second)) == (3, [False])


@pytest.mark.parametrize("when", ["sending", "waiting", "paused", "before"])
def test_cancelling_a_series_lets_its_memory_go(peers: Peers, when: str) -> None:
    reached = threading.Event()

    def script(sock: socket.socket) -> None:
        Answers(answer(b"one"), close=True)(sock)
        if when == "sending":
            sock.recv(100)
        else:
            read_request(sock)
        if when == "paused":
            sock.sendall(answer(b"does not fit"))
        reached.set()
        peers.stall(sock)

    memory = [bytearray(10), bytearray(64 * MIB if when == "sending" else 10), bytearray(10)]
    place = bytearray(10)
    asked = [request(n, one) for n, one in enumerate(memory)]
    if when == "before":
        exchange = Exchange(peers.connect(script), *asked[0], followed_by=asked[1:], into=place)
    else:
        exchange = series(peers.connect(script), asked, into=place)
        assert reached.wait(30)
        assert when != "paused" or exchange.wait(30)
    assert held(*memory, place) == [True] * 4
    exchange.cancel()
    assert exchange.wait(30)
    assert (exchange.outcome, exchange.reusable) == (Outcome.CANCELLED, False)
    assert bodies(exchange, place) == ([] if when == "before" else [b"one"])
    assert held(*memory, place) == [False] * 4
    exchange.continue_into(bytearray(100))
    drivers().submit(exchange)
    assert (exchange.outcome, exchange.wait(0)) == (Outcome.CANCELLED, True)


@pytest.mark.parametrize("bad", ["text", memoryview(bytes(8))[::2]], ids=["text", "not-contiguous"])
def test_a_series_with_a_segment_that_cannot_be_sent_is_refused_and_lets_all_go(bad: Any) -> None:
    memory, place = bytearray(3), bytearray(3)
    ours, theirs = socket.socketpair()
    further = [(b"head", [memory]), (b"head", [memory, bad])]
    with ours, theirs, pytest.raises((TypeError, BufferError, ValueError)):
        Exchange(ours, b"head", [memory], followed_by=further, into=place)
    assert held(memory, place) == [False, False]
