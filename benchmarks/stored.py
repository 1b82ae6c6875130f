"""Results as stored: one line of numbers for each case and contender, by turn. Pure except `read` and `write`.

It keeps only what the page, the plots, the verdicts and the estimate of a run's time are made from, with enough digits
to reproduce them. Summaries and ratios are computed again on reading. Used by `suite.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import report

Row = dict[str, Any]
_KEPT = ("complete", "machine", "setup", "failures")
_OF_ALL = ("turn", "gib_per_s", "cpu_s_per_gib", "peak_added_mib", "wall_s", "loads_botocore", "loads_numpy")
_DIGITS = 7
_DIGITS_OF = {"wall_s": 3}  # serves the estimate only


def _shortened(name: str, value: Any) -> Any:
    """The value with the digits that the page needs: whole numbers lose their fraction."""
    if not isinstance(value, float):
        return value
    digits = _DIGITS_OF.get(name, max(_DIGITS, len(str(int(value))) + 2))
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() else short


def _fields(run: Row) -> list[str]:
    """The fields of a run that are kept: those of its operation's table, and those of verdicts and plots."""
    names = dict.fromkeys((*_OF_ALL, *(column[1] for column in report.columns(run["operation"]))))
    return [name for name in names if name in run]


def pack(whole: Row) -> str:
    """JSON text with one line for each case and contender."""
    head = {name: whole[name] for name in _KEPT}
    head["setup"] = {name: value for name, value in head["setup"].items() if name != "cases"}
    groups: dict[tuple[str, ...], list[Row]] = {}
    for run in whole["runs"]:
        key = (*(run[label] for label in report.LABELS), *_fields(run))
        groups.setdefault(key, []).append(run)
    kinds = list(dict.fromkeys(key[len(report.LABELS) :] for key in groups))
    lines = []
    for key, runs in groups.items():
        labels, names = key[: len(report.LABELS)], key[len(report.LABELS) :]
        numbers = [[_shortened(name, run[name]) for run in runs] for name in names]
        lines.append(_text([list(labels), kinds.index(names), numbers]))
    parts = [f'"{name}": {_text(value)}' for name, value in (*head.items(), ("fields", kinds))]
    return "{" + ",\n".join(parts) + ',\n"runs": [\n' + ",\n".join(lines) + "\n]}\n"


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def unpack(text: str) -> Row:
    """The results that `pack` was given, less what it left out, with summary and ratios."""
    packed: Row = json.loads(text)
    runs: list[Row] = []
    for labels, kind, numbers in packed["runs"]:
        names: Sequence[str] = packed["fields"][kind]
        for values in zip(*numbers, strict=True):
            runs.append(dict(zip(report.LABELS, labels, strict=True)) | dict(zip(names, values, strict=True)))
    return {name: packed[name] for name in _KEPT} | {
        "runs": runs,
        "summary": report.summarise(runs),
        "ratios": report.compare(runs) if packed["complete"] else [],
    }


def write(path: Path, whole: Row) -> None:
    """Writes the results, in a folder that is made if necessary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(pack(whole))


def read(path: Path) -> Row:
    """The results that `write` stored."""
    return unpack(path.read_text())
