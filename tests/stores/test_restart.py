"""A real store that dies and comes back in the middle of an upload and of a download: nothing lost, nothing mixed."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from servers import KEYS, SKIPPED, Restartable, minio_binary

import s3dlio
from s3dlio import RetryPolicy

MIB = 1 << 20
DATA = np.random.default_rng(5).integers(0, 256, 60 * MIB, dtype=np.uint8).tobytes()


@pytest.fixture
def restartable() -> Iterator[Restartable]:
    binary = minio_binary()
    if binary is None:
        if os.environ.get("S3DLIO_REQUIRE_MINIO") == "1":
            pytest.fail(SKIPPED)
        pytest.skip("MinIO was not found")
    folder = tempfile.mkdtemp(prefix="s3dlio-restart-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    server = Restartable(binary, folder)
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def client(restartable: Restartable) -> Iterator[s3dlio.Client]:
    import boto3

    url = f"http://127.0.0.1:{restartable.port}"
    keys = {"aws_access_key_id": KEYS[0], "aws_secret_access_key": KEYS[1]}
    boto = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
    boto.create_bucket(Bucket="bucket")
    boto.close()
    retries = RetryPolicy(max_attempts=30, base_delay=0.1, max_delay=1.0)
    with s3dlio.Client(endpoint_url=url, region="us-east-1", credentials=KEYS, retries=retries) as made:
        yield made


def test_an_upload_survives_a_restart(restartable: Restartable, client: s3dlio.Client) -> None:
    part = threading.Event()
    writer = client.writer("s3://bucket/key", part_size=5 * MIB, max_in_flight=3, progress=lambda _: part.set())
    writer.write(DATA[: 25 * MIB])
    assert part.wait(60)
    restartable.kill()
    rest = threading.Thread(target=writer.write, args=(DATA[25 * MIB :],))
    rest.start()
    restartable.start()
    rest.join(60)
    info = writer.close()
    assert client.get("s3://bucket/key") == DATA
    assert client.stat("s3://bucket/key").checksum == info.checksum
    assert client.list_uploads("s3://bucket/key") == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_upload_left_behind_is_found_after_a_restart(restartable: Restartable, client: s3dlio.Client) -> None:
    left = client.writer("s3://bucket/key", part_size=5 * MIB, abort_on_drop=False)
    left.write(DATA[: 10 * MIB])
    left.flush()
    restartable.kill()
    restartable.start()
    assert [one.upload_id for one in client.list_uploads("s3://bucket/key")] == [left.upload_id]
    assert left.upload_id is not None
    resumed = client.resume("s3://bucket/key", left.upload_id)
    assert resumed.resume_offset == 10 * MIB
    resumed.write(DATA[10 * MIB :])
    resumed.close()
    assert client.get("s3://bucket/key") == DATA
    assert client.list_uploads("s3://bucket/key") == []


def test_a_download_survives_a_restart(restartable: Restartable, client: s3dlio.Client) -> None:
    client.put_bytes("s3://bucket/key", DATA, part_size=5 * MIB)
    died = threading.Event()

    def die(_: s3dlio.ProgressEvent) -> None:
        if not died.is_set():
            died.set()
            restartable.kill()
            restartable.start()

    view = client.get(
        "s3://bucket/key", range_optimization=True, range_threshold=0, chunk_size=MIB, range_concurrency=4, progress=die
    )
    assert died.is_set()
    assert view == DATA


def test_a_store_that_stays_away_is_a_clear_error(restartable: Restartable, client: s3dlio.Client) -> None:
    restartable.kill()
    impatient = s3dlio.Client(
        endpoint_url=f"http://127.0.0.1:{restartable.port}",
        region="us-east-1",
        credentials=KEYS,
        retries=RetryPolicy(max_attempts=3, base_delay=0.01),
    )
    with impatient, pytest.raises(s3dlio.TransportError, match=r"PutObject of s3://bucket/key failed after 3 attempts"):
        impatient.put_bytes("s3://bucket/key", b"x")
