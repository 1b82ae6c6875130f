"""The main job, end to end: a 256 MiB array goes up without a copy, comes back by ranges, and is compared.

Without an argument an embedded server in a process of its own serves; with ``s3://bucket/prefix`` the
store of the usual AWS variables does.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import s3dlio

MIB = 1 << 20
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
    import boto3  # the demo's way to make a bucket on its own server

    boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"]).create_bucket(Bucket="demo-bucket")
    return process


def upload_reserved(uri: str, array: np.ndarray[Any, Any]) -> s3dlio.UploadInfo:
    """Fills memory that the library lends, so that nothing is copied on the way to the socket."""
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


def measured(name: str, job: Callable[[], Any], parts: Callable[[Any], int]) -> Any:
    started = time.perf_counter()
    result = job()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
    rate = SIZE / seconds / (1 << 30)
    print(f"{name:<34} {SIZE:>11,} {parts(result):>6} {seconds:>8.2f} {rate:>8.2f} {peak:>12,.0f}")
    return result


def main() -> int:
    server = None if len(sys.argv) > 1 else start_server()
    prefix = sys.argv[1].rstrip("/") if len(sys.argv) > 1 else "s3://demo-bucket/demo"
    try:
        array = np.random.default_rng(7).integers(0, 1 << 62, SIZE // 8, dtype=np.int64)
        where = "an embedded server" if server else prefix
        print(f"s3dlio {s3dlio.__version__}: {SIZE // MIB} MiB to and from {where}\n")
        print(f"{'':<34} {'bytes':>11} {'parts':>6} {'seconds':>8} {'GiB/s':>8} {'peak MiB':>12}")
        reserved, written = f"{prefix}/reserved.bin", f"{prefix}/written.bin"
        first = measured("upload, reserve/commit", lambda: upload_reserved(reserved, array), lambda info: info.parts)
        second = measured("upload, write(memoryview(arr))", lambda: upload_written(written, array), lambda i: i.parts)
        ranges: list[s3dlio.ProgressEvent] = []
        view = measured(
            "download, parallel ranges",
            lambda: s3dlio.get(written, range_optimization=True, range_threshold=64 * MIB, progress=ranges.append),
            lambda _: len(ranges),
        )
        equal = bool(np.array_equal(np.frombuffer(view, np.int64), array))
        sums = {first.checksum, second.checksum, s3dlio.stat(reserved).checksum, s3dlio.stat(written).checksum}
        print(f"\nbytes equal: {equal}; CRC64NVME {first.checksum}, ours and the store's agree: {len(sums) == 1}")
        print("Peak memory includes the array itself. The embedded server is slow, on purpose simple.")
        print("Your own store, with the usual AWS variables: make demo URI=s3://bucket/prefix")
        return 0 if equal and len(sums) == 1 else 1
    finally:
        if server is not None:
            assert server.stdin is not None
            server.stdin.close()
            server.wait(20)


if __name__ == "__main__":
    sys.exit(main())
