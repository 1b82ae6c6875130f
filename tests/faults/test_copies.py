"""Server-side copies against a store that fails, changes the source meanwhile, or copies other bytes."""

from __future__ import annotations

import random
import signal
import threading
from dataclasses import replace
from typing import Any

import pytest
from behaviours import (
    DropBeforeHead,
    ErrorInside200,
    LostResponse,
    Serve,
    Stall,
    Status,
    WhiteSpaceFirst,
)
from model import MIB, Part, checksum_of
from peer import Behaviour, Peer, Rule, Turn

import s3dlio
from s3dlio import Client
from s3dlio._transfer import copying

COPY, PART, CREATE, COMPLETE = "CopyObject", "UploadPartCopy", "CreateMultipartUpload", "CompleteMultipartUpload"
SMALL, LARGE = 1000, 12 * MIB + 5
DATA = random.Random(62).randbytes(LARGE)
DESCRIBED = {
    "content-type": "image/png", "cache-control": "no-cache", "x-amz-meta-made-by": "me",
    "x-amz-storage-class": "STANDARD_IA", "x-amz-tagging": "t%201=v%202&u=",
}  # fmt: skip
SIZES = pytest.mark.parametrize("size", [SMALL, LARGE])
PASSING: dict[str, Behaviour] = {
    "500": Status(500, "InternalError"),
    "503": Status(503, "SlowDown"),
    "drop": DropBeforeHead(),
    "lost": LostResponse(),
    "error inside a 200": ErrorInside200(),
    "white space, then an error": WhiteSpaceFirst(error="InternalError"),
}


@pytest.fixture(autouse=True)
def _copies_in_parts_above_6_mib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "LARGEST_COPY", 6 * MIB)
    monkeypatch.setattr(copying, "PART_SIZE", 5 * MIB)


def filled(peer: Peer, size: int, **headers: str) -> None:
    peer.store.put("b", "source", DATA[:size], {**DESCRIBED, **headers})


def copied(peer: Peer, size: int) -> None:
    """The copy is the source, described alike, and no upload is left."""
    version = peer.store.versions("b", "copy")[-1]
    assert version.data == DATA[:size]
    assert {name: version.headers.get(name) for name in DESCRIBED} == DESCRIBED
    assert version.checksum == ("crc64nvme", checksum_of("crc64nvme", DATA[:size]), "FULL_OBJECT")
    assert peer.store.orphans() == []


def copy(client: Client) -> s3dlio.UploadInfo:
    return client.copy("s3://b/source", "s3://b/copy")


@SIZES
def test_metadata_tags_class_and_checksum_are_the_sources(peer: Peer, client: Client, size: int) -> None:
    filled(peer, size)
    info = copy(client)
    copied(peer, size)
    assert (info.checksum, info.checksum_algorithm) == (checksum_of("crc64nvme", DATA[:size]), "crc64nvme")
    assert info.checksum_confirmed


@SIZES
@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_fault_leaves_the_copy_exact(peer: Peer, client: Client, size: int, fault: str) -> None:
    filled(peer, size)
    operations = [COPY] if size == SMALL else [PART, COMPLETE]
    peer.play(*(Rule(one, attempt=1, do=PASSING[fault]) for one in operations))
    copy(client)
    copied(peer, size)


@SIZES
def test_every_request_names_the_sources_etag(peer: Peer, client: Client, size: int) -> None:
    filled(peer, size)
    etag = peer.store.versions("b", "source")[-1].etag
    copy(client)
    sent = [one.headers["x-amz-copy-source-if-match"] for one in peer.requests(COPY) + peer.requests(PART)]
    assert sent == [f'"{etag}"'] * (1 if size == SMALL else 3)


@SIZES
def test_a_source_that_is_replaced_meanwhile_is_an_error_and_nothing_stays(
    peer: Peer, client: Client, size: int
) -> None:
    filled(peer, size)

    def replaced(turn: Turn) -> None:
        filled(turn.peer, SMALL + 1)
        turn.send(turn.serve())

    peer.play(Rule(COPY if size == SMALL else PART, attempt=1, do=replaced))
    with pytest.raises(s3dlio.ObjectChangedError, match="s3://b/source was replaced while it was being copied"):
        copy(client)
    assert peer.store.versions("b", "copy") == []
    assert peer.store.orphans() == []


@SIZES
def test_an_archived_source_is_told_and_not_tried_again(peer: Peer, client: Client, size: int) -> None:
    filled(peer, size, **{"x-amz-storage-class": "GLACIER"})
    with pytest.raises(s3dlio.AccessDeniedError, match="the object is archived: restore it first") as caught:
        copy(client)
    assert (caught.value.code, caught.value.attempts) == ("InvalidObjectState", 1)
    assert peer.store.orphans() == []


