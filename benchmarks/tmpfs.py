"""Folders in /dev/shm that never outlive their run: their files take the memory of the whole machine.

A folder is removed when its context ends, even by a signal's exception. The next run removes what a killed run left
behind: each folder holds a lock for as long as its owner lives. Used by `servers.py` only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

SHARED = Path("/dev/shm")
PREFIX = "benchmark-minio-"
LOCK = ".owner"


def require_tmpfs() -> None:
    """Raises RuntimeError if /dev/shm is not memory."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    if not any(where == str(SHARED) and kind == "tmpfs" for _, where, kind, *_ in mounts):
        raise RuntimeError(f"{SHARED} is not a tmpfs, so a disk would be measured instead: use --stores discard")


def used(folder: Path) -> int:
    """Bytes that the files below the folder take. Those that vanish meanwhile count as 0."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
    return total


def sweep(shared: Path = SHARED) -> list[Path]:
    """Removes the folders whose owner is gone; returns them. One without a lock file is not touched."""
    removed = []
    for folder in shared.glob(PREFIX + "*"):
        with contextlib.suppress(OSError):
            lock = os.open(folder / LOCK, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while the owner lives
                shutil.rmtree(folder)
                removed.append(folder)
            finally:
                os.close(lock)
    return removed


@contextlib.contextmanager
def folder(shared: Path = SHARED) -> Iterator[Path]:
    """A new folder, removed with its content at the end."""
    sweep(shared)
    made = Path(tempfile.mkdtemp(prefix=PREFIX, dir=shared))
    lock = -1
    try:
        lock = os.open(made / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        if made.exists():  # a process may have written during the first walk
            shutil.rmtree(made)
        if lock >= 0:
            os.close(lock)
