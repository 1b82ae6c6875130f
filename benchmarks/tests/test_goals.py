"""From runs to verdicts, as values."""

from __future__ import annotations

import pytest

from benchmarks import goals, peers


def run(contender, speed, *, turn=0, cpu=1.0, operation="put-reserve", store="discard", group="", value="", **more):
    labels = {"store": store, "operation": operation, "group": group, "value": value, "contender": contender}
    return labels | {"turn": turn, "gib_per_s": speed, "cpu_s_per_gib": cpu} | more


def file(*runs):
    return {"setup": {"contenders": {one["contender"]: f"label of {one['contender']}" for one in runs}}, "runs": runs}


def verdict(rows, work, opponent=""):
    (found,) = [row for row in rows if row.work == work and row.opponent.startswith(opponent)]
    return found


def memory_by_size(sizes):
    """The row of parts of 16 MiB, from the peaks of each size's runs."""
    same = {"group": "memory", "operation": "put-reserve"}
    runs = [
        run("ours-even-parts", 1.0, turn=turn, value=size, peak_added_mib=peak, **same)
        for size, peaks in sizes.items()
        for turn, peak in enumerate(peaks)
    ]
    return goals.memory(goals.Runs([file(*runs)]))[0]


def against_original(*files):
    return verdict(goals.verdicts(files), "PUT, reserve, fill, commit", "reserve/commit")


def test_goal_is_reached_when_each_limit_holds_for_the_medians():
    ours = [run("ours", speed, turn=turn, cpu=0.2) for turn, speed in enumerate((4.0, 5.0, 9.0))]
    theirs = [run("original", 1.0, turn=turn, cpu=1.0) for turn in range(3)]
    row = against_original(file(*ours, *theirs))
    assert row.reached is True
    assert row.figure == "5.00x (4.00-9.00) throughput, 0.20x (0.20-0.20) CPU; 3 turns only"


@pytest.mark.parametrize(("speed", "cpu"), [(3.9, 0.2), (4.1, 0.3)], ids=["too slow", "too much CPU"])
def test_goal_is_missed_when_one_limit_does_not_hold(speed, cpu):
    assert against_original(file(run("ours", speed, cpu=cpu), run("original", 1.0))).reached is False


def test_nothing_is_claimed_where_nothing_was_measured():
    assert all(row.reached is None for row in goals.verdicts([]))


def test_opponent_of_another_file_took_no_turns_with_ours():
    assert against_original(file(run("ours", 9.0, cpu=0.1)), file(run("original", 1.0))).figure == "not measured"


def test_peer_is_compared_with_ours_of_its_own_file():
    slow_minute = file(run("ours", 2.0, operation="get-many"), run("boto3", 1.5, operation="get-many"))
    fast_minute = file(run("ours", 6.0, operation="get-many"), run("obstore", 3.0, operation="get-many"))
    for one in (*slow_minute["runs"], *fast_minute["runs"]):
        one |= {"objects_per_s": one["gib_per_s"], "cpu_us_per_object": 1.0}
    row = verdict(goals.verdicts([fast_minute, slow_minute]), "4 KiB, get_many")
    assert row.opponent == "best peer: label of boto3"
    assert row.figure.startswith("1.33x")


def test_floor_counts_with_its_best_number_of_threads():
    speeds = {"ours": 5.0, "floor-put-crc-1t": 3.0, "floor-put-crc-2t": 6.0, "floor-put-crc-4t": 4.0}
    operations = {"ours": "put-reserve"}
    runs = [run(name, speed, operation=operations.get(name, "put-write-borrowed")) for name, speed in speeds.items()]
    row = verdict(goals.verdicts([file(*runs)]), "PUT, reserve, fill, commit", "C floor with CRC, best")
    assert row.opponent.endswith("label of floor-put-crc-2t")
    assert row.reached is False


def test_floor_that_fills_has_a_row_of_its_own():
    runs = [run("ours", 5.0), run("floor-put-crc-4t", 6.0, operation="put-write-borrowed")]
    runs += [run("floor-put-fill-crc-2t", 4.0), run("floor-put-fill-crc-4t", 5.2, cpu=0.9)]
    rows = goals.verdicts([file(*runs)])
    bare = verdict(rows, "PUT, reserve, fill, commit", "C floor with CRC, best")
    filling = verdict(rows, "PUT, reserve, fill, commit", "C floor with CRC that fills too")
    assert (bare.goal, bare.reached) == (filling.goal, False)
    assert filling.opponent.endswith(": label of floor-put-fill-crc-4t")
    assert filling.reached is True
    assert verdict(rows, "PUT, reserve, commit (not filled)").reached is None


