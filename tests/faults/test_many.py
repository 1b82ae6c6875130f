"""What `put_many` and `get_many` promise when the store or the way to it fails in the middle of a series.

Every object comes out exactly or as an error of its own; no fault of one is told of another, and nothing is mixed.
"""

from __future__ import annotations

import contextlib
import gc
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import Any

import pytest
from behaviours import (
    CorruptInTransit,
    CorruptResponse,
    DropBeforeHead,
    DuplicateResponse,
    EarlyResponse,
    LongBody,
    LostResponse,
    ReplaceObject,
    ResetRequest,
    ResetResponse,
    ShortBody,
    Stall,
    StallResponse,
    Status,
    WithHeader,
    Without,
    WithoutETag,
    WithoutHeader,
    WrongChecksum,
)
from marks import Connect, over_both
from model import MIB, checksum_of
from peer import Behaviour, Peer, Rule, Turn

import s3dlio
from s3dlio import Client, RetryPolicy, UploadInfo
from s3dlio._memory.pool import pool

GET, PUT = "GetObject", "PutObject"
NAMES = [f"k{number:03}" for number in range(60)]
URIS = [f"s3://b/{name}" for name in NAMES]
# Empty ones, such that fit the first read of an answer and such that do not.
SIZES = [0, 1, 100, 4096, 9000, 20_000]
CONTENT = {name: random.Random(name).randbytes(size) for name, size in zip(NAMES, cycle(SIZES), strict=False)}
ITEMS = list(zip(URIS, CONTENT.values(), strict=True))
MIDDLE = NAMES[27]


@pytest.fixture
def stored(peer: Peer) -> None:
    for name, data in CONTENT.items():
        peer.store.put("b", name, data)


def spread(operation: str, faults: Sequence[Behaviour], attempt: int = 1) -> list[Rule]:
    """Each object has one of the faults."""
    return [
        Rule(operation, key=name, attempt=attempt, do=fault) for name, fault in zip(NAMES, cycle(faults), strict=False)
    ]


def assert_stored(peer: Peer, infos: list[Any], but: Sequence[str] = ()) -> None:
    """Every object is there exactly, and its info tells of it; those named `but` are errors."""
    for name, info in zip(NAMES, infos, strict=True):
        if name in but:
            assert isinstance(info, Exception), name
            continue
        version = peer.store.versions("b", name)[-1]
        assert version.data == CONTENT[name], name
        assert isinstance(info, UploadInfo), (name, info)
        assert (info.etag, info.total_bytes, info.parts) == (version.etag, len(CONTENT[name]), 1)
        if info.checksum_algorithm is not None:
            assert info.checksum == checksum_of(info.checksum_algorithm, CONTENT[name])


def assert_read(pairs: list[tuple[str, Any]], but: Sequence[str] = ()) -> None:
    assert [uri for uri, _ in pairs] == URIS
    for name, (_, view) in zip(NAMES, pairs, strict=True):
        if name in but:
            assert isinstance(view, Exception), name
        else:
            assert view == CONTENT[name], name


def attempts(peer: Peer, operation: str) -> dict[str, int]:
    """How often each object was asked for."""
    found = dict.fromkeys(NAMES, 0)
    for one in peer.requests(operation):
        found[one.key] += 1
    return found


# ------------------------------------------------------------------------------------------------ what is cured

PASSING_PUTS: list[Behaviour] = [
    Status(503, "SlowDown"), DropBeforeHead(), ResetRequest(), ResetRequest(at=50), Status(500, "InternalError"),
    EarlyResponse(503, "SlowDown"), LongBody(), DuplicateResponse(), LostResponse(), ResetResponse(),
    LostResponse(Status(504)),
]  # fmt: skip
PASSING_GETS: list[Behaviour] = [
    Status(503, "SlowDown"), DropBeforeHead(), ResetResponse(), ResetResponse(at=50), ShortBody(by=0), LongBody(),
    DuplicateResponse(), Status(500, "InternalError"), ResetRequest(),
]  # fmt: skip


@over_both
@pytest.mark.parametrize("in_flight", [1, 7])
def test_every_put_failing_once_leaves_every_object_exact(peer: Peer, client: Client, in_flight: int) -> None:
    peer.play(*spread(PUT, PASSING_PUTS))
    assert_stored(peer, client.put_many(ITEMS, max_in_flight=in_flight))


