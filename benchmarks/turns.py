"""Runs cases against one store so that contenders take turns (A B C, A B C, ...) and a slow minute affects all of them.

The results hold no run that failed or moved wrong bytes. Used by all the commands.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from . import machine, process, progress, syscalls
from .case import Case
from .peers import Contender
from .process import Measurement
from .store import Store

GIB = 1 << 30
# The most bytes that one run may leave in memory: a store that keeps deleted objects would fill the machine.
STORE_LIMIT = 4 * GIB


@dataclass
class Results:
    """The runs so far, and the contenders that were left out because they failed."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)


def able(contender: Contender, store: Store, case: Case) -> bool:
    """Whether this contender can run this case on that store."""
    if case.by and contender.name not in case.by:
        return False
    if case.operation not in contender.operations or (contender.is_floor and store.name != "discard"):
        return False
    return not (case.writes and store.served) and not distrusts(contender, store)


def distrusts(contender: Contender, store: Store) -> bool:
    """Whether this contender has no setting to trust that store's certificate."""
    return not contender.tls and store.ca is not None


def plan(store: Store, cases: Sequence[Case], chosen: Sequence[Contender]) -> list[tuple[Case, Contender]]:
    """The cases and contenders of one turn, in order."""
    return [(case, one) for case in cases for one in chosen if able(one, store, case)]


def count(store: Store, cases: Sequence[Case], chosen: Sequence[Contender], pairs: int) -> int:
    """The number of processes in all turns."""
    return pairs * len(plan(store, cases, chosen))


def warm_memory(cases: Sequence[Case]) -> None:
    """Touches as much as the largest case will need, for the client and for the store."""
    machine.warm(max(case.held + min(case.moved, STORE_LIMIT) for case in cases) + GIB)


def blocks(cases: Sequence[Case]) -> Iterator[list[Case]]:
    """Cases whose turns mix: all that write, and consecutive ones that read the same objects."""
    for _, block in itertools.groupby(cases, lambda one: (one.writes, () if one.writes else one.sizes)):
        yield list(block)


def run(
    store: Store,
    cases: Sequence[Case],
    chosen: Sequence[Contender],
    pairs: int,
    results: Results,
    bar: progress.Bar,
    *,
    traced: bool = False,
) -> None:
    """Runs block by block; within a block, all contenders take turns at all cases.

    Appends to `results`, so that runs from before a failure are kept. If `traced`, one more turn at the end
    counts system calls, where that is possible.
    """
    for block in blocks(cases):
        remaining = plan(store, block, chosen)
        for case in block:
            process.require_memory(store, case)
            for one in chosen:
                if case.operation in one.operations and distrusts(one, store):
                    _leave_out(results, store, case, one, "it has no setting for the certificate authority")
        if not remaining:
            continue
        first = block[0]
        objects = store.seeded(first.sizes, first.part_size)
        with contextlib.nullcontext("") if first.writes else objects as seeded:
            for turn in range(pairs):
                for case, contender in list(remaining):
                    measurement = Measurement(contender, store, case, seeded, check_content=turn == 0)
                    began = time.monotonic()
                    try:
                        numbers = measurement.run()
                    except RuntimeError as error:
                        if contender.required:
                            raise
                        remaining.remove((case, contender))
                        bar.skip(pairs - turn)
                        _leave_out(results, store, case, contender, str(error))
                        continue
                    found = _labels(store, case, contender) | {"turn": turn} | numbers
                    found["store_peak_mib"] = measurement.peak_used >> 20
                    found["wall_s"] = time.monotonic() - began
                    results.runs.append(found)
                    bar.step(progress.line(found))
                    if measurement.peak_used > STORE_LIMIT:
                        raise RuntimeError(f"{store.name} took {measurement.peak_used >> 20} MiB of memory")
            if traced and syscalls.available():
                for case, contender in remaining:
                    _count_calls(store, case, contender, seeded, results)


def _count_calls(store: Store, case: Case, contender: Contender, seeded: str, results: Results) -> None:
    """Adds the counts of one more transfer, in a separate process, to each run of this contender at this case."""
    once = replace(case, warmups=0 if contender.is_floor else max(case.warmups, 1), repeats=1)
    try:
        calls = Measurement(contender, store, once, seeded, traced=True).run()["syscalls"]
    except (RuntimeError, OSError) as error:
        print(f"no system calls of {contender.name} at {case.title}: {error}", file=sys.stderr)
        return
    labels = _labels(store, case, contender)
    total = sum(calls.values())
    for one in results.runs:
        if all(one[name] == value for name, value in labels.items()):
            one["syscalls"] = calls
            one["syscalls_per_gib"] = total / (case.moved / GIB)
            one["syscalls_per_object"] = total / len(case.sizes)


def _labels(store: Store, case: Case, contender: Contender) -> dict[str, Any]:
    return {
        "store": store.name,
        "operation": case.operation,
        "group": case.group,
        "value": case.value,
        "contender": contender.name,
    }


def _leave_out(results: Results, store: Store, case: Case, contender: Contender, why: str) -> None:
    """Leaves a peer that failed once out of this case's tables: its other turns do not count either."""
    labels = _labels(store, case, contender)
    results.runs[:] = [one for one in results.runs if any(one[name] != labels[name] for name in labels)]
    reason = why.strip().splitlines()[-1]
    results.failures.append({name: str(value) for name, value in labels.items()} | {"reason": reason})
    print(f"left out: {contender.name} at {case.title} on {store.name}: {reason}", file=sys.stderr)
