"""Decides when a request lags so far behind similar ones that a second attempt is worth its cost, and how often.

It measures nothing and sends nothing: `attempts` records how long requests took, `race` and `attempts` ask whether one
lags. Any thread may call it.
"""

from __future__ import annotations

import threading
from collections import deque

# No request is late before this many seconds (the CRT client's floor too), nor before so many similar ones ended.
LEAST_PATIENCE = 1.0
LEAST_SAMPLES = 20
# How many of the latest times of each kind are kept, after how many new ones patience is recomputed, and how many times
# their P90 a request may take before it lags.
SAMPLES = 128
LOOK_EVERY = 10
LAG_FACTOR = 2.0
# Upper bound of the bytes in transit when a response is cut short: the size of Linux's largest receive buffer.
MOST_UNREAD = 6 << 20


class Pace:
    """How long the latest requests took, by operation and size, and what second attempts have cost so far.

    A size of 0 stands for a response of unknown size: it is timed up to its first byte.

    Args:
        budget: bytes that may be transferred twice, as a share of all bytes transferred; 0 for never.
    """

    def __init__(self, budget: float) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._kinds: dict[tuple[str, int], _Kind] = {}
        self._moved = 0.0
        self._twice = 0.0

    def record(self, operation: str, size: int, seconds: float, moved: int) -> None:
        """Records a successful request of `size` payload bytes, or the average of several that moved `moved` in all."""
        if not self._budget:
            return
        with self._lock:
            self._moved += moved
            self._kinds.setdefault((operation, size.bit_length()), _Kind()).record(seconds, moved)

    def patience(self, operation: str, size: int) -> float | None:
        """Seconds after which such a request lags far behind similar ones; None where that is not known."""
        kind = self._kinds.get((operation, size.bit_length()))
        return None if kind is None else kind.patience

    def may_send_twice(self, operation: str, size: int) -> bool:
        """Takes the cost of a second attempt from the budget, if the budget covers it."""
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
        usual_size: bytes that a second response of unknown size costs.
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
        self.patience = max(LEAST_PATIENCE, LAG_FACTOR * ordered[len(ordered) * 9 // 10])
        self.usual_size = min(sum(self._sizes) / len(self._sizes), MOST_UNREAD)
