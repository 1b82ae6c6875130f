"""What an answer proves that comes before its request has, or that belongs to the request before: nothing.

No `UploadInfo` is returned for an object that the store has not, and no bytes for those of another object.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, replace

import pytest
from behaviours import DropBeforeHead, DuplicateDuringNext, EarlySuccess
from marks import ATTEMPTS, Connect, over_both
from model import MIB
from peer import Behaviour, Peer, Rule, Turn

import s3dlio
from s3dlio import Client, UploadInfo

PART = 5 * MIB
# More than kernels keep between the two ends.
LARGE = random.Random(21).randbytes(12 * MIB)
PARTS = random.Random(22).randbytes(3 * PART + 1_000)  # four of them
SMALL = [random.Random(n).randbytes(1_000 + n) for n in range(24)]
URI = "s3://b/k"
CREATE, UPLOAD_PART, COMPLETE, PUT = "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "PutObject"
GET, HEAD = "GetObject", "HeadObject"

FAULTS: dict[str, Behaviour] = {
    "early-200": EarlySuccess(),
    "early-200-in-the-body": EarlySuccess(after=MIB),
    "duplicate-during-the-next": DuplicateDuringNext(),
    "duplicate-in-the-next-body": DuplicateDuringNext(after=MIB),
}
by_fault = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)


def stored(peer: Peer, key: str) -> list[bytes]:
    return [version.data for version in peer.store.versions("b", key)]


def assert_stored(peer: Peer, key: str, info: UploadInfo, data: bytes) -> None:
    versions = peer.store.versions("b", key)
    assert versions, peer.transcript()
    assert (versions[-1].data, versions[-1].etag) == (data, info.etag)
    assert peer.store.orphans() == []


def written(client: Client, data: bytes, part_size: int) -> UploadInfo:
    with client.writer(URI, part_size=part_size, max_in_flight=1) as writer:
        writer.write(data)
    return writer.close()


# -------------------------------------------------------------------------------------------- sent again, and exact


@over_both
@by_fault
def test_a_put_that_was_answered_before_it_was_there_is_sent_again(
    peer: Peer, client: Client, fault: Behaviour
) -> None:
    client.put_bytes("s3://b/before", b"before")  # the connection has served
    peer.play(Rule(PUT, key="k", attempt=1, do=fault))
    info = client.put_bytes(URI, LARGE, part_size=16 * MIB)
    assert_stored(peer, "k", info, LARGE)
    first, second = peer.requests(PUT)[1:]
    assert first.connection != second.connection


# The last part is so small that it is with the peer's system before the peer answers: what comes then looks no
# different from its answer, but where it is another's.
PARTS_AND_FAULTS = [
    pytest.param(part, fault, id=f"{part}-{name}")
    for part in (1, 2, 4)
    for name, fault in FAULTS.items()
    if part < 4 or isinstance(fault, DuplicateDuringNext)
]


@over_both
@pytest.mark.parametrize(("part", "fault"), PARTS_AND_FAULTS)
def test_a_part_that_was_answered_before_it_was_there_is_sent_again(
    peer: Peer, client: Client, part: int, fault: Behaviour
) -> None:
    peer.play(Rule(UPLOAD_PART, part=part, attempt=1, do=fault))
    assert_stored(peer, "k", written(client, PARTS, PART), PARTS)
    assert len(peer.requests(UPLOAD_PART, part)) == 2


@over_both
def test_parts_of_equal_bytes_are_each_stored_though_the_answer_to_one_comes_twice(peer: Peer, client: Client) -> None:
    peer.play(Rule(UPLOAD_PART, part=2, attempt=1, do=DuplicateDuringNext()))
    data = bytes(3 * PART)
    assert_stored(peer, "k", written(client, data, PART), data)


@over_both
@pytest.mark.parametrize("operation", [CREATE, COMPLETE])
@pytest.mark.parametrize("fault", [EarlySuccess(), DuplicateDuringNext()], ids=["early-200", "duplicate"])
def test_a_publication_that_was_answered_before_it_was_there_is_never_taken_for_one(
    peer: Peer, client: Client, operation: str, fault: Behaviour
) -> None:
    peer.play(Rule(operation, attempt=1, do=fault))
    client.put_bytes("s3://b/before", b"before")
    try:
        info = written(client, PARTS, PART)
    except s3dlio.S3dlioError:
        assert stored(peer, "k") == []
    else:
        assert_stored(peer, "k", info, PARTS)


@over_both
@by_fault
def test_a_large_object_among_many_that_was_answered_too_soon_is_sent_again(
    peer: Peer, client: Client, fault: Behaviour
) -> None:
    datas = [*SMALL[:10], LARGE[: 4 * MIB], *SMALL[10:20]]
    peer.play(Rule(PUT, key="k10", attempt=1, do=fault))
    infos = client.put_many([(f"s3://b/k{n}", data) for n, data in enumerate(datas)], max_in_flight=1)
    for n, (info, data) in enumerate(zip(infos, datas, strict=True)):
        assert_stored(peer, f"k{n}", info, data)


@over_both
@pytest.mark.parametrize("which", [1, 5, 23])
def test_a_small_object_among_many_is_never_taken_for_stored_by_the_answer_before(
    peer: Peer, client: Client, which: int
) -> None:
    peer.play(Rule(PUT, key=f"k{which}", attempt=1, do=DuplicateDuringNext()))
    infos = client.put_many([(f"s3://b/k{n}", data) for n, data in enumerate(SMALL)], max_in_flight=1)
    for n, (info, data) in enumerate(zip(infos, SMALL, strict=True)):
        assert_stored(peer, f"k{n}", info, data)
    assert all(len(stored(peer, f"k{n}")) == 1 for n in range(len(SMALL)))


@over_both
def test_equal_small_objects_are_each_stored_though_the_answer_to_one_comes_twice(peer: Peer, client: Client) -> None:
    peer.play(Rule(PUT, key="k7", attempt=1, do=DuplicateDuringNext()))
    infos = client.put_many([(f"s3://b/k{n}", b"the same") for n in range(12)], max_in_flight=1)
    for n, info in enumerate(infos):
        assert_stored(peer, f"k{n}", info, b"the same")


@over_both
def test_a_small_put_is_never_taken_for_stored_by_the_answer_before(peer: Peer, client: Client) -> None:
    client.put_bytes("s3://b/before", SMALL[0])
    peer.play(Rule(PUT, key="k", attempt=1, do=DuplicateDuringNext()))
    assert_stored(peer, "k", client.put_bytes(URI, SMALL[0]), SMALL[0])


# ---------------------------------------------------------------------------------------------------- what is read


@over_both
@pytest.mark.parametrize("which", [1, 5, 23])
def test_no_object_of_many_has_the_bytes_of_the_one_before(peer: Peer, client: Client, which: int) -> None:
    for n, data in enumerate(SMALL):
        peer.store.put("b", f"k{n}", data)
    peer.play(Rule(GET, key=f"k{which}", attempt=1, do=DuplicateDuringNext()))
    found = client.get_many([f"s3://b/k{n}" for n in range(len(SMALL))], max_in_flight=1)
    assert [bytes(memoryview(view)) for _, view in found] == SMALL


@over_both
@pytest.mark.parametrize("operation", [GET, HEAD])
def test_no_answer_to_a_read_is_taken_for_that_to_the_next(peer: Peer, client: Client, operation: str) -> None:
    peer.store.put("b", "one", SMALL[1])
    peer.store.put("b", "two", SMALL[2])
    peer.play(Rule(operation, key="two", attempt=1, do=DuplicateDuringNext()))
    for key, data in (("one", SMALL[1]), ("two", SMALL[2])):
        if operation == GET:
            assert bytes(memoryview(client.get(f"s3://b/{key}"))) == data
        else:
            assert client.stat(f"s3://b/{key}").size == len(data)


# ------------------------------------------------------------------------------------------------- a fault that stays


@over_both
@pytest.mark.parametrize("operation", [PUT, UPLOAD_PART])
def test_a_peer_that_always_answers_too_soon_is_an_error_and_nothing_is_stored(
    peer: Peer, client: Client, operation: str
) -> None:
    peer.play(Rule(operation, do=EarlySuccess()))
    with pytest.raises(s3dlio.TransportError, match="success before it had the request") as raised:
        written(client, LARGE, 16 * MIB if operation == PUT else PART)
    assert (raised.value.uncertain, raised.value.attempts) == (ATTEMPTS, ATTEMPTS)
    assert stored(peer, "k") == []
    peer.wait_for(lambda: not peer.store.orphans())


def test_a_condition_that_fails_after_an_early_success_is_not_taken_for_another_writers(
    peer: Peer, client: Client
) -> None:
    """The early answer may have been honest after all: its outcome is unknown."""

    def store_and_answer_early(turn: Turn) -> None:
        peer.store.put("b", "k", LARGE)
        EarlySuccess()(turn)

    peer.play(Rule(PUT, attempt=1, do=store_and_answer_early))
    uncertain = 1
    try:
        client.put_bytes(URI, LARGE, part_size=16 * MIB, if_none_match="*")
    except s3dlio.PreconditionFailedError as error:
        uncertain = error.uncertain
    assert uncertain == 1
    assert stored(peer, "k") == [LARGE]


# ----------------------------------------------------------------------------------- what lay there before the request


def test_an_answer_that_came_while_the_connection_was_idle_is_never_taken(peer: Peer, connect: Connect) -> None:
    again = threading.Event()

    def answer_again_later(turn: Turn) -> None:
        turn.send(turn.serve())
        turn.hold()
        turn.link.send(turn.link.answered)
        again.set()

    client = connect(peer)
    peer.play(Rule(PUT, key="before", do=answer_again_later))
    client.put_bytes("s3://b/before", SMALL[0])
    peer.resume()
    assert again.wait(20)
    info = client.put_bytes(URI, SMALL[0])
    assert_stored(peer, "k", info, SMALL[0])


def test_an_ordinary_connection_serves_on(peer: Peer, client: Client) -> None:
    """What guards against repeated answers takes no answer for one that is none."""
    peer.play(Rule(PUT, key="k5", attempt=1, do=DropBeforeHead()))
    for n in range(12):
        client.put_bytes(f"s3://b/k{n}", b"the same")
    assert [one.connection for one in peer.requests(PUT)] == [1] * 6 + [2] * 7


@over_both
def test_a_store_that_gives_all_answers_one_name_is_believed_after_one_doubt(peer: Peer, client: Client) -> None:
    @dataclass(frozen=True)
    class SameName:
        def __call__(self, turn: Turn) -> None:
            reply = turn.serve()
            turn.send(replace(reply, headers={**reply.headers, "x-amz-request-id": "one", "Date": "now"}))

    peer.play(Rule(do=SameName()))
    for n in range(8):
        client.put_bytes(f"s3://b/k{n}", b"the same")
    client.put_many([(f"s3://b/m{n}", b"the same") for n in range(30)], max_in_flight=1)
    assert len(peer.requests(PUT)) == 8 + 30 + 1
    assert all(bytes(memoryview(client.get(f"s3://b/k{n}"))) == b"the same" for n in range(8))
    assert len(peer.requests(GET)) == 8
