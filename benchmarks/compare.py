"""`python -m benchmarks compare`: this library against the original, turn by turn, in one run on one machine.

Every measurement is a process of its own, and the contenders take turns (A B C D, A B C D, ...) so that a slow minute
of the machine falls on all of them. Nothing that failed or moved wrong bytes ends up in a table.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import machine, report, servers
from .peers import ROOT, Contender, contenders

MIB = 1 << 20
STORES = {"discard": "Discard server", "minio": "MinIO on tmpfs"}
DEFAULT_OPERATIONS = ("put-reserve", "put-write", "put-write-borrowed", "get", "get-ranged")
PROCESS_SECONDS = 600
PAGE_PAIRS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `compare`."""
    parser.add_argument("--pairs", type=int, default=5, help="turns of all contenders (default 5)")
    parser.add_argument("--size", type=int, default=1024, help="MiB of each object (default 1024)")
    parser.add_argument("--part-size", type=int, default=16, help="MiB of each part (default 16)")
    parser.add_argument("--in-flight", type=int, default=16, help="parts in flight (default 16)")
    parser.add_argument(
        "--warmups", type=int, default=1, help="transfers before measuring, in each process (default 1)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="measured transfers in each process (default 3)")
    parser.add_argument("--stores", nargs="+", choices=STORES, default=list(STORES))
    parser.add_argument("--operations", nargs="+", choices=report.OPERATIONS, default=list(DEFAULT_OPERATIONS))
    parser.add_argument("--contenders", nargs="+", help="names of those to run (default: all)")
    parser.add_argument("--server-threads", type=int, help="threads of the discard server (default: one per core)")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "compare.json")
    parser.add_argument("--page", type=Path, help="page whose table is replaced, such as docs/performance.md")


@contextlib.contextmanager
def _store(name: str, options: argparse.Namespace) -> Iterator[servers.Store]:
    with servers.discard_server(options.server_threads) if name == "discard" else servers.minio() as store:
        yield store


def _environment(contender: Contender, store: servers.Store, operation: str, home: str) -> dict[str, str]:
    """All that the process sees: nothing of the caller's own AWS or S3DLIO settings."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": home,
        "LANG": "C.UTF-8",
        "AWS_ENDPOINT_URL": store.url,
        "AWS_ENDPOINT_URL_S3": store.url,
        "AWS_REGION": servers.REGION,
        "AWS_ACCESS_KEY_ID": servers.KEYS[0],
        "AWS_SECRET_ACCESS_KEY": servers.KEYS[1],
        "AWS_EC2_METADATA_DISABLED": "true",
        "S3DLIO_ENABLE_RANGE_OPTIMIZATION": "1" if operation == "get-ranged" else "0",
        **contender.environment,
    }


def run_once(
    contender: Contender, store: servers.Store, operation: str, key: str, options: argparse.Namespace
) -> dict[str, Any]:
    """One process of one contender. Raises RuntimeError with what it said if it failed or ran another library."""
    command: list[str | Path] = [
        contender.python,
        ROOT / "benchmarks" / "contender.py",
        operation.removesuffix("-ranged"),
    ]
    values = {
        "uri": f"s3://{servers.BUCKET}/{key}",
        "size": options.size * MIB,
        "part-size": options.part_size * MIB,
        "in-flight": options.in_flight,
        "warmups": options.warmups,
        "repeats": options.repeats,
        "writer-options": json.dumps(contender.writer_options),
    }
    for name, value in values.items():
        command += [f"--{name}", str(value)]
    with tempfile.TemporaryDirectory() as home:
        environment = _environment(contender, store, operation, home)
        ended = subprocess.run(
            command, env=environment, cwd=home, capture_output=True, text=True, timeout=PROCESS_SECONDS, check=False
        )
    if ended.returncode != 0:
        raise RuntimeError(f"{contender.name} failed at {operation} on {store.name}:\n{ended.stderr}")
    numbers: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    file = Path(numbers.pop("file"))
    if not file.is_relative_to(contender.root):
        raise RuntimeError(f"{contender.name} imported {file}, which is not below {contender.root}")
    return numbers


def _require_memory(store: servers.Store, options: argparse.Namespace) -> None:
    """Raises RuntimeError rather than let a process run the machine out of memory, which would end others' too."""
    kept = options.warmups + options.repeats if store.content else 0  # what is overwritten goes to the trash first
    needed = (kept + 2) * options.size * MIB + (1 << 30)
    available = machine.available_memory()
    if available < needed:
        raise RuntimeError(
            f"{needed >> 20} MiB of memory are needed and {available >> 20} available: use a smaller --size"
        )


