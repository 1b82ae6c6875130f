"""`forks_wait`: what must not be under way on any thread when the process forks.

A child has the forking thread only, and every lock as it was: one that another thread held at that moment is never let
go of there. Locks of ours are made anew in the child; those of others cannot be, so nothing may hold them while a fork
happens: importing holds a module's, and OpenSSL takes some for what it does the first time, as of a handshake. Callers
are `service`, `credentials`, `connections` and `checksums`. Nothing in its care may wait for a network.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from contextlib import AbstractContextManager
from typing import Any

# Rather a child that might hang than a parent that does.
LONGEST = 5.0


class _Forks:
    """A lock for each thread, held while a fork has to wait for it; a fork takes those of all other threads.

    The interpreter's own reentrant lock counts how often its thread is inside, and no interrupt can come between a
    `with` and it.
    """

    def __init__(self) -> None:
        self._own = threading.local()
        # Reentrant, for a signal handler that forks.
        self._registering = threading.RLock()
        self._of_threads: weakref.WeakSet[Any] = weakref.WeakSet()
        self._held: list[Any] = []

    def of_this_thread(self) -> Any:
        lock = getattr(self._own, "lock", None)
        if lock is None:
            lock = threading.RLock()
            with self._registering:
                self._of_threads.add(lock)
            self._own.lock = lock  # only now: no thread is inside unseen
        return lock

    def hold(self) -> None:
        """Waits until no other thread is inside, and lets none in before `release`."""
        self._registering.acquire()
        deadline, own = time.monotonic() + LONGEST, getattr(self._own, "lock", None)
        for lock in list(self._of_threads):
            if lock is not own:
                self._held.append(lock)  # before it is: what is not ours is not let go of either
                lock.acquire(timeout=max(0.0, deadline - time.monotonic()))

    def release(self) -> None:
        """Lets all go on, whatever interrupts it."""
        try:
            while self._held:
                with contextlib.suppress(RuntimeError):  # it was waited for in vain
                    self._held[-1].release()
                self._held.pop()
            with contextlib.suppress(RuntimeError):
                self._registering.release()
        except BaseException:
            self.release()
            raise


_forks = _Forks()


def forks_wait() -> AbstractContextManager[Any]:
    """A context that any thread may be in, as deep as it likes, and in which no fork happens but the thread's own."""
    lock: AbstractContextManager[Any] = _forks.of_this_thread()
    return lock


def _after_fork_in_child() -> None:
    global _forks
    _forks = _Forks()


os.register_at_fork(
    before=lambda: _forks.hold(), after_in_parent=lambda: _forks.release(), after_in_child=_after_fork_in_child
)
