"""boto3: what most programs use. It sends a CRC32 with each part and signs the payload over plain HTTP, by default.

Parallel transfers are s3transfer's, which needs a file: the array is wrapped in one for reading, and downloads are
written into one in memory.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import boto3.s3.transfer
import botocore.config

from .array_file import ArrayFile
from .job import Job

DISTRIBUTIONS = ("boto3", "numpy")


class Client:
    """Operations by one boto3 client, which threads may share."""

    def __init__(self, job: Job) -> None:
        self.job = job
        style = {"addressing_style": "path" if job.endpoint else "auto"}
        checks = {name: value for name, value in job.writer_options.items() if name.startswith("request_")}
        self.extra = {name: value for name, value in job.writer_options.items() if name not in checks}
        self.client = boto3.client(
            "s3",
            endpoint_url=job.endpoint,
            region_name=job.region,
            config=botocore.config.Config(s3=style, max_pool_connections=max(job.in_flight, 10), **checks),
        )

    def _transfer(self, chunk: int) -> Any:
        return boto3.s3.transfer.TransferConfig(
            multipart_threshold=chunk,
            multipart_chunksize=chunk,
            max_concurrency=self.job.in_flight,
            preferred_transfer_client="classic",
        )

    def put_write_borrowed(self, key: str, source: Any) -> None:
        """upload_fileobj() of a file around the array."""
        transfer = self._transfer(self.job.part_size)
        self.client.upload_fileobj(ArrayFile(source), self.job.bucket, key, Config=transfer, ExtraArgs=self.extra)

    def get(self, key: str) -> bytes:
        """get_object(), read in full."""
        body: bytes = self.client.get_object(Bucket=self.job.bucket, Key=key)["Body"].read()
        return body

    def get_ranged(self, key: str) -> Any:
        """download_fileobj() into memory."""
        file = io.BytesIO()
        chunk = self.job.range_size or self.job.part_size
        self.client.download_fileobj(self.job.bucket, key, file, Config=self._transfer(chunk))
        return file.getbuffer()

    def get_many(self, keys: Sequence[str]) -> list[bytes]:
        """Runs in threads."""
        with ThreadPoolExecutor(self.job.in_flight) as threads:
            return list(threads.map(self.get, keys))

    def put_many(self, items: Sequence[tuple[str, bytes]]) -> None:
        """Runs in threads."""
        with ThreadPoolExecutor(self.job.in_flight) as threads:
            for _ in threads.map(lambda item: self._put(*item), items):
                pass

    def _put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.job.bucket, Key=key, Body=data)


def source_file() -> str:
    """The file that the measured library was imported from."""
    return str(boto3.__file__)
