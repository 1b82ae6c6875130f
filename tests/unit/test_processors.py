"""How many processors count: those that the process may run on, and no more than a quota of its control groups."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from s3dlio._runtime.processors import usable_processors

ALLOWED = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(root: Path, groups: str, files: dict[str, str]) -> str:
    """A file system with the kernel's files that say so."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(groups, encoding="ascii")
    for name, text in files.items():
        path = root / "sys" / "fs" / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    return str(root)


# Quotas by the files of one group, and the processors that they pay for; None for no limit.
VERSION_2 = [
    ("100000 100000", 1),
    ("150000 100000", 2),
    ("50000 100000", 1),
    ("1000 100000", 1),
    ("max 100000", None),
    ("", None),
    ("what is this", None),
    ("100000 0", None),
    ("100000", None),
]
VERSION_1 = [("100000", "100000", 1), ("20000", "50000", 1), ("-1", "100000", None), ("0", "0", None)]


@pytest.mark.parametrize(("text", "expected"), VERSION_2)
def test_a_quota_of_version_2_limits(tmp_path: Path, text: str, expected: int | None) -> None:
    root = machine(tmp_path, "0::/a/b\n", {"a/b/cpu.max": text + "\n"})
    assert usable_processors(root) == min(ALLOWED, expected or ALLOWED)


@pytest.mark.parametrize(("quota", "period", "expected"), VERSION_1)
def test_a_quota_of_version_1_limits(tmp_path: Path, quota: str, period: str, expected: int | None) -> None:
    files = {"cpu/docker/x/cpu.cfs_quota_us": quota + "\n", "cpu/docker/x/cpu.cfs_period_us": period + "\n"}
    root = machine(tmp_path, "4:memory:/m\n3:cpu,cpuacct:/docker/x\n0::/\n", files)
    assert usable_processors(root) == min(ALLOWED, expected or ALLOWED)


@pytest.mark.parametrize("where", ["", "a/", "a/b/"], ids=["root", "outer", "inner"])
def test_the_least_quota_of_the_groups_around_counts(tmp_path: Path, where: str) -> None:
    files = {f"{folder}cpu.max": "max 100000\n" for folder in ("", "a/", "a/b/")}
    root = machine(tmp_path, "0::/a/b\n", {**files, f"{where}cpu.max": "70000 100000\n"})
    assert usable_processors(root) == 1


def test_a_group_whose_files_a_container_does_not_see_leaves_those_around_it(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/not/seen/here\n", {"cpu.max": "100000 100000\n"})
    assert usable_processors(root) == 1


def test_without_any_of_the_files_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_processors(str(tmp_path)) == ALLOWED


PROGRAM = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from s3dlio._net.drivers import drivers
from s3dlio._runtime.processors import usable_processors
print(usable_processors(), drivers()._count)
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_one_processor_to_run_on_is_one_driver() -> None:
    shown = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert shown.stdout == "1 1\n"
