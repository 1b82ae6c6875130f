"""The writer against real stores, read back by boto3."""

from __future__ import annotations

import array
import gc
import mmap
import time
from typing import Any

import numpy as np
import pytest

import s3dlio
from s3dlio import MultipartUploadConfig, MultipartUploadSink, MultipartUploadWriter

MIB = 1 << 20


def random_bytes(size: int) -> bytes:
    return np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8).tobytes()


@pytest.mark.parametrize("size", [0, 1, 100, 65_536, 5 * MIB, 5 * MIB + 1, 10 * MIB, 17 * MIB + 3])
@pytest.mark.parametrize("how", ["reserve", "write", "borrow"])
def test_an_object_of_any_size_arrives_as_it_was_given(store: Any, how: str, size: int) -> None:
    data = random_bytes(size)
    with MultipartUploadWriter.from_uri(store.uri("object"), part_size=5 * MIB) as writer:
        if how == "reserve":
            for start in range(0, size, 3 * MIB):
                piece = data[start : start + 3 * MIB]
                writer.reserve(3 * MIB)[: len(piece)] = piece
                writer.commit(len(piece))
        else:
            assert writer.write(bytearray(data), copy=how == "write") == size
    info = writer.close()
    assert store.read("object") == data
    assert info.total_bytes == info["total_bytes"] == size
    assert info.parts == max(1, -(-size // (5 * MIB)))
    assert (info.upload_id is None) == (info.parts == 1)
    head = store.head("object")
    assert head["ETag"].strip('"') == info.etag == info.e_tag
    assert head["ChecksumCRC64NVME"] == info.checksum
    assert info.started_at <= info.completed_at
    assert dict(info)["parts"] == info.parts


@pytest.mark.parametrize(
    "buffer",
    [
        np.arange(700_000, dtype=np.float64).reshape(700, 1000),
        np.zeros(3, dtype=[("a", "<i4"), ("b", "<f8")]),
        np.ones(70_000, dtype=np.complex128),
        array.array("d", range(1000)),
        memoryview(b"abc"),
        bytearray(b"xyz"),
        np.zeros((0, 4), dtype=np.float32),
        np.arange(9000).astype("datetime64[s]"),
    ],
    ids=["float64", "records", "complex", "array", "memoryview", "bytearray", "empty", "datetime"],
)
@pytest.mark.parametrize("copy", [True, False])
def test_write_takes_any_contiguous_buffer(store: Any, buffer: Any, copy: bool) -> None:
    content = bytes(buffer) if isinstance(buffer, bytearray) else buffer.tobytes()
    with MultipartUploadWriter.from_uri(store.uri("buffer")) as writer:
        assert writer.write(buffer, copy=copy) == len(content)
    assert store.read("buffer") == content


def test_write_takes_an_mmap(store: Any) -> None:
    with mmap.mmap(-1, 100_000) as mapped, MultipartUploadWriter.from_uri(store.uri("mmap")) as writer:
        mapped[:5] = b"hello"
        writer.write(mapped, copy=False)
        writer.flush()
    assert store.read("mmap") == b"hello" + bytes(99_995)


def test_flush_then_more_data_replaces_the_short_part(store: Any) -> None:
    writer = MultipartUploadWriter.from_uri(store.uri("flushed"), part_size=5 * MIB)
    writer.write(b"a" * 100)
    writer.flush()
    assert writer.parts_uploaded == 1
    writer.flush()
    writer.write(b"b" * (6 * MIB))
    writer.flush()
    writer.write(b"c")
    info = writer.close()
    assert store.read("flushed") == b"a" * 100 + b"b" * (6 * MIB) + b"c"
    assert info.parts == 2
    assert store.head("flushed")["ChecksumCRC64NVME"] == info.checksum


def test_after_flush_no_borrowed_buffer_is_referenced(store: Any) -> None:
    borrowed = bytearray(7 * MIB)
    writer = MultipartUploadWriter.from_uri(store.uri("borrowed"), part_size=5 * MIB)
    writer.write(borrowed, copy=False)
    writer.flush()
    borrowed.append(1)  # BufferError while an export lives
    writer.close()
    assert len(store.read("borrowed")) == 7 * MIB


def test_abort_leaves_nothing_on_the_store(store: Any) -> None:
    writer = MultipartUploadWriter.from_uri(store.uri("aborted"), part_size=5 * MIB)
    writer.write(bytes(12 * MIB))
    writer.abort()
    writer.abort()
    assert store.uploads() == []
    with pytest.raises(s3dlio.WriterClosedError, match="aborted"):
        writer.write(b"x")
    assert writer.closed


def test_an_exception_in_the_block_aborts(store: Any) -> None:
    def interrupted() -> None:
        with MultipartUploadWriter.from_uri(store.uri("interrupted"), part_size=5 * MIB) as writer:
            writer.write(bytes(12 * MIB))
            raise KeyError("the caller's own")

    with pytest.raises(KeyError, match="own"):
        interrupted()
    assert store.uploads() == []
    assert "Contents" not in store.boto3.list_objects_v2(Bucket=store.bucket)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_dropping_a_writer_aborts_its_upload(store: Any) -> None:
    writer = MultipartUploadWriter.from_uri(store.uri("dropped"), part_size=5 * MIB)
    writer.write(bytes(12 * MIB))
    writer.flush()
    assert writer.upload_id is not None
    del writer
    gc.collect()
    deadline = time.monotonic() + 30
    while store.uploads() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert store.uploads() == []


def test_headers_and_metadata_are_stored(store: Any) -> None:
    options = {
        "content_type": "application/x-npy",
        "metadata": {"Origin": "a test", "n": "1"},
        "cache_control": "no-cache",
        "content_disposition": "attachment",
    }
    for key, size in (("put", 10), ("multipart", 6 * MIB)):
        s3dlio.put_bytes(store.uri(key), bytes(size), part_size=5 * MIB, **options)
        head = store.head(key)
        assert head["ContentType"] == "application/x-npy"
        assert head["Metadata"] == {"origin": "a test", "n": "1"}
        assert head["CacheControl"] == "no-cache"
        assert head["ContentDisposition"] == "attachment"


def test_tags_are_stored(store: Any) -> None:
    s3dlio.put_bytes(store.uri("tagged"), b"x", tags={"team": "a b=c+d"})
    tags = store.boto3.get_object_tagging(Bucket=store.bucket, Key="tagged")["TagSet"]
    assert tags == [{"Key": "team", "Value": "a b=c+d"}]


@pytest.mark.parametrize("size", [0, 10, 11 * MIB])
def test_a_sha256_is_the_one_that_the_store_reports(store: Any, size: int) -> None:
    data = random_bytes(size)
    info = s3dlio.put_bytes(store.uri("sum"), data, part_size=5 * MIB, checksum="sha256")
    assert store.read("sum") == data
    assert store.head("sum")["ChecksumSHA256"] == info.checksum
    assert s3dlio.get(store.uri("sum")) == data
    assert info.checksum is not None
    assert info.checksum.endswith("-3") == (size > 5 * MIB)


@pytest.mark.parametrize("algorithm", ["crc64nvme", "crc32c", "crc32", "sha256", None])
def test_every_checksum_algorithm_is_reported_by_the_store(minio: Any, algorithm: str | None) -> None:
    data = random_bytes(11 * MIB)
    info = s3dlio.put_bytes(minio.uri("sum"), data, part_size=5 * MIB, checksum=algorithm)
    assert minio.read("sum") == data
    assert info.checksum_algorithm == algorithm
    if algorithm is not None:
        assert minio.head("sum")[f"Checksum{algorithm.upper()}"] == info.checksum
        assert s3dlio.get(minio.uri("sum")) == data


def test_if_none_match_refuses_to_replace(minio: Any) -> None:
    s3dlio.put_bytes(minio.uri("once"), b"first", if_none_match="*")
    with pytest.raises(s3dlio.PreconditionFailedError, match="412"):
        s3dlio.put_bytes(minio.uri("once"), b"second", if_none_match="*")
    with pytest.raises(s3dlio.PreconditionFailedError, match="CompleteMultipartUpload"):
        s3dlio.put_bytes(minio.uri("once"), bytes(6 * MIB), part_size=5 * MIB, if_none_match="*")
    assert minio.read("once") == b"first"
    assert minio.uploads() == []


def test_if_match_replaces_only_the_named_version(minio: Any) -> None:
    etag = s3dlio.put_bytes(minio.uri("cas"), b"first").etag
    s3dlio.put_bytes(minio.uri("cas"), b"second", if_match=f'"{etag}"')
    with pytest.raises(s3dlio.PreconditionFailedError):
        s3dlio.put_bytes(minio.uri("cas"), b"third", if_match=etag)
    assert minio.read("cas") == b"second"


def test_a_missing_bucket_fails_the_writer_for_good(store: Any) -> None:
    writer = MultipartUploadWriter.from_uri(f"s3://{store.bucket}-missing/key", part_size=5 * MIB)
    writer.write(bytes(11 * MIB))
    with pytest.raises(s3dlio.NotFoundError, match="NoSuchBucket") as first:
        writer.close()
    with pytest.raises(s3dlio.NotFoundError) as second:
        writer.write(b"x")
    assert second.value is first.value
    writer.abort()


@pytest.mark.parametrize("key", ["a b+c%d", "ünïcode/✓", "dots/.hidden", "plus+and&=?#", "tilde~'()*!"])
def test_difficult_keys_arrive_exactly(store: Any, key: str) -> None:
    s3dlio.put_bytes(store.uri(key), key.encode())
    assert store.read(key) == key.encode()
    assert s3dlio.get(store.uri(key)) == key.encode()
    listed = store.boto3.list_objects_v2(Bucket=store.bucket)["Contents"]
    assert [entry["Key"] for entry in listed] == [key]


def test_a_key_that_the_store_refuses_is_a_clear_error(minio: Any) -> None:
    with pytest.raises(s3dlio.S3Error, match="PutObject of s3://"):
        s3dlio.put_bytes(minio.uri("a/../b"), b"x")


def test_the_sink_is_the_original_quick_start(store: Any) -> None:
    config = MultipartUploadConfig(part_size=32 << 20, max_in_flight=32)
    sink = MultipartUploadSink(store.bucket, "path/to/obj.bin", config)
    for chunk in (b"one", b"two"):
        sink.write_blocking(chunk)
    sink.write_owned_blocking(bytearray(b"three" * 20_000))
    info = sink.finish_blocking()
    assert info.total_bytes == 6 + 100_000
    assert store.read("path/to/obj.bin") == b"onetwo" + b"three" * 20_000


def test_the_sink_is_the_original_full_example(store: Any) -> None:
    config = MultipartUploadConfig(part_size=32 << 20, max_in_flight=16, content_type="application/octet-stream")
    sink = MultipartUploadSink(store.bucket, "dir/checkpoint.bin", config)
    block, remaining = 8 << 20, 65 << 20
    pattern = b"\xab" * block
    while remaining >= block:
        sink.write_blocking(pattern)
        remaining -= block
    sink.write_blocking(pattern[:remaining])
    info = sink.finish_blocking()
    assert (info.parts, info.total_bytes) == (3, 65 << 20)
    assert store.read("dir/checkpoint.bin") == b"\xab" * (65 << 20)
    assert store.head("dir/checkpoint.bin")["ContentType"] == "application/octet-stream"


def test_an_aborted_sink_leaves_nothing(store: Any) -> None:
    sink = MultipartUploadSink(store.bucket, "gone", MultipartUploadConfig(part_size=5 * MIB))
    sink.write_blocking(bytes(6 * MIB))
    sink.abort_blocking()
    assert store.uploads() == []


def test_two_writers_at_once_do_not_disturb_each_other(store: Any) -> None:
    first = MultipartUploadWriter.from_uri(store.uri("first"), part_size=5 * MIB, max_in_flight=1)
    second = MultipartUploadWriter.from_uri(store.uri("second"), part_size=5 * MIB, max_in_flight=1)
    for number in range(8):
        first.write(bytes([number]) * (2 * MIB))
        second.write(bytes([255 - number]) * (2 * MIB))
    first.close()
    second.close()
    assert store.read("first") == b"".join(bytes([n]) * (2 * MIB) for n in range(8))
    assert store.read("second") == b"".join(bytes([255 - n]) * (2 * MIB) for n in range(8))


def test_progress_counts_every_stored_byte_once(store: Any) -> None:
    events: list[s3dlio.ProgressEvent] = []
    s3dlio.put_bytes(store.uri("progress"), bytes(11 * MIB), part_size=5 * MIB, progress=events.append)
    assert [event.parts_done for event in events] == [1, 2, 3]
    assert events[-1].bytes_done == 11 * MIB


@pytest.mark.parametrize("key", ["a//b", "/leading", "a/./b", "a/../b", "..", "trailing/", "//", "a/b/.."])
def test_keys_that_look_like_paths_arrive_exactly(embedded: Any, key: str) -> None:
    s3dlio.put_bytes(embedded.uri(key), key.encode())
    assert s3dlio.get(embedded.uri(key)) == key.encode()
    listed = embedded.boto3.list_objects_v2(Bucket=embedded.bucket)["Contents"]
    assert [entry["Key"] for entry in listed] == [key]
