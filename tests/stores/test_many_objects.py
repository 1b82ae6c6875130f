"""Many objects at once to and from real stores, with boto3 as the independent writer and reader."""

from __future__ import annotations

import array
from itertools import cycle, islice
from typing import Any

import numpy as np
import pytest

import s3dlio

KIB, MIB = 1 << 10, 1 << 20
PART = 5 * MIB
# Around what shares its memory, what a shared place holds, and what one request carries.
EDGES = [
    0, 1, 63, 64, 65, 4 * KIB, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 256 * KIB - 1, 256 * KIB, 256 * KIB + 1,
    2 * MIB, PART - 1, PART, PART + 1, 11 * MIB,
]  # fmt: skip


def random_bytes(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng([size, seed]).integers(0, 256, size, dtype=np.uint8).tobytes()


def filled(store: Any, sizes: list[int]) -> dict[str, bytes]:
    """Objects that boto3 has put there, by URI."""
    objects = {}
    for number, size in enumerate(sizes):
        data = random_bytes(size, number)
        store.boto3.put_object(Bucket=store.bucket, Key=f"many/{number}", Body=data)
        objects[store.uri(f"many/{number}")] = data
    return objects


@pytest.fixture
def other_bucket(store: Any) -> str:
    name = f"{store.bucket}-2"
    store.boto3.create_bucket(Bucket=name)
    return name


# --------------------------------------------------------------------------------------------------- put_many


def test_put_many_stores_objects_of_every_size_in_the_order_given(store: Any) -> None:
    content = {f"many/{size}": random_bytes(size) for size in EDGES}
    items = [(store.uri(name), data) for name, data in content.items()]
    infos = s3dlio.put_many(items, part_size=PART, max_in_flight=4)
    for (name, data), info in zip(content.items(), infos, strict=True):
        head = store.head(name)
        assert store.read(name) == data
        assert (info.total_bytes, info.parts) == (len(data), max(1, -(-len(data) // PART)))
        assert (info.etag, info.checksum) == (head["ETag"].strip('"'), head["ChecksumCRC64NVME"])
        assert info.checksum_algorithm == "crc64nvme"
        assert (info.upload_id is None) == (info.parts == 1)
        assert info.started_at <= info.completed_at
    assert store.uploads() == []


def test_put_many_of_small_objects_is_put_bytes_of_each(store: Any) -> None:
    options: dict[str, Any] = {
        "content_type": "text/x",
        "metadata": {"A": "100%s of it"},
        "cache_control": "max-age=%d",
        "checksum": "crc32c",
    }
    data = [random_bytes(size) for size in islice(cycle([10, 0, 3000]), 80)]
    infos = s3dlio.put_many([(store.uri(f"a b%/{n}é"), one) for n, one in enumerate(data)], **options)
    alone = [s3dlio.put_bytes(store.uri(f"alone/{n}"), one, **options) for n, one in enumerate(data[:3])]
    assert [(info.etag, info.checksum) for info in infos[:3]] == [(info.etag, info.checksum) for info in alone]
    for number in range(80):
        head = store.head(f"a b%/{number}é")
        assert store.read(f"a b%/{number}é") == data[number]
        assert (head["ContentType"], head["Metadata"]) == ("text/x", {"a": "100%s of it"})
        assert head["CacheControl"] == "max-age=%d"


def test_put_many_reaches_several_buckets(store: Any, other_bucket: str) -> None:
    buckets = [store.bucket, store.bucket, other_bucket, store.bucket, *[other_bucket] * 30, store.bucket]
    items = [(f"s3://{bucket}/{number}", random_bytes(100, number)) for number, bucket in enumerate(buckets)]
    assert len(s3dlio.put_many(items)) == len(items)
    for number, (bucket, (uri, data)) in enumerate(zip(buckets, items, strict=True)):
        body = store.boto3.get_object(Bucket=bucket, Key=str(number))["Body"].read()
        assert body == data, uri
    assert [bytes(view) for _, view in s3dlio.get_many([uri for uri, _ in items])] == [data for _, data in items]


def test_put_many_takes_any_contiguous_buffer(store: Any) -> None:
    buffers: list[Any] = [
        np.arange(700, dtype=np.float64).reshape(7, 100),
        np.zeros((0, 4), dtype=np.float32),
        np.zeros(3, dtype=[("a", "<i4"), ("b", "<f8")]),
        array.array("d", range(100)),
        memoryview(b"abcdef")[2:],
        memoryview(np.arange(6, dtype=np.int16).reshape(2, 3)),
        bytearray(b"xyz"),
    ]
    infos = s3dlio.put_many([(store.uri(f"buffer/{n}"), one) for n, one in enumerate(buffers)])
    for number, one in enumerate(buffers):
        assert store.read(f"buffer/{number}") == bytes(one)
        assert infos[number].total_bytes == len(bytes(one))


def test_an_object_that_is_named_twice_has_either_content_in_the_end(store: Any) -> None:
    names = [store.uri("twice"), *[store.uri(str(number)) for number in range(40)], store.uri("twice")]
    infos = s3dlio.put_many([(uri, str(number).encode()) for number, uri in enumerate(names)], max_in_flight=3)
    assert [info.total_bytes for info in infos] == [len(str(number)) for number in range(42)]
    assert store.read("twice") in (b"0", b"41")


@pytest.mark.parametrize("sequence", [list, tuple])
def test_put_many_of_nothing_is_nothing(store: Any, sequence: Any) -> None:
    assert s3dlio.put_many(sequence()) == []
    assert s3dlio.get_many(sequence()) == []


def test_a_missing_bucket_in_the_middle_is_the_error_of_its_objects_alone(store: Any) -> None:
    uris = [store.uri(f"there/{number}") for number in range(50)]
    uris[20] = uris[21] = f"s3://{store.bucket}-missing/k"
    items = [(uri, uri.encode()) for uri in uris]
    infos = s3dlio.put_many(items, max_in_flight=2, on_error="return")
    missing = [number for number, info in enumerate(infos) if isinstance(info, Exception)]
    assert missing == [20, 21]
    assert all(isinstance(infos[number], s3dlio.NotFoundError) for number in missing)
    pairs = s3dlio.get_many(uris, max_in_flight=2, on_error="return")
    assert [number for number, (_, view) in enumerate(pairs) if isinstance(view, Exception)] == [20, 21]
    assert all(view == uri.encode() for uri, view in pairs if not isinstance(view, Exception))
    with pytest.raises(s3dlio.NotFoundError, match="NoSuchBucket"):
        s3dlio.put_many(items, max_in_flight=2)


def test_a_condition_that_is_not_met_is_the_error_of_its_object_alone(store: Any) -> None:
    store.boto3.put_object(Bucket=store.bucket, Key="17", Body=b"theirs")
    items = [(store.uri(str(number)), b"ours") for number in range(40)]
    infos = s3dlio.put_many(items, if_none_match="*", max_in_flight=2, on_error="return")
    assert [number for number, info in enumerate(infos) if isinstance(info, Exception)] == [17]
    assert isinstance(infos[17], s3dlio.PreconditionFailedError)
    assert (store.read("17"), store.read("18")) == (b"theirs", b"ours")


# --------------------------------------------------------------------------------------------------- get_many


def test_get_many_returns_objects_of_every_size(store: Any) -> None:
    objects = filled(store, EDGES)
    pairs = s3dlio.get_many(list(objects), max_in_flight=2)
    assert [(uri, bytes(view)) for uri, view in pairs] == list(objects.items())


def test_many_small_objects_come_back_in_order_with_duplicates(store: Any) -> None:
    objects = filled(store, [0, 10, 5000, 70 * KIB])
    uris = list(islice(cycle(objects), 300))
    pairs = s3dlio.get_many(uris, max_in_flight=6)
    assert [uri for uri, _ in pairs] == uris
    assert all(view == objects[uri] for uri, view in pairs)


def test_views_outlive_the_call_and_are_read_only(store: Any) -> None:
    objects = filled(store, [1000, 9000, 64 * KIB, 300 * KIB])
    views = dict(s3dlio.get_many([*objects, *objects]))
    arrays = {uri: np.frombuffer(view, np.uint8) for uri, view in views.items()}
    del views
    for size in (1000, 9000, 64 * KIB, 300 * KIB):  # what comes next finds other memory
        s3dlio.put_many([(store.uri(f"next/{number}"), bytes(size)) for number in range(40)])
        s3dlio.get_many([store.uri(f"next/{number}") for number in range(40)])
    for uri, content in objects.items():
        assert arrays[uri].tobytes() == content
        assert not arrays[uri].flags.writeable
        with pytest.raises(TypeError):
            memoryview(arrays[uri].base)[0] = 1  # type: ignore[arg-type]


def test_bodies_are_aligned_for_every_element_type(store: Any) -> None:
    objects = filled(store, [16, 48, 1, 4000])
    for uri, view in s3dlio.get_many([*objects] * 10):
        if len(objects[uri]) > 1:
            assert np.frombuffer(view, np.complex128).flags.aligned


def test_errors_and_views_of_many_objects_are_told_apart(store: Any) -> None:
    objects = filled(store, [100] * 30)
    uris = list(objects)
    uris[11:11] = [store.uri("missing"), store.uri("missing/too")]
    pairs = s3dlio.get_many(uris, on_error="return", max_in_flight=2)
    assert [isinstance(view, s3dlio.NotFoundError) for _, view in pairs] == [uri not in objects for uri in uris]
    assert all(view == objects[uri] for uri, view in pairs if uri in objects)
    assert "missing/too" in str(pairs[12][1])
    with pytest.raises(s3dlio.NotFoundError, match="missing"):
        s3dlio.get_many(uris)