@over_both
@pytest.mark.parametrize("in_flight", [1, 7])
@pytest.mark.usefixtures("stored")
def test_every_get_failing_once_leaves_every_object_exact(peer: Peer, client: Client, in_flight: int) -> None:
    peer.play(*spread(GET, PASSING_GETS))
    assert_read(client.get_many(URIS, max_in_flight=in_flight))


@over_both
@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("fault", [DuplicateResponse(), LongBody(by=100)], ids=["twice", "too-long"])
def test_bytes_after_an_answer_are_never_taken_for_the_next(
    peer: Peer, client: Client, fault: Behaviour, verify: bool
) -> None:
    peer.play(Rule(GET, do=fault))
    assert_read(client.get_many(URIS, max_in_flight=2, verify=verify))


@dataclass
class CloseEveryFew:
    """Closes the connection after every few answers, and says so or not."""

    few: int
    says_so: bool
    _served: dict[int, int] = field(default_factory=dict)

    def __call__(self, turn: Turn) -> None:
        connection = turn.seen.connection
        served = self._served[connection] = self._served.get(connection, 0) + 1
        reply = turn.serve()
        if served % self.few == 0:
            reply = replace(reply, headers={**reply.headers, **({"Connection": "close"} if self.says_so else {})})
            turn.close()
        turn.send(reply)


@over_both
@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("says_so", [True, False])
@pytest.mark.parametrize("few", [1, 3])
def test_a_server_that_closes_its_connections_is_used_as_well(
    peer: Peer, connect: Connect, few: int, says_so: bool
) -> None:
    client = connect(peer, attempts=1)  # a connection that was closed costs no attempt
    peer.play(Rule(do=CloseEveryFew(few, says_so)))
    assert_read(client.get_many(URIS, max_in_flight=3))
    assert_stored(peer, client.put_many(ITEMS, max_in_flight=3))
    if says_so:
        assert set(attempts(peer, GET).values()) == {1}


@pytest.mark.parametrize("operation", [PUT, GET])
@pytest.mark.usefixtures("stored")
def test_throttling_in_the_middle_of_a_series_is_waited_for_as_told(peer: Peer, client: Client, operation: str) -> None:
    peer.play(Rule(operation, key=MIDDLE, attempt=1, do=Status(503, "SlowDown", {"Retry-After": "1"})))
    if operation == PUT:
        assert_stored(peer, client.put_many(ITEMS, max_in_flight=2))
    else:
        assert_read(client.get_many(URIS, max_in_flight=2))
    first, second = [one.at for one in peer.requests(operation) if one.key == MIDDLE]
    assert second - first >= 0.99
    assert {name for name, count in attempts(peer, operation).items() if count > 1} == {MIDDLE}


@pytest.mark.usefixtures("stored")
def test_answers_without_a_length_are_read_too(peer: Peer, client: Client) -> None:
    peer.play(Rule(GET, do=Chunked()))
    assert_read(client.get_many(URIS, max_in_flight=2))
    assert set(attempts(peer, GET).values()) == {1}


class Chunked:
    """The answer in one chunk."""

    def __call__(self, turn: Turn) -> None:
        reply = turn.serve()
        turn.send_head(replace(reply, headers={**reply.headers, "Transfer-Encoding": "chunked"}))
        if reply.body:
            turn.link.send(b"%x\r\n%b\r\n" % (len(reply.body), reply.body))
        turn.link.send(b"0\r\n\r\n")


@pytest.mark.usefixtures("stored")
def test_many_objects_of_a_store_that_reports_no_checksums(peer: Peer, client: Client) -> None:
    peer.store.reports_checksums = False
    assert_read(client.get_many(URIS))
    assert_stored(peer, client.put_many(ITEMS))
    assert_stored(peer, client.put_many(ITEMS, checksum=None))


# ------------------------------------------------------------------------------------ one object's own errors


