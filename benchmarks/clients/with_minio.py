"""minio: MinIO's own client for Python. Uploads go in parallel from a file, downloads are one stream.

Over plain HTTP it signs the SHA-256 of each payload.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import minio
import urllib3

from .array_file import ArrayFile
from .job import Job

DISTRIBUTIONS = ("minio", "numpy")


class Client:
    """Operations by one Minio client, which threads may share."""

    def __init__(self, job: Job) -> None:
        self.job = job
        pool = urllib3.PoolManager(maxsize=max(job.in_flight, 10), ca_certs=job.ca)
        keys = {"access_key": job.access_key, "secret_key": job.secret_key, "session_token": job.session_token}
        self.client = minio.Minio(endpoint=job.host, secure=job.tls, region=job.region, http_client=pool, **keys)

    def put_write_borrowed(self, key: str, source: Any) -> None:
        """put_object() of a file around the array."""
        self.client.put_object(
            bucket_name=self.job.bucket,
            object_name=key,
            data=ArrayFile(source),
            length=len(source),
            part_size=self.job.part_size,
            num_parallel_uploads=self.job.in_flight,
        )

    def get(self, key: str) -> bytes:
        """get_object(), read in full."""
        answer = self.client.get_object(bucket_name=self.job.bucket, object_name=key)
        try:
            data: bytes = answer.read()
            return data
        finally:
            answer.close()
            answer.release_conn()

    def get_many(self, keys: Sequence[str]) -> list[bytes]:
        """Runs in threads."""
        with ThreadPoolExecutor(self.job.in_flight) as threads:
            return list(threads.map(self.get, keys))

    def _put(self, item: tuple[str, bytes]) -> None:
        key, data = item
        self.client.put_object(bucket_name=self.job.bucket, object_name=key, data=ArrayFile(data), length=len(data))

    def put_many(self, items: Sequence[tuple[str, bytes]]) -> None:
        """Runs in threads."""
        with ThreadPoolExecutor(self.job.in_flight) as threads:
            for _ in threads.map(self._put, items):
                pass


def source_file() -> str:
    """The file that the measured library was imported from."""
    return str(minio.__file__)
