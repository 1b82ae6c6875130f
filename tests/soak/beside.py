"""What runs beside the scenarios of a soak, in processes of its own: state machines, fuzz targets, a busy collector.

One after the other until the time is up; what they have counted is added to the soak's counts.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from counts import Counts

ROOT = Path(__file__).parent.parent.parent
FUZZ_SECONDS = 10
COLLECTOR_SECONDS = 5
LONGEST = 900.0  # seconds that one of them may take on a busy machine


class Beside:
    """Runs them on a thread while its `with` block does; `broken` has the output of those that failed."""

    def __init__(self, seed: int, counts: Counts, end: float) -> None:
        self._seed = seed
        self._counts = counts
        self._end = end
        self.broken: list[str] = []
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._end = 0.0
        self._thread.join()

    def _work(self) -> None:
        for number in count():
            for run in (self._fuzz, self._search, self._collect):
                if time.monotonic() > self._end or self.broken:
                    return
                run(self._seed + number)

    def _search(self, seed: int) -> None:
        """The state machines of writer and reader."""
        with tempfile.NamedTemporaryFile("r") as tally:
            extent = {"S3DLIO_TESTS": "soak", "S3DLIO_TALLY": tally.name}
            machines = ["tests/models/test_writer_machine.py", "tests/models/test_reader_machine.py"]
            command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--hypothesis-seed={seed}", *machines]
            self._run(command, extent)
            for line in tally:
                told = json.loads(line)
                self._counts.add("hypothesis examples", told.get("examples", 0))
                self._counts.add("injected faults", told.get("faults", 0))

    def _fuzz(self, seed: int) -> None:
        out = self._run(["tests/fuzz/run.py", str(FUZZ_SECONDS), str(seed % (1 << 31))], {})
        for executions in re.findall(r"(\d+) executions", out):
            self._counts.add("fuzz executions", int(executions))

    def _collect(self, _: int) -> None:
        """Writers, views and reservations dropped in cycles, while the collector runs at random points."""
        out = self._run(["-W", "ignore", "tests/models/stress.py", "collector", str(COLLECTOR_SECONDS)], {})
        told = json.loads(out or "{}")
        self._counts.add("writers left to the collector", told.get("dropped", 0))

    def _run(self, command: list[str], extra: dict[str, str]) -> str:
        path = os.pathsep.join(filter(None, sys.path))
        environment = {**os.environ, "PYTHONPATH": path, **extra}
        ended = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LONGEST,
            check=False,
        )  # fmt: skip
        if ended.returncode != 0:
            self.broken.append(f"{' '.join(command)} failed:\n{ended.stdout[-6000:]}{ended.stderr[-6000:]}")
        return ended.stdout
