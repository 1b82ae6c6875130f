"""The control groups around this process, and how to read their small files; both hierarchies, 1 and 2.

It reads the kernel's files and nothing else. Callers are `machine_memory` and `processors`.
"""

from __future__ import annotations

from collections.abc import Iterator

# Where each hierarchy is mounted; in version 1, each controller is below.
_MOUNT = "/sys/fs/cgroup"


def groups(controller: str, root: str = "") -> Iterator[tuple[str, int]]:
    """(folder, version) of the groups of a controller around this process, the innermost of each hierarchy first.

    The limits of all of them apply. Some folders may not exist: a container may not see the groups around it.

    Args:
        controller: its name, as ``memory`` or ``cpu``.
        root: where ``/proc`` and ``/sys`` are found.
    """
    for line in lines(f"{root}/proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = f"{root}{_MOUNT}/{controller}" if controllers else f"{root}{_MOUNT}"
        group = group.rstrip("/")
        while True:
            yield mount + group, 1 if controllers else 2
            if not group:
                break
            group = group.rpartition("/")[0]


def number(path: str) -> int | None:
    """The number in a file; None if there is none (``max``, ``-1``) or it cannot be read."""
    text = "".join(lines(path))
    return int(text) if text.isdigit() else None


def lines(path: str) -> list[str]:
    """The lines of a small text file; none if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except OSError:
        return []