@pytest.mark.parametrize("in_flight", [1, 5])
def test_a_refused_put_is_the_error_of_its_object_alone(peer: Peer, client: Client, in_flight: int) -> None:
    refused = [NAMES[0], MIDDLE, NAMES[28], NAMES[59]]
    peer.play(*[Rule(PUT, key=name, do=Status(403, "AccessDenied")) for name in refused])
    infos = client.put_many(ITEMS, max_in_flight=in_flight, on_error="return")
    assert_stored(peer, infos, but=refused)
    assert all(isinstance(info, s3dlio.AccessDeniedError) for info in infos if isinstance(info, Exception))
    assert [name for name in NAMES if name in str(infos[NAMES.index(MIDDLE)])] == [MIDDLE]
    assert set(attempts(peer, PUT).values()) == {1}


@pytest.mark.parametrize("in_flight", [1, 5])
@pytest.mark.usefixtures("stored")
def test_a_missing_object_is_the_error_of_its_uri_alone(peer: Peer, client: Client, in_flight: int) -> None:
    missing = [NAMES[0], MIDDLE, NAMES[59]]
    for name in missing:
        del peer.store._objects["b"][name]
    pairs = client.get_many(URIS, max_in_flight=in_flight, on_error="return")
    assert_read(pairs, but=missing)
    assert all(isinstance(view, s3dlio.NotFoundError) for _, view in pairs if isinstance(view, Exception))
    assert set(attempts(peer, GET).values()) == {1}


@over_both
@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("at", [0, -1])
def test_a_changed_byte_is_the_mismatch_of_its_object_alone(peer: Peer, client: Client, at: int) -> None:
    changed = [MIDDLE, NAMES[28], NAMES[41]]
    peer.play(*[Rule(GET, key=name, do=CorruptResponse(at)) for name in changed])
    pairs = client.get_many(URIS, max_in_flight=3, on_error="return")
    assert_read(pairs, but=changed)
    for name in changed:
        error = pairs[NAMES.index(name)][1]
        assert isinstance(error, s3dlio.ChecksumMismatchError)
        assert f"b/{name}" in str(error)
    with pytest.raises(s3dlio.ChecksumMismatchError, match="b/k0"):
        client.get_many(URIS, max_in_flight=3)


def test_an_answer_without_an_etag_is_no_error_and_stores_none_twice(peer: Peer, client: Client) -> None:
    peer.play(*[Rule(PUT, key=name, do=WithoutETag()) for name in (NAMES[3], MIDDLE)])
    assert_stored(peer, client.put_many(ITEMS, max_in_flight=2))
    assert set(attempts(peer, PUT).values()) == {1}


def test_a_wrong_echo_is_the_error_of_its_object_alone_and_stores_none_twice(peer: Peer, client: Client) -> None:
    wrong, error = [NAMES[3], MIDDLE], s3dlio.ChecksumMismatchError
    peer.play(*[Rule(PUT, key=name, do=WrongChecksum()) for name in wrong])
    infos = client.put_many(ITEMS, max_in_flight=2, on_error="return")
    assert_stored(peer, infos, but=wrong)
    assert all(isinstance(infos[NAMES.index(name)], error) for name in wrong)
    assert set(attempts(peer, PUT).values()) == {1}
    with pytest.raises(error, match=f"b/({'|'.join(wrong)})"):
        client.put_many(ITEMS, max_in_flight=2)


def test_bytes_changed_on_their_way_are_refused_by_the_store_and_never_stored(peer: Peer, client: Client) -> None:
    peer.play(Rule(PUT, key=MIDDLE, do=CorruptInTransit(at=3)))
    infos = client.put_many(ITEMS, max_in_flight=2, on_error="return")
    assert_stored(peer, infos, but=[MIDDLE])
    assert peer.store.versions("b", MIDDLE) == []


@pytest.mark.usefixtures("stored")
def test_an_object_that_finds_no_memory_is_an_error_alone(peer: Peer, client: Client) -> None:
    peer.play(Rule(GET, key=MIDDLE, do=WithHeader("Content-Length", str(1 << 50))))
    pairs = client.get_many(URIS, max_in_flight=2, on_error="return")
    assert_read(pairs, but=[MIDDLE])
    assert isinstance(pairs[NAMES.index(MIDDLE)][1], MemoryError)


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("operation", [PUT, GET])
def test_the_first_error_ends_a_call_that_keeps_none(peer: Peer, client: Client, operation: str) -> None:
    stalled = [Rule(operation, key=name, do=Stall()) for name in (NAMES[0], NAMES[50])]
    peer.play(Rule(operation, key=MIDDLE, do=Status(403, "AccessDenied")), *stalled)
    with pytest.raises(s3dlio.AccessDeniedError, match=MIDDLE):
        client.put_many(ITEMS) if operation == PUT else client.get_many(URIS)


