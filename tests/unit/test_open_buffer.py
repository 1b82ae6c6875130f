"""`open_buffer`: small writes that need no turn, and all that keeps one from being taken so."""

from __future__ import annotations

import array
import ctypes
import mmap
import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from s3dlio._memory.pool import PLAIN_TYPES, flat_view
from s3dlio._transfer.open_buffer import OpenBuffer

OPEN = object()
MOST = 100


@pytest.fixture
def memory() -> bytearray:
    return bytearray(1000)


@pytest.fixture
def buffer(memory: bytearray) -> OpenBuffer:
    made = OpenBuffer(SimpleNamespace(state=OPEN), OPEN, PLAIN_TYPES, MOST)
    made.attach(SimpleNamespace(view=memoryview(memory)))
    made.enter()
    made.arm(1000)
    made.leave()
    return made


def test_small_writes_lie_one_after_the_other(buffer: OpenBuffer, memory: bytearray) -> None:
    assert [buffer.put(data) for data in (b"abc", b"", bytearray(b"de"), memoryview(b"fg"))] == [3, 0, 2, 2]
    assert bytes(memory[:8]) == b"abcdefg\0"
    assert (buffer.used, buffer.written, buffer.unsettled) == (7, 7, 7)
    assert buffer.settle() == (0, 7)
    assert buffer.put(b"h") == 1
    assert buffer.settle() == (7, 1)
    assert buffer.unsettled == 0


@pytest.mark.parametrize(
    "data",
    [
        np.arange(5, dtype="f4"),
        np.arange(6).reshape(2, 3),
        np.float64(1.5),
        array.array("d", [1.0, 2.0]),
        memoryview(np.arange(3)),
        memoryview(b"0123456789")[2:5],
    ],
    ids=["array", "rows", "scalar", "array.array", "view-of-array", "slice"],
)
def test_buffers_of_numbers_are_taken_once_their_type_is_known(
    buffer: OpenBuffer, memory: bytearray, data: Any
) -> None:
    flat_view(data)  # learns the type
    assert buffer.put(data) == len(data.tobytes())
    assert memory.startswith(data.tobytes())


class Packed(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("object", ctypes.py_object),)


@pytest.mark.parametrize(
    "data",
    [
        "text",
        None,
        5,
        object(),
        np.array([object()]),
        np.zeros(2, dtype=[("a", "i4"), ("b", "f8")]),
        np.arange(8)[::2],
        np.ma.masked_array([1, 2], [True, False]),
        Packed(),
        memoryview(Packed()),
        memoryview(b"12345678")[::2],
        bytes(MOST),
        bytearray(MOST),
        np.zeros(MOST, dtype="u1"),
    ],
    ids=lambda data: type(data).__name__,
)
def test_what_needs_a_closer_look_goes_the_ordinary_way(buffer: OpenBuffer, memory: bytearray, data: Any) -> None:
    flat_view(np.zeros(1))
    assert buffer.put(data) == -1
    assert (buffer.used, buffer.written) == (0, 0)
    assert not any(memory)


def test_buffers_that_are_gone_go_the_ordinary_way(buffer: OpenBuffer) -> None:
    view, mapped = memoryview(b"abc"), mmap.mmap(-1, 10)
    view.release()
    mapped.close()
    assert [buffer.put(view), buffer.put(mapped)] == [-1, -1]


@pytest.mark.parametrize("length", [0, 1, 98, 99])
def test_the_largest_that_is_taken_is_a_byte_short_of_the_limit(buffer: OpenBuffer, length: int) -> None:
    assert buffer.put(bytes(length)) == length


def test_it_is_filled_to_what_it_was_armed_with_and_no_further(buffer: OpenBuffer) -> None:
    buffer.enter()
    buffer.arm(10)
    buffer.leave()
    assert buffer.put(bytes(11)) == -1
    assert buffer.put(bytes(10)) == 10
    assert buffer.put(b"x") == -1
    assert buffer.put(b"") == 0


@pytest.mark.parametrize("most", [-5, 0])
def test_armed_with_nothing_it_takes_nothing(memory: bytearray, most: int) -> None:
    buffer = OpenBuffer(SimpleNamespace(state=OPEN), OPEN, PLAIN_TYPES, MOST)
    buffer.attach(SimpleNamespace(view=memoryview(memory)))
    buffer.enter()
    buffer.arm(most)
    assert buffer.put(b"x") == -1


def test_nothing_overtakes_a_call_on_the_ordinary_way(buffer: OpenBuffer) -> None:
    buffer.enter()
    assert buffer.put(b"x") == -1  # one is at work
    buffer.enter()
    buffer.arm(10)
    buffer.leave()
    assert buffer.put(b"x") == -1  # and another waits behind it
    buffer.arm(10)
    buffer.leave()
    assert buffer.put(b"x") == 1


def test_without_memory_or_an_open_upload_it_takes_nothing(buffer: OpenBuffer) -> None:
    upload = SimpleNamespace(state=OPEN)
    other = OpenBuffer(upload, OPEN, PLAIN_TYPES, MOST)
    other.enter()
    other.arm(10)
    assert other.put(b"x") == -1
    other.attach(SimpleNamespace(view=memoryview(bytearray(10))))
    assert other.put(b"x") == -1
    other.arm(10)
    assert other.put(b"x") == 1
    upload.state = "failed"
    assert other.put(b"x") == -1
    upload.state = OPEN
    assert other.put(b"x") == 1
    other.detach()
    assert other.put(b"x") == -1


def test_a_child_process_takes_nothing(buffer: OpenBuffer) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0 if buffer.put(b"x") == -1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert buffer.put(b"x") == 1
