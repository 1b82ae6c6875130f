"""A part, range or first answer that lags far behind its like is asked for a second time, within the budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import numpy as np
import pytest
from behaviours import (
    CorruptResponse,
    ReplaceObject,
    ResetResponse,
    ShortBody,
    Stall,
    StallRequest,
    StallResponse,
    Status,
)
from marks import Connect, over_both
from peer import NO_RANGE, Behaviour, Peer, Rule, Turn

import s3dlio
from s3dlio import Client, RetryPolicy
from s3dlio._s3.hedging import LEAST_PATIENCE, LEAST_SAMPLES, MOST_UNREAD, Pace

MIB = 1 << 20
PART = 5 * MIB
CHUNK = 64 << 10
DATA = np.random.default_rng(3).integers(0, 256, 4 * PART, dtype=np.uint8).tobytes()
OBJECT = DATA[: 40 * CHUNK]
RANGED = {"range_optimization": True, "range_threshold": 0, "chunk_size": CHUNK, "range_concurrency": 4}


def warmed(client: Client) -> Client:
    """The client has seen as many parts and ranges as it takes to know what is usual."""
    for number in range(6):
        client.put_bytes(f"s3://b/warm{number}", DATA, part_size=PART)
    client.put_bytes("s3://b/object", OBJECT)
    for _ in range(2):
        assert client.get("s3://b/object", **RANGED) == OBJECT
    return client


@pytest.mark.parametrize("lag", [Stall(), StallRequest(at=1 << 20)], ids=["no-answer", "not-read"])
def test_a_part_that_lags_is_sent_a_second_time(peer: Peer, connect: Connect, lag: object) -> None:
    client = warmed(connect(peer, deadline=60.0))
    peer.play(Rule("UploadPart", key="late", part=3, attempt=1, do=lag))  # type: ignore[arg-type]
    info = client.put_bytes("s3://b/late", DATA, part_size=PART)
    assert peer.store.versions("b", "late")[-1].data == DATA
    assert info.checksum == client.stat("s3://b/warm0").checksum
    assert [one.part for one in peer.requests("UploadPart") if one.key == "late" and one.attempt == 2] == [3]
    assert peer.store.orphans() == []


@pytest.mark.parametrize("lag", [Stall(), StallResponse(at=1000)], ids=["no-answer", "in-the-answer"])
def test_a_range_that_lags_is_asked_for_a_second_time(peer: Peer, connect: Connect, lag: object) -> None:
    client = warmed(connect(peer, deadline=60.0))
    peer.play(Rule("GetObject", offset=20 * CHUNK, attempt=1, do=lag))  # type: ignore[arg-type]
    assert client.get("s3://b/object", **RANGED) == OBJECT
    asked = [one.offset for one in peer.requests("GetObject")]
    assert asked.count(20 * CHUNK) == 4  # twice while warming


def test_a_second_sending_that_is_refused_leaves_the_first_to_end(peer: Peer, connect: Connect) -> None:
    client = warmed(connect(peer, deadline=60.0))
    peer.play(
        Rule("UploadPart", key="late", part=3, attempt=1, do=Stall()),
        Rule("UploadPart", key="late", part=3, attempt=2, do=Status(403, "AccessDenied")),
    )
    writer = client.writer("s3://b/late", part_size=PART)
    writer.write(DATA)
    peer.wait_for(lambda: [one.part for one in peer.requests("UploadPart") if one.key == "late"].count(3) == 2)
    peer.resume()
    assert writer.close().total_bytes == len(DATA)
    assert peer.store.versions("b", "late")[-1].data == DATA


def test_a_corrupt_second_answer_is_detected(peer: Peer, connect: Connect) -> None:
    client = warmed(connect(peer, deadline=60.0))
    peer.play(
        Rule("GetObject", offset=20 * CHUNK, attempt=1, do=Stall()),
        Rule("GetObject", offset=20 * CHUNK, attempt=2, do=CorruptResponse(at=5)),
    )
    with pytest.raises(s3dlio.ChecksumMismatchError):
        client.get("s3://b/object", **RANGED)


def test_switched_off_nothing_is_sent_twice(peer: Peer, connect: Connect) -> None:
    client = warmed(connect(peer, deadline=2.0, retries=RetryPolicy(hedge=0, base_delay=0.001)))
    peer.play(Rule("UploadPart", key="late", part=3, attempt=1, do=Stall()))
    client.put_bytes("s3://b/late", DATA, part_size=PART)
    late = [one for one in peer.requests("UploadPart") if one.key == "late" and one.part == 3]
    assert late[1].at - late[0].at >= 1.9  # the deadline, and then a retry


# ------------------------------------------------------------------------------------------------- first answers

FIRST = {
    "whole": (lambda client: bytes(client.get("s3://b/late")), None),
    "ranged": (lambda client: bytes(client.get("s3://b/late", **RANGED)), NO_RANGE),
    "range": (lambda client: bytes(client.get_range("s3://b/late", 0, len(OBJECT))), 0),
    "into": (lambda client: into(client), None),
    "many": (lambda client: bytes(client.get_many(["s3://b/late"])[0][1]), None),
}
first_answers = pytest.mark.parametrize(("read", "offset"), FIRST.values(), ids=FIRST)


def into(client: Client) -> bytes:
    memory = bytearray(len(OBJECT))
    assert client.get_into("s3://b/late", memory) == len(OBJECT)
    return bytes(memory)


def used_to_answers(client: Client) -> Client:
    """The client has seen as many first answers as it takes to know what is usual."""
    for name in ("object", "late"):
        client.put_bytes(f"s3://b/{name}", OBJECT)
    for _ in range(2 * LEAST_SAMPLES):
        assert client.get("s3://b/object") == OBJECT
    return client


@first_answers
def test_a_first_answer_that_lags_is_asked_for_a_second_time(
    peer: Peer, connect: Connect, read: Callable[[Client], bytes], offset: int | None
) -> None:
    client = used_to_answers(connect(peer, deadline=60.0))
    peer.play(Rule("GetObject", key="late", offset=offset, attempt=1, do=Stall()))
    assert read(client) == OBJECT
    wanted = None if offset == NO_RANGE else offset
    asked = [one for one in peer.requests("GetObject") if one.key == "late" and one.offset == wanted]
    assert len(asked) == 2
    assert asked[0].connection != asked[1].connection


@over_both
def test_the_loser_of_a_race_is_cut_short(peer: Peer, connect: Connect) -> None:
    """Its connection ends with the race, so that what it would still bring goes nowhere."""
    client = used_to_answers(connect(peer, deadline=60.0))
    peer.play(Rule("GetObject", key="late", attempt=1, do=Stall()))
    memory = bytearray(len(OBJECT))
    client.get_into("s3://b/late", memory)
    memory[:] = bytes(len(memory))
    peer.resume()
    peer.wait_until_quiet()
    assert memory == bytes(len(memory))


def test_a_second_answer_that_is_refused_leaves_the_first_to_end(peer: Peer, connect: Connect) -> None:
    client = used_to_answers(connect(peer, deadline=60.0))
    peer.play(
        Rule("GetObject", key="late", attempt=1, do=Stall()),
        Rule("GetObject", key="late", attempt=2, do=ResumingAfter(Status(503, "SlowDown"))),
    )
    assert client.get("s3://b/late") == OBJECT
    assert len([one for one in peer.requests("GetObject") if one.key == "late"]) == 2


@dataclass(frozen=True)
class ResumingAfter:
    """Lets what is held go on once this answer is out, or the client has hung up on it: its head may be enough."""

    do: Behaviour

    def __call__(self, turn: Turn) -> None:
        try:
            self.do(turn)
        finally:
            turn.peer.resume()


@pytest.mark.parametrize(
    "fault", [ResetResponse(at=1000), ShortBody(), StallResponse(at=1000)], ids=["reset", "short", "stall"]
)
def test_a_second_answer_that_breaks_in_its_body_is_an_attempt_that_failed(
    peer: Peer, connect: Connect, fault: Behaviour
) -> None:
    client = used_to_answers(connect(peer, deadline=4.0))
    peer.play(
        Rule("GetObject", key="late", attempt=1, do=Stall()),
        Rule("GetObject", key="late", attempt=2, do=fault),
    )
    assert client.get("s3://b/late") == OBJECT
    assert len([one for one in peer.requests("GetObject") if one.key == "late"]) == 3


def test_an_object_replaced_between_two_first_answers_is_never_mixed(peer: Peer, connect: Connect) -> None:
    client = used_to_answers(connect(peer, deadline=60.0))
    other = OBJECT[::-1]
    peer.play(
        Rule("GetObject", key="late", offset=NO_RANGE, attempt=1, do=Stall()),
        Rule("GetObject", key="late", offset=NO_RANGE, attempt=2, do=ReplaceObject(other)),
    )
    assert client.get("s3://b/late", **RANGED) == other


def test_an_empty_object_that_lags_is_asked_for_a_second_time(peer: Peer, connect: Connect) -> None:
    client = used_to_answers(connect(peer, deadline=60.0))
    peer.store.put("b", "late", b"")
    peer.play(Rule("GetObject", key="late", attempt=1, do=Stall()))
    assert client.get("s3://b/late") == b""


def test_without_a_budget_no_first_answer_is_asked_for_twice(peer: Peer, connect: Connect) -> None:
    client = used_to_answers(connect(peer, deadline=2.0, retries=RetryPolicy(hedge=0, base_delay=0.001)))
    peer.play(Rule("GetObject", key="late", attempt=1, do=Stall()))
    assert client.get("s3://b/late") == OBJECT
    first, second = (one for one in peer.requests("GetObject") if one.key == "late")
    assert second.at - first.at >= 1.9  # the deadline, and then a retry


# ------------------------------------------------------------------------------------------------ the decision


def test_patience_is_unknown_before_enough_samples() -> None:
    pace = Pace(0.05)
    for _ in range(LEAST_SAMPLES - 1):
        pace.record("UploadPart", PART, 0.1, PART)
    assert pace.patience("UploadPart", PART) is None
    pace.record("UploadPart", PART, 0.1, PART)
    assert pace.patience("UploadPart", PART) == LEAST_PATIENCE
    assert pace.patience("UploadPart", 64 * PART) is None
    assert pace.patience("GetObject", PART) is None


def test_patience_follows_what_is_usual() -> None:
    pace = Pace(0.05)
    for _ in range(100):
        pace.record("UploadPart", PART, 3.0, PART)
    assert pace.patience("UploadPart", PART) == 6.0


def test_the_budget_is_a_share_of_what_was_moved() -> None:
    pace, twice = Pace(0.05), 0
    for number in count(1):
        pace.record("UploadPart", 100, 0.1, 100)
        twice += pace.may_send_twice("UploadPart", 100)
        assert twice * 100 <= 0.05 * 100 * number
        if number == 1000:
            break
    assert twice == 50


def test_a_first_answer_costs_what_its_like_have_had_and_at_most_what_is_on_its_way() -> None:
    pace = Pace(0.5)
    for _ in range(LEAST_SAMPLES):
        pace.record("GetObject", 0, 0.1, 1000)
    assert sum(pace.may_send_twice("GetObject", 0) for _ in range(100)) == LEAST_SAMPLES // 2
    large = Pace(0.5)
    for _ in range(LEAST_SAMPLES):
        large.record("GetObject", 0, 0.1, 10 * MOST_UNREAD)
    assert sum(large.may_send_twice("GetObject", 0) for _ in range(1000)) == 10 * LEAST_SAMPLES // 2


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), "5%", True])
def test_a_budget_that_is_no_share_is_refused(share: object) -> None:
    with pytest.raises(s3dlio.ConfigurationError, match="hedge"):
        RetryPolicy(hedge=share)  # type: ignore[arg-type]