# ---------------------------------------------------------------------------------- checksums and conditions


@pytest.mark.parametrize("in_flight", [1, 16])
@pytest.mark.parametrize(
    ("unknown", "instead"),
    [(("crc64nvme",), "crc32c"), (("crc64nvme", "crc32c"), "crc32"), (("crc64nvme", "crc32c", "crc32"), None)],
    ids=["one", "two", "all"],
)
def test_a_store_without_an_algorithm_gets_the_next_one_it_knows(
    peer: Peer, client: Client, unknown: tuple[str, ...], instead: str | None, in_flight: int
) -> None:
    peer.play(Rule(PUT, do=Without(unknown)))
    infos = client.put_many(ITEMS, max_in_flight=in_flight)
    assert_stored(peer, infos)
    assert {info.checksum_algorithm for info in infos} == {instead}


@over_both
@pytest.mark.parametrize("fault", [LostResponse(), LostResponse(Status(500, "InternalError"))])
def test_a_condition_that_an_attempt_whose_answer_was_lost_may_have_met_is_uncertain(
    peer: Peer, client: Client, fault: Behaviour
) -> None:
    lost = NAMES[::5]
    peer.play(*[Rule(PUT, key=name, attempt=1, do=fault) for name in lost])
    infos = client.put_many(ITEMS, max_in_flight=3, if_none_match="*", on_error="return")
    assert_stored(peer, infos, but=lost)
    for name in lost:
        error = infos[NAMES.index(name)]
        assert isinstance(error, s3dlio.PreconditionFailedError)
        assert error.uncertain == 1
    assert all(len(peer.store.versions("b", name)) == 1 for name in NAMES)


def test_a_condition_that_fails_is_the_error_of_its_object_alone(peer: Peer, client: Client) -> None:
    peer.store.put("b", MIDDLE, b"somebody else's")
    infos = client.put_many(ITEMS, max_in_flight=3, if_none_match="*", on_error="return")
    assert_stored(peer, infos, but=[MIDDLE])
    assert isinstance(infos[NAMES.index(MIDDLE)], s3dlio.PreconditionFailedError)
    assert peer.store.versions("b", MIDDLE)[-1].data == b"somebody else's"


def test_a_lost_answer_is_never_taken_for_another_writer_s_object(peer: Peer, client: Client) -> None:
    class TakenMeanwhile(ReplaceObject):
        """Somebody else was first, and the answer that says so is lost."""

        def __call__(self, turn: Turn) -> None:
            turn.read()
            self.write(turn)
            turn.close()

    peer.play(Rule(PUT, key=MIDDLE, attempt=1, do=TakenMeanwhile(b"theirs")))
    infos = client.put_many(ITEMS, max_in_flight=3, if_none_match="*", on_error="return")
    assert_stored(peer, infos, but=[MIDDLE])
    assert isinstance(infos[NAMES.index(MIDDLE)], s3dlio.PreconditionFailedError)


# ------------------------------------------------------------------------------------------------------- time


def test_a_get_that_lags_in_a_series_is_cut_and_asked_for_again(peer: Peer, connect: Connect) -> None:
    client = connect(peer, deadline=60.0)
    for name in NAMES:
        peer.store.put("b", name, name.encode() * 250)
    for _ in range(25):
        client.get_many(URIS[:2], max_in_flight=1)
    peer.play(Rule(GET, key=NAMES[45], attempt=1, do=Stall()))
    pairs = client.get_many(URIS, max_in_flight=1)
    assert [bytes(view) for _, view in pairs] == [name.encode() * 250 for name in NAMES]
    asked = attempts(peer, GET)
    assert [name for name in NAMES[2:] if asked[name] > 1] == [NAMES[45]]


