"""Waiting for the first of two exchanges: each may end first, pause at its head, be cancelled, or have ended before."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from peers import HELLO, REQUEST, Peers, answer, resume, start

from s3dlio._net.drivers import drivers
from s3dlio._net.exchange import Exchange, Outcome


@pytest.fixture
def peers() -> Iterator[Peers]:
    with Peers() as opened:
        yield opened


def beside(peers: Peers, leader: Exchange, *, answers: bool, pause_at_head: bool = False) -> Exchange:
    script = answer(HELLO) if answers else peers.stall
    exchange = Exchange(peers.connect(script), REQUEST, [], pause_at_head=pause_at_head)
    exchange.put_beside(leader)
    drivers().submit(exchange)
    return exchange


def test_the_end_of_the_second_wakes_the_waiter_for_both(peers: Peers) -> None:
    first = start(peers.connect(peers.stall))
    second = beside(peers, first, answers=True)
    assert first.wait_beside(second, 60)
    assert second.wait(60)
    assert second.body_bytes == b"hello"
    assert not first.wait(0.05), "the end of the second was taken for that of the first"
    assert first.end()
    assert first.outcome == Outcome.CANCELLED


def test_the_end_of_the_first_wakes_as_well(peers: Peers) -> None:
    first = start(peers.connect(answer(HELLO)))
    second = beside(peers, first, answers=False)
    assert first.wait_beside(second, 60)
    assert first.wait(60)
    assert first.body_bytes == b"hello"
    assert not second.wait(0.05)
    assert second.end()


def test_one_that_has_ended_before_is_not_waited_for(peers: Peers) -> None:
    first = start(peers.connect(peers.stall))
    second = beside(peers, first, answers=True)
    assert second.wait(60)
    for _ in range(3):  # however often the waiter was woken for it already
        assert first.wait_beside(second, 60)
    assert not first.wait(0)
    assert first.end()


def test_a_wait_for_both_times_out(peers: Peers) -> None:
    first = start(peers.connect(peers.stall))
    second = beside(peers, first, answers=False)
    assert not first.wait_beside(second, 0.05)
    assert first.end()
    assert second.end()


def test_each_may_pause_at_its_head_and_go_on(peers: Peers) -> None:
    first = start(peers.connect(answer(HELLO)), pause_at_head=True)
    second = beside(peers, first, answers=True, pause_at_head=True)
    for exchange in (first, second):
        assert exchange.wait(60)
        assert exchange.outcome == Outcome.HEAD_READY
        into = bytearray(5)
        resume(exchange, into)
        assert (exchange.outcome, into) == (Outcome.COMPLETE, b"hello")
    assert first.wait_beside(second, 0)


def test_a_second_that_pauses_does_not_end_the_first(peers: Peers) -> None:
    first = start(peers.connect(peers.stall))
    second = beside(peers, first, answers=True, pause_at_head=True)
    assert first.wait_beside(second, 60)
    resume(second, bytearray(5))
    assert first.wait_beside(second, 60)
    assert first.end()
    assert first.outcome == Outcome.CANCELLED  # waits for the loop, whatever woke it before


def test_a_cancelled_second_wakes_the_waiter(peers: Peers) -> None:
    first = start(peers.connect(peers.stall))
    second = beside(peers, first, answers=False)
    threading.Timer(0.05, second.cancel).start()
    assert first.wait_beside(second, 60)
    assert second.outcome == Outcome.CANCELLED
    assert first.end()


def test_one_that_is_cancelled_before_it_was_submitted_wakes_the_waiter(peers: Peers) -> None:
    first = start(peers.connect(peers.stall))
    second = Exchange(peers.connect(peers.stall), REQUEST, [])
    second.put_beside(first)
    threading.Timer(0.05, second.cancel).start()
    assert first.wait_beside(second, 60)
    assert second.outcome == Outcome.CANCELLED
    assert first.end()


def test_one_is_put_beside_another_before_it_is_submitted(peers: Peers) -> None:
    first, second = start(peers.connect(answer(HELLO))), start(peers.connect(answer(HELLO)))
    with pytest.raises(ValueError, match="before it is submitted"):
        second.put_beside(first)
    assert first.wait(60)
    assert second.wait(60)


def test_many_pairs_end_in_any_order(peers: Peers) -> None:
    for number in range(200):
        first = start(peers.connect(answer(HELLO)), pause_at_head=number % 2 == 0)
        second = beside(peers, first, answers=True, pause_at_head=number % 3 == 0)
        assert first.wait_beside(second, 60)
        assert first.wait(0) or second.wait(60)
        first.end()
        second.end()
        assert first.wait(0)
        assert second.wait(0)
