"""How many workers a batch has and how long their series are, decided from what they measured."""

from __future__ import annotations

import pytest

from s3dlio._transfer.ramp import (
    FAR,
    FEW_WORKERS,
    FIRST_CHECK,
    LEAST_SAMPLE,
    LONGEST_CHECK,
    MOST_GROWTH,
    MOST_IN_SERIES,
    PYTHON_SECONDS,
    SECONDS_A_WORKER,
    Ramp,
)

LIMIT, MANY = 64, 100_000


def grown(workers: int) -> Ramp:
    """One that has come to so many workers, at a store that lets each object wait for long."""
    ramp = Ramp(workers)
    ramp.record(LEAST_SAMPLE, LEAST_SAMPLE * 1.0, LEAST_SAMPLE * 1.0, MANY)
    assert ramp.workers == workers
    ramp.limit = LIMIT
    return ramp


def test_a_batch_begins_with_one_worker_and_one_object() -> None:
    ramp = Ramp(LIMIT)
    assert (ramp.workers, ramp.series_length(MANY)) == (1, 1)


@pytest.mark.parametrize("limit", [1, 16, 64, 1024])
def test_few_objects_of_a_near_store_are_left_to_one_worker_whatever_the_limit(limit: int) -> None:
    ramp, left, lengths = Ramp(limit), 200, []
    while left:
        lengths.append(ramp.series_length(left))
        left -= lengths[-1]
        seconds = 40e-6 * lengths[-1]
        assert not ramp.record(lengths[-1], seconds, seconds / 2, left)
    assert ramp.workers == 1
    assert lengths == [1, 16, 64, 64, 55]


def test_many_objects_of_a_near_store_get_a_few_workers_and_no_more() -> None:
    ramp = Ramp(LIMIT)
    for _ in range(1000):
        # On few processors what one worker waits for the others is in its wait.
        seconds = ramp.workers * 30e-6 * MOST_IN_SERIES
        ramp.record(MOST_IN_SERIES, seconds, seconds - 15e-6 * MOST_IN_SERIES, MANY)
    assert 2 <= ramp.workers <= FEW_WORKERS


@pytest.mark.parametrize(("wait", "least"), [(0.3e-3, 12), (1e-3, 40), (5e-3, LIMIT), (20e-3, LIMIT)])
def test_one_series_shows_how_many_workers_a_waiting_store_needs(wait: float, least: int) -> None:
    ramp = Ramp(LIMIT)
    ramp.record(16, 16 * (wait + PYTHON_SECONDS), 16 * wait, MANY)
    assert ramp.workers >= least


def test_a_far_store_has_all_workers_after_three_answers() -> None:
    ramp = Ramp(LIMIT)
    seen = []
    for _ in range(3):
        ramp.record(1, 5.2e-3, 5e-3, MANY)
        seen.append(ramp.workers)
    assert seen == [MOST_GROWTH, MOST_GROWTH**2, LIMIT]


@pytest.mark.parametrize("waited", [0.0, 0.9 * FAR])
def test_a_single_object_that_comes_soon_shows_nothing(waited: float) -> None:
    ramp = Ramp(LIMIT)
    ramp.record(1, 2e-3, waited, MANY)
    assert ramp.workers == 1


def test_no_worker_is_started_for_work_that_is_soon_done() -> None:
    ramp = Ramp(LIMIT)
    ramp.record(16, 16 * 0.3e-3, 16 * 0.3e-3, 10)
    assert ramp.workers == 1


def test_workers_double_while_the_first_object_does_not_come() -> None:
    ramp = Ramp(LIMIT)
    seen = []
    for _ in range(7):
        ramp.delayed(FAR)
        seen.append(ramp.workers)
    assert seen == [2, 4, 8, 16, 32, 64, 64]
    assert ramp.check_after == FIRST_CHECK


def test_where_objects_come_soon_workers_are_counted_less_and_less_often() -> None:
    ramp = Ramp(LIMIT)
    seen = []
    for _ in range(10):
        ramp.delayed(0.5 * FAR)
        seen.append(ramp.check_after)
    assert seen == sorted(seen)
    assert (seen[0], seen[-1], ramp.workers) == (2 * FIRST_CHECK, LONGEST_CHECK, 1)


def test_workers_leave_one_by_one_where_the_interpreter_limits() -> None:
    ramp = grown(LIMIT)
    left = sum(ramp.record(64, 64 * SECONDS_A_WORKER, 0.0, MANY) for _ in range(1000))
    assert (left, ramp.workers) == (LIMIT - FEW_WORKERS, FEW_WORKERS)


def test_each_worker_of_a_slow_store_stays() -> None:
    ramp = grown(LIMIT)
    seconds = LIMIT * SECONDS_A_WORKER
    assert not any(ramp.record(1, seconds, seconds, MANY) for _ in range(1000))
    assert ramp.workers == LIMIT


def test_workers_of_a_slow_store_share_out_what_is_left_evenly() -> None:
    ramp = grown(LIMIT)
    lengths = [ramp.series_length(left) for left in (MANY, 64 * LIMIT, 8 * LIMIT, 4 * LIMIT, 3 * LIMIT, LIMIT, 1)]
    assert lengths == [16, 16, 4, 4, 3, 1, 1]


def test_the_first_worker_of_a_far_store_leaves_their_share_to_those_that_are_still_to_come() -> None:
    ramp = Ramp(LIMIT)
    ramp.record(1, 5.2e-3, 5e-3, 199)
    assert ramp.workers < LIMIT
    assert ramp.series_length(199) == 4


def test_series_of_a_fast_store_do_not_become_short_at_the_end() -> None:
    ramp = grown(4)
    ramp.record(64, 64 * 50e-6, 0.0, MANY)
    assert ramp.series_length(24) == 20  # a millisecond


def test_without_more_threads_the_workers_stay_as_they_are() -> None:
    ramp = grown(3)
    ramp.no_more_threads(3)
    ramp.delayed(1.0)
    ramp.record(64, 64.0, 64.0, MANY)
    assert ramp.workers == 3
