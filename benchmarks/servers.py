"""The stores that contenders are measured against, each a context manager that owns a process on 127.0.0.1.

The discard server uses almost no CPU time, so that the client is measured; MinIO on tmpfs is a real store, which
shares the cores of the machine with the client. Used by the commands only.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from . import certificates, tmpfs
from .peers import ROOT
from .store import Store

NATIVE = ROOT / "benchmarks" / "bin"
START_SECONDS = 30.0
STOP_SECONDS = 10.0
KEYS = {"AWS_ACCESS_KEY_ID": "minioadmin", "AWS_SECRET_ACCESS_KEY": "minioadmin"}
_PR_SET_PDEATHSIG = 1


def detach(orphaned: signal.Signals = signal.SIGKILL) -> None:
    """For a child's `preexec_fn`: Ctrl-C reaches only the harness, which still needs its servers to clean up.

    If the harness is killed and cannot stop the child, the kernel sends the child the signal `orphaned`.
    """
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, orphaned)


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """Terminates the process when the context ends, and kills it if it does not stop."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A free port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def build_native() -> None:
    """Builds the discard server and the floor programs if necessary. Raises CalledProcessError."""
    subprocess.run(["make", "-s", "-C", ROOT / "benchmarks" / "native"], check=True)


@contextlib.contextmanager
def discard_server(threads: int | None) -> Iterator[Store]:
    """Builds the discard server if necessary, and runs it."""
    build_native()
    command: list[str | Path] = [NATIVE / "discard_server"]
    if threads is not None:
        command += ["--threads", str(threads)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=detach) as process, ended(process):
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise RuntimeError("the discard server ended before it listened")
        version = "discards uploads, sends from memory"
        url = f"http://127.0.0.1:{port}"
        yield Store("discard", "Discard server", url, version, content=False, environment=KEYS)


class MissingServerError(RuntimeError):
    """A server program is not installed."""


def minio_binary() -> str:
    """The binary that MINIO_BINARY names, or the one that `make minio` builds, or one on the PATH.

    Raises MissingServerError.
    """
    built = ROOT / ".cache" / "bin" / "minio"
    found = os.environ.get("MINIO_BINARY") or (str(built) if built.exists() else shutil.which("minio"))
    if not found:
        text = "MinIO was not found: `make minio` builds it, or set MINIO_BINARY, or use --stores discard"
        raise MissingServerError(text)
    return found


@contextlib.contextmanager
def minio(*, tls: bool = False) -> Iterator[Store]:
    """Runs MinIO on a folder of its own in /dev/shm."""
    binary = minio_binary()
    tmpfs.require_tmpfs()
    version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    environment = {
        "PATH": os.environ["PATH"],
        "MINIO_ROOT_USER": KEYS["AWS_ACCESS_KEY_ID"],
        "MINIO_ROOT_PASSWORD": KEYS["AWS_SECRET_ACCESS_KEY"],
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
    }
    with tmpfs.folder() as folder:
        ca = certificates.make(folder / "certificates") if tls else None
        environment["HOME"] = str(folder)
        port = free_port()
        command = [binary, "server", "--quiet", "--address", f"127.0.0.1:{port}", f"{folder}/data"]
        if tls:
            command += ["--certs-dir", f"{folder}/certificates"]
        store = Store(
            "minio-tls" if tls else "minio",
            "MinIO on tmpfs, TLS" if tls else "MinIO on tmpfs",
            f"{'https' if tls else 'http'}://127.0.0.1:{port}",
            version,
            content=True,
            environment=KEYS | ({"AWS_CA_BUNDLE": str(ca), "SSL_CERT_FILE": str(ca)} if tls else {}),
            ca=ca,
            data=folder / "data",
            trash=folder / "data" / ".minio.sys" / "tmp" / ".trash",
        )
        with (
            open(folder / "log", "w+") as log,
            subprocess.Popen(command, env=environment, stdout=log, stderr=log, text=True, preexec_fn=detach) as process,
            ended(process),
        ):
            _wait_until_ready(process, store, folder / "log")
            store.client.create_bucket(Bucket=store.bucket)
            yield store


def _wait_until_ready(process: subprocess.Popen[str], store: Store, log: Path) -> None:
    context = ssl.create_default_context(cafile=store.ca) if store.ca else None
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        probe = f"{store.url}/minio/health/ready"
        with contextlib.suppress(OSError), urllib.request.urlopen(probe, timeout=1, context=context):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
            break
    raise RuntimeError(f"{store.title} did not start:\n{log.read_text()}")


# A single process adds the time of its sends to the pauses between them: 16 plain sockets then received 706 of the
# 800 MB/s, and 765 from one process for each of two cores.
_NGINX = """daemon off;
worker_processes auto;
pid {folder}/pid;
error_log {folder}/log warn;
{user}
events {{ worker_connections 512; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} reuseport;
        root {folder}/data;
        limit_rate {rate};
        sendfile_max_chunk {chunk};
    }}
}}
"""
NGINX_BYTES_PER_S = 50_000_000
# nginx limits the rate by a pause after each piece of a range except the last: 20 ms at this rate. Pauses are a little
# longer than requested. In ranges of 8 MiB, the missing pause and the eight longer ones balance.
_NGINX_PIECE = NGINX_BYTES_PER_S // 50


def nginx_binary() -> str:
    """The binary that NGINX_BINARY names, or one on the PATH or where Debian has it. Raises MissingServerError."""
    found = os.environ.get("NGINX_BINARY") or shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not found:
        raise MissingServerError("nginx was not found: `apt-get install nginx-core`, or set NGINX_BINARY")
    return found


@contextlib.contextmanager
def nginx() -> Iterator[Store]:
    """Runs nginx with a limit for each connection, like a store behind a network. It only serves."""
    binary = nginx_binary()
    tmpfs.require_tmpfs()
    said = subprocess.run([binary, "-v"], capture_output=True, text=True, check=True).stderr.strip()
    with tmpfs.folder() as folder:
        (folder / "data").mkdir()
        port = free_port()
        user = "user root;" if os.geteuid() == 0 else ""  # else its workers could not read the folder
        settings = {"rate": NGINX_BYTES_PER_S, "chunk": _NGINX_PIECE}
        (folder / "conf").write_text(_NGINX.format(folder=folder, port=port, user=user, **settings))
        command = [binary, "-p", str(folder), "-c", str(folder / "conf"), "-e", str(folder / "log")]
        store = Store(
            "nginx",
            f"nginx, {NGINX_BYTES_PER_S // 1_000_000} MB/s for each connection",
            f"http://127.0.0.1:{port}",
            said,
            content=True,
            environment=KEYS,
            data=folder / "data",
            served=folder / "data",
        )
        end = functools.partial(detach, signal.SIGTERM)  # the first process stops the others
        with subprocess.Popen(command, text=True, preexec_fn=end) as process, ended(process):
            _wait_until_open(process, port, folder / "log")
            yield store


def _wait_until_open(process: subprocess.Popen[str], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
            break
    raise RuntimeError(f"nginx did not start:\n{log.read_text() if log.exists() else ''}")


def opened(name: str, server_threads: int | None = None) -> contextlib.AbstractContextManager[Store]:
    """The store with this name in `--stores`."""
    if name == "discard":
        return discard_server(server_threads)
    if name == "nginx":
        return nginx()
    return minio(tls=name == "minio-tls")


STORES = ("discard", "minio", "minio-tls", "nginx")
