"""Draws results as PNG files: bars by contender, lines for a sweep. matplotlib is imported only here.

Shown is the median of the processes, with a whisker from the least to the greatest.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .case import OPERATIONS

Row = dict[str, Any]
_COLORS = {"ours": "#1b6ca8", "ours-": "#7fb6de", "original": "#d1603d", "original-": "#eeb09b", "floor-": "#b5b5b5"}
_OTHER = "#7fa99b"
_DPI = 110
_WIDTH, _BAR = 11.0, 0.26  # inches
_MILLISECONDS = ("import_s", "first_get_s")
UNITS = {
    "gib_per_s": "GiB/s",
    "cpu_s_per_gib": "CPU s/GiB",
    "objects_per_s": "objects/s",
    "cpu_us_per_object": "CPU us/object",
    "import_s": "import, ms",
    "first_get_s": "client and first object, ms",
    "peak_added_mib": "memory added, MiB",
}


def available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def _color(contender: str) -> str:
    """A library's own color, and a lighter one for it with other settings."""
    name, dash, _ = contender.partition("-")
    return _COLORS.get(name + dash, _OTHER)


def _whiskers(values: Sequence[dict[str, float]]) -> list[list[float]]:
    low = [value["median"] - value["min"] for value in values]
    return [low, [value["max"] - value["median"] for value in values]]


def _measures(operation: str, shown: str) -> tuple[str, str]:
    """The two fields that judge a contender at this: its speed, and what that costs."""
    if operation == "start":
        return "import_s", "first_get_s"
    if operation.endswith("-many") and not shown:
        return "objects_per_s", "cpu_us_per_object"
    return shown or "gib_per_s", "cpu_s_per_gib"


def _subplots(rows: int, columns: int, size: tuple[float, float], **more: Any) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **more)
    return figure, axes


def _save(figure: Any, path: Path, title: str) -> None:
    from matplotlib import pyplot

    figure.suptitle(title)
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)


def bars(rows: Sequence[Row], labels: dict[str, str], title: str, path: Path, shown: str = "") -> None:
    """One line of panels for each operation, one bar for each contender: its throughput, and what that costs."""
    panels: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        panels.setdefault((row["operation"], row["value"]), []).append(row)
    heights = [len(mine) + 2.5 for mine in panels.values()]
    size = (_WIDTH, 0.6 + _BAR * sum(heights))
    figure, axes = _subplots(len(panels), 2, size, sharey="row", gridspec_kw={"height_ratios": heights})
    for line, ((operation, value), mine) in zip(axes, panels.items(), strict=True):
        for axis, field in zip(line, _measures(operation, shown), strict=True):
            _bars(axis, mine, field)
        line[0].set_yticks(range(len(mine)), [labels[row["contender"]] for row in mine], fontsize=8)
        line[0].set_title(OPERATIONS[operation] + (f", {value}" if value else ""), fontsize=10, loc="left")
        line[0].invert_yaxis()
    _save(figure, path, title)


def _bars(axis: Any, rows: Sequence[Row], field: str) -> None:
    factor = 1000.0 if field in _MILLISECONDS else 1.0
    values = [{name: factor * value for name, value in row[field].items()} for row in rows]
    medians = [value["median"] for value in values]
    colors = [_color(row["contender"]) for row in rows]
    drawn = axis.barh(range(len(rows)), medians, xerr=_whiskers(values), color=colors, capsize=2)
    digits = 0 if max(medians) >= 100 else 2
    axis.bar_label(drawn, [f" {median:,.{digits}f}" for median in medians], fontsize=7, padding=2)
    axis.set_xlim(0, 1.15 * max(value["max"] for value in values))
    axis.set_xlabel(UNITS[field], fontsize=8)
    axis.tick_params(labelsize=8)


def lines(
    rows: Sequence[Row], labels: dict[str, str], axis_label: str, title: str, path: Path, shown: str = ""
) -> None:
    """One panel for each operation, one line for each contender, over the values of the sweep."""
    operations = list(dict.fromkeys(row["operation"] for row in rows))
    figure, axes = _subplots(1, len(operations), (5.2 * len(operations), 3.6))
    for axis, operation in zip(axes[0], operations, strict=True):
        field, _ = _measures(operation, shown)
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
        axis.set_xticks(range(len(ticks)), [tick.removesuffix(" in flight") for tick in ticks], fontsize=8)
        axis.set_ylim(bottom=0)
        axis.set_xlabel(axis_label)
        axis.set_ylabel(UNITS[field])
        axis.set_title(OPERATIONS[operation], fontsize=10)
        axis.legend(fontsize=8)
    _save(figure, path, title)
