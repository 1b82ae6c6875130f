"""Downloads from real stores of what boto3 put there."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import s3dlio

MIB = 1 << 20
RANGED = {"range_optimization": True, "range_threshold": 4 * MIB, "chunk_size": MIB}


def put(store: Any, key: str, size: int) -> bytes:
    data = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8).tobytes()
    store.boto3.put_object(Bucket=store.bucket, Key=key, Body=data)
    return data


@pytest.mark.parametrize("options", [{}, RANGED], ids=["single", "ranged"])
@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 4 * MIB - 1, 4 * MIB, 9 * MIB + 5])
def test_get_returns_the_whole_object(store: Any, size: int, options: dict[str, Any]) -> None:
    data = put(store, "object", size)
    view = s3dlio.get(store.uri("object"), **options)
    assert len(view) == size
    assert view == data
    assert bytes(view) == view.to_bytes() == view.tobytes() == data


def test_the_environment_turns_ranges_on(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3DLIO_ENABLE_RANGE_OPTIMIZATION", "1")
    monkeypatch.setenv("S3DLIO_RANGE_THRESHOLD_MB", "1")
    monkeypatch.setenv("S3DLIO_CHUNK_SIZE", "262144")
    monkeypatch.setenv("S3DLIO_RANGE_CONCURRENCY", "3")
    data = put(store, "object", 2 * MIB)
    events: list[s3dlio.ProgressEvent] = []
    assert s3dlio.get(store.uri("object"), progress=events.append) == data
    assert [event.parts_done for event in events] == list(range(1, 9))
    assert events[-1].bytes_done == events[-1].total_bytes == 2 * MIB


@pytest.mark.parametrize(("offset", "length"), [(0, 10), (5, None), (990, 100), (0, None), (999, 1), (3, 0)])
def test_get_range_returns_what_there_is(store: Any, offset: int, length: int | None) -> None:
    data = put(store, "object", 1000)
    expected = data[offset:] if length is None else data[offset : offset + length]
    assert s3dlio.get_range(store.uri("object"), offset, length) == expected


def test_a_long_range_is_fetched_in_parallel(store: Any) -> None:
    data = put(store, "object", 9 * MIB)
    assert s3dlio.get_range(store.uri("object"), 7, 8 * MIB, **RANGED) == data[7 : 7 + 8 * MIB]


@pytest.mark.parametrize("offset", [1000, 5000])
def test_a_range_past_the_end_is_an_error(store: Any, offset: int) -> None:
    put(store, "object", 1000)
    with pytest.raises(s3dlio.InvalidRangeError, match="416"):
        s3dlio.get_range(store.uri("object"), offset)


def test_offset_zero_of_an_empty_object_is_an_empty_view(store: Any) -> None:
    put(store, "empty", 0)
    assert len(s3dlio.get_range(store.uri("empty"), 0, 10)) == 0
    assert s3dlio.get_into(store.uri("empty"), bytearray(1)) == 0


@pytest.mark.parametrize("options", [{}, RANGED], ids=["single", "ranged"])
def test_get_into_fills_the_callers_memory(store: Any, options: dict[str, Any]) -> None:
    data = put(store, "object", 6 * MIB)
    array = np.zeros((7, MIB), dtype=np.uint8)
    assert s3dlio.get_into(store.uri("object"), array, **options) == 6 * MIB
    assert array[:6].tobytes() == data
    assert not array[6].any()


def test_get_into_takes_a_part_of_the_object(store: Any) -> None:
    data = put(store, "object", 1000)
    buffer = bytearray(10)
    assert s3dlio.get_into(store.uri("object"), buffer, offset=100, length=10) == 10
    assert buffer == data[100:110]


@pytest.mark.parametrize("options", [{}, RANGED], ids=["single", "ranged"])
def test_get_into_refuses_a_short_buffer(store: Any, options: dict[str, Any]) -> None:
    put(store, "object", 6 * MIB)
    with pytest.raises(ValueError, match="buffer holds 100 bytes"):
        s3dlio.get_into(store.uri("object"), bytearray(100), **options)


def test_get_many_keeps_order_and_duplicates(store: Any) -> None:
    objects = {f"many/{n}": put(store, f"many/{n}", 10 + n) for n in range(20)}
    names = [*objects, *reversed(objects)]
    pairs = s3dlio.get_many([store.uri(name) for name in names], max_in_flight=7)
    assert [(uri, bytes(view)) for uri, view in pairs] == [(store.uri(name), objects[name]) for name in names]


def test_get_many_returns_or_raises_errors(store: Any) -> None:
    put(store, "there", 10)
    uris = [store.uri("there"), store.uri("missing"), store.uri("there")]
    pairs = s3dlio.get_many(uris, on_error="return")
    assert isinstance(pairs[1][1], s3dlio.NotFoundError)
    assert len(pairs[0][1]) == len(pairs[2][1]) == 10
    with pytest.raises(s3dlio.NotFoundError, match="missing"):
        s3dlio.get_many(uris)


def test_a_missing_object_is_a_file_not_found_error(store: Any) -> None:
    with pytest.raises(FileNotFoundError, match="NoSuchKey"):
        s3dlio.get(store.uri("missing"))


def test_a_view_is_numpy_memory_without_a_copy(store: Any) -> None:
    data = put(store, "object", 8000)
    view = s3dlio.get(store.uri("object"))
    array = np.frombuffer(view, np.float64)
    assert array.tobytes() == data
    assert not array.flags.writeable
    with pytest.raises(TypeError):
        memoryview(view)[0] = 1
    assert view[10:20] == data[10:20]
    assert view[3] == data[3]
    assert view[::-1] == data[::-1]
    assert pickle.loads(pickle.dumps(view)) == data


def test_a_released_view_says_so(store: Any) -> None:
    put(store, "object", 100)
    with s3dlio.get(store.uri("object")) as view:
        assert len(view) == 100
    with pytest.raises(ValueError, match="released"):
        bytes(view)


def test_stat_tells_what_the_store_has(store: Any) -> None:
    info = s3dlio.put_bytes(store.uri("object"), b"12345", metadata={"a": "b"}, content_type="text/x")
    found = s3dlio.stat(store.uri("object"))
    assert (found.size, found.etag, found.checksum) == (5, info.etag, info.checksum)
    assert (found.metadata, found.content_type) == ({"a": "b"}, "text/x")
    assert found.checksum_algorithm == info.checksum_algorithm == "crc64nvme"
    assert (found["size"], found["uri"]) == (5, store.uri("object"))
    with pytest.raises(KeyError, match="colour"):
        found["colour"]
    assert found.last_modified is not None
    assert found.last_modified.tzinfo is not None


def test_a_client_with_explicit_settings_needs_no_environment(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    with s3dlio.Client(
        endpoint_url=store.endpoint_url, region="us-east-1", credentials=("minioadmin", "minioadmin")
    ) as client:
        client.put_bytes(store.uri("object"), b"mine")
        assert client.get(store.uri("object")) == b"mine"
        assert client.stat(store.uri("object")).size == 4
        assert "minioadmin" not in repr(client)


def test_wrong_credentials_are_refused(minio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    with pytest.raises(PermissionError, match="SignatureDoesNotMatch") as caught:
        s3dlio.get(minio.uri("object"))
    assert "not-the-secret" not in str(caught.value)


def test_connections_are_reused(minio: Any) -> None:
    put(minio, "object", 100)
    client = s3dlio.Client(max_connections=1)
    for _ in range(5):
        client.get(minio.uri("object"))
    (manager,) = client.service._connections._managers.values()
    (pool,) = map(manager.pools.get, manager.pools.keys())
    assert pool.num_connections == 1
