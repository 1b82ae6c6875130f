"""The loop beneath the exchanges: it needs no GIL, keeps nothing alive, and survives forks, many hands and its end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from peers import HELLO, REQUEST, Peers, answer, start

from s3dlio._net.drivers import drivers
from s3dlio._net.exchange import Exchange, Outcome
from s3dlio._net.exchange_loop import ExchangeLoop

# Answers each request on each connection, the first of each only once a line was read; then says when the last came.
SERVER = """
import socket, ssl, sys, threading, time
connections, requests, body, files = int(sys.argv[1]), int(sys.argv[2]), bytes(int(sys.argv[3])), sys.argv[4:]
context = None
if files:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files[0])
server = socket.create_server(("127.0.0.1", 0), backlog=connections)
print(server.getsockname()[1], flush=True)
go, last = threading.Event(), []

def serve(sock):
    if context is not None:
        sock = context.wrap_socket(sock, server_side=True)
    for number in range(requests):
        data = b""
        while not data.endswith(b"\\r\\n\\r\\n"):
            data += sock.recv(4096)
        go.wait()
        last.append(time.monotonic())
        sock.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
    sock.recv(1)

threads = []
for _ in range(connections):
    threads.append(threading.Thread(target=serve, args=(server.accept()[0],), daemon=True))
    threads[-1].start()
sys.stdin.readline()
go.set()
for thread in threads: thread.join()
print(max(last), len(last), flush=True)
"""


@pytest.fixture(params=["plain", "tls"])
def way(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[list[str], ssl.SSLContext | None]:
    """Arguments of the server for its transport, and the client's context."""
    if request.param == "plain":
        return [], None
    authority, client = trustme.CA(key_type=trustme.KeyType.ECDSA), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    certificate = tmp_path / "server.pem"
    authority.issue_cert("localhost", key_type=trustme.KeyType.ECDSA).private_key_and_cert_chain_pem.write_to_path(
        str(certificate)
    )
    return [str(certificate)], client


CONNECTIONS, REQUESTS, BODY = 4, 8, 20_000
HELD = 1.0  # seconds


def lateness_while_the_gil_is_held(files: list[str], context: ssl.SSLContext | None) -> tuple[float, set[Outcome]]:
    """By how many seconds the last request of several series came after Python had got the GIL back, and what it saw.

    The series are handed over just before a native call that keeps the GIL; their peer is another process.
    """
    command = [sys.executable, "-c", SERVER, str(CONNECTIONS), str(REQUESTS), str(BODY), *files]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        port = int(server.stdout.readline())
        with contextlib.ExitStack() as sockets:
            sockets.callback(server.stdin.close)
            exchanges = []
            for _ in range(CONNECTIONS):
                sock: socket.socket = sockets.enter_context(socket.create_connection(("127.0.0.1", port), 30))
                if context is not None:
                    sock = sockets.enter_context(context.wrap_socket(sock, server_hostname="localhost"))
                further = [(REQUEST, [])] * (REQUESTS - 1)
                place = bytearray(REQUESTS * (BODY + 64))
                exchanges.append(Exchange(sock, REQUEST, [], followed_by=further, into=place))
            server.stdin.write("go\n")
            for exchange in exchanges:
                drivers().submit(exchange)
            ctypes.PyDLL(None).usleep(int(HELD * 1e6))
            held_until, outcomes = time.monotonic(), {exchange.outcome for exchange in exchanges}
            assert all(exchange.wait(60) for exchange in exchanges)
            assert {exchange.completed for exchange in exchanges} == {REQUESTS}
        last, count = server.stdout.readline().split()
    assert int(count) == CONNECTIONS * REQUESTS
    return float(last) - held_until, outcomes


def test_a_python_that_keeps_the_gil_stalls_no_connection(way: tuple[list[str], ssl.SSLContext | None]) -> None:
    for _ in range(3):  # a machine shared with others may need longer; a loop that waits for the GIL would every time
        late, outcomes = lateness_while_the_gil_is_held(*way)
        if late < 0 and outcomes == {Outcome.COMPLETE}:
            return
    raise AssertionError(f"the last request came {late:.2f} s after the GIL was free again, with {outcomes}")


# ------------------------------------------------------------------------------------------- what it keeps alive


def is_held(buffer: bytearray) -> bool:
    try:
        buffer.append(0)
    except BufferError:
        return True
    buffer.pop()
    return False


@pytest.fixture
def peers() -> Iterator[Peers]:
    with Peers() as opened:
        yield opened


def test_an_exchange_that_nobody_waits_for_is_let_go_of_when_it_has_ended(peers: Peers) -> None:
    body, place = bytearray(10), bytearray(10)
    start(peers.connect(answer(HELLO)), [body], into=place)
    deadline = time.monotonic() + 20
    while is_held(body) or is_held(place):
        assert time.monotonic() < deadline
        peers.released.wait(0.01)
    assert place.startswith(b"hello")


