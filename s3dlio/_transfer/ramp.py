"""How many workers a batch of objects has, and how many objects each takes at a time. It starts and measures nothing.

A worker costs a thread and a connection, half a millisecond or more, and where the interpreter is the limit further
workers only shorten each other's series. So a batch begins with one. What an object waits for its response shows how
many would help. Only `batch` uses it, under its lock.
"""

from __future__ import annotations

import math

# Requests of one series: the longer, the fewer returns to Python, and the longer the last one waits. Measured with GETs
# of 4 KiB on two busy cores, in CPU us an object: 224 one by one, 61 by eights, 34 by 32, 29 by 64 and by 128.
MOST_IN_SERIES = 64
# One object shows whether the store is far away, 16 in a row what each of them waits.
SERIES_GROWTH = 16
# Seconds that a series should take at least: at the end workers share what is left, down to series of this length.
SHORTEST_SERIES = 1e-3
# A worker takes half its share of what is left, so that all end at about the same time; or all of it, up to this many.
LAST_SHARE = 4
# The wait of an object in a series shorter than this is mostly that of waking up, or of making the connection.
LEAST_SAMPLE = 8
# Seconds of waiting for one object that tell of a far store, or of a large object, even in a short series.
FAR = 1e-3
# Python's own seconds for an object of a long series: while one worker waits that long, another one can work.
PYTHON_SECONDS = 25e-6
# So many workers keep the interpreter busy.
FEW_WORKERS = 8
# More than a few are started only where each object waits longer than this for each worker that there is: what workers
# wait for each other is less. Where objects come faster than SECONDS_A_WORKER, the interpreter limits, and they leave.
LEAST_WAIT_A_WORKER = 100e-6
SECONDS_A_WORKER = 35e-6
# Seconds of work that a further worker must find, twenty times what it costs to start it.
WORTH_STARTING = 10e-3
# A short series multiplies the workers by this at most: it may have met a slow start of something.
MOST_GROWTH = 4
# Seconds until workers are counted again although none has reported, at first and at most.
FIRST_LOOK, LONGEST_LOOK = 2e-3, 64e-3


class Ramp:
    """The workers of one batch.

    Args:
        limit: the most workers.

    Attributes:
        workers: how many there should be.
        limit: lowered where no more threads can be had.
        look_after: seconds until `delayed` should be asked again.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.workers = 1
        self.look_after = FIRST_LOOK
        # Workers to share with: those that there will soon be, too.
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
        """A worker has done `count` objects; whether it leaves.

        Args:
            seconds: that they took.
            waited: how many of those the worker's thread did not run.
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
        """No worker has reported; the slowest has spent so many seconds on each object that it took."""
        if seconds >= FAR:
            self._grow(2 * self.workers)
            self._sharers = max(self._sharers, self.workers)
            self.look_after = FIRST_LOOK
        else:
            self.look_after = min(2 * self.look_after, LONGEST_LOOK)

    def no_more_threads(self, running: int) -> None:
        """No thread can be had beyond those that are running."""
        self.limit = self.workers = self._sharers = max(1, running)

    def _grow(self, workers: int) -> None:
        self.workers = max(self.workers, min(self.limit, workers))


def _divided(count: int, by: int) -> int:
    return -(-count // by)


def useful_workers(waited: float, workers: int) -> int:
    """How many workers are of use where each object waits so many seconds, while there are so many workers."""
    useful = math.ceil(1 + waited / PYTHON_SECONDS)
    return useful if waited >= workers * LEAST_WAIT_A_WORKER else min(FEW_WORKERS, useful)
