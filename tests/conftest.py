"""Servers for the tests: an embedded one always, MinIO where its binary is."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop
from servers import KEYS, REGION, ROOT, SKIPPED, free_port, minio_binary, wait_for_port


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


class _Secrets(logging.Handler):
    """Keeps what the library logs that must not be there."""

    FORBIDDEN = re.compile(
        r"(signature|security-token)=(?!\[redacted)|AWS4-HMAC|secret|authorization:|minioadmin", re.IGNORECASE
    )

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)  # with the traceback, where there is one
        if self.FORBIDDEN.search(text):
            self.found.append(text)
        arguments = record.args if isinstance(record.args, tuple) else ()
        if any(isinstance(one, BaseException) for one in arguments):
            self.found.append(f"{text!r} holds an exception, whose frames hold payload as long as a handler keeps it")


@pytest.fixture(scope="session", autouse=True)
def no_secret_is_logged() -> Iterator[None]:
    """Reads all that the library logs at DEBUG while the suite runs."""
    handler, logger = _Secrets(), logging.getLogger("s3dlio")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)
    logger.setLevel(before)
    assert handler.found == []


@pytest.fixture
def held_before() -> int:
    """Bytes of the pool that are out before the test, less what earlier tests left to the collector or to threads that
    were still on their way out: a test that compares with it must not see those bytes go meanwhile."""
    from s3dlio._memory import pool

    deadline = time.monotonic() + 10
    gc.collect()
    while pool.pool().in_use_bytes and time.monotonic() < deadline:
        time.sleep(0.01)
        gc.collect()
    return pool.pool().in_use_bytes


def _descriptors() -> list[str]:
    """What every descriptor of this process is open on."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return sorted(found)


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Counts regions of memory and descriptors before and after everything: what was made is given back."""
    if not os.path.isdir("/proc/self/fd"):
        yield
        return
    uvloop.new_event_loop().close()  # what its library keeps for the process is no leak of ours
    before = _descriptors()
    yield
    from s3dlio._memory import pool
    from s3dlio._net import drivers
    from s3dlio._s3 import default

    if default._default is not None:
        default._default[1].close()
    assert drivers.drivers().close(10)
    deadline = time.monotonic() + 15  # idle workers and their last clients are on their way out
    while time.monotonic() < deadline:
        gc.collect()
        if len(_descriptors()) <= len(before) and pool.pool().in_use_bytes == 0:
            break
        time.sleep(0.05)
    pool = pool.pool()
    assert pool.in_use_bytes == 0
    assert pool.mapped_bytes == pool.idle_bytes
    pool.trim()
    assert pool.mapped_bytes == 0  # as many regions unmapped as were mapped
    assert len(_descriptors()) == len(before), set(_descriptors()) ^ set(before)
