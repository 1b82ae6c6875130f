"""The process-wide pool of payload memory, and flat byte views of the buffers that callers give.

Bad buffers are refused here with a message that names the remedy. Callers are `writer`, `reader` and `objects`.
"""

from __future__ import annotations

import array
import mmap
import os
import threading
from typing import Any

from .._buffers import BufferPool
from .._runtime.machine_memory import memory_limit
from .._values.environment import pool_idle_limit
from .byte_values import addresses, check_owner
from .views import FlatView, HoldsAddresses

_lock = threading.Lock()
_pool: BufferPool | None = None


def pool() -> BufferPool:
    """The pool, created when first needed, so that importing reads no variable and maps no memory."""
    global _pool
    with _lock:
        if _pool is None:
            limit = pool_idle_limit()
            _pool = BufferPool(memory_limit() // 8 if limit is None else limit)
        return _pool


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()  # a thread of the parent may have held it


os.register_at_fork(after_in_child=_after_fork_in_child)


# Types for whose instances the format of the buffer is enough, so that a small write checks no further. Types that are
# added, such as numpy.ndarray, are never freed (CPython's Py_TPFLAGS_HEAPTYPE marks those that may be).
PLAIN_TYPES: set[type] = {bytes, bytearray, FlatView, array.array, mmap.mmap}
_HEAP_TYPE = 1 << 9


def flat_view(data: Any, name: str = "data", *, writable: bool = False) -> memoryview:
    """The bytes of any C-contiguous buffer, of any format, item size and shape, without a copy.

    Raises:
        TypeError: it is text, lives on a device, offers no buffer, or its bytes are not its value: they are addresses,
            as of an array of objects, or lack the mask of a masked array.
        ValueError: it is not C-contiguous, or read-only where `writable` bytes are needed.
    """
    owner = data.obj if type(data) is memoryview else data
    known = type(owner) in PLAIN_TYPES
    if not known:
        if isinstance(data, str):
            raise TypeError(f"{name} is a str; encode it first, for example {name}.encode('utf-8')")
        if hasattr(data, "__cuda_array_interface__"):
            raise TypeError(f"{name} lives on a device; copy it to host memory first, for example with .cpu().numpy()")
    try:
        view = memoryview(FlatView(data, readonly=not writable))
    except HoldsAddresses:
        raise TypeError(addresses(owner, name, writable)) from None
    except (TypeError, ValueError, BufferError) as error:
        raise _refusal(data, name, writable, error) from error
    if not known:
        check_owner(owner, name, writable)
        if not type(owner).__flags__ & _HEAP_TYPE:
            PLAIN_TYPES.add(type(owner))
    if len(view) == 0:
        return memoryview(bytearray() if writable else b"")
    return view


def _refusal(data: Any, name: str, writable: bool, error: Exception) -> Exception:
    """Why a buffer cannot be used, and what to do."""
    try:
        view: Any = memoryview(data)
    except (TypeError, ValueError, BufferError):
        view = getattr(data, "data", None) if hasattr(data, "__array_interface__") else None
    if not isinstance(view, memoryview):
        remedy = "give bytes, a memoryview or a C-contiguous NumPy array (a CPU tensor by .numpy())"
        if hasattr(data, "__array__") and not writable:
            remedy = f"give numpy.asarray({name})"
        return TypeError(f"{name} of type {type(data).__name__} offers no buffer of bytes ({error}); {remedy}")
    if not view.c_contiguous:
        return ValueError(f"{name} is not C-contiguous; copy it first, for example with numpy.ascontiguousarray")
    if writable and view.readonly:
        return ValueError(f"{name} is read-only; give writable memory such as a bytearray or a NumPy array")
    return error
