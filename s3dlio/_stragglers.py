"""Tells when a request lags so far behind its like that it is worth sending a second time, and how often.

It measures nothing and sends nothing: `_client` tells it how long requests took, and asks. Any thread may call it.
"""

from __future__ import annotations

import threading
from collections import deque

# Nothing is called late before this, in seconds (the CRT client's floor too), nor before so many of its like ended.
LEAST_PATIENCE = 1.0
LEAST_SAMPLES = 20
# How many of the latest durations are kept of each kind, and how far beyond their P90 "far behind" is.
SAMPLES = 128
BEYOND = 2.0


class Pace:
    """How long the latest requests took, by operation and size, and what sending twice has cost so far.

    Args:
        budget: bytes that may be sent or asked for twice, as a share of all bytes that were moved; 0 for never.
    """

    def __init__(self, budget: float) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._durations: dict[tuple[str, int], deque[float]] = {}
        self._moved = 0
        self._twice = 0

    def record(self, operation: str, size: int, seconds: float, *, moved: int | None = None) -> None:
        """A request of so many payload bytes has ended well, or several on average that moved as many together."""
        if not self._budget:
            return
        with self._lock:
            self._moved += size if moved is None else moved
            self._durations.setdefault((operation, size.bit_length()), deque(maxlen=SAMPLES)).append(seconds)

    def patience(self, operation: str, size: int) -> float | None:
        """Seconds after which such a request lags far behind its like; None where that is not known."""
        with self._lock:
            known = self._durations.get((operation, size.bit_length()))
            if known is None or len(known) < LEAST_SAMPLES:
                return None
            ordered = sorted(known)
        return max(LEAST_PATIENCE, BEYOND * ordered[len(ordered) * 9 // 10])

    def may_send_twice(self, size: int) -> bool:
        """Takes `size` bytes from the budget, if it has them."""
        with self._lock:
            if self._twice + size > self._budget * self._moved:
                return False
            self._twice += size
            return True
