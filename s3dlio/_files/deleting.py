"""The names that a sync deletes: kept on the disk while everything else is transferred, and deleted at the end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from .._runtime.kept_errors import without_traceback
from .names import Target, relative_parts

# Bytes that are kept in memory.
IN_MEMORY = 4 << 20


class Spool:
    """Names in the order in which they were added, in a file without a name once they are many.

    Attributes:
        count: how many there are.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - closed by __exit__
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, name: str) -> None:
        """One more name."""
        self._file.write(name.encode("utf-8", "surrogateescape") + b"\0")
        self.count += 1

    def __iter__(self) -> Iterator[str]:
        """All names; none may be added meanwhile."""
        self._file.seek(0)
        rest = b""
        while data := self._file.read(1 << 20):
            *names, rest = (rest + data).split(b"\0")
            yield from (name.decode("utf-8", "surrogateescape") for name in names)


def delete_files(target: Target, names: Iterator[str]) -> tuple[list[str], dict[str, Exception]]:
    """Deletes files below the target, following no link; returns the paths of those that are gone, and the errors."""
    gone: list[str] = []
    failed: dict[str, Exception] = {}
    for name in names:
        path = target.path_of([name])
        try:
            parts = relative_parts(path, name)
            with target.folder(path, parts) as folder:
                os.unlink(parts[-1], dir_fd=folder)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            failed[path] = without_traceback(error)
            continue
        gone.append(path)
    return gone, failed
