"""The two sides of a sync as sorted streams of entries, and their merge. Nothing is kept of what was merged."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from ..errors import S3dlioError
from ..results import ObjectInfo
from .running import Failure
from .times import nanoseconds_of
from .walking import LocalFile, Unreadable


class Entry(NamedTuple):
    """A file or an object.

    Attributes:
        name: relative to its root.
        place: its path or URI.
        size: bytes; None where a store does not list it.
        modified_ns: of a file when it was modified, of an object when it was stored, in ns since 1970; or None.
        etag: of an object, as listed.
    """

    name: str
    place: str
    size: int | None
    modified_ns: int | None
    etag: str | None = None


class Pair(NamedTuple):
    """What both sides have under one name."""

    source: Entry | None
    target: Entry | None


def of_files(found: Iterator[LocalFile | Unreadable]) -> Iterator[Entry | Unreadable]:
    """The entries of a walk."""
    for one in found:
        if isinstance(one, Unreadable):
            yield one
        else:
            yield Entry(one.name, one.path, one.status.st_size, one.status.st_mtime_ns)


def of_objects(found: Iterator[ObjectInfo], start: int) -> Iterator[Entry]:
    """The entries of a listing, whose names begin at the character `start` of their URIs.

    What tools create for folders, a key that ends in ``/``, takes no part.
    """
    for one in found:
        if not one.uri.endswith("/"):
            yield Entry(one.uri[start:], one.uri, one.size, _nanoseconds(one.last_modified), one.etag)


def _nanoseconds(moment: datetime | None) -> int | None:
    return None if moment is None else nanoseconds_of(moment)


def merged(
    source: Iterator[Entry | Unreadable | Failure], target: Iterator[Entry | Unreadable | Failure]
) -> Iterator[Pair | Unreadable | Failure]:
    """The pairs of two sides that are sorted by the bytes of their names.

    Raises:
        S3dlioError: a side is not sorted, as some stores list: then nothing can be concluded from what is not there.
    """
    left, right = _Side(source, "source"), _Side(target, "target")
    while True:
        yield from left.told()
        yield from right.told()
        if left.entry is None and right.entry is None:
            return
        if right.entry is None or (left.entry is not None and left.order < right.order):
            yield Pair(left.entry, None)
            left.advance()
        elif left.entry is None or right.order < left.order:
            yield Pair(None, right.entry)
            right.advance()
        else:
            yield Pair(left.entry, right.entry)
            left.advance()
            right.advance()


class _Side:
    """The first entry of a side that was not merged yet.

    Attributes:
        entry: None at the end.
        order: the bytes of its name.
    """

    def __init__(self, entries: Iterator[Entry | Unreadable | Failure], which: str) -> None:
        self._entries = entries
        self._which = which
        self._told: list[Unreadable | Failure] = []
        self.entry: Entry | None = None
        self.order = b""
        self.advance()

    def told(self) -> Iterator[Unreadable | Failure]:
        """What could not be listed before the entry."""
        told, self._told = self._told, []
        yield from told

    def advance(self) -> None:
        """Goes to the next entry."""
        before, first = self.order, self.entry is None
        self.entry = None
        for one in self._entries:
            if not isinstance(one, Entry):
                self._told.append(one)
                continue
            self.entry, self.order = one, one.name.encode("utf-8", "surrogateescape")
            if not first and self.order <= before:
                raise S3dlioError(f"the {self._which} lists {one.name!r} out of order; only sorted sides can be merged")
            return
