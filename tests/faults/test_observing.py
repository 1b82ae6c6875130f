"""What a client tells of its requests: sums, the operation log, and spans of OpenTelemetry."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from behaviours import LostResponse, ResetResponse, Stall, Status
from marks import Connect
from peer import Peer, Rule

import s3dlio
from s3dlio import Client
from s3dlio._runtime.operation_log import COLUMNS, escaped, operation_log

MIB = 1 << 20
URI = "s3://b/k"
DATA = bytes(range(256)) * 4096 * 5


@pytest.fixture(autouse=True)
def no_log_stays() -> Iterator[None]:
    """The log of a process stays until a client names another one."""
    yield
    operation_log(None)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "requests.tsv"
    monkeypatch.setenv("S3DLIO_OPLOG", str(path))
    return path


def lines_of(path: Path) -> list[dict[str, str]]:
    """The lines of the log, once they are written."""
    written = operation_log(str(path))
    assert written is not None
    written.flush()
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    assert head.split("\t") == list(COLUMNS)
    return [dict(zip(COLUMNS, line.split("\t"), strict=True)) for line in lines]


def test_requests_are_counted_by_operation(peer: Peer, client: Client) -> None:
    client.put_bytes(URI, DATA, part_size=5 * MIB)
    client.put_bytes("s3://b/large", DATA * 3, part_size=5 * MIB)
    assert client.get(URI) == DATA
    small = [f"s3://b/s{number}" for number in range(100)]
    client.put_many([(uri, b"12345") for uri in small])
    client.get_many(small)
    client.stat(URI)
    stats = client.stats()
    assert {name: (one.requests, one.bytes_sent, one.bytes_received) for name, one in stats.operations.items()} == {
        "CreateMultipartUpload": (1, 0, stats.operations["CreateMultipartUpload"].bytes_received),
        "UploadPart": (3, 3 * len(DATA), 0),
        "CompleteMultipartUpload": (
            1, stats.operations["CompleteMultipartUpload"].bytes_sent,
            stats.operations["CompleteMultipartUpload"].bytes_received,
        ),
        "PutObject": (101, len(DATA) + 500, 0),
        "GetObject": (101, 0, len(DATA) + 500),
        "HeadObject": (1, 0, 0),
    }  # fmt: skip
    assert (stats.requests, stats.retries, stats.failures) == (len(peer.requests()), 0, 0)
    assert all(one.seconds > 0 for one in stats.operations.values())


def test_retries_and_failures_are_counted(peer: Peer, client: Client) -> None:
    peer.store.put("b", "k", DATA)
    peer.play(
        Rule("GetObject", key="k", attempt=1, do=Status(503, "SlowDown")),
        Rule("GetObject", key="k", attempt=2, do=ResetResponse()),
    )
    assert client.get(URI) == DATA
    with pytest.raises(s3dlio.NotFoundError):
        client.get("s3://b/missing")
    with pytest.raises(s3dlio.NotFoundError):
        client.stat("s3://b/missing")
    stats = client.stats().operations
    assert (stats["GetObject"].requests, stats["GetObject"].retries, stats["GetObject"].failures) == (2, 2, 1)
    assert (stats["HeadObject"].requests, stats["HeadObject"].retries, stats["HeadObject"].failures) == (1, 0, 1)
    assert stats["GetObject"].bytes_received == len(DATA)


def test_connections_and_memory_are_told(peer: Peer, client: Client) -> None:
    peer.store.put("b", "k", DATA)
    assert client.stats().connections_opened == 0
    view = client.get(URI)
    stats = client.stats()
    assert (stats.connections_opened, stats.connections_in_use, stats.connections_idle) == (1, 0, 1)
    assert stats.pool_in_use_bytes >= len(DATA)
    del view
    after = client.stats()
    assert after.pool_in_use_bytes < stats.pool_in_use_bytes
    client.close()
    assert client.stats().connections_idle == 0
    peer.play(Rule("GetObject", do=Stall()))

    async def work() -> s3dlio.ClientStats:
        task = asyncio.create_task(client.get_async(URI))
        while len(peer.requests()) < 2:
            await asyncio.sleep(0.01)
        during = client.stats()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return during

    during = asyncio.run(work())
    assert (during.connections_opened, during.connections_in_use) == (2, 1)
    ended = client.stats()
    assert (ended.connections_in_use, ended.operations["GetObject"].failures) == (0, 1)


def test_each_request_is_a_line(peer: Peer, client: Client, log: Path) -> None:
    began = time.time()
    odd = "s3://b/a\\d \u00e9\u2028"
    client.put_bytes(odd, b"12345")
    client.put_bytes("s3://b/large", DATA * 3, part_size=5 * MIB)
    peer.play(Rule("GetObject", key="large", attempt=1, do=Status(503, "SlowDown")))
    client.get("s3://b/large")
    with pytest.raises(s3dlio.NotFoundError):
        client.stat("s3://b/missing")
    names = [f"s3://b/s{number}" + ("\u00e9\\" * (number % 3)) for number in range(40)]
    client.put_many([(uri, b"x" * number) for number, uri in enumerate(names)])
    client.get_many(names)
    found = lines_of(log)
    assert len(found) == len(peer.requests()) - 1  # one of them was sent twice
    place = peer.endpoint_url.removeprefix("http://")
    assert {one["endpoint"] for one in found} == {place}
    assert all(began - 1 <= float(one["time"]) <= time.time() for one in found)
    assert all(float(one["duration"]) > 0 for one in found)
    assert all(0 <= float(one["first_byte"]) <= float(one["duration"]) + 0.001 for one in found)
    by_key: dict[tuple[str, str], dict[str, str]] = {(one["operation"], one["key"]): one for one in found}
    put = by_key["PutObject", r"a\\d " + "\u00e9" + r"\u2028"]
    assert [put[name] for name in ("bucket", "bytes", "status", "attempts", "error")] == ["b", "5", "200", "1", "-"]
    got = by_key["GetObject", "large"]
    assert [got[name] for name in ("bytes", "status", "attempts", "error")] == [str(3 * len(DATA)), "200", "2", "-"]
    missing = by_key["HeadObject", "missing"]
    assert [missing[name] for name in ("bytes", "status", "attempts", "error")] == ["0", "404", "1", "NotFoundError"]
    for number, uri in enumerate(names):
        for operation in ("PutObject", "GetObject"):
            one = by_key[operation, escaped(uri.removeprefix("s3://b/"))]
            assert [one[name] for name in ("bytes", "status", "attempts")] == [str(number), "200", "1"]
    assert sum(one["operation"] == "UploadPart" for one in found) == 3


@pytest.mark.parametrize(
    ("key", "shown"),
    [("a b/é", "a b/é"), ("a\tb\r\n\\", r"a\tb\r\n\\"), ("\udcff\x7f", r"\udcff\x7f"), ("\u2028", r"\u2028")],
)
def test_no_key_ends_a_line_or_a_column(key: str, shown: str) -> None:
    assert escaped(key) == shown
    assert shown.encode().decode("utf-8").splitlines() == [shown]


def test_what_fails_without_an_answer_is_a_line_too(peer: Peer, connect: Connect, log: Path) -> None:
    client = connect(peer, attempts=2)
    peer.play(Rule("GetObject", do=LostResponse()))
    with pytest.raises(s3dlio.TransportError):
        client.get(URI)
    (line,) = lines_of(log)
    assert [line[name] for name in ("bytes", "status", "first_byte", "attempts", "error")] == [
        "0", "-", "-", "2", "TransportError",
    ]  # fmt: skip


def test_a_log_that_cannot_be_written_is_told_before_any_request(
    peer: Peer, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3DLIO_OPLOG", str(tmp_path / "no" / "such" / "folder"))
    with pytest.raises(s3dlio.ConfigurationError, match=r"S3DLIO_OPLOG='.*folder' cannot be used \(No such file"):
        client.get(URI)
    assert peer.requests() == []
    monkeypatch.delenv("S3DLIO_OPLOG")
    with pytest.raises(s3dlio.NotFoundError):
        client.get(URI)


def test_a_log_that_cannot_be_written_any_more_costs_lines_and_no_transfer(
    peer: Peer, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    monkeypatch.setenv("S3DLIO_OPLOG", str(path))
    client.put_bytes(URI, DATA)
    written = operation_log(str(path))
    assert written is not None
    written.flush()
    assert os.read(reader, 10_000).decode().count("PutObject") == 1
    os.close(reader)
    for _ in range(3):
        assert client.get(URI) == DATA
        written.flush()
    told = [record.getMessage() for record in caplog.records if "operation log" in record.getMessage()]
    assert told == [f"the operation log {path} cannot be written: [Errno 32] Broken pipe"]
    monkeypatch.setenv("S3DLIO_OPLOG", "/dev/full")
    with pytest.raises(s3dlio.ConfigurationError, match="No space left"):  # the names of the columns
        client.get(URI)


PROGRAM = """
import asyncio, os, sys
import s3dlio
client = s3dlio.Client(endpoint_url=os.environ["PEER"], credentials=("a", "b"), region="r")
client.put_bytes("s3://b/parent", b"1")
child = os.fork()
if child == 0:
    client.put_bytes("s3://b/child", b"2")
    sys.exit(0)
