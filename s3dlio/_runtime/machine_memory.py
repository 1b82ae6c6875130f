"""How much memory the machine and the control groups around this process have, and how much is available.

It reads the kernel's files and nothing else. Callers are `_buffers`, before it maps, and `config`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from .control_groups import groups, lines, number

# Limit, usage and prefix of the statistics, by version of the hierarchy.
_FILES = {
    2: ("memory.max", "memory.current", ""),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
}


def available_memory(root: str = "") -> int | None:
    """Bytes available from the machine and every cgroup around this process; None if unknown.

    File cache counts as available: the kernel drops it before it refuses memory (Linux documentation,
    cgroup-v2, ``memory.current`` and ``memory.stat``; proc(5), ``MemAvailable``).

    Args:
        root: where ``/proc`` and ``/sys`` are found.
    """
    amounts = []
    for line in lines(f"{root}/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            amounts.append(int(line.split()[1]) * 1024)
    for folder, limit, usage_file, prefix in _groups(root):
        usage = number(f"{folder}/{usage_file}")
        if usage is not None:
            amounts.append(limit - usage + _file_cache(folder, prefix))
    return max(min(amounts), 0) if amounts else None


def memory_limit(root: str = "") -> int:
    """The most bytes that this process can have: the machine's, or the lowest limit of a cgroup around it."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(limit for _, limit, _, _ in _groups(root))])


def _groups(root: str) -> Iterator[tuple[str, int, str, str]]:
    """(folder, limit, usage file, prefix) of the visible cgroups around this process that limit its memory."""
    for folder, version in groups("memory", root):
        limit_file, usage_file, prefix = _FILES[version]
        limit = number(f"{folder}/{limit_file}")
        if limit is not None:
            yield folder, limit, usage_file, prefix


def _file_cache(folder: str, prefix: str) -> int:
    total = 0
    for line in lines(f"{folder}/memory.stat"):
        name, _, value = line.partition(" ")
        if name in (f"{prefix}inactive_file", f"{prefix}active_file"):
            total += int(value)
    return total
