"""The stores that contenders are measured against, each a context manager that owns a process on 127.0.0.1.

The discard server costs next to nothing, so that the client is what is measured; MinIO on tmpfs is a real store, which
shares the machine's cores with the client. Used by `compare.py` only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import pattern
from .peers import ROOT

REGION = "us-east-1"
KEYS = ("minioadmin", "minioadmin")
BUCKET = "benchmarks"
START_SECONDS = 30.0


@dataclass(frozen=True)
class Store:
    """A running store. `content` tells whether it gives back what was written."""

    name: str
    url: str
    version: str
    content: bool
    # Where MinIO moves what is deleted or replaced, and keeps it for minutes: on tmpfs, memory that would run out.
    trash: Path | None = None

    def empty_trash(self) -> None:
        """Gives back the memory of what was deleted. Called between processes, never while one is measured."""
        if self.trash is not None and self.trash.is_dir():
            for entry in self.trash.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)  # MinIO may be removing it at the same time
                else:
                    entry.unlink(missing_ok=True)

    def client(self) -> Any:
        """A boto3 client: a third party that judges what the contenders wrote."""
        import boto3  # type: ignore[import-untyped]
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=KEYS[0],
            aws_secret_access_key=KEYS[1],
            config=Config(s3={"addressing_style": "path"}, retries={"mode": "standard"}),
        )

    def check(self, key: str, size: int, *, content: bool) -> None:
        """Raises ValueError unless the object has this size and, where the store keeps contents, the pattern in it."""
        client = self.client()
        found = client.head_object(Bucket=BUCKET, Key=key)["ContentLength"]
        if found != size:
            raise ValueError(f"{self.name} has {found} bytes in {key} and not {size}")
        if not (content and self.content):
            return
        period = pattern.make(pattern.PERIOD)
        step = 16 << 20
        for offset in range(0, size, step):
            last = min(offset + step, size) - 1
            answer = client.get_object(Bucket=BUCKET, Key=key, Range=f"bytes={offset}-{last}")
            pattern.check(answer["Body"].read(), period, offset=offset)

    def seed(self, size: int, part_size: int) -> str:
        """Puts the pattern there to be read, with a full-object CRC64NVME as AWS has it; returns its key."""
        key = f"size-{size}"
        if not self.content:
            return key  # the discard server has objects of every size
        client = self.client()
        checksums = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}
        upload = client.create_multipart_upload(Bucket=BUCKET, Key=key, **checksums)["UploadId"]
        source = pattern.make(pattern.PERIOD + part_size)
        parts = []
        for number, offset in enumerate(range(0, size, part_size), 1):
            start = offset % pattern.PERIOD
            piece = source[start : start + min(part_size, size - offset)].tobytes()
            same = {"Bucket": BUCKET, "Key": key, "UploadId": upload}
            answer = client.upload_part(**same, PartNumber=number, Body=piece, ChecksumAlgorithm="CRC64NVME")
            parts.append(
                {"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC64NVME": answer["ChecksumCRC64NVME"]}
            )
        client.complete_multipart_upload(
            Bucket=BUCKET, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}, ChecksumType="FULL_OBJECT"
        )
        return key


@contextlib.contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def discard_server(threads: int | None) -> Iterator[Store]:
    """Builds the discard server if need be, and runs it."""
    subprocess.run(["make", "-s", "-C", ROOT / "benchmarks" / "native"], check=True)
    command: list[str | Path] = [ROOT / "benchmarks" / "bin" / "discard_server"]
    if threads is not None:
        command += ["--threads", str(threads)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, _ended(process):
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise RuntimeError("the discard server ended before it listened")
        yield Store("discard", f"http://127.0.0.1:{port}", "discards uploads, sends from memory", content=False)


def minio_binary() -> str:
    """The binary that MINIO_BINARY names, or the one that `make minio` builds, or one on the PATH."""
    built = ROOT / ".cache" / "bin" / "minio"
    found = os.environ.get("MINIO_BINARY") or (str(built) if built.exists() else shutil.which("minio"))
    if not found:
        raise RuntimeError("MinIO was not found: `make minio` builds it, or set MINIO_BINARY, or use --stores discard")
    return found


def _is_tmpfs(folder: Path) -> bool:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return any(where == str(folder) and kind == "tmpfs" for _, where, kind, *_ in mounts)


@contextlib.contextmanager
def minio() -> Iterator[Store]:
    """Runs MinIO on a folder of its own in /dev/shm."""
    binary = minio_binary()
    shared = Path("/dev/shm")
    if not _is_tmpfs(shared):
        raise RuntimeError("/dev/shm is no tmpfs here, and a disk would be measured instead: use --stores discard")
    version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "MINIO_ROOT_USER": KEYS[0],
        "MINIO_ROOT_PASSWORD": KEYS[1],
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
    }
    with tempfile.TemporaryDirectory(prefix="benchmark-minio-", dir=shared) as folder:
        environment["HOME"] = folder
        command = [binary, "server", "--quiet", "--address", f"127.0.0.1:{port}", f"{folder}/data"]
        with (
            open(f"{folder}/log", "w+") as log,
            subprocess.Popen(command, env=environment, stdout=log, stderr=log, text=True) as process,
            _ended(process),
        ):
            store = Store(
                "minio", f"http://127.0.0.1:{port}", version, True, Path(folder, "data", ".minio.sys", "tmp", ".trash")
            )
            _wait_until_ready(process, store.url, Path(log.name))
            store.client().create_bucket(Bucket=BUCKET)
            yield store


def _wait_until_ready(process: subprocess.Popen[str], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/minio/health/ready", timeout=1):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
            break
    raise RuntimeError(f"MinIO did not start:\n{log.read_text()}")