def test_a_put_that_lags_in_a_series_is_waited_for(peer: Peer, connect: Connect) -> None:
    client = connect(peer, deadline=60.0)
    items = [(uri, b"x" * 1000) for uri in URIS]
    for _ in range(25):
        client.put_many(items[:2], max_in_flight=1)
    peer.play(Rule(PUT, key=NAMES[45], do=Stall()))
    infos: list[UploadInfo] = []
    thread = threading.Thread(target=lambda: infos.extend(client.put_many(items, max_in_flight=1)))
    thread.start()
    peer.wait_for(lambda: attempts(peer, PUT)[NAMES[45]] == 1)
    thread.join(1.5)  # beyond what a GET would be given
    assert thread.is_alive()
    peer.resume()
    thread.join(30)
    assert len(infos) == 60
    assert attempts(peer, PUT)[NAMES[45]] == 1


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(("operation", "fault"), [(PUT, Stall()), (GET, StallResponse(at=1))])
def test_a_deadline_ends_the_object_that_stalls_and_no_other(
    peer: Peer, connect: Connect, operation: str, fault: Behaviour
) -> None:
    peer.play(Rule(operation, key=MIDDLE, do=fault))
    client = connect(peer, deadline=60.0, retries=RetryPolicy(deadline=0.6, base_delay=0.001))
    if operation == PUT:
        infos = client.put_many(ITEMS, max_in_flight=2, on_error="return")
        assert_stored(peer, infos, but=[MIDDLE])
        error = infos[NAMES.index(MIDDLE)]
    else:
        pairs = client.get_many(URIS, max_in_flight=2, on_error="return")
        assert_read(pairs, but=[MIDDLE])
        error = pairs[NAMES.index(MIDDLE)][1]
    assert isinstance(error, s3dlio.TimeoutError)
    assert MIDDLE in str(error)
    assert attempts(peer, operation)[MIDDLE] == 1


@pytest.mark.usefixtures("stored")
def test_where_nothing_may_be_asked_for_twice_the_deadline_still_holds(peer: Peer, connect: Connect) -> None:
    policy = RetryPolicy(deadline=1.2, hedge=1e-9, base_delay=0.001)
    client = connect(peer, deadline=60.0, retries=policy)
    for name in NAMES:
        peer.store.put("b", name, name.encode() * 250)
    for _ in range(25):
        client.get_many(URIS[:2], max_in_flight=1)
    peer.play(Rule(GET, key=NAMES[45], do=Stall()))
    pairs = client.get_many(URIS, max_in_flight=1, on_error="return")
    assert isinstance(pairs[45][1], s3dlio.TimeoutError)
    assert [bytes(view) for _, view in pairs[46:]] == [name.encode() * 250 for name in NAMES[46:]]


# ------------------------------------------------------------------------------- multipart, input, and memory


def test_objects_of_several_parts_go_up_among_the_small_ones(peer: Peer, client: Client) -> None:
    large = random.Random(5).randbytes(11 * MIB)
    items = [*ITEMS[:10], ("s3://b/large", large), *ITEMS[10:20], ("s3://b/larger", large + b"x")]
    peer.play(Rule("UploadPart", attempt=1, do=Status(503, "SlowDown")))
    infos = client.put_many(items, part_size=5 * MIB, max_in_flight=4)
    assert [info.parts for info in infos] == [1] * 10 + [3] + [1] * 10 + [3]
    assert [info.total_bytes for info in infos] == [len(data) for _, data in items]
    for uri, data in items:
        assert peer.store.versions("b", uri.removeprefix("s3://b/"))[-1].data == data
    assert peer.store.orphans() == []


@pytest.mark.parametrize("on_error", ["raise", "return"])
def test_a_large_object_that_fails_leaves_no_upload(peer: Peer, client: Client, on_error: Any) -> None:
    peer.play(Rule("UploadPart", part=2, do=Status(403, "AccessDenied")))
    items = [ITEMS[0], ("s3://b/large", bytes(11 * MIB)), ITEMS[1]]
    with contextlib.suppress(s3dlio.AccessDeniedError):
        first, failed, last = client.put_many(items, part_size=5 * MIB, on_error=on_error)
        assert isinstance(failed, s3dlio.AccessDeniedError)
        assert (first.total_bytes, last.total_bytes) == (0, 1)
    peer.wait_for(lambda: not peer.store.orphans())
    assert peer.store.versions("b", "large") == []


def test_an_error_ends_a_large_object_that_stalls(peer: Peer, client: Client) -> None:
    peer.play(Rule("UploadPart", part=1, do=Stall()), Rule(PUT, key=MIDDLE, do=Waiting("UploadPart")))
    items = [("s3://b/large", bytes(11 * MIB)), *ITEMS]
    with pytest.raises(s3dlio.AccessDeniedError, match=MIDDLE):
        client.put_many(items, part_size=5 * MIB, max_in_flight=2)
    peer.wait_for(lambda: not peer.store.orphans())  # the call does not wait for a store that may say nothing


