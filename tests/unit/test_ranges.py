"""`ranges`: planning a download."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3dlio._transfer.ranges import Range, auto_chunk, auto_concurrency, plan_ranges

MIB = 1 << 20
patient = settings(deadline=None)


@patient
@given(st.integers(0, 5 << 40), st.integers(1, 300), st.integers(0, 1 << 40), st.integers(0, 8 * MIB))
def test_ranges_cover_exactly_and_without_overlap(start: int, count: int, chunk: int, tail: int) -> None:
    chunk += 1
    size = start + (count - 1) * chunk + min(tail, chunk)
    position = start
    for planned in plan_ranges(size, chunk=chunk, start=start):
        assert planned.offset == position
        assert 1 <= planned.length <= chunk
        position += planned.length
    assert position == size


@patient
@given(st.integers(0, 10_000), st.integers(1, 200), st.integers(0, 10_000))
def test_only_the_last_range_is_shorter_than_a_chunk(size: int, chunk: int, start: int) -> None:
    planned = plan_ranges(size, chunk=chunk, start=start)
    assert all(one.length == chunk for one in planned[:-1])
    assert len(planned) == -(-max(size - start, 0) // chunk)


def test_a_plan_is_in_the_order_of_the_bytes() -> None:
    assert plan_ranges(10, chunk=4) == [Range(0, 4), Range(4, 4), Range(8, 2)]


def test_a_plan_begins_where_it_is_told() -> None:
    assert plan_ranges(10, chunk=4, start=5) == [Range(5, 4), Range(9, 1)]


@pytest.mark.parametrize(("size", "start"), [(0, 0), (10, 10), (10, 11)])
def test_nothing_left_is_an_empty_plan(size: int, start: int) -> None:
    assert plan_ranges(size, chunk=4, start=start) == []


@pytest.mark.parametrize(("size", "chunk", "start"), [(-1, 4, 0), (10, 0, 0), (10, -4, 0), (10, 4, -1)])
def test_impossible_numbers_are_refused(size: int, chunk: int, start: int) -> None:
    with pytest.raises(ValueError, match="cannot plan"):
        plan_ranges(size, chunk=chunk, start=start)


@pytest.mark.parametrize(
    ("size", "chunk", "concurrency"),
    [
        (0, 1 * MIB, 8),
        (16 * MIB - 1, 1 * MIB, 8),
        (16 * MIB, 2 * MIB, 8),
        (64 * MIB - 1, 2 * MIB, 8),
        (64 * MIB, 4 * MIB, 16),
        (256 * MIB - 1, 4 * MIB, 16),
        (256 * MIB, 8 * MIB, 32),
        (5 << 40, 8 * MIB, 32),
    ],
)
def test_the_automatic_table(size: int, chunk: int, concurrency: int) -> None:
    assert (auto_chunk(size), auto_concurrency(size)) == (chunk, concurrency)


@patient
@given(st.integers(16 * MIB, 5 << 40))
def test_from_16_mib_on_there_is_a_range_for_every_request_in_flight(size: int) -> None:
    assert -(-size // auto_chunk(size)) >= auto_concurrency(size)
