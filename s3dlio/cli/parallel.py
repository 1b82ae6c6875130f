"""Runs one function for many things at once, in threads that an interrupt leaves behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
# Seconds that an interrupt waits for what had begun.
PATIENCE = 2.0


def each(things: Iterable[T], work: Callable[[T], object], jobs: int) -> int:
    """Calls `work` for each thing, at most `jobs` at once; how many there were.

    The things are taken from their iterator as they are needed, by one thread at a time. `work` reports its own errors;
    one that it raises, or that the iterator raises, ends the others after what they do, and is raised here. Ctrl-C ends
    the wait: nothing further begins.
    """
    iterator = iter(things)
    state = _State()
    threads: list[threading.Thread] = []

    def serve() -> None:
        while not state.stopped:
            with state.taking:
                if state.stopped:
                    return
                try:
                    one = next(iterator)
                except StopIteration:
                    state.stopped = True
                    return
                except BaseException as error:
                    state.end(error)
                    return
                state.count += 1
            try:
                work(one)
            except BaseException as error:
                state.end(error)

    try:
        for number in range(jobs):
            threads.append(threading.Thread(target=serve, name=f"s3dlio-job-{number + 1}", daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join()
    except BaseException:
        state.stopped = True
        for thread in threads:
            thread.join(PATIENCE / jobs)
        raise
    if state.error is not None:
        raise state.error
    return state.count


class _State:
    def __init__(self) -> None:
        self.taking = threading.Lock()
        self.stopped = False
        self.count = 0
        self.error: BaseException | None = None

    def end(self, error: BaseException) -> None:
        """Keeps the first error, after which nothing begins."""
        self.stopped = True
        if self.error is None:
            self.error = error
