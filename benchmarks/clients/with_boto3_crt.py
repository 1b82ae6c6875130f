"""boto3's transfers by the AWS CRT, which splits, signs, checks and sends in C threads of its own.

What `preferred_transfer_client="crt"` chooses is s3transfer's CRTTransferManager. boto3 builds it for AWS over TLS
only, so here it is built by hand, as the AWS command line does, for a private endpoint and authority. The number of
requests in flight follows from a target throughput. It sends a CRC32 with each part.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import boto3
import botocore.config
import botocore.session
from s3transfer import crt

from .array_file import ArrayFile
from .job import Job

DISTRIBUTIONS = ("boto3", "awscrt", "s3transfer", "numpy")
TARGET = 12_500_000_000  # bytes/s, more than this machine moves, so that it is no limit


class Client:
    """Operations by one CRTTransferManager."""

    def __init__(self, job: Job) -> None:
        self.job = job
        session = botocore.session.Session()
        credentials = crt.BotocoreCRTCredentialsWrapper(session.get_credentials())
        part_size = job.part_size if job.operation.startswith("put") else job.range_size or job.part_size
        client = crt.create_s3_crt_client(
            job.region,
            credentials.to_crt_credentials_provider(),
            target_throughput=TARGET,
            part_size=part_size,
            use_ssl=job.tls,
            verify=job.ca,
        )
        style = {"addressing_style": "path" if job.endpoint else "auto"}
        settings = {
            "region_name": job.region,
            "endpoint_url": job.endpoint,
            "config": botocore.config.Config(s3=style),
        }
        self.transfers = crt.CRTTransferManager(client, crt.BotocoreCRTRequestSerializer(session, settings))

    def put_write_borrowed(self, key: str, source: Any) -> None:
        """upload() of a file around the array."""
        self.transfers.upload(ArrayFile(source), self.job.bucket, key).result()

    def get(self, key: str) -> Any:
        """download() into memory, which splits what is larger than a part."""
        file = io.BytesIO()
        self.transfers.download(self.job.bucket, key, file).result()
        return file.getbuffer()

    get_ranged = get

    def get_many(self, keys: Sequence[str]) -> list[Any]:
        """Starts all at once: the CRT queues them itself."""
        files = [io.BytesIO() for _ in keys]
        found = [self.transfers.download(self.job.bucket, key, file) for key, file in zip(keys, files, strict=True)]
        for future in found:
            future.result()
        return [file.getbuffer() for file in files]

    def put_many(self, items: Sequence[tuple[str, Any]]) -> None:
        """The same."""
        for future in [self.transfers.upload(ArrayFile(data), self.job.bucket, key) for key, data in items]:
            future.result()


def source_file() -> str:
    """The file that the measured library was imported from."""
    return str(boto3.__file__)
