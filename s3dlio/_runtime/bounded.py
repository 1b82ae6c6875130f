"""Runs blocking calls for asynchronous callers on few threads, however many calls there are.

Callers are `awaiting`. A call that is queued takes no thread, and its order of beginning is the order of arrival.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

from . import workers

# Calls that run at once. Each keeps many exchanges in flight where it has many; more threads only fight for the GIL.
MOST_THREADS = 64

Task = Callable[[], None]


class Line:
    """Runs tasks on at most `threads` workers, in order of arrival; with one thread, one after the other."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._waiting: deque[Task] = deque()
        self._running = 0

    @property
    def busy(self) -> bool:
        """Whether a task waits or runs."""
        return self._running > 0

    def start(self, task: Task) -> None:
        """Runs `task`, which raises nothing, when its turn comes.

        Raises:
            RuntimeError: no thread can be started; the task never runs.
            ConfigurationError: threads are patched.
        """
        with self._lock:
            self._waiting.append(task)
            if self._running >= self._threads:
                return
            self._running += 1
        try:
            self._start_thread()
        except BaseException:
            with self._lock:
                self._running -= 1
                if self._running:  # another thread takes it
                    return
                self._waiting.remove(task)
            raise

    def _start_thread(self) -> None:
        workers.start(self._serve)

    def _serve(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._running -= 1
                    return
                task = self._waiting.popleft()
            task()
            del task  # it holds the caller's buffers


class SharedLine(Line):
    """A line whose tasks take turns with those of others on the threads of all asynchronous calls."""

    def _start_thread(self) -> None:
        shared().start(self._serve)


_shared = Line(MOST_THREADS)


def shared() -> Line:
    """The line of all asynchronous calls of this process."""
    return _shared


def _after_fork_in_child() -> None:
    global _shared
    _shared = Line(MOST_THREADS)


os.register_at_fork(after_in_child=_after_fork_in_child)
