"""The few daemon threads that run the native exchange loop, and the submission of exchanges to them.

A driver thread blocks only in the loop's poll: it resolves no name and takes no lock but the loop's own. Callers are
the exchanges of `attempts` and `series`, on worker threads or the caller's own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time

from .._runtime.forking import let_forks_wait_for, no_fork
from .._runtime.patches import refuse_patches
from .._runtime.processors import usable_processors
from . import tls
from .exchange import Exchange
from .exchange_loop import ExchangeLoop

log = logging.getLogger("s3dlio")

# More threads only share memory bandwidth (measured: two move 10.9 GiB/s on two cores, sixteen 7.3).
MOST_DRIVERS = 8
# Seconds until the next try after no thread could be started.
ASK_AGAIN = 1.0


class Drivers:
    """A few loops with one thread each; another one is started when all are busy."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._count = count
        self._loops: list[ExchangeLoop] = []
        self._threads: list[threading.Thread] = []
        self._ask_again_at = 0.0
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def submit(self, exchange: Exchange) -> None:
        """Submits an exchange to the least loaded loop; a cancelled one stays cancelled.

        Raises:
            ValueError: it was submitted already.
            RuntimeError: the drivers are closed, or there is no thread and none can be started.
            OSError, MemoryError: there is no thread, and no memory or descriptor for one.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the drivers are closed")
            self._least_loaded().submit(exchange)

    def make_ready(self) -> None:
        """Starts the first loop, so that workers cannot take the last threads; `submit` raises if it fails."""
        if self._loops:
            return
        with self._lock, contextlib.suppress(RuntimeError, OSError, MemoryError):
            if not self._closed and not self._loops:
                self._started()

    def close(self, timeout: float) -> bool:
        """Cancels every exchange and ends the threads, waiting at most `timeout` seconds for them.

        Returns:
            Whether all have ended; the others are daemons and end with the process.
        """
        with self._lock:
            self._closed = True
            loops, threads = self._loops, self._threads
            self._loops, self._threads = [], []
        for loop in loops:
            loop.close()
        deadline = time.monotonic() + timeout
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _least_loaded(self) -> ExchangeLoop:
        best = min(self._loops, key=lambda loop: loop.load, default=None)
        if best is None:
            return self._started()
        enough = best.load == 0 or len(self._loops) >= self._count
        if enough or time.monotonic() < self._ask_again_at:
            return best
        try:
            return self._started()
        except (RuntimeError, OSError, MemoryError) as error:
            # A limit on threads, memory or descriptors, or the interpreter exits. One loop drives any number.
            self._ask_again_at = time.monotonic() + ASK_AGAIN
            log.info("no more than %d driver threads can be started: %s", len(self._loops), error)
            return best

    def _started(self) -> ExchangeLoop:
        """One more loop, with its thread."""
        loop = ExchangeLoop()
        let_forks_wait_for(loop)
        name = f"s3dlio-driver-{len(self._loops)}"
        thread = threading.Thread(target=_drive, args=(loop,), name=name, daemon=True)
        try:
            thread.start()
            self._threads.append(thread)
            self._loops.append(loop)  # last: never a loop without a thread
        except BaseException:
            if loop not in self._loops:
                loop.close()
                with contextlib.suppress(RuntimeError):  # the thread has started anyway
                    loop.run()
            raise
        return loop


def _drive(loop: ExchangeLoop) -> None:
    while not loop.closed:
        try:
            loop.run()
        except MemoryError:
            # No memory for the list of ended exchanges: they stay in the loop, and the next round returns them.
            log.exception("an exchange loop is short of memory")
    with no_fork():
        tls.leave()


_drivers: Drivers | None = None
_lock = threading.Lock()


def drivers() -> Drivers:
    """This process's drivers; new ones after a fork and after `close`."""
    global _drivers
    refuse_patches()
    with _lock:
        if _drivers is None or _drivers.closed:
            _drivers = Drivers(min(usable_processors(), MOST_DRIVERS))
        return _drivers


def _after_fork_in_child() -> None:
    # The parent's threads do not exist here, and its locks may be held forever. Its descriptors stay open and
    # untouched: dropping a loop only frees memory.
    global _drivers, _lock
    _drivers, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
