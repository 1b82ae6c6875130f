"""What the model tests share: how much of them runs, clients of a scripted peer, cheap bytes, and the tally.

`S3DLIO_TESTS` chooses the extent: ``quick`` (the default, part of every test run), ``soak``, ``full``, ``nightly``;
`S3DLIO_STRESS_SECONDS` says how long each stress takes instead. The tally counts what was done to the library, for
those who report it.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from behaviours import Serve
from hypothesis import HealthCheck, settings
from model import MIB
from peer import Behaviour, Peer, Turn

import s3dlio

PART = 5 * MIB  # the smallest that the library, and S3, accept
ATTEMPTS = 8
BLOCK = random.Random(31).randbytes(32 * MIB + 4099)
TALLY: Counter[str] = Counter()


@dataclass(frozen=True)
class Extent:
    """How much runs: hypothesis examples and steps of each, parts of the largest object, seconds of a stress."""

    examples: int
    steps: int
    parts: int
    seconds: float

    def settings(self) -> settings:
        """Quick ones repeat themselves exactly, so that a run is green or red for a reason; the others search."""
        return settings(
            max_examples=self.examples,
            stateful_step_count=self.steps,
            deadline=None,
            derandomize=self is EXTENTS["quick"],
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        )


EXTENTS = {
    "quick": Extent(examples=25, steps=10, parts=3, seconds=3.0),
    "soak": Extent(examples=30, steps=15, parts=3, seconds=3.0),
    "full": Extent(examples=150, steps=20, parts=4, seconds=5.0),
    "nightly": Extent(examples=1500, steps=30, parts=5, seconds=600.0),
}
EXTENT = EXTENTS[os.environ.get("S3DLIO_TESTS", "quick")]
STRESS_SECONDS = float(os.environ.get("S3DLIO_STRESS_SECONDS", EXTENT.seconds))


@dataclass(frozen=True)
class Counted:
    """A behaviour that is counted as an injected fault."""

    fault: Behaviour

    def __call__(self, turn: Turn) -> None:
        if not isinstance(self.fault, Serve):
            TALLY["faults"] += 1
        self.fault(turn)

    def __repr__(self) -> str:
        return repr(self.fault)


def connect(endpoint_url: str, *, deadline: float = 20.0, attempts: int = ATTEMPTS) -> s3dlio.Client:
    """A client that retries at once, and never for want of quota."""
    return s3dlio.Client(
        endpoint_url=endpoint_url,
        region="us-east-1",
        credentials=("id", "secret"),
        addressing_style="path",
        timeouts=s3dlio.Timeouts(connect=deadline, send=deadline, first_byte=deadline, idle=deadline),
        retries=s3dlio.RetryPolicy(max_attempts=attempts, base_delay=0.001, quota=1_000_000),
    )


def bytes_at(position: int, length: int) -> bytes:
    """`length` bytes that differ from those of other positions: an exchange or a repetition shows."""
    start = position % 4099 * 17
    if start + length <= len(BLOCK):
        return BLOCK[start : start + length]
    return b"".join(bytes_at(position + n, min(MIB, length - n)) for n in range(0, length, MIB))


def await_no_orphans(peer: Peer, timeout: float = 20.0) -> None:
    """What a failed or aborted writer began has been ended on the store."""
    peer.wait_for(lambda: not peer.store.orphans(), timeout)


def write_tally() -> None:
    """Adds the tally, as a line of JSON, to the file that `S3DLIO_TALLY` names."""
    path = os.environ.get("S3DLIO_TALLY")
    if path and TALLY:
        with Path(path).open("a") as file:
            print(json.dumps(TALLY), file=file)
    TALLY.clear()
    sys.stdout.flush()
