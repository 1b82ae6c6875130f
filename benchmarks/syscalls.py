"""Counts the system calls of one transfer with strace, in a process that is never timed: tracing slows it down.

strace attaches to a contender's process just before its first measured transfer; a floor program, which does nothing
else, is started under strace. Used by `process.py` only.
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import signal
import subprocess
from pathlib import Path

_PR_SET_PTRACER = 0x59616D61
_ANYONE = ctypes.c_ulong(-1)
_SECONDS = 20.0


def available() -> bool:
    """Whether strace is installed."""
    return shutil.which("strace") is not None


def allow() -> None:
    """For a child's `preexec_fn`: some systems let only a parent trace a process."""
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANYONE, 0, 0, 0)


def parse(table: str) -> dict[str, int]:
    """The calls by name from the output of `strace -c`: the name ends each line, and the errors column may be empty."""
    calls = {}
    for line in table.splitlines():
        fields = line.split()
        if len(fields) in (5, 6) and fields[3].isdigit() and fields[-1] != "total":
            calls[fields[-1]] = int(fields[3])
    return calls


def prefix(table: Path) -> list[str]:
    """The words before a command whose calls are counted from its start."""
    return ["strace", "-c", "-f", "-q", "-o", str(table)]


class Counter:
    """strace, attached to all threads of a process, including those that it starts later."""

    def __init__(self, process: int, table: Path) -> None:
        """Returns when counting has started. Raises RuntimeError if this system does not allow it."""
        self.table = table
        command = ["strace", "-c", "-f", "-o", str(table), "-p", str(process)]
        self.strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.strace.stderr is not None
        said = self.strace.stderr.readline()
        if "attached" not in said:
            self.strace.kill()
            self.strace.communicate()
            raise RuntimeError(f"system calls cannot be counted here: {said.strip()}")

    def stop(self) -> dict[str, int]:
        """Detaches from the process; returns the calls by name."""
        with contextlib.suppress(ProcessLookupError):
            self.strace.send_signal(signal.SIGINT)
        self.strace.communicate(timeout=_SECONDS)
        return parse(self.table.read_text())
