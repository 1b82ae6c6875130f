"""The contenders: ours in the environment of the harness, each peer in an environment of its own, floors as programs.

A peer's environment is created once, by venv and pip, below .cache, with one pinned version. It is never on our own
path.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NATIVE = ROOT / "benchmarks" / "bin"

WRITER = frozenset(
    {
        *("put-reserve", "put-reserve-unfilled", "put-write", "put-write-borrowed", "put-write-copied", "put-again"),
        *("put-small-writes", "put-buffered-writes"),
    }
)
SMALL = frozenset({"get-many", "put-many"})
READS = frozenset({"get", "get-ranged"})
EVERYTHING = WRITER | SMALL | READS | {"get-each", "start"}
PUT_AND_GET = SMALL | READS | {"put-write-borrowed", "start"}
LARGE = frozenset({"put-write-borrowed", "get-ranged"})
FLOOR_THREADS = (1, 2, 4)

VERSIONS = {
    "s3dlio": "0.10.0",
    "obstore": "0.12.1",
    "s3torchconnectorclient": "1.5.0",
    "boto3": "1.44.5",
    "minio": "7.2.20",
    "pyarrow": "26.0.1",
    "s3fs": "2026.9.0",
}


@dataclass(frozen=True)
class Contender:
    """One library with one way to set it up, or a floor program.

    Attributes:
        name: for the command line and the results.
        label: for tables.
        program: the interpreter, or the floor program.
        root: folder that the library must be imported from.
        operations: what it can do.
        client: its module `clients.with_...`; "" for a floor.
        imports: what `start` imports.
        environment: additional variables of its process.
        writer_options: additional keywords of its writer or store.
        arguments: of a floor program.
        tls: whether its trusted authorities can be set.
        distribution: installed in its environment; None for ours and for floors.
        extra: of that distribution; each extra has an environment of its own.
    """

    name: str
    label: str
    program: Path
    root: Path
    operations: frozenset[str]
    client: str = ""
    imports: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    writer_options: dict[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    tls: bool = True
    distribution: str | None = None
    extra: str = ""

    @property
    def is_floor(self) -> bool:
        """Whether it is a C program that only the discard server understands."""
        return not self.client

    @property
    def required(self) -> bool:
        """Whether its failure ends a run; another peer that fails is only left out of one table."""
        return self.is_floor or self.client == "s3dlio"


def _home(distribution: str, extra: str = "") -> Path:
    name = f"{distribution}-{extra}" if extra else distribution
    return ROOT / ".cache" / "peers" / f"{name}-{VERSIONS[distribution]}"


def _ours(name: str, label: str, operations: frozenset[str] = EVERYTHING, **more: Any) -> Contender:
    same: dict[str, Any] = {"client": "s3dlio", "imports": ("s3dlio",), "environment": {"PYTHONPATH": str(ROOT)}}
    return Contender(name, label, Path(sys.executable), ROOT / "s3dlio", operations, **same, **more)


def _peer(
    name: str,
    distribution: str,
    operations: frozenset[str] = PUT_AND_GET,
    *,
    imports: tuple[str, ...] = (),
    note: str = "",
    extra: str = "",
    client: str = "",
    **more: Any,
) -> Contender:
    home = _home(distribution, extra)
    return Contender(
        name,
        f"{distribution} {VERSIONS[distribution]}{note}",
        home / "bin" / "python",
        home,
        operations,
        client=client or distribution,
        imports=imports or (distribution,),
        distribution=distribution,
        extra=extra,
        **more,
    )


def _floors(name: str, label: str, program: str, operation: str, *arguments: str) -> list[Contender]:
    """One for each number of threads (`*-2t` and so on), because the best number is not known beforehand."""
    return [
        Contender(
            f"{name}-{threads}t",
            f"floor in C, {label}{threads} thread{'s' if threads > 1 else ''}",
            NATIVE / program,
            NATIVE,
            frozenset({operation}),
            arguments=(*arguments, "--threads", str(threads)),
        )
        for threads in FLOOR_THREADS
    ]


def contenders() -> list[Contender]:
    """All of them, in the order of their turns."""
    # By default the original signs each payload's SHA-256, and ours sends its CRC64NVME and never signs it. With
    # S3DLIO_UNSIGNED_PAYLOAD the original sends neither, so it is compared with ours without a checksum.
    unsigned: dict[str, Any] = {"environment": {"S3DLIO_UNSIGNED_PAYLOAD": "1"}, "note": ", S3DLIO_UNSIGNED_PAYLOAD=1"}
    # s3torchconnectorclient has no range API below its streams, and no setting for a private authority.
    streams = frozenset({"put-write-borrowed", "get-ranged", "start"}) | SMALL
    one_stream = PUT_AND_GET - {"get-ranged"}
    never_one_request = PUT_AND_GET - {"get"}
    boto3 = ("boto3", "boto3.s3.transfer")
    return [
        _ours("ours", "this library", EVERYTHING | {"get-into"}),
        _peer("original", "s3dlio", EVERYTHING),
        _peer("original-unsigned", "s3dlio", WRITER, **unsigned),
        _ours("ours-unchecked", "this library, checksum=None", WRITER, writer_options={"checksum": None}),
        _ours(
            "ours-even-parts",
            "this library, grow_part_size=False",
            WRITER,
            writer_options={"grow_part_size": False},
        ),
        _peer("obstore", "obstore", imports=("obstore", "obstore.store")),
        _peer(
            "obstore-unsigned",
            "obstore",
            frozenset({"put-write-borrowed"}),
            note=", unsigned_payload",
            writer_options={"unsigned_payload": True},
        ),
        _peer(
            "obstore-crc64nvme",
            "obstore",
            frozenset({"put-write-borrowed"}),
            note=", unsigned_payload, CRC64NVME",
            writer_options={"unsigned_payload": True, "checksum_algorithm": "CRC64NVME"},
        ),
        _peer("s3torchconnectorclient", "s3torchconnectorclient", streams, tls=False),
        _peer("boto3", "boto3", imports=boto3),
        _peer(
            "boto3-unchecked",
            "boto3",
            frozenset({"put-write-borrowed"}),
            note=", checksums when required",
            writer_options={"request_checksum_calculation": "when_required"},
        ),
        _peer(
            "boto3-crc64nvme",
            "boto3",
            frozenset({"put-write-borrowed"}),
            extra="crt",
            note=", CRC64NVME, signs the payload over plain HTTP",  # whatever checksum it sends
            writer_options={"ChecksumAlgorithm": "CRC64NVME"},
        ),
        _peer(
            "boto3-crt",
            "boto3",
            LARGE | SMALL | {"start"},
            extra="crt",
            note=", CRT transfer client",
            imports=(*boto3, "s3transfer.crt"),
            client="boto3_crt",
        ),
        _peer("minio", "minio", one_stream),
        _peer("pyarrow", "pyarrow", imports=("pyarrow.fs",)),
        _peer("s3fs", "s3fs", never_one_request),
        *_floors("floor-put", "", "put_floor", "put-write-borrowed"),
        *_floors("floor-put-crc", "CRC64NVME, ", "put_floor", "put-write-borrowed", "--crc"),
        *_floors("floor-put-fill-crc", "fills, CRC64NVME, ", "put_floor", "put-reserve", "--crc", "--fill"),
        *_floors("floor-get-discard", "kernel discards, ", "get_floor", "get-ranged", "--memory", "discard"),
        *_floors("floor-get-warm", "warm memory, ", "get_floor", "get-ranged", "--memory", "warm"),
        *_floors("floor-get-huge", "fresh huge pages, ", "get_floor", "get-ranged", "--memory", "huge"),
        *_floors("floor-get-fresh", "fresh 4 KiB pages, ", "get_floor", "get-ranged", "--memory", "fresh"),
        *_floors("floor-small-get", "", "small_floor", "get-many"),
        *_floors("floor-small-put", "", "small_floor", "put-many", "--put"),
        *_floors("floor-small-put-crc", "CRC64NVME, ", "small_floor", "put-many", "--put", "--crc"),
    ]


PAIR = ("ours", "original", "original-unsigned", "ours-unchecked")
GROUPS = {
    "pair": PAIR,
    "peers": tuple(one.name for one in contenders() if not one.is_floor and one.name != "ours-even-parts"),
    "all": tuple(one.name for one in contenders()),
    "floors": tuple(one.name for one in contenders() if one.is_floor),
}


def choose(names: Sequence[str]) -> list[Contender]:
    """The contenders of these names and groups, in the order of their turns. Raises ValueError for an unknown name."""
    wanted = {name for given in names for name in GROUPS.get(given, (given,))}
    known = contenders()
    unknown = wanted - {one.name for one in known}
    if unknown:
        raise ValueError(f"no contender is called {' or '.join(sorted(unknown))}")
    return [one for one in known if one.name in wanted]


def _installed_version(python: Path, distribution: str) -> str | None:
    if not python.exists():
        return None
    program = f"import importlib.metadata as m; print(m.version({distribution!r}))"
    result = subprocess.run([python, "-I", "-c", program], capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else None


def prepare(chosen: Sequence[Contender]) -> list[Contender]:
    """Creates missing environments; returns the contenders that can run. The pair is required, others may be absent.

    Raises CalledProcessError if the original cannot be installed.
    """
    absent = set()
    for distribution, extra in dict.fromkeys((one.distribution, one.extra) for one in chosen if one.distribution):
        assert distribution is not None
        home, version = _home(distribution, extra), VERSIONS[distribution]
        python = home / "bin" / "python"
        if _installed_version(python, distribution) == version:
            continue
        print(f"creating {home.relative_to(ROOT)}", file=sys.stderr)
        venv.create(home, clear=True, with_pip=True)
        pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        wanted = f"{distribution}[{extra}]=={version}" if extra else f"{distribution}=={version}"
        ended = subprocess.run([*pip, wanted, "numpy"], check=distribution == "s3dlio")
        if ended.returncode != 0:
            print(f"left out: {wanted} cannot be installed here", file=sys.stderr)
            absent.add((distribution, extra))
    return [one for one in chosen if (one.distribution, one.extra) not in absent]
