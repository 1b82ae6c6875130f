"""`forks_wait`: what must not be under way on any thread when the process forks.

A child has the forking thread only, and every lock as it was: one that another thread held at that moment is never let
go of there. Locks of ours are made anew in the child; those of others cannot be, so nothing may hold them while a fork
happens: importing holds a module's, and OpenSSL takes some for what it does the first time, as of a handshake. Callers
are `_client`, `_credentials`, `_signing`, `_connections` and `_checksums`. Nothing in its care may wait for a network.
"""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType

# Rather a child that might hang than a parent that does.
LONGEST = 5.0


class _ForksWait:
    """A context that any thread may be in, and in which no fork happens but the thread's own."""

    def __init__(self) -> None:
        # Reentrant, for a signal handler that forks.
        self._changed = threading.Condition(threading.RLock())
        self._inside: set[int] = set()

    def __enter__(self) -> None:
        with self._changed:
            self._inside.add(threading.get_ident())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._inside.discard(threading.get_ident())
            self._changed.notify_all()

    def hold(self) -> None:
        """Waits until no other thread is in the context, and lets none in before `release`."""
        self._changed.acquire()
        deadline, own = time.monotonic() + LONGEST, {threading.get_ident()}
        while self._inside - own:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self._changed.wait(left)

    def release(self) -> None:
        self._changed.release()


forks_wait = _ForksWait()


def _after_fork_in_child() -> None:
    forks_wait.__init__()  # type: ignore[misc]  # others have it by name


os.register_at_fork(before=forks_wait.hold, after_in_parent=forks_wait.release, after_in_child=_after_fork_in_child)
