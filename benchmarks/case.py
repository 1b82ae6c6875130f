"""What is measured: one operation with its sizes and settings, the same for every contender. Values only."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from .clients.job import object_sizes

MIB = 1 << 20
# Period of the content in bytes: operations that reuse their memory have a source of this length.
PERIOD = 16385 * 4096

# The keys are the names in the command line, the JSON and the clients.
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
        piece: bytes of one write(), if the operation makes small writes.
        mix: (size, count) of objects of several sizes, in place of `size` and `count`; for reads only.
        part_size: of uploads.
        range_size: of ranged downloads; None for the library's default.
        in_flight: concurrent requests.
        threshold: size from which a download uses ranges; None if the operation decides.
        warmups: transfers before measuring, in each process.
        repeats: measured transfers in each process.
        group: name of the table or plot; "" for the operation's own.
        value: this case's place on that plot's axis.
        by: the contenders that run it; () for all of the workload.
        loaded: store a small object first, so that loading the library's code is not counted as memory.
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
        """Sizes of the objects of one transfer, in order."""
        return object_sizes(self.size, self.count, self.mix)

    @property
    def held(self) -> int:
        """Estimate of the bytes that a client holds at once: its data, and what it receives or copies."""
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
        """Its name in a table."""
        return OPERATIONS[self.operation] + (f", {self.value}" if self.value else "")

    def settings(self) -> dict[str, int]:
        """The S3DLIO_* variables of this case, which both libraries read."""
        chosen = {"S3DLIO_ENABLE_RANGE_OPTIMIZATION": int(self.ranged)}
        if self.threshold is not None:
            chosen["S3DLIO_RANGE_THRESHOLD_MB"] = self.threshold // MIB
        if self.ranged and self.range_size is not None:
            chosen |= {"S3DLIO_CHUNK_SIZE": self.range_size, "S3DLIO_RANGE_CONCURRENCY": self.in_flight}
        return chosen

    def as_json(self) -> dict[str, object]:
        """For a process's command line and for the results."""
        return dataclasses.asdict(self)
