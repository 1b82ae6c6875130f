"""`_ranges`: planning a download and reading Content-Range."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3dlio._ranges import Range, auto_chunk, auto_concurrency, parse_content_range, plan_ranges

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


@patient
@given(st.integers(0, 1 << 62), st.integers(0, 1 << 62), st.integers(1, 1 << 62) | st.none())
def test_a_written_content_range_is_read_back(first: int, more: int, after: int | None) -> None:
    last = first + more
    total = None if after is None or last + after >= 10**19 else last + after
    written = f"bytes {first}-{last}/{'*' if total is None else total}"
    assert parse_content_range(written) == (first, last, total)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes 0-0/1", (0, 0, 1)),
        ("bytes 5-9/*", (5, 9, None)),
        (" Bytes 0-499/1234 ", (0, 499, 1234)),
    ],
)
def test_content_range_in_the_forms_stores_write(text: str, expected: tuple[int, int, int | None]) -> None:
    assert parse_content_range(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bytes",
        "bytes */100",
        "bytes 0-9",
        "bytes=0-9/10",
        "items 0-9/10",
        "bytes -9/10",
        "bytes 0-/10",
        "bytes 0 - 9/10",
        "bytes 0-9/10, bytes 0-9/10",
        "bytes +0-9/10",
        "bytes 0x0-9/10",
        "bytes 0_0-9/10",
        "bytes \u0660-\u0669/10",
        f"bytes 0-{'9' * 5000}/*",
    ],
)
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not of the form"):
        parse_content_range(text)


@pytest.mark.parametrize("text", ["bytes 9-0/10", "bytes 0-10/10", "bytes 0-0/0"])
def test_a_content_range_that_contradicts_itself_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="contradicts itself"):
        parse_content_range(text)
