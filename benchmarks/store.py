"""A store as the harness sees it: its address, the settings for every contender's process, and checks of its content.

Everything here happens between measurements, with boto3, so that no contender checks its own work. The processes behind
the stores are in `servers.py`.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import pattern, tmpfs
from .clients.job import object_keys

CHECKED_OBJECTS = 3
_STEP = 16 << 20
_DELETED_AT_ONCE = 1000


@dataclass(frozen=True)
class Store:
    """A running store. `content`: whether it returns what was written. `url`: None for AWS itself."""

    name: str
    title: str
    url: str | None
    version: str
    content: bool
    bucket: str = "benchmarks"
    region: str = "us-east-1"
    # Variables of contenders' processes besides the endpoint: credentials, certificate authorities.
    environment: dict[str, str] = field(default_factory=dict)
    ca: Path | None = None
    # The data folder of our own MinIO, and the folder in it where MinIO keeps deleted and replaced objects for minutes.
    data: Path | None = None
    trash: Path | None = None
    # The folder whose files are the objects, if the store only serves files.
    served: Path | None = None
    # Every key begins with it: a user's own bucket may hold other things.
    prefix: str = ""

    @property
    def tls(self) -> bool:
        """Whether the endpoint speaks TLS."""
        return self.url is None or self.url.startswith("https:")

    def used(self) -> int:
        """Bytes of memory that the store's data take; 0 if unknown."""
        return tmpfs.used(self.data) if self.data else 0

    def empty_trash(self) -> None:
        """Frees the memory of deleted objects. Called between transfers, never while one is measured."""
        if self.trash is not None and self.trash.is_dir():
            for entry in self.trash.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)  # MinIO may be removing it at the same time
                else:
                    entry.unlink(missing_ok=True)

    @functools.cached_property
    def client(self) -> Any:
        """A boto3 client of this store."""
        import boto3
        from botocore.config import Config

        style = {"addressing_style": "path" if self.url else "auto"}
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=self.region,
            aws_access_key_id=self.environment.get("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=self.environment.get("AWS_SECRET_ACCESS_KEY"),
            aws_session_token=self.environment.get("AWS_SESSION_TOKEN"),
            verify=str(self.ca) if self.ca else None,
            config=Config(s3=style, retries={"mode": "standard"}),
        )

    def check(self, key: str, size: int, *, content: bool) -> None:
        """Raises ValueError unless the object has this size and, if the store keeps contents, holds the pattern."""
        found = self.client.head_object(Bucket=self.bucket, Key=key)["ContentLength"]
        if found != size:
            raise ValueError(f"{self.name} has {found} bytes in {key}, {size} were expected")
        if not (content and self.content):
            return
        period = pattern.make(pattern.PERIOD)
        for offset in range(0, size, _STEP):
            last = min(offset + _STEP, size) - 1
            answer = self.client.get_object(Bucket=self.bucket, Key=key, Range=f"bytes={offset}-{last}")
            pattern.check(answer["Body"].read(), period, offset=offset)

    def delete(self, keys: Sequence[str]) -> None:
        """Deletes the objects and frees their memory."""
        if self.served:
            for key in keys:
                (self.served / self.bucket / key).unlink(missing_ok=True)
        elif len(keys) == 1:
            self.client.delete_object(Bucket=self.bucket, Key=keys[0])
        elif self.content:  # the discard server forgets small objects by itself
            for start in range(0, len(keys), _DELETED_AT_ONCE):
                some = [{"Key": key} for key in keys[start : start + _DELETED_AT_ONCE]]
                self.client.delete_objects(Bucket=self.bucket, Delete={"Objects": some, "Quiet": True})
        self.empty_trash()

    @contextlib.contextmanager
    def seeded(self, sizes: Sequence[int], part_size: int) -> Iterator[str]:
        """Stores objects to be read, and deletes them at the end; yields the key that `object_keys` expands."""
        base = f"{self.prefix}seed/size-{sizes[0]}" if len(sizes) == 1 else f"{self.prefix}seed"
        if not self.content:
            yield base  # the discard server has objects of every size
            return
        keys = object_keys(base, sizes)
        try:
            self._seed(keys, sizes, part_size)
            yield base
        finally:
            self.delete(keys)

    def _seed(self, keys: Sequence[str], sizes: Sequence[int], part_size: int) -> None:
        if self.served:
            for key, size in zip(keys, sizes, strict=True):
                file = self.served / self.bucket / key
                file.parent.mkdir(parents=True, exist_ok=True)
                pattern.make(size).tofile(file)
            return
        source = pattern.make(pattern.PERIOD + part_size)
        for key, size in zip(keys, sizes, strict=True):
            if size <= part_size:
                body = source[:size].tobytes()
                self.client.put_object(Bucket=self.bucket, Key=key, Body=body, ChecksumAlgorithm="CRC64NVME")
            else:
                self._seed_parts(key, size, part_size, source)

    def _seed_parts(self, key: str, size: int, part_size: int, source: pattern.Bytes) -> None:
        """With a full-object CRC64NVME, as AWS has it."""
        checksums = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}
        upload = self.client.create_multipart_upload(Bucket=self.bucket, Key=key, **checksums)["UploadId"]
        same = {"Bucket": self.bucket, "Key": key, "UploadId": upload}
        parts = []
        for number, offset in enumerate(range(0, size, part_size), 1):
            start = offset % pattern.PERIOD
            piece = source[start : start + min(part_size, size - offset)].tobytes()
            answer = self.client.upload_part(**same, PartNumber=number, Body=piece, ChecksumAlgorithm="CRC64NVME")
            crc = answer["ChecksumCRC64NVME"]
            parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC64NVME": crc})
        self.client.complete_multipart_upload(**same, MultipartUpload={"Parts": parts}, ChecksumType="FULL_OBJECT")