os.waitpid(child, 0)
client.put_bytes("s3://b/again", b"3")
writer = client.writer("s3://b/open", part_size=5 << 20)
writer.write(bytes(6 << 20))
writer.flush()
"""


def test_processes_append_to_one_file_and_write_at_exit(peer: Peer, tmp_path: Path) -> None:
    path = tmp_path / "log"
    environment = {**os.environ, "PEER": peer.endpoint_url, "S3DLIO_OPLOG": str(path)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True, timeout=60)
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    expected = [("PutObject", "parent"), ("PutObject", "child"), ("PutObject", "again")]
    # The writer that was left open is ended at exit.
    expected += [("CreateMultipartUpload", "open"), ("UploadPart", "open"), ("AbortMultipartUpload", "open")]
    found = {(line[1], line[3]): 0 for line in lines}
    for line in lines:
        found[line[1], line[3]] += 1
    assert found.pop(("operation", "key")) == 1
    assert {one: found[one] for one in expected} == {
        **dict.fromkeys(expected, 2),
        ("UploadPart", "open"): 4,
    }


# Another process: a provider of OpenTelemetry stays for the life of one, and every later request would be a span.
TRACED = """
import asyncio, json, os
import s3dlio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter, provider, MIB = InMemorySpanExporter(), TracerProvider(), 1 << 20
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
small = [f"s3://b/s{number}" for number in range(20)]
with s3dlio.Client(endpoint_url=os.environ["PEER"], region="us-east-1", credentials=("key", "secret")) as client:
    with trace.get_tracer("test").start_as_current_span("caller"):
        client.put_bytes("s3://b/large", bytes(15 * MIB), part_size=5 * MIB)
        client.put_many([(uri, b"12345") for uri in small])
        client.get_many(small)
        try:
            client.stat("s3://b/missing")
        except s3dlio.NotFoundError:
            pass

        async def fetch():
            await client.get_async("s3://b/large", range_optimization=True, range_threshold=0, chunk_size=5 * MIB)

        asyncio.run(fetch())
