"""The machine, versions and commit of a measurement, without which its numbers mean little. Nothing here measures."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from .peers import ROOT


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def available_memory() -> int:
    """Bytes that can be taken without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not report MemAvailable")


def warm(wanted: int) -> None:
    """Touches memory once, in a child process: memory that a virtual machine has never touched is slow the first time.

    Never more than half of what is available, because other processes may need memory too. If memory runs out anyway,
    the child is killed first.
    """
    length = min(wanted, available_memory() // 2)
    program = "import mmap, sys; mmap.mmap(-1, int(sys.argv[1]), mmap.MAP_PRIVATE | mmap.MAP_ANON | mmap.MAP_POPULATE)"
    subprocess.run([sys.executable, "-c", program, str(length)], check=False, preexec_fn=go_first)


def go_first() -> None:
    """For a child's `preexec_fn`: if memory runs out, the kernel kills this process before any other."""
    Path("/proc/self/oom_score_adj").write_text("1000")


def _git(*arguments: str) -> str:
    result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return result.stdout.strip()


def commit() -> str:
    """The measured commit, marked if files of the library or the harness have changed since."""
    head = _git("rev-parse", "--short=12", "HEAD") or "unknown"
    changed = _git("status", "--porcelain", "--", "s3dlio", "benchmarks", ":!benchmarks/results")
    return f"{head} with changes" if changed else head


def facts() -> dict[str, Any]:
    """Cores, processor, memory, kernel, load, versions, commit and date."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu_model(),
        "memory_gib": round(pages / (1 << 30), 1),
        "kernel": platform.release(),
        "load_before": os.getloadavg()[0],
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "libraries": {name: importlib.metadata.version(name) for name in ("awscrt", "botocore", "numpy", "urllib3")},
    }
