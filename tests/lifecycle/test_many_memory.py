"""What the held results of `get_many` cost: about their own size, though they share their places.

Each script runs in an interpreter of its own, so that nothing else moves what it measures.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc"),
    pytest.mark.skipif("S3DLIO_SANITIZED" in os.environ, reason="the sanitizers' shadow is resident too"),
]

PRELUDE = """
import gc, os, sys
import s3dlio
from s3dlio._memory.pool import pool

KIB, MIB = 1 << 10, 1 << 20
bucket = sys.argv[1]

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def stored(count, size):
    items = [(f"s3://{bucket}/{size}/{number}", bytes([number % 251]) * size) for number in range(count)]
    s3dlio.put_many(items, max_in_flight=8)
    return [uri for uri, _ in items]

def sources(pairs):
    return {id(view.source): view.source for _, view in pairs}.values()

def pinned(pairs):
    return sum(source.pinned for source in sources(pairs))
"""


def run(store: Any, script: str) -> None:
    command = [sys.executable, "-c", PRELUDE + script, store.bucket]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert (done.returncode, done.stderr) == (0, "")


COUNT = 20_000 if os.environ.get("S3DLIO_TESTS") == "full" else 5_000


def test_thousands_of_held_objects_of_4_kib_cost_about_their_own_size(minio: Any) -> None:
    run(
        minio,
        f"""
uris = stored(500, 4 * KIB)
s3dlio.get_many(uris)
gc.collect()
before, count = resident(), {COUNT}
held = s3dlio.get_many(uris * (count // 500), max_in_flight=8)
cost, own = resident() - before, count * 4 * KIB
assert pinned(held) < 1.1 * own, pinned(held)
assert cost < 1.75 * own + 8 * MIB, cost  # the views and the list themselves
assert all(view[0] == view[-1] == number % 500 % 251 for number, (_, view) in enumerate(held))
""",
    )


@pytest.mark.parametrize("size", ["4 * KIB", "70 * KIB"])
def test_objects_from_a_server_that_closes_after_each_share_places_too(embedded: Any, size: str) -> None:
    run(
        embedded,
        f"""
size, count = {size}, 200
uris = stored(20, size)
held = s3dlio.get_many(uris * (count // 20), max_in_flight=2)
own = count * -(-size // 64) * 64
assert pinned(held) < 1.1 * own + 2 * 256 * KIB, (pinned(held), own)
assert len(sources(held)) <= (count // 3 if size < 64 * KIB else count), len(sources(held))
assert all(len(view) == size and view[-1] == number % 20 for number, (_, view) in enumerate(held))
""",
    )


def test_a_view_that_is_kept_keeps_at_most_its_place(minio: Any) -> None:
    run(
        minio,
        """
uris = stored(300, 4 * KIB)
kept = s3dlio.get_many(uris * 4, max_in_flight=2)[::300]
assert [view[0] for _, view in kept] == [0] * 4
assert all(4 * KIB <= source.pinned <= 260 * KIB for source in sources(kept))
assert 0 < pool().in_use_bytes <= 4 * 260 * KIB
copies = [bytes(view) for _, view in kept]
del kept
assert pool().in_use_bytes == 0
assert copies == [bytes(4 * KIB)] * 4
""",
    )


def test_call_after_call_leaves_memory_and_descriptors_flat(minio: Any) -> None:
    run(
        minio,
        """
uris = stored(12, 9 * KIB) + stored(3, 100 * KIB)
missing = f"s3://{bucket}/missing"

def calls(count):
    for number in range(count):
        pairs = s3dlio.get_many([*uris, missing], on_error="return", max_in_flight=2)
        s3dlio.put_many([(uri, view) for uri, view in pairs[:-1]], max_in_flight=2)
        try:
            s3dlio.get_many([missing, *uris[:2]], max_in_flight=1)
        except s3dlio.NotFoundError:
            pass
    del pairs
    gc.collect()

calls(10)
before, mapped, descriptors = resident(), pool().mapped_bytes, len(os.listdir("/proc/self/fd"))
calls(25)
assert pool().in_use_bytes == 0
assert pool().mapped_bytes <= mapped + 2 * MIB, (pool().mapped_bytes, mapped)
assert resident() - before < 8 * MIB, (resident(), before)
assert len(os.listdir("/proc/self/fd")) <= descriptors + 2
""",
    )
