"""Segments in, parts out."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dlio._transfer.assembler import Assembler, Owner, Part, part_length
from s3dlio.config import MAX_PART_SIZE
from s3dlio.errors import ConfigurationError

TIB = 1 << 40


def feed(sizes: list[int], part_size: int, data: bytes) -> list[Part]:
    assembler, parts, position = Assembler(part_size, True), [], 0
    for size in sizes:
        owner = Owner(memoryview(data)[position : position + size], size)
        parts += assembler.add(owner, 0, size)
        position += size
    if assembler.waiting:
        parts.append(assembler.finish())
    return parts


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(1, 25))
def test_parts_concatenate_to_the_input_whatever_the_calls(sizes: list[int], part_size: int) -> None:
    data = bytes(n % 251 for n in range(sum(sizes)))
    parts = feed(sizes, part_size, data)
    assert b"".join(bytes(s.view) for part in parts for s in part.segments) == data
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert [part.length for part in parts[:-1]] == [part_size] * (len(parts) - 1)
    assert all(sum(s.length for s in part.segments) == part.length for part in parts)
    assert [part.offset for part in parts] == [n * part_size for n in range(len(parts))]


def test_the_first_full_part_is_held_until_a_byte_more_comes() -> None:
    assembler, owner = Assembler(10, True), Owner(memoryview(bytes(30)), 30)
    assert list(assembler.add(owner, 0, 10)) == []
    assert [part.number for part in assembler.add(owner, 10, 1)] == [1]


def test_adjacent_bytes_of_one_owner_are_one_segment() -> None:
    assembler, owner = Assembler(100, True), Owner(memoryview(bytes(50)), 50)
    for offset in range(0, 50, 10):
        assert list(assembler.add(owner, offset, 10)) == []
    assert [(s.offset, s.length) for s in assembler.segments] == [(0, 50)]
    assert owner.uses == 1


def test_the_first_thousand_parts_keep_their_size_and_five_tebibytes_fit() -> None:
    size = 16 << 20
    lengths = [part_length(number, size, True) for number in range(1, 10_001)]
    assert set(lengths[:1000]) == {size}
    assert max(lengths) <= MAX_PART_SIZE
    assert sum(lengths) >= 5 * TIB
    assert lengths == sorted(lengths)


def test_part_ten_thousand_and_one_names_the_remedy() -> None:
    assembler, owner = Assembler(1, False), Owner(memoryview(bytes(10_001)), 10_001)
    with pytest.raises(ConfigurationError, match="larger part_size"):
        list(assembler.add(owner, 0, 10_001))


@pytest.mark.parametrize(("pinned", "packed"), [(20, False), (21, True), (1000, True)])
def test_an_owner_that_pins_more_than_twice_what_waits_is_packed(pinned: int, packed: bool) -> None:
    assembler = Assembler(100, True)
    list(assembler.add(Owner(memoryview(bytes(10)), pinned), 0, 10))
    assert bool(assembler.oversized()) is packed


def test_a_segment_costs_the_same_however_many_wait_before_it() -> None:
    """A part of 5 GiB in pieces of 64 KiB: steps of Python are counted, not time."""
    piece = 64 << 10
    assembler, view = Assembler(5 << 30, False), memoryview(bytes(piece))

    def add() -> None:
        list(assembler.add(Owner(view, piece, borrowed=True), 0, piece))
        assembler.oversized()

    def steps_of(count: int) -> int:
        steps = 0

        def trace(*_: object) -> object:
            nonlocal steps
            steps += 1
            return trace

        before = sys.gettrace()
        sys.settrace(trace)  # type: ignore[arg-type]
        try:
            for _ in range(count):
                add()
        finally:
            sys.settrace(before)
        return steps

    first = steps_of(100)
    while assembler.waiting < (5 << 30) - 200 * piece:
        add()
    assert steps_of(100) <= 1.1 * first
