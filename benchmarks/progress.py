"""A progress bar on standard error if that is a terminal, else one line for each measurement."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

WIDTH = 24


def line(run: dict[str, Any]) -> str:
    """One measurement's numbers in one line."""
    what = f"{run['store']:9} {run['operation']:20} {run['value'] or '':>8} {run['contender']:22}"
    if "import_s" in run:
        return f"{what} import {1e3 * run['import_s']:.0f} ms, first object {1e3 * run['first_get_s']:.0f} ms"
    speed = f"{run['gib_per_s']:6.2f} GiB/s {run['cpu_s_per_gib']:6.2f} CPU s/GiB {run['peak_added_mib']:7.0f} MiB"
    if run["operation"].endswith("-many"):
        speed = f"{run['objects_per_s']:8.0f} objects/s {run['cpu_us_per_object']:6.0f} CPU us/object"
    return f"{what} {speed}"


class Bar:
    """Counts `total` measurements."""

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self.total, self.done, self.started = total, 0, time.monotonic()
        self.stream = stream or sys.stderr
        self.drawn = self.stream.isatty()

    def step(self, text: str) -> None:
        """Counts one finished measurement."""
        self.done += 1
        if not self.drawn:
            print(f"{self.done:4}/{self.total} {text}", file=self.stream, flush=True)
            return
        filled = WIDTH * self.done // self.total
        took = time.monotonic() - self.started
        left = took / self.done * (self.total - self.done)
        shown = f"[{'#' * filled}{'.' * (WIDTH - filled)}] {self.done}/{self.total}, {left:4.0f} s left  {text}"
        print(f"\r\x1b[K{shown[:160]}", end="" if self.done < self.total else "\n", file=self.stream, flush=True)

    def skip(self, count: int) -> None:
        """Subtracts `count` measurements that will not be made."""
        self.total -= count
