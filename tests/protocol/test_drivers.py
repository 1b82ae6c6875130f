"""The threads that drive exchanges, where the system gives no more of them, or none; and two in one loop."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from behaviours import Stall
from peer import Peer, Rule
from peers import HELLO, REQUEST, Peers, answer

from s3dlio._net.drivers import Drivers
from s3dlio._net.exchange import Exchange, Outcome
from s3dlio._net.exchange_loop import ExchangeLoop


@pytest.fixture
def peers() -> Iterator[Peers]:
    with Peers() as opened:
        yield opened


@contextlib.contextmanager
def no_more_threads() -> Iterator[None]:
    """No thread can be started: what the system has no memory for a stack of fails as a limit of processes does."""
    before = threading.stack_size(1 << 50)
    try:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            threading.Thread(target=int).start()
        yield
    finally:
        threading.stack_size(before)


@contextlib.contextmanager
def no_more_descriptors() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in taken:
            os.close(descriptor)


def bells() -> int:
    """How many eventfds this process has."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += "eventfd" in os.readlink(f"/proc/self/fd/{name}")
    return found


@pytest.mark.parametrize("limit", [no_more_threads, no_more_descriptors], ids=["threads", "descriptors"])
def test_where_no_thread_can_be_had_the_loops_there_are_serve(peers: Peers, limit: object) -> None:
    few = Drivers(4)
    stalled = Exchange(peers.connect(peers.stall), REQUEST, [bytes(32 << 20)])
    few.submit(stalled)
    others = [Exchange(peers.connect(answer(HELLO)), REQUEST, []) for _ in range(30)]
    rung = bells()
    with limit():  # type: ignore[operator]
        for exchange in others:
            few.submit(exchange)
        assert all(exchange.wait(30) for exchange in others)
        assert stalled.outcome == Outcome.PENDING
    assert {exchange.body_bytes for exchange in others} == {b"hello"}
    assert bells() == rung
    assert few.close(30)
    assert bells() == rung - 1


def test_once_threads_are_to_be_had_again_another_is_started(peers: Peers, caplog: pytest.LogCaptureFixture) -> None:
    few = Drivers(2)
    stalled = [Exchange(peers.connect(peers.stall), REQUEST, [bytes(32 << 20)]) for _ in range(2)]
    others = [Exchange(peers.connect(answer(HELLO)), REQUEST, []) for _ in range(5)]
    few.submit(stalled[0])
    with no_more_threads(), caplog.at_level(logging.INFO, "s3dlio"):
        for exchange in others:
            few.submit(exchange)
            assert exchange.wait(30)
    assert len(caplog.messages) == 1  # it was not asked for one each time
    few._ask_again_at = 0.0
    few.submit(stalled[1])
    assert len(few._threads) == 2
    assert few.close(30)


def test_without_any_thread_the_exchange_is_left_to_its_caller_and_nothing_leaks(peers: Peers) -> None:
    few, rung = Drivers(2), bells()
    exchange = Exchange(peers.connect(answer(HELLO)), REQUEST, [])
    with no_more_threads():
        for _ in range(5):
            with pytest.raises(RuntimeError, match="can't start new thread") as raised:
                few.submit(exchange)
            assert bells() == rung, raised
    assert exchange.submittable
    few.submit(exchange)
    assert exchange.wait(30)
    assert few.close(30)
    assert bells() == rung


AT_EXIT = """
import atexit, sys, threading
import s3dlio

client = s3dlio.Client(endpoint_url=sys.argv[1], region="x", credentials=("a", "b"), addressing_style="path")
writer = client.writer("s3://b/k", part_size=5 << 20)
writer.write(bytes(6 << 20))
print("written", flush=True)
sys.stdin.readline()
atexit.register(threading.stack_size, 1 << 50)  # first of all: as from Python 3.12 on no thread can be started
"""


def test_at_exit_uploads_are_aborted_though_no_thread_can_be_started() -> None:
    with Peer() as peer:
        peer.play(Rule("UploadPart", do=Stall()))
        command = [sys.executable, "-W", "ignore", "-c", AT_EXIT, peer.endpoint_url]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
            peer.wait_for(lambda: len(peer.requests("UploadPart")) == 1)  # the only driver has something to do
            program.communicate("go\n", timeout=60)
        assert program.returncode == 0
        assert peer.store.orphans() == []
        assert len(peer.requests("AbortMultipartUpload")) == 1


# ------------------------------------------------------------------------------------------------------ whose loop


def test_a_second_thread_in_a_loop_is_refused(peers: Peers) -> None:
    loop, inside = ExchangeLoop(), threading.Event()
    exchange = Exchange(peers.connect(peers.stall), REQUEST, [bytes(32 << 20)])
    loop.submit(exchange)

    def drive() -> None:
        inside.set()
        while not loop.closed:
            loop.run()

    driver = threading.Thread(target=drive)
    driver.start()
    assert inside.wait(30)
    while not exchange.sent:
        assert not exchange.wait(0.001)
    with pytest.raises(RuntimeError, match="another thread"):
        loop.run()
    loop.close()
    driver.join(30)
    assert not driver.is_alive()
    assert exchange.wait(30)
    assert exchange.outcome == Outcome.CANCELLED


def test_a_loop_that_is_closed_as_it_is_entered_is_shut_by_one_thread() -> None:
    for _ in range(300):
        loop, begun = ExchangeLoop(), threading.Barrier(3)

        def drive() -> None:
            begun.wait(30)  # noqa: B023 - the threads end with the turn
            while not loop.closed:  # noqa: B023
                loop.run()  # noqa: B023

        def close() -> None:
            begun.wait(30)  # noqa: B023
            loop.close()  # noqa: B023

        threads = [threading.Thread(target=one) for one in (drive, close, close)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        assert loop.closed


def test_a_loop_that_nobody_ever_drives_frees_its_bell_and_ends_what_it_was_given(peers: Peers) -> None:
    rung, loop, body = bells(), ExchangeLoop(), bytearray(10)
    assert bells() == rung + 1
    exchange = Exchange(peers.connect(answer(HELLO)), REQUEST, [body])
    loop.submit(exchange)
    loop.close()
    del loop
    assert bells() == rung
    assert exchange.wait(30)
    assert exchange.outcome == Outcome.CANCELLED
    body.append(1)
