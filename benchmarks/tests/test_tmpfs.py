"""What a run puts into memory is gone when the run is, however it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from benchmarks import tmpfs
from benchmarks.peers import ROOT

HOLDER = """
import sys, time
from pathlib import Path
from benchmarks import __main__, tmpfs
for number in __main__.ENDING:
    __main__.signal.signal(number, __main__.terminate)
with tmpfs.folder(Path(sys.argv[1])) as folder:
    (folder / "data").write_bytes(bytes(1 << 20))
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    with process:
        process.stdout.readline()
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_folder_is_removed_when_a_signal_ends_the_run(holder, tmp_path, number):
    holder.send_signal(number)
    assert holder.wait(20) == 128 + number
    assert list(tmp_path.iterdir()) == []


def test_folder_of_a_killed_run_is_removed_by_the_next(holder, tmp_path):
    holder.kill()
    holder.wait(20)
    assert len(tmpfs.sweep(tmp_path)) == 1
    assert list(tmp_path.iterdir()) == []


def test_folder_of_a_living_run_is_left_alone(holder, tmp_path):
    assert tmpfs.sweep(tmp_path) == []
    assert len(list(tmp_path.iterdir())) == 1


def test_folder_without_a_lock_is_left_alone(tmp_path):
    (tmp_path / (tmpfs.PREFIX + "older")).mkdir()
    assert tmpfs.sweep(tmp_path) == []
    assert len(list(tmp_path.iterdir())) == 1


def test_used_counts_what_files_take(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "data").write_bytes(bytes(1 << 20))
    assert 1 << 20 <= tmpfs.used(tmp_path) < 2 << 20
