"""Plans the ranges of a download: how an object is cut, and how many requests are in flight.

Pure: numbers in, numbers out. `download` asks.
"""

from __future__ import annotations

from typing import NamedTuple

from ..config import MIB


class Range(NamedTuple):
    """`length` bytes from `offset` on."""

    offset: int
    length: int


class _Automatic(NamedTuple):
    below: int | None
    chunk: int
    concurrency: int


# By size of what is downloaded, in bytes: the first row whose `below` is larger counts. From 16 MiB on the
# smallest size of each row has one range for every request in flight. Chunks above 8 MiB no longer lower the
# cost per byte, those below 1 MiB are all round trips.
AUTOMATIC = (
    _Automatic(16 * MIB, 1 * MIB, 8),
    _Automatic(64 * MIB, 2 * MIB, 8),
    _Automatic(256 * MIB, 4 * MIB, 16),
    _Automatic(None, 8 * MIB, 32),
)


def plan_ranges(size: int, *, chunk: int, start: int = 0) -> list[Range]:
    """Ranges of `chunk` bytes, the last one shorter, that cover [start, size) in order and without overlap.

    Args:
        size: where the last range ends, in bytes.
        chunk: bytes of one range, at least 1.
        start: where the first range begins; nothing is planned from `size` on.

    Raises:
        ValueError: a number is negative, or `chunk` is 0.
    """
    if size < 0 or start < 0 or chunk < 1:
        raise ValueError(f"cannot plan size={size}, start={start}, chunk={chunk}: negative, or an empty chunk")
    return [Range(offset, min(chunk, size - offset)) for offset in range(start, size, chunk)]


def auto_chunk(size: int) -> int:
    """Bytes of one range when nobody chose: 1 to 8 MiB, by the size of the download in bytes."""
    return _automatic(size).chunk


def auto_concurrency(size: int) -> int:
    """Ranges in flight when nobody chose: 8 to 32, by the size of the download in bytes."""
    return _automatic(size).concurrency


def _automatic(size: int) -> _Automatic:
    return next(row for row in AUTOMATIC if row.below is None or size < row.below)