def test_exchanges_that_ended_are_let_go_of_while_another_one_stalls(peers: Peers) -> None:
    stalled = start(peers.connect(peers.stall), [bytes(64 << 20)])
    bodies = [bytearray(10) for _ in range(70)]
    for body in bodies:
        start(peers.connect(answer(HELLO)), [body])
    deadline = time.monotonic() + 20
    while any(map(is_held, bodies)):
        assert time.monotonic() < deadline
        peers.released.wait(0.01)
    stalled.cancel()
    assert stalled.wait(30)


# -------------------------------------------------------------------------------------------------- many hands


@contextlib.contextmanager
def driven(loop: ExchangeLoop, ended: list[Exchange]) -> Iterator[threading.Thread]:
    """A thread that sits in the loop until that is closed."""

    def drive() -> None:
        while not loop.closed:
            ended.extend(loop.run())

    thread = threading.Thread(target=drive)
    thread.start()
    try:
        yield thread
    finally:
        loop.close()
        thread.join(30)
    assert not thread.is_alive()


def test_what_many_threads_submit_at_once_is_done_once_each() -> None:
    loop, ended = ExchangeLoop(), []
    done: list[Exchange] = []

    def submit_some(name: int) -> None:
        for turn in range(40):
            pairs = [socket.socketpair() for _ in range(5)]
            exchanges = []
            for ours, _ in pairs:
                exchanges.append(Exchange(ours, REQUEST, [], idle_timeout=60))
                loop.submit(exchanges[-1])
            for number, (_, theirs) in enumerate(pairs):
                assert theirs.recv(len(REQUEST)) == REQUEST
                body = b"%d/%d/%d" % (name, turn, number)
                theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            for number, (exchange, (ours, theirs)) in enumerate(zip(exchanges, pairs, strict=True)):
                assert exchange.wait(60)
                assert exchange.body_bytes == b"%d/%d/%d" % (name, turn, number)
                ours.close()
                theirs.close()
            done.extend(exchanges)

    with driven(loop, ended):
        threads = [threading.Thread(target=submit_some, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(done) == 8 * 40 * 5
        assert loop.load == 0
    assert len(ended) == len(done)
    assert set(ended) == set(done)


def test_exchanges_in_a_closed_loop_have_ended_whoever_submitted_them_meanwhile() -> None:
    for _ in range(15):
        loop, ended = ExchangeLoop(), []
        taken: list[Exchange] = []
        pairs = [socket.socketpair() for _ in range(80)]
        begun = threading.Barrier(5)

        def submit_until_closed(own: list[tuple[socket.socket, socket.socket]]) -> None:
            begun.wait(30)  # noqa: B023 - the threads end with the turn
            for ours, _ in own:
                exchange = Exchange(ours, REQUEST, [])
                try:
                    loop.submit(exchange)  # noqa: B023
                except RuntimeError:
                    assert exchange.submittable
                    return
                taken.append(exchange)  # noqa: B023

        with driven(loop, ended):
            threads = [threading.Thread(target=submit_until_closed, args=(pairs[n::4],)) for n in range(4)]
            for thread in threads:
                thread.start()
            begun.wait(30)
        for thread in threads:
            thread.join(30)
        assert all(exchange.wait(30) for exchange in taken)
        assert {exchange.outcome for exchange in taken} <= {Outcome.CANCELLED}
        assert len(ended) == len(taken) == len(set(ended))
        for ours, theirs in pairs:
            ours.close()
            theirs.close()


def test_closing_twice_from_several_threads_is_closing() -> None:
    for _ in range(30):
        loop, ended = ExchangeLoop(), []
        with driven(loop, ended):
            closers = [threading.Thread(target=loop.close) for _ in range(3)]
            for closer in closers:
                closer.start()
            for closer in closers:
                closer.join(30)
        assert loop.closed


# -------------------------------------------------------------------------------------------------------- fork

FORKED = """
import gc, os, socket, threading
from s3dlio._net.drivers import drivers
from s3dlio._net.exchange import Exchange

answer = b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello"
stop = threading.Event()

def work():
    while not stop.is_set():
        pairs = [socket.socketpair() for _ in range(16)]
        exchanges = []
        for ours, theirs in pairs:
            exchanges.append(Exchange(ours, b"GET / HTTP/1.1\\r\\n\\r\\n", [], idle_timeout=60))
            drivers().submit(exchanges[-1])
        for ours, theirs in pairs:
            theirs.recv(100)
            theirs.sendall(answer)
        for exchange, (ours, theirs) in zip(exchanges, pairs):
            assert exchange.wait(60) and exchange.body_bytes == b"hello"
            ours.close()
            theirs.close()

threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for number in range(20):
    child = os.fork()
    if child == 0:
        gc.collect()
        left, right = socket.socketpair()
        fresh = Exchange(left, b"GET / HTTP/1.1\\r\\n\\r\\n", [])
        drivers().submit(fresh)
        right.recv(100)
        right.sendall(answer)
        os._exit(17 if fresh.wait(60) and fresh.body_bytes == b"hello" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
stop.set()
for thread in threads: thread.join()
print("all")
"""


@pytest.mark.skipif("S3DLIO_SANITIZED" in os.environ, reason="the sanitizer's allocator locks are not fork-safe")
def test_children_forked_while_a_loop_is_at_work_are_sound() -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (ended.stdout, ended.stderr) == ("all\n", "")
