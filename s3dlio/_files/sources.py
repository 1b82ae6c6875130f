"""A local file that is read once, at offsets, and must not change meanwhile."""

from __future__ import annotations

import os
import stat
from types import TracebackType
from typing import Self

from ..errors import FileChangedError


class Source:
    """A file that is open for reading.

    Args:
        path: the file; a pipe or device is read to its end.
        follow_symlinks: False refuses a link, which may have taken the place of the file that was found.

    Attributes:
        status: what it was when it was opened.
        size: bytes; None where only reading shows how many there are.
    """

    def __init__(self, path: str, *, follow_symlinks: bool = True) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (0 if follow_symlinks else os.O_NOFOLLOW))
        self.status = os.fstat(self._file)
        self._seekable = stat.S_ISREG(self.status.st_mode)
        self.size: int | None = self.status.st_size if self._seekable else None
        try:
            if self.size == 0 and os.pread(self._file, 1, 0):  # files of /proc have content and size 0
                self.size = None
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._file)

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fills `view` with the bytes from `offset` on; returns how many there are, fewer only at the end."""
        done = 0
        while done < len(view):
            rest = [view[done:]]
            count = os.preadv(self._file, rest, offset + done) if self._seekable else os.readv(self._file, rest)
            if not count:
                break
            done += count
        return done

    def check_unchanged(self, length: int) -> None:
        """Raises FileChangedError unless the file is what it was when it was opened, and `length` bytes were read."""
        now, before = os.fstat(self._file), self.status
        if self.size is None and not now.st_size:
            return
        if (now.st_size, now.st_mtime_ns, length) != (before.st_size, before.st_mtime_ns, before.st_size):
            raise FileChangedError(f"{self.path!r} was changed while it was being read; it is not stored")
