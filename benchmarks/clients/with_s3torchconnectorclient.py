"""s3torchconnectorclient: the AWS CRT's client, which splits transfers itself and always works in parallel.

Its part size is also its range size, and the requests in flight follow from a target throughput: there is no other
setting. It sends no checksum and does not sign the payload. Its stream is copied into one array, as its own readers do.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from s3torchconnectorclient import _mountpoint_s3_client as connector

from .job import Job

DISTRIBUTIONS = ("s3torchconnectorclient", "numpy")
TARGET_GBPS = 100.0  # more than this machine moves, so that it is no limit


class Client:
    """Operations by MountpointS3Client, whose credentials come from the environment."""

    def __init__(self, job: Job) -> None:
        self.job = job
        part_size = job.part_size if job.operation.startswith("put") else job.range_size or job.part_size
        self.client = connector.MountpointS3Client(
            region=job.region,
            endpoint=job.endpoint,
            force_path_style=job.endpoint is not None,
            part_size=part_size,
            throughput_target_gbps=TARGET_GBPS,
        )

    def put_write_borrowed(self, key: str, source: Any) -> None:
        """Its stream takes `bytes` only: one copy for each part."""
        stream = self.client.put_object(self.job.bucket, key)
        for offset in range(0, len(source), self.job.part_size):
            stream.write(bytes(source[offset : offset + self.job.part_size]))
        stream.close()

    def get_ranged(self, key: str) -> Any:
        """The stream of one object, joined in one array."""
        import numpy as np

        whole = np.empty(self.job.size, np.uint8)
        offset = 0
        for piece in self.client.get_object(self.job.bucket, key):
            whole[offset : offset + len(piece)] = np.frombuffer(piece, np.uint8)
            offset += len(piece)
        return whole[:offset]

    def get(self, key: str) -> bytes:
        """A small object."""
        return b"".join(self.client.get_object(self.job.bucket, key))

    def get_many(self, keys: Sequence[str]) -> list[bytes]:
        """Runs in threads."""
        with ThreadPoolExecutor(self.job.in_flight) as threads:
            return list(threads.map(self.get, keys))

    def _put(self, item: tuple[str, bytes]) -> None:
        stream = self.client.put_object(self.job.bucket, item[0])
        stream.write(item[1])
        stream.close()

    def put_many(self, items: Sequence[tuple[str, bytes]]) -> None:
        """Runs in threads."""
        with ThreadPoolExecutor(self.job.in_flight) as threads:
            for _ in threads.map(self._put, items):
                pass


def source_file() -> str:
    """The file that the measured library was imported from."""
    return str(connector.__file__)
