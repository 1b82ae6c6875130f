"""The workloads of `make bench` and `make bench-full`: which cases, by which contenders, on which stores."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .case import MIB, Case

SMALL_PEERS = ("ours", "original", "obstore", "s3torchconnectorclient", "boto3", "minio", "pyarrow", "s3fs")
SMALL_FLOORS = ("floor-small-get", "floor-small-put", "floor-small-put-crc")


@dataclass(frozen=True)
class Workload:
    """Some cases that belong together: one file of results, one or more plots.

    Attributes:
        name: of its file, and for `--workloads`.
        title: of its section.
        about: what a reader has to know about its settings.
        cases: in the order they run.
        contenders: names, or groups of names.
        stores: on which it runs.
        axis: of its plot, where its cases differ in one number; "" for bars.
    """

    name: str
    title: str
    about: str
    cases: tuple[Case, ...]
    contenders: tuple[str, ...]
    stores: tuple[str, ...]
    axis: str = ""


def _large(size: int, *operations: str, repeats: int = 3) -> tuple[Case, ...]:
    return tuple(Case(operation, size, repeats=repeats) for operation in operations)


def _sweep(size: int, group: str, values: tuple[int, ...], field: str, unit: int, *operations: str) -> tuple[Case, ...]:
    cases = []
    for operation in operations:
        for value in values:
            # A part size is a range size where bytes come in.
            name = "range_size" if field == "part_size" and operation.startswith("get") else field
            changed = replace(Case(operation, size, group=group), **{name: value * unit})
            label = f"{value} MiB" if unit == MIB else f"{value} in flight"
            cases.append(replace(changed, value=label))
    return tuple(cases)


def _thresholds(size: int, count: int, repeats: int) -> tuple[Case, ...]:
    base = Case("get-each", size, count=count, range_size=None, repeats=repeats, group="threshold")
    tried = tuple(replace(base, threshold=value * MIB, value=f"{value} MiB") for value in (8, 16, 32, 64, 128))
    return (replace(base, value="off"), *tried)


def _small(count: int) -> tuple[Case, ...]:
    return tuple(Case(operation, 4096, count=count, in_flight=64) for operation in ("get-many", "put-many"))


LARGE_ABOUT = (
    "Objects of {size} in parts of 16 MiB, ranges of 8 MiB, 16 in flight. Requests are signed; checksums are each "
    "library's default where its name says nothing else. With each part this library and pyarrow send a CRC64NVME, "
    "boto3 and s3fs a CRC32; over plain HTTP the original, obstore, minio, boto3 and s3fs sign its SHA-256; "
    "s3torchconnectorclient sends neither, and its number in flight cannot be set. pyarrow's parts are of 10 MiB. "
    "obstore and pyarrow fetch ranges from 16 threads."
)
THRESHOLD_ABOUT = (
    "16 objects of 148 MiB, one get() after the other, by the size from which on the library downloads in ranges. "
    "Size and number of ranges are left to the library."
)
SMALL_ABOUT = (
    "{count} objects of 4 KiB, 64 in flight. Where a library has no call for many objects, its call for one is made "
    "from 64 threads; this library's put-many is that as long as it has no put_many()."
)
START_ABOUT = "A fresh process: the import of the library, then its client and a first get() of 4 KiB."


def quick() -> list[Workload]:
    """What `make bench` runs, in about five minutes."""
    size = 256 * MIB
    floors = ("floor-put", "floor-put-crc", "floor-get-discard", "floor-get-warm", "floor-get-fresh")
    return [
        Workload(
            "large",
            "Large objects",
            LARGE_ABOUT.format(size="256 MiB"),
            _large(size, "put-reserve", "put-write-borrowed", "get-ranged", repeats=6),
            ("ours", "original", "obstore", "boto3", *floors),
            ("discard",),
        ),
        Workload(
            "large",
            "Large objects",
            LARGE_ABOUT.format(size="256 MiB"),
            _large(size, "put-reserve", "get-ranged"),
            ("ours", "original"),
            ("minio",),
        ),
        Workload(
            "small",
            "Small objects",
            SMALL_ABOUT.format(count="2,000"),
            _small(2000),
            ("ours", "original", *SMALL_FLOORS),
            ("discard",),
        ),
        Workload("start", "Start", START_ABOUT, (Case("start", 4096),), ("ours", "original", "boto3"), ("discard",)),
    ]


def full() -> list[Workload]:
    """What `make bench-full` runs, in hours."""
    size, everywhere = 1024 * MIB, ("discard", "minio", "minio-tls")
    pair = ("ours", "original")
    return [
        Workload(
            "large",
            "Large objects",
            LARGE_ABOUT.format(size="1 GiB"),
            _large(size, "put-reserve", "put-write", "put-write-borrowed", "get", "get-ranged"),
            ("all",),
            everywhere,
        ),
        Workload(
            "part-size",
            "Part size and range size",
            "1 GiB, 16 in flight.",
            _sweep(size, "part-size", (5, 8, 16, 32, 64), "part_size", MIB, "put-reserve", "get-ranged"),
            (*pair, "floor-get-warm"),
            ("discard", "minio"),
            "Part or range",
        ),
        Workload(
            "in-flight",
            "Requests in flight",
            "1 GiB in parts of 16 MiB and ranges of 8 MiB.",
            _sweep(size, "in-flight", (1, 2, 4, 8, 16, 32, 64), "in_flight", 1, "put-reserve", "get-ranged"),
            pair,
            ("discard", "minio"),
            "Requests",
        ),
        Workload(
            "threshold",
            "Range threshold",
            THRESHOLD_ABOUT,
            _thresholds(148 * MIB, 16, 1),
            pair,
            ("discard", "minio"),
            "Threshold",
        ),
        Workload(
            "limited",
            "A store that limits each connection",
            "256 MiB in ranges of 8 MiB, 16 in flight, from a server that gives each connection 64 MiB/s.",
            _large(256 * MIB, "get", "get-ranged", repeats=2),
            (*pair, "obstore", "s3torchconnectorclient", "boto3", "pyarrow"),
            ("nginx",),
        ),
        Workload(
            "small",
            "Small objects",
            SMALL_ABOUT.format(count="10,000"),
            _small(10_000),
            (*SMALL_PEERS, *SMALL_FLOORS),
            ("discard", "minio"),
        ),
        Workload("start", "Start", START_ABOUT, (Case("start", 4096),), SMALL_PEERS, ("discard",)),
    ]
