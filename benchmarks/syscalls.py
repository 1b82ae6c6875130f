"""Counts the system calls of one transfer by strace, in a process that is never timed: tracing slows it down.

strace joins a contender's process when that is about to begin its first measured transfer; a floor program, which does
nothing else, is started under it. Used by `process.py` only.
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
    """Whether strace is there."""
    return shutil.which("strace") is not None


def allow() -> None:
    """For a child's `preexec_fn`: some systems let nobody but a parent trace a process."""
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANYONE, 0, 0, 0)


def parse(table: str) -> dict[str, int]:
    """The calls by name from what `strace -c` prints: the name ends each line, and errors may be left out."""
    calls = {}
    for line in table.splitlines():
        fields = line.split()
        if len(fields) in (5, 6) and fields[3].isdigit() and fields[-1] != "total":
            calls[fields[-1]] = int(fields[3])
    return calls


def prefix(table: Path) -> list[str]:
    """What goes before a command whose calls are to be counted from its start."""
    return ["strace", "-c", "-f", "-q", "-o", str(table)]


class Counter:
    """strace, attached to all threads of a process and to those that it starts meanwhile."""

    def __init__(self, process: int, table: Path) -> None:
        """Returns when the counting has begun. Raises RuntimeError when this system does not allow it."""
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
        """Lets go of the process; the calls by name."""
        with contextlib.suppress(ProcessLookupError):
            self.strace.send_signal(signal.SIGINT)
        self.strace.communicate(timeout=_SECONDS)
        return parse(self.table.read_text())
