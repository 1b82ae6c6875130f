"""Code as callers write it: mypy --strict and pyright (strict) accept every line. It is never run."""

from __future__ import annotations

import array
import mmap
from typing import Literal, Unpack

import numpy as np

import s3dlio


def upload(array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> str:
    with s3dlio.MultipartUploadWriter.from_uri("s3://bucket/key", part_size=32 << 20, content_type="a/b") as writer:
        view: memoryview = writer.reserve(1 << 20)
        np.frombuffer(view, np.uint8)[:] = 1
        writer.commit(1 << 20)
        written: int = writer.write(array.data)
        writer.write(array, copy=False)
        writer.flush()
        total: int = writer.bytes_written + written
    info: s3dlio.UploadInfo = writer.close()
    return f"{info.etag} {info['checksum']} {dict(info)} {total} {info.completed_at.isoformat()}"


def download() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    view: s3dlio.BytesView = s3dlio.get("s3://bucket/key", range_optimization=True, verify=True)
    tail: bytes = s3dlio.get_range("s3://bucket/key", 100, 20).to_bytes()
    place = bytearray(1000)
    count: int = s3dlio.get_into("s3://bucket/key", place, offset=5, length=995)
    pairs = s3dlio.get_many(["s3://bucket/a", "s3://bucket/b"], max_in_flight=8)
    names: list[str] = [uri for uri, _ in pairs]
    first: int = view[0]
    part: s3dlio.BytesView = view[10:20]
    print(tail, count, names, first, len(part))
    return np.frombuffer(memoryview(view), np.float32)


def sink(config: s3dlio.MultipartUploadConfig) -> int | None:
    opened = s3dlio.MultipartUploadSink("bucket", "key", config)
    opened.write_blocking(b"copied")
    opened.write_owned_blocking(bytearray(100))
    try:
        info = opened.finish_blocking()
    except s3dlio.S3Error as error:
        return error.status
    except (s3dlio.TransportError, s3dlio.ChecksumMismatchError):
        opened.abort_blocking()
        raise
    return info.parts


def explicit() -> s3dlio.ObjectInfo:
    retries = s3dlio.RetryPolicy(max_attempts=3)
    with s3dlio.Client(endpoint_url="http://127.0.0.1:9000", region="us-east-1", retries=retries) as client:
        client.put_bytes("s3://bucket/key", b"content", progress=lambda event: print(event.bytes_done))
        return client.stat("s3://bucket/key")


def options_of_our_own(uri: str, data: bytes, **options: Unpack[s3dlio.UploadOptions]) -> s3dlio.UploadInfo:
    return s3dlio.put_bytes(uri, data, **options)


def many(uris: list[str], items: list[tuple[str, bytes]], on_error: Literal["raise", "return"]) -> int:
    settings: s3dlio.GetOptions = {"verify": False, "chunk_size": 1 << 20}
    views: list[s3dlio.BytesView] = [view for _, view in s3dlio.get_many(uris, **settings)]
    for _, view in s3dlio.get_many(uris, on_error="return", range_concurrency=4):
        if isinstance(view, Exception):
            raise view
        views.append(view)
    infos: list[s3dlio.UploadInfo] = s3dlio.put_many(items, part_max_in_flight=4, part_size=8 << 20, checksum=None)
    kept: list[s3dlio.UploadInfo | Exception] = s3dlio.Client().put_many(items, on_error="return", max_in_flight=4)
    either = s3dlio.put_many(items, on_error=on_error)
    return len(views) + sum(info.total_bytes for info in infos) + len(kept) + len(either)


def buffers(floats: array.array[float], mapped: mmap.mmap, numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
    for data in (b"bytes", bytearray(5), memoryview(b"x"), floats, mapped, numbers, s3dlio.get("s3://b/k")):
        s3dlio.put_bytes("s3://bucket/key", data)
    s3dlio.put_many([("s3://bucket/a", b"bytes"), ("s3://bucket/b", numbers)])
    s3dlio.get_into("s3://bucket/key", numbers)


def every_way_to_a_writer(client: s3dlio.Client, report: s3dlio.Progress) -> s3dlio.MultipartUploadWriter:
    client.writer("s3://bucket/key", max_in_flight=4, progress=report).abort()
    s3dlio.MultipartUploadWriter("bucket", "key", client=client, checksum="sha256", if_none_match="*").abort()
    client.sink("bucket", "key", s3dlio.MultipartUploadConfig(checksum="crc32c")).abort_blocking()
    return client.resume("s3://bucket/key", "id", part_size=8 << 20)


def credentials() -> list[s3dlio.Client]:
    return [
        s3dlio.Client(credentials="anonymous", addressing_style="path"),
        s3dlio.Client(credentials=("key", "secret"), timeouts=s3dlio.Timeouts(idle=30)),
        s3dlio.Client(credentials=("key", "secret", "token"), addressing_style="virtual"),
    ]


async def asynchronous(client: s3dlio.Client) -> list[bytes]:
    view: s3dlio.BytesView = await s3dlio.get_async("s3://bucket/key", verify=True, client=client)
    pairs: list[tuple[str, s3dlio.BytesView]] = await client.get_many_async(["s3://bucket/a"], max_in_flight=8)
    kept: list[tuple[str, s3dlio.BytesView | Exception]] = await s3dlio.get_many_async(["s3://b/a"], on_error="return")
    info: s3dlio.UploadInfo = await client.put_bytes_async("s3://bucket/key", b"x", content_type="a/b")
    sizes: list[int] = [found.size or 0 async for found in client.iter_objects_async("s3://bucket/")]
    pages: list[s3dlio.ObjectPage] = [page async for page in s3dlio.iter_objects_async("s3://bucket/").pages()]
    async with client.writer_async("s3://bucket/key", part_size=32 << 20) as writer:
        memory: memoryview = await writer.reserve(100)
        await writer.commit(len(memory))
        count: int = await writer.write(np.zeros(3), copy=False)
    async with client.open_async("s3://bucket/key") as file:
        content: bytes = await file.read(10)
    async with s3dlio.open_async("s3://bucket/key", "wb") as written:
        await written.write(content)
    chunks = [bytes(chunk) async for chunk in client.get_iter_async("s3://bucket/key")]
    print(view, pairs, kept, info.etag, sizes, pages, count, written.info.total_bytes)
    return chunks
