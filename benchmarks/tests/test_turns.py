"""What is run in which order, and what it is expected to take, as values; and system calls as they really are."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks import estimate, peers, syscalls, turns
from benchmarks.case import MIB, Case

TABLE = """% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000120           1       120         3 recvfrom
 40.00    0.000080           2        40           futex
------ ----------- ----------- --------- --------- ----------------
100.00    0.000200           1       160         3 total
"""


def test_cases_that_write_take_turns_and_reads_only_with_those_of_the_same_objects():
    cases = [Case("put-reserve", 1), Case("put-write", 2), Case("get", 1), Case("get-ranged", 1), Case("get", 2)]
    assert [len(block) for block in turns.blocks(cases)] == [2, 2, 1]


def test_case_may_name_its_contenders():
    chosen = peers.choose(["ours", "original"])
    case = Case("put-reserve", MIB, by=("ours",))
    assert [one.name for _, one in turns.plan(estimate.place("discard"), [case], chosen)] == ["ours"]


def test_what_only_serves_is_not_written_to():
    assert turns.plan(estimate.place("nginx"), [Case("put-reserve", MIB)], peers.choose(["ours"])) == []


def test_estimate_takes_what_was_measured_before():
    plan = turns.plan(estimate.place("discard"), [Case("get", 1024 * MIB)], peers.choose(["ours"]))
    labels = {"store": "discard", "operation": "get", "value": "", "contender": "ours"}
    files = [{"setup": {"workload": "large"}, "runs": [labels | {"wall_s": 100.0}]}]
    before = estimate.known(files)
    once, five = (estimate.seconds(plan, "large", "discard", pairs, before, False) for pairs in (1, 5))
    assert five - once == pytest.approx(400)


def test_table_of_strace_is_read_by_name():
    assert syscalls.parse(TABLE) == {"recvfrom": 120, "futex": 40}


@pytest.mark.skipif(not syscalls.available(), reason="strace is not installed")
def test_calls_of_a_running_process_are_counted(tmp_path):
    ask = "print(flush=True); sys.stdin.readline()"
    program = f"import os, sys; {ask}; [os.getppid() for _ in range(500)]; {ask}"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=syscalls.allow,
    ) as process:
        process.stdout.readline()
        counter = syscalls.Counter(process.pid, tmp_path / "calls")
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        calls = counter.stop()
        process.stdin.close()
    assert calls["getppid"] == 500


@pytest.mark.skipif(not syscalls.available(), reason="strace is not installed")
def test_process_that_is_gone_cannot_be_counted(tmp_path):
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(RuntimeError, match="cannot be counted"):
        syscalls.Counter(process.pid, tmp_path / "calls")
