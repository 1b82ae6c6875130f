"""What a writer costs the process in resident memory, against the documented formula, for every kind of call.

Each row runs in an interpreter of its own against the embedded server; the peak is the kernel's own figure.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc"),
    pytest.mark.skipif("S3DLIO_SANITIZED" in os.environ, reason="the sanitizers' shadow is resident too"),
]

MIB = 1 << 20
SCRIPT = """
import gc, os, sys
import numpy as np
import s3dlio
from s3dlio._memory.pool import pool

MIB = 1 << 20

def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name + ":"))

def new_writer(key, part_size, max_in_flight):
    options = {"part_size": part_size, "max_in_flight": max_in_flight}
    return s3dlio.MultipartUploadWriter.from_uri(f"s3://{BUCKET}/{key}", **options)

def transfer(writers, calls):
    for kind, size, used in calls:
        for writer in writers:
            if kind == "reserve":
                np.frombuffer(writer.reserve(size), np.uint8)[:] = 7
                writer.commit(used)
            else:
                writer.write(ARRAYS[size], copy=kind == "write")
    return [writer.close() for writer in writers]

BUCKET, part_size, max_in_flight, count, calls = eval(sys.argv[1])
ARRAYS = {size: np.ones(size, np.uint8) for kind, size, _ in calls if kind != "reserve"}
largest = max([part_size, *(size for _, size, _ in calls)])
own = 0 if all(kind == "reserve" for kind, _, _ in calls) else sum(a.nbytes for a in ARRAYS.values())
bound = count * ((max_in_flight + 2) * part_size + largest - part_size)

transfer([new_writer("warm", 5 * MIB, 1)], [("reserve", 6 * MIB, 6 * MIB)])
pool().trim()
gc.collect()
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = status("VmRSS")
infos = transfer([new_writer(f"row{n}", part_size, max_in_flight) for n in range(count)], calls)
peak = status("VmHWM") - before
expected = sum(used if kind == "reserve" else size for kind, size, used in calls)
assert all(info.total_bytes == expected for info in infos)
print(peak, bound)
"""
PART = 5 * MIB
# Calls as (kind, size, used): what the arrays of the caller cost is outside the figure, but a borrowed one is
# in the formula because the writer keeps it alive.
ROWS = {
    "parts": (PART, 2, 1, [("reserve", PART, PART)] * 16),
    "one in flight": (PART, 1, 1, [("reserve", PART, PART)] * 12),
    "larger than a part": (PART, 2, 1, [("reserve", 16 * MIB, 16 * MIB)] * 4),
    "smaller than a part": (PART, 2, 1, [("reserve", 2 * MIB, 2 * MIB)] * 30),
    "hardly used": (PART, 2, 1, [("reserve", 8 * MIB, 100)] * 12),
    "half used": (PART, 1, 1, [("reserve", 9 * MIB, 4 * MIB)] * 10),
    "tails": (PART, 1, 1, [("reserve", 2 * PART, 2 * PART - MIB)] * 6),
    "small reservations": (PART, 1, 1, [("reserve", 5000, 5000)] * 3000),
    "small writes": (PART, 1, 1, [("write", 70_001, 0)] * 500),
    "large writes": (PART, 4, 1, [("write", 23 * MIB, 0)] * 3),
    "borrowed": (PART, 2, 1, [("borrow", 12 * MIB, 0)] * 4),
    "mixed": (PART, 2, 1, [("borrow", 3 * MIB, 0), ("reserve", 6 * MIB, 2 * MIB), ("write", MIB, 0)] * 6),
    "two writers": (PART, 1, 2, [("reserve", PART, PART), ("write", 2 * MIB, 0)] * 8),
    "other part size": (16 * MIB, 4, 1, [("reserve", 16 * MIB, 16 * MIB)] * 10),
}


def peak_and_bound(endpoint_url: str, bucket: str, row: str) -> tuple[int, int]:
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_ACCESS_KEY_ID": "minioadmin",
        "AWS_SECRET_ACCESS_KEY": "minioadmin",
        "MALLOC_ARENA_MAX": "1",
    }
    described = repr((bucket, *ROWS[row]))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, described], env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    peak, bound = map(int, done.stdout.split())
    return peak, bound


@pytest.mark.parametrize("row", ROWS)
def test_resident_memory_stays_within_the_formula(store_of_one: tuple[str, str], row: str) -> None:
    peak, bound = peak_and_bound(*store_of_one, row)
    assert peak <= bound * 1.1 + 16 * MIB, f"{peak / MIB:.1f} MiB resident, {bound / MIB:.1f} MiB by the formula"


def test_a_thousand_rounds_through_a_writer_leave_resident_memory_flat(store_of_one: tuple[str, str]) -> None:
    endpoint_url, bucket = store_of_one
    script = f"""
import numpy as np, s3dlio
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
def rounds(count):
    with s3dlio.MultipartUploadWriter.from_uri("s3://{bucket}/rounds", part_size=5 << 20, max_in_flight=2) as writer:
        for _ in range(count):
            np.frombuffer(writer.reserve(100_000), np.uint8)[:] = 1
            writer.commit(100_000)
rounds(200)
before = resident()
rounds(1000)
print(resident() - before)
"""
    environment = {**os.environ, "AWS_ENDPOINT_URL": endpoint_url}
    environment |= {"AWS_ACCESS_KEY_ID": "minioadmin", "AWS_SECRET_ACCESS_KEY": "minioadmin", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 8 * MIB


def test_many_small_results_held_at_once_cost_about_their_own_size(store_of_one: tuple[str, str]) -> None:
    endpoint_url, bucket = store_of_one
    script = f"""
import s3dlio
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
uri = "s3://{bucket}/small"
s3dlio.put_bytes(uri, bytes(range(256)) * 64)
held = s3dlio.get_many([uri] * 100, max_in_flight=8)
before = resident()
held += s3dlio.get_many([uri] * 1500, max_in_flight=8)
assert all(len(view) == 16384 for _, view in held)
print(resident() - before)
"""
    environment = {**os.environ, "AWS_ENDPOINT_URL": endpoint_url}
    environment |= {"AWS_ACCESS_KEY_ID": "minioadmin", "AWS_SECRET_ACCESS_KEY": "minioadmin", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1500 * 16384 * 1.25 + 4 * MIB
