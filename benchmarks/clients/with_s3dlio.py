"""This library and the original: it uses only names that both have, and never checks which one it is."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import s3dlio

from .job import Job

DISTRIBUTIONS = ("s3dlio", "numpy")
# Bytes of one write(): several parts, like an array of an application.
WRITE_PIECE = 64 << 20


class Client:
    """Operations by s3dlio; its settings come from the environment and from each call."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def _uri(self, key: str) -> str:
        return f"s3://{self.job.bucket}/{key}"

    def _writer(self, key: str) -> Any:
        return s3dlio.MultipartUploadWriter.from_uri(
            self._uri(key),
            part_size=self.job.part_size,
            max_in_flight=self.job.in_flight,
            content_type="application/octet-stream",
            **self.job.writer_options,
        )

    def load(self) -> None:
        """Stores a small object, which loads all of the library's code."""
        s3dlio.put_bytes(self._uri("loaded/size-1"), b"1")

    def put_reserve(self, key: str, source: Any, *, fill: bool = True) -> None:
        """Reserves each part, fills it by one NumPy copy, and commits it."""
        import numpy as np

        writer = self._writer(key)
        for offset in range(0, self.job.size, self.job.part_size):
            length = min(self.job.part_size, self.job.size - offset)
            view = writer.reserve(length)
            if fill:
                start = offset % (source.size - self.job.part_size)
                np.copyto(np.frombuffer(view, np.uint8), source[start : start + length])
            writer.commit(length)
            del view
        writer.close()

    def put_reserve_unfilled(self, key: str, source: Any) -> None:
        """The same without the copy."""
        self.put_reserve(key, source, fill=False)

    def put_write(self, key: str, source: Any, **how: bool) -> None:
        """Gives NumPy memory to write() in memoryviews of 64 MiB."""
        writer = self._writer(key)
        for offset in range(0, self.job.size, WRITE_PIECE):
            writer.write(memoryview(source[offset : min(offset + WRITE_PIECE, self.job.size)]), **how)
        writer.close()

    def put_write_borrowed(self, key: str, source: Any) -> None:
        """The same without a copy."""
        self.put_write(key, source, copy=False)

    def put_write_copied(self, key: str, source: Any) -> None:
        """The same with a copy."""
        self.put_write(key, source, copy=True)

    def put_again(self, key: str, source: Any) -> None:
        """Gives the same memory to write() repeatedly, without a copy: an object of any size in constant memory."""
        writer = self._writer(key)
        for offset in range(0, self.job.size, self.job.part_size):
            start = offset % (source.size - self.job.part_size)
            length = min(self.job.part_size, self.job.size - offset)
            writer.write(memoryview(source[start : start + length]), copy=False)
        writer.close()

    def put_small_writes(self, key: str, source: Any) -> None:
        """Gives write() a memoryview of a few bytes at a time."""
        writer = self._writer(key)
        self._write_pieces(writer, source)
        writer.close()

    def put_buffered_writes(self, key: str, source: Any) -> None:
        """The same through an io.BufferedWriter of one part in front of the writer."""
        writer = self._writer(key)
        buffered = io.BufferedWriter(_Raw(writer), self.job.part_size)
        self._write_pieces(buffered, source)
        buffered.flush()
        writer.close()

    def _write_pieces(self, writer: Any, source: Any) -> None:
        data, piece, write = memoryview(source), self.job.piece, writer.write
        for offset in range(0, self.job.size, piece):
            write(data[offset : offset + piece])

    def get_into(self, key: str, target: Any) -> Any:
        """Fetches into the caller's memory; the environment sets the ranges."""
        s3dlio.get_into(self._uri(key), target)
        return target

    def get(self, key: str) -> Any:
        """Fetches one object; the environment says whether in ranges."""
        return s3dlio.get(self._uri(key))

    get_ranged = get

    def get_many(self, keys: Sequence[str]) -> list[Any]:
        """Objects in the order of the keys, whatever order the library returns them in."""
        found = dict(s3dlio.get_many([self._uri(key) for key in keys], max_in_flight=self.job.in_flight))
        return [found[self._uri(key)] for key in keys]

    def put_many(self, items: Sequence[tuple[str, Any]]) -> None:
        """Uses put_many() if the library has it, else put_bytes() from threads."""
        pairs = [(self._uri(key), data) for key, data in items]
        if hasattr(s3dlio, "put_many"):
            s3dlio.put_many(pairs, max_in_flight=self.job.in_flight)
            return
        with ThreadPoolExecutor(self.job.in_flight) as threads:
            for _ in threads.map(lambda pair: s3dlio.put_bytes(*pair), pairs):
                pass


class _Raw(io.RawIOBase):
    """The raw file of an io.BufferedWriter; its buffer is copied, because it is refilled immediately."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._writer.write(data)
        return len(data)


def source_file() -> str:
    """The file that the measured library was imported from."""
    file: str = s3dlio.__file__
    return file
