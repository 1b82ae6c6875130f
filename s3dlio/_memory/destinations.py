"""Destinations for the body of a response: memory of its length, its first bytes only, or memory that grows.

Each one takes bytes in order and never drops one silently: memory that runs out, or a buffer that is too small, is an
error. `attempt` and `download` make destinations; the native loop fills `view`, or `http` calls `append`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .._buffers import Buffer
from .._values.limits import KIB
from .pool import pool
from .views import copy_span

# As much as one receive brings.
FIRST_SIZE = 64 * KIB
# More unused memory than an eighth of the bytes is given back in the end.
MOST_ROOM_LEFT = 8


class Full(Exception):
    """The destination wants no more of the body."""


class TooLong(Exception):
    """The body needs at least `length` bytes, more than the destination has."""

    def __init__(self, length: int) -> None:
        super().__init__(f"{length} bytes came, more than the destination holds")
        self.length = length


class Sink(Protocol):
    """Receives a body piece by piece; `length` counts its bytes."""

    length: int

    def append(self, data: bytes, /) -> None:
        """Takes the next bytes.

        Raises:
            Full: no more are wanted.
            TooLong: there is no room for them.
            MemoryError: there is no memory for them.
        """


class Destination(Sink, Protocol):
    """Where a body goes: all of it into `view`, or piece by piece.

    Attributes:
        view: memory for a body of known length; None where only `append` takes the body.
        cut: receive only as many bytes as `view` holds, even if the body has more.
    """

    @property
    def view(self) -> memoryview | None: ...

    @property
    def cut(self) -> bool: ...


class Bounded:
    """The caller's memory.

    Args:
        view: memory for the whole body, as far as its length is known.
        too_long: makes the error for a body that needs at least so many bytes, more than `view` has.
    """

    cut = False

    def __init__(self, view: memoryview, too_long: Callable[[int], Exception] = TooLong) -> None:
        self.view = view
        self._too_long = too_long
        self.length = 0

    def append(self, data: bytes) -> None:
        end = self.length + len(data)
        if end > len(self.view):
            raise self._too_long(end)
        self.view[self.length : end] = data
        self.length = end


class FirstBytes:
    """The caller's memory, for as much of the body as it holds: the response is cut short there."""

    cut = True

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.length = 0

    def append(self, data: bytes) -> None:
        end = min(self.length + len(data), len(self.view))
        self.view[self.length : end] = data[: end - self.length]
        self.length = end
        if end == len(self.view):
            raise Full


class Collected:
    """Pooled memory that doubles as bytes come; its limit is the machine's memory."""

    view = None
    cut = False

    def __init__(self) -> None:
        self._buffer: Buffer | None = None
        self.length = 0

    def append(self, data: bytes) -> None:
        end = self.length + len(data)
        size = 0 if self._buffer is None else self._buffer.size
        if end > size:
            self._resize(max(end, 2 * size, FIRST_SIZE))
        if data:
            copy_span(self._buffer, self.length, data, 0, len(data))
            self.length = end

    def buffer(self, size: int) -> Buffer | None:
        """The memory, with room for `size` bytes and not much more; None for none."""
        room = (0 if self._buffer is None else self._buffer.size) - size
        if room < 0 or room > size // MOST_ROOM_LEFT:
            self._resize(size)
        return self._buffer

    def _resize(self, size: int) -> None:
        old = self._buffer
        self._buffer = pool().acquire(size) if size else None
        if old is not None and self._buffer is not None:
            copy_span(self._buffer, 0, old, 0, self.length)
