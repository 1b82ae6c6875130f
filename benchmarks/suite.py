"""`python -m benchmarks suite`: runs workloads, stores their results, and makes the page and the plots from them.

Each workload and store has a JSON file of its own, so that a long run can be split; the page and the plots are
made from all files in the folder. `make bench` and `make bench-full` run it. A failure ends its own workload
only; the run reports it at the end.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from . import compare, estimate, goals, machine, peers, plots, progress, report, servers, stored, turns, workloads

PAGE = "results.md"
FOLDER = peers.ROOT / "docs" / "performance"
QUICK_FOLDER = FOLDER / "quick"  # so that a short run never replaces the results of a full one
MEASUREMENTS = peers.ROOT / "benchmarks" / "measurements"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `suite`."""
    parser.add_argument("--full", action="store_true", help="all workloads in full size: an hour instead of 5 minutes")
    parser.add_argument("--pairs", type=int, default=5, help="turns of all contenders (default 5)")
    parser.add_argument("--workloads", nargs="+", help="names of those to run (default: all)")
    parser.add_argument("--stores", nargs="+", choices=servers.STORES, help="those to run on (default: all)")
    parser.add_argument("--contenders", nargs="+", help="names or groups of those to run (default: all)")
    parser.add_argument("--folder", type=Path, help=f"default: {FOLDER.relative_to(peers.ROOT)} for --full, else quick")
    parser.add_argument("--render", action="store_true", help="measure nothing, make page and plots from the files")
    parser.add_argument("--dry-run", action="store_true", help="only print what would be measured, and for how long")


def chosen_workloads(options: argparse.Namespace) -> list[tuple[workloads.Workload, str, list[peers.Contender]]]:
    """Workload, store and contenders, in the order they run. Raises ValueError for an unknown name."""
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


def turns_of(workload: workloads.Workload, pairs: int) -> int:
    """The number of turns of a workload, given the number requested."""
    return min(pairs, workload.pairs or pairs)


def _between(values: list[int]) -> str:
    return f"{min(values)}" if min(values) == max(values) else f"{min(values)} to {max(values)}"


def _measure(
    workload: workloads.Workload, name: str, chosen: list[peers.Contender], options: argparse.Namespace
) -> None:
    facts, results, complete = machine.facts(), turns.Results(), False
    pairs = turns_of(workload, options.pairs)
    setup: dict[str, Any] = {
        "workload": workload.name,
        "title": workload.title,
        "about": workload.about,
        "axis": workload.axis,
        "shown": workload.shown,
        "pairs": pairs,
        "warmups": _between([case.warmups for case in workload.cases]),
        "repeats": _between([case.repeats for case in workload.cases]),
        "settings": workload.about,
        "contenders": {one.name: one.label for one in chosen},
        "stores": {},
        "cases": [case.as_json() for case in workload.cases],
    }
    turns.warm_memory(workload.cases)
    try:
        with servers.opened(name) as store:
            setup["stores"][name] = compare.describe(store)
            bar = progress.Bar(turns.count(store, workload.cases, chosen, pairs))
            turns.run(store, workload.cases, chosen, pairs, results, bar, traced=workload.traced)
        complete = True
    finally:
        setup["versions"] = compare.versions_of(results.runs, facts)
        if results.runs:
            whole = {"complete": complete, "machine": facts, "setup": setup}
            whole |= {"failures": results.failures, "runs": results.runs}
            stored.write(measurements_of(options.folder) / f"{workload.name}-{name}.json", whole)


def measurements_of(folder: Path) -> Path:
    """The folder with the results that a folder's page is made from."""
    return MEASUREMENTS if folder == FOLDER else folder


