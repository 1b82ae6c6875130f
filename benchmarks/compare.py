"""`python -m benchmarks compare`: this library against the original and others, turn by turn, in one run."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import machine, peers, progress, report, servers, turns
from .case import MIB, OPERATIONS, Case
from .store import Store

DEFAULT_OPERATIONS = ("put-reserve", "put-write", "put-write-borrowed", "get", "get-ranged")
SMALL_SIZE, SMALL_COUNT = 4096, 10_000
PAGE_PAIRS = 5


def add_common_arguments(parser: argparse.ArgumentParser, *, pairs: int = 5, size: int = 1024) -> None:
    """The options of every command that measures by operations."""
    parser.add_argument("--pairs", type=int, default=pairs, help=f"turns of all contenders (default {pairs})")
    parser.add_argument("--size", type=int, default=size, help=f"MiB of each object (default {size})")
    parser.add_argument("--part-size", type=int, default=16, help="MiB of each part (default 16)")
    parser.add_argument("--range-size", type=int, default=8, help="MiB of each range (default 8)")
    parser.add_argument("--in-flight", type=int, default=16, help="requests in flight (default 16)")
    parser.add_argument(
        "--warmups", type=int, default=1, help="transfers before measuring, in each process (default 1)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="measured transfers in each process (default 3)")
    parser.add_argument("--small-count", type=int, default=SMALL_COUNT, help="objects of 4 KiB for get-many, put-many")
    parser.add_argument("--operations", nargs="+", choices=OPERATIONS, default=list(DEFAULT_OPERATIONS))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `compare`."""
    add_common_arguments(parser)
    parser.add_argument("--stores", nargs="+", choices=servers.STORES, default=["discard", "minio"])
    groups = ", ".join(peers.GROUPS)
    parser.add_argument("--contenders", nargs="+", default=["pair"], help=f"names, or {groups} (default: pair)")
    parser.add_argument("--server-threads", type=int, help="threads of the discard server (default: one per core)")
    parser.add_argument("--output", type=Path, default=peers.ROOT / "benchmarks" / "results" / "compare.json")
    parser.add_argument("--page", type=Path, help="page whose table is replaced, between its markers")


def cases_of(options: argparse.Namespace) -> list[Case]:
    """The cases that the options ask for."""
    cases = []
    for operation in options.operations:
        small = operation.endswith("-many") or operation == "start"
        cases.append(
            Case(
                operation,
                size=SMALL_SIZE if small else options.size * MIB,
                count=options.small_count if operation.endswith("-many") else 1,
                part_size=options.part_size * MIB,
                range_size=options.range_size * MIB,
                in_flight=options.in_flight,
                warmups=options.warmups,
                repeats=options.repeats,
            )
        )
    return cases


def setup_of(options: argparse.Namespace, chosen: Sequence[peers.Contender]) -> dict[str, Any]:
    """How it was measured, for the results and their page."""
    setup: dict[str, Any] = {name: getattr(options, name) for name in ("pairs", "in_flight", "warmups", "repeats")}
    setup |= {
        "size": options.size * MIB,
        "part_size": options.part_size * MIB,
        "range_size": options.range_size * MIB,
        "stores": {},
        "contenders": {one.name: one.label for one in chosen},
        "settings": f"Objects of {options.size} MiB, parts of {options.part_size} MiB, ranges of {options.range_size} "
        f"MiB, {options.in_flight} in flight;",
    }
    return setup


def versions_of(runs: Sequence[dict[str, Any]], facts: dict[str, Any]) -> dict[str, str]:
    """Python's version, and those of the libraries that ours uses."""
    python = next((run["versions"]["python"] for run in runs if "versions" in run), None)
    libraries: dict[str, str] = facts["libraries"]
    return ({"Python": python} if python else {}) | libraries


def describe(store: Store) -> dict[str, str]:
    """What the results say about a store."""
    return {"title": store.title, "version": store.version}


def write(path: Path, facts: dict[str, Any], setup: dict[str, Any], results: turns.Results, complete: bool) -> None:
    """Writes the results as JSON; those of a failed run are marked as incomplete."""
    ratios = report.compare(results.runs) if complete else []
    whole = {
        "complete": complete,
        "machine": facts,
        "setup": setup,
        "summary": report.summarise(results.runs),
        "ratios": ratios,
        "failures": results.failures,
        "runs": results.runs,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1) + "\n")


def compare(options: argparse.Namespace) -> None:
    """Runs all cases, writes the JSON, prints the tables, and puts them into the page if one is named."""
    if options.page and options.pairs < PAGE_PAIRS:
        raise SystemExit(f"--page needs at least {PAGE_PAIRS} pairs")
    try:
        chosen = peers.choose(options.contenders)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    chosen = peers.prepare(chosen)
    facts, cases = machine.facts(), cases_of(options)
    setup = setup_of(options, chosen) | {"server_threads": options.server_threads}
    results, complete = turns.Results(), False
    turns.warm_memory(cases)
    try:
        for name in options.stores:
            try:
                with servers.opened(name, options.server_threads) as store:
                    setup["stores"][name] = describe(store)
                    bar = progress.Bar(turns.count(store, cases, chosen, options.pairs))
                    turns.run(store, cases, chosen, options.pairs, results, bar)
            except servers.MissingServerError as error:
                print(f"left out: {error}", file=sys.stderr)
        complete = True
    finally:
        setup["versions"] = versions_of(results.runs, facts)
        write(options.output, facts, setup, results, complete)
    rows, ratios = report.summarise(results.runs), report.compare(results.runs)
    text = report.markdown(facts, setup, rows, ratios, results.failures)
    print(text)
    if options.page:
        report.insert(options.page, text)
