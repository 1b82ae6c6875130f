"""The library's goals, and whether a set of measurements reaches them: goal, figure and verdict for each kind of work.

Pure functions from the runs of result files to rows. Two contenders are compared only if they took turns in one
workload on one store. Used by `suite.py` for the top of its page.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Run = dict[str, Any]
MIB, GIB = 1 << 20, 1 << 30
PAIRS = 5

# MB/s and speed-up of 16 objects of 148 MB by threshold, from the specification.
SPECIFIED = {
    "off": (429, 1.00),
    "8 MiB": (676, 1.58),
    "16 MiB": (725, 1.69),
    "32 MiB": (732, 1.71),
    "64 MiB": (755, 1.76),
    "128 MiB": (735, 1.71),
}
LIMITED_BYTES_PER_S = 800e6  # 16 connections of 50 MB/s
IN_FLIGHT = 16
SAME_COST = 1.10
START = 0.5

THROUGHPUT, CPU = "gib_per_s", "cpu_s_per_gib"
OBJECTS, CPU_OBJECT = "objects_per_s", "cpu_us_per_object"
PEAK = "peak_added_mib"
WORDS = {THROUGHPUT: "throughput", CPU: "CPU", OBJECTS: "objects/s", CPU_OBJECT: "CPU per object"}

PUTS = ("put-reserve", "put-write-borrowed")
# Peers with their defaults; all but one of them send some check with each part.
PEERS = ("original", "obstore", "s3torchconnectorclient", "boto3", "boto3-crt", "minio", "pyarrow", "s3fs")
CHECKED = tuple(name for name in PEERS if name != "s3torchconnectorclient")
# Configured to send a CRC64NVME with each part and not to sign the payload, as ours does; boto3 still signs it over
# plain HTTP. Peers configured to leave out a check are no opponents.
SAME_CHECKS = ("obstore-crc64nvme", "boto3-crc64nvme")


@dataclass(frozen=True)
class Verdict:
    """One row. `reached` is None where nothing was measured."""

    work: str
    opponent: str
    goal: str
    figure: str = "not measured"
    reached: bool | None = None

    @property
    def word(self) -> str:
        """The verdict's word in the table."""
        return {True: "reached", False: "missed", None: "-"}[self.reached]


@dataclass(frozen=True)
class Limit:
    """A bound on the ratio of ours to the opponent's, of one number."""

    number: str
    bound: float
    at_least: bool

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.bound:.2f}x {WORDS[self.number]}"

    def holds(self, ratio: float) -> bool:
        """Whether that ratio is good enough."""
        return ratio >= self.bound if self.at_least else ratio <= self.bound


def faster(bound: float, number: str = THROUGHPUT) -> Limit:
    """At least so many times the opponent's throughput."""
    return Limit(number, bound, True)


def cheaper(bound: float, number: str = CPU) -> Limit:
    """At most so many times the opponent's CPU time."""
    return Limit(number, bound, False)


@dataclass(frozen=True)
class Race:
    """One operation of ours against the fastest of some opponents."""

    work: str
    opponents: str
    store: str
    ours: str
    operations: tuple[str, ...]
    contenders: tuple[str, ...]
    limits: tuple[Limit, ...]


class Runs:
    """The runs of all files of results, with the label that each contender has there."""

    def __init__(self, files: Iterable[dict[str, Any]]) -> None:
        self.files = [(whole["setup"]["contenders"], whole["runs"]) for whole in files]

    def select(self, **fields: str) -> list[Run]:
        """The runs with these fields, from the first file that has any, in the order of their turns."""
        for _, runs in self.files:
            found = [run for run in runs if all(run[name] == value for name, value in fields.items())]
            if found:
                return sorted(found, key=lambda run: int(run["turn"]))
        return []

    def opponents(self, race: Race) -> Iterator[tuple[str, list[Run], list[Run]]]:
        """Label, our runs and theirs, for each opponent that took turns with ours; runs of sweeps do not count."""
        for labels, runs in self.files:
            here = [run for run in runs if run["store"] == race.store and not run["group"] and not run["value"]]
            ours = [run for run in here if run["contender"] == "ours" and run["operation"] == race.ours]
            for contender in race.contenders:
                for operation in race.operations:
                    theirs = [run for run in here if (run["contender"], run["operation"]) == (contender, operation)]
                    if ours and theirs:
                        yield labels[contender], sorted(ours, key=_turn), sorted(theirs, key=_turn)


