"""From runs to tables, as values."""

from __future__ import annotations

import pytest

from benchmarks import estimate, peers, report, turns, workloads
from benchmarks.case import MIB, Case


def run(contender, turn, speed, **more):
    labels = {"store": "discard", "operation": "get", "group": "", "value": "", "contender": contender, "turn": turn}
    return labels | {"gib_per_s": speed, "cpu_s_per_gib": 1 / speed, "seconds": [1.0]} | more


RUNS = [run("ours", 0, 4.0), run("original", 0, 1.0), run("ours", 1, 6.0), run("original", 1, 3.0)]


def test_summary_has_median_least_and_greatest_of_each_contender():
    ours, original = report.summarise(RUNS)
    assert ours["gib_per_s"] == {"median": 5.0, "min": 4.0, "max": 6.0}
    assert (original["contender"], original["pairs"]) == ("original", 2)


def test_ratios_are_taken_within_each_pair():
    (row,) = report.compare(RUNS)
    assert row["gib_per_s"]["of_medians"] == 2.5
    assert row["gib_per_s"]["of_pairs"] == {"median": 3.0, "min": 2.0, "max": 4.0}


def test_table_has_a_line_for_each_row():
    text = report.table(report.summarise(RUNS), {"ours": "this library", "original": "s3dlio"})
    assert text.count("\n") == 3
    assert "| GET, one request | this library | 5.00 (4.00-6.00) |" in text


def test_page_without_markers_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(ValueError, match="needs one"):
        report.insert(page, "text")


def test_threshold_is_told_in_mebibytes_and_leaves_the_ranges_to_the_library():
    case = Case("get-each", 148 * MIB, range_size=None, threshold=64 * MIB)
    assert case.settings() == {"S3DLIO_ENABLE_RANGE_OPTIMIZATION": 1, "S3DLIO_RANGE_THRESHOLD_MB": 64}


def test_unknown_contender_is_refused():
    with pytest.raises(ValueError, match="nobody"):
        peers.choose(["ours", "nobody"])


@pytest.mark.parametrize("workload", [*workloads.quick(), *workloads.full()], ids=lambda one: one.name)
def test_every_case_of_a_workload_has_contenders_on_each_store(workload):
    chosen = peers.choose(workload.contenders)
    for store in map(estimate.place, workload.stores):
        assert all(any(turns.able(one, store, case) for one in chosen) for case in workload.cases)


@pytest.mark.parametrize(("chosen", "threads"), [(workloads.quick, (2, 4)), (workloads.full, (1, 2, 4))])
def test_floors_that_fill_take_turns_with_ours(chosen, threads):
    (large,) = (one for one in chosen() if one.name == "large" and one.stores == ("discard",))
    plan = turns.plan(estimate.place("discard"), large.cases, peers.choose(large.contenders))
    floors = {one.name: case.operation for case, one in plan if one.name.startswith("floor-put-fill-")}
    assert floors == {f"floor-put-fill-crc-{count}t": "put-reserve" for count in threads}
    assert "ours" in [one.name for case, one in plan if case.operation == "put-reserve"]


@pytest.mark.parametrize("workload", workloads.full(), ids=lambda one: one.name)
def test_no_workload_fills_the_memory_of_a_store(workload):
    kept = [case.moved for case in workload.cases if workload.stores != ("discard",)]
    assert max(kept, default=0) < turns.STORE_LIMIT
