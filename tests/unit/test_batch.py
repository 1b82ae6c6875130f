"""How a batch of small objects shares them out among its workers: each once, and no more workers than are of use."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from s3dlio._s3.failures import Failed
from s3dlio._s3.requests import CancelScope
from s3dlio._transfer.batch import FEW_WORKERS, FIRST_SERIES, MOST_IN_SERIES, PYTHON_LIMITS, Batch

LIMIT = 32


class Squares:
    """Objects that are numbers, and what is done with each is to square it; `pause` is what a series waits for each."""

    def __init__(self, count: int, pause: float = 0.0) -> None:
        self.count = count
        self.series: list[tuple[int, int]] = []
        self.threads: list[int] = []
        self._pause = pause

    def together(self, first: int, most: int) -> int:
        return most

    def run_together(self, first: int, last: int, scope: CancelScope) -> tuple[list[Any], Failed | None]:
        self.series.append((first, last))
        self.threads.append(threading.get_ident())
        time.sleep(self._pause * (last - first))
        return [number * number for number in range(first, last)], None

    def run_alone(self, index: int, before: Failed | None, scope: CancelScope) -> Any:
        raise AssertionError("nothing fails here")


@pytest.mark.parametrize("limit", [1, FEW_WORKERS, LIMIT])
@pytest.mark.parametrize("count", [0, 1, LIMIT, 1000, 20_000])
def test_every_object_is_done_once_and_stands_in_its_place(count: int, limit: int) -> None:
    work = Squares(count)
    assert Batch(work, limit, False).run() == [number * number for number in range(count)]
    assert sorted(number for series in work.series for number in range(*series)) == list(range(count))


def test_where_the_interpreter_limits_few_workers_are_left_with_long_series() -> None:
    work = Squares(200_000)
    batch = Batch(work, LIMIT, False)
    batch.run()
    assert batch._workers == FEW_WORKERS
    lengths = [last - first for first, last in work.series]
    assert lengths[0] == FIRST_SERIES
    assert max(lengths) == MOST_IN_SERIES


def test_a_store_that_takes_its_time_keeps_every_worker() -> None:
    count = 10 * LIMIT
    work = Squares(count, pause=2 * LIMIT * PYTHON_LIMITS)
    batch = Batch(work, LIMIT, False)
    assert batch.run() == [number * number for number in range(count)]
    assert batch._workers == LIMIT
    assert len(set(work.threads)) == LIMIT
