"""`mp_get`: fetches numbered objects with several processes and reports how fast that was.

Each process is a new interpreter that imports this package and runs `serve`. It takes its share and the client's
settings from its standard input, and writes a pickle of its result. The parent waits for all of them, and ends them if
one fails or it is interrupted.
"""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import time
from typing import Any

from ._net.addresses import format_uri, parse_uri
from ._s3.default import ClientLike, service_of
from ._values.checks import check_integer
from .errors import ConfigurationError, OptionTypeError, S3dlioError
from .options import checks_names
from .original import get_many_stats


@checks_names()
def mp_get(
    uri: str,
    procs: int = 4,
    jobs: int = 64,
    num: int = 1000,
    template: str = "object_{}.dat",
    *,
    client: ClientLike | None = None,
) -> dict[str, Any]:
    """Fetches numbered objects with several processes, drops their bytes, and reports how fast that was.

    One process rarely needs help: its downloads run without the GIL. Several are worth trying where a machine has many
    cores and a network faster than one interpreter can serve with small objects.

    Args:
        uri: ``s3://bucket/prefix``; the objects' keys begin with it, as it stands.
        procs: processes (1 to 256).
        jobs: objects in flight in each process (1 to 1024).
        num: number of objects.
        template: what follows the prefix; ``{}`` stands for the number of the object, from 0. Without it the number is
            appended.
        client: a `Client`, whose settings the processes use; None for the environment's.

    Returns:
        A dict: ``total_objects``, ``total_bytes``, ``duration_seconds`` (from when the first process began to fetch
        until the last had ended), ``throughput_mb_s`` (MiB/s), ``ops_per_sec``, and ``workers``, a list of dicts with
        ``worker_id``, ``objects``, ``bytes`` and ``throughput_mb_s`` of each process.

    Raises:
        ConfigurationError: an argument is out of its range.
        NotFoundError, S3Error, TransportError, and others, as for `get`: what a process raised. The others are ended.
        S3dlioError: a process ended without a result.

    Example:
        >>> infos = s3dlio.put_many([(f"s3://my-bucket/run/object_{number}.dat", bytes(10)) for number in range(4)])
        >>> report = s3dlio.mp_get("s3://my-bucket/run/", procs=2, jobs=2, num=4)
        >>> report["total_objects"], report["total_bytes"], len(report["workers"])
        (4, 40, 2)
    """
    bucket, prefix = parse_uri(uri, require_key=False)
    check_integer("procs", procs, 1, 256, "processes")
    check_integer("jobs", jobs, 1, 1024, "objects")
    check_integer("num", num, 1, 1 << 31, "objects")
    if not isinstance(template, str):
        raise OptionTypeError(f"template={template!r} is not a str")
    if not prefix and not template:
        raise ConfigurationError("template is empty, and the URI names no key; give one of them")
    template = template if "{}" in template else template + "{}"
    uris = [format_uri(bucket, prefix + template.replace("{}", str(number))) for number in range(num)]
    service_of(client)
    shares = [uris[number::procs] for number in range(min(procs, num))]
    found = _run([pickle.dumps((client, share, jobs)) for share in shares])
    seconds = max(one["ended"] for one in found) - min(one["began"] for one in found)
    workers = [
        {
            "worker_id": number,
            "objects": one["objects"],
            "bytes": one["bytes"],
            "throughput_mb_s": one["bytes"] / (1 << 20) / seconds,
        }
        for number, one in enumerate(found)
    ]
    objects, total = sum(one["objects"] for one in found), sum(one["bytes"] for one in found)
    return {
        "total_objects": objects,
        "total_bytes": total,
        "duration_seconds": seconds,
        "throughput_mb_s": total / (1 << 20) / seconds,
        "ops_per_sec": objects / seconds,
        "workers": workers,
    }


def _run(shares: list[bytes]) -> list[dict[str, Any]]:
    """What each process reports, in the order of the shares."""
    program = f"import sys; sys.path[:] = {sys.path!r}; from s3dlio.sharded import serve; serve()"
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for _ in shares:
            processes.append(
                subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
        for process, share in zip(processes, shares, strict=True):
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError), process.stdin as stdin:  # its status tells more
                stdin.write(share)
        return [_report(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _report(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    output = process.stdout.read()
    status = process.wait()
    if status or not output:
        raise S3dlioError(f"a process of mp_get ended with status {status} and without a result; see its stderr")
    result = pickle.loads(output)
    if isinstance(result, BaseException):
        raise result
    report: dict[str, Any] = result
    return report


def serve() -> None:
    """Fetches the share that standard input holds, and writes what it was, or the error, to standard output."""
    output, sys.stdout = sys.stdout.buffer, sys.stderr
    client, uris, jobs = pickle.load(sys.stdin.buffer)
    began = time.time()
    try:
        objects, total = get_many_stats(uris, jobs, client=client)
        result: object = {"objects": objects, "bytes": total, "began": began, "ended": time.time()}
    except Exception as error:
        result = error
    pickle.dump(result, output)
    output.flush()
