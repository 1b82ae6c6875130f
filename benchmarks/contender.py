"""One contender's process: imports the `s3dlio` of the environment that runs it, repeats one operation, prints JSON.

It is started as a script by `compare.py`, with the endpoint, keys and S3DLIO_* variables in its environment, and uses
nothing but NumPy and the names that both libraries have. It treats both alike: it never looks at which one it has.
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# Only this script's own folder is on the path in every environment.
import pattern  # type: ignore[import-not-found]

import s3dlio

MIB = 1 << 20
GIB = 1 << 30
# What one write() is given: several parts, as an array of an application would be.
WRITE_PIECE = 64 * MIB


class Uploads:
    """The operations that write `size` bytes of the pattern to `uri`."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.uri, self.size, self.part_size, self.in_flight = (
            options.uri,
            options.size,
            options.part_size,
            options.in_flight,
        )
        self.writer_options: dict[str, Any] = json.loads(options.writer_options)
        # A writer may borrow what write() is given until close(), so there each byte of the object has its own memory.
        whole = options.operation.startswith("put-write")
        self.source = pattern.make(self.size if whole else pattern.PERIOD + self.part_size)

    def _writer(self) -> Any:
        return s3dlio.MultipartUploadWriter.from_uri(
            self.uri,
            part_size=self.part_size,
            max_in_flight=self.in_flight,
            content_type="application/octet-stream",
            **self.writer_options,
        )

    def reserve(self, *, fill: bool) -> None:
        """Reserves each part, fills it by one NumPy copy if told to, and commits it."""
        writer = self._writer()
        for offset in range(0, self.size, self.part_size):
            length = min(self.part_size, self.size - offset)
            view = writer.reserve(length)
            if fill:
                start = offset % pattern.PERIOD
                np.copyto(np.frombuffer(view, np.uint8), self.source[start : start + length])
            writer.commit(length)
            del view
        writer.close()

    def write(self, **how: bool) -> None:
        """Gives NumPy memory to write() in memoryviews of 64 MiB."""
        writer = self._writer()
        for offset in range(0, self.size, WRITE_PIECE):
            writer.write(memoryview(self.source[offset : min(offset + WRITE_PIECE, self.size)]), **how)
        writer.close()


def operation_for(options: argparse.Namespace) -> Callable[[], Any]:
    """What to repeat."""
    if options.operation == "get":
        return functools.partial(s3dlio.get, options.uri)
    uploads = Uploads(options)
    uploading: dict[str, Callable[[], Any]] = {
        "put-reserve": functools.partial(uploads.reserve, fill=True),
        "put-reserve-unfilled": functools.partial(uploads.reserve, fill=False),
        "put-write": uploads.write,
        "put-write-borrowed": functools.partial(uploads.write, copy=False),
        "put-write-copied": functools.partial(uploads.write, copy=True),
    }
    return uploading[options.operation]


def memory(field: str) -> float:
    """VmRSS or VmHWM of this process in MiB. (ru_maxrss would count the parent's from before the exec.)"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"the kernel does not tell {field}")


def measure(operation: Callable[[], Any], options: argparse.Namespace) -> tuple[dict[str, Any], Any]:
    """Runs the operation; returns its numbers and its last result."""
    base = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # starts VmHWM again from here
    result = None
    for _ in range(options.warmups):
        result = None  # what was read before is let go of first, as a loop of an application would
        result = operation()
    seconds = []
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(options.repeats):
        result = None
        started = time.perf_counter()
        result = operation()
        seconds.append(time.perf_counter() - started)
    after = resource.getrusage(resource.RUSAGE_SELF)
    moved = options.size * options.repeats / GIB
    peak = memory("VmHWM")
    return {
        "gib_per_s": moved / sum(seconds),
        "cpu_s_per_gib": (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) / moved,
        "user_s_per_gib": (after.ru_utime - before.ru_utime) / moved,
        "peak_rss_mib": peak,
        "peak_added_mib": peak - base,
        "seconds": seconds,
    }, result


def main() -> None:
    """Prints one JSON object on standard output; any failure is a traceback and a non-zero status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("operation")
    parser.add_argument("--uri", required=True)
    parser.add_argument("--size", type=int, required=True, help="bytes of the object")
    parser.add_argument("--part-size", type=int, required=True, help="bytes")
    parser.add_argument("--in-flight", type=int, required=True)
    parser.add_argument("--writer-options", default="{}", help="more keywords of the writer, as JSON")
    parser.add_argument("--warmups", type=int, required=True)
    parser.add_argument("--repeats", type=int, required=True)
    options = parser.parse_args()
    numbers, result = measure(operation_for(options), options)
    if options.operation == "get":
        if len(result) != options.size:
            sys.exit(f"get returned {len(result)} bytes and not {options.size}")
        pattern.check(result, pattern.make(pattern.PERIOD))
    versions = {"python": sys.version.split()[0], "s3dlio": s3dlio.__version__, "numpy": np.__version__}
    print(json.dumps(numbers | {"file": s3dlio.__file__, "versions": versions}))


if __name__ == "__main__":
    main()
