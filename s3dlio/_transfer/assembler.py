"""Cuts a writer's data into parts: segments in, parts out, whatever the sizes of the calls.

Pure logic without locks, threads or I/O, called by `intake`. It never moves a byte and never waits; it decides what to
pack, and its caller does the packing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ..config import MAX_PART_SIZE, MAX_PARTS
from ..errors import ConfigurationError

PARTS_PER_GROWTH = 1_000


class Owner:
    """Memory that holds waiting segments or segments in flight, and what keeping it costs.

    Attributes:
        view: the memory as a flat memoryview of bytes; None once the last segment is done.
        pinned: bytes that stay resident while the owner is held.
        borrowed: whether the memory belongs to the caller (a `write` without a copy).
        open_buffer: whether it is the writer's own buffer, into which waiting bytes are packed.
        uses: segments and callers that hold it; the account releases it at zero.
        waiting: bytes of it in the open part, counted by the assembler.
    """

    __slots__ = ("borrowed", "open_buffer", "pinned", "uses", "view", "waiting")

    def __init__(self, view: memoryview, pinned: int, *, borrowed: bool = False, open_buffer: bool = False) -> None:
        self.view: memoryview | None = view
        self.pinned = pinned
        self.borrowed = borrowed
        self.open_buffer = open_buffer
        self.uses = 0
        self.waiting = 0


class Segment(NamedTuple):
    """`length` bytes at `offset` of an owner's memory."""

    owner: Owner
    offset: int
    length: int

    @property
    def view(self) -> memoryview:
        assert self.owner.view is not None
        return self.owner.view[self.offset : self.offset + self.length]


@dataclass(frozen=True)
class Part:
    """One part of the object: `number` from 1, `offset` in the object and `length` in bytes."""

    number: int
    offset: int
    length: int
    segments: tuple[Segment, ...]


def part_length(number: int, part_size: int, grow: bool) -> int:
    """Bytes of part `number` (from 1): doubles every 1,000 parts, up to 5 GiB.

    With the default of 16 MiB, 5 TiB takes about 8,280 parts; the first 1,000 parts keep `part_size`.
    """
    if not grow:
        return part_size
    return min(part_size << min((number - 1) // PARTS_PER_GROWTH, 10), MAX_PART_SIZE)


class Assembler:
    """The open part of one upload.

    The first part is held back until one more byte arrives, because an object that fits one part is
    sent without a multipart upload; `finish` hands it out.

    Attributes:
        in_parts: the object has several parts in any case, so the first one is not held back.
    """

    in_parts = False

    def __init__(self, part_size: int, grow: bool) -> None:
        self._part_size = part_size
        self._grow = grow
        self._segments: list[Segment] = []
        self._pinned = 0
        self.number = 1
        self.offset = 0
        self.waiting = 0

    def start_after(self, parts: int) -> None:
        """Starts at the part after the first `parts`, which are already complete."""
        self.number = parts + 1
        self.offset = sum(part_length(number, self._part_size, self._grow) for number in range(1, parts + 1))

    @property
    def part_size(self) -> int:
        """Size in bytes of the open part when it is full."""
        return part_length(self.number, self._part_size, self._grow)

    @property
    def room(self) -> int:
        """Bytes that still fit into the open part; 0 when it is full and held back."""
        return self.part_size - self.waiting

    @property
    def segments(self) -> tuple[Segment, ...]:
        return tuple(self._segments)

    def add(self, owner: Owner, offset: int, length: int) -> Iterator[Part]:
        """Appends bytes and yields the parts that they complete. Each new segment adds one use to its owner."""
        while length:
            if self.room == 0:
                yield self._cut()
            if self.number > MAX_PARTS:
                raise ConfigurationError(
                    f"the object needs more than {MAX_PARTS:,} parts of {self._part_size:,} bytes; "
                    "give a larger part_size, expected_size, or grow_part_size=True"
                )
            taken = min(length, self.room)
            self._append(owner, offset, taken)
            offset, length = offset + taken, length - taken
            if self.room == 0 and (self.number > 1 or self.in_parts):
                yield self._cut()

    def finish(self) -> Part:
        """The open part, whatever its length. The assembler keeps its segments, because more may follow a flush."""
        return Part(self.number, self.offset, self.waiting, tuple(self._segments))

    def oversized(self) -> list[int]:
        """The index of the last segment if its owner pins more than twice what waits in it; else an empty list.

        Only the last segment can have become oversized: nothing has changed for the others since they were added.
        Checking all of them at each call would cost more the larger a part is.
        """
        last = self._segments[-1].owner if self._segments else None
        if last is None or last.open_buffer or last.pinned <= 2 * last.waiting:
            return []
        return [len(self._segments) - 1]

    def where(self, chosen: Callable[[Owner], bool]) -> list[int]:
        """The indices of the segments whose owner is `chosen`."""
        return [index for index, segment in enumerate(self._segments) if chosen(segment.owner)]

    def segment(self, index: int) -> Segment:
        return self._segments[index]

    def pinned(self) -> int:
        """Bytes that waiting segments keep alive, without the open buffer."""
        return self._pinned

    def replace(self, index: int, new: list[Segment]) -> None:
        """Replaces a segment by segments that hold the same bytes elsewhere; the caller counts the uses."""
        old = self._segments[index]
        self._count(old.owner, -old.length)
        for segment in new:
            self._count(segment.owner, segment.length)
        if len(new) == 1:
            self._segments[index] = new[0]
        else:
            self._segments[index : index + 1] = new

    def clear(self) -> list[Segment]:
        """Removes and returns all waiting segments; the caller ends their uses."""
        segments, self._segments = self._segments, []
        self._count_none(segments)
        return segments

    def _append(self, owner: Owner, offset: int, length: int) -> None:
        last = self._segments[-1] if self._segments else None
        if last is not None and last.owner is owner and last.offset + last.length == offset:
            self._segments[-1] = Segment(owner, last.offset, last.length + length)
        else:
            owner.uses += 1
            self._segments.append(Segment(owner, offset, length))
        self._count(owner, length)
        self.waiting += length

    def _cut(self) -> Part:
        # All full parts share one int object as their length: up to 10,000 parts are kept.
        part = Part(self.number, self.offset, self.part_size, tuple(self._segments))
        segments, self._segments = self._segments, []
        self._count_none(segments)
        self.number += 1
        self.offset += part.length
        return part

    def _count(self, owner: Owner, length: int) -> None:
        """Counts bytes of an owner that enter or leave the open part."""
        before, owner.waiting = owner.waiting, owner.waiting + length
        if not owner.open_buffer:
            self._pinned += owner.pinned * (bool(owner.waiting) - bool(before))

    def _count_none(self, segments: list[Segment]) -> None:
        for segment in segments:
            segment.owner.waiting = 0
        self._pinned = self.waiting = 0