@pytest.mark.parametrize("operation", [PART, COMPLETE, CREATE])
def test_a_lasting_fault_leaves_no_upload(peer: Peer, client: Client, operation: str) -> None:
    filled(peer, LARGE)
    peer.play(Rule(operation, part=2 if operation == PART else None, do=Status(500, "InternalError")))
    with pytest.raises(s3dlio.S3Error) as caught:
        copy(client)
    assert (caught.value.operation, caught.value.status) == (operation, 500)
    assert peer.store.versions("b", "copy") == []
    assert peer.store.orphans() == []


def test_a_store_without_checksums_of_copied_parts_is_copied_without(peer: Peer, client: Client) -> None:
    """MinIO refuses a copied part of an upload with a checksum, because it computes none for it."""

    refused = Status(400, "InvalidArgument")

    def refuse(turn: Turn) -> None:
        if "x-amz-checksum-algorithm" in turn.peer.store.uploads[turn.seen.upload_id].headers:
            turn.read()
            reply = refused.reply(turn)
            turn.send(replace(reply, body=reply.body.replace(b"as told", b"checksum missing, want CRC64NVME")))
        else:
            turn.send(turn.serve())

    filled(peer, LARGE)
    peer.play(Rule(PART, do=refuse))
    for _ in range(2):
        copy(client)
        copied(peer, LARGE)
    assert len(peer.requests(CREATE)) == 3  # the second copy knows


def test_parts_of_other_bytes_are_never_published(peer: Peer, client: Client) -> None:
    def other(turn: Turn) -> None:
        reply = turn.serve()
        upload = turn.peer.store.uploads[turn.seen.upload_id]
        data = bytes(5 * MIB)
        kept = upload.parts[1]
        upload.parts[1] = Part(data, kept.etag, checksum_of("crc64nvme", data))
        told = reply.body.replace(kept.checksum.encode(), upload.parts[1].checksum.encode())
        turn.send(replace(reply, body=told))

    filled(peer, LARGE)
    peer.play(Rule(PART, part=1, do=other))
    with pytest.raises(s3dlio.ChecksumMismatchError, match=r"the source has .*nothing was published"):
        copy(client)
    assert peer.store.versions("b", "copy") == []
    assert peer.store.orphans() == []


def test_a_copy_that_is_short_though_complete_was_a_200_is_a_mismatch(peer: Peer, client: Client) -> None:
    """A store that drops a part, and reports no checksum."""
    peer.store.reports_checksums = False
    filled(peer, LARGE)

    def drops(turn: Turn) -> None:
        reply = turn.serve()
        versions = turn.peer.store._objects["b"]["copy"]
        versions[-1] = replace(versions[-1], data=versions[-1].data[: 5 * MIB])
        turn.send(reply)

    peer.play(Rule(COMPLETE, do=drops))
    with pytest.raises(s3dlio.ChecksumMismatchError, match=f"the store has {5 * MIB} bytes, {LARGE} were sent"):
        copy(client)


@SIZES
def test_an_interrupt_ends_the_copy_and_its_upload(peer: Peer, client: Client, size: int) -> None:
    filled(peer, size)
    operation = COPY if size == SMALL else PART
    peer.play(Rule(operation, do=Stall()))

    def interrupt() -> None:
        peer.wait_for(lambda: any(one.whole for one in peer.requests(operation)))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        copy(client)
    thread.join()
    assert peer.store.orphans() == []


def test_an_answer_lost_after_success_is_found_by_the_copy_itself(peer: Peer, client: Client) -> None:
    filled(peer, LARGE)
    peer.play(Rule(COMPLETE, attempt=1, do=LostResponse()), Rule(COMPLETE, do=Serve()))
    info = copy(client)
    copied(peer, LARGE)
    assert info.etag == peer.store.versions("b", "copy")[-1].etag


def test_a_size_that_is_unknown_is_an_error(peer: Peer, client: Client) -> None:
    filled(peer, SMALL)

    def sizeless(turn: Turn) -> None:
        reply: Any = turn.serve()
        turn.link.send(b'HTTP/1.1 200 OK\r\nETag: "%b"\r\nConnection: close\r\n\r\n' % reply.headers["ETag"].encode())
        turn.close()

    peer.play(Rule("HeadObject", do=sizeless))
    with pytest.raises(s3dlio.S3Error, match="does not report the size"):
        copy(client)
