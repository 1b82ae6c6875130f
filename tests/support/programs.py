"""Programs of the lifecycle tests, each in an interpreter of its own, and a peer that falls silent under them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from small_store import Peer

MIB = 1 << 20
PRELUDE = """
import gc, os, signal, sys, threading, time, warnings
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in a shell's background
import s3dlio
MIB = 1 << 20
client = s3dlio.Client(endpoint_url=os.environ["PEER"], credentials=("id", "secret"), region="r")
"""


class Reachable(Protocol):
    @property
    def endpoint_url(self) -> str: ...


@contextlib.contextmanager
def started(peer: Reachable, script: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PEER": peer.endpoint_url}
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()  # does nothing where it has ended


def run(peer: Reachable, script: str, expected: int = 0) -> tuple[str, str]:
    with started(peer, script) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == expected, err
    return out, err


Request = Callable[[str, str, dict[str, str]], bool]


def parts(method: str, path: str, headers: dict[str, str]) -> bool:
    return method == "PUT"


def reads(method: str, path: str, headers: dict[str, str]) -> bool:
    return method == "GET"


def later_ranges(method: str, path: str, headers: dict[str, str]) -> bool:
    return "if-match" in headers


def completes(method: str, path: str, headers: dict[str, str]) -> bool:
    return method == "POST" and "uploadId=" in path


class Stall:
    """Holds every request that `holds` names until the test ends, and with `all_after` every later one too."""

    def __init__(self, peer: Peer, holds: Request, *, all_after: bool = False) -> None:
        self.reached, self._go_on = threading.Event(), threading.Event()
        self._holds, self._all_after = holds, all_after
        peer.script = self._hold

    def _hold(self, _: Peer, method: str, path: str, headers: dict[str, str], __: bytes) -> None:
        if self._holds(method, path, headers) or (self._all_after and self.reached.is_set()):
            self.reached.set()
            self._go_on.wait(60)

    def let_go(self) -> None:
        self._go_on.set()

    def __enter__(self) -> Stall:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()


def within(limit: float, attempt: Callable[[], float]) -> None:
    """One of several attempts takes less than `limit` seconds, or more where the machine has other things to do.

    What waits for a silent peer, or for a deadline, takes far longer every time.
    """
    taken = []
    for _ in range(6):
        taken.append(attempt())
        if taken[-1] < limit * (1 + 2 * os.getloadavg()[0] / (os.cpu_count() or 1)):
            return
    raise AssertionError(f"never within {limit:g} s: {taken}")
