"""Eight threads on one writer, finalizers at random points, and finalizers while others hold the locks."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
from peer import Peer
from scripted import PART, STRESS_SECONDS, await_no_orphans, connect

STRESS = Path(__file__).with_name("stress.py")
GRACE = 120.0


def stress(program: str, seconds: float) -> dict[str, int]:
    command = [sys.executable, "-X", "faulthandler", "-W", "ignore", str(STRESS), program, str(seconds)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + GRACE, check=False, env=environment
    )
    assert ended.returncode == 0, ended.stderr[-10_000:]
    counts: dict[str, int] = json.loads(ended.stdout)
    return counts


@pytest.mark.timeout(STRESS_SECONDS + 2 * GRACE)
def test_eight_threads_on_one_writer_lose_nothing_and_each_write_stays_together() -> None:
    counts = stress("threads", STRESS_SECONDS)
    assert counts["writes"] > 100


@pytest.mark.timeout(STRESS_SECONDS + 2 * GRACE)
def test_finalizers_at_random_points_never_lock_up() -> None:
    counts = stress("collector", STRESS_SECONDS)
    assert counts["dropped"] > 10
    assert counts["collections"] > 100


def test_a_writer_dropped_while_its_lock_is_held_does_not_wait_for_it() -> None:
    with Peer() as peer, connect(peer.endpoint_url) as client:
        writer = client.writer("s3://b/k", part_size=PART)
        writer.write(bytes(PART + 1))
        writer.flush()
        lock = writer._state.lock
        dropped = threading.Event()

        def drop() -> None:
            nonlocal writer
            del writer
            gc.collect()
            dropped.set()

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            with lock:
                threading.Thread(target=drop, daemon=True).start()
                assert dropped.wait(20), "the finalizer waits for the lock"
            await_no_orphans(peer)
