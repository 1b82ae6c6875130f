"""From runs to numbers to a page: medians with their spread, ratios, and the table between the markers of the page.

Pure but for `insert`; used by `compare.py`.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BEGIN = "<!-- compare: begin (written by `python -m benchmarks compare`) -->"
END = "<!-- compare: end -->"
# Whose speed is divided by whose: as they come, and without any check of uploads on either side.
RATIOS = (("ours", "original"), ("ours", "original-unsigned"), ("ours-unchecked", "original-unsigned"))

OPERATIONS = {
    "put-reserve": "PUT, reserve, fill, commit",
    "put-reserve-unfilled": "PUT, reserve, commit (not filled)",
    "put-write": "PUT, write(memoryview)",
    "put-write-borrowed": "PUT, write(memoryview, copy=False)",
    "put-write-copied": "PUT, write(memoryview, copy=True)",
    "get": "GET, one request",
    "get-ranged": "GET, parallel ranges",
}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest of some values."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summarise(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each store, operation and contender, in the order they were run."""
    groups = _groups(runs)
    rows = []
    for (store, operation, contender), group in groups.items():
        row: dict[str, Any] = {"store": store, "operation": operation, "contender": contender, "pairs": len(group)}
        for field in ("gib_per_s", "cpu_s_per_gib", "peak_rss_mib", "peak_added_mib"):
            row[field] = spread([run[field] for run in group])
        rows.append(row)
    return rows


def _groups(runs: Sequence[dict[str, Any]]) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["store"], run["operation"], run["contender"]), []).append(run)
    return groups


def compare(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Our speed and our CPU time over the original's: `of_medians`, and the spread of the ratios within each pair."""
    groups = _groups(runs)
    found = []
    for store, operation in dict.fromkeys((run["store"], run["operation"]) for run in runs):
        for ours, theirs in RATIOS:
            if (store, operation, ours) not in groups or (store, operation, theirs) not in groups:
                continue
            row: dict[str, Any] = {"store": store, "operation": operation, "ours": ours, "theirs": theirs}
            for field in ("gib_per_s", "cpu_s_per_gib"):
                our, their = ([run[field] for run in groups[store, operation, who]] for who in (ours, theirs))
                row[field] = {
                    "of_medians": statistics.median(our) / statistics.median(their),
                    "of_pairs": spread([a / b for a, b in zip(our, their, strict=True)]),
                }
            found.append(row)
    return found


def _cell(values: dict[str, float], digits: int) -> str:
    return f"{values['median']:.{digits}f} ({values['min']:.{digits}f}-{values['max']:.{digits}f})"


def markdown(
    facts: dict[str, Any], setup: dict[str, Any], rows: Sequence[dict[str, Any]], ratios: Sequence[dict[str, Any]]
) -> str:
    """The facts, and for each store a table of speeds and one of ratios."""
    lines = [
        f"Measured {facts['date']} at commit {facts['commit']} on {facts['cores']} cores of {facts['cpu']}, "
        f"{facts['memory_gib']} GiB, Linux {facts['kernel']}; load before: {facts['load_before']:.2f}.",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in setup["versions"].items()) + ".",
        f"Objects of {setup['size'] >> 20} MiB, parts of {setup['part_size'] >> 20} MiB, {setup['in_flight']} in "
        f"flight; {setup['pairs']} turns, in each of which every contender had one process with "
        f"{setup['warmups']} warm-up and {setup['repeats']} measured transfers. "
        "Median (least-greatest) of the processes.",
    ]
    for store in dict.fromkeys(row["store"] for row in rows):
        lines += ["", f"**{setup['stores'][store]['title']}** ({setup['stores'][store]['version']})", ""]
        lines += ["| Operation | Library | GiB/s | CPU s/GiB | Memory added, MiB |", "|---|---|---|---|---|"]
        lines += [_speed_line(row, setup) for row in rows if row["store"] == store]
        lines += [
            "",
            "| Operation | Ratio | GiB/s, of medians | GiB/s, within pairs | CPU, of medians | CPU, within pairs |",
        ]
        lines += ["|---|---|---|---|---|---|"]
        lines += [_ratio_line(row, setup) for row in ratios if row["store"] == store]
    return "\n".join(lines) + "\n"


def _speed_line(row: dict[str, Any], setup: dict[str, Any]) -> str:
    cells = [
        OPERATIONS[row["operation"]],
        setup["contenders"][row["contender"]],
        _cell(row["gib_per_s"], 2),
        _cell(row["cpu_s_per_gib"], 2),
        _cell(row["peak_added_mib"], 0),
    ]
    return "| " + " | ".join(cells) + " |"


def _ratio_line(row: dict[str, Any], setup: dict[str, Any]) -> str:
    labels = setup["contenders"]
    cells = [OPERATIONS[row["operation"]], f"{labels[row['ours']]} / {labels[row['theirs']]}"]
    for field in ("gib_per_s", "cpu_s_per_gib"):
        cells += [f"{row[field]['of_medians']:.2f}", _cell(row[field]["of_pairs"], 2)]
    return "| " + " | ".join(cells) + " |"


def insert(page: Path, text: str) -> None:
    """Replaces what is between the markers of the page. Raises ValueError when the page has not both, once each."""
    before = page.read_text()
    if before.count(BEGIN) != 1 or before.count(END) != 1:
        raise ValueError(f"{page} needs one '{BEGIN}' and one '{END}'")
    head, rest = before.split(BEGIN)
    page.write_text(f"{head}{BEGIN}\n\n{text}\n{END}{rest.split(END)[1]}")
