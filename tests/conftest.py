"""Servers for the tests: an embedded one always, MinIO where its binary is."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
REGION = "us-east-1"
KEYS = ("minioadmin", "minioadmin")
SKIPPED = "MinIO was not found, so its tests were skipped: `make minio` builds it, or set MINIO_BINARY"


def minio_binary() -> str | None:
    named = os.environ.get("MINIO_BINARY")
    cached = ROOT / ".cache" / "bin" / "minio"
    return named or (str(cached) if cached.exists() else shutil.which("minio"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if minio_binary() is None:
        terminalreporter.write_line(SKIPPED)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the machine's own AWS settings or proxies."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "S3DLIO_RANGE", "S3DLIO_ENABLE", "S3DLIO_CHUNK")) or name.lower().endswith(
            "_proxy"
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def embedded_server() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "embedded_server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.stdin.close()
    process.wait(20)
    process.stdout.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int, process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended before it listened"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the server did not listen within 60 s")


@pytest.fixture(scope="session")
def minio_server() -> Iterator[str]:
    binary = minio_binary()
    if binary is None:
        if os.environ.get("S3DLIO_REQUIRE_MINIO") == "1":
            pytest.fail(SKIPPED)
        pytest.skip("MinIO was not found")
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    folder = tempfile.mkdtemp(prefix="s3dlio-minio-", dir=memory)
    port = free_port()
    environment = {**os.environ, "MINIO_ROOT_USER": KEYS[0], "MINIO_ROOT_PASSWORD": KEYS[1], "MINIO_BROWSER": "off"}
    process = subprocess.Popen(
        [binary, "server", "--quiet", "--address", f"127.0.0.1:{port}", folder],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_port(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Store:
    """A store with a fresh bucket, and boto3 as an independent reader of it."""

    name: str
    endpoint_url: str
    bucket: str
    boto3: Any

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def read(self, key: str) -> bytes:
        body: bytes = self.boto3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def head(self, key: str) -> dict[str, Any]:
        head: dict[str, Any] = self.boto3.head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")
        return head

    def uploads(self) -> list[Any]:
        found: list[Any] = self.boto3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return found


@pytest.fixture
def open_store(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Store]:
    def open_it(name: str, endpoint_url: str) -> Store:
        import boto3
        from botocore.config import Config

        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint_url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS[0])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS[1])
        monkeypatch.setenv("AWS_REGION", REGION)
        client = boto3.client(
            "s3",
            endpoint_url=endpoint_url,
            region_name=REGION,
            aws_access_key_id=KEYS[0],
            aws_secret_access_key=KEYS[1],
            config=Config(s3={"addressing_style": "path"}),
        )
        bucket = f"test-{uuid.uuid4().hex[:20]}"
        client.create_bucket(Bucket=bucket)
        return Store(name, endpoint_url, bucket, client)

    return open_it


@pytest.fixture(params=["embedded", "minio"])
def store(request: pytest.FixtureRequest, open_store: Callable[[str, str], Store]) -> Iterator[Store]:
    opened = open_store(request.param, request.getfixturevalue(f"{request.param}_server"))
    yield opened
    opened.boto3.close()


@pytest.fixture
def minio(minio_server: str, open_store: Callable[[str, str], Store]) -> Iterator[Store]:
    opened = open_store("minio", minio_server)
    yield opened
    opened.boto3.close()


@pytest.fixture
def store_of_one(embedded_server: str, open_store: Callable[[str, str], Store]) -> Iterator[tuple[str, str]]:
    """Endpoint and fresh bucket of the embedded server, for scripts in processes of their own."""
    opened = open_store("embedded", embedded_server)
    yield embedded_server, opened.bucket
    opened.boto3.close()


@pytest.fixture
def embedded(embedded_server: str, open_store: Callable[[str, str], Store]) -> Iterator[Store]:
    opened = open_store("embedded", embedded_server)
    yield opened
    opened.boto3.close()
