"""From runs to a page: medians with their spread, ratios within pairs, and tables in Markdown.

Pure except `insert`; used by the commands.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .case import OPERATIONS

BEGIN = "<!-- compare: begin (written by `python -m benchmarks compare`) -->"
END = "<!-- compare: end -->"
# Pairs whose speeds are divided: with their defaults, and without checks of uploads on either side.
RATIOS = (("ours", "original"), ("ours", "original-unsigned"), ("ours-unchecked", "original-unsigned"))
LABELS = ("store", "operation", "group", "value", "contender")

Row = dict[str, Any]
# Heading, field, factor, digits.
Column = tuple[str, str, float, int]
LARGE: tuple[Column, ...] = (
    ("GiB/s", "gib_per_s", 1, 2),
    ("user CPU s/GiB", "user_s_per_gib", 1, 2),
    ("system CPU s/GiB", "sys_s_per_gib", 1, 2),
    ("Memory added, MiB", "peak_added_mib", 1, 0),
    ("Peak RSS, MiB", "peak_rss_mib", 1, 0),
    ("Context switches/GiB", "switches_per_gib", 1, 0),
    ("System calls/GiB", "syscalls_per_gib", 1, 0),
)
SMALL: tuple[Column, ...] = (
    ("objects/s", "objects_per_s", 1, 0),
    ("CPU us/object", "cpu_us_per_object", 1, 0),
    ("GiB/s", "gib_per_s", 1, 2),
    ("Memory added, MiB", "peak_added_mib", 1, 0),
    ("Peak RSS, MiB", "peak_rss_mib", 1, 0),
    ("System calls/object", "syscalls_per_object", 1, 1),
)
START: tuple[Column, ...] = (
    ("import, ms", "import_s", 1000, 0),
    ("client and first object, ms", "first_get_s", 1000, 0),
    ("both, ms", "start_s", 1000, 0),
)


def columns(operation: str) -> tuple[Column, ...]:
    """The columns of a table of this operation."""
    return START if operation == "start" else SMALL if operation.endswith("-many") else LARGE


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest of some values."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def _groups(runs: Sequence[Row]) -> dict[tuple[str, ...], list[Row]]:
    groups: dict[tuple[str, ...], list[Row]] = {}
    for run in runs:
        groups.setdefault(tuple(run[label] for label in LABELS), []).append(run)
    return groups


def summarise(runs: Sequence[Row]) -> list[Row]:
    """One row for each store, case and contender, in the order they were run; each number with its spread."""
    rows = []
    for key, group in _groups(runs).items():
        row: Row = dict(zip(LABELS, key, strict=True)) | {"pairs": len(group)}
        for name in group[0]:
            if name not in (*LABELS, "turn") and isinstance(group[0][name], (int, float)):
                row[name] = spread([run[name] for run in group])
        rows.append(row)
    return rows


def compare(runs: Sequence[Row]) -> list[Row]:
    """Our speed and our CPU time over the original's: `of_medians`, and the spread of the ratios within each pair."""
    groups = _groups(runs)
    found = []
    for case in dict.fromkeys(key[:-1] for key in groups):
        for ours, theirs in RATIOS:
            if (*case, ours) not in groups or (*case, theirs) not in groups:
                continue
            row: Row = dict(zip(LABELS, case, strict=False)) | {"ours": ours, "theirs": theirs}
            for name in ("gib_per_s", "cpu_s_per_gib"):
                if any(name not in run for who in (ours, theirs) for run in groups[(*case, who)]):
                    continue
                our, their = ([run[name] for run in groups[(*case, who)]] for who in (ours, theirs))
                row[name] = {
                    "of_medians": statistics.median(our) / statistics.median(their),
                    "of_pairs": spread([a / b for a, b in zip(our, their, strict=True)]),
                }
            if "gib_per_s" in row:
                found.append(row)
    return found


def _cell(values: dict[str, float] | None, factor: float, digits: int) -> str:
    if values is None:
        return ""
    low, middle, high = (f"{factor * values[name]:,.{digits}f}" for name in ("min", "median", "max"))
    return middle if low == high else f"{middle} ({low}-{high})"


def conditions(facts: Row, setup: Row) -> str:
    """The machine, versions and settings, in sentences."""
    lines = [
        f"Measured {facts['date']} at commit {facts['commit']} on {facts['cores']} cores of {facts['cpu']}, "
        f"{facts['memory_gib']} GiB, Linux {facts['kernel']}; load before: {facts['load_before']:.2f}.",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in setup["versions"].items()) + ".",
        f"{setup['settings']} Turns: {setup['pairs']}, with one process of each contender. Transfers per process: "
        f"{setup['warmups']} to warm up, {setup['repeats']} measured. "
        "Figures: median (least-greatest) of the processes.",
    ]
    return "\n".join(lines)


def table(rows: Sequence[Row], labels: dict[str, str]) -> str:
    """One table of rows whose operations have the same columns."""
    shown = [column for column in columns(rows[0]["operation"]) if any(column[1] in row for row in rows)]
    heads = ["Operation", "Library", *(column[0] for column in shown)]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in rows:
        title = OPERATIONS[row["operation"]] + (f", {row['value']}" if row["value"] else "")
        cells = [title, labels[row["contender"]]]
        cells += [_cell(row.get(name), factor, digits) for _, name, factor, digits in shown]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratio_table(rows: Sequence[Row], labels: dict[str, str]) -> str:
    """Our numbers over the original's."""
    lines = [
        "| Operation | Ratio | GiB/s, of medians | GiB/s, within pairs | CPU, of medians | CPU, within pairs |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        title = OPERATIONS[row["operation"]] + (f", {row['value']}" if row["value"] else "")
        cells = [title, f"{labels[row['ours']]} / {labels[row['theirs']]}"]
        for name in ("gib_per_s", "cpu_s_per_gib"):
            cells += [f"{row[name]['of_medians']:.2f}", _cell(row[name]["of_pairs"], 1, 2)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def body(setup: Row, rows: Sequence[Row], ratios: Sequence[Row], failures: Sequence[Row] = ()) -> str:
    """For each store its tables of numbers and of ratios, and the contenders left out."""
    labels = setup["contenders"]
    parts = []
    for store in dict.fromkeys(row["store"] for row in rows):
        parts.append(f"**{setup['stores'][store]['title']}** ({setup['stores'][store]['version']})")
        for kind in (LARGE, SMALL, START):
            mine = [row for row in rows if row["store"] == store and columns(row["operation"]) is kind]
            if mine:
                parts.append(table(mine, labels))
        mine = [row for row in ratios if row["store"] == store]
        if mine:
            parts.append(ratio_table(mine, labels))
        for one in failures:
            if one["store"] == store:
                what = f"{OPERATIONS[one['operation']]}: `{one['reason']}`"
                parts.append(f"Left out: {labels[one['contender']]} failed at {what}.")
    return "\n\n".join(parts) + "\n"


def markdown(facts: Row, setup: Row, rows: Sequence[Row], ratios: Sequence[Row], failures: Sequence[Row] = ()) -> str:
    """The conditions and the tables."""
    return conditions(facts, setup) + "\n\n" + body(setup, rows, ratios, failures)


def insert(page: Path, text: str) -> None:
    """Replaces the text between the markers of the page. Raises ValueError unless it has each marker exactly once."""
    before = page.read_text()
    if before.count(BEGIN) != 1 or before.count(END) != 1:
        raise ValueError(f"{page} needs one '{BEGIN}' and one '{END}'")
    head, rest = before.split(BEGIN)
    page.write_text(f"{head}{BEGIN}\n\n{text}\n{END}{rest.split(END)[1]}")
