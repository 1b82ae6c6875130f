"""The workloads of `make bench` and `make bench-full`: which cases, by which contenders, on which stores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .case import MIB, Case

GIB = 1024 * MIB


@dataclass(frozen=True)
class Workload:
    """Cases that belong together: one file of results, one or more plots.

    Attributes:
        name: of its file, and for `--workloads`.
        title: of its section.
        about: what a reader of the page needs to know about its settings.
        cases: in the order they run.
        contenders: names, or groups of names.
        stores: on which it runs.
        axis: of its plot, if its cases differ in one number; "" for bars.
        shown: the number that its plot shows; "" for throughput.
        pairs: the most turns it takes; None for no limit.
        traced: whether its system calls are counted too.
    """

    name: str
    title: str
    about: str
    cases: tuple[Case, ...]
    contenders: tuple[str, ...]
    stores: tuple[str, ...]
    axis: str = ""
    shown: str = ""
    pairs: int | None = None
    traced: bool = False


ABOUT = "Objects of {size} in parts of 16 MiB, ranges of 8 MiB, 16 in flight. "
DEFAULTS = (
    "Requests are signed; checksums are each library's default where its name says nothing else. With each part "
    "this library and pyarrow send a CRC64NVME, boto3, s3fs and the CRT transfer client a CRC32; over plain HTTP the "
    "original, obstore, minio, boto3 and s3fs sign its SHA-256; s3torchconnectorclient sends neither. How much the "
    "last and the CRT transfer client have in flight cannot be set. pyarrow's parts are of 10 MiB. obstore and "
    "pyarrow fetch ranges from 16 threads."
)
SMALL_ABOUT = (
    "{count} objects of {size}, 64 in flight. Where a library has no call for many objects, its call for one is made "
    "from 64 threads."
)
SHORT_ABOUT = (
    "Objects of 4 KiB by the hundred and by the thousand, 16 and 64 in flight: what starting workers and connections "
    "costs shows most where there is little to do. The first call of a process, in which a small upload has loaded all "
    "code, and later calls, which find connections."
)
START_ABOUT = "A fresh process: the import of the library, then its client and a first get() of 4 KiB."
THRESHOLD_ABOUT = (
    "{count} objects of 148 MiB, one get() after the other, by the size from which on the library downloads in ranges. "
    "Size and number of ranges are left to the library."
)
MIXED_ABOUT = (
    "S3DLIO_ENABLE_RANGE_OPTIMIZATION off and on, from its default of 64 MiB on; size and number of ranges are "
    "left to the library. 64 objects in flight. The mixed list has, evenly spread, {mix}."
)
WRITES_ABOUT = (
    "One object of 64 MiB by write() of a memoryview of so many bytes at a time, and by the same loop with an "
    "io.BufferedWriter of one part before this library's writer."
)
LIMITED_ABOUT = "From a server that gives each connection 50 MB/s, ranges of 8 MiB, 16 in flight."

LARGE = ("put-write-borrowed", "get", "get-ranged")
PAIR = ("ours", "original")
FAST = ("ours", "original", "obstore", "s3torchconnectorclient")
# Slow ones, which get smaller objects and fewer turns.
SLOW = ("boto3", "boto3-crt", "minio", "pyarrow", "s3fs")
SLOW_BY_CHECK = ("boto3-unchecked", "boto3-crc64nvme")
UPLOADERS = (*FAST, "original-unsigned", "ours-unchecked", "obstore-unsigned", "obstore-crc64nvme")
# They do what "put-reserve" does, and so take turns with ours there.
FILL_FLOORS = tuple(f"floor-put-fill-crc-{threads}t" for threads in (1, 2, 4))
LARGE_FLOORS = FILL_FLOORS + tuple(
    f"{name}-{threads}t"
    for name, counts in (
        ("floor-put", (2, 4)),
        ("floor-put-crc", (1, 2, 4)),
        ("floor-get-discard", (2,)),
        ("floor-get-warm", (1, 2, 4)),
        ("floor-get-huge", (1, 2, 4)),
        ("floor-get-fresh", (2,)),
    )
    for threads in counts
)
SMALL_FLOORS = tuple(f"floor-small-{name}-{threads}t" for name in ("get", "put", "put-crc") for threads in (1, 2, 4))


def _large(size: int, *operations: str, repeats: int = 2) -> tuple[Case, ...]:
    return tuple(Case(operation, size, repeats=repeats) for operation in operations)


def _writer(size: int, *operations: str, by: tuple[str, ...], repeats: int = 2) -> tuple[Case, ...]:
    return tuple(replace(case, by=by) for case in _large(size, *operations, repeats=repeats))


def _sweep(size: int, group: str, values: tuple[int, ...], field: str, unit: int, *operations: str) -> tuple[Case, ...]:
    cases = []
    for operation in operations:
        for value in values:
            # For downloads, the part size is the range size.
            name = "range_size" if field == "part_size" and operation.startswith("get") else field
            label = f"{value} MiB" if unit == MIB else f"{value} in flight"
            setting: dict[str, Any] = {name: value * unit}
            cases.append(Case(operation, size, group=group, repeats=2, value=label, **setting))
    return tuple(cases)


def _thresholds(size: int, count: int) -> tuple[Case, ...]:
    """The original without ranges and at its default only."""
    base = Case("get-each", size, count=count, range_size=None, warmups=0, repeats=1, group="threshold")
    tried = []
    for value in (8, 16, 32, 64, 128):
        by = PAIR if value == 64 else ("ours",)
        tried.append(replace(base, threshold=value * MIB, value=f"{value} MiB", by=by))
    return (replace(base, value="off"), *tried)


def _slow(size: int) -> tuple[Case, ...]:
    """get() only by those that have no faster way."""
    put, one, ranged = _large(size, "put-write-borrowed", "get", "get-ranged", repeats=1)
    return (put, replace(one, by=("ours", "minio")), ranged)


def _small(count: int, size: int = 4096) -> tuple[Case, ...]:
    both = ("get-many", "put-many")
    return tuple(Case(operation, size, count=count, in_flight=64, repeats=1) for operation in both)


def _short(*operations: str) -> tuple[Case, ...]:
    """The first call of a process, and the calls after one."""
    cases = []
    for operation in operations:
        for count, repeats in ((200, 10), (2000, 5), (20_000, 2)):
            for in_flight in (16, 64):
                case = Case(operation, 4096, count=count, in_flight=in_flight, group="short runs", loaded=True)
                label = f"{count:,}, {in_flight} in flight"
                cases.append(replace(case, warmups=0, repeats=1, value=f"{label}, first call"))
                cases.append(replace(case, warmups=1, repeats=repeats, value=f"{label}, later calls"))
    return tuple(cases)


# (size, count) of the objects of a list of mixed sizes, two of which reach the threshold.
FEW_MIXED = ((4096, 1000), (256 << 10, 100), (64 * MIB, 1), (128 * MIB, 1))
MANY_MIXED = ((4096, 4000), (256 << 10, 400), (64 * MIB, 4), (128 * MIB, 2))


def _mixed_about(mix: tuple[tuple[int, int], ...]) -> str:
    sizes = [
        f"{count:,} of {size >> 20} MiB" if size >= MIB else f"{count:,} of {size >> 10} KiB" for size, count in mix
    ]
    return MIXED_ABOUT.format(mix=f"{', '.join(sizes[:-1])} and {sizes[-1]}")


def _mixed(mix: tuple[tuple[int, int], ...], count: int = 0) -> tuple[Case, ...]:
    """The list of mixed sizes, and before it `count` small objects, together and one by one; each off and on."""
    bases = [("mixed sizes", Case("get-many", 0, mix=mix))]
    if count:
        bases[:0] = [
            ("4 KiB", Case("get-many", 4096, count=count)),
            ("4 KiB", Case("get-each", 4096, count=count // 5)),
        ]
    same: dict[str, Any] = {"in_flight": 64, "range_size": None, "repeats": 2, "group": "setting"}
    return tuple(
        replace(case, threshold=threshold, value=f"{name}, ranges {setting}", **same)
        for name, case in bases
        for setting, threshold in (("off", None), ("on", 64 * MIB))
    )


def _small_writes() -> tuple[Case, ...]:
    """Ours with both kinds of buffer; the original takes only the caller's."""
    base = Case("", 64 * MIB, group="small writes", repeats=2)
    cases = []
    for piece, value in ((512, "512 B"), (4096, "4 KiB")):
        own = replace(base, operation="put-small-writes", piece=piece, value=value, by=PAIR)
        cases += [own, replace(own, operation="put-buffered-writes", by=("ours",))]
    return tuple(cases)


