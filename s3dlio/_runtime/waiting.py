"""Waiting that survives interrupts: the turn of a writer's calls, and waiting for a change under a lock.

Ctrl-C, or a signal handler that raises, may strike between any two steps of Python code, but not while `with` takes or
releases a lock of the standard library, which happens in C. So every lock here is held by such a `with`. A
`threading.Condition` does not qualify: it releases and retakes its lock in Python.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

# Seconds after which a waiting thread checks again: an interrupt may have prevented its notification.
LOOK_AGAIN = 0.1


class Turn:
    """Lets threads in one at a time, in order of arrival.

    Exclusion does not depend on the order. If a waiting call is interrupted, calls behind it may overtake calls before
    it, and none waits for the interrupted one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Shows whether this thread has the turn; a signal handler must know.
        self._own = threading.RLock()
        self._line = threading.Lock()
        # The lock of the latest call, held until its turn is over or it was interrupted.
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
    """Lets threads wait for a change of the state that `lock` guards.

    Args:
        lock: held while the state is checked, never while a thread waits.
    """

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._waiting: list[Any] = []

    def notify_all(self) -> None:
        """Wakes all waiting threads. Call with the lock held."""
        waiting, self._waiting = self._waiting, []
        for bell in waiting:
            bell.release()

    def wait_for(self, holds: Callable[[], object], until: float | None = None) -> bool:
        """Waits, interruptibly, until `holds()` is true. Call without the lock; `holds` is called with it.

        Work that must happen together with the check is done by `holds` itself.

        Args:
            until: when to give up, by `time.monotonic`; None for never.

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
