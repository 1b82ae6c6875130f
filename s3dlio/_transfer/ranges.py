"""Plans the ranges of a download: how an object is cut, and how many requests are in flight.

Pure functions of numbers, called by `download`.
"""

from __future__ import annotations

from typing import NamedTuple

from ..config import MIB


class Range(NamedTuple):
    """`length` bytes starting at `offset`."""

    offset: int
    length: int


class _Automatic(NamedTuple):
    below: int | None
    chunk: int
    concurrency: int


# By download size in bytes: the first row with a larger `below` applies. From 16 MiB on, the smallest size of each
# row has one range per request in flight. Chunks above 8 MiB do not lower the cost per byte any further; below 1 MiB
# the round trips dominate.
AUTOMATIC = (
    _Automatic(16 * MIB, 1 * MIB, 8),
    _Automatic(64 * MIB, 2 * MIB, 8),
    _Automatic(256 * MIB, 4 * MIB, 16),
    _Automatic(None, 8 * MIB, 32),
)


def plan_ranges(size: int, *, chunk: int, start: int = 0) -> list[Range]:
    """Ranges of `chunk` bytes, the last one possibly shorter, that cover [start, size) in order without overlap.

    Args:
        size: end of the last range, in bytes.
        chunk: bytes of one range, at least 1.
        start: start of the first range; there are no ranges if it is `size` or more.

    Raises:
        ValueError: a number is negative, or `chunk` is 0.
    """
    if size < 0 or start < 0 or chunk < 1:
        raise ValueError(f"cannot plan size={size}, start={start}, chunk={chunk}: negative, or an empty chunk")
    return [Range(offset, min(chunk, size - offset)) for offset in range(start, size, chunk)]


def auto_chunk(size: int) -> int:
    """Default size of one range, 1 to 8 MiB, for a download of `size` bytes."""
    return _automatic(size).chunk


def auto_concurrency(size: int) -> int:
    """Default number of ranges in flight, 8 to 32, for a download of `size` bytes."""
    return _automatic(size).concurrency


def _automatic(size: int) -> _Automatic:
    return next(row for row in AUTOMATIC if row.below is None or size < row.below)
