"""Waiting that no interrupt can break: the turn of a writer's calls, and waiting for what a lock guards to change.

Ctrl-C, or a signal handler that raises, may strike between any two steps of Python code, never within a `with` over a
lock of the standard library: that takes and lets go of it in C. So nothing here is held but by such a `with`. A
`threading.Condition` gives its lock up and takes it again in Python. Callers are `writer` and what waits for threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

# Seconds after which a waiting thread looks again: an interrupt may have kept it from being told.
LOOK_AGAIN = 0.1


class Turn:
    """Lets threads in one at a time, in the order of their arrival.

    Exclusion never depends on the order: where a waiting call is interrupted, those behind it may overtake those before
    it, and nobody waits for a call that has gone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Tells whether this very thread has the turn, as a signal handler has to know.
        self._own = threading.RLock()
        self._line = threading.Lock()
        # Of the call that came last: held until it has had its turn or has gone.
        self._last = threading.Lock()

    @property
    def taken(self) -> bool:
        return self._lock.locked()

    @property
    def mine(self) -> bool:
        """Whether the calling thread has the turn: a signal handler interrupts a call of its own thread."""
        owned: bool = self._own._is_owned()  # type: ignore[attr-defined]
        return owned

    def run(self, call: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """What `call` returns, called when it is this thread's turn."""
        mine = threading.Lock()
        with mine:
            with self._line:
                before, self._last = self._last, mine
            with before:
                pass
            with self._lock, self._own:
                result = call(*arguments, **named)
        return result


class Changed:
    """Threads that wait until what `lock` guards has changed.

    Args:
        lock: held while what it guards is looked at; never while somebody waits.
    """

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._waiting: list[Any] = []

    def notify_all(self) -> None:
        """Wakes all who wait. Call with the lock held."""
        waiting, self._waiting = self._waiting, []
        for bell in waiting:
            bell.release()

    def wait_for(self, holds: Callable[[], object], until: float | None = None) -> bool:
        """Returns, interruptibly, when `holds()`, which is called with the lock held. Call without the lock.

        What has to be done in the same moment is done by `holds` itself.

        Args:
            until: when to give up all the same, by `time.monotonic`; None for never.

        Returns:
            Whether it holds.
        """
        bell = threading.Lock()
        while True:
            with self._lock:
                if holds():
                    return True
                left = LOOK_AGAIN if until is None else min(LOOK_AGAIN, until - time.monotonic())
                if left <= 0:
                    return False
                if not bell.locked():
                    bell.acquire()
                    self._waiting.append(bell)
            if bell.acquire(timeout=left):
                bell.release()
