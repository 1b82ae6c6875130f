"""Tells when a request lags so far behind its like that it is worth sending a second time, and how often.

It measures nothing and sends nothing: `service` tells it how long requests took, and asks. Any thread may call it.
"""

from __future__ import annotations

import threading
from collections import deque

# Nothing is called late before this, in seconds (the CRT client's floor too), nor before so many of its like ended.
LEAST_PATIENCE = 1.0
LEAST_SAMPLES = 20
# How many of the latest are kept of each kind, how often they are looked at, and how far beyond their P90 "far
# behind" is.
SAMPLES = 128
LOOK_EVERY = 10
BEYOND = 2.0
# Bytes of an answer that are on their way at most when it is cut short: what Linux's largest receive buffer takes.
MOST_UNREAD = 6 << 20


class Pace:
    """How long the latest requests took, by operation and size, and what sending twice has cost so far.

    A size of 0 stands for an answer of a size that nobody knows beforehand: it counts up to its first byte.

    Args:
        budget: bytes that may be sent or asked for twice, as a share of all bytes that were moved; 0 for never.
    """

    def __init__(self, budget: float) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._kinds: dict[tuple[str, int], _Kind] = {}
        self._moved = 0.0
        self._twice = 0.0

    def record(self, operation: str, size: int, seconds: float, moved: int) -> None:
        """A request of so many payload bytes has ended well, or several on average, that moved `moved` in all."""
        if not self._budget:
            return
        with self._lock:
            self._moved += moved
            self._kinds.setdefault((operation, size.bit_length()), _Kind()).record(seconds, moved)

    def patience(self, operation: str, size: int) -> float | None:
        """Seconds after which such a request lags far behind its like; None where that is not known."""
        kind = self._kinds.get((operation, size.bit_length()))
        return None if kind is None else kind.patience

    def may_send_twice(self, operation: str, size: int) -> bool:
        """Takes what a second sending costs from the budget, if it has that."""
        with self._lock:
            cost = size or self._kinds[operation, 0].usual_size
            if self._twice + cost > self._budget * self._moved:
                return False
            self._twice += cost
            return True


class _Kind:
    """The latest requests of one operation and order of size.

    Attributes:
        patience: seconds after which one lags; None before enough have ended.
        usual_size: bytes that a second answer of unknown size costs.
    """

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=SAMPLES)
        self._sizes: deque[int] = deque(maxlen=SAMPLES)
        self._ended = 0
        self.patience: float | None = None
        self.usual_size = 0.0

    def record(self, seconds: float, moved: int) -> None:
        self._seconds.append(seconds)
        self._sizes.append(moved)
        self._ended += 1
        if self._ended % LOOK_EVERY or self._ended < LEAST_SAMPLES:
            return
        ordered = sorted(self._seconds)
        self.patience = max(LEAST_PATIENCE, BEYOND * ordered[len(ordered) * 9 // 10])
        self.usual_size = min(sum(self._sizes) / len(self._sizes), MOST_UNREAD)
