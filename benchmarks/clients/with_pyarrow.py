"""pyarrow: the AWS SDK for C++ behind Arrow's file systems. Uploads in the background, in parts of 10 MiB.

That size cannot be set; the requests in flight are its pool of I/O threads, which is set to the common number. Each
part is sent in chunks with a CRC64NVME in the trailer. Reads are one request for each read() call.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow
import pyarrow.fs

from .job import Job

DISTRIBUTIONS = ("pyarrow", "numpy")


class Client:
    """Operations by one S3FileSystem."""

    def __init__(self, job: Job) -> None:
        self.job = job
        pyarrow.set_io_thread_count(job.in_flight)
        config = {
            "access_key": job.access_key,
            "secret_key": job.secret_key,
            "session_token": job.session_token,
            "region": job.region,
        }
        if job.endpoint:
            config |= {"endpoint_override": job.host, "scheme": "https" if job.tls else "http"}
        if job.ca:
            config["tls_ca_file_path"] = job.ca
        self.files = pyarrow.fs.S3FileSystem(**config)

    def _path(self, key: str) -> str:
        return f"{self.job.bucket}/{key}"

    def put_write_borrowed(self, key: str, source: Any) -> None:
        """An output stream, given the array part by part."""
        with self.files.open_output_stream(self._path(key)) as stream:
            for offset in range(0, len(source), self.job.part_size):
                stream.write(memoryview(source[offset : offset + self.job.part_size]))

    def get(self, key: str) -> Any:
        """One read of an input file."""
        with self.files.open_input_file(self._path(key)) as file:
            return file.read_buffer()

    def get_ranged(self, key: str) -> Any:
        """read_at() from threads, joined in one array."""
        import numpy as np

        whole = np.empty(self.job.size, np.uint8)
        with (
            self.files.open_input_file(self._path(key)) as file,
            ThreadPoolExecutor(self.job.in_flight) as threads,
        ):

            def read(place: tuple[int, int]) -> None:
                offset, length = place
                whole[offset : offset + length] = np.frombuffer(file.read_at(length, offset), np.uint8)

            for _ in threads.map(read, self.job.ranges()):
                pass
        return whole

    def get_many(self, keys: Sequence[str]) -> list[Any]:
        """Runs in threads."""
        with ThreadPoolExecutor(self.job.in_flight) as threads:
            return list(threads.map(self.get, keys))

    def _put(self, item: tuple[str, bytes]) -> None:
        with self.files.open_output_stream(self._path(item[0])) as stream:
            stream.write(item[1])

    def put_many(self, items: Sequence[tuple[str, bytes]]) -> None:
        """Runs in threads."""
        with ThreadPoolExecutor(self.job.in_flight) as threads:
            for _ in threads.map(self._put, items):
                pass


def source_file() -> str:
    """The file that the measured library was imported from."""
    return str(pyarrow.__file__)
