"""How a batch of small objects shares them out among its workers: each once, and no more workers than are of use."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from s3dlio._s3.failures import Failed
from s3dlio._s3.requests import CancelScope
from s3dlio._transfer.batch import Batch
from s3dlio._transfer.ramp import FAR, FEW_WORKERS

LIMIT = 32
# Seconds after which a test fails that waits for workers.
PATIENCE = 60


class Squares:
    """Objects that are numbers; the square of each is its result. `pause` is what a series waits for each."""

    def __init__(self, count: int, pause: float = 0.0) -> None:
        self.count = count
        self.series: list[tuple[int, int]] = []
        self.threads: list[int] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._pause = pause

    def batch_size(self, first: int, most: int) -> int:
        return most

    def run_batch(self, first: int, last: int, scope: CancelScope) -> tuple[list[Any], Failed | None]:
        with self._lock:
            self.series.append((first, last))
            self.threads.append(threading.get_ident())
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        if self._pause:
            time.sleep(self._pause * (last - first))
        with self._lock:
            self._at_once -= 1
        return [number * number for number in range(first, last)], None

    def run_alone(self, index: int, before: Failed | None, scope: CancelScope) -> Any:
        raise AssertionError("nothing fails here")


class Meeting(Squares):
    """Objects none of which is done before so many workers have begun one each."""

    def __init__(self, count: int, workers: int) -> None:
        super().__init__(count)
        self._all_there = threading.Barrier(workers)

    def run_batch(self, first: int, last: int, scope: CancelScope) -> tuple[list[Any], Failed | None]:
        self._all_there.wait(PATIENCE)
        return super().run_batch(first, last, scope)


@pytest.mark.parametrize("limit", [1, FEW_WORKERS, LIMIT])
@pytest.mark.parametrize("count", [0, 1, LIMIT, 1000, 20_000])
def test_every_object_is_done_once_and_stands_in_its_place(count: int, limit: int) -> None:
    work = Squares(count)
    assert Batch(work, limit, False).run() == [number * number for number in range(count)]
    assert sorted(number for series in work.series for number in range(*series)) == list(range(count))


def test_the_first_series_is_one_object_whatever_the_limit() -> None:
    work = Squares(1000)
    Batch(work, LIMIT, False).run()
    assert work.series[0] == (0, 1)


def test_a_store_that_takes_its_time_gets_every_worker() -> None:
    count = 10 * LIMIT
    work = Squares(count, pause=5 * FAR)
    assert Batch(work, LIMIT, False).run() == [number * number for number in range(count)]
    assert len(set(work.threads)) == LIMIT


def test_workers_join_in_while_the_first_object_does_not_come() -> None:
    work = Meeting(LIMIT, LIMIT)
    assert Batch(work, LIMIT, False).run() == [number * number for number in range(LIMIT)]
    assert len(work.threads) == LIMIT


@pytest.mark.parametrize("limit", [2 * FEW_WORKERS, LIMIT])
def test_a_store_that_is_slow_and_quick_by_turns_leaves_no_object_out(limit: int) -> None:
    class Turns(Squares):
        def run_batch(self, first: int, last: int, scope: CancelScope) -> tuple[list[Any], Failed | None]:
            self._pause = 0.0 if first // 2000 % 2 else FAR
            return super().run_batch(first, last, scope)

    work = Turns(20_000)
    assert Batch(work, limit, False).run() == [number * number for number in range(20_000)]


@pytest.mark.parametrize("limit", [1, 3])
def test_there_are_never_more_series_at_once_than_objects_in_flight(limit: int) -> None:
    work = Squares(40, pause=2 * FAR)
    Batch(work, limit, False).run()
    assert work.most_at_once <= limit
    assert len(set(work.threads)) <= limit


def test_an_error_ends_the_call_and_no_worker_starts_after_it() -> None:
    class Failing(Squares):
        def run_batch(self, first: int, last: int, scope: CancelScope) -> tuple[list[Any], Failed | None]:
            super().run_batch(first, last, scope)
            raise ValueError("the first one")

    work = Failing(10_000)
    with pytest.raises(ValueError, match="the first one"):
        Batch(work, LIMIT, False).run()
    assert work.series == [(0, 1)]


def test_what_fails_in_a_worker_outside_any_request_is_the_error_of_the_call() -> None:
    class Broken(Squares):
        def batch_size(self, first: int, most: int) -> int:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Batch(Broken(10), LIMIT, True).run()
