"""What a download promises when the store or the way to it fails.

After every fault either the bytes of one version are returned, exactly, or an error of the contract is raised;
never a mixture, never too few, and no byte beyond the caller's memory.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from behaviours import (
    Clock,
    CloseResponse,
    CorruptResponse,
    Drip,
    DropAfterHead,
    DropBeforeHead,
    DuplicateResponse,
    Expired,
    IgnoreRange,
    InRegion,
    LongBody,
    ReplaceObject,
    ResetRequest,
    ResetResponse,
    ShortBody,
    Stall,
    StallResponse,
    Status,
    WithHeader,
    WithoutETag,
    WithoutHeader,
    WrongChecksum,
    WrongContentRange,
    WrongETag,
)
from marks import ATTEMPTS, Connect, over_both
from peer import NO_RANGE, Behaviour, Peer, Rule, Seen

import s3dlio
from s3dlio import Client

CHUNK = 1 << 16
DATA = random.Random(21).randbytes(5 * CHUNK + 4321)
OTHER = random.Random(22).randbytes(len(DATA))
URI = "s3://b/k"
GET = "GetObject"
MIDDLE = 2 * CHUNK
RANGED: dict[str, Any] = {
    "range_optimization": True,
    "range_threshold": 0,
    "chunk_size": CHUNK,
    "range_concurrency": 4,
}


def get_into(client: Client, options: dict[str, Any]) -> bytes:
    """By `get_into`, with memory around the place that must stay as it is."""
    memory = bytearray(b"\xaa" * (len(DATA) + 200))
    size = client.get_into(URI, memoryview(memory)[100:-100], **options)
    assert memory[:100] == memory[-100:] == b"\xaa" * 100
    return bytes(memory[100 : 100 + size])


Read = Callable[[Client], bytes]
WAYS: dict[str, tuple[Read, int | None]] = {
    "whole": (lambda client: bytes(client.get(URI)), None),
    "ranged": (lambda client: bytes(client.get(URI, **RANGED)), MIDDLE),
    "first-part": (lambda client: bytes(client.get(URI, **RANGED)), NO_RANGE),
    "into": (lambda client: get_into(client, {}), None),
    "ranged-into": (lambda client: get_into(client, RANGED), MIDDLE),
}
ways = pytest.mark.parametrize(("read", "offset"), WAYS.values(), ids=WAYS)
# Where waiting costs time, one request and parallel ones stand for all.
two_ways = pytest.mark.parametrize(("read", "offset"), [WAYS["whole"], WAYS["ranged"]], ids=["whole", "ranged"])


def asked_at(peer: Peer, offset: int | None) -> list[Seen]:
    return [one for one in peer.requests(GET) if one.offset == (None if offset == NO_RANGE else offset)]


@pytest.fixture(autouse=True)
def stored(peer: Peer) -> None:
    peer.store.put("b", "k", DATA)


# ------------------------------------------------------------------------------------------------ what is cured

PASSING: dict[str, Behaviour] = {
    "slow-down": Status(503, "SlowDown"),
    "internal-error": Status(500, "InternalError"),
    "gateway": Status(504),
    "drop-before-head": DropBeforeHead(),
    "drop-after-head": DropAfterHead(),
    "reset-at-once": ResetRequest(),
    "reset-after-the-head": ResetResponse(),
    "reset-in-the-answer": ResetResponse(at=40_000),
    "short-body": ShortBody(by=1),
    "drip": Drip(pieces=5, pause=0.02),
    "long-body": LongBody(by=7),
}


@over_both
@ways
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_passing_fault_leaves_the_bytes_exact(
    peer: Peer, client: Client, read: Read, offset: int | None, fault: Behaviour
) -> None:
    peer.play(Rule(GET, offset=offset, attempt=1, do=fault))
    assert read(client) == DATA


@two_ways
@pytest.mark.parametrize("fault", [Stall(), StallResponse(at=40_000)], ids=["no-answer", "in-the-answer"])
def test_a_stalled_answer_is_asked_for_again(
    peer: Peer, connect: Connect, read: Read, offset: int | None, fault: Behaviour
) -> None:
    peer.play(Rule(GET, offset=offset, attempt=1, do=fault))
    assert read(connect(peer, deadline=0.3)) == DATA


@two_ways
def test_a_slow_answer_that_advances_is_never_given_up(
    peer: Peer, connect: Connect, read: Read, offset: int | None
) -> None:
    peer.play(Rule(GET, offset=offset, do=Drip(pieces=6, pause=0.1)))
    assert read(connect(peer, deadline=0.5)) == DATA
    asked = asked_at(peer, offset)
    assert len(asked) == 1


@over_both
def test_a_second_answer_is_never_taken_for_the_next_request(peer: Peer, client: Client) -> None:
    peer.store.put("b", "small", b"first")
    peer.store.put("b", "next", b"other")
    peer.play(Rule(GET, key="small", do=DuplicateResponse()))
    for _ in range(5):
        assert client.get("s3://b/small") == b"first"
        assert client.get("s3://b/next") == b"other"


def test_bytes_after_an_answer_are_never_taken_for_the_next(peer: Peer, client: Client) -> None:
    peer.store.put("b", "next", b"other")
    peer.play(Rule(GET, key="k", do=LongBody(by=1000)))
    for _ in range(5):
        assert client.get(URI) == DATA
        assert client.get("s3://b/next") == b"other"


def test_every_request_failing_once_leaves_the_bytes_exact(peer: Peer, client: Client) -> None:
    peer.play(Rule(attempt=1, do=Status(503, "SlowDown")), Rule(attempt=2, do=ResetResponse(at=100)))
    assert client.get(URI, **RANGED) == DATA


@pytest.mark.parametrize("verify", [True, False])
def test_a_store_that_ignores_ranges_is_read_in_one_response_and_remembered(
    peer: Peer, client: Client, verify: bool
) -> None:
    peer.play(Rule(GET, do=IgnoreRange()))

    def whole() -> int:  # a range that was cancelled may reach the peer later, so those are not counted
        return sum(one.offset is None for one in peer.requests(GET))

    assert client.get(URI, **RANGED, verify=verify) == DATA
    before = whole()
    assert get_into(client, {**RANGED, "verify": verify}) == DATA
    assert whole() == before + 1


def test_a_store_that_ignores_one_range_only_leaves_the_bytes_exact(peer: Peer, client: Client) -> None:
    peer.play(Rule(GET, offset=MIDDLE, do=IgnoreRange()))
    assert get_into(client, RANGED) == DATA


def test_a_store_without_checksums_is_read_too(peer: Peer, client: Client) -> None:
    peer.store.reports_checksums = False
    for read, _ in WAYS.values():
        assert read(client) == DATA


def test_many_objects_come_back_in_order_whatever_fails_once(peer: Peer, client: Client) -> None:
    names = [f"many/{number}" for number in range(24)]
    for name in names:
        peer.store.put("b", name, name.encode() * 1000)
    faults: list[Behaviour] = [Status(503, "SlowDown"), DropBeforeHead(), ResetResponse(at=50), ShortBody(), LongBody()]
    peer.play(*(Rule(GET, key=name, attempt=1, do=faults[at % len(faults)]) for at, name in enumerate(names)))
    uris = [f"s3://b/{name}" for name in [*names, names[3]]]
    pairs = client.get_many(uris)
    assert [uri for uri, _ in pairs] == uris
    assert all(view == uri.removeprefix("s3://b/").encode() * 1000 for uri, view in pairs)


def test_one_object_that_fails_leaves_the_others_of_a_batch(peer: Peer, client: Client) -> None:
    peer.store.put("b", "other", OTHER)
    peer.play(Rule(GET, key="k", do=Status(403, "AccessDenied")))
    (_, failed), (_, view) = client.get_many([URI, "s3://b/other"], on_error="return")
    assert isinstance(failed, s3dlio.AccessDeniedError)
    assert view == OTHER


# ---------------------------------------------------------------------------------------------- what is refused

REFUSED: dict[str, tuple[Behaviour, type[Exception]]] = {
    "403": (Status(403, "AccessDenied"), s3dlio.AccessDeniedError),
    "404": (Status(404, "NoSuchKey"), s3dlio.NotFoundError),
    "400": (Status(400, "InvalidRequest"), s3dlio.S3Error),
    "always-503": (Status(503, "SlowDown"), s3dlio.ThrottledError),
    "always-500": (Status(500, "InternalError"), s3dlio.S3Error),
    "always-dropped": (DropBeforeHead(), s3dlio.TransportError),
    "always-short": (CloseResponse(at=1000), s3dlio.TransportError),
    "always-reset": (ResetResponse(at=40_000), s3dlio.TransportError),
}


@ways
@pytest.mark.parametrize(("fault", "error"), REFUSED.values(), ids=REFUSED)
def test_a_lasting_fault_is_a_clear_error(
    peer: Peer, client: Client, read: Read, offset: int | None, fault: Behaviour, error: type[Exception]
) -> None:
    peer.play(Rule(GET, offset=offset, do=fault))
    with pytest.raises(error, match=r"GetObject.*b/k"):
        read(client)
    asked = asked_at(peer, offset)
    assert len(asked) <= 2 * ATTEMPTS


@ways
def test_an_archived_object_is_told_and_not_asked_for_again(
    peer: Peer, client: Client, read: Read, offset: int | None
) -> None:
    peer.play(Rule(GET, offset=offset, do=Status(403, "InvalidObjectState")))
    with pytest.raises(s3dlio.AccessDeniedError, match="the object is archived: restore it first"):
        read(client)
    assert len(asked_at(peer, offset)) == 1


@pytest.mark.parametrize("fault", [Stall(), StallResponse(at=40_000)], ids=["no-answer", "in-the-answer"])
@two_ways
def test_a_store_that_always_stalls_is_a_timeout(
    peer: Peer, connect: Connect, read: Read, offset: int | None, fault: Behaviour
) -> None:
    peer.play(Rule(GET, offset=offset, do=fault))
    with pytest.raises(s3dlio.TimeoutError, match="2 attempts"):
        read(connect(peer, deadline=0.15, attempts=2))


@ways
@pytest.mark.parametrize("at", [0, 40_000, CHUNK - 1])
def test_a_changed_byte_is_a_checksum_mismatch(
    peer: Peer, client: Client, read: Read, offset: int | None, at: int
) -> None:
    peer.play(Rule(GET, offset=offset, do=CorruptResponse(at)))
    with pytest.raises(s3dlio.ChecksumMismatchError, match="b/k"):
        read(client)


def test_a_changed_byte_in_a_first_range_that_is_the_whole_object_is_a_mismatch(peer: Peer, client: Client) -> None:
    peer.store.put("b", "k", DATA[:CHUNK])
    assert client.get(URI, **RANGED) == DATA[:CHUNK]
    peer.play(Rule(GET, do=CorruptResponse(at=77)))
    with pytest.raises(s3dlio.ChecksumMismatchError):
        client.get(URI, **RANGED)


@ways
def test_a_wrong_checksum_is_a_mismatch(peer: Peer, client: Client, read: Read, offset: int | None) -> None:
    peer.play(Rule(GET, do=WrongChecksum()), Rule("HeadObject", do=WrongChecksum()))
    with pytest.raises(s3dlio.ChecksumMismatchError, match="b/k"):
        read(client)


OF_ANOTHER_SIZE = WrongContentRange(f"bytes {MIDDLE}-{MIDDLE + CHUNK - 1}/{len(DATA) + 1}")
WRONG_RANGES = {
    "shifted": WrongContentRange(f"bytes {MIDDLE + 1}-{MIDDLE + CHUNK}/{len(DATA)}"),
    "another": WrongContentRange(f"bytes 0-{CHUNK - 1}/{len(DATA)}"),
    "shorter": WrongContentRange(f"bytes {MIDDLE}-{MIDDLE + 10}/{len(DATA)}"),
    "of-another-size": OF_ANOTHER_SIZE,
    "nonsense": WrongContentRange("pages 3-4"),
    "missing": WithoutHeader("Content-Range"),
    "short-and-announced": ShortBody(by=5, announced=True),
    "long-and-announced": LongBody(by=5, announced=True),
}


@pytest.mark.parametrize("options", [RANGED, {**RANGED, "verify": False}], ids=["verify", "no-verify"])
@pytest.mark.parametrize("fault", WRONG_RANGES.values(), ids=WRONG_RANGES)
def test_an_answer_of_other_bytes_is_never_put_into_the_place(
    peer: Peer, client: Client, fault: Behaviour, options: dict[str, Any]
) -> None:
    peer.play(Rule(GET, offset=MIDDLE, do=fault))
    with pytest.raises((s3dlio.S3Error, s3dlio.ObjectChangedError, s3dlio.TransportError), match="b/k"):
        get_into(client, options)


@pytest.mark.parametrize(
    "fault",
    [
        WrongContentRange(f"bytes 1-{CHUNK}/{len(DATA)}"),
        WrongContentRange("bytes 0-10/*"),
        WithoutHeader("Content-Range"),
        ShortBody(by=5, announced=True),
        LongBody(by=5, announced=True),
    ],
    ids=repr,
)
def test_a_first_answer_that_contradicts_itself_is_an_error(peer: Peer, client: Client, fault: Behaviour) -> None:
    peer.play(Rule(GET, offset=0, do=fault))
    with pytest.raises((s3dlio.S3Error, s3dlio.ObjectChangedError, s3dlio.TransportError), match="b/k"):
        client.get_range(URI, 0, len(DATA), **RANGED)


def test_a_range_that_is_answered_whole_is_an_error(peer: Peer, client: Client) -> None:
    peer.play(Rule(GET, do=IgnoreRange()))
    with pytest.raises(s3dlio.S3Error, match="the whole object instead of a range"):
        client.get_range(URI, 100, 50)


@pytest.mark.parametrize("by", [1, 50])
def test_a_range_that_comes_back_short_is_an_error(peer: Peer, client: Client, by: int) -> None:
    peer.play(Rule(GET, do=ShortBody(by=by, announced=True)))
    with pytest.raises((s3dlio.S3Error, s3dlio.ObjectChangedError, s3dlio.TransportError), match="b/k"):
        client.get_range(URI, 100, 50)


# ------------------------------------------------------------------------------------------------- one version


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize(
    ("offset", "data"),
    [(CHUNK, OTHER), (MIDDLE, OTHER), (5 * CHUNK, OTHER), (MIDDLE, OTHER[:100]), (MIDDLE, OTHER * 2), (MIDDLE, b"")],
    ids=["second", "middle", "last", "shorter", "longer", "empty"],
)
def test_an_object_replaced_between_ranges_is_never_mixed(
    peer: Peer, client: Client, offset: int, data: bytes, verify: bool
) -> None:
    peer.play(Rule(GET, offset=offset, attempt=1, do=ReplaceObject(data)))
    with pytest.raises(s3dlio.ObjectChangedError, match=r"b/k.*read it again"):
        client.get(URI, **RANGED, verify=verify)
    peer.play()
    assert client.get(URI, **RANGED) == data


def test_a_range_of_another_etag_is_an_object_that_changed(peer: Peer, client: Client) -> None:
    peer.play(Rule(GET, offset=MIDDLE, do=WrongETag()))
    with pytest.raises(s3dlio.ObjectChangedError, match="b/k"):
        client.get(URI, **RANGED, verify=False)


@pytest.mark.parametrize("verify", [True, False])
def test_a_range_without_an_etag_is_of_the_version_that_if_match_named(
    peer: Peer, client: Client, verify: bool
) -> None:
    peer.play(Rule(GET, offset=MIDDLE, do=WithoutETag()))
    assert client.get(URI, **RANGED, verify=verify) == DATA


@two_ways
def test_an_object_replaced_before_a_second_attempt_is_never_mixed(
    peer: Peer, client: Client, read: Read, offset: int | None
) -> None:
    peer.play(
        Rule(GET, offset=offset, attempt=1, do=ResetResponse(at=40_000)),
        Rule(GET, offset=offset, attempt=2, do=ReplaceObject(OTHER)),
    )
    try:
        found = read(client)
    except s3dlio.ObjectChangedError:
        return
    assert found in (DATA, OTHER)


def test_without_an_etag_ranges_are_never_mixed(peer: Peer, client: Client) -> None:
    """A store that names no ETag gives nothing to hold the ranges together by."""

    class ReplacedWithoutETag:
        def __call__(self, turn: Any) -> None:
            turn.peer.store.put("b", "k", OTHER)
            WithoutETag()(turn)

    peer.store.reports_checksums = False
    peer.play(Rule(GET, offset=MIDDLE, do=ReplacedWithoutETag()), Rule(do=WithoutETag()))
    try:
        found = client.get(URI, **{**RANGED, "range_concurrency": 1})
    except s3dlio.S3dlioError:
        return
    assert found in (DATA, OTHER)


@pytest.mark.parametrize("status", [412, 416])
def test_a_range_refused_after_the_first_is_an_object_that_changed(peer: Peer, client: Client, status: int) -> None:
    code = {412: "PreconditionFailed", 416: "InvalidRange"}[status]
    peer.play(Rule(GET, offset=MIDDLE, do=Status(status, code)))
    with pytest.raises(s3dlio.ObjectChangedError):
        client.get(URI, **RANGED)


def test_a_deleted_object_is_not_found_and_never_cut(peer: Peer, client: Client) -> None:
    peer.play(Rule(GET, offset=MIDDLE, do=Status(404, "NoSuchKey")))
    with pytest.raises((s3dlio.NotFoundError, s3dlio.ObjectChangedError), match="b/k"):
        client.get(URI, **RANGED)


def test_a_length_that_lies_never_reaches_beyond_the_buffer(peer: Peer, client: Client) -> None:
    peer.play(Rule(GET, do=LongBody(by=500, announced=True)))
    with pytest.raises((ValueError, s3dlio.S3dlioError)):
        get_into(client, {"verify": False})


@pytest.mark.parametrize("length", ["-1", "1e3", "99999999999999999999999"])
def test_a_content_length_that_is_none_is_an_error(peer: Peer, client: Client, length: str) -> None:
    peer.play(Rule(GET, do=WithHeader("Content-Length", length)))
    with pytest.raises(s3dlio.S3dlioError):
        client.get(URI)


# ------------------------------------------------------------------------------ places, clocks, identities, waits


@pytest.mark.parametrize("status", [301, 307, 400])
def test_a_bucket_of_another_region_is_read_there(peer: Peer, client: Client, status: int) -> None:
    peer.play(Rule(do=InRegion("eu-west-1", status)))
    assert client.get(URI, **RANGED) == DATA
    assert client.stat(URI).size == len(DATA)


@pytest.mark.parametrize("ahead", [-7200, 7200])
def test_a_clock_that_is_off_is_corrected(peer: Peer, client: Client, ahead: int) -> None:
    peer.play(Rule(do=Clock(ahead)))
    assert client.get(URI, **RANGED) == DATA


def test_an_expired_token_is_an_error_that_names_it(peer: Peer, connect: Connect) -> None:
    peer.play(Rule(do=Expired("old")))
    with pytest.raises(s3dlio.S3Error, match="ExpiredToken"):
        connect(peer, credentials=("id", "secret", "old")).get(URI)


def test_an_error_in_one_range_ends_the_stalled_ones(peer: Peer, client: Client) -> None:
    peer.play(Rule(GET, offset=CHUNK, do=Stall()), Rule(GET, offset=MIDDLE, do=Status(403, "AccessDenied")))
    with pytest.raises(s3dlio.AccessDeniedError):
        client.get(URI, **RANGED)
    assert [one.status for one in peer.requests(GET) if one.offset == CHUNK] in ([], [None])


def test_an_error_in_one_range_is_told_though_the_first_is_still_coming(peer: Peer, client: Client) -> None:
    refused = Status(403, "AccessDenied")
    peer.play(Rule(GET, offset=0, do=StallResponse(at=100)), Rule(GET, offset=MIDDLE, do=refused))
    with pytest.raises(s3dlio.AccessDeniedError):
        client.get(URI, **RANGED)


def test_no_byte_reaches_the_buffer_after_an_error(peer: Peer, client: Client) -> None:
    """What was held back is let go after the error: the caller may already use the memory for something else."""
    refused = Status(403, "AccessDenied")
    peer.play(Rule(GET, offset=CHUNK, do=StallResponse(at=100)), Rule(GET, offset=MIDDLE, do=refused))
    memory = bytearray(len(DATA))
    with pytest.raises(s3dlio.AccessDeniedError):
        client.get_into(URI, memory, **RANGED)
    memory[:] = bytes(len(DATA))
    peer.resume()
    peer.wait_until_quiet()
    assert memory == bytes(len(DATA))


def test_threads_of_downloads_are_not_disturbed_by_each_others_faults(peer: Peer, client: Client) -> None:
    peer.play(Rule(GET, attempt=range(1, 40, 3), do=ResetResponse(at=1000)))
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(bytes(client.get(URI)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [DATA] * 8
