"""A cancelled part may still be stored by a server that had it in whole: what comes after the abort is cleaned up."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from behaviours import Serve, Stall, StallRequest
from marks import over_both
from model import MIB, Part, checksum_of
from peer import Peer, Rule
from programs import within

import s3dlio
from s3dlio import Client

PART = 5 * MIB
DATA = random.Random(61).randbytes(2 * PART + 17)
URI = "s3://b/k"


class StoringLate:
    """An abort that a part overtakes: the store ends the upload, and then has a part of it again.

    S3 says so itself: an upload may have to be aborted several times while its parts are under way.
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html
    """

    def __call__(self, turn: Any) -> None:
        reply = turn.serve()
        upload = turn.peer.store.uploads[turn.seen.upload_id]
        upload.parts[1] = Part(DATA[:PART], "0" * 32, checksum_of("crc64nvme", DATA[:PART]))
        upload.ended = None
        turn.send(reply)


def stalled(peer: Peer, client: Client) -> s3dlio.MultipartUploadWriter:
    """A writer whose parts have gone out whole, and are not answered."""
    writer = client.writer(URI, part_size=PART)
    writer.write(DATA)
    peer.wait_for(lambda: [one.whole for one in peer.requests("UploadPart")] == [True, True])
    return writer


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_part_that_is_stored_after_the_abort_is_cleaned_up(peer: Peer, client: Client, times: int) -> None:
    peer.play(
        Rule("UploadPart", do=Stall()),
        Rule("AbortMultipartUpload", attempt=range(1, times + 1), do=StoringLate()),
    )
    stalled(peer, client).abort()
    assert peer.store.orphans() == []
    assert len(peer.requests("AbortMultipartUpload")) == times + 1
    assert not any(one.after_abort for one in peer.requests("UploadPart"))


@pytest.mark.parametrize("end", ["with", "drop", "failed-part"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_every_way_to_end_an_upload_cleans_up_late_parts(peer: Peer, client: Client, end: str) -> None:
    peer.play(Rule("UploadPart", do=Stall()), Rule("AbortMultipartUpload", attempt=1, do=StoringLate()))
    writer = stalled(peer, client)
    if end == "with":
        with pytest.raises(KeyError), writer:
            raise KeyError
    elif end == "failed-part":
        writer._state.fail(s3dlio.TransportError("as if a part had failed"))
    del writer
    peer.wait_for(lambda: not peer.store.orphans())
    peer.wait_for(lambda: len(peer.requests("AbortMultipartUpload")) == 2)


def test_an_upload_without_cancelled_parts_is_aborted_once(peer: Peer, client: Client) -> None:
    peer.play(Rule("UploadPart", do=Serve()))
    writer = client.writer(URI, part_size=PART)
    writer.write(DATA)
    peer.wait_for(lambda: len(writer._state.parts) == 2)
    writer.abort()
    assert len(peer.requests("AbortMultipartUpload")) == 1
    assert peer.requests("ListParts") == []


@over_both
@pytest.mark.parametrize("fault", [Stall(), StallRequest(at=1000)], ids=["no-answer", "in-the-request"])
def test_an_abort_against_a_stalled_peer_takes_no_longer_than_its_own_requests(
    peer: Peer, client: Client, fault: Any
) -> None:
    peer.play(Rule("UploadPart", do=fault))

    def attempt() -> float:
        before = len(peer.requests("UploadPart"))
        writer = client.writer(URI, part_size=PART)
        writer.write(DATA)
        peer.wait_for(lambda: sum(one.received > 0 for one in peer.requests("UploadPart")[before:]) == 2)
        started = time.monotonic()
        writer.abort()
        return time.monotonic() - started

    within(0.2, attempt)
    peer.resume()
    peer.wait_until_quiet()
    assert peer.late_bytes() == 0
    assert peer.store.orphans() == []
