"""Draws results as PNG files: bars for a few libraries, lines for a sweep. matplotlib is imported only here.

What is drawn is the median of the processes, with a whisker from the least to the greatest.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .case import OPERATIONS

Row = dict[str, Any]
_OURS, _ORIGINAL, _FLOOR, _OTHER = "#1b6ca8", "#d1603d", "#b5b5b5", "#7fa99b"
_DPI = 110
UNITS = {"peak_added_mib": "memory added, MiB"}


def available() -> bool:
    """Whether matplotlib is there."""
    return importlib.util.find_spec("matplotlib") is not None


def _color(contender: str) -> str:
    if contender.startswith("floor"):
        return _FLOOR
    return _OURS if contender.startswith("ours") else _ORIGINAL if contender.startswith("original") else _OTHER


def _whiskers(values: Sequence[dict[str, float]]) -> list[list[float]]:
    low = [value["median"] - value["min"] for value in values]
    return [low, [value["max"] - value["median"] for value in values]]


def _measure(operation: str) -> tuple[str, str]:
    if operation == "start":
        return "start_s", "seconds until the first object"
    return ("objects_per_s", "objects/s") if operation.endswith("-many") else ("gib_per_s", "GiB/s")


def _figure(panels: int, height: float) -> tuple[Any, list[Any]]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, panels, figsize=(5.2 * panels, height), squeeze=False, layout="constrained")
    return figure, list(axes[0])


def _save(figure: Any, path: Path, title: str) -> None:
    from matplotlib import pyplot

    figure.suptitle(title)
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)


def bars(rows: Sequence[Row], labels: dict[str, str], title: str, path: Path) -> None:
    """One panel for each operation, one bar for each contender."""
    operations = list(dict.fromkeys(row["operation"] for row in rows))
    most = max(sum(row["operation"] == operation for row in rows) for operation in operations)
    figure, axes = _figure(len(operations), 1.4 + 0.32 * most)
    for axis, operation in zip(axes, operations, strict=True):
        mine = [row for row in rows if row["operation"] == operation]
        field, unit = _measure(operation)
        values = [row[field] for row in mine]
        places = range(len(mine))
        colors = [_color(row["contender"]) for row in mine]
        axis.barh(places, [value["median"] for value in values], xerr=_whiskers(values), color=colors, capsize=2)
        axis.set_yticks(places, [labels[row["contender"]] for row in mine], fontsize=8)
        axis.invert_yaxis()
        axis.set_xlabel(unit)
        axis.set_title(OPERATIONS[operation], fontsize=10)
    _save(figure, path, title)


def lines(
    rows: Sequence[Row], labels: dict[str, str], axis_label: str, title: str, path: Path, shown: str = ""
) -> None:
    """One panel for each operation, one line for each contender, over the values of the sweep."""
    operations = list(dict.fromkeys(row["operation"] for row in rows))
    figure, axes = _figure(len(operations), 3.6)
    for axis, operation in zip(axes, operations, strict=True):
        field, unit = (shown, UNITS[shown]) if shown else _measure(operation)
        mine = [row for row in rows if row["operation"] == operation]
        ticks = list(dict.fromkeys(row["value"] for row in mine))
        for contender in dict.fromkeys(row["contender"] for row in mine):
            series = [row for row in mine if row["contender"] == contender]
            values = [row[field] for row in series]
            axis.errorbar(
                [ticks.index(row["value"]) for row in series],
                [value["median"] for value in values],
                yerr=_whiskers(values),
                label=labels[contender],
                color=_color(contender),
                marker="o",
                capsize=3,
            )
        axis.set_xticks(range(len(ticks)), ticks, fontsize=8)
        axis.set_ylim(bottom=0)
        axis.set_xlabel(axis_label)
        axis.set_ylabel(unit)
        axis.set_title(OPERATIONS[operation], fontsize=10)
        axis.legend(fontsize=8)
    _save(figure, path, title)
