"""The Python blocks of the original's document, as printed; only the bucket exists beforehand."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from typing import Any

import pytest

import s3dlio

QUICK_START = """
from s3dlio import MultipartUploadWriter

w = MultipartUploadWriter.from_uri(
    "s3://my-bucket/dir/checkpoint.bin",
    part_size=32<<20,
    max_in_flight=16,
)

N = 64 * 1024 * 1024
mv = w.reserve(N)      # Rust-owned buffer → writable memoryview
mv[:] = b"\\xAB" * N   # Fill from Python without copying
w.commit(N)            # Hand ownership to Rust uploader

del mv                 # Don't use mv after commit

info = w.close()       # Complete MPU
print(info)
"""

BYTES_LIKE = """
# bytes / bytearray
w.write(b"\\xCD" * (4 << 20))

# memoryview on NumPy (C-contiguous) - convenient, still one owning copy in Rust
import numpy as np
arr = np.zeros(32 << 20, dtype=np.uint8)
w.write(memoryview(arr))
"""

TORCH = """
import torch, numpy as np
t = torch.full((32 << 20,), 0xEE, dtype=torch.uint8, device='cpu').contiguous()
arr = t.numpy()  # view, no copy (CPU/contiguous)
w.write(memoryview(arr))
"""

DOWNLOAD = """
import os
# Enable parallel range downloads for large objects
os.environ['S3DLIO_ENABLE_RANGE_OPTIMIZATION'] = '1'
os.environ['S3DLIO_RANGE_THRESHOLD_MB'] = '64'  # Objects ≥ 64 MB use parallel ranges

import s3dlio

# Large checkpoint automatically uses parallel download
data = s3dlio.get("s3://bucket/checkpoint-148mb.bin")  # 25-50% faster than single GET
"""


@pytest.fixture
def buckets(store: Any) -> Any:
    for name in ("my-bucket", "bucket"):
        with contextlib.suppress(store.boto3.exceptions.BucketAlreadyOwnedByYou):
            store.boto3.create_bucket(Bucket=name)
    return store


def test_the_quick_start(buckets: Any, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(QUICK_START, names)
    assert "parts=2" in capsys.readouterr().out
    body = buckets.boto3.get_object(Bucket="my-bucket", Key="dir/checkpoint.bin")["Body"].read()
    assert body == b"\xab" * (64 << 20)


def test_writing_bytes_and_numpy(store: Any) -> None:
    names: dict[str, Any] = {"w": s3dlio.MultipartUploadWriter.from_uri(store.uri("blocks"))}
    exec(BYTES_LIKE, names)
    assert names["w"].close().total_bytes == 36 << 20
    assert store.read("blocks") == b"\xcd" * (4 << 20) + bytes(32 << 20)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_writing_a_tensor(store: Any) -> None:
    names: dict[str, Any] = {"w": s3dlio.MultipartUploadWriter.from_uri(store.uri("tensor"))}
    exec(TORCH, names)
    names["w"].close()
    assert store.read("tensor") == b"\xee" * (32 << 20)


def test_downloading_a_large_checkpoint(buckets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Set first, so that the block's own assignments are undone afterwards.
    for name in ("S3DLIO_ENABLE_RANGE_OPTIMIZATION", "S3DLIO_RANGE_THRESHOLD_MB"):
        monkeypatch.setenv(name, "0")
    data = os.urandom(1 << 20) * 148
    buckets.boto3.put_object(Bucket="bucket", Key="checkpoint-148mb.bin", Body=data)
    names: dict[str, Any] = {}
    exec(DOWNLOAD, names)
    assert names["data"] == data
