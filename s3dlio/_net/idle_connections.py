"""The idle connections of one of urllib3's pools, last in, first out, kept in a way that no interrupt can break.

`queue.LifoQueue`, urllib3's own, holds a lock in Python code: Ctrl-C between two steps of that leaves it held, and each
later request of the client waits for it for ever. Here whatever changes is changed by one call into C.
Only `connections` uses it, and has the forked child make it anew.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections import deque
from typing import Any


class IdleConnections:
    """As much of a queue as urllib3 uses.

    Args:
        maxsize: how many are kept.
    """

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self._kept: deque[Any] = deque()
        # One for each that came, so that who waits for one is woken; who finds none all the same waits again.
        self._bells: queue.SimpleQueue[None] = queue.SimpleQueue()

    def qsize(self) -> int:
        return len(self._kept)

    def put(self, connection: Any, block: bool = True, timeout: float | None = None) -> None:
        """Keeps one (urllib3 keeps None for one that may be made); `queue.Full` at once where there is no room."""
        if len(self._kept) >= self.maxsize:
            raise queue.Full
        self._kept.append(connection)
        self._bells.put(None)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The one that was kept last; `queue.Empty` where there is none, after `timeout` seconds if it may `block`."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                connection = self._kept.pop()
            except IndexError:
                if not block:
                    raise queue.Empty from None
            else:
                self._unring()
                return connection
            self._bells.get(timeout=None if until is None else max(0.0, until - time.monotonic()))

    def _unring(self) -> None:
        with contextlib.suppress(queue.Empty):  # who waits has it, and waits again
            self._bells.get_nowait()

    def take_all(self) -> list[Any]:
        """Those that are connections, all of which leave."""
        taken = []
        while self._kept:
            taken.append(self._kept.pop())
        return [one for one in taken if one is not None]
