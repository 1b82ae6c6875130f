"""Runs cases against one store so that contenders take turns (A B C, A B C, ...) and every slow minute falls on all.

Nothing that failed or moved wrong bytes gets into the results. Used by all the commands.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from . import machine, process, progress
from .case import Case
from .peers import Contender
from .process import Measurement
from .store import Store

GIB = 1 << 30
# The most that one run may leave in memory: a store that keeps what was deleted would fill the machine.
STORE_LIMIT = 4 * GIB


@dataclass
class Results:
    """What was measured so far, and who was left out because it failed."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)


def able(contender: Contender, store: Store, case: Case) -> bool:
    """Whether this contender can do this on that store."""
    if case.operation not in contender.operations or (contender.is_floor and store.name != "discard"):
        return False
    return not (case.writes and store.served) and not distrusts(contender, store)


def distrusts(contender: Contender, store: Store) -> bool:
    """Whether this contender cannot be told to trust that store's certificate."""
    return not contender.tls and store.ca is not None


def count(store: Store, cases: Sequence[Case], chosen: Sequence[Contender], pairs: int) -> int:
    """How many processes that makes."""
    return pairs * sum(able(one, store, case) for case in cases for one in chosen)


def warm_memory(cases: Sequence[Case]) -> None:
    """Touches as much as the largest case will need, for the client and for the store."""
    machine.warm(max(4 * case.moved for case in cases) + GIB)


def run(
    store: Store,
    cases: Sequence[Case],
    chosen: Sequence[Contender],
    pairs: int,
    results: Results,
    bar: progress.Bar,
) -> None:
    """Every case, one after the other; appends to `results`, so that what was measured before a failure is kept."""
    for case in cases:
        remaining = [one for one in chosen if able(one, store, case)]
        if not remaining:
            continue
        process.require_memory(store, case)
        for one in chosen:
            if case.operation in one.operations and distrusts(one, store):
                _leave_out(results, store, case, one, "it cannot be told which certificate authority to trust")
        reads = not case.writes
        part_size = case.part_size
        with store.seeded(case.size, case.count, part_size) if reads else contextlib.nullcontext("") as seeded:
            for turn in range(pairs):
                for contender in list(remaining):
                    measurement = Measurement(contender, store, case, seeded, check_content=turn == 0)
                    try:
                        numbers = measurement.run()
                    except RuntimeError as error:
                        if contender.required:
                            raise
                        remaining.remove(contender)
                        bar.skip(pairs - turn)
                        _leave_out(results, store, case, contender, str(error))
                        continue
                    one = _labels(store, case, contender) | {"turn": turn} | numbers
                    one["store_peak_mib"] = measurement.peak_used >> 20
                    results.runs.append(one)
                    bar.step(progress.line(one))
                    if measurement.peak_used > STORE_LIMIT:
                        raise RuntimeError(f"{store.name} took {measurement.peak_used >> 20} MiB of memory")


def _labels(store: Store, case: Case, contender: Contender) -> dict[str, Any]:
    return {
        "store": store.name,
        "operation": case.operation,
        "group": case.group,
        "value": case.value,
        "contender": contender.name,
    }


def _leave_out(results: Results, store: Store, case: Case, contender: Contender, why: str) -> None:
    """A peer that failed once is in no table of this case: its other turns do not count either."""
    labels = _labels(store, case, contender)
    results.runs[:] = [one for one in results.runs if any(one[name] != labels[name] for name in labels)]
    reason = why.strip().splitlines()[-1]
    results.failures.append({name: str(value) for name, value in labels.items()} | {"reason": reason})
    print(f"left out: {contender.name} at {case.title} on {store.name}: {reason}", file=sys.stderr)