def results_in(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The complete files of results, in the order of the workloads."""
    order = list(dict.fromkeys(f"{one.name}-{store}" for one in workloads.full() for store in servers.STORES))
    files = sorted(
        measurements_of(folder).glob("*.json"),
        key=lambda file: order.index(file.stem) if file.stem in order else len(order),
    )
    found = [(file, stored.read(file)) for file in files]
    for file, whole in found:
        if not whole.get("complete"):
            print(f"left out: {file.name} is not complete", file=sys.stderr)
    return [(file, whole) for file, whole in found if whole.get("complete")]


def render(folder: Path) -> Path:
    """Makes the page and the plots from the complete results in the folder; returns the page."""
    found = results_in(folder)
    method = "../performance.md" if folder == FOLDER else "../../performance.md"
    parts = [
        "# Measurements",
        "",
        f"Written by `python -m benchmarks suite`; do not edit. See [the method]({method}).",
        "",
        "## Goals and verdicts",
        "",
        "Computed from the runs below: our median divided by the opponent's, with the least and the greatest ratio "
        "within a turn. The opponent is the fastest of those named. Peers configured to check uploads as this library "
        "does have a row of their own, next to the row for peers with their defaults.",
        "",
        goals.table(goals.verdicts([whole for _, whole in found])),
    ]
    drawn = plots.available()
    if not drawn:
        print("matplotlib is not installed: no plots (`pip install 'matplotlib>=3.8'`)", file=sys.stderr)
    for file, whole in found:
        setup, rows = whole["setup"], whole["summary"]
        title = f"{setup['title']}: {next(iter(setup['stores'].values()))['title']}"
        parts += ["", f"## {title}", "", report.conditions(whole["machine"], setup), ""]
        if drawn:
            image = folder / f"{file.stem}.png"
            if setup["axis"]:
                plots.lines(rows, setup["contenders"], setup["axis"], title, image, setup["shown"])
            else:
                plots.bars(rows, setup["contenders"], title, image, setup["shown"])
            parts += [f"![{title}]({image.name})", ""]
        if setup.get("workload") == "threshold":
            parts += [goals.threshold_table(rows, setup["contenders"]), ""]
        parts.append(report.body(setup, rows, whole["ratios"], whole["failures"]).rstrip())
    page = folder / PAGE
    page.write_text("\n".join(parts) + "\n")
    return page


def _say(plan: list[tuple[workloads.Workload, str, list[peers.Contender]]], options: argparse.Namespace) -> None:
    """Prints what would be measured, and how long that will take."""
    before = estimate.known(whole for _, whole in results_in(options.folder))
    total = 0.0
    for workload, name, chosen in plan:
        pairs = turns_of(workload, options.pairs)
        one_turn = turns.plan(estimate.place(name), workload.cases, chosen)
        took = estimate.seconds(one_turn, workload.name, name, pairs, before, workload.traced)
        total += took
        size = f"{len(workload.cases)} cases, {len(one_turn)} processes x {pairs}"
        who = " ".join(one.name for one in chosen)
        print(f"{workload.name:12} {name:10} {size:30} {took / 60:5.1f} min: {who}")
    source = "what earlier processes took" if before else "rough numbers for two cores"
    print(f"about {total / 60:.0f} minutes, by {source}")


def suite(options: argparse.Namespace) -> None:
    """Measures, then renders; results from before a failure are kept."""
    options.folder = options.folder or (FOLDER if options.full else QUICK_FOLDER)
    options.folder.mkdir(parents=True, exist_ok=True)
    failed = []
    if not options.render:
        try:
            plan = chosen_workloads(options)
        except ValueError as error:
            raise SystemExit(str(error)) from None
        if options.dry_run:
            _say(plan, options)
            return
        ready = peers.prepare([one for _, _, chosen in plan for one in chosen])
        try:
            for workload, name, chosen in plan:
                try:
                    _measure(workload, name, [one for one in chosen if one in ready], options)
                except servers.MissingServerError as error:
                    print(f"left out: {workload.name} on {name}: {error}", file=sys.stderr)
                except RuntimeError as error:
                    failed.append(f"{workload.name} on {name}: {error}")
                    print(failed[-1], file=sys.stderr)
        finally:
            render(options.folder)
    print(render(options.folder))
    if failed:
        raise SystemExit(f"{len(failed)} workloads ended early, see above")
