"""One contender's process: imports one library's client, repeats one operation, prints JSON.

It is started as a script by `process.py` in the library's own environment. Before each transfer it prints a line with
`next` and reads the key of that transfer from standard input: meanwhile the harness deletes what the last one wrote.
After the last it prints a line with `measured`, and then its numbers, if the content it read is correct.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Only this script's own folder is on the path in every environment.
import pattern  # type: ignore[import-not-found]
from clients.job import Job  # type: ignore[import-not-found]

GIB = 1 << 30


def memory(field: str) -> float:
    """VmRSS or VmHWM of this process in MiB. (ru_maxrss would include the parent's, from before the exec.)"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"the kernel does not report {field}")


def next_key(transfer: int) -> str:
    """Asks the harness for the transfer's key, and waits until the store is ready for it."""
    print(json.dumps({"next": transfer}), flush=True)
    key = sys.stdin.readline().strip()
    if not key:
        raise EOFError("the harness has ended")
    return key


def transfers(client: Any, job: Job) -> Callable[[str], Callable[[], Any]]:
    """A function that turns a key into the transfer to be measured; its data is prepared beforehand."""
    method = getattr(client, job.operation.replace("-", "_"), None)
    if job.operation == "get-each":
        return lambda key: lambda: get_each(client, job.keys(key))
    if job.operation == "get-many":
        return lambda key: _prepared(method, job.keys(key))
    if job.operation == "put-many":
        data = pattern.make(job.size).tobytes()
        return lambda key: _prepared(method, [(one, data) for one in job.keys(key)])
    if job.operation == "get-into":
        target = pattern.make(job.size)
        target[:] = 0  # so that the checked bytes must come from the store
        return lambda key: _prepared(method, key, target)
    if job.operation.startswith("get"):
        return lambda key: _prepared(method, key)
    # A writer may borrow its data until it is closed, so each byte of the object has memory of its own. Exceptions are
    # reserve(), which is filled by a copy, and `put-again`, which never changes the data that it lends.
    reused = "reserve" in job.operation or job.operation == "put-again"
    source = pattern.make(pattern.PERIOD + job.part_size if reused else job.size)
    return lambda key: _prepared(method, key, source)


def _prepared(method: Any, *arguments: Any) -> Callable[[], Any]:
    if method is None:
        raise SystemExit("this library has no such operation")
    return lambda: method(*arguments)


def get_each(client: Any, keys: list[str]) -> Any:
    """Fetches one object after the other, releasing each before the next; returns the last."""
    result = None
    for key in keys:
        result = None
        result = client.get(key)
    return result


def measure(make: Callable[[str], Callable[[], Any]], job: Job) -> tuple[dict[str, Any], Any]:
    """Runs the transfers; returns their numbers and the last result."""
    base = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    result = None
    for turn in range(job.warmups):
        transfer = make(next_key(turn))
        result = None  # releases the previous result first, as a loop in an application would
        result = transfer()
    seconds = []
    before = resource.getrusage(resource.RUSAGE_SELF)
    for turn in range(job.warmups, job.warmups + job.repeats):
        transfer = make(next_key(turn))
        result = None
        started = time.perf_counter()
        result = transfer()
        seconds.append(time.perf_counter() - started)
    after = resource.getrusage(resource.RUSAGE_SELF)
    moved, objects = sum(job.sizes) * job.repeats / GIB, len(job.sizes) * job.repeats
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    peak = memory("VmHWM")
    return {
        "gib_per_s": moved / sum(seconds),
        "objects_per_s": objects / sum(seconds),
        "cpu_s_per_gib": (user + system) / moved,
        "user_s_per_gib": user / moved,
        "sys_s_per_gib": system / moved,
        "cpu_us_per_object": 1e6 * (user + system) / objects,
        "switches_per_gib": (after.ru_nvcsw - before.ru_nvcsw + after.ru_nivcsw - before.ru_nivcsw) / moved,
        "peak_rss_mib": peak,
        "peak_added_mib": peak - base,
        "seconds": seconds,
    }, result


def check(result: Any, job: Job) -> None:
    """Raises ValueError unless every object that was read is complete and holds the pattern from its first byte on."""
    period = pattern.make(pattern.PERIOD)
    found, sizes = (result, job.sizes) if job.operation == "get-many" else ([result], job.sizes[-1:])
    if len(found) != len(sizes):
        raise ValueError(f"{len(found)} objects arrived, {len(sizes)} were expected")
    for one, size in zip(found, sizes, strict=True):
        if len(one) != size:
            raise ValueError(f"{len(one)} bytes arrived, {size} were expected")
        pattern.check(one.tobytes() if hasattr(one, "pieces") else one, period)


def main() -> None:
    """Prints one JSON object as its last line; any failure is a traceback and a non-zero status."""
    module = importlib.import_module(f"clients.with_{sys.argv[1]}")
    job = Job.of(json.loads(sys.argv[2]))
    client = module.Client(job)
    if job.loaded:
        client.load()
    numbers, result = measure(transfers(client, job), job)
    print(json.dumps({"measured": True}), flush=True)
    if job.operation.startswith("get"):
        check(result, job)
    versions = {name: importlib.metadata.version(name) for name in module.DISTRIBUTIONS[1:]}
    versions |= {"python": sys.version.split()[0]}
    print(json.dumps(numbers | {"file": module.source_file(), "versions": versions}))


if __name__ == "__main__":
    main()
