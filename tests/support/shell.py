"""Runs the installed command: in a process, in a pseudo-terminal, or until a signal ends it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

DEADLINE = 60.0
# For tests that take seconds: `make test-faults` runs them.
only_full = pytest.mark.skipif(os.environ.get("S3DLIO_TESTS") not in ("full", "nightly"), reason="takes seconds")


def command() -> list[str]:
    """The installed script; the module in environments that were made before there was one."""
    script = Path(sys.executable).parent / "s3dlio"
    return [str(script)] if script.exists() else [sys.executable, "-m", "s3dlio"]


class Ended(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Its output, one JSON object a line."""
        return [json.loads(line) for line in self.out.splitlines()]


def s3dlio(*arguments: str, stdin: bytes | None = None, env: Mapping[str, str] | None = None) -> Ended:
    """Runs the command to its end, with the environment of the test."""
    done = subprocess.run(
        [*command(), *arguments], input=b"" if stdin is None else stdin, capture_output=True, timeout=DEADLINE,
        env={**os.environ, **(env or {})},
    )  # fmt: skip
    out, err = (one.decode("utf-8", "surrogateescape") for one in (done.stdout, done.stderr))
    return Ended(done.returncode, out, err)


def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Starts the command, with pipes for all it reads and writes unless `options` say otherwise."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([*command(), *arguments], **{**pipes, **options})


def in_terminal(*arguments: str, answer: str = "", env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Runs the command in a pseudo-terminal of 80 columns; its exit code and all that it showed.

    Args:
        answer: typed where it asks a question.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "TERM": "xterm", **(env or {})}
    environment.pop("CI", None) if "CI" not in (env or {}) else None
    environment.pop("NO_COLOR", None) if "NO_COLOR" not in (env or {}) else None
    process = start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown, deadline = b"", time.monotonic() + DEADLINE
    try:
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 1.0)[0]:
                continue
            try:
                data = os.read(ours, 65536)
            except OSError:  # Linux says so where the other end is closed
                break
            if not data:
                break
            shown += data
            if answer and shown.rstrip().endswith(b"[y/N]"):
                os.write(ours, f"{answer}\n".encode())
                answer = ""
        return process.wait(DEADLINE), shown.decode("utf-8", "surrogateescape")
    finally:
        process.kill()
        process.wait(DEADLINE)
        os.close(ours)


def read_all(terminal: int) -> str:
    """What is shown on a terminal until its other end is closed."""
    shown, deadline = b"", time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 1.0)[0]:
            try:
                data = os.read(terminal, 65536)
            except OSError:  # Linux says so where the other end is closed
                break
            shown += data
            if not data:
                break
    return shown.decode("utf-8", "surrogateescape")
