"""A part or range that lags far behind its like is sent a second time, within the budget, and never mixed."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest
from behaviours import CorruptResponse, Stall, StallRequest, StallResponse, Status
from marks import Connect
from peer import Peer, Rule

import s3dlio
from s3dlio import Client, RetryPolicy
from s3dlio._stragglers import LEAST_PATIENCE, LEAST_SAMPLES, Pace

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


# ------------------------------------------------------------------------------------------------ the decision


def test_patience_is_unknown_before_enough_samples() -> None:
    pace = Pace(0.05)
    for _ in range(LEAST_SAMPLES - 1):
        pace.record("UploadPart", PART, 0.1)
    assert pace.patience("UploadPart", PART) is None
    pace.record("UploadPart", PART, 0.1)
    assert pace.patience("UploadPart", PART) == LEAST_PATIENCE
    assert pace.patience("UploadPart", 64 * PART) is None
    assert pace.patience("GetObject", PART) is None


def test_patience_follows_what_is_usual() -> None:
    pace = Pace(0.05)
    for _ in range(100):
        pace.record("UploadPart", PART, 3.0)
    assert pace.patience("UploadPart", PART) == 6.0


def test_the_budget_is_a_share_of_what_was_moved() -> None:
    pace, twice = Pace(0.05), 0
    for number in count(1):
        pace.record("UploadPart", 100, 0.1)
        twice += pace.may_send_twice(100)
        assert twice * 100 <= 0.05 * 100 * number
        if number == 1000:
            break
    assert twice == 50


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), "5%", True])
def test_a_budget_that_is_no_share_is_refused(share: object) -> None:
    with pytest.raises(s3dlio.ConfigurationError, match="hedge"):
        RetryPolicy(hedge=share)  # type: ignore[arg-type]