def _turn(run: Run) -> int:
    return int(run["turn"])


@dataclass(frozen=True)
class Ratio:
    """Ours over theirs: of the medians, and the least and the greatest within a turn."""

    of_medians: float
    least: float
    greatest: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.of_medians:.2f}x ({self.least:.2f}-{self.greatest:.2f})"


def ratio(ours: Sequence[Run], theirs: Sequence[Run], number: str) -> Ratio:
    """The ratio of runs that took turns; a turn that only one side has counts for the medians only."""
    by_turn = {_turn(run): run[number] for run in theirs}
    within = [run[number] / by_turn[_turn(run)] for run in ours if _turn(run) in by_turn]
    medians = [statistics.median(run[number] for run in some) for some in (ours, theirs)]
    return Ratio(medians[0] / medians[1], min(within), max(within), len(within))


def _median(runs: Sequence[Run], number: str) -> float:
    return statistics.median(float(run[number]) for run in runs)


def _few(pairs: int) -> str:
    return "" if pairs >= PAIRS else f"; {pairs} turn{'s' if pairs > 1 else ''} only"


def judge(race: Race, runs: Runs) -> Verdict:
    """The verdict against the fastest opponent relative to ours, in whatever file they took turns."""
    number = race.limits[0].number
    goal = ", ".join(map(str, race.limits))
    candidates = [(ratio(ours, theirs, number), label, ours, theirs) for label, ours, theirs in runs.opponents(race)]
    if not candidates:
        return Verdict(race.work, race.opponents, goal)
    first, label, ours, theirs = min(candidates, key=lambda one: one[0].of_medians)
    ratios = [ratio(ours, theirs, limit.number) for limit in race.limits]
    figure = ", ".join(f"{one} {WORDS[limit.number]}" for one, limit in zip(ratios, race.limits, strict=True))
    reached = all(limit.holds(one.of_medians) for one, limit in zip(ratios, race.limits, strict=True))
    return Verdict(race.work, f"{race.opponents}: {label}", goal, figure + _few(first.pairs), reached)


def races() -> list[Race]:
    """All comparisons of throughput and CPU time."""
    titles = {
        "put-reserve": "PUT, reserve, fill, commit",
        "put-reserve-unfilled": "PUT, reserve, commit (not filled)",
        "put-write-borrowed": "PUT, write(copy=False)",
        "put-write": "PUT, write(memoryview), one copy",
        "get": "GET, one request",
        "get-ranged": "GET, parallel ranges",
        "get-into": "GET, get_into",
        "get-many": "4 KiB, get_many",
        "put-many": "4 KiB, put_many",
    }
    crc = tuple(f"floor-put-crc-{threads}t" for threads in (1, 2, 4))
    filling = tuple(f"floor-put-fill-crc-{threads}t" for threads in (1, 2, 4))
    landing = tuple(f"floor-get-{memory}-{threads}t" for memory in ("huge", "warm") for threads in (1, 2, 4))
    readers = ("original", "obstore", "s3torchconnectorclient")
    same = "best peer with the same checks"
    found = []

    def add(
        store: str, ours: str, opponents: str, operations: Sequence[str], who: Sequence[str], *limits: Limit
    ) -> None:
        where = {"discard": "", "minio": "MinIO: ", "minio-tls": "MinIO, TLS: "}[store]
        found.append(Race(where + titles[ours], opponents, store, ours, tuple(operations), tuple(who), limits))

    floor = (faster(0.9), cheaper(1.25))
    for ours in ("put-reserve", "put-reserve-unfilled", "put-write-borrowed"):
        add("discard", ours, "C floor with CRC, best thread count", PUTS, crc, *floor)
        if ours == "put-reserve":
            add("discard", ours, "C floor with CRC that fills too, best thread count", [ours], filling, *floor)
    for ours in PUTS:
        add("discard", ours, "reserve/commit", ["put-reserve"], ["original"], faster(4), cheaper(0.25))
    for which, who in (("best signed peer, with its defaults", CHECKED), (same, SAME_CHECKS)):
        add("discard", "put-write", which, ("put-write", *PUTS), who, faster(1.8), cheaper(0.5))
    for ours in ("get-ranged", "get-into"):
        add("discard", ours, "C floor, huge or warm pages", ["get-ranged"], landing, faster(0.85))
    for ours in ("get-ranged", "get-into"):
        add("discard", ours, "best of three", ["get-ranged"], readers, faster(2.5), cheaper(0.4))
    for ours in ("get-many", "put-many"):
        add("discard", ours, "best peer", [ours], PEERS, faster(2, OBJECTS), cheaper(0.5, CPU_OBJECT))
    for store, cpu in (("minio", 0.35), ("minio-tls", 0.6)):
        for ours in PUTS:
            for which, who in (("best peer, with its defaults", PEERS), (same, SAME_CHECKS)):
                add(store, ours, which, PUTS, who, faster(1), cheaper(cpu))
        for ours in ("get", "get-ranged"):  # the default, and the faster way
            add(store, ours, "best peer", ["get", "get-ranged"], PEERS, faster(1), cheaper(cpu))
    return found


