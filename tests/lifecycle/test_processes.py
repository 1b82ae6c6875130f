"""Worker processes of every kind use the library at once, whatever their parent was doing when they began."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

MIB = 1 << 20
PROGRAM = """
import multiprocessing, os, pickle, sys, threading
import s3dlio

BUCKET = sys.argv[1]

def read(index):
    # The way of a data loader: each worker fetches its own samples and sends them back.
    view = s3dlio.get(f"s3://{BUCKET}/sample{index % 4}")
    part = s3dlio.get_range(f"s3://{BUCKET}/sample{index % 4}", 10, 20)
    info = s3dlio.put_bytes(f"s3://{BUCKET}/from-worker{index}", bytes(view[:1000]))
    return index, bytes(part), info.total_bytes, view

def fails(_):
    return s3dlio.get(f"s3://{BUCKET}/missing")

if __name__ == "__main__":
    for index in range(4):
        s3dlio.put_bytes(f"s3://{BUCKET}/sample{index}", bytes([index]) * 300_000)
    held = s3dlio.get(f"s3://{BUCKET}/sample1")
    writer = s3dlio.MultipartUploadWriter.from_uri(f"s3://{BUCKET}/parent", part_size=5 << 20)
    writer.write(b"p" * (6 << 20))  # parts travel while the workers start
    context = multiprocessing.get_context(sys.argv[2])
    with context.Pool(2) as workers:
        for index, part, size, view in workers.imap_unordered(read, range(8)):
            assert part == bytes([index % 4]) * 20
            assert size == 1000
            assert view == bytes([index % 4]) * 300_000
        try:
            workers.apply(fails, (0,))
        except s3dlio.NotFoundError as error:
            assert (error.status, error.operation) == (404, "GetObject")
        else:
            raise SystemExit("a missing object was no error")
    writer.write(b"q" * (5 << 20))
    assert writer.close().total_bytes == 11 << 20
    assert held == bytes([1]) * 300_000
    assert s3dlio.get(f"s3://{BUCKET}/parent") == b"p" * (6 << 20) + b"q" * (5 << 20)
    print("done")
"""


@pytest.mark.skipif("S3DLIO_SANITIZED" in os.environ, reason="the sanitizer's allocator locks are not fork-safe")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_every_kind_read_and_write(
    store_of_one: tuple[str, str], method: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    endpoint_url, bucket = store_of_one
    program = tmp_path_factory.mktemp("program") / "loader.py"  # spawned workers import it anew
    program.write_text(PROGRAM, encoding="utf-8")
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_ACCESS_KEY_ID": "minioadmin",
        "AWS_SECRET_ACCESS_KEY": "minioadmin",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    done = subprocess.run(
        [sys.executable, str(program), bucket, method], env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "done"
