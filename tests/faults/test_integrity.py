"""Every byte that was reported as stored is in the store: what a store or a caller does wrong is told, by its name.

What is wrong is taken back where that is safe: in a bucket with versions, by the version's id.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from behaviours import (
    CorruptInTransit,
    CorruptResponse,
    CorruptStored,
    Status,
    WithHeader,
    Without,
    WrongChecksum,
    WrongETag,
)
from marks import Connect
from model import MIB, checksum_of
from peer import NO_RANGE, Behaviour, Peer, Rule

import s3dlio
from s3dlio import Client

PART = 5 * MIB
DATA = random.Random(31).randbytes(2 * PART + 4321)  # three parts
SMALL = DATA[:300_001]  # one PutObject
URI = "s3://b/k"
UPLOAD_PART, COMPLETE, PUT = "UploadPart", "CompleteMultipartUpload", "PutObject"
algorithms = pytest.mark.parametrize("checksum", ["crc64nvme", "crc32c", "crc32", "sha256"])
either = pytest.mark.parametrize("data", [SMALL, DATA], ids=["put", "multipart"])


def put(client: Client, data: bytes, **options: Any) -> s3dlio.UploadInfo:
    return client.put_bytes(URI, data, part_size=PART, **options)


def assert_refused(peer: Peer, client: Client, data: bytes, match: str, **options: Any) -> None:
    with pytest.raises(s3dlio.ChecksumMismatchError, match=match):
        put(client, data, **options)
    peer.wait_for(lambda: not peer.store.orphans())


@algorithms
@either
def test_the_checksum_reported_is_the_stores_own(peer: Peer, client: Client, data: bytes, checksum: str) -> None:
    info = put(client, data, checksum=checksum)
    (version,) = peer.store.versions("b", "k")
    assert version.data == data
    assert (info.checksum_algorithm, info.checksum) == version.checksum[:2]
    asked = peer.requests(PUT) + peer.requests(UPLOAD_PART)
    assert all(f"x-amz-checksum-{checksum}" in one.headers for one in asked)


def test_a_sha256_of_parts_is_composite_from_the_first_request_to_the_last(peer: Peer, client: Client) -> None:
    info = put(client, DATA, checksum="sha256")
    assert info.checksum is not None
    assert info.checksum.endswith("-3")
    for operation in ("CreateMultipartUpload", COMPLETE):
        assert [one.headers["x-amz-checksum-type"] for one in peer.requests(operation)] == ["COMPOSITE"]


@algorithms
@pytest.mark.parametrize("operation", [PUT, UPLOAD_PART, COMPLETE])
def test_a_wrong_echo_is_a_mismatch(peer: Peer, client: Client, operation: str, checksum: str) -> None:
    peer.play(Rule(operation, do=WrongChecksum()))
    assert_refused(peer, client, SMALL if operation == PUT else DATA, "b/k.* was sent", checksum=checksum)


@algorithms
@either
def test_bytes_that_change_on_the_way_are_never_stored(peer: Peer, client: Client, data: bytes, checksum: str) -> None:
    peer.play(Rule(PUT, do=CorruptInTransit(at=-1)), Rule(UPLOAD_PART, part=2, do=CorruptInTransit(at=-1)))
    assert_refused(peer, client, data, "BadDigest", checksum=checksum)
    assert peer.store.versions("b", "k") == []


@algorithms
def test_a_part_that_the_store_keeps_wrongly_is_never_published(peer: Peer, client: Client, checksum: str) -> None:
    """The store echoes what it was told of a part, and has other bytes: the object's checksum tells."""
    peer.play(Rule(UPLOAD_PART, part=2, do=CorruptStored(at=7)))
    with pytest.raises((s3dlio.ChecksumMismatchError, s3dlio.S3Error), match="b/k"):
        put(client, DATA, checksum=checksum)
    assert peer.store.versions("b", "k") == []


@pytest.mark.parametrize("etag", ["0" * 32 + "-2", "0" * 32 + "-1", "x-y", "W/-", "-3"])
def test_the_shape_of_an_etag_proves_nothing_and_deletes_nothing(peer: Peer, client: Client, etag: str) -> None:
    peer.store.versioned = True
    peer.play(Rule(COMPLETE, do=WrongETag(etag)))
    for checksum in ("crc64nvme", None):
        info = put(client, DATA, checksum=checksum)
        assert peer.store.versions("b", "k")[-1].data == DATA
        assert info.checksum_confirmed is (checksum is not None)
    assert peer.requests("DeleteObject") == []


@pytest.mark.parametrize("by", [-1, 1])
def test_a_wrong_size_is_a_mismatch_where_there_is_no_checksum(peer: Peer, client: Client, by: int) -> None:
    peer.play(Rule("HeadObject", do=WithHeader("Content-Length", str(len(DATA) + by))))
    assert_refused(peer, client, DATA, f"{len(DATA) + by} bytes, {len(DATA)} were sent", checksum=None)


@pytest.mark.parametrize("size", [PART, 3 * PART], ids=["put", "part"])
def test_a_lent_buffer_that_changes_on_its_way_is_named_as_the_likely_cause(
    peer: Peer, client: Client, size: int
) -> None:
    lent = bytearray(random.Random(5).randbytes(size))
    operation = PUT if size == PART else UPLOAD_PART
    peer.play(Rule(operation, do=Changing(lent)))
    writer = client.writer(URI, part_size=PART)
    writer.write(lent, copy=False)
    with pytest.raises(s3dlio.ChecksumMismatchError, match=r"lent by write\(copy=False\)"):
        writer.close()
    assert peer.store.versions("b", "k") == []
    peer.wait_for(lambda: not peer.store.orphans())


