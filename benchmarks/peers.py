"""Who is measured: ours in the environment that runs the harness, each peer in one of its own, floors as programs.

A peer's environment is created once, by venv and pip, below .cache, with one pinned version; nothing of it is ever on
our own path.
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

WRITER = frozenset({"put-reserve", "put-reserve-unfilled", "put-write", "put-write-borrowed", "put-write-copied"})
SMALL = frozenset({"get-many", "put-many"})
READS = frozenset({"get", "get-ranged"})
EVERYTHING = WRITER | SMALL | READS | {"get-each", "start"}
PUT_AND_GET = SMALL | READS | {"put-write-borrowed", "start"}

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
        root: where the library has to come from.
        operations: what it can do.
        client: its module `clients.with_...`; "" for a floor.
        imports: what `start` imports.
        environment: more variables of its process.
        writer_options: more keywords of its writer or store.
        arguments: of a floor program.
        tls: whether it can be told which authority to trust.
        distribution: what its environment is made of; None for ours and for floors.
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

    @property
    def is_floor(self) -> bool:
        """Whether it is a C program that only the discard server understands."""
        return not self.client

    @property
    def required(self) -> bool:
        """Whether its failure ends a run; another peer's only leaves it out of one table."""
        return self.is_floor or self.client == "s3dlio"


def _home(distribution: str) -> Path:
    return ROOT / ".cache" / "peers" / f"{distribution}-{VERSIONS[distribution]}"


def _ours(name: str, label: str, operations: frozenset[str] = EVERYTHING, **more: Any) -> Contender:
    same = {"client": "s3dlio", "imports": ("s3dlio",), "environment": {"PYTHONPATH": str(ROOT)}}
    return Contender(name, label, Path(sys.executable), ROOT / "s3dlio", operations, **same, **more)


def _peer(
    name: str,
    distribution: str,
    operations: frozenset[str] = PUT_AND_GET,
    *,
    imports: tuple[str, ...] = (),
    note: str = "",
    **more: Any,
) -> Contender:
    home = _home(distribution)
    return Contender(
        name,
        f"{distribution} {VERSIONS[distribution]}{note}",
        home / "bin" / "python",
        home,
        operations,
        client=distribution,
        imports=imports or (distribution,),
        distribution=distribution,
        **more,
    )


def _floor(name: str, label: str, program: str, operation: str, *arguments: str) -> Contender:
    return Contender(name, label, NATIVE / program, NATIVE, frozenset({operation}), arguments=arguments)


def contenders() -> list[Contender]:
    """All of them, in the order of their turns."""
    # By default the original signs each payload's SHA-256, and ours sends its CRC64NVME and never signs it. With
    # S3DLIO_UNSIGNED_PAYLOAD the original sends neither, so what compares with it is ours without a checksum.
    unsigned = {"environment": {"S3DLIO_UNSIGNED_PAYLOAD": "1"}, "note": ", S3DLIO_UNSIGNED_PAYLOAD=1"}
    # Its client has no range API below its streams, and no setting for an authority of one's own.
    streams = frozenset({"put-write-borrowed", "get-ranged", "start"}) | SMALL
    one_stream = PUT_AND_GET - {"get-ranged"}
    never_one_request = PUT_AND_GET - {"get"}
    return [
        _ours("ours", "this library"),
        _peer("original", "s3dlio", EVERYTHING),
        _peer("original-unsigned", "s3dlio", WRITER, **unsigned),
        _ours("ours-unchecked", "this library, checksum=None", WRITER, writer_options={"checksum": None}),
        _peer("obstore", "obstore", imports=("obstore", "obstore.store")),
        _peer(
            "obstore-unsigned",
            "obstore",
            frozenset({"put-write-borrowed"}),
            note=", unsigned_payload",
            writer_options={"unsigned_payload": True},
        ),
        _peer("s3torchconnectorclient", "s3torchconnectorclient", streams, tls=False),
        _peer("boto3", "boto3", imports=("boto3", "boto3.s3.transfer")),
        _peer("minio", "minio", one_stream),
        _peer("pyarrow", "pyarrow", imports=("pyarrow.fs",)),
        _peer("s3fs", "s3fs", never_one_request),
        _floor("floor-put", "floor in C", "put_floor", "put-write-borrowed"),
        _floor("floor-put-crc", "floor in C, CRC64NVME", "put_floor", "put-write-borrowed", "--crc"),
        _floor("floor-get-discard", "floor in C, kernel discards", "get_floor", "get-ranged", "--memory", "discard"),
        _floor("floor-get-warm", "floor in C, warm memory", "get_floor", "get-ranged", "--memory", "warm"),
        _floor("floor-get-huge", "floor in C, fresh huge pages", "get_floor", "get-ranged", "--memory", "huge"),
        _floor("floor-get-fresh", "floor in C, fresh 4 KiB pages", "get_floor", "get-ranged", "--memory", "fresh"),
        _floor("floor-small-get", "floor in C", "small_floor", "get-many"),
        _floor("floor-small-put", "floor in C", "small_floor", "put-many", "--put"),
        _floor("floor-small-put-crc", "floor in C, CRC64NVME", "small_floor", "put-many", "--put", "--crc"),
    ]


PAIR = ("ours", "original", "original-unsigned", "ours-unchecked")
GROUPS = {
    "pair": PAIR,
    "peers": tuple(one.name for one in contenders() if not one.is_floor),
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
    answer = subprocess.run([python, "-I", "-c", program], capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else None


def prepare(chosen: Sequence[Contender]) -> list[Contender]:
    """Creates the environments that are missing; returns those that can run. The pair is a must, others may be absent.

    Raises CalledProcessError when the original cannot be installed.
    """
    absent = set()
    for distribution in dict.fromkeys(one.distribution for one in chosen if one.distribution):
        home, version = _home(distribution), VERSIONS[distribution]
        python = home / "bin" / "python"
        if _installed_version(python, distribution) == version:
            continue
        print(f"creating {home.relative_to(ROOT)}", file=sys.stderr)
        venv.create(home, clear=True, with_pip=True)
        pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        ended = subprocess.run([*pip, f"{distribution}=={version}", "numpy"], check=distribution == "s3dlio")
        if ended.returncode != 0:
            print(f"left out: {distribution} {version} cannot be installed here", file=sys.stderr)
            absent.add(distribution)
    return [one for one in chosen if one.distribution not in absent]
