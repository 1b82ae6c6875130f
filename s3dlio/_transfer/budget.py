"""What the transfers of one call may use together: requests in flight, and bytes of payload memory.

A transfer takes from it before it allocates memory and gives back when that memory is free again. Whoever holds a share
is in flight and needs no second one to end, so that every wait ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from .._runtime.waiting import LOOK_AGAIN, Changed


class Budget:
    """Shares, each of one request and of some bytes.

    Args:
        requests: how many shares may be taken at once.
        memory: bytes that they may have together. A single share may have more while there is no other.
    """

    def __init__(self, requests: int, memory: int) -> None:
        self._lock = threading.Lock()
        self._changed = Changed(self._lock)
        self._requests = requests
        self._memory = memory
        self._taken = self._bytes = 0

    def take(self, amount: int, check: Callable[[], object]) -> None:
        """Takes a share of `amount` bytes, after waiting until there is room.

        Args:
            check: raises to end the waiting.
        """
        taken = False

        def decided() -> bool:
            nonlocal taken
            room = self._taken < self._requests and self._bytes + amount <= self._memory
            if room or not self._taken:
                self._taken += 1
                self._bytes += amount
                taken = True
            return taken

        while not taken:
            check()
            try:
                self._changed.wait_for(decided, time.monotonic() + LOOK_AGAIN)
            except BaseException:
                if taken:  # an interrupt arrived after the share was counted
                    self.give(amount)
                raise

    def give(self, amount: int) -> None:
        """Gives a share of `amount` bytes back."""
        with self._lock:
            self._taken -= 1
            self._bytes -= amount
            self._changed.notify_all()