def limited(runs: Runs) -> Verdict:
    """Ranges over connections of 50 MB/s, against their combined capacity."""
    work, goal = "nginx at 50 MB/s for each of 16 connections: GET, parallel ranges", ">= 0.90x"
    ranged = runs.select(store="nginx", operation="get-ranged", contender="ours", group="")
    if not ranged:
        return Verdict(work, "ideal 800 MB/s", goal)
    rates = [run[THROUGHPUT] * GIB for run in ranged]
    reached = statistics.median(rates) / LIMITED_BYTES_PER_S
    spread = f"{min(rates) / LIMITED_BYTES_PER_S:.2f}-{max(rates) / LIMITED_BYTES_PER_S:.2f}"
    figure = f"{reached:.2f}x ({spread}): {statistics.median(rates) / 1e6:.0f} MB/s"
    single = runs.select(store="nginx", operation="get", contender="ours", group="")
    if single:
        figure += f"; one request {_median(single, THROUGHPUT) * GIB / 1e6:.0f} MB/s"
    return Verdict(work, "ideal 800 MB/s", goal, figure + _few(len(ranged)), reached >= 0.9)


def thresholds(runs: Runs, store: str) -> list[Verdict]:
    """Our speed-up of each threshold over no ranges at all, against the specification's."""
    where = {"minio": "MinIO", "nginx": "nginx, 50 MB/s for each connection"}[store]
    same = {"store": store, "group": "threshold", "contender": "ours"}
    off = runs.select(value="off", **same)
    found = []
    for value, (_, wanted) in SPECIFIED.items():
        if value == "off":
            continue
        some = runs.select(value=value, **same)
        work, opponent, goal = f"148 MB, threshold {value}, {where}", "no ranges", f">= {wanted:.2f}x, as specified"
        if not (some and off):
            found.append(Verdict(work, opponent, goal))
            continue
        one = ratio(some, off, THROUGHPUT)
        found.append(Verdict(work, opponent, goal, f"{one}{_few(one.pairs)}", one.of_medians >= wanted))
    return found


# Bounds on the cost of the setting for ranges if no object reaches its threshold: no more than noise.
SAME = (faster(0.9, OBJECTS), cheaper(SAME_COST, CPU_OBJECT))
# Speed-up that ranges must give a list of mixed sizes if each connection is limited to 50 MB/s: without ranges, the
# 128 MiB object takes 2.7 s on one connection and sets the pace. Without such a limit nothing may become slower.
MIXED_GAIN = 2.0


