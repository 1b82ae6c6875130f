"""How long a plan will take: from the times of earlier processes, else from rough figures for two cores.

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
_START_S = 0.5  # an interpreter, its imports, a client
_PATTERN_S = 0.7  # for each GiB of content that is made or checked
_STORE_S = 5.0  # a server, its first objects, memory touched
# Rough GiB/s, including the server's work between transfers: of ours and the floors, of most peers, of the slow ones.
_SPEEDS = {
    "discard": (4.5, 1.7, 0.5),
    "minio": (0.9, 0.7, 0.4),
    "minio-tls": (0.35, 0.3, 0.2),
    "nginx": (0.7, 0.5, 0.4),
}
_SINGLE_LIMITED = 0.047
_OBJECTS_PER_S = (8000.0, 5000.0, 1000.0)
_SLOW = ("boto3", "minio", "s3fs", "pyarrow", "s3torchconnectorclient")

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
    """Seconds of a process that was never measured."""
    if case.operation == "start":
        return _START_S
    ours = contender.is_floor or contender.name.startswith("ours")
    kind = 0 if ours else 2 if contender.name.startswith(_SLOW) else 1
    limited = store == "nginx" and not case.ranged
    transfer = case.moved / GIB / (_SINGLE_LIMITED if limited else _SPEEDS[store][kind])
    count = len(case.sizes)
    if count > 100 and not contender.is_floor:
        pace = 1 if kind == 2 and contender.name == "s3torchconnectorclient" else kind
        transfer = max(case.moved / GIB / 4, count / _OBJECTS_PER_S[pace])
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
    """Seconds of a workload on one store."""
    one_turn = sum(
        before.get((workload, store, case.operation, case.value, one.name)) or of_process(one, store, case)
        for case, one in plan
    )
    return _STORE_S + one_turn * (pairs + (1 if traced else 0))


def place(store: str) -> Store:
    """A store that is not running, to find out which contenders can run on it."""
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
