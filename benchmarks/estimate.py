"""How long a plan will take: from what its processes took before, else from what is usual on two cores.

Pure; used by `suite --dry-run` only.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .case import Case
from .peers import Contender
from .store import Store

GIB = 1 << 30
_START_S = 1.2  # an interpreter, its imports, a client
_PATTERN_S = 0.5  # for each GiB of content that is made or checked
_STORE_S = 12.0  # a server, its first objects, memory touched
# GiB/s and objects/s, roughly, with what the server does between transfers; for ours and floors, and for others.
_SPEEDS = {"discard": (4.0, 1.3), "minio": (0.7, 0.5), "minio-tls": (0.3, 0.25), "nginx": (0.5, 0.4)}
_SINGLE_LIMITED = 0.045
_OBJECTS = (8000.0, 2500.0)
_SLOW = ("boto3", "minio", "s3fs", "pyarrow")

Key = tuple[str, ...]


def known(files: Iterable[dict[str, Any]]) -> dict[Key, float]:
    """Seconds of one process, by workload, store, operation, value and contender, from files of results."""
    found: dict[Key, list[float]] = {}
    for whole in files:
        for run in whole["runs"]:
            if "wall_s" in run:
                labels = tuple(run[name] for name in ("store", "operation", "value", "contender"))
                found.setdefault((whole["setup"].get("workload", ""), *labels), []).append(run["wall_s"])
    return {key: statistics.median(values) for key, values in found.items()}


def of_process(contender: Contender, store: str, case: Case) -> float:
    """Seconds, where nothing is known."""
    if case.operation == "start":
        return _START_S
    first = 0 if contender.is_floor or contender.name.startswith("ours") else 1
    slow = 3.0 if contender.name.startswith(_SLOW) and contender.name != "boto3-crt" else 1.0
    speed = _SPEEDS[store][first] / (slow if store == "discard" else 1)
    if store == "nginx" and not case.ranged:
        speed = _SINGLE_LIMITED
    transfer = case.moved / GIB / speed
    if case.count > 100:
        transfer = max(transfer, case.count * slow / _OBJECTS[first])
    made = min(case.held, case.moved) / GIB * _PATTERN_S
    return _START_S + made + (case.warmups + case.repeats) * transfer


def seconds(
    plan: Sequence[tuple[Case, Contender]],
    workload: str,
    store: str,
    pairs: int,
    before: dict[Key, float],
    traced: bool,
) -> float:
    """Of a workload on one store."""
    one_turn = sum(
        before.get((workload, store, case.operation, case.value, one.name)) or of_process(one, store, case)
        for case, one in plan
    )
    return _STORE_S + one_turn * (pairs + (1 if traced else 0))


def place(store: str) -> Store:
    """A store that is not running, to ask who is able to do what there."""
    somewhere = Path()
    return Store(
        store,
        store,
        None,
        "",
        content=store != "discard",
        ca=somewhere if store == "minio-tls" else None,
        served=somewhere if store == "nginx" else None,
    )
