"""Runs one measurement: a process of one contender, which asks for a key before each transfer.

So each transfer writes a new key, and the objects of the last one are deleted before the next begins, outside the
measured time: the store never holds more than one transfer. Used by the commands; `contender.py` is the other side.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from . import machine, servers, syscalls
from .case import Case
from .clients.job import object_keys
from .peers import ROOT, Contender
from .store import CHECKED_OBJECTS, Store

PROCESS_SECONDS = 600
_numbers = itertools.count()


def _environment(contender: Contender, store: Store, case: Case, home: str) -> dict[str, str]:
    """The whole environment of the process, without the caller's own AWS and S3DLIO settings."""
    endpoint = {} if store.url is None else {"AWS_ENDPOINT_URL": store.url, "AWS_ENDPOINT_URL_S3": store.url}
    return {
        "PATH": os.environ["PATH"],
        "HOME": home,
        "LANG": "C.UTF-8",
        "AWS_REGION": store.region,
        "AWS_DEFAULT_REGION": store.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        **endpoint,
        **store.environment,
        **{name: str(value) for name, value in case.settings().items()},
        **contender.environment,
    }


def _floor_command(contender: Contender, store: Store, case: Case) -> list[str]:
    assert store.url is not None
    part_size = case.part_size if case.writes else case.range_size or case.part_size
    values = {
        "port": store.url.rpartition(":")[2],
        "connections": case.in_flight,
        "size": case.size,
        "part-size": part_size,
        "count": case.count,
        "warmups": case.warmups,
        "repeats": case.repeats,
    }
    command = [str(contender.program), *contender.arguments]
    for name, value in values.items():
        command += [f"--{name}", str(value)]
    return command


def _command(contender: Contender, store: Store, case: Case) -> list[str]:
    if contender.is_floor:
        return _floor_command(contender, store, case)
    job = case.as_json() | {
        "endpoint": store.url,
        "bucket": store.bucket,
        "region": store.region,
        "ca": str(store.ca) if store.ca else None,
        "writer_options": contender.writer_options,
        "spawned": time.monotonic(),
    }
    starts = case.operation == "start"
    script = ROOT / "benchmarks" / ("starter.py" if starts else "contender.py")
    return [
        str(contender.program),
        str(script),
        contender.client,
        json.dumps(job),
        *(contender.imports if starts else ()),
    ]


@dataclass
class Measurement:
    """One process. `seeded` is the key to read; `run` may be called once.

    If `traced`, it also reports system calls, and its times mean nothing.
    """

    contender: Contender
    store: Store
    case: Case
    seeded: str = ""
    check_content: bool = False
    traced: bool = False
    peak_used: int = 0
    _last: str = field(default="", init=False)
    _counter: syscalls.Counter | None = field(default=None, init=False)

    def run(self) -> dict[str, Any]:
        """Returns its numbers. Raises RuntimeError with the process's output if it failed or ran another library."""
        with tempfile.TemporaryDirectory() as home, tempfile.TemporaryFile("w+") as errors:
            table = Path(home) / "calls"
            command = _command(self.contender, self.store, self.case)
            whole = self.traced and self.contender.is_floor
            process = subprocess.Popen(
                syscalls.prefix(table) + command if whole else command,
                env=_environment(self.contender, self.store, self.case, home),
                cwd=home,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                preexec_fn=self._detach,
            )
            overdue = threading.Timer(PROCESS_SECONDS, process.kill)
            overdue.start()
            try:
                with process, servers.ended(process):
                    numbers = self._converse(process, table)
                    process.wait()
                if process.returncode != 0 or numbers is None:
                    errors.seek(0)
                    raise RuntimeError(self._failure(process.returncode, errors))
                self._judge()
                if whole:
                    numbers["syscalls"] = syscalls.parse(table.read_text())
            finally:
                overdue.cancel()
                self._clear()
        return numbers

    def _detach(self) -> None:
        servers.detach()
        machine.go_first()
        if self.traced:
            syscalls.allow()

    def _failure(self, status: int, errors: IO[str]) -> str:
        what = f"{self.contender.name} failed at {self.case.title} on {self.store.name}, status {status}"
        return f"{what}:\n{errors.read()}"

    def _converse(self, process: subprocess.Popen[str], table: Path) -> dict[str, Any] | None:
        """Sends a key at each request; returns the numbers, or None if the process ended without any."""
        assert process.stdin is not None
        assert process.stdout is not None
        calls: dict[str, Any] = {}
        for line in process.stdout:
            said: dict[str, Any] = json.loads(line)
            if "measured" in said:
                if self._counter:
                    calls = {"syscalls": self._counter.stop()}
                continue
            if "next" not in said:
                self._require_source(said.pop("file", None))
                return said | calls
            self._clear()
            if self.traced and said["next"] == self.case.warmups:
                self._counter = syscalls.Counter(process.pid, table)
            try:
                process.stdin.write(self._new_key() + "\n")
                process.stdin.flush()
            except BrokenPipeError:
                break
        return None

    def _require_source(self, file: str | None) -> None:
        if file is not None and not Path(file).is_relative_to(self.contender.root):
            raise RuntimeError(f"{self.contender.name} imported {file}, which is not below {self.contender.root}")

    def _new_key(self) -> str:
        if not self.case.writes:
            return self.seeded
        name = f"{self.contender.name}/{self.case.operation}/{os.getpid()}-{next(_numbers)}"
        self._last = self.store.prefix + name
        return self._last

    def _judge(self) -> None:
        if not self._last:
            return
        keys = object_keys(self._last, self.case.sizes)
        step = max(1, len(keys) // CHECKED_OBJECTS)
        for key in keys[::step]:
            content = self.check_content and self.case.operation != "put-reserve-unfilled"
            self.store.check(key, self.case.size, content=content)

    def _clear(self) -> None:
        self.peak_used = max(self.peak_used, self.store.used())
        if self._last:
            last, self._last = self._last, ""
            self.store.delete(object_keys(last, self.case.sizes))


def require_memory(store: Store, case: Case) -> None:
    """Raises RuntimeError if the case could exhaust the machine's memory, which would kill other processes too."""
    kept = case.moved if store.data else 0
    needed = kept + case.held + (1 << 30)
    available = machine.available_memory()
    if available < needed:
        raise RuntimeError(
            f"{needed >> 20} MiB of memory are needed and {available >> 20} available: use a smaller --size"
        )
