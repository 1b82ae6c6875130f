"""Uploads that another process left behind: found, gone on with, and equal to uninterrupted ones."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from marks import Connect
from peer import Peer

import s3dlio
from s3dlio import Client

MIB = 1 << 20
PART = 5 * MIB
URI = "s3://b/k"
DATA = np.random.default_rng(7).integers(0, 256, 8 * PART + 123_457, dtype=np.uint8).tobytes()
KILLS = int(os.environ.get("S3DLIO_TEST_KILLS", "6"))


def interrupted(client: Client, parts: int, **options: Any) -> str:
    """An upload that has so many parts, whose writer is gone without having ended it."""
    writer = client.writer(URI, part_size=PART, abort_on_drop=False, **options)
    writer.write(DATA[: parts * PART])
    writer.flush()
    assert writer.upload_id is not None
    return writer.upload_id


def go_on(client: Client, upload_id: str, **options: Any) -> tuple[s3dlio.MultipartUploadWriter, s3dlio.UploadInfo]:
    writer = client.resume(URI, upload_id, **options)
    writer.write(DATA[writer.resume_offset :])
    return writer, writer.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("parts", [1, 2, 5])
@pytest.mark.parametrize("checksum", ["crc64nvme", "crc32c", "sha256", None])
def test_a_resumed_upload_equals_an_uninterrupted_one(
    peer: Peer, client: Client, parts: int, checksum: str | None
) -> None:
    whole = client.put_bytes("s3://b/whole", DATA, part_size=PART, checksum=checksum)
    upload_id = interrupted(client, parts, checksum=checksum)
    writer, info = go_on(client, upload_id, checksum=checksum, part_size=PART)
    assert writer.resume_offset == parts * PART
    assert peer.store.versions("b", "k")[-1].data == DATA
    assert (info.etag, info.checksum, info.parts) == (whole.etag, whole.checksum, whole.parts)
    assert info.total_bytes == writer.bytes_written == len(DATA)
    assert peer.store.orphans() == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_part_size_is_that_of_the_first_part(peer: Peer, client: Client) -> None:
    writer, _ = go_on(client, interrupted(client, 3))
    assert (writer.part_size, writer.resume_offset) == (PART, 3 * PART)
    assert peer.store.versions("b", "k")[-1].data == DATA


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("checksum", ["crc32", "sha256"])
def test_the_checksum_is_that_of_the_stored_parts(peer: Peer, client: Client, checksum: str) -> None:
    _, info = go_on(client, interrupted(client, 3, checksum=checksum))
    assert info.checksum_algorithm == checksum
    assert info.checksum == peer.store.versions("b", "k")[-1].checksum[1]
    assert all(one.headers[f"x-amz-checksum-{checksum}"] for one in peer.requests("UploadPart"))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("checksum", ["crc64nvme", "sha256"])
def test_a_stored_part_of_other_bytes_is_sent_again(peer: Peer, client: Client, checksum: str) -> None:
    upload_id = interrupted(client, 4, checksum=checksum)
    parts = peer.store.uploads[upload_id].parts
    del parts[1]  # so that the later ones are compared with what is written now
    sent = len(peer.requests("UploadPart"))
    changed = bytes(PART) + DATA[PART : 2 * PART] + bytes(PART) + DATA[3 * PART :]
    writer = client.resume(URI, upload_id, part_size=PART, checksum=checksum)
    writer.write(changed)
    writer.close()
    assert peer.store.versions("b", "k")[-1].data == changed
    again = {one.part for one in peer.requests("UploadPart")[sent:]}
    assert {1, 3} <= again
    assert not {2, 4} & again


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_parts_of_another_size_are_sent_again(peer: Peer, client: Client) -> None:
    writer, _ = go_on(client, interrupted(client, 4), part_size=6 * MIB)
    assert writer.resume_offset == 0
    assert peer.store.versions("b", "k")[-1].data == DATA


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_later_part_that_is_there_already_is_sent_only_if_it_differs(peer: Peer, client: Client) -> None:
    upload_id = interrupted(client, 4)
    parts = peer.store.uploads[upload_id].parts
    del parts[2]  # as if it had been on its way when the other writer died
    sent = len(peer.requests("UploadPart"))
    changed = DATA[: 3 * PART] + bytes(PART) + DATA[4 * PART :]
    writer = client.resume(URI, upload_id, part_size=PART)
    assert writer.resume_offset == PART
    writer.write(changed[PART:])
    writer.close()
    assert peer.store.versions("b", "k")[-1].data == changed
    assert 3 not in {one.part for one in peer.requests("UploadPart")[sent:]}
    assert {2, 4} <= {one.part for one in peer.requests("UploadPart")[sent:]}


def test_an_upload_without_parts_is_resumed_from_its_beginning(peer: Peer, client: Client) -> None:
    left = client.writer(URI, part_size=PART, abort_on_drop=False)
    left._state._ensure_created()
    assert left.upload_id is not None
    resumed = client.resume(URI, left.upload_id, part_size=PART)
    assert resumed.resume_offset == 0
    assert resumed.close().total_bytes == 0
    assert peer.store.versions("b", "k")[-1].data == b""
    left._state._scope.cancel()


def test_an_upload_that_is_gone_is_a_clear_error(client: Client) -> None:
    with pytest.raises(s3dlio.NotFoundError, match="NoSuchUpload"):
        client.resume(URI, "gone")


@pytest.mark.parametrize("upload_id", ["", None, 5])
def test_an_upload_id_that_is_none_is_refused(peer: Peer, client: Client, upload_id: Any) -> None:
    with pytest.raises(s3dlio.ConfigurationError, match="list_uploads"):
        client.resume(URI, upload_id)
    assert peer.requests() == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_uploads_left_behind_are_listed_and_aborted(peer: Peer, client: Client) -> None:
    upload_id = interrupted(client, 2)
    assert [(one.uri, one.upload_id) for one in client.list_uploads("s3://b")] == [(URI, upload_id)]
    assert client.list_uploads("s3://b/other") == []
    assert client.abort_uploads("s3://b", older_than=timedelta(hours=1)) == []
    time.sleep(0.01)  # the only way to be older than the least age there is
    aborted = client.abort_uploads("s3://b/k", older_than=0.001)
    assert [one.upload_id for one in aborted] in ([upload_id], [])  # where the store tells whole seconds only
    if aborted:
        assert peer.store.orphans() == []


CHILD = """
import os, sys
import numpy as np
import s3dlio
PART = 5 << 20
data = np.random.default_rng(7).integers(0, 256, 8 * PART + 123_457, dtype=np.uint8).tobytes()
client = s3dlio.Client(endpoint_url=sys.argv[1], region="us-east-1", credentials=("id", "secret"))
uploads = client.list_uploads(sys.argv[2])
options = {"part_size": PART, "max_in_flight": 2}
if uploads:
    writer = client.resume(sys.argv[2], uploads[0].upload_id, **options)
