"""An array as a file in memory, for the libraries that upload files only."""

from __future__ import annotations

import io
from typing import Any


class ArrayFile(io.RawIOBase):
    """An array as a file to read: each read() returns a copy, like that of any file."""

    def __init__(self, source: Any) -> None:
        self.view, self.at = memoryview(source), 0

    def readable(self) -> bool:
        """Always true."""
        return True

    def seekable(self) -> bool:
        """Always true."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to an offset; returns it."""
        self.at = offset + (0, self.at, len(self.view))[whence]
        return self.at

    def tell(self) -> int:
        """The current offset."""
        return self.at

    def readinto(self, buffer: Any) -> int:
        """The next bytes, copied into the buffer."""
        count = min(len(buffer), len(self.view) - self.at)
        memoryview(buffer).cast("B")[:count] = self.view[self.at : self.at + count]
        self.at += count
        return count

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes."""
        end = len(self.view) if size is None or size < 0 else self.at + size
        piece = bytes(self.view[self.at : end])
        self.at += len(piece)
        return piece
