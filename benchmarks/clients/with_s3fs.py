"""s3fs: fsspec's file system over aiobotocore. Many concurrent requests, on one thread with an event loop.

By default it sends a CRC32 with each part and signs the payload over plain HTTP, as boto3 does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import s3fs

from .job import Job

DISTRIBUTIONS = ("s3fs", "numpy")


class Client:
    """Operations by one S3FileSystem and its blocking methods."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.files = s3fs.S3FileSystem(
            key=job.access_key,
            secret=job.secret_key,
            token=job.session_token,
            endpoint_url=job.endpoint,
            max_concurrency=job.in_flight,
            client_kwargs={"region_name": job.region} | ({"verify": job.ca} if job.ca else {}),
            config_kwargs={"max_pool_connections": max(job.in_flight, 10)},
        )

    def _path(self, key: str) -> str:
        return f"{self.job.bucket}/{key}"

    def put_write_borrowed(self, key: str, source: Any) -> None:
        """pipe_file() of the whole array, which must be `bytes`: one copy."""
        self.files.pipe_file(self._path(key), bytes(source), chunksize=self.job.part_size)

    def get(self, key: str) -> bytes:
        """cat_file(), which fetches a large object in parallel chunks anyway."""
        data: bytes = self.files.cat_file(self._path(key))
        return data

    def get_ranged(self, key: str) -> bytes:
        """cat_file() in chunks."""
        chunk = self.job.range_size or self.job.part_size
        data: bytes = self.files.cat_file(self._path(key), chunksize=chunk, max_concurrency=self.job.in_flight)
        return data

    def get_many(self, keys: Sequence[str]) -> list[bytes]:
        """cat() of a list of paths."""
        found = self.files.cat([self._path(key) for key in keys], batch_size=self.job.in_flight)
        return [found[self._path(key)] for key in keys]

    def put_many(self, items: Sequence[tuple[str, Any]]) -> None:
        """pipe() of a mapping of paths."""
        self.files.pipe({self._path(key): data for key, data in items}, batch_size=self.job.in_flight)


def source_file() -> str:
    """The file that the measured library was imported from."""
    return str(s3fs.__file__)
