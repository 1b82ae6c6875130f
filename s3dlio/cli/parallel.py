"""Runs one function for many things at once, in threads that an interrupt reaches too."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
# Seconds that an interrupt waits for the threads to clean up.
PATIENCE = 5.0


def each(things: Iterable[T], work: Callable[[T], object], jobs: int) -> int:
    """Calls `work` for each thing, at most `jobs` at once; how many there were.

    The things are taken from their iterator as they are needed, by one thread at a time. `work` reports its own errors;
    one that it raises, or that the iterator raises, ends the others after what they do, and is raised here. Ctrl-C
    interrupts what they do, too.
    """
    crew = _Crew(iter(things), work)
    try:
        for number in range(jobs):
            crew.start(f"s3dlio-job-{number + 1}")
        while crew.running:
            crew.wait_for_one(None)
    except BaseException:
        crew.interrupt()
        raise
    if crew.error is not None:
        raise crew.error
    return crew.count


class _Crew(Generic[T]):
    """The threads of one call. It does not join them: an interrupted join takes a thread for ended in Python 3.11."""

    def __init__(self, things: Iterator[T], work: Callable[[T], object]) -> None:
        self._things = things
        self._work = work
        self._taking = threading.Lock()
        self._stopped = False
        self._ended: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()
        self.running: set[threading.Thread] = set()
        self.count = 0
        self.error: BaseException | None = None

    def start(self, name: str) -> None:
        thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self.running.add(thread)
        try:
            thread.start()
        except RuntimeError:  # there can be no more; those that run do the work
            self.running.discard(thread)
            if not self.running:
                raise

    def wait_for_one(self, seconds: float | None) -> None:
        """Waits until a thread has ended; queue.Empty if none does in time."""
        self.running.discard(self._ended.get(timeout=seconds))

    def interrupt(self) -> None:
        """Raises KeyboardInterrupt in the threads, as Ctrl-C does in the main one, and waits for them to end.

        The library's waits look again several times a second, so that this reaches them; what has begun is then aborted
        as after Ctrl-C. Source: https://docs.python.org/3/c-api/init.html#c.PyThreadState_SetAsyncExc
        """
        import ctypes

        self._stopped = True
        raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
        for thread in self.running:
            if thread.ident is not None:
                raise_in(ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt))
        deadline = time.monotonic() + PATIENCE
        try:
            while self.running:
                self.wait_for_one(max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return

    def _serve(self) -> None:
        try:
            while not self._stopped:
                with self._taking:
                    if self._stopped:
                        return
                    taken = list(itertools.islice(self._things, 1))
                    self._stopped = self._stopped or not taken
                    self.count += len(taken)
                for one in taken:
                    self._work(one)
        except BaseException as error:
            self._stopped = True
            self.error = self.error or error
        finally:
            self._ended.put(threading.current_thread())
