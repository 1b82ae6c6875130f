"""A large body is followed while it comes: its checksum is computed meanwhile, and anew for each attempt."""

from __future__ import annotations

import random
from typing import Any

import pytest
from behaviours import CorruptResponse, Drip
from marks import over_both
from model import MIB
from peer import Behaviour, Peer, Rule, Turn

import s3dlio
from s3dlio import Client
from s3dlio._memory.destinations import Bounded, Destination
from s3dlio._s3.get_response import WHOLE
from s3dlio._s3.requests import Request
from s3dlio._s3.running import FOLLOWED

DATA = random.Random(31).randbytes(FOLLOWED + MIB + 123)
URI, GET = "s3://b/k", "GetObject"


@pytest.fixture(autouse=True)
def stored(peer: Peer) -> None:
    peer.store.put("b", "k", DATA)


def reset_after_a_while(turn: Turn) -> None:
    """Most of the answer, with time to look at it, and a reset."""
    reply = turn.serve()
    turn.send_head(reply)
    turn.link.send(reply.body[: 14 * MIB])
    turn.pause(0.5)
    turn.reset()


def flipped(at: int) -> Behaviour:
    """A slow answer of which one byte is another."""

    def answer(turn: Turn) -> None:
        reply = CorruptResponse(at=at).alter(turn.serve())
        turn.send_head(reply)
        for start in range(0, len(reply.body), 5 * MIB):
            turn.link.send(reply.body[start : start + 5 * MIB])
            turn.pause(0.15)

    return answer


@over_both
def test_what_is_told_is_in_its_place_and_begins_anew_with_each_attempt(peer: Peer, client: Client) -> None:
    peer.play(Rule(GET, attempt=1, do=reset_after_a_while), Rule(GET, do=Drip(pieces=4, pause=0.2)))
    attempts: list[list[int]] = []
    place = memoryview(bytearray(len(DATA)))

    def begin(_: Any) -> Destination:
        attempts.append([])
        place[:] = bytes(len(DATA))
        return Bounded(place)

    def look(count: int) -> None:
        assert place[:count] == DATA[:count]
        attempts[-1].append(count)

    request = Request(GET, "GET", "b", "k", asked=WHOLE, on_head=begin, on_bytes=look)
    assert client._service.call(request).received == len(DATA)
    assert place == DATA
    first, second = attempts
    assert 0 < max(first) <= 14 * MIB
    assert 0 < min(second) < max(first)  # else it would say nothing of beginning anew
    assert second == sorted(second)
    assert second[-1] <= len(DATA)


@pytest.mark.parametrize("length", [FOLLOWED - 1, 1000])
def test_a_smaller_body_is_not_followed(peer: Peer, client: Client, length: int) -> None:
    peer.store.put("b", "small", DATA[:length])
    peer.play(Rule(GET, do=Drip(pieces=3, pause=0.2)))
    told: list[int] = []
    place = memoryview(bytearray(length))
    request = Request(GET, "GET", "b", "small", asked=WHOLE, on_head=lambda _: Bounded(place), on_bytes=told.append)
    client._service.call(request)
    assert told == []


@over_both
def test_an_attempt_that_is_slower_than_the_one_before_is_verified_from_its_own_first_byte(
    peer: Peer, client: Client
) -> None:
    peer.play(Rule(GET, attempt=1, do=reset_after_a_while), Rule(GET, do=Drip(pieces=4, pause=0.2)))
    assert client.get(URI) == DATA
    assert len(peer.requests(GET)) == 2


@pytest.mark.parametrize("at", [0, 12 * MIB, -1])
def test_a_changed_byte_is_found_wherever_it_is(peer: Peer, client: Client, at: int) -> None:
    peer.play(Rule(GET, do=flipped(at)))
    with pytest.raises(s3dlio.ChecksumMismatchError, match="CRC64NVME"):
        client.get(URI)
    assert bytes(client.get(URI, verify=False)) != DATA


def test_after_an_interrupt_meanwhile_nobody_writes_into_the_place(peer: Peer, client: Client) -> None:
    peer.play(Rule(GET, do=Drip(pieces=5, pause=0.2)))
    place = bytearray(len(DATA))

    def interrupted(count: int) -> None:
        if count:
            raise KeyboardInterrupt

    request = Request(
        GET, "GET", "b", "k", asked=WHOLE, on_head=lambda _: Bounded(memoryview(place)), on_bytes=interrupted
    )
    with pytest.raises(KeyboardInterrupt):
        client._service.call(request)
    left = bytes(place)
    peer.wait_until_quiet()
    assert place == left != DATA