class Changing:
    """The caller writes into its buffer while the request, whose checksum was sent with its head, is on its way."""

    def __init__(self, lent: bytearray) -> None:
        self._lent = lent

    def __call__(self, turn: Any) -> None:
        turn.narrow()
        turn.read(1000)
        for at in range(PART - 1, len(self._lent), PART):
            self._lent[at] ^= 1
        turn.send(turn.serve())


# ------------------------------------------------------------------------------------- what was published wrongly


@pytest.mark.parametrize(
    ("data", "checksum"), [(SMALL, "crc64nvme"), (SMALL, "sha256"), (DATA, "crc64nvme"), (DATA, "crc32")],
    ids=["put-crc64nvme", "put-sha256", "multipart-crc64nvme", "multipart-crc32"],
)  # fmt: skip
def test_a_version_that_is_not_what_was_sent_is_deleted_again(
    peer: Peer, client: Client, data: bytes, checksum: str
) -> None:
    peer.store.versioned = True
    before = peer.store.put("b", "k", b"what was there before")
    peer.play(Rule(PUT, do=WrongChecksum()), Rule(COMPLETE, do=WrongChecksum()))
    assert_refused(peer, client, data, "version v2 was deleted again", checksum=checksum)
    assert peer.store.versions("b", "k") == [before]


def test_a_wrong_composite_checksum_is_an_error_and_deletes_nothing(peer: Peer, client: Client) -> None:
    peer.store.versioned = True
    peer.play(Rule(COMPLETE, do=WrongChecksum()))
    assert_refused(peer, client, DATA, "nothing was deleted", checksum="sha256")
    assert peer.store.versions("b", "k")[-1].data == DATA


@either
def test_without_versions_nothing_is_deleted_and_the_error_says_so(peer: Peer, client: Client, data: bytes) -> None:
    peer.play(Rule(PUT, do=WrongChecksum()), Rule(COMPLETE, do=WrongChecksum()))
    assert_refused(peer, client, data, "may be visible.*write it again, or delete it")
    assert len(peer.store.versions("b", "k")) == 1
    assert peer.requests("DeleteObject") == []


def test_a_version_that_cannot_be_deleted_is_named(peer: Peer, client: Client) -> None:
    peer.store.versioned = True
    peer.play(Rule(PUT, do=WrongChecksum()), Rule("DeleteObject", do=Status(403, "AccessDenied")))
    assert_refused(peer, client, SMALL, "version v1 is visible.*AccessDenied")


# ------------------------------------------------------------------------------------------------------- reading


@algorithms
@pytest.mark.parametrize("ranged", [False, True])
@pytest.mark.parametrize("at", [0, 77_777, -1])
def test_any_flipped_bit_of_an_object_sent_whole_is_detected(
    peer: Peer, client: Client, checksum: str, ranged: bool, at: int
) -> None:
    put(client, SMALL, checksum=checksum)
    options = {"range_optimization": ranged, "range_threshold": 0, "chunk_size": 1 << 16}
    assert client.get(URI, **options) == SMALL
    wanted = at % len(SMALL)
    start = wanted - wanted % (1 << 16) if ranged else 0
    peer.play(Rule("GetObject", offset=start or NO_RANGE, do=CorruptResponse(at if at < 0 else wanted - start)))
    with pytest.raises(s3dlio.ChecksumMismatchError, match=checksum.upper()):
        client.get(URI, **options)


def test_a_composite_checksum_says_nothing_about_bytes_in_a_row(peer: Peer, client: Client) -> None:
    put(client, DATA, checksum="sha256")
    assert client.get(URI) == DATA
    assert client.stat(URI).checksum is None


# -------------------------------------------------------------------------------------------------- what is refused


@either
def test_a_sha256_that_is_refused_gives_way_to_the_ladder(peer: Peer, client: Client, data: bytes) -> None:
    peer.play(Rule(do=Without(("sha256", "crc64nvme"))))
    assert put(client, data, checksum="sha256").checksum_algorithm == "crc32c"
    assert put(client, data).checksum_algorithm == "crc32c"


@either
def test_a_pinned_algorithm_never_gives_way(peer: Peer, connect: Connect, data: bytes) -> None:
    peer.play(Rule(do=Without(("sha256",))))
    pinned = connect(peer, checksum_fallback=False)
    with pytest.raises(s3dlio.S3Error, match="unsupported"):
        put(pinned, data, checksum="sha256")
    assert peer.store.versions("b", "k") == []


REFUSALS: list[Behaviour] = [Status(403, "AccessDenied"), Status(400, "InvalidRequest"), Status(500, "InternalError")]


@pytest.mark.parametrize("fault", REFUSALS, ids=repr)
def test_only_a_clear_refusal_gives_an_algorithm_up(peer: Peer, client: Client, fault: Behaviour) -> None:
    peer.play(Rule(PUT, attempt=range(1, 5), do=fault))
    with pytest.raises(s3dlio.S3Error):
        put(client, SMALL)
    peer.play()
    assert put(client, SMALL).checksum == checksum_of("crc64nvme", SMALL)
