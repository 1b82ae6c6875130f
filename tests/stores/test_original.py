"""Scripts written for the original library run as they are, on real stores."""

from __future__ import annotations

import logging
import os
from typing import Any

import pytest

import s3dlio

SCRIPT = """
import numpy as np
import s3dlio

s3dlio.init_logging("warn")
s3dlio.configure_s3(endpoint_url=ENDPOINT, region="us-east-1")
s3dlio.configure_tokio_threads(4)
s3dlio.mkdir(f"s3://{BUCKET}/train/")

arrays = [np.full(1000 + number, number, dtype=np.uint8) for number in range(20)]
s3dlio.put_many([(f"s3://{BUCKET}/train/object_{n}.dat", array) for n, array in enumerate(arrays)], max_in_flight=8)

uris = s3dlio.list(f"s3://{BUCKET}/train/", recursive=True)
assert len(uris) == 20
assert s3dlio.list(f"s3://{BUCKET}/train/", True, r"_1[0-9]\\.dat$") == sorted(u for u in uris if "_1" in u)[1:]
assert s3dlio.list_full_uris(f"s3://{BUCKET}/train/") == uris
assert s3dlio.list_keys(f"s3://{BUCKET}/train/") == [uri.rsplit("/", 1)[1] for uri in uris]
assert s3dlio.stat(uris[0])["size"] == 1000
assert s3dlio.exists(uris[0])

for (uri, view), expected in zip(s3dlio.get_many(uris, max_in_flight=16), uris, strict=True):
    number = int(uri.rsplit("_", 1)[1].split(".")[0])
    assert uri == expected
    assert np.array_equal(np.frombuffer(view.memoryview(), dtype=np.uint8), arrays[number])
assert s3dlio.get_many_stats(uris) == (20, sum(len(array) for array in arrays))

dataset = s3dlio.PyDataset.from_uris(uris)
items = s3dlio.PyBytesAsyncDataLoader(dataset, {"prefetch": 4, "skip_head": True}).items()
seen = {}
while batch := items.collect_batch(6):
    for item in batch:
        seen[item.uri] = len(item)
assert seen == {uri: s3dlio.stat(uri)["size"] for uri in uris}

whole = s3dlio.PyDataset(f"s3://{BUCKET}/train/")
assert (len(whole), whole.uris()) == (20, uris)
assert sorted(len(view) for view in s3dlio.PyBytesAsyncDataLoader(whole)) == [1000 + n for n in range(20)]

report = s3dlio.mp_get(f"s3://{BUCKET}/train/", procs=2, jobs=4, num=20, template="object_{}.dat")
assert (report["total_objects"], report["total_bytes"]) == (20, sum(len(array) for array in arrays))
assert sorted(worker["objects"] for worker in report["workers"]) == [10, 10]
assert report["throughput_mb_s"] > 0 and report["ops_per_sec"] > 0 and report["duration_seconds"] > 0

w = s3dlio.MultipartUploadWriter.from_uri(f"s3://{BUCKET}/checkpoint.bin", part_size=8 << 20, max_in_flight=4)
w.write(memoryview(arrays[0]))
w.close()
data = s3dlio.get(f"s3://{BUCKET}/checkpoint.bin")
assert bytes(data) == arrays[0].tobytes() == data.to_bytes()

s3dlio.delete(uris[0])
s3dlio.delete(f"s3://{BUCKET}/train/", recursive=True)
assert s3dlio.list(f"s3://{BUCKET}/train/") == []
"""


@pytest.fixture
def plain_log(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library's logger, as it was afterwards."""
    log = logging.getLogger("s3dlio")
    handlers, level = list(log.handlers), log.level
    yield log
    log.handlers[:] = handlers
    log.setLevel(level)


def test_a_script_for_the_original_runs(store: Any, plain_log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    exec(compile(SCRIPT, "script", "exec"), {"ENDPOINT": store.endpoint_url, "BUCKET": store.bucket})


def test_the_log_goes_to_stderr_once(plain_log: Any, capsys: pytest.CaptureFixture[str]) -> None:
    s3dlio.init_logging("ERROR")
    s3dlio.init_logging("warn")
    plain_log.warning("told")
    plain_log.info("not told")
    assert capsys.readouterr().err.count("told") == 1
    with pytest.raises(s3dlio.ConfigurationError, match="level='loud': expected one of trace, debug, info"):
        s3dlio.init_logging("loud")


def test_a_setting_that_cannot_be_used_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(os.environ)
    with pytest.raises(s3dlio.ConfigurationError, match="region"):
        s3dlio.configure_s3(endpoint_url="http://127.0.0.1:9", region="not a region")
    assert dict(os.environ) == before


def test_shards_report_the_error_of_their_process(embedded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(s3dlio.NotFoundError, match="object_0"):
        s3dlio.mp_get(embedded.uri("nothing/"), procs=2, num=2)
    with pytest.raises(s3dlio.ConfigurationError, match="procs=0 is outside 1 to 256 processes"):
        s3dlio.mp_get(embedded.uri("nothing/"), procs=0)
    s3dlio.put_bytes(embedded.uri("run/object_0.dat"), b"12345")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    with s3dlio.Client(endpoint_url=embedded.endpoint_url) as client:
        report = s3dlio.mp_get(embedded.uri("run/"), procs=3, num=1, client=client)
        assert (report["total_bytes"], len(report["workers"])) == (5, 1)
