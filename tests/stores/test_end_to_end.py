"""One gibibyte through MinIO, read back by boto3 and by ranges."""

from __future__ import annotations

from typing import Any

import numpy as np

import s3dlio

MIB = 1 << 20


def test_a_gibibyte_by_reserve_and_by_write_is_read_back_equal(minio: Any) -> None:
    array = np.random.default_rng(1).integers(0, 1 << 60, (1 << 30) // 8, dtype=np.int64)
    raw = memoryview(array).cast("B")
    with s3dlio.MultipartUploadWriter.from_uri(minio.uri("reserved")) as reserving:
        for start in range(0, len(raw), 16 * MIB):
            reserving.reserve(16 * MIB)[:] = raw[start : start + 16 * MIB]
            reserving.commit(16 * MIB)
    with s3dlio.MultipartUploadWriter.from_uri(minio.uri("written")) as writing:
        writing.write(memoryview(array))
    for key, info in (("reserved", reserving.close()), ("written", writing.close())):
        assert info.parts == 64
        assert minio.head(key)["ChecksumCRC64NVME"] == info.checksum
        body, position = minio.boto3.get_object(Bucket=minio.bucket, Key=key)["Body"], 0
        while chunk := body.read(16 * MIB):
            assert raw[position : position + len(chunk)] == chunk
            position += len(chunk)
        assert position == len(raw)
        view = s3dlio.get(minio.uri(key), range_optimization=True)
        assert np.array_equal(np.frombuffer(view, np.int64), array)
        minio.boto3.delete_object(Bucket=minio.bucket, Key=key)
