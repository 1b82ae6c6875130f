"""Uploads that others created, with checksums of their own choice, gone on with on real stores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from s3dlio import MultipartUploadWriter

PART = 5 << 20
DATA = np.random.default_rng(11).integers(0, 256, 3 * PART + 77, dtype=np.uint8).tobytes()


def begun_by_boto3(store: Any, parts: int, **options: Any) -> str:
    """An upload that boto3 created, with so many parts."""
    upload_id: str = store.boto3.create_multipart_upload(Bucket=store.bucket, Key="k", **options)["UploadId"]
    named = {"ChecksumAlgorithm": options["ChecksumAlgorithm"]} if "ChecksumAlgorithm" in options else {}
    for number in range(1, parts + 1):
        body = DATA[(number - 1) * PART : number * PART]
        store.boto3.upload_part(Bucket=store.bucket, Key="k", UploadId=upload_id, PartNumber=number, Body=body, **named)
    return upload_id


@pytest.mark.parametrize("algorithm", [None, "CRC32", "CRC32C", "SHA256", "CRC64NVME"])
@pytest.mark.parametrize("parts", [1, 2])
def test_an_upload_of_boto3_is_gone_on_with(store: Any, algorithm: str | None, parts: int) -> None:
    options = {} if algorithm is None else {"ChecksumAlgorithm": algorithm}
    writer = MultipartUploadWriter.resume(store.uri("k"), begun_by_boto3(store, parts, **options), part_size=PART)
    writer.write(DATA[writer.resume_offset :])
    info = writer.close()
    assert store.read("k") == DATA
    assert info.total_bytes == len(DATA)
    assert store.uploads() == []


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("algorithm", ["crc64nvme", "crc32c", "crc32", "sha256", None])
def test_an_upload_of_ours_with_any_algorithm_is_gone_on_with(store: Any, algorithm: str | None) -> None:
    first = MultipartUploadWriter.from_uri(store.uri("k"), part_size=PART, checksum=algorithm, abort_on_drop=False)
    first.write(DATA[: 2 * PART])
    first.flush()
    writer = MultipartUploadWriter.resume(store.uri("k"), str(first.upload_id), part_size=PART)
    assert writer.resume_offset == 2 * PART
    writer.write(DATA[2 * PART :])
    writer.close()
    assert store.read("k") == DATA


def test_a_resumed_upload_that_fails_stays_until_it_is_aborted(store: Any) -> None:
    upload_id = begun_by_boto3(store, 1)
    writer = MultipartUploadWriter.resume(store.uri("k"), upload_id, part_size=PART)

    def fail() -> None:
        with writer:
            writer.write(DATA[PART : 2 * PART + 1])
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail()
    assert [one["UploadId"] for one in store.uploads()] == [upload_id]
    MultipartUploadWriter.resume(store.uri("k"), upload_id).abort()
    assert store.uploads() == []