def settings(runs: Runs) -> list[Verdict]:
    """Ours with S3DLIO_ENABLE_RANGE_OPTIMIZATION over ours without: it makes no small object slower."""
    cases: list[tuple[str, str, str, tuple[Limit, ...]]] = []
    for store in ("discard", "minio"):
        cases += [(store, operation, "4 KiB", SAME) for operation in ("get-many", "get-each")]
        cases.append((store, "get-many", "mixed sizes", (faster(0.9),)))
    cases.append(("nginx", "get-many", "mixed sizes", (faster(MIXED_GAIN),)))
    names = {"get-many": "get_many", "get-each": "get, one after the other"}
    places = {"discard": "", "minio": "MinIO: ", "nginx": "nginx at 50 MB/s for each connection: "}
    found = []
    for store, operation, value, limits in cases:
        work, opponent = f"{places[store]}{value}, {names[operation]}, ranges on", "ranges off"
        goal = ", ".join(map(str, limits))
        same = {"store": store, "operation": operation, "group": "setting", "contender": "ours"}
        on, off = runs.select(value=f"{value}, ranges on", **same), runs.select(value=f"{value}, ranges off", **same)
        if not (on and off):
            found.append(Verdict(work, opponent, goal))
            continue
        ratios = [ratio(on, off, limit.number) for limit in limits]
        figure = ", ".join(f"{one} {WORDS[limit.number]}" for one, limit in zip(ratios, limits, strict=True))
        reached = all(limit.holds(one.of_medians) for one, limit in zip(ratios, limits, strict=True))
        found.append(Verdict(work, opponent, goal, figure + _few(ratios[0].pairs), reached))
    return found


def memory(runs: Runs) -> list[Verdict]:
    """Peak memory that an upload adds to a process that has the library loaded: within the formula, and flat."""
    where = "Peak RSS beyond the caller's arrays and the library's code"
    even = {"store": "discard", "contender": "ours-even-parts"}
    reserved = {
        value: runs.select(operation="put-reserve", group="memory", value=value, **even)
        for value in ("1 GiB", "5 GiB", "10 GiB", "50 GiB")
    }
    lent = {value: runs.select(operation="put-again", value=value, **even) for value in ("100 parts", "10,000 parts")}
    found = [
        _flat(f"{where}: PUT, reserve, fill, commit, parts of 16 MiB", 16, reserved),
        _flat(f"{where}: PUT, write(copy=False), parts of 5 MiB", 5, lent),
    ]
    grown = runs.select(operation="put-reserve", group="memory", value="50 GiB", contender="ours")
    work, goal = f"{where}: the first with parts that grow", "for comparison"
    if not grown:
        return [*found, Verdict(work, "formula", goal)]
    return [*found, Verdict(work, "formula", goal, _peaks("50 GiB", grown))]


def _peaks(value: str, runs: Sequence[Run]) -> str:
    return f"{value}: {_median(runs, PEAK):.0f} MiB (at most {_most(runs):.0f})"


def _most(runs: Sequence[Run]) -> float:
    return max(float(run[PEAK]) for run in runs)


def _flat(work: str, part_mib: int, sizes: dict[str, list[Run]]) -> Verdict:
    """Memory from the smallest size to the largest, within (max_in_flight + 2) x part_size, the formula of a writer.

    No run may exceed the formula. Flatness is judged by medians: how much of the formula a run needs depends on timing,
    so the maximum is partly chance and may be one buffer more for the largest size.
    """
    bound = (IN_FLIGHT + 2) * part_mib
    names = list(sizes)
    goal = f"<= {bound} MiB, medians flat from {names[0]} to {names[-1]}"
    if not all(sizes.values()):
        return Verdict(work, "formula", goal)
    flat = _median(sizes[names[-1]], PEAK) <= _median(sizes[names[0]], PEAK) + part_mib
    figure = ", ".join(_peaks(value, some) for value, some in sizes.items())
    reached = flat and max(map(_most, sizes.values())) <= bound
    return Verdict(work, "formula", goal, figure + _few(min(map(len, sizes.values()))), reached)


