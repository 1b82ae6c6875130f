"""How uploads end when nobody closes them: exit, fork, interrupts and drops, each in an interpreter of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from small_store import Peer, running_peer

MIB = 1 << 20
PRELUDE = """
import gc, os, signal, sys, threading, time, warnings
import s3dlio
MIB = 1 << 20
client = s3dlio.Client(endpoint_url=os.environ["PEER"], credentials=("id", "secret"), region="r")
"""


@pytest.fixture
def peer() -> Iterator[Peer]:
    with running_peer() as server:
        yield server


@contextlib.contextmanager
def started(peer: Peer, script: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PEER": f"http://127.0.0.1:{peer.server_port}"}
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


def run(peer: Peer, script: str, expected: int = 0) -> tuple[str, str]:
    with started(peer, script) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == expected, err
    return out, err


class Stall:
    """Holds every request of one method until the test ends."""

    def __init__(self, peer: Peer, method: str) -> None:
        self.reached, self._go_on, self._method = threading.Event(), threading.Event(), method
        peer.script = self._hold

    def _hold(self, _: Peer, method: str, *__: Any) -> None:
        if method == self._method:
            self.reached.set()
            self._go_on.wait(60)

    def __enter__(self) -> Stall:
        return self

    def __exit__(self, *_: object) -> None:
        self._go_on.set()


def test_an_open_writer_at_exit_is_aborted_and_named(peer: Peer) -> None:
    script = """
warnings.simplefilter("always")
writer = client.writer("s3://b/k", part_size=5 * MIB)
writer.write(bytes(6 * MIB))
writer.flush()
"""
    _, err = run(peer, script)
    assert peer.uploads == 0
    assert "ResourceWarning" in err
    assert "<string>:" in err  # where the writer was made


def test_exit_does_not_wait_for_a_stalled_peer(peer: Peer) -> None:
    with Stall(peer, "PUT") as stall:
        script = """
writer = client.writer("s3://b/k", part_size=5 * MIB)
writer.write(bytes(12 * MIB))
sys.stdin.readline()
"""
        with started(peer, script) as process:
            assert stall.reached.wait(30)
            process.communicate("go on", timeout=30)
        assert process.returncode == 0
        assert peer.uploads == 0


def test_a_dropped_writer_is_aborted(peer: Peer) -> None:
    script = """
writer = client.writer("s3://b/k", part_size=5 * MIB)
writer.write(bytes(6 * MIB))
writer.flush()
del writer
deadline = time.monotonic() + 20
while threading.active_count() and time.monotonic() < deadline:
    from s3dlio._workers import _process
    if not _process.open_uploads:
        break
    time.sleep(0.01)
print(len(_process.open_uploads))
"""
    out, _ = run(peer, script)
    assert (out.strip(), peer.uploads) == ("0", 0)


@pytest.mark.skipif("S3DLIO_SANITIZED" in os.environ, reason="the sanitizer's allocator locks are not fork-safe")
def test_a_writer_in_a_forked_child_says_so_and_the_parent_goes_on(peer: Peer) -> None:
    script = """
writer = client.writer("s3://b/k", part_size=5 * MIB)
writer.write(b"a" * (6 * MIB))
child = os.fork()
if child == 0:
    status = 1
    try:
        writer.write(b"x")
    except s3dlio.ForkedError as error:
        status = 0 if "s3://b/k" in str(error) else 2
    try:
        writer.abort()
        status = 3
    except s3dlio.ForkedError:
        pass
    del writer
    gc.collect()
    if client.put_bytes("s3://b/child", b"mine").parts != 1:
        status = 4
    os._exit(status)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
writer.write(b"b" * MIB)
print(writer.close().total_bytes)
"""
    out, _ = run(peer, script)
    assert out.strip() == str(7 * MIB)
    assert peer.objects["/b/k"] == b"a" * (6 * MIB) + b"b" * MIB
    assert peer.objects["/b/child"] == b"mine"


BLOCKED = {
    "get": ("GET", 'client.get("s3://b/k")'),
    "get_many": ("GET", 'client.get_many(["s3://b/k"] * 3)'),
    "get_many, errors kept": ("GET", 'client.get_many(["s3://b/k"] * 3, on_error="return")'),
    "put_bytes": ("PUT", 'client.put_bytes("s3://b/k", b"x")'),
    "put_many": ("PUT", 'client.put_many([("s3://b/k", b"x")] * 70)'),
    "put_many, errors kept": ("PUT", 'client.put_many([("s3://b/k", b"x")] * 70, on_error="return")'),
    "put_many, large": ("PUT", 'client.put_many([("s3://b/k", bytes(12 * MIB))], part_size=5 * MIB)'),
    "put_many, large, errors kept": (
        "PUT",
        'client.put_many([("s3://b/k", bytes(12 * MIB))] * 3, part_size=5 * MIB, on_error="return")',
    ),
    "close": ("PUT", 'w = client.writer("s3://b/k", part_size=5 * MIB); w.write(bytes(6 * MIB)); w.close()'),
    "flush": ("PUT", 'w = client.writer("s3://b/k", part_size=5 * MIB); w.write(bytes(6 * MIB)); w.flush()'),
    "write": (
        "PUT",
        'w = client.writer("s3://b/k", part_size=5 * MIB, max_in_flight=1)\n'
        "    for _ in range(99): w.write(bytearray(5 * MIB))",
    ),
    "reserve": (
        "PUT",
        'w = client.writer("s3://b/k", part_size=5 * MIB, max_in_flight=1)\n'
        "    for _ in range(99): w.reserve(5 * MIB); w.commit(5 * MIB)",
    ),
}


@pytest.mark.parametrize("call", BLOCKED)
def test_an_interrupt_ends_a_call_that_waits_for_a_stalled_peer(peer: Peer, call: str) -> None:
    method, code = BLOCKED[call]
    with Stall(peer, method) as stall:
        script = f"""
try:
    {code}
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
        with started(peer, script) as process:
            assert stall.reached.wait(30)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        assert (out.strip(), process.returncode) == ("interrupted", 0), err
        assert peer.uploads == 0


def test_abort_does_not_wait_for_a_stalled_peer(peer: Peer) -> None:
    with Stall(peer, "PUT") as stall:
        script = """
writer = client.writer("s3://b/k", part_size=5 * MIB)
writer.write(bytes(12 * MIB))
sys.stdin.readline()
writer.abort()
print(writer.closed)
"""
        with started(peer, script) as process:
            assert stall.reached.wait(30)
            out, err = process.communicate("go on", timeout=30)
        assert out.strip() == "True", err
        assert peer.uploads == 0
