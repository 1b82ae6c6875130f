"""What callers write, for the type checker: it runs nothing, and every line has to be understood by mypy --strict."""

from __future__ import annotations

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
    print(tail, count, names, len(view[10:20]))
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
