"""How many processors this process may use: by its affinity and by the quotas of its control groups.

It reads the kernel's files and the affinity, and nothing else. `drivers` calls it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from . import control_groups


def usable_processors(root: str = "") -> int:
    """At least 1; a quota of one and a half processors counts as two.

    Source: Linux documentation, cgroup-v2, ``cpu.max``; scheduler/sched-bwc, ``cpu.cfs_quota_us``.

    Args:
        root: where ``/proc`` and ``/sys`` are found.
    """
    return max(1, min([_allowed(), *_quotas(root)]))


def _allowed() -> int:
    """The processors that the caller's thread, and threads that it starts, may run on."""
    if hasattr(os, "sched_getaffinity"):
        try:
            return len(os.sched_getaffinity(0))
        except OSError:
            pass  # a filter of system calls may refuse it
    return os.cpu_count() or 1


def _quotas(root: str) -> Iterator[int]:
    for folder, version in control_groups.groups("cpu", root):
        if version == 2:
            quota, _, period = "".join(control_groups.lines(f"{folder}/cpu.max")).partition(" ")
        else:
            quota = "".join(control_groups.lines(f"{folder}/cpu.cfs_quota_us"))
            period = "".join(control_groups.lines(f"{folder}/cpu.cfs_period_us"))
        if quota.isdigit() and period.isdigit() and int(period):
            yield -(-int(quota) // int(period))