def test_every_opponent_is_a_contender_that_does_what_it_is_compared_at():
    known = {one.name: one.operations for one in peers.contenders()}
    for race in goals.races():
        assert all(known[name].intersection(race.operations) for name in race.contenders), race


@pytest.mark.parametrize("labels", [{"group": "part-size"}, {"value": "10 x 512 MiB"}], ids=str)
def test_case_of_a_sweep_is_no_opponent(labels):
    assert against_original(file(run("ours", 9.0, cpu=0.1, **labels), run("original", 1.0, **labels))).reached is None


@pytest.mark.parametrize("unchecked", ["obstore-unsigned", "s3torchconnectorclient"])
def test_peer_without_a_check_is_no_opponent_of_a_checked_write(unchecked):
    runs = [run("ours", 2.0, operation="put-write", cpu=0.1), run("obstore", 1.0, operation="put-write-borrowed")]
    runs.append(run(unchecked, 9.0, operation="put-write-borrowed"))
    rows = goals.verdicts([file(*runs)])
    assert verdict(rows, "PUT, write(memoryview), one copy", "best signed peer, with its defaults").reached is True
    assert verdict(rows, "PUT, write(memoryview), one copy", "best peer with the same checks").reached is None


@pytest.mark.parametrize(
    ("store", "ours", "work", "opponent"),
    [
        ("discard", "put-write", "PUT, write(memoryview), one copy", "best signed peer, with its defaults"),
        ("minio", "put-reserve", "MinIO: PUT, reserve, fill, commit", "best peer, with its defaults"),
        ("minio", "put-write-borrowed", "MinIO: PUT, write(copy=False)", "best peer, with its defaults"),
        ("minio-tls", "put-reserve", "MinIO, TLS: PUT, reserve, fill, commit", "best peer, with its defaults"),
    ],
)
def test_peers_by_their_defaults_and_peers_told_to_check_as_ours_have_a_row_each(store, ours, work, opponent):
    runs = [run("ours", 2.0, operation=ours, cpu=0.1, store=store)]
    for peer, speed in (("obstore", 1.0), ("obstore-crc64nvme", 3.0), ("boto3-crc64nvme", 0.5)):
        runs.append(run(peer, speed, operation="put-write-borrowed", store=store))
    rows = goals.verdicts([file(*runs)])
    defaults, told = verdict(rows, work, opponent), verdict(rows, work, "best peer with the same checks")
    assert defaults.goal == told.goal
    assert (defaults.opponent, defaults.reached) == (f"{opponent}: label of obstore", True)
    assert (told.opponent.partition(": ")[2], told.reached) == ("label of obstore-crc64nvme", False)


@pytest.mark.parametrize(("speedup", "reached"), [(1.80, True), (1.70, False)])
def test_threshold_is_compared_with_no_ranges(speedup, reached):
    same = {"operation": "get-each", "store": "minio", "group": "threshold"}
    runs = [run("ours", 1.0, value="off", **same), run("ours", speedup, value="64 MiB", **same)]
    rows = goals.verdicts([file(*runs)])
    assert verdict(rows, "148 MB, threshold 64 MiB, MinIO").reached is reached
    assert verdict(rows, "148 MB, threshold 8 MiB, MinIO").reached is None


def test_connections_are_compared_with_what_they_can_carry():
    gib_per_s = 760e6 / (1 << 30)
    row = goals.limited(goals.Runs([file(run("ours", gib_per_s, operation="get-ranged", store="nginx"))]))
    assert row.reached is True
    assert "0.95x (0.95-0.95): 760 MB/s" in row.figure


@pytest.mark.parametrize(
    ("smallest", "largest", "reached"),
    [
        ((200, 200, 200), (216, 216, 216), True),
        ((200, 200, 200), (217, 217, 217), False),
        ((100, 200, 210), (110, 210, 280), True),
        ((100, 110, 280), (120, 130, 140), False),
        ((200, 200, 200), (200, 200, 289), False),
        ((300, 300, 300), (300, 300, 300), False),
    ],
    ids=[
        "one part more",
        "it grows",
        "one run had more",
        "it grows, and one run hides it",
        "one run beyond the formula",
        "beyond the formula",
    ],
)
def test_memory_is_flat_by_its_medians_and_never_beyond_the_formula(smallest, largest, reached):
    sizes = {"1 GiB": smallest, "5 GiB": (200,), "10 GiB": (200,), "50 GiB": largest}
    assert memory_by_size(sizes).reached is reached


