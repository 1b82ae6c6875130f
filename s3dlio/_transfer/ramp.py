"""Decides how many workers a batch of objects has, and how many objects each takes at a time.

A worker costs a thread and a connection, half a millisecond or more. Where the interpreter is the limit, more workers
only shorten each other's series. So a batch begins with one worker, and the time that objects wait for their responses
shows how many would help. This module starts nothing and measures nothing. Only `batch` calls it, with its lock held.
"""

from __future__ import annotations

import math

# Requests of one series. A longer one returns to Python less often, but its last request waits longer. CPU us per GET
# of 4 KiB, on two busy cores, by length of the series: 224 for 1, 61 for 8, 34 for 32, 29 for 64 and for 128.
MOST_IN_SERIES = 64
# After each series the next one may be longer by this factor: one object shows whether the store is far away, and the
# next 16 show how long each waits.
SERIES_GROWTH = 16
# Seconds that a series should take at least, when the workers share the last objects.
SHORTEST_SERIES = 1e-3
# A worker takes half its share of what is left, so that all end at about the same time; a share of up to this many it
# takes whole.
LAST_SHARE = 4
# In a shorter series, most of the wait is for a thread to wake up, or for the connection.
LEAST_SAMPLE = 8
# An object that waits this many seconds is large, or its store is far away, even if the series is short.
FAR = 1e-3
# CPU seconds in Python per object of a long series: while one worker waits this long, another one can run.
PYTHON_SECONDS = 25e-6
# This many workers keep the interpreter busy.
FEW_WORKERS = 8
# More are started only if objects wait longer than this times the number of workers; a shorter wait may be for the
# other workers.
LEAST_WAIT_A_WORKER = 100e-6
# If objects take less than this times the number of workers, the interpreter is the limit, and workers leave.
SECONDS_A_WORKER = 35e-6
# Seconds of work that must be left for each worker: twenty times what it costs to start one.
WORTH_STARTING = 10e-3
# A short series multiplies the workers by this at most: its one wait may be an accident.
MOST_GROWTH = 4
# Seconds after which `delayed` is called if no worker has finished a series: at first, and at most.
FIRST_CHECK, LONGEST_CHECK = 2e-3, 64e-3


class Ramp:
    """The workers of one batch.

    Args:
        limit: the most workers.

    Attributes:
        workers: how many there should be.
        limit: lowered if no more threads can be started.
        check_after: seconds until `delayed` should be called again.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.workers = 1
        self.check_after = FIRST_CHECK
        # Workers that share what is left, including those about to start.
        self._sharers = 1
        self._longest = 1
        self._least = 1

    def series_length(self, left: int) -> int:
        """How many of the `left` objects a worker takes next."""
        if self._sharers == 1:
            share = left
        else:
            share = max(_divided(left, 2 * self._sharers), min(LAST_SHARE, _divided(left, self._sharers)))
        return min(left, self._longest, max(self._least, share))

    def record(self, count: int, seconds: float, waited: float, left: int) -> bool:
        """Records `count` finished objects of one worker; returns whether that worker leaves.

        Args:
            seconds: time they took.
            waited: seconds of that time in which the worker's thread did not run.
            left: objects that no worker has taken yet.
        """
        seconds, waited = seconds / count, waited / count
        self._longest = min(MOST_IN_SERIES, self._longest * SERIES_GROWTH)
        self._least = max(1, int(SHORTEST_SERIES / max(seconds, PYTHON_SECONDS)))
        if self.workers > FEW_WORKERS and seconds < self.workers * SECONDS_A_WORKER:
            self.workers -= 1
            self._sharers = self.workers
            return True
        self._sharers = self.workers
        if count >= LEAST_SAMPLE or waited >= FAR:
            wanted = min(useful_workers(waited, self.workers), int(left * (waited + PYTHON_SECONDS) / WORTH_STARTING))
            self._grow(wanted if count >= LEAST_SAMPLE else min(wanted, self.workers * MOST_GROWTH))
            self._sharers = max(self.workers, min(self.limit, wanted))
        return False

    def delayed(self, seconds: float) -> None:
        """Called if no worker finishes a series; the slowest has spent `seconds` on each object that it took."""
        if seconds >= FAR:
            self._grow(2 * self.workers)
            self._sharers = max(self._sharers, self.workers)
            self.check_after = FIRST_CHECK
        else:
            self.check_after = min(2 * self.check_after, LONGEST_CHECK)

    def no_more_threads(self, running: int) -> None:
        """Limits the batch to the running workers: no more threads can be started."""
        self.limit = self.workers = self._sharers = max(1, running)

    def _grow(self, workers: int) -> None:
        self.workers = max(self.workers, min(self.limit, workers))


def _divided(count: int, by: int) -> int:
    return -(-count // by)


def useful_workers(waited: float, workers: int) -> int:
    """How many workers are useful if, with `workers` of them, each object waits `waited` seconds."""
    useful = math.ceil(1 + waited / PYTHON_SECONDS)
    return useful if waited >= workers * LEAST_WAIT_A_WORKER else min(FEW_WORKERS, useful)
