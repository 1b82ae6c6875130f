"""How much memory the machine and the control groups around this process have, and can still give.

It reads the kernel's files and nothing else. Callers are `_buffers`, before it maps, and `config`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

# Mount point, limit, usage and prefix of the statistics, by hierarchy: 2 and 1.
_HIERARCHIES = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", ""),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
)


def available_memory(root: str = "") -> int | None:
    """Bytes that the machine and every cgroup around this process can still give; None where nothing tells.

    File cache counts as available: the kernel drops it before it refuses memory (Linux documentation,
    cgroup-v2, ``memory.current`` and ``memory.stat``; proc(5), ``MemAvailable``).

    Args:
        root: where ``/proc`` and ``/sys`` are found.
    """
    amounts = []
    for line in _lines(f"{root}/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            amounts.append(int(line.split()[1]) * 1024)
    for folder, limit, usage_file, prefix in _groups(root):
        usage = _number(f"{folder}/{usage_file}")
        if usage is not None:
            amounts.append(limit - usage + _file_cache(folder, prefix))
    return max(min(amounts), 0) if amounts else None


def memory_limit(root: str = "") -> int:
    """Bytes that this process could have at the most: the machine's, or the least limit of a cgroup around it."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(limit for _, limit, _, _ in _groups(root))])


def _groups(root: str) -> Iterator[tuple[str, int, str, str]]:
    """(folder, limit, usage file, prefix) of the cgroups around this process that are seen and limit its memory."""
    for line in _lines(f"{root}/proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        mount, limit_file, usage_file, prefix = _HIERARCHIES[1 if controllers else 0]
        group = group.rstrip("/")
        while True:  # a limit of any group above holds too
            folder = f"{root}{mount}{group}"
            limit = _number(f"{folder}/{limit_file}")
            if limit is not None:
                yield folder, limit, usage_file, prefix
            if not group:
                break
            group = group.rpartition("/")[0]


def _file_cache(folder: str, prefix: str) -> int:
    total = 0
    for line in _lines(f"{folder}/memory.stat"):
        name, _, value = line.partition(" ")
        if name in (f"{prefix}inactive_file", f"{prefix}active_file"):
            total += int(value)
    return total


def _number(path: str) -> int | None:
    text = "".join(_lines(path))
    return int(text) if text.isdigit() else None


def _lines(path: str) -> list[str]:
    """The lines of a small text file; none where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except OSError:
        return []
