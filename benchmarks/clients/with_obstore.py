"""obstore: Python bindings of the Rust crate object_store. It signs the SHA-256 of each payload by default.

It has no call that downloads one object in parallel: get_ranges() always joins adjacent ranges into one
request. So ranges are fetched by get_range() from threads, and stay in one buffer for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import obstore
import obstore.store

from .job import Job

DISTRIBUTIONS = ("obstore", "numpy")


class Client:
    """Operations by obstore's blocking functions."""

    def __init__(self, job: Job) -> None:
        self.job = job
        options: dict[str, Any] = {"allow_http": not job.tls}
        if job.ca:
            with open(job.ca) as authority:
                options["root_certificate"] = authority.read()
        config = {
            "endpoint": job.endpoint,
            "region": job.region,
            "access_key_id": job.access_key,
            "secret_access_key": job.secret_key,
            "session_token": job.session_token,
        }
        config = {name: value for name, value in config.items() if value} | job.writer_options
        self.store = obstore.store.S3Store(job.bucket, config=config, client_options=options)

    def put_write_borrowed(self, key: str, source: Any) -> None:
        """put() of a whole array."""
        obstore.put(self.store, key, source, chunk_size=self.job.part_size, max_concurrency=self.job.in_flight)

    def get(self, key: str) -> Any:
        """get(), which returns one buffer."""
        return obstore.get(self.store, key).bytes()

    def get_ranged(self, key: str) -> Any:
        """get_range() from threads."""

        def fetch(place: tuple[int, int]) -> Any:
            return obstore.get_range(self.store, key, start=place[0], length=place[1])

        with ThreadPoolExecutor(self.job.in_flight) as threads:
            return Pieces(list(threads.map(fetch, self.job.ranges())))

    def get_many(self, keys: Sequence[str]) -> list[Any]:
        """get() from threads."""
        with ThreadPoolExecutor(self.job.in_flight) as threads:
            return list(threads.map(self.get, keys))

    def put_many(self, items: Sequence[tuple[str, Any]]) -> None:
        """put() from threads."""
        with ThreadPoolExecutor(self.job.in_flight) as threads:
            for _ in threads.map(lambda item: obstore.put(self.store, *item), items):
                pass


class Pieces:
    """The results of get_range(), one buffer for each range: joined only to be checked."""

    def __init__(self, pieces: Sequence[Any]) -> None:
        self.pieces = pieces

    def __len__(self) -> int:
        return sum(map(len, self.pieces))

    def tobytes(self) -> bytes:
        """All of it in one piece."""
        return b"".join(map(bytes, self.pieces))


def source_file() -> str:
    """The file that the measured library was imported from."""
    return str(obstore.__file__)