def _turns(store: servers.Store, chosen: list[Contender], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every run against one store, operation after operation."""
    size = options.size * MIB
    seeded = (
        store.seed(size, options.part_size * MIB) if any(name.startswith("get") for name in options.operations) else ""
    )
    for operation in options.operations:
        put = operation.startswith("put")
        for turn in range(options.pairs):
            for contender in chosen:
                if contender.puts_only and not put:
                    continue
                key = f"{contender.name}/{operation}" if put else seeded
                _require_memory(store, options)
                numbers = run_once(contender, store, operation, key, options)
                if put:
                    store.check(key, size, content=turn == 0 and operation != "put-reserve-unfilled")
                    store.client().delete_object(Bucket=servers.BUCKET, Key=key)
                    store.empty_trash()
                run = {"store": store.name, "operation": operation, "contender": contender.name, "turn": turn} | numbers
                print(
                    f"{store.name:8} {operation:20} {turn + 1}/{options.pairs} {contender.name:18}"
                    f" {run['gib_per_s']:6.2f} GiB/s {run['cpu_s_per_gib']:6.2f} CPU s/GiB"
                    f" {run['peak_added_mib']:7.0f} MiB",
                    file=sys.stderr,
                )
                yield run


def compare(options: argparse.Namespace) -> None:
    """Runs it all, writes the JSON, prints the tables, and puts them into the page if one is named."""
    if options.page and options.pairs < PAGE_PAIRS:
        raise SystemExit(f"a page takes nothing from less than {PAGE_PAIRS} pairs")
    chosen = [one for one in contenders() if not options.contenders or one.name in options.contenders]
    unknown = set(options.contenders or ()) - {one.name for one in chosen}
    if unknown:
        raise SystemExit(f"no contender is called {' or '.join(sorted(unknown))}")
    facts = machine.facts()
    setup: dict[str, Any] = {
        name: getattr(options, name) for name in ("pairs", "in_flight", "warmups", "repeats", "server_threads")
    }
    setup |= {"size": options.size * MIB, "part_size": options.part_size * MIB, "stores": {}}
    setup["contenders"] = {one.name: one.label for one in chosen}
    runs: list[dict[str, Any]] = []
    complete = False
    try:
        for name in options.stores:
            with _store(name, options) as store:
                setup["stores"][name] = {"title": STORES[name], "version": store.version}
                for run in _turns(store, chosen, options):
                    runs.append(run)  # one by one: those before a failure count
        complete = True
    finally:  # what was measured before a failure is kept, and says that it is not all
        rows, ratios = report.summarise(runs), report.compare(runs) if complete else []
        options.output.parent.mkdir(parents=True, exist_ok=True)
        whole = {
            "complete": complete,
            "machine": facts,
            "setup": setup,
            "summary": rows,
            "ratios": ratios,
            "runs": runs,
        }
        options.output.write_text(json.dumps(whole, indent=1) + "\n")
    setup["versions"] = {"Python": runs[0]["versions"]["python"]} | facts["libraries"]
    text = report.markdown(facts, setup, rows, ratios)
    print(text)
    if options.page:
        report.insert(options.page, text)
