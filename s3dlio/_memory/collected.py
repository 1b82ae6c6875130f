"""Destinations for a body whose length nobody has told: pooled memory that grows, or the caller's own.

Both take the bytes as they come and never drop one: memory that runs out, or a buffer that is too small, is an error.
`download` and `sending` make these; `http` fills them.
"""

from __future__ import annotations

from collections.abc import Callable

from .._buffers import Buffer
from .._values.limits import KIB
from .pool import pool
from .views import copy_span

# As much as one receive brings.
FIRST_SIZE = 64 * KIB
# More room than an eighth of the bytes is given back in the end.
MOST_ROOM_LEFT = 8


class Collected:
    """Pooled memory that doubles as bytes come; its limit is the machine's memory.

    Attributes:
        length: bytes taken so far.
    """

    def __init__(self) -> None:
        self._buffer: Buffer | None = None
        self.length = 0

    def append(self, data: bytes) -> None:
        """Raises MemoryError where there is no room for them."""
        end = self.length + len(data)
        size = 0 if self._buffer is None else self._buffer.size
        if end > size:
            self._resize(max(end, 2 * size, FIRST_SIZE))
        if data:
            copy_span(self._buffer, self.length, data, 0, len(data))
            self.length = end

    def buffer(self, size: int | None = None) -> Buffer | None:
        """The memory, with room for `size` bytes or without much more than it needs; None where it is empty."""
        if size is not None:
            self._resize(size)
        elif self._buffer is not None and self._buffer.size - self.length > self.length // MOST_ROOM_LEFT:
            self._resize(self.length)
        return self._buffer

    def _resize(self, size: int) -> None:
        old = self._buffer
        self._buffer = pool().acquire(size) if size else None
        if old is not None and self._buffer is not None:
            copy_span(self._buffer, 0, old, 0, self.length)


class Bounded:
    """The caller's memory, of which the body may turn out to need more than there is.

    Args:
        too_long: makes the error for a body that needs so many bytes or more.
    """

    def __init__(self, place: memoryview, too_long: Callable[[int], Exception]) -> None:
        self._place = place
        self._too_long = too_long
        self.length = 0

    def append(self, data: bytes) -> None:
        end = self.length + len(data)
        if end > len(self._place):
            raise self._too_long(end)
        self._place[self.length : end] = data
        self.length = end
