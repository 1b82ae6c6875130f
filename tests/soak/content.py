"""What both a soak and its programs need: the bytes of an object by its number, and clients that try again often.

It imports next to nothing, because a program that is to be killed begins with it each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import s3dlio
from s3dlio import RetryPolicy, Timeouts


@dataclass(frozen=True)
class Content:
    """`size` bytes that no other number gives."""

    number: int
    size: int

    def data(self) -> bytes:
        return np.random.default_rng(self.number).bytes(self.size)

    def holds(self, data: bytes) -> bool:
        return len(data) == self.size and data == self.data()


def connect(settings: dict[str, Any]) -> s3dlio.Client:
    """A client that retries soon, often, and never for want of quota: a store that dies is back within seconds."""
    return s3dlio.Client(
        endpoint_url=settings["endpoint_url"],
        region="us-east-1",
        credentials=tuple(settings["credentials"]),
        addressing_style="path",
        ca_bundle=settings.get("ca_bundle"),
        timeouts=Timeouts(connect=20, send=20, first_byte=20, idle=20),
        retries=RetryPolicy(max_attempts=settings["attempts"], base_delay=0.01, max_delay=1.0, quota=1_000_000),
    )
