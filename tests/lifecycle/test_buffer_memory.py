"""What the pool costs the process: resident memory, limits of the system, fork, threads and exit.

Each script runs in an interpreter of its own, so that nothing else moves what it measures.
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

PRELUDE = """
import gc, os, threading
from s3dlio._buffers import PAGE_SIZE, BufferPool

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
"""


def run(script: str) -> str:
    """The output of `script`; its traceback is the failure."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_a_buffer_costs_its_own_size_and_no_huge_tail() -> None:
    run("""
pool = BufferPool(GIB)
before = resident()
buffers = [pool.acquire(2 * MIB + 1) for _ in range(50)]
cost = resident() - before
assert sum(buffer.pinned for buffer in buffers) == pool.mapped_bytes
assert pool.mapped_bytes <= cost + MIB, (pool.mapped_bytes, cost)
assert cost < pool.mapped_bytes + 8 * MIB, (pool.mapped_bytes, cost)
""")


def test_a_thousand_rounds_leave_resident_memory_flat() -> None:
    run("""
pool = BufferPool(128 * MIB)
sizes = [100, 4 * KIB, 64 * KIB, 100_000, MIB, 3 * MIB + 7, 8 * MIB]

def rounds(count):
    for index in range(count):
        buffers = [pool.acquire(size, page_aligned=index % 2 == 0) for size in sizes]
        for buffer in buffers:
            view = memoryview(buffer)
            view[0] = view[-1] = 1

rounds(20)
before, mapped = resident(), pool.mapped_bytes
rounds(1000)
assert pool.mapped_bytes == mapped
assert abs(resident() - before) < 4 * MIB, (before, resident())
""")


@pytest.mark.parametrize("page_aligned", [False, True])
def test_a_hundred_thousand_held_buffers_of_4_kib_cost_about_their_own_size(page_aligned: bool) -> None:
    run(f"""
pool = BufferPool(0)
content = bytes(range(256)) * 16
before = resident()
buffers = []
for _ in range(100_000):
    buffer = pool.acquire(4096, page_aligned={page_aligned})
    memoryview(buffer)[:] = content
    buffers.append(buffer)
cost = resident() - before
assert 400_000_000 < cost < 480_000_000, cost
""")


def test_idle_memory_stays_warm_until_it_is_trimmed() -> None:
    run("""
pool = BufferPool(GIB)
before = resident()
buffer = pool.acquire(256 * MIB)
del buffer
assert resident() - before > 250 * MIB
assert pool.trim(keep=GIB) == 0
assert pool.trim() == 256 * MIB
assert resident() - before < 8 * MIB
""")


def test_idle_memory_beyond_the_limit_leaves_the_process() -> None:
    run("""
pool = BufferPool(32 * MIB)
before = resident()
buffers = [pool.acquire(16 * MIB) for _ in range(16)]
assert resident() - before > 250 * MIB
del buffers
assert pool.idle_bytes == 32 * MIB
assert resident() - before < 40 * MIB
""")


def test_memory_of_another_size_replaces_idle_memory_that_does_not_fit() -> None:
    run("""
pool = BufferPool(GIB)
small = [pool.acquire(4 * MIB) for _ in range(32)]
del small
for size in (8 * MIB, 16 * MIB, 32 * MIB, 128 * MIB):
    buffer = pool.acquire(size)
    assert pool.mapped_bytes <= 128 * MIB, (size, pool.mapped_bytes)
    del buffer
""")


def test_holes_beyond_what_the_process_may_map_still_give_their_pages_back() -> None:
    # Every other page goes: more holes than the usual vm.max_map_count of 65,530 has mappings.
    run("""
pool = BufferPool(0)
buffers = [pool.acquire(PAGE_SIZE, page_aligned=True) for _ in range(150_000)]
full = resident()
for buffer in buffers[::2]:
    buffer.release()
assert pool.in_use_bytes == 75_000 * PAGE_SIZE
assert full - resident() > 74_000 * PAGE_SIZE, (full, resident())
""")