def test_median_and_most_of_the_memory_are_shown():
    sizes = {"1 GiB": (127, 159, 191), "5 GiB": (160,), "10 GiB": (160,), "50 GiB": (170, 172, 260)}
    row = memory_by_size(sizes)
    assert row.figure.startswith("1 GiB: 159 MiB (at most 191), 5 GiB: 160 MiB (at most 160), ")
    assert "50 GiB: 172 MiB (at most 260)" in row.figure


@pytest.mark.parametrize(("speed", "cpu", "reached"), [(0.95, 1.05, True), (0.8, 1.0, False), (1.0, 1.2, False)])
def test_a_part_of_many_costs_as_much_as_one_of_few(speed, cpu, reached):
    same = {"operation": "put-again"}
    runs = [run("ours-even-parts", 1.0, value="100 parts", **same)]
    runs.append(run("ours-even-parts", speed, cpu=cpu, value="10,000 parts", **same))
    assert goals.parts(goals.Runs([file(*runs)])).reached is reached


def test_import_is_compared_with_boto3_and_what_it_loads_is_named():
    ours = {"store": "discard", "operation": "start", "contender": "ours", "turn": 0, "import_s": 0.04}
    theirs = ours | {"contender": "boto3", "import_s": 0.1}
    runs = [ours | {"loads_numpy": 1, "loads_botocore": 0}, theirs]
    boto3, original, loads = goals.start(goals.Runs([file(*runs)]))
    assert (boto3.reached, original.reached, loads.reached) == (True, None, False)
    assert loads.figure == "loads numpy"


def test_table_counts_what_was_reached():
    rows = [
        goals.Verdict("a", "b", "c", "d", True),
        goals.Verdict("a", "b", "c", "d", False),
        goals.Verdict("a", "b", "c"),
    ]
    text = goals.table(rows)
    assert text.startswith("1 of 2 goals are reached; 1 were not measured.")
    assert "| a | b | c | d | **missed** |" in text


def test_specification_stands_beside_what_was_measured():
    values = {"off": 0.5, "64 MiB": 1.0}
    summary = [{"contender": "ours", "value": value, "gib_per_s": {"median": rate}} for value, rate in values.items()]
    text = goals.threshold_table(summary, {"ours": "this library"})
    assert "| 64 MiB | 755 MB/s | 1.76x | 1,024 MB/s | 2.00x |" in text


@pytest.mark.parametrize(
    ("objects", "cpu", "reached"), [(1.0, 1.09, True), (0.8, 1.0, False), (1.0, 20.0, False)], ids=str
)
@pytest.mark.parametrize("operation", ["get-many", "get-each"])
def test_setting_for_ranges_costs_small_objects_nothing(operation, objects, cpu, reached):
    same = {"operation": operation, "group": "setting"}
    runs = [run("ours", 1.0, value="4 KiB, ranges off", objects_per_s=10_000, cpu_us_per_object=60, **same)]
    runs.append(
        run("ours", 1.0, value="4 KiB, ranges on", objects_per_s=10_000 * objects, cpu_us_per_object=60 * cpu, **same)
    )
    works = {"get-many": "4 KiB, get_many, ranges on", "get-each": "4 KiB, get, one after the other, ranges on"}
    rows = goals.verdicts([file(*runs)])
    assert verdict(rows, works[operation]).reached is reached
    assert verdict(rows, f"MinIO: {works[operation]}").reached is None


@pytest.mark.parametrize(
    ("store", "place", "speed", "reached"),
    [("discard", "", 0.95, True), ("minio", "MinIO: ", 0.8, False), ("nginx", "nginx at 50 MB/s", 1.9, False)],
)
def test_mixed_sizes_gain_where_connections_are_limited_and_never_lose(store, place, speed, reached):
    same = {"operation": "get-many", "group": "setting", "store": store}
    runs = [
        run("ours", 1.0, value="mixed sizes, ranges off", **same),
        run("ours", speed, value="mixed sizes, ranges on", **same),
    ]
    rows = [row for row in goals.verdicts([file(*runs)]) if "mixed sizes" in row.work and row.reached is not None]
    assert [(row.work.startswith(place), row.reached) for row in rows] == [(True, reached)]
