"""Where the servers of the tests are found, and how to wait for them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
REGION = "us-east-1"
KEYS = ("minioadmin", "minioadmin")
SKIPPED = "MinIO was not found, so its tests were skipped: `make minio` builds it, or set MINIO_BINARY"


def minio_binary() -> str | None:
    named = os.environ.get("MINIO_BINARY")
    cached = ROOT / ".cache" / "bin" / "minio"
    return named or (str(cached) if cached.exists() else shutil.which("minio"))


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


class Restartable:
    """A MinIO of our own, on one port and one folder, that can be killed and started again."""

    def __init__(self, binary: str, folder: str) -> None:
        self.port = free_port()
        self._command = [binary, "server", "--quiet", "--address", f"127.0.0.1:{self.port}", folder]
        self._environment = {**os.environ, "MINIO_ROOT_USER": KEYS[0], "MINIO_ROOT_PASSWORD": KEYS[1]}
        self.start()

    def start(self) -> None:
        nowhere = subprocess.DEVNULL
        self._process = subprocess.Popen(self._command, env=self._environment, stdout=nowhere, stderr=nowhere)
        wait_for_port(self.port, self._process)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(20)
