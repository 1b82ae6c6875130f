"""`bench`: how fast this machine and a store move data, with a table and bars; it deletes what it stored.

Every rate is measured for a bounded time, after a first round that warms connections and memory. Large objects are
moved one after the other, in parallel parts and ranges; small ones many at once.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import s3dlio

from .exits import UsageError
from .invocation import Invocation
from .planning import is_prefix
from .text import human

WIDTH = 40
# Objects of one call for many small ones.
ROUND = 256
# Bytes of the first object, which tells how much can be moved in the time.
FIRST = 8 << 20


class Rate(NamedTuple):
    """What one measurement gave.

    Attributes:
        name: what was done, as in ``put 64 MiB``.
        objects: how many were moved in `seconds`, and `size` bytes each.
        cpu: seconds of processor time that this process took for it.
    """

    name: str
    objects: int
    size: int
    seconds: float
    cpu: float

    @property
    def bytes_per_second(self) -> float:
        """Payload."""
        return self.objects * self.size / self.seconds

    @property
    def objects_per_second(self) -> float:
        """Whole objects."""
        return self.objects / self.seconds


def bench(invocation: Invocation) -> None:
    """Measures, and prints a table and bars for the large and the small objects."""
    options = invocation.options
    if not is_prefix(options.uri):
        raise UsageError(f"{options.uri} names one object; write {options.uri}/ for a place to store objects below")
    below = f"{options.uri.rstrip('/')}/s3dlio-bench-{uuid.uuid4().hex}/"
    rates: list[Rate] = []
    try:
        with invocation.progress("measurements") as progress:
            progress.expect(items=5)
            for rate in _measured(invocation, below):
                rates.append(rate)
                progress.add(items=1)
    finally:
        invocation.report.note(f"deleting what was stored below {below}")
        invocation.client.delete(below, recursive=True)
    _table(invocation, rates)


def _measured(invocation: Invocation, below: str) -> Iterator[Rate]:
    options, client = invocation.options, invocation.client
    small, seconds = options.small, options.seconds
    large = _affordable(invocation, f"{below}large")
    data = memoryview(os.urandom(FIRST) * -(-max(large, small) // FIRST))
    client.put_bytes(f"{below}large", data[:large])  # connections, and the pages of the buffers

    def put() -> int:
        client.put_bytes(f"{below}large", data[:large])
        return 1

    def get() -> int:
        with client.get(f"{below}large", range_optimization=True) as view:
            return int(len(view) == large)

    yield _rate(f"put {human(large)}", put, large, seconds)
    yield _rate(f"get {human(large)}", get, large, seconds)

    uris = [f"{below}small/{number:04}" for number in range(ROUND)]
    items = [(uri, data[:small]) for uri in uris]
    client.put_many(items)

    def put_small() -> int:
        return len(client.put_many(items))

    def get_small() -> int:
        return len(client.get_many(uris))

    yield _rate(f"put {human(small)}", put_small, small, seconds)
    yield _rate(f"get {human(small)}", get_small, small, seconds)

    def list_small() -> int:
        return sum(len(page.objects) for page in client.iter_objects(f"{below}small/").pages())

    yield _rate("list", list_small, 0, seconds)


def _affordable(invocation: Invocation, uri: str) -> int:
    """The size of the large objects: as given, or less where the store is so slow that one would take too long."""
    options = invocation.options
    begun = time.monotonic()
    invocation.client.put_bytes(uri, os.urandom(min(FIRST, options.large)))
    in_time = int(min(FIRST, options.large) / (time.monotonic() - begun) * options.seconds)
    size: int = min(options.large, max(FIRST, in_time))
    if size < options.large:
        invocation.report.note(f"large objects have {human(size)}, because the store is slow")
    return size


def _rate(name: str, move: Callable[[], int], size: int, seconds: float) -> Rate:
    """Repeats `move` until the time is over; at least once."""
    objects, begun, cpu = 0, time.monotonic(), time.process_time()
    while True:
        objects += move()
        took = time.monotonic() - begun
        if took >= seconds:
            return Rate(name, objects, size, took, time.process_time() - cpu)


def _table(invocation: Invocation, rates: list[Rate]) -> None:
    report = invocation.report
    columns = f"{'':<16} {'rate':>14} {'objects/s':>12} {'CPU s/GiB':>10} {'objects':>9} {'seconds':>8}"
    if not report.as_json:
        report.console.data(columns)
    for rate in rates:
        moved = rate.objects * rate.size
        per_gib = rate.cpu / (moved / (1 << 30)) if moved else None
        fields: dict[str, Any] = {
            "bytes_per_second": round(rate.bytes_per_second), "objects_per_second": round(rate.objects_per_second, 2),
            "cpu_seconds_per_gib": None if per_gib is None else round(per_gib, 3), "objects": rate.objects,
            "size": rate.size, "seconds": round(rate.seconds, 3),
        }  # fmt: skip
        speed = f"{human(rate.bytes_per_second)}/s" if rate.size else "-"
        report.found(
            f"{rate.name:<16} {speed:>14} {rate.objects_per_second:>12.1f} "
            f"{'-' if per_gib is None else f'{per_gib:.2f}':>10} {rate.objects:>9} {rate.seconds:>8.1f}",
            measured=rate.name, **fields,
        )  # fmt: skip
    if not report.as_json:
        for line in bars([(one.name, one.bytes_per_second, f"{human(one.bytes_per_second)}/s") for one in rates[:2]]):
            report.console.data(line)
        for line in bars([(one.name, one.objects_per_second, f"{one.objects_per_second:.0f}/s") for one in rates[2:4]]):
            report.console.data(line)
    _advise(invocation, rates)


def bars(values: list[tuple[str, float, str]]) -> list[str]:
    """A line for each value, as long as the value is beside the largest."""
    most = max((value for _, value, _ in values), default=0.0)
    return [
        "",
        *(f"{name:<16} {'#' * max(1, round(WIDTH * value / most)):<{WIDTH}} {text}" for name, value, text in values),
    ]


def _advise(invocation: Invocation, rates: list[Rate]) -> None:
    """What limits, where the numbers say so."""
    large = rates[:2]
    if any(one.cpu / one.seconds > 0.9 * (os.cpu_count() or 1) for one in large):
        invocation.report.note("this machine's processors are busy: they limit, not the network or the store")
    version = s3dlio.__version__
    invocation.report.note(f"measured by s3dlio {version}; compare only numbers of the same machine and store")
