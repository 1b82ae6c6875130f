"""Measures what sending stragglers twice does for the tail: whole uploads and gets, 0.5 % of whose requests take 5 s.

Run by hand: ``python tests/faults/straggler_tail.py [UPLOADS]``. It prints the percentiles with and without, of so
many uploads and of ten times as many gets of small objects.
"""

from __future__ import annotations

import random
import statistics
import sys
import threading
import time

from behaviours import Serve
from peer import Peer, Rule, Turn

import s3dlio
from s3dlio import RetryPolicy

PART = 5 << 20
PARTS = 12
DATA = bytes(PART * PARTS)


class Delayed:
    """One request in 200 is answered 5 s later when it is first sent."""

    def __init__(self) -> None:
        self._dice = random.Random(11)
        self._known: set[str] = set()

    def __call__(self, turn: Turn) -> None:
        first = turn.target not in self._known
        self._known.add(turn.target)
        if first and self._dice.random() < 0.005:
            threading.Event().wait(5.0)
        Serve()(turn)


def connected(peer: Peer, hedge: float) -> s3dlio.Client:
    settings = {"region": "us-east-1", "credentials": ("id", "secret"), "retries": RetryPolicy(hedge=hedge)}
    return s3dlio.Client(endpoint_url=peer.endpoint_url, **settings)  # type: ignore[arg-type]


def times_of_gets(gets: int, hedge: float) -> list[float]:
    with Peer() as peer, connected(peer, hedge) as client:
        for number in range(gets):
            peer.store.put("b", str(number), DATA[: 256 << 10])
        for number in range(40):
            client.get(f"s3://b/{number}")
        peer.play(Rule("GetObject", do=Delayed()))
        taken = []
        for number in range(gets):
            started = time.monotonic()
            client.get(f"s3://b/{number}")
            taken.append(time.monotonic() - started)
        return sorted(taken)


def times(uploads: int, hedge: float) -> list[float]:
    with Peer() as peer, connected(peer, hedge) as client:
        for number in range(3):
            client.put_bytes(f"s3://b/warm{number}", DATA, part_size=PART)
        peer.play(Rule("UploadPart", do=Delayed()))
        taken = []
        for number in range(uploads):
            started = time.monotonic()
            client.put_bytes(f"s3://b/{number % 4}", DATA, part_size=PART)
            taken.append(time.monotonic() - started)
        return sorted(taken)


if __name__ == "__main__":
    uploads = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    for name, hedge in [("switched off", 0.0), ("5 % budget", 0.05)]:
        taken = times(uploads, hedge)
        print(
            f"{name}: median {statistics.median(taken):.2f} s, p90 {taken[uploads * 9 // 10]:.2f} s, "
            f"p99 {taken[uploads * 99 // 100]:.2f} s of {uploads} uploads of {PARTS} parts",
            flush=True,
        )
        gets = times_of_gets(10 * uploads, hedge)
        print(
            f"{name}: median {statistics.median(gets) * 1000:.1f} ms, p99 {gets[uploads * 99 // 10] * 1000:.1f} ms, "
            f"p99.9 {gets[uploads * 999 // 100]:.2f} s of {10 * uploads} gets of 256 KiB",
            flush=True,
        )
