"""The side file of one download: which ranges of which version the file beside it already has.

One line of JSON names the object, and each further line a finished range with the checksum of its bytes. A line that a
crash cut short ends the file. What it says is never believed without reading the bytes: `ranged_file` compares them.
"""

from __future__ import annotations

import json
import os
from typing import Any

from .._s3.checksums import ALGORITHMS, load
from .ranges import Range

ALGORITHM = ALGORITHMS["crc64nvme"]
# Of the layout of this file; another one is begun anew.
VERSION = 1


class Journal:
    """Notes the finished ranges of one object.

    Args:
        descriptor: of the side file, open for reading and appending.
        uri: the object.

    Attributes:
        noted: whether there is a range to resume from.
    """

    algorithm = ALGORITHM

    def __init__(self, descriptor: int, uri: str) -> None:
        load()
        self._file = descriptor
        self._uri = uri
        self.noted = False

    def open(self, etag: str | None, size: int) -> list[tuple[Range, int]]:
        """The ranges that are noted of this version, in order and without overlap, each with its checksum.

        The notes of another version, or of one that has no ETag, are deleted.
        """
        head = {"version": VERSION, "uri": self._uri, "etag": etag, "size": size}
        lines, end = self._lines()
        if etag is None or not lines or lines[0] != head:
            os.ftruncate(self._file, 0)
            self._append(head)
            return []
        os.ftruncate(self._file, end)  # a line that was cut short would spoil the next one
        found: list[tuple[Range, int]] = []
        at = 0
        for noted, crc in sorted(filter(None, map(_noted, lines[1:]))):
            if noted.offset >= at:
                found.append((noted, crc))
                at = noted.offset + noted.length
        self.noted = bool(found)
        return found

    def note(self, done: Range, view: memoryview) -> None:
        """Adds a range whose bytes, in `view`, have been written."""
        self.noted = True
        self._append({"offset": done.offset, "length": done.length, "crc": ALGORITHM.of([view])})

    def _append(self, line: dict[str, Any]) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def _lines(self) -> tuple[list[Any], int]:
        """All whole lines, and where they end."""
        text = b""
        while data := os.pread(self._file, 1 << 20, len(text)):
            text += data
        lines: list[Any] = []
        end = 0
        for line in text.splitlines(keepends=True):
            try:
                lines.append(json.loads(line))
            except ValueError:
                break
            if not line.endswith(b"\n"):
                lines.pop()
                break
            end += len(line)
        return lines, end


def _noted(line: Any) -> tuple[Range, int] | None:
    """The range and the checksum of a line; None for anything else."""
    values = [line.get(name) for name in ("offset", "length", "crc")] if isinstance(line, dict) else []
    match values:
        case [int(offset), int(length), int(crc)] if offset >= 0 and length > 0 and crc >= 0:
            return Range(offset, length), crc
    return None
