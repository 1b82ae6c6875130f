"""The content of every benchmark object, so that a fast but wrong transfer is an error and not a record.

It is the endless pattern of native/catalogue.c: the little-endian word at offset 8 i is splitmix64(i mod (PERIOD / 8)).
PERIOD is no multiple of any usual part or chunk size. Runs in every contender's environment: NumPy only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

PERIOD = 16385 * 4096


def make(length: int) -> Bytes:
    """The pattern's first `length` bytes, in memory of their own that has been touched."""
    words = np.arange(PERIOD // 8, dtype=np.uint64)
    words += np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    period = words.astype("<u8", copy=False).view(np.uint8)
    made = np.empty(length, np.uint8)
    for start in range(0, length, PERIOD):
        made[start : start + PERIOD] = period[: length - start]
    return made


def check(data: Any, period: Bytes, *, offset: int = 0) -> None:
    """Raises ValueError unless the buffer `data` is the pattern from `offset` on; `period` is make(PERIOD)."""
    found = np.frombuffer(data, np.uint8)
    at = 0
    while at < found.size:
        start = (offset + at) % PERIOD
        length = min(PERIOD - start, found.size - at)
        if not np.array_equal(found[at : at + length], period[start : start + length]):
            wrong = int(np.argmax(found[at : at + length] != period[start : start + length]))
            raise ValueError(f"the content differs at byte {offset + at + wrong}")
        at += length
