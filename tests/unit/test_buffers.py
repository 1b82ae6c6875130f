"""The pool and its buffers: alignment, reuse, export counting, refusals."""

from __future__ import annotations

import array
import contextlib
import gc
import itertools
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s3dlio._buffers import PAGE_SIZE, BufferPool, page_round
from s3dlio._memory.views import FlatView, copy_span
from s3dlio._runtime.machine_memory import available_memory

MIB = 1 << 20


@pytest.fixture
def pool() -> BufferPool:
    return BufferPool(1 << 30)


@pytest.mark.parametrize("size", [1, PAGE_SIZE, 65_536, MIB - 1])
def test_small_reservations_are_page_aligned(pool: BufferPool, size: int) -> None:
    buffer = pool.acquire(size, page_aligned=True)
    assert buffer.address % PAGE_SIZE == 0
    assert buffer.pinned == page_round(size)
    assert len(memoryview(buffer)) == size


@pytest.mark.parametrize("writable", [True, False], ids=["granted", "refused"])
def test_exports_leak_no_reference(pool: BufferPool, writable: bool) -> None:
    """An exporter in Cython begins with a reference to None, which is not immortal before Python 3.12."""
    buffer = pool.acquire(65_536)
    if not writable:
        buffer.set_readonly()
    for exporter in (buffer, FlatView(b"x" * 100)):
        before = sys.getrefcount(None), sys.getrefcount(exporter)
        for _ in range(10_000):
            if writable:
                memoryview(exporter).release()
            else:
                with contextlib.suppress(BufferError):
                    copy_span(exporter, 0, b"x", 0, 1)
        assert abs(sys.getrefcount(None) - before[0]) < 1000
        assert sys.getrefcount(exporter) == before[1]


@pytest.mark.parametrize("size", [MIB, 5 * MIB + 1, 16 * MIB])
def test_large_buffers_are_aligned_to_huge_pages(pool: BufferPool, size: int) -> None:
    buffers = [pool.acquire(size) for _ in range(3)]
    assert all(buffer.address % (2 * MIB) == 0 for buffer in buffers)
    assert len({buffer.address for buffer in buffers}) == 3


def test_the_account_of_the_pool_is_exact_under_any_sequence(pool: BufferPool) -> None:
    chooser = random.Random(3)
    held: list[Any] = []
    for _ in range(3000):
        if held and chooser.random() < 0.5:
            held.pop(chooser.randrange(len(held)))
        else:
            buffer = pool.acquire(chooser.choice([65_536, 70_001, 300_000, MIB, 3 * MIB + 7]))
            view = memoryview(buffer)
            view[0] = view[-1] = len(held) % 251
            held.append((buffer, len(held) % 251))
            del buffer, view
        assert pool.in_use_bytes == sum(buffer.pinned for buffer, _ in held)
        assert pool.mapped_bytes == pool.in_use_bytes + pool.idle_bytes
    spans = sorted((buffer.address, buffer.address + buffer.size) for buffer, _ in held)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert all(memoryview(buffer)[0] == mark and memoryview(buffer)[-1] == mark for buffer, mark in held)
    held.clear()
    assert pool.in_use_bytes == 0
    pool.trim()
    assert pool.mapped_bytes == 0


def test_memory_is_used_again(pool: BufferPool) -> None:
    first = pool.acquire(16 * MIB)
    address = first.address
    del first
    assert pool.acquire(16 * MIB).address == address
    assert pool.mapped_bytes == 16 * MIB


def test_a_large_idle_block_is_split_and_joined_again(pool: BufferPool) -> None:
    whole = pool.acquire(16 * MIB)
    address = whole.address
    del whole
    pieces = [pool.acquire(4 * MIB) for _ in range(4)]
    assert pool.mapped_bytes == 16 * MIB
    del pieces
    assert pool.acquire(16 * MIB).address == address


def test_idle_memory_is_limited() -> None:
    pool = BufferPool(4 * MIB)
    buffers = [pool.acquire(2 * MIB) for _ in range(5)]
    del buffers
    assert pool.idle_bytes == pool.mapped_bytes == 4 * MIB
    pool.idle_limit = 0
    assert pool.mapped_bytes == 0


def test_trim_gives_back_what_is_idle(pool: BufferPool) -> None:
    kept = pool.acquire(2 * MIB)
    del kept
    assert pool.trim() == 2 * MIB
    assert pool.mapped_bytes == 0


