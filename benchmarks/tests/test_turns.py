"""What is run in which order, and what it is expected to take, as values; and system calls as they really are."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys

import pytest

from benchmarks import estimate, pattern, peers, process, servers, syscalls, turns, workloads
from benchmarks.case import MIB, Case
from benchmarks.clients.job import Job, object_keys

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


MIX = ((4096, 6), (MIB, 2))


def test_mixed_sizes_are_spread_over_the_list():
    case = Case("get-many", 0, mix=MIX)
    assert [size for size in case.sizes if size > 4096] == [MIB, MIB]
    assert sum(case.sizes[:4]) == sum(case.sizes[4:]) == case.moved // 2


def test_case_and_process_name_the_same_objects():
    values = {"endpoint": None, "bucket": "b", "region": "r", "ca": None, "writer_options": {}, "spawned": 0.0}
    for case in (Case("get-many", 0, mix=MIX), Case("get-many", 4096, count=3), Case("get", 5)):
        told = Job.of(json.loads(json.dumps(case.as_json() | values)))
        assert told.sizes == case.sizes
        assert told.keys("base") == object_keys("base", case.sizes)
    assert object_keys("base", Case("get-many", 0, mix=MIX).sizes)[0] == "base/0/size-4096"
    assert object_keys("base", [5]) == ["base"]


def test_the_same_objects_with_and_without_a_setting_take_turns():
    (mixed,) = (one for one in workloads.quick() if one.name == "mixed")
    blocks = [[case.value for case in block] for block in turns.blocks(mixed.cases)]
    assert ["mixed sizes, ranges off", "mixed sizes, ranges on"] in blocks
    switched = {case.value.rpartition(" ")[2]: case.settings() for case in mixed.cases}
    assert switched["off"] == {"S3DLIO_ENABLE_RANGE_OPTIMIZATION": 0}
    assert switched["on"] == {"S3DLIO_ENABLE_RANGE_OPTIMIZATION": 1, "S3DLIO_RANGE_THRESHOLD_MB": 64}


def test_mixed_sizes_are_measured_and_checked():
    """One process of this library, which ends with an error where an object is not what it should be."""
    case = Case("get-many", 0, mix=((4096, 20), (300_000, 2)), warmups=0, repeats=1, range_size=None, threshold=MIB)
    (ours,) = peers.choose(["ours"])
    with servers.discard_server(1) as store, store.seeded(case.sizes, case.part_size) as seeded:
        numbers = process.Measurement(ours, store, case, seeded).run()
    assert numbers["gib_per_s"] * sum(numbers["seconds"]) * (1 << 30) == pytest.approx(case.moved)
    assert numbers["objects_per_s"] * sum(numbers["seconds"]) == pytest.approx(22)


@pytest.mark.parametrize("wrong", [0, 1, 2], ids=["order", "number", "content"])
def test_mixed_sizes_that_came_wrong_are_no_result(wrong, monkeypatch):
    monkeypatch.syspath_prepend(str(peers.ROOT / "benchmarks"))
    contender = importlib.import_module("contender")
    job = argparse.Namespace(operation="get-many", sizes=[5, 9])
    right = [pattern.make(5).tobytes(), pattern.make(9).tobytes()]
    contender.check(right, job)
    with pytest.raises(ValueError, match=r"arrived, |differs"):
        contender.check([right[::-1], right[:1], [right[0], bytes(9)]][wrong], job)
