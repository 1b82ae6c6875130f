"""End to end: uploads a 256 MiB array without a copy, downloads it in ranges, and compares the bytes.

Without an argument it starts an embedded server in a separate process. With ``s3://bucket/prefix`` it uses the store
that the usual AWS variables name.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import s3dlio

MIB, GIB = 1 << 20, 1 << 30
SIZE = 256 * MIB
PART = 16 * MIB


def start_server() -> subprocess.Popen[str]:
    program = Path(__file__).parent.parent / "tests" / "embedded_server.py"
    process = subprocess.Popen([sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    os.environ["AWS_ENDPOINT_URL"] = process.stdout.readline().strip()
    os.environ.pop("AWS_ENDPOINT_URL_S3", None)
    os.environ.update(AWS_ACCESS_KEY_ID="demo", AWS_SECRET_ACCESS_KEY="demo", AWS_REGION="us-east-1")
    os.environ.pop("AWS_PROFILE", None)
    import boto3  # only to create the bucket

    boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"]).create_bucket(Bucket="demo-bucket")
    return process


def upload_reserved(uri: str, array: np.ndarray[Any, Any]) -> s3dlio.UploadInfo:
    """Fills memory that the library lends: nothing is copied between that memory and the socket."""
    raw = memoryview(array).cast("B")
    with s3dlio.MultipartUploadWriter.from_uri(uri, part_size=PART) as writer:
        for start in range(0, len(raw), PART):
            writer.reserve(PART)[:] = raw[start : start + PART]
            writer.commit(PART)
    return writer.close()


def upload_written(uri: str, array: np.ndarray[Any, Any]) -> s3dlio.UploadInfo:
    with s3dlio.MultipartUploadWriter.from_uri(uri, part_size=PART) as writer:
        writer.write(memoryview(array))
    return writer.close()


def copy_speed(array: np.ndarray[Any, Any]) -> float:
    """GiB/s of copying the array to warm memory in one thread: the median of five copies."""
    target = array.copy()
    times = []
    for _ in range(5):
        started = time.perf_counter()
        target[:] = array
        times.append(time.perf_counter() - started)
    return SIZE / statistics.median(times) / GIB


def measured(name: str, copy: float, job: Callable[[], Any], parts: Callable[[Any], int]) -> Any:
    started = time.perf_counter()
    result = job()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
    rate = SIZE / seconds / GIB
    print(f"{name:<32} {parts(result):>6} {seconds:>8.2f} {rate:>8.2f} {rate / copy:>14.2f} {peak:>10,.0f}", flush=True)
    return result


def main() -> int:
    server = None if len(sys.argv) > 1 else start_server()
    prefix = sys.argv[1].rstrip("/") if len(sys.argv) > 1 else "s3://demo-bucket/demo"
    try:
        array = np.random.default_rng(7).integers(0, 1 << 62, SIZE // 8, dtype=np.int64)
        where = "an embedded server" if server else prefix
        reserved, written = f"{prefix}/reserved.bin", f"{prefix}/written.bin"
        s3dlio.put_bytes(written, b"warm up")  # loads the code on both sides and opens the first connection
        s3dlio.get(written)
        copy = copy_speed(array)
        print(f"s3dlio {s3dlio.__version__}: {SIZE // MIB} MiB to and from {where}\n")
        print(f"{'':<32} {'parts':>6} {'seconds':>8} {'GiB/s':>8} {'of copy speed':>14} {'peak MiB':>10}")
        first = measured("upload, reserve/commit", copy, lambda: upload_reserved(reserved, array), lambda i: i.parts)
        second = measured("upload, write(memoryview)", copy, lambda: upload_written(written, array), lambda i: i.parts)
        ranges: list[s3dlio.ProgressEvent] = []
        view = measured(
            "download, parallel ranges",
            copy,
            lambda: s3dlio.get(written, range_optimization=True, range_threshold=64 * MIB, progress=ranges.append),
            lambda _: len(ranges),
        )
        equal = bool(np.array_equal(np.frombuffer(view, np.int64), array))
        sums = {first.checksum, second.checksum, s3dlio.stat(reserved).checksum, s3dlio.stat(written).checksum}
        print(f"\nbytes equal: {equal}; CRC64NVME {first.checksum}, equal here and in the store: {len(sums) == 1}")
        print(f"One thread copies this array from memory to memory at {copy:.2f} GiB/s, measured in this run.")
        print("Peak memory includes the array and the target of that copy.")
        if server:
            print("The server runs in Python on the same cores and takes most of the time above.")
        print("Your own store, with the usual AWS variables: make demo URI=s3://bucket/prefix")
        return 0 if equal and len(sums) == 1 else 1
    finally:
        if server is not None:
            assert server.stdin is not None
            server.stdin.close()
            server.wait(20)


if __name__ == "__main__":
    sys.exit(main())
