"""What a read promises does not hang on how the response is framed: by a length, in chunks, by the connection's end.

Every check of status, range, length, version and checksum is tried in every framing, over plain sockets and TLS.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from behaviours import (
    CorruptResponse,
    ResetResponse,
    Stall,
    Status,
    WithoutETag,
    WithoutHeader,
    WrongChecksum,
    WrongContentRange,
    WrongETag,
)
from framings import CHUNKED, CLOSE, FRAMINGS, LENGTH, ODD_CHUNKS, UNTOLD, Framed, altered, head_without_length
from marks import ATTEMPTS, Connect, over_both
from model import MIB
from peer import NO_RANGE, Behaviour, Peer, Rule, Turn

import s3dlio
from s3dlio import Client, ProgressEvent
from s3dlio._s3.hedging import LEAST_SAMPLES

CHUNK = 1 << 16
DATA = random.Random(51).randbytes(5 * CHUNK + 4321)
OTHER = random.Random(52).randbytes(len(DATA))
SMALL = DATA[:3000]
URI, GET = "s3://b/k", "GetObject"
MIDDLE = 2 * CHUNK
RANGED: dict[str, Any] = {
    "range_optimization": True,
    "range_threshold": 0,
    "chunk_size": CHUNK,
    "range_concurrency": 4,
}
AROUND = b"\xaa" * 100


def into(client: Client, **options: Any) -> bytes:
    """By `get_into`, with memory around the place that must stay as it is."""
    memory = bytearray(AROUND + bytes(len(DATA)) + AROUND)
    size = client.get_into(URI, memoryview(memory)[100:-100], **options)
    assert memory[:100] == memory[-100:] == AROUND
    return bytes(memory[100 : 100 + size])


Read = Callable[[Client], bytes]
# Each with what it reads.
WHOLE_READS: dict[str, Read] = {
    "whole": lambda client: bytes(client.get(URI)),
    "ranged": lambda client: bytes(client.get(URI, **RANGED)),
    "into": lambda client: into(client),
    "ranged-into": lambda client: into(client, **RANGED),
    "many": lambda client: bytes(client.get_many([URI])[0][1]),
    "many-ranged": lambda client: bytes(client.get_many([URI], **RANGED)[0][1]),
}
PART_READS: dict[str, tuple[Read, bytes]] = {
    "range": (lambda client: bytes(client.get_range(URI, 100, 5000)), DATA[100:5100]),
    "first-range": (lambda client: bytes(client.get_range(URI, 0, 5000)), DATA[:5000]),
    "tail": (lambda client: bytes(client.get_range(URI, 100)), DATA[100:]),
    "long-range": (lambda client: bytes(client.get_range(URI, 100, 3 * CHUNK, **RANGED)), DATA[100 : 100 + 3 * CHUNK]),
    "long-tail": (lambda client: bytes(client.get_range(URI, 100, **RANGED)), DATA[100:]),
    "part-into": (lambda client: into(client, offset=77, length=9000), DATA[77:9077]),
    "long-into": (lambda client: into(client, offset=77, **RANGED), DATA[77:]),
}
READS = {**{name: (read, DATA) for name, read in WHOLE_READS.items()}, **PART_READS}
reads = pytest.mark.parametrize(("read", "expected"), READS.values(), ids=READS)
whole_reads = pytest.mark.parametrize("read", WHOLE_READS.values(), ids=WHOLE_READS)
part_reads = pytest.mark.parametrize("read", [read for read, _ in PART_READS.values()], ids=PART_READS)
framings = pytest.mark.parametrize("framing", FRAMINGS)
untold = pytest.mark.parametrize("framing", UNTOLD)

REFUSALS = (s3dlio.S3Error, s3dlio.ObjectChangedError, s3dlio.TransportError)


@pytest.fixture(autouse=True)
def stored(peer: Peer) -> None:
    peer.store.put("b", "k", DATA)


# ------------------------------------------------------------------------------------------------ what is exact


@over_both
@framings
@reads
def test_any_framing_brings_the_bytes_exactly(
    peer: Peer, client: Client, read: Read, expected: bytes, framing: str
) -> None:
    peer.play(Rule(GET, do=Framed(framing)))
    assert read(client) == expected


@over_both
@framings
@reads
def test_a_response_after_a_broken_one_is_exact_in_any_framing(
    peer: Peer, client: Client, read: Read, expected: bytes, framing: str
) -> None:
    peer.play(Rule(GET, attempt=1, do=ResetResponse(at=3000)), Rule(GET, do=Framed(framing)))
    assert read(client) == expected


@framings
@pytest.mark.parametrize("size", [0, 1, 100, 4096, 70_000])
def test_small_objects_of_a_list_are_exact_in_any_framing(peer: Peer, client: Client, framing: str, size: int) -> None:
    uris = []
    for number in range(6):
        peer.store.put("b", f"many{number}", DATA[number : number + size])
        uris.append(f"s3://b/many{number}")
    peer.play(Rule(GET, key="many3", do=Framed(framing)), Rule(GET, key="many4", do=Framed(framing)))
    for options in ({}, RANGED):
        views = [view for _, view in client.get_many(uris, max_in_flight=2, **options)]
        assert views == [DATA[number : number + size] for number in range(6)]


@framings
@pytest.mark.parametrize("verify", [True, False])
def test_an_empty_object_is_empty_in_any_framing(peer: Peer, client: Client, framing: str, verify: bool) -> None:
    peer.store.put("b", "k", b"")
    peer.play(Rule(GET, do=Framed(framing)))
    assert client.get(URI, verify=verify) == b""
    assert client.get(URI, verify=verify, **RANGED) == b""
    assert client.get_range(URI, 0, 10) == b""
    assert client.get_into(URI, bytearray(5), verify=verify) == 0


@over_both
@framings
@pytest.mark.parametrize("options", [{}, RANGED], ids=["whole", "ranged"])
def test_a_body_larger_than_any_document_is_read(
    peer: Peer, client: Client, framing: str, options: dict[str, Any]
) -> None:
    large = DATA * (66 * MIB // len(DATA) + 1)
    peer.store.put("b", "k", large)
    peer.play(Rule(GET, do=Framed(framing)))
    options = {**options, **({"chunk_size": 66 * MIB} if options else {})}
    assert client.get(URI, **options) == large
    memory = bytearray(len(large) + 5)
    assert client.get_into(URI, memory, **options) == len(large)
    assert memoryview(memory)[: len(large)] == large
    assert len({one.offset for one in peer.requests(GET)}) <= 2


@untold
def test_progress_ends_with_all_bytes_of_a_body_of_unknown_length(peer: Peer, client: Client, framing: str) -> None:
    events: list[ProgressEvent] = []
    peer.play(Rule(GET, do=Framed(framing)))
    client.get(URI, progress=events.append)
    assert [(one.bytes_done, one.total_bytes, one.parts_done) for one in events] == [(len(DATA), len(DATA), 1)]


# -------------------------------------------------------------------------------------------- what is refused


@over_both
@framings
@whole_reads
@pytest.mark.parametrize("at", [0, 40_000, CHUNK - 1])
def test_a_changed_byte_is_a_mismatch_in_any_framing(
    peer: Peer, client: Client, read: Read, framing: str, at: int
) -> None:
    peer.play(Rule(GET, offset=NO_RANGE, do=Framed(framing, altered(CorruptResponse(at)))))
    with pytest.raises(s3dlio.ChecksumMismatchError, match="b/k"):
        read(client)


@framings
@pytest.mark.parametrize("read", [WHOLE_READS["ranged"], WHOLE_READS["ranged-into"]], ids=["ranged", "ranged-into"])
def test_a_changed_byte_of_a_later_range_is_a_mismatch_in_any_framing(
    peer: Peer, client: Client, read: Read, framing: str
) -> None:
    peer.play(Rule(GET, offset=MIDDLE, do=Framed(framing, altered(CorruptResponse(100)))))
    with pytest.raises(s3dlio.ChecksumMismatchError, match="b/k"):
        read(client)


@framings
@whole_reads
def test_a_wrong_checksum_in_the_head_is_a_mismatch(peer: Peer, client: Client, read: Read, framing: str) -> None:
    peer.play(Rule(GET, do=Framed(framing, altered(WrongChecksum()))))
    with pytest.raises(s3dlio.ChecksumMismatchError, match="b/k"):
        read(client)


def _status(status: int) -> Behaviour:
    class Other:
        def __call__(self, turn: Turn) -> None:
            raise NotImplementedError

        def alter(self, reply: Any) -> Any:
            return type(reply)(status, reply.headers, b"" if status in (204, 205) else reply.body)

    return Other()


@framings
@reads
@pytest.mark.parametrize("status", [201, 202, 203, 204, 207, 226])
def test_another_status_than_200_and_206_is_no_object(
    peer: Peer, client: Client, read: Read, expected: bytes, framing: str, status: int
) -> None:
    peer.play(Rule(GET, do=Framed(framing if status != 204 else LENGTH, altered(_status(status)))))
    with pytest.raises(s3dlio.S3Error, match=f"status {status} to a GET"):
        read(client)


@over_both
@framings
@whole_reads
def test_a_part_that_nobody_asked_for_is_never_taken_for_the_whole(
    peer: Peer, client: Client, read: Read, framing: str
) -> None:
    part = WrongContentRange(f"bytes 0-{CHUNK - 1}/{len(DATA)}")
    cut = len(DATA) - CHUNK
    peer.play(Rule(GET, offset=NO_RANGE, do=Framed(framing, altered(_status(206), part), cut=cut)))
    with pytest.raises(s3dlio.S3Error, match=r"a part of the object.*instead of the whole"):
        read(client)


@over_both
@framings
@part_reads
def test_a_whole_object_is_never_taken_for_a_range(peer: Peer, client: Client, read: Read, framing: str) -> None:
    peer.play(Rule(GET, do=Serving(framing)))
    with pytest.raises(s3dlio.S3Error, match="the whole object instead of a range"):
        read(client)


class Serving:
    """The whole object to a request for a range."""

    def __init__(self, framing: str) -> None:
        self.framing = framing

    def __call__(self, turn: Turn) -> None:
        turn.headers = {name: value for name, value in turn.headers.items() if name != "range"}
        Framed(self.framing)(turn)


WRONG_RANGES: dict[str, tuple[Behaviour, ...]] = {
    "before": (WrongContentRange(f"bytes 0-{CHUNK - 1}/{len(DATA)}"),),
    "shifted": (WrongContentRange(f"bytes {MIDDLE + 1}-{MIDDLE + CHUNK}/{len(DATA)}"),),
    "longer": (WrongContentRange(f"bytes {MIDDLE}-{MIDDLE + 2 * CHUNK - 1}/{len(DATA)}"),),
    "of-another-size": (WrongContentRange(f"bytes {MIDDLE}-{MIDDLE + CHUNK - 1}/{len(DATA) + 1}"),),
    "nonsense": (WrongContentRange("pages 3-4"),),
    "two": (WrongContentRange(f"bytes {MIDDLE}-{MIDDLE + CHUNK - 1}/{len(DATA)}, bytes 0-{CHUNK - 1}/{len(DATA)}"),),
    "missing": (WithoutHeader("Content-Range"),),
    "shorter-than-its-body": (WrongContentRange(f"bytes {MIDDLE}-{MIDDLE + 10}/{len(DATA)}"),),
    "of-another-version": (WrongETag(),),
    "204": (_status(204),),
}


@framings
@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("wrong", WRONG_RANGES)
def test_a_response_of_other_bytes_is_an_error_and_none_of_them_is_in_the_place(
    peer: Peer, client: Client, framing: str, wrong: str, verify: bool
) -> None:
    peer.play(Rule(GET, offset=MIDDLE, do=Framed(framing, altered(*WRONG_RANGES[wrong]))))
    memory = bytearray(b"\xaa" * len(DATA))
    with pytest.raises(REFUSALS, match="b/k"):
        client.get_into(URI, memory, verify=verify, **RANGED)
    if wrong != "shorter-than-its-body" or framing == LENGTH:  # else that shows only as the body comes
        assert memory[MIDDLE : MIDDLE + CHUNK] == b"\xaa" * CHUNK


FIRST_RANGE = {
    "another": "bytes 1-5000/{size}",
    "longer": "bytes 0-5000/{size}",
    "nonsense": "nonsense",
    "no-end": "bytes 0-100/*",
}


@framings
@pytest.mark.parametrize("told", FIRST_RANGE.values(), ids=FIRST_RANGE)
def test_a_first_range_of_other_bytes_is_an_error(peer: Peer, client: Client, framing: str, told: str) -> None:
    change = altered(WrongContentRange(told.format(size=len(DATA))))
    peer.play(Rule(GET, offset=0, do=Framed(framing, change)))
    with pytest.raises(REFUSALS, match="b/k"):
        client.get_range(URI, 0, 5000)


# --------------------------------------------------------------------------- bodies that are not as promised


@over_both
@untold
@part_reads
def test_a_range_that_comes_short_is_asked_for_again(peer: Peer, client: Client, read: Read, framing: str) -> None:
    expected = next(data for one, data in PART_READS.values() if one is read)
    peer.play(Rule(GET, attempt=1, do=Framed(framing, cut=5)))
    assert read(client) == expected
    peer.play(Rule(GET, do=Framed(framing, cut=5)))
    with pytest.raises(s3dlio.TransportError, match=f"bytes came of.*|{ATTEMPTS} attempts"):
        read(client)


@over_both
@untold
@part_reads
def test_a_range_that_comes_long_is_asked_for_again(peer: Peer, client: Client, read: Read, framing: str) -> None:
    expected = next(data for one, data in PART_READS.values() if one is read)
    peer.play(Rule(GET, attempt=1, do=Framed(framing, extra=b"X" * 70_000)))
    assert read(client) == expected
    peer.play(Rule(GET, do=Framed(framing, extra=b"X")))
    with pytest.raises(s3dlio.TransportError, match="more than the head"):
        read(client)


@framings
def test_a_range_that_is_shorter_than_asked_and_says_so_is_completed(peer: Peer, client: Client, framing: str) -> None:
    """A store may answer with a part of the range (RFC 9110, section 15.3.7); the rest is asked for."""

    def part(turn: Turn) -> None:
        first, last = (int(text) for text in turn.headers["range"].removeprefix("bytes=").split("-"))
        last = min(last, len(DATA) - 1)
        half = (first + last) // 2
        told = WrongContentRange(f"bytes {first}-{half}/{len(DATA)}")
        Framed(framing, altered(told), cut=last - half)(turn)

    peer.play(Rule(GET, offset=MIDDLE, do=part), Rule(GET, offset=100, do=part))
    assert client.get(URI, **RANGED) == DATA
    assert into(client, **RANGED) == DATA
    assert client.get_range(URI, 100, 5000) == DATA[100:5100]


@over_both
@whole_reads
def test_a_chunked_body_that_breaks_off_is_asked_for_again(peer: Peer, client: Client, read: Read) -> None:
    def broken(turn: Turn) -> None:
        reply = turn.serve()
        turn.link.send(turn.head_of(type(reply)(reply.status, {**reply.headers, "Transfer-Encoding": "chunked"})))
        turn.link.send(b"%x\r\n%b" % (len(reply.body), reply.body[:2000]))
        turn.close()

    peer.play(Rule(GET, attempt=1, do=broken))
    assert read(client) == DATA
    peer.play(Rule(GET, do=broken))
    with pytest.raises(s3dlio.TransportError, match="in the middle of a body"):
        read(client)


# ------------------------------------------------------------- a body that only the connection's end delimits


class Silent:
    """An answer to HEAD that does not tell the length."""

    def __call__(self, turn: Turn) -> None:
        turn.link.send(head_without_length(turn, turn.serve()))
        turn.close()


SILENT = Rule("HeadObject", do=Silent()), Rule(GET, offset=0, do=Status(403, "AccessDenied"))


@over_both
@whole_reads
@pytest.mark.parametrize("cut", [1, 5000, len(DATA)])
def test_what_the_end_of_a_connection_cut_off_is_fetched(peer: Peer, client: Client, read: Read, cut: int) -> None:
    peer.play(Rule(GET, offset=NO_RANGE, do=Framed(CLOSE, cut=cut)))
    assert read(client) == DATA


@whole_reads
@pytest.mark.parametrize("checksums", [True, False])
def test_a_body_cut_off_is_never_taken_for_the_whole_though_nothing_identifies_its_version(
    peer: Peer, client: Client, read: Read, checksums: bool
) -> None:
    peer.store.reports_checksums = checksums
    nameless = altered(WithoutETag(), WithoutHeader("Last-Modified"))
    peer.play(Rule(GET, do=Framed(CLOSE, nameless, cut=1000)))
    with pytest.raises((s3dlio.TransportError, s3dlio.S3Error, s3dlio.ChecksumMismatchError), match="b/k"):
        read(client)


@whole_reads
def test_a_body_of_which_nothing_tells_the_length_is_refused(peer: Peer, client: Client, read: Read) -> None:
    """Neither HEAD nor a range tells the size, and there is no checksum: a cut would not be noticed."""
    peer.store.reports_checksums = False
    peer.play(
        Rule("HeadObject", do=Silent()),
        Rule(GET, offset=0, do=Status(403, "AccessDenied")),
        Rule(GET, do=Framed(CLOSE)),
    )
    with pytest.raises(s3dlio.S3Error, match="nothing reports its length"):
        read(client)


@whole_reads
def test_a_checksum_vouches_for_a_body_whose_length_nothing_tells(peer: Peer, client: Client, read: Read) -> None:
    peer.play(*SILENT, Rule(GET, do=Framed(CLOSE)))
    assert read(client) == DATA
    peer.play(*SILENT, Rule(GET, do=Framed(CLOSE, cut=1)))
    with pytest.raises(s3dlio.ChecksumMismatchError):
        read(client)


# ------------------------------------------------------------------------------------------- the caller's buffer


@over_both
@framings
@pytest.mark.parametrize("options", [{}, RANGED], ids=["whole", "ranged"])
def test_a_buffer_that_is_too_small_is_an_error_and_nothing_is_written_beyond_it(
    peer: Peer, client: Client, framing: str, options: dict[str, Any]
) -> None:
    peer.play(Rule(GET, do=Framed(framing)))
    memory = bytearray(AROUND + bytes(1000) + AROUND)
    with pytest.raises(ValueError, match=r"buffer holds 1000 bytes, s3://b/k needs \d+; give a larger buffer"):
        client.get_into(URI, memoryview(memory)[100:-100], **options)
    assert memory[:100] == memory[-100:] == AROUND
    assert len(peer.requests(GET)) == 1


@untold
def test_no_byte_reaches_the_buffer_after_an_error_in_any_framing(peer: Peer, client: Client, framing: str) -> None:
    def slow(turn: Turn) -> None:
        reply = turn.serve()
        headers = {**reply.headers, "Transfer-Encoding": "chunked"}
        turn.link.send(turn.head_of(type(reply)(reply.status, headers)))
        turn.link.send(b"%x\r\n%b" % (len(reply.body), reply.body[:100]))
        turn.hold()
        turn.link.send(reply.body[100:] + b"\r\n0\r\n\r\n")

    peer.play(Rule(GET, offset=CHUNK, do=slow), Rule(GET, offset=MIDDLE, do=Status(403, "AccessDenied")))
    memory = bytearray(len(DATA))
    with pytest.raises(s3dlio.AccessDeniedError):
        client.get_into(URI, memory, **RANGED)
    memory[:] = bytes(len(DATA))
    peer.resume()
    peer.wait_until_quiet()
    assert memory == bytes(len(DATA))


@pytest.mark.parametrize("framing", [CHUNKED, CLOSE])
@whole_reads
def test_a_body_without_a_length_that_stalls_is_a_timeout(
    peer: Peer, connect: Connect, read: Read, framing: str
) -> None:
    def stalled(turn: Turn) -> None:
        reply = turn.serve()
        headers = {**reply.headers, "Transfer-Encoding": "chunked"}
        head = turn.head_of(type(reply)(reply.status, headers))
        turn.link.send(head if framing == CHUNKED else head.replace(b"Transfer-Encoding: chunked\r\n", b""))
        turn.link.send(b"ffff\r\n1234")
        turn.hold()

    peer.play(Rule(GET, do=stalled))
    with pytest.raises(s3dlio.TimeoutError, match="2 attempts"):
        read(connect(peer, deadline=0.15, attempts=2))


# ---------------------------------------------------------------------------------------------------- two attempts


def used_to_answers(client: Client) -> Client:
    """The client has seen as many first answers, and as many ranges, as it takes to know what is usual."""
    client.put_bytes("s3://b/usual", DATA)
    for _ in range(2 * LEAST_SAMPLES):
        client.get("s3://b/usual")
    for _ in range(LEAST_SAMPLES):
        client.get("s3://b/usual", **RANGED)
    return client


RACED = {"whole": (WHOLE_READS["whole"], NO_RANGE), "into": (WHOLE_READS["into"], NO_RANGE)}
RACED |= {"later-range": (WHOLE_READS["ranged"], MIDDLE), "later-into": (WHOLE_READS["ranged-into"], MIDDLE)}
raced = pytest.mark.parametrize(("read", "offset"), RACED.values(), ids=RACED)


@framings
@raced
def test_a_second_sending_is_exact_in_any_framing(
    peer: Peer, connect: Connect, framing: str, read: Read, offset: int
) -> None:
    client = used_to_answers(connect(peer, deadline=60.0))
    peer.play(
        Rule(GET, key="k", offset=offset, attempt=1, do=Stall()),
        Rule(GET, key="k", offset=offset, attempt=2, do=Framed(framing)),
    )
    assert read(client) == DATA


@pytest.mark.parametrize("framing", [LENGTH, ODD_CHUNKS, CLOSE])
@raced
def test_a_second_sending_that_is_not_what_was_asked_for_leaves_the_first_to_end(
    peer: Peer, connect: Connect, framing: str, read: Read, offset: int
) -> None:
    client = used_to_answers(connect(peer, deadline=60.0))
    wrong = altered(_status(203))

    def answer(turn: Turn) -> None:
        try:
            Framed(framing, wrong)(turn)
        finally:  # the client may have hung up after the head
            turn.peer.resume()

    peer.play(
        Rule(GET, key="k", offset=offset, attempt=1, do=Stall()),
        Rule(GET, key="k", offset=offset, attempt=2, do=answer),
    )
    assert read(client) == DATA


@pytest.mark.parametrize("framing", [LENGTH, ODD_CHUNKS, CLOSE])
@raced
def test_a_changed_byte_of_a_second_sending_is_a_mismatch(
    peer: Peer, connect: Connect, framing: str, read: Read, offset: int
) -> None:
    client = used_to_answers(connect(peer, deadline=60.0))
    peer.play(
        Rule(GET, key="k", offset=offset, attempt=1, do=Stall()),
        Rule(GET, key="k", offset=offset, attempt=2, do=Framed(framing, altered(CorruptResponse(5)))),
    )
    with pytest.raises(s3dlio.ChecksumMismatchError):
        read(client)