def test_an_address_space_limit_is_a_memory_error_and_the_pool_goes_on() -> None:
    run("""
import resource
resource.setrlimit(resource.RLIMIT_AS, (2 * GIB, resource.RLIM_INFINITY))
pool = BufferPool(GIB)
kept = pool.acquire(MIB)
for _ in range(3):
    try:
        pool.acquire(3 * GIB)
    except MemoryError as error:
        assert str(3 * GIB) in str(error), error
    else:
        raise AssertionError("more than the limit was given")
    assert pool.mapped_bytes == pool.in_use_bytes == MIB
assert len(pool.acquire(64 * MIB)) == 64 * MIB
""")


def test_more_than_the_machine_has_changes_nothing_in_the_process() -> None:
    run("""
pool = BufferPool(GIB)
before = resident()
for size in (1 << 42, 1 << 55, 1 << 62, 1 << 100):
    try:
        pool.acquire(size)
    except MemoryError as error:
        assert str(size) in str(error), error
    else:
        raise AssertionError(f"{size} bytes were given")
assert pool.mapped_bytes == 0
assert resident() - before < 4 * MIB
""")


def test_threads_never_share_memory_and_the_account_stays_exact() -> None:
    run("""
pool = BufferPool(16 * MIB)
sizes = [100, 64 * KIB, 200_000, MIB, 2 * MIB + 5]
wrong = []

def work(mark):
    for index in range(200):
        size = sizes[(index + mark) % len(sizes)]
        view = memoryview(pool.acquire(size))
        view[:] = bytes([mark]) * size
        if view.tobytes() != bytes([mark]) * size:
            wrong.append((mark, index))

threads = [threading.Thread(target=work, args=(mark,)) for mark in range(1, 7)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert wrong == []
assert pool.in_use_bytes == 0
assert pool.mapped_bytes == pool.idle_bytes <= 16 * MIB + 2 * MIB
""")


def test_a_child_reads_the_buffers_of_its_parent_and_acquires_new_ones() -> None:
    run("""
pool = BufferPool(64 * MIB)
kept = pool.acquire(4 * MIB)
view = memoryview(kept)
view[:] = b"p" * len(view)
idle = pool.acquire(2 * MIB)
del idle
child = os.fork()
if child == 0:
    status = 1
    try:
        assert view.tobytes() == b"p" * len(view)
        reused = pool.acquire(2 * MIB)
        fresh = pool.acquire(8 * MIB)
        for buffer in (kept, reused, fresh):
            memoryview(buffer)[:] = b"c" * len(buffer)
        view.release()
        kept.release()
        del reused, fresh, buffer
        pool.trim()
        assert pool.mapped_bytes == 0
        status = 0
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        os._exit(status)
assert os.waitpid(child, 0)[1] == 0
assert view.tobytes() == b"p" * len(view)
assert pool.in_use_bytes == 4 * MIB
assert pool.idle_bytes == 2 * MIB
""")


def test_views_in_cycles_with_finalizers_come_back() -> None:
    run("""
pool = BufferPool(0)

class Holder:
    def __init__(self):
        self.view = memoryview(pool.acquire(MIB))
        self.itself = self
    def __del__(self):
        # Acquires and gives back inside the collector, as a finalizer of anyone may.
        pool.acquire(100_000)

before = resident()
for _ in range(300):
    Holder()
gc.collect()
assert pool.in_use_bytes == 0
assert resident() - before < 16 * MIB
""")


def test_the_interpreter_ends_cleanly_while_buffers_are_held() -> None:
    out = run("""
pool = BufferPool(GIB)
idle = pool.acquire(2 * MIB)
del idle
view = memoryview(pool.acquire(MIB))
cycle = [memoryview(pool.acquire(64 * KIB)), pool]
cycle.append(cycle)
del pool
view[:] = b"x" * MIB
print("end")
""")
    assert out == "end\n"