def _public() -> tuple[Case, ...]:
    """Upload and download of 5 GiB in one object, in 10, and in 10,000 (so 2.4 GiB), one transfer each."""
    by = ("ours", "obstore", "boto3-crt")
    one, few, many = "1 x 5 GiB", "10 x 512 MiB", "10,000 x 256 KiB"
    whole, objects = Case("", 5 * GIB, by=by), Case("", 512 * MIB, count=10, by=by)
    small = Case("", 256 << 10, count=10_000, in_flight=64)
    shapes = ((one, whole, "put-write-borrowed", "get-ranged"), (few, objects, "put-many", "get-many"))
    cases = []
    for label, case, put, get in (*shapes, (many, small, "put-many", "get-many")):
        for operation in (put, get):
            cases.append(replace(case, operation=operation, value=label, warmups=0, repeats=1))
    return tuple(cases)


def _parts() -> tuple[Case, ...]:
    base = Case("put-again", 100 * 5 * MIB, part_size=5 * MIB, warmups=2, repeats=20, value="100 parts", loaded=True)
    many = replace(base, size=10_000 * 5 * MIB, warmups=0, repeats=1, value="10,000 parts")
    return (base, many)


def _growing() -> tuple[Case, ...]:
    """An upload's memory should not depend on its size, as long as its parts keep their size.

    All processes move the same number of bytes: the most buffers in use at once is partly chance, and grows with time.
    """
    even = tuple(
        Case("put-reserve", gib * GIB, warmups=0, repeats=50 // gib, group="memory", value=f"{gib} GiB", loaded=True)
        for gib in (1, 5, 10, 50)
    )
    even = tuple(replace(case, by=("ours-even-parts",)) for case in even)
    return (*even, replace(even[-1], by=("ours",)))


SMALL_WRITES = Workload(
    "small-writes", "Small writes into one object", WRITES_ABOUT, _small_writes(), PAIR, ("discard",)
)


def quick() -> list[Workload]:
    """What `make bench` runs, in about five minutes."""
    size, about = 256 * MIB, ABOUT.format(size="256 MiB") + DEFAULTS
    floors = (
        *FILL_FLOORS[1:],
        *("floor-put-crc-2t", "floor-put-crc-4t", "floor-get-warm-2t", "floor-get-warm-4t", "floor-get-huge-4t"),
    )
    operations = ("put-write-borrowed", "get-ranged")
    return [
        Workload(
            "large",
            "Large objects",
            about,
            (
                *_writer(size, "put-reserve", by=(*PAIR, *FILL_FLOORS), repeats=4),
                *_writer(size, "put-write", by=PAIR, repeats=4),
                *_large(size, *operations, "get-into", repeats=4),
            ),
            (*PAIR, "obstore", "s3torchconnectorclient", *floors),
            ("discard",),
            traced=True,
        ),
        Workload(
            "large",
            "Large objects",
            about,
            (*_writer(size, "put-reserve", by=PAIR), *_large(size, *operations)),
            (*PAIR, "obstore"),
            ("minio",),
            pairs=3,
        ),
        Workload(
            "small",
            "Small objects",
            SMALL_ABOUT.format(count="2,000", size="4 KiB"),
            _small(2000),
            (*PAIR, "obstore", "floor-small-get-2t", "floor-small-put-crc-2t"),
            ("discard",),
        ),
        Workload(
            "short", "Short runs of small objects", SHORT_ABOUT, _short("get-many"), ("ours",), ("discard",), pairs=3
        ),
        Workload(
            "mixed",
            "Small objects and mixed sizes, by the setting for ranges",
            _mixed_about(FEW_MIXED),
            _mixed(FEW_MIXED, 1000),
            ("ours",),
            ("discard",),
            pairs=3,
        ),
        replace(SMALL_WRITES, pairs=3),
        Workload("start", "Start", START_ABOUT, (Case("start", 4096),), (*PAIR, "boto3"), ("discard",)),
    ]


def full() -> list[Workload]:
    """What `make bench-full` runs, in about an hour."""
    about, half = ABOUT.format(size="1 GiB") + DEFAULTS, ABOUT.format(size="512 MiB") + DEFAULTS
    everybody = (*FAST, "obstore-crc64nvme")
    return [
        Workload(
            "large",
            "Large objects",
            about,
            (
                # Two transfers of a fifth of a second are too short a sample for the fast ones.
                *_writer(GIB, "put-reserve", by=(*UPLOADERS, *FILL_FLOORS), repeats=4),
                *_writer(GIB, "put-write", by=PAIR, repeats=4),
                *_writer(GIB, "put-reserve-unfilled", by=("ours",), repeats=4),
                *_large(GIB, "put-write-borrowed", "get", "get-ranged", "get-into", repeats=4),
            ),
            (*UPLOADERS, *LARGE_FLOORS),
            ("discard",),
            traced=True,
        ),
        Workload(
            "large",
            "Large objects",
            about,
            (*_writer(GIB, "put-reserve", by=PAIR, repeats=1), *_large(GIB, *LARGE, repeats=1)),
            everybody,
            ("minio",),
        ),
        Workload(
            "large",
            "Large objects",
            half,
            (*_writer(GIB // 2, "put-reserve", by=PAIR, repeats=1), *_large(GIB // 2, *LARGE, repeats=1)),
            everybody,
            ("minio-tls",),
        ),
        Workload(
            "others",
            "Large objects, the slower clients",
            ABOUT.format(size="256 MiB") + DEFAULTS,
            _slow(256 * MIB),
            ("ours", *SLOW, *SLOW_BY_CHECK),
            ("discard",),
        ),
        Workload(
            "others",
            "Large objects, the slower clients",
            ABOUT.format(size="256 MiB") + DEFAULTS,
            _slow(256 * MIB),
            ("ours", *SLOW),
            ("minio", "minio-tls"),
        ),
        Workload(
            "small",
            "Small objects",
            SMALL_ABOUT.format(count="10,000", size="4 KiB"),
            _small(10_000),
            (*FAST, *SMALL_FLOORS),
            ("discard",),
            traced=True,
        ),
        Workload(
            "small",
            "Small objects",
            SMALL_ABOUT.format(count="2,000", size="4 KiB"),
            _small(2000),
            (*PAIR, "obstore"),
            ("minio", "minio-tls"),
        ),
        Workload(
            "short",
            "Short runs of small objects",
            SHORT_ABOUT,
            _short("get-many", "put-many"),
            PAIR,
            ("discard",),
        ),
        Workload(
            "small-others",
            "Small objects, the slower clients",
            SMALL_ABOUT.format(count="2,000", size="4 KiB"),
            _small(2000),
            ("ours", *SLOW),
            ("discard",),
        ),
        SMALL_WRITES,
        Workload(
            "mixed",
            "Small objects and mixed sizes, by the setting for ranges",
            _mixed_about(MANY_MIXED),
            _mixed(MANY_MIXED, 10_000),
            PAIR,
            ("discard",),
        ),
        Workload(
            "mixed",
            "Small objects and mixed sizes, by the setting for ranges",
            _mixed_about(MANY_MIXED),
            _mixed(MANY_MIXED, 2000),
            PAIR,
            ("minio",),
        ),
        Workload(
            "mixed",
            "Mixed sizes, by the setting for ranges",
            _mixed_about(MANY_MIXED) + " Each connection has 50 MB/s.",
            _mixed(MANY_MIXED),
            PAIR,
            ("nginx",),
        ),
        Workload(
            "threshold",
            "Range threshold",
            THRESHOLD_ABOUT.format(count=16),
            _thresholds(148 * MIB, 16),
            PAIR,
            ("minio",),
            "Threshold",
        ),
        Workload(
            "threshold",
            "Range threshold",
            THRESHOLD_ABOUT.format(count=2) + " Each connection has 50 MB/s.",
            _thresholds(148 * MIB, 2),
            PAIR,
            ("nginx",),
            "Threshold",
        ),
        Workload(
            "limited",
            "A store that limits each connection",
            LIMITED_ABOUT,
            (
                Case("get", 128 * MIB, warmups=0, repeats=1, value="128 MiB", by=PAIR),
                Case("get-ranged", GIB, warmups=1, repeats=1, value="1 GiB"),
            ),
            (*FAST, "pyarrow"),
            ("nginx",),
        ),
        Workload(
            "part-size",
            "Part size and range size",
            "512 MiB, 16 in flight.",
            _sweep(GIB // 2, "part-size", (5, 8, 16, 32, 64), "part_size", MIB, "put-reserve", "get-ranged"),
            (*PAIR, "floor-get-warm-2t"),
            ("discard",),
            "Part or range",
        ),
        Workload(
            "in-flight",
            "Requests in flight",
            "512 MiB in parts of 16 MiB and ranges of 8 MiB.",
            _sweep(GIB // 2, "in-flight", (1, 4, 8, 16, 64), "in_flight", 1, "put-reserve", "get-ranged"),
            PAIR,
            ("discard",),
            "Requests in flight",
        ),
        Workload(
            "memory",
            "Memory by the size of the object",
            "Parts of 16 MiB, 16 in flight; each process moves 50 GiB, in objects of one size. The library's code is "
            "loaded before, 19 MiB or so with awscrt and botocore. By default parts grow "
            "from the 1,001st on, as nobody knows how many will come, and with them what the formula allows.",
            _growing(),
            ("ours", "ours-even-parts"),
            ("discard",),
            "Object",
            "peak_added_mib",
        ),
        Workload(
            "parts",
            "Many parts",
            "Parts of 5 MiB, 16 in flight: 100 of them, 20 times over, and 10,000 of them.",
            _parts(),
            ("ours-even-parts",),
            ("discard",),
        ),
        Workload(
            "start",
            "Start",
            START_ABOUT,
            (Case("start", 4096),),
            (*FAST, *SLOW),
            ("discard",),
        ),
        Workload(
            "public",
            "Uploads and downloads as in public benchmarks",
            "From and to memory, by a fresh process, without a transfer before: in parts of 16 MiB, ranges of 8 MiB.",
            _public(),
            (*PAIR, "obstore", "boto3-crt"),
            ("discard",),
            shown="gib_per_s",
        ),
    ]