@dataclass(frozen=True)
class Waiting:
    """Refuses once a request of that operation is there."""

    operation: str

    def __call__(self, turn: Turn) -> None:
        turn.peer.wait_for(lambda: bool(turn.peer.requests(self.operation)))
        Status(403, "AccessDenied")(turn)


@pytest.mark.parametrize(
    ("items", "options", "error", "match"),
    [
        ([*ITEMS[:3], "s3://b/k"], {}, TypeError, r"items\[3\] is not a \(uri, data\) pair"),
        ([*ITEMS[:3], ("s3://b/k", b"x", b"y")], {}, TypeError, r"items\[3\]"),
        ([*ITEMS[:3], ("s3://b/k", "text")], {}, TypeError, r"items\[3\] is a str"),
        ([*ITEMS[:3], ("s3://b/k", 5)], {}, TypeError, r"items\[3\]"),
        ([*ITEMS[:3], ("s3://b/k", memoryview(bytes(8))[::2])], {}, ValueError, r"items\[3\] is not C-contiguous"),
        ([*ITEMS[:3], ("b/k", b"x")], {}, ValueError, "b/k"),
        ([*ITEMS[:3], ("s3://b", b"x")], {}, ValueError, "s3://b"),
        (ITEMS, {"on_error": "ignore"}, ValueError, "on_error"),
        (ITEMS, {"max_in_flight": 0}, ValueError, "max_in_flight"),
        (ITEMS, {"max_in_flight": 1025}, ValueError, "max_in_flight"),
        (ITEMS, {"part_sise": 5 * MIB}, (TypeError, ValueError), "part_sise"),
        (ITEMS, {"part_size": 1}, ValueError, "part_size"),
        (ITEMS, {"checksum": "md4"}, ValueError, "checksum"),
    ],
)
def test_bad_input_is_refused_before_any_byte_goes_out(
    peer: Peer, client: Client, items: Any, options: dict[str, Any], error: Any, match: str
) -> None:
    with pytest.raises(error, match=match):
        client.put_many(items, **options)
    assert peer.requests() == []


@pytest.mark.parametrize("fault", [None, Status(403, "AccessDenied"), DropBeforeHead()], ids=["none", "403", "closed"])
@pytest.mark.parametrize("on_error", ["raise", "return"])
def test_the_buffers_are_let_go_of_after_the_return_and_after_an_error(
    peer: Peer, client: Client, fault: Behaviour | None, on_error: Any
) -> None:
    if fault is not None:
        peer.play(Rule(key=MIDDLE, do=fault), Rule("UploadPart", do=fault))
    buffers = [bytearray(data) for data in CONTENT.values()] + [bytearray(6 * MIB)]
    items = list(zip([*URIS, "s3://b/large"], buffers, strict=True))
    raised: list[BaseException] = []
    try:
        client.put_many(items, part_size=5 * MIB, max_in_flight=5, on_error=on_error)
    except s3dlio.S3dlioError as error:
        raised.append(error)  # with its frames
    assert bool(raised) == (fault is not None and on_error == "raise")
    for buffer in buffers:
        buffer.append(1)  # BufferError while anybody holds it


@pytest.mark.usefixtures("stored")
def test_nothing_of_the_pool_stays_out_after_a_faulty_batch(peer: Peer, client: Client, held_before: int) -> None:
    peer.play(*spread(GET, PASSING_GETS), Rule(GET, key=MIDDLE, do=Status(404, "NoSuchKey")))
    peer.store.put("b", "large", bytes(300_000))
    pairs = client.get_many([*URIS, "s3://b/large"], max_in_flight=4, on_error="return")
    assert pool().in_use_bytes > held_before
    del pairs
    gc.collect()
    peer.wait_for(lambda: pool().in_use_bytes == held_before)


@pytest.mark.usefixtures("stored")
def test_an_answer_whose_headers_are_missing_is_read_unverified(peer: Peer, client: Client) -> None:
    peer.play(Rule(GET, do=WithoutHeader("x-amz-checksum-crc64nvme")))
    assert_read(client.get_many(URIS))
