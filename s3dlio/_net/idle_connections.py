"""The idle connections of a urllib3 pool, last in, first out, safe against interrupts.

urllib3's own `queue.LifoQueue` holds a lock in Python code: Ctrl-C at the wrong moment leaves it held, and each later
request of the client would wait for it forever. Here each change is a single call into C.
Only `connections` uses it; a forked child creates its own.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections import deque
from typing import Any


class IdleConnections:
    """The part of the queue interface that urllib3 uses.

    Args:
        maxsize: how many are kept.
    """

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self._kept: deque[Any] = deque()
        # One for each idle connection, to wake a waiting thread; a thread that finds none waits again.
        self._wakeups: queue.SimpleQueue[None] = queue.SimpleQueue()

    def qsize(self) -> int:
        return len(self._kept)

    @property
    def open(self) -> int:
        """How many are connections."""
        return sum(one is not None for one in list(self._kept))

    def put(self, connection: Any, block: bool = True, timeout: float | None = None) -> None:
        """Adds one (urllib3: None stands for a new one); raises `queue.Full` if there is no room."""
        if len(self._kept) >= self.maxsize:
            raise queue.Full
        self._kept.append(connection)
        self._wakeups.put(None)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The one added last; raises `queue.Empty` if there is none, after `timeout` seconds if `block` is set."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                connection = self._kept.pop()
            except IndexError:
                if not block:
                    raise queue.Empty from None
            else:
                self._drop_wakeup()
                return connection
            self._wakeups.get(timeout=None if until is None else max(0.0, until - time.monotonic()))

    def _drop_wakeup(self) -> None:
        with contextlib.suppress(queue.Empty):  # a waiting thread took it, and waits again
            self._wakeups.get_nowait()

    def clear(self) -> list[Any]:
        """Removes all, and returns those that are connections."""
        taken = []
        while self._kept:
            taken.append(self._kept.pop())
        return [one for one in taken if one is not None]
