"""What no thread may be doing while the process forks.

A child has only the forking thread, and every lock in the state it had: one that another thread held at that moment
stays locked there forever. We create our own locks again in the child. The locks of other libraries cannot be replaced,
so no thread may hold one during a fork: an import holds the module's, and OpenSSL takes some when it does something for
the first time, as in a handshake. Callers are `service`, `credentials`, `connections`, `checksums` and `drivers`.
Nothing here may wait for a network.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from contextlib import AbstractContextManager
from typing import Any, Protocol

# Most seconds that a fork waits: a child that might hang is better than a parent that does.
LONGEST = 5.0


class Holdable(Protocol):
    """A lock that the forking thread may acquire again."""

    def acquire(self, *, timeout: float) -> bool: ...

    def release(self) -> None:
        """Raises RuntimeError if it is not held."""


class _Forks:
    """A lock for each thread, held while a fork has to wait for it; a fork takes those of all other threads.

    The interpreter's own reentrant lock counts how often its thread is inside, and no interrupt can come between a
    `with` and it.
    """

    def __init__(self) -> None:
        self._own = threading.local()
        # Reentrant, for a signal handler that forks.
        self._registering = threading.RLock()
        self._locks: weakref.WeakSet[Any] = weakref.WeakSet()
        self._held: list[Holdable] = []

    def of_this_thread(self) -> Any:
        lock = getattr(self._own, "lock", None)
        if lock is None:
            lock = threading.RLock()
            self.register(lock)
            self._own.lock = lock  # last: no thread is inside unseen
        return lock

    def register(self, lock: Any) -> None:
        with self._registering:
            self._locks.add(lock)

    def hold(self) -> None:
        """Waits until no other thread is inside, and lets none in before `release`."""
        self._registering.acquire()
        deadline, own = time.monotonic() + LONGEST, getattr(self._own, "lock", None)
        for lock in list(self._locks):
            if lock is not own:
                self._held.append(lock)  # first: `release` ignores a lock that is not held
                lock.acquire(timeout=max(0.0, deadline - time.monotonic()))

    def release(self) -> None:
        """Releases all locks, whatever interrupts it."""
        try:
            while self._held:
                with contextlib.suppress(RuntimeError):  # the wait for it timed out
                    self._held[-1].release()
                self._held.pop()
            with contextlib.suppress(RuntimeError):
                self._registering.release()
        except BaseException:
            self.release()
            raise


_forks = _Forks()


def no_fork() -> AbstractContextManager[Any]:
    """A context in which the process does not fork, except by the thread that is in it; may be nested."""
    lock: AbstractContextManager[Any] = _forks.of_this_thread()
    return lock


def let_forks_wait_for(lock: Holdable) -> None:
    """Registers a lock, weakly referenced, that every fork acquires first and releases in the parent."""
    _forks.register(lock)


def _after_fork_in_child() -> None:
    global _forks
    _forks = _Forks()


os.register_at_fork(
    before=lambda: _forks.hold(), after_in_parent=lambda: _forks.release(), after_in_child=_after_fork_in_child
)