@pytest.mark.parametrize("size", [0, -1])
def test_sizes_that_are_none_are_refused(pool: BufferPool, size: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        pool.acquire(size)


@pytest.mark.parametrize("size", [1 << 45, 1 << 60])
def test_more_than_the_machine_has_is_a_clear_error_at_once(pool: BufferPool, size: int) -> None:
    with pytest.raises(MemoryError, match=str(size)):
        pool.acquire(size)
    assert pool.mapped_bytes == 0


def test_exports_are_counted_and_release_is_refused_meanwhile(pool: BufferPool) -> None:
    buffer = pool.acquire(MIB)
    view = memoryview(buffer)
    other = np.frombuffer(view, np.uint8)
    assert buffer.exports == 1
    with pytest.raises(BufferError, match="1 exports"):
        buffer.release()
    del other
    view.release()
    assert buffer.exports == 0
    buffer.release()
    assert buffer.released
    assert pool.in_use_bytes == 0
    with pytest.raises(ValueError, match="released"):
        memoryview(buffer)


def test_a_view_outlives_buffer_and_pool() -> None:
    pool = BufferPool(0)
    view = memoryview(pool.acquire(MIB))
    view[:] = b"z" * MIB
    del pool
    gc.collect()
    assert view.tobytes() == b"z" * MIB


def test_a_buffer_in_a_cycle_comes_back(pool: BufferPool) -> None:
    cycle: list[Any] = [memoryview(pool.acquire(MIB))]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert pool.in_use_bytes == 0


def test_a_read_only_buffer_refuses_writers(pool: BufferPool) -> None:
    buffer = pool.acquire(100)
    buffer.set_readonly()
    assert memoryview(buffer).readonly
    with pytest.raises(BufferError):
        copy_span(buffer, 0, b"x", 0, 1)


@pytest.mark.parametrize(
    ("offset", "source_offset", "length"), [(0, 0, 9), (-1, 0, 1), (0, -1, 1), (4, 0, 5), (0, 4, 5)]
)
def test_copies_outside_their_buffers_are_refused(offset: int, source_offset: int, length: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        copy_span(bytearray(8), offset, bytes(8), source_offset, length)


def test_copies_take_any_format() -> None:
    target = np.zeros(4, dtype=np.float64)
    copy_span(target, 8, array.array("d", [1.0, 2.0]), 0, 16)
    assert target.tolist() == [0.0, 1.0, 2.0, 0.0]


def test_a_flat_view_shows_records_as_bytes() -> None:
    records = np.ones(3, dtype=[("a", "<i4"), ("b", "<f8")])
    view = FlatView(records, 4, 8)
    assert memoryview(view).format == "B"
    assert memoryview(view).readonly
    assert bytes(memoryview(view)) == records.tobytes()[4:12]


@pytest.mark.parametrize(("offset", "length"), [(-1, None), (11, None), (0, 11), (5, 6)])
def test_a_flat_view_outside_its_source_is_refused(offset: int, length: int | None) -> None:
    source = bytearray(10)
    with pytest.raises(ValueError, match="outside"):
        FlatView(source, offset, length)
    source.append(1)  # nothing is held after the refusal


def test_a_released_flat_view_lets_its_source_go() -> None:
    source = bytearray(10)
    view = FlatView(source)
    with pytest.raises(BufferError):
        source.append(1)
    view.release()
    source.append(1)
    with pytest.raises(ValueError, match="released"):
        len(view)


def test_the_buffer_of_a_release_is_refused_everywhere(pool: BufferPool) -> None:
    buffer = pool.acquire(MIB)
    buffer.release()
    assert buffer.pinned == 0
    for use in (lambda: len(buffer), lambda: buffer.address, buffer.set_readonly):
        with pytest.raises(ValueError, match="released"):
            use()


def test_a_second_release_does_nothing(pool: BufferPool) -> None:
    buffer = pool.acquire(MIB)
    buffer.release()
    other = pool.acquire(MIB)
    buffer.release()
    assert pool.in_use_bytes == other.pinned


def test_an_export_from_before_set_readonly_stays_writable(pool: BufferPool) -> None:
    buffer = pool.acquire(MIB)
    view = memoryview(buffer)
    buffer.set_readonly()
    view[0] = 7
    assert memoryview(buffer)[0] == 7


def test_freed_neighbours_join_in_any_order(pool: BufferPool) -> None:
    whole = pool.acquire(2 * MIB)
    address = whole.address
    del whole
    pieces: list[Any] = [pool.acquire(512 * 1024) for _ in range(4)]
    assert pool.mapped_bytes == 2 * MIB
    for index in (1, 3, 0, 2):
        pieces[index] = None
    assert pool.acquire(2 * MIB).address == address


def test_small_buffers_come_from_ordinary_memory(pool: BufferPool) -> None:
    buffer = pool.acquire(65_535)
    assert buffer.pinned == 65_535
    assert pool.mapped_bytes == 0


def test_trim_keeps_what_it_is_told_to(pool: BufferPool) -> None:
    buffers = [pool.acquire(2 * MIB) for _ in range(4)]
    del buffers
    assert pool.trim(keep=4 * MIB) == 4 * MIB
    assert pool.idle_bytes == 4 * MIB


@pytest.mark.parametrize("limit", [-1, -(1 << 80)])
def test_negative_limits_are_refused(pool: BufferPool, limit: int) -> None:
    with pytest.raises(ValueError, match="negative"):
        BufferPool(limit)
    with pytest.raises(ValueError, match="negative"):
        pool.idle_limit = limit
    with pytest.raises(ValueError, match="negative"):
        pool.trim(limit)


@pytest.mark.parametrize("size", [(1 << 63) - 1, 1 << 63, 1 << 100])
def test_sizes_beyond_the_range_of_c_are_refused_by_name(pool: BufferPool, size: int) -> None:
    with pytest.raises(MemoryError, match=str(size)):
        pool.acquire(size)
    with pytest.raises(ValueError, match="at least 1"):
        pool.acquire(-size)
    with pytest.raises(ValueError, match="rounded"):
        page_round(size)


@pytest.mark.parametrize("far", [(1 << 63) - 1, 1 << 100, -(1 << 63), -(1 << 100)])
def test_spans_beyond_the_range_of_c_are_refused(far: int) -> None:
    for offset, source_offset, length in ((far, 0, 1), (0, far, 1), (0, 0, far), (far, far, far), (1, 1, far)):
        with pytest.raises(ValueError, match="outside"):
            copy_span(bytearray(8), offset, bytes(8), source_offset, length)
    with pytest.raises(ValueError, match="outside"):
        FlatView(bytes(8), far)
    with pytest.raises(ValueError, match="outside"):
        FlatView(bytes(8), 1, far)


def test_a_copy_within_one_buffer_may_overlap() -> None:
    data = bytearray(range(200)) * 50
    expected = data[:1] + data[:-1]
    copy_span(data, 1, data, 0, len(data) - 1)
    assert data == expected


def test_a_copy_of_nothing_is_allowed_at_both_ends() -> None:
    data = bytearray(b"abc")
    copy_span(data, 3, b"", 0, 0)
    copy_span(bytearray(), 0, data, 3, 0)
    assert data == b"abc"


@pytest.mark.parametrize("dtype", ["datetime64[s]", "complex128", "float16", [("a", "<i4"), ("b", "<f8")]])
def test_dtypes_that_memoryviews_cannot_cast_are_bytes_here(dtype: Any) -> None:
    content = bytes(range(np.dtype(dtype).itemsize * 3))
    typed = np.frombuffer(content, dtype)
    assert bytes(memoryview(FlatView(typed))) == content
    target = bytearray(len(content))
    copy_span(target, 0, typed, 0, len(target))
    assert target == content


def test_memory_that_is_not_contiguous_is_refused() -> None:
    every_other = np.arange(10, dtype=np.uint8)[::2]
    with pytest.raises((ValueError, BufferError), match="contiguous"):
        copy_span(bytearray(5), 0, every_other, 0, 5)
    with pytest.raises((ValueError, BufferError), match="contiguous"):
        FlatView(every_other)


def machine(root: Path, available_mib: int, cgroup: str, groups: dict[str, dict[str, str]]) -> str:
    """A tree of the kernel's files as `available_memory` reads them."""
    files = {"proc/meminfo": f"MemTotal: 99999999 kB\nMemAvailable: {available_mib * 1024} kB\n"}
    files["proc/self/cgroup"] = cgroup
    for folder, content in groups.items():
        files.update({f"sys/fs/cgroup/{folder}/{name}": text + "\n" for name, text in content.items()})
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def group(limit: str, usage_mib: int, cache_mib: int = 0) -> dict[str, str]:
    stat = f"anon 5\ninactive_file {cache_mib * MIB // 2}\nactive_file {cache_mib * MIB // 2}"
    return {"memory.max": limit, "memory.current": str(usage_mib * MIB), "memory.stat": stat}


@pytest.mark.parametrize(
    ("cgroup", "groups", "expected_mib"),
    [
        ("0::/\n", {}, 1000),
        ("0::/\n", {"": group("max", 900)}, 1000),
        ("0::/\n", {"": group(str(500 * MIB), 300)}, 200),
        ("0::/\n", {"": group(str(500 * MIB), 490, cache_mib=480)}, 490),
        ("0::/\n", {"": group(str(500 * MIB), 600)}, 0),
        ("0::/a/b\n", {"a/b": group("max", 10), "a": group(str(400 * MIB), 100)}, 300),
        ("0::/a/b\n", {"a/b": group(str(50 * MIB), 10), "a": group(str(400 * MIB), 100)}, 40),
        ("0::/../elsewhere\n", {"": group(str(500 * MIB), 300)}, 200),
        (
            "5:cpu:/x\n4:memory:/x\n0::/\n",
            {
                "memory/x": {
                    "memory.limit_in_bytes": str(300 * MIB),
                    "memory.usage_in_bytes": str(200 * MIB),
                    "memory.stat": f"inactive_file 1\ntotal_inactive_file {50 * MIB}\ntotal_active_file {20 * MIB}",
                }
            },
            170,
        ),
    ],
    ids=["none", "no limit", "limit", "full of cache", "over it", "above", "nested", "outside", "first version"],
)
def test_available_memory_is_the_least_that_machine_and_groups_have(
    tmp_path: Path, cgroup: str, groups: dict[str, dict[str, str]], expected_mib: int
) -> None:
    assert available_memory(machine(tmp_path, 1000, cgroup, groups)) == expected_mib * MIB


def test_available_memory_is_unknown_where_nothing_tells(tmp_path: Path) -> None:
    assert available_memory(str(tmp_path)) is None
