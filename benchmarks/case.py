"""What is measured: one operation with its sizes and settings, which every contender gets alike. Values only."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from .clients.job import object_sizes

MIB = 1 << 20
# The content's period, which sources of operations that use their memory again are made of.
PERIOD = 16385 * 4096

# Each by the name that the command line, the JSON and the clients use.
OPERATIONS = {
    "put-reserve": "PUT, reserve, fill, commit",
    "put-reserve-unfilled": "PUT, reserve, commit (not filled)",
    "put-write": "PUT, write(memoryview)",
    "put-write-borrowed": "PUT, a whole array, borrowed",
    "put-write-copied": "PUT, write(memoryview, copy=True)",
    "put-again": "PUT, the same memory again and again, borrowed",
    "put-small-writes": "PUT, small writes",
    "put-buffered-writes": "PUT, small writes through io.BufferedWriter",
    "get": "GET, one request",
    "get-ranged": "GET, parallel ranges",
    "get-into": "GET, parallel ranges, into warm memory of the caller",
    "get-each": "GET, one object after the other",
    "get-many": "GET, many objects",
    "put-many": "PUT, many objects",
    "start": "import, and the first bytes",
}


@dataclass(frozen=True)
class Case:
    """One operation and its settings. Sizes are bytes.

    Attributes:
        operation: a name of `OPERATIONS`.
        size: of each object.
        count: objects of one transfer.
        piece: bytes of one write(), where the operation makes small ones.
        mix: (size, count) of objects of several sizes, which one transfer has instead; of reads only.
        part_size: of uploads.
        range_size: of ranged downloads; None leaves it to the library.
        in_flight: requests at a time.
        threshold: from this size on a download is made in ranges; None leaves it to the operation.
        warmups: transfers before measuring, in each process.
        repeats: measured transfers in each process.
        group: what belongs into one table or plot; "" where the operation says it.
        value: this case's place on that plot's axis.
        by: the contenders that run it; () for all of the workload.
        loaded: what the library's code takes is there before memory is measured: a small object is stored first.
    """

    operation: str
    size: int
    count: int = 1
    part_size: int = 16 * MIB
    range_size: int | None = 8 * MIB
    in_flight: int = 16
    threshold: int | None = None
    warmups: int = 1
    repeats: int = 3
    group: str = ""
    value: str = ""
    by: tuple[str, ...] = ()
    loaded: bool = False
    mix: tuple[tuple[int, int], ...] = ()
    piece: int = 0

    @property
    def writes(self) -> bool:
        """Whether the transfers leave objects on the store."""
        return self.operation.startswith("put")

    @property
    def moved(self) -> int:
        """Bytes of one transfer."""
        return sum(self.sizes)

    @property
    def sizes(self) -> list[int]:
        """Of each object of one transfer, in their order."""
        return object_sizes(self.size, self.count, self.mix)

    @property
    def held(self) -> int:
        """About the bytes that a client holds at a time: its data, and what it receives or copies."""
        if self.operation == "get-each":
            return 2 * self.size
        if "reserve" in self.operation or self.operation == "put-again":
            return PERIOD + 3 * (self.in_flight + 2) * self.part_size
        return 2 * self.moved

    @property
    def ranged(self) -> bool:
        """Whether the library is told to download in ranges."""
        return self.operation in ("get-ranged", "get-into") or self.threshold is not None

    @property
    def title(self) -> str:
        """What a table calls it."""
        return OPERATIONS[self.operation] + (f", {self.value}" if self.value else "")

    def settings(self) -> dict[str, int]:
        """The S3DLIO_* variables of this case, by both libraries' names."""
        chosen = {"S3DLIO_ENABLE_RANGE_OPTIMIZATION": int(self.ranged)}
        if self.threshold is not None:
            chosen["S3DLIO_RANGE_THRESHOLD_MB"] = self.threshold // MIB
        if self.ranged and self.range_size is not None:
            chosen |= {"S3DLIO_CHUNK_SIZE": self.range_size, "S3DLIO_RANGE_CONCURRENCY": self.in_flight}
        return chosen

    def as_json(self) -> dict[str, object]:
        """For a process's command line and for the results."""
        return dataclasses.asdict(self)
