"""From runs to tables, as values."""

from __future__ import annotations

import pytest

from benchmarks import estimate, goals, peers, report, stored, suite, turns, workloads
from benchmarks.case import MIB, Case


def run(contender, turn, speed, **more):
    labels = {"store": "discard", "operation": "get", "group": "", "value": "", "contender": contender, "turn": turn}
    return labels | {"gib_per_s": speed, "cpu_s_per_gib": 1 / speed, "seconds": [1.0]} | more


PLAIN = [("ours", 0, 4.0), ("original", 0, 1.0), ("ours", 1, 6.0), ("original", 1, 3.0)]
RUNS = [run(*some) for some in PLAIN]


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


def test_stored_results_give_the_same_tables():
    runs = [run(*some, user_s_per_gib=1 / 3, switches_per_gib=123456.5, seconds=[2 / 3]) for some in PLAIN]
    whole = {
        "complete": True,
        "machine": {"cores": 2},
        "setup": {"title": "t", "cases": [1]},
        "failures": [],
        "runs": runs,
    }
    read = stored.unpack(stored.pack(whole))
    labels = {"ours": "this library", "original": "s3dlio"}
    assert report.table(read["summary"], labels) == report.table(report.summarise(runs), labels)
    assert report.ratio_table(read["ratios"], labels) == report.ratio_table(report.compare(runs), labels)
    assert read["setup"] == {"title": "t"}


def test_the_page_is_what_the_stored_measurements_say():
    page = (suite.FOLDER / suite.PAGE).read_text()
    found = suite.results_in(suite.FOLDER)
    assert len(found) > 10
    assert goals.table(goals.verdicts([whole for _, whole in found])) in page
    for _, whole in found:
        assert report.body(whole["setup"], whole["summary"], whole["ratios"], whole["failures"]).rstrip() in page


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