def parts(runs: Runs) -> Verdict:
    """Time and CPU per part of 10,000, against one of 100."""
    work, opponent, goal = "10,000 parts of 5 MiB, each", "each of 100 parts", f"<= {SAME_COST:.2f}x time and CPU"
    same = {"store": "discard", "operation": "put-again", "contender": "ours-even-parts"}
    many, few = runs.select(value="10,000 parts", **same), runs.select(value="100 parts", **same)
    if not (many and few):
        return Verdict(work, opponent, goal)
    speed, cpu = ratio(few, many, THROUGHPUT), ratio(many, few, CPU)
    figure = f"{speed} time, {cpu} CPU{_few(cpu.pairs)}"
    return Verdict(work, opponent, goal, figure, speed.of_medians <= SAME_COST and cpu.of_medians <= SAME_COST)


def start(runs: Runs) -> list[Verdict]:
    """The import against boto3's and the original's, and what it loads."""
    ours = runs.select(operation="start", contender="ours")
    found = []
    for contender, bound in (("boto3", START), ("original", None)):
        theirs = runs.select(operation="start", contender=contender)
        goal = f"<= {bound:.2f}x" if bound else "for comparison"
        if not (ours and theirs):
            found.append(Verdict("import s3dlio", contender, goal))
            continue
        one = ratio(ours, theirs, "import_s")
        times = f"{1000 * _median(ours, 'import_s'):.0f} ms and {1000 * _median(theirs, 'import_s'):.0f} ms"
        reached = one.of_medians <= bound if bound else None
        found.append(Verdict("import s3dlio", contender, goal, f"{one}: {times}{_few(one.pairs)}", reached))
    loaded = [name for name in ("botocore", "numpy") if any(run.get(f"loads_{name}") for run in ours)]
    goal = "neither at import"
    if not ours or f"loads_{'numpy'}" not in ours[0]:
        return [*found, Verdict("import s3dlio", "botocore and numpy", goal)]
    figure = f"loads {' and '.join(loaded)}" if loaded else "loads neither"
    return [*found, Verdict("import s3dlio", "botocore and numpy", goal, figure, not loaded)]


def verdicts(files: Sequence[dict[str, Any]]) -> list[Verdict]:
    """All rows, in the order of the page."""
    runs = Runs(files)
    several: tuple[Callable[[Runs], list[Verdict]], ...] = (settings, memory, lambda some: [parts(some)], start)
    rows = [judge(race, runs) for race in races()]
    rows += [limited(runs), *thresholds(runs, "minio"), *thresholds(runs, "nginx")]
    for each in several:
        rows += each(runs)
    return rows


def table(rows: Sequence[Verdict]) -> str:
    """The rows in Markdown, with a sentence that counts them."""
    lines = ["| Work | Opponent | Goal | Figure | Verdict |", "|---|---|---|---|---|"]
    for row in rows:
        word = f"**{row.word}**" if row.reached is False else row.word
        lines.append(f"| {row.work} | {row.opponent} | {row.goal} | {row.figure} | {word} |")
    judged = [row.reached for row in rows if row.reached is not None]
    unmeasured = sum(row.figure == "not measured" for row in rows)
    counted = f"{sum(judged)} of {len(judged)} goals are reached"
    counted += f"; {unmeasured} were not measured." if unmeasured else "."
    return counted + "\n\n" + "\n".join(lines)


def threshold_table(summary: Sequence[Run], labels: dict[str, str]) -> str:
    """The specification's table beside the measured values. MB are 2^20 bytes, as in the specification."""
    chosen = [name for name in ("ours", "original") if any(row["contender"] == name for row in summary)]
    head = "| Threshold | Specification | | " + " | ".join(f"{labels[name]} | " for name in chosen) + "|"
    lines = [head, "|" + "---|" * (3 + 2 * len(chosen))]
    medians = {(row["contender"], row["value"]): row[THROUGHPUT]["median"] * GIB / MIB for row in summary}
    for value, (rate, speedup) in SPECIFIED.items():
        cells = [value, f"{rate} MB/s", f"{speedup:.2f}x"]
        for name in chosen:
            own, off = medians.get((name, value)), medians.get((name, "off"))
            cells += [f"{own:,.0f} MB/s", f"{own / off:.2f}x"] if own and off else ["", ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
