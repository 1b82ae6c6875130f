"""Walks local files in the order in which a store lists their keys, so that both can be merged.

Nothing is opened but folders. What cannot be read is yielded as an error of its path, and the walk goes on.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple


class LocalFile(NamedTuple):
    """A file that was found.

    Attributes:
        name: its path relative to the root, with ``/``, as it will be in the key.
        path: where it is.
        status: of the file itself, or of what a link leads to.
    """

    name: str
    path: str
    status: os.stat_result


class Unreadable(NamedTuple):
    """A path below the root that is left out, and why."""

    name: str
    path: str
    error: Exception


def walk(root: str, *, follow_symlinks: bool, recursive: bool = True) -> Iterator[LocalFile | Unreadable]:
    """All files below `root`, sorted by the UTF-8 bytes of their names.

    Args:
        follow_symlinks: links to files and folders are followed; otherwise they are left out without an error.
        recursive: False leaves out what lies in folders.
    """
    above = os.stat(root)
    return _Walk(follow_symlinks, recursive).below(root, "", [(above.st_dev, above.st_ino)])


class _Walk:
    def __init__(self, follow_symlinks: bool, recursive: bool) -> None:
        self._follow = follow_symlinks
        self._recursive = recursive

    def below(self, folder: str, prefix: str, above: list[tuple[int, int]]) -> Iterator[LocalFile | Unreadable]:
        """What is in `folder`, whose names begin with `prefix`; `above` are the folders that lead to it."""
        try:
            with os.scandir(folder or ".") as found:
                entries = sorted(map(self._classify, found), key=lambda one: os.fsencode(one[0]))
        except OSError as error:
            yield Unreadable(prefix or ".", folder, error)
            return
        for name, path, result in entries:
            if isinstance(result, Exception):
                yield Unreadable(prefix + name, path, result)
            elif result is None:
                continue
            elif stat.S_ISREG(result.st_mode):
                yield from _named(LocalFile(prefix + name, path, result))
            elif not stat.S_ISDIR(result.st_mode):
                special = OSError(f"{path!r} is a pipe, a socket or a device; upload it by its own path")
                yield Unreadable(prefix + name, path, special)
            elif self._recursive:
                identity = result.st_dev, result.st_ino
                if identity in above:
                    yield Unreadable(prefix + name, path, OSError(f"{path!r} leads back to a folder above it"))
                else:
                    yield from self.below(path, prefix + name, [*above, identity])

    def _classify(self, entry: os.DirEntry[str]) -> tuple[str, str, os.stat_result | Exception | None]:
        """An entry's name, with a ``/`` where it is a folder; its path; and its status, or why there is none."""
        try:
            if entry.is_symlink() and not self._follow:
                return entry.name, entry.path, None
            status = entry.stat()
        except OSError as error:
            return entry.name, entry.path, error
        return entry.name + "/" * stat.S_ISDIR(status.st_mode), entry.path, status


def _named(found: LocalFile) -> Iterator[LocalFile | Unreadable]:
    try:
        found.name.encode("utf-8")
    except UnicodeEncodeError:
        error = ValueError(f"the name of {found.path!r} is not UTF-8, as keys are; rename the file")
        yield Unreadable(found.name, found.path, error)
        return
    yield found


def only(found: Iterator[LocalFile | Unreadable], matches: Callable[[str], bool]) -> Iterator[LocalFile | Unreadable]:
    """Those whose names match; folders that could not be read are always among them."""
    return (one for one in found if isinstance(one, Unreadable) or matches(one.name))
