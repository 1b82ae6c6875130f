"""`python -m benchmarks suite`: runs workloads and writes their results, tables and plots into one folder.

Each workload and store has a JSON file of its own there, so that a long run can be made in pieces; the page and the
plots are made from all the files that are there. `make bench` and `make bench-full` run it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from . import compare, machine, peers, plots, progress, report, servers, turns, workloads

PAGE = "results.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `suite`."""
    parser.add_argument("--full", action="store_true", help="all workloads in full size: hours instead of minutes")
    parser.add_argument("--pairs", type=int, default=5, help="turns of all contenders (default 5)")
    parser.add_argument("--workloads", nargs="+", help="names of those to run (default: all)")
    parser.add_argument("--stores", nargs="+", choices=servers.STORES, help="those to run on (default: all)")
    parser.add_argument("--contenders", nargs="+", help="names or groups of those to run (default: all)")
    parser.add_argument("--folder", type=Path, default=peers.ROOT / "docs" / "performance")
    parser.add_argument("--render", action="store_true", help="measure nothing, make page and plots from the files")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be measured")


def chosen_workloads(options: argparse.Namespace) -> list[tuple[workloads.Workload, str, list[peers.Contender]]]:
    """Workload, store and contenders, in the order they run. Raises ValueError when nothing has such a name."""
    found = []
    known = workloads.full() if options.full else workloads.quick()
    unknown = set(options.workloads or ()) - {one.name for one in known}
    if unknown:
        raise ValueError(f"no workload is called {' or '.join(sorted(unknown))}")
    wanted = {one.name for one in peers.choose(options.contenders or ["all"])}
    for workload in known:
        if options.workloads and workload.name not in options.workloads:
            continue
        contenders = [one for one in peers.choose(workload.contenders) if one.name in wanted]
        found += [
            (workload, name, contenders) for name in workload.stores if name in (options.stores or servers.STORES)
        ]
    return found


def _measure(
    workload: workloads.Workload, name: str, chosen: list[peers.Contender], options: argparse.Namespace
) -> None:
    facts, results, complete = machine.facts(), turns.Results(), False
    first = workload.cases[0]
    setup: dict[str, Any] = {
        "workload": workload.name,
        "title": workload.title,
        "about": workload.about,
        "axis": workload.axis,
        "pairs": options.pairs,
        "warmups": first.warmups,
        "repeats": first.repeats,
        "settings": workload.about,
        "contenders": {one.name: one.label for one in chosen},
        "stores": {},
        "cases": [case.as_json() for case in workload.cases],
    }
    turns.warm_memory(workload.cases)
    try:
        with servers.opened(name) as store:
            setup["stores"][name] = compare.describe(store)
            bar = progress.Bar(turns.count(store, workload.cases, chosen, options.pairs))
            turns.run(store, workload.cases, chosen, options.pairs, results, bar)
        complete = True
    finally:
        setup["versions"] = compare.versions_of(results.runs, facts)
        if results.runs:
            path = options.folder / f"{workload.name}-{name}.json"
            compare.write(path, facts, setup, results, complete)


def render(folder: Path) -> Path:
    """Makes the page and the plots from the complete results in the folder; returns the page."""
    parts = [
        "# Measurements",
        "",
        "Written by `python -m benchmarks suite`; do not edit. See [the method](../performance.md).",
    ]
    drawn = plots.available()
    if not drawn:
        print("matplotlib is not installed: no plots (`pip install 'matplotlib>=3.8'`)", file=sys.stderr)
    order = list(dict.fromkeys(f"{one.name}-{store}" for one in workloads.full() for store in servers.STORES))
    files = sorted(folder.glob("*.json"), key=lambda file: order.index(file.stem) if file.stem in order else len(order))
    for file in files:
        whole = json.loads(file.read_text())
        if not whole.get("complete"):
            print(f"left out: {file.name} is not complete", file=sys.stderr)
            continue
        setup, rows = whole["setup"], whole["summary"]
        title = f"{setup['title']}: {next(iter(setup['stores'].values()))['title']}"
        parts += ["", f"## {title}", "", report.conditions(whole["machine"], setup), ""]
        if drawn:
            image = file.with_suffix(".png")
            if setup["axis"]:
                plots.lines(rows, setup["contenders"], setup["axis"], title, image)
            else:
                plots.bars(rows, setup["contenders"], title, image)
            parts += [f"![{title}]({image.name})", ""]
        parts.append(report.body(setup, rows, whole["ratios"], whole["failures"]).rstrip())
    page = folder / PAGE
    page.write_text("\n".join(parts) + "\n")
    return page


def suite(options: argparse.Namespace) -> None:
    """Measures, then renders; what was measured before a failure stays."""
    options.folder.mkdir(parents=True, exist_ok=True)
    if not options.render:
        try:
            plan = chosen_workloads(options)
        except ValueError as error:
            raise SystemExit(str(error)) from None
        if options.dry_run:
            for workload, name, chosen in plan:
                print(
                    f"{workload.name:10} {name:10} {len(workload.cases)} cases: {' '.join(one.name for one in chosen)}"
                )
            return
        ready = peers.prepare([one for _, _, chosen in plan for one in chosen])
        try:
            for workload, name, chosen in plan:
                try:
                    _measure(workload, name, [one for one in chosen if one in ready], options)
                except servers.MissingServerError as error:
                    print(f"left out: {workload.name} on {name}: {error}", file=sys.stderr)
        finally:
            render(options.folder)
    print(render(options.folder))