else:
    writer = client.writer(sys.argv[2], **options)
print("started", writer.resume_offset, flush=True)
for offset in range(writer.resume_offset, len(data), 1 << 20):
    writer.write(data[offset : offset + (1 << 20)])
print("closed", writer.close().checksum, flush=True)
"""


@pytest.mark.timeout(600)
def test_killed_at_random_moments_the_upload_still_ends_up_whole(peer: Peer, connect: Connect) -> None:
    client = connect(peer)
    expected = client.put_bytes("s3://b/whole", DATA, part_size=PART).checksum
    dice, kills, objects = random.Random(20), 0, 0
    while kills < KILLS:
        objects += 1
        uri, closed = f"s3://b/killed{objects}", False
        while not closed:
            arguments = [sys.executable, "-c", CHILD, peer.endpoint_url, uri]
            with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as child:
                assert child.stdout is not None
                assert child.stdout.readline().startswith("started")
                if kills < KILLS:
                    try:
                        child.wait(dice.uniform(0.0, 0.25))
                    except subprocess.TimeoutExpired:
                        child.kill()
                        kills += 1
                rest = child.stdout.read()
                closed = rest.startswith("closed")
                if closed:
                    assert rest.split()[1] == expected
            closed = closed or bool(peer.store.versions("b", f"killed{objects}"))
        assert peer.store.versions("b", f"killed{objects}")[-1].data == DATA
    assert peer.store.orphans() == []