for span in exporter.get_finished_spans():
    print(json.dumps(json.loads(span.to_json(indent=None))))
"""


def test_each_request_is_a_span_below_the_caller_s(peer: Peer) -> None:
    environment = {**os.environ, "PEER": peer.endpoint_url}
    done = subprocess.run(
        [sys.executable, "-c", TRACED], env=environment, check=True, timeout=60, stdout=subprocess.PIPE, text=True
    )
    spans = [json.loads(line) for line in done.stdout.splitlines()]
    (caller,) = [one for one in spans if one["name"] == "caller"]
    found = [one for one in spans if one is not caller]
    assert len(found) == len(peer.requests())
    assert {one["parent_id"] for one in found} == {caller["context"]["span_id"]}
    assert all(one["start_time"] < one["end_time"] for one in found)
    (missing,) = [one for one in found if one["name"] == "S3.HeadObject"]
    host, _, port = peer.endpoint_url.removeprefix("http://").partition(":")
    assert missing["attributes"] == {
        "rpc.system": "aws-api", "rpc.service": "S3", "rpc.method": "HeadObject", "aws.s3.bucket": "b",
        "aws.s3.key": "missing", "http.response.status_code": 404, "error.type": "NotFoundError",
        "server.address": host, "server.port": int(port),
    }  # fmt: skip
    assert missing["status"]["status_code"] == "ERROR"
    parts = [one["attributes"] for one in found if one["name"] == "S3.UploadPart"]
    assert sorted(one["aws.s3.part_number"] for one in parts) == [1, 2, 3]
    assert len({one["aws.s3.upload_id"] for one in parts}) == 1
