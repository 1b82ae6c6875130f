"""What calls return: an upload's result, an object's description, an unfinished upload. It imports nothing of ours."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


class UploadInfo(Mapping[str, Any]):
    """What was stored, as attributes and as a mapping with the same names.

    Attributes:
        etag: ETag without quotes (`e_tag` is the same), a weak one with its ``W/``; None if the store reports none.
        parts: number of parts; 1 for a single PutObject.
        total_bytes: size of the object in bytes.
        checksum: base64 of the checksum of the bytes that were sent (a composite one ends in ``-N``), or None.
        checksum_algorithm: ``"crc64nvme"`` and so on, or None.
        checksum_confirmed: the store reported the same checksum of the object. False means that it reported none; if it
            reports a different one, the upload fails.
        version_id: version of the object in a versioned bucket, or None.
        started_at, completed_at: aware datetimes in UTC.
        upload_id: the multipart upload's id; None for a single PutObject.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/key", b"content")
        >>> info.etag == info["etag"], info.checksum_confirmed, dict(info)["total_bytes"]
        (True, True, 7)
    """

    _FIELDS = (
        "etag", "parts", "total_bytes", "checksum", "checksum_algorithm", "checksum_confirmed",
        "version_id", "started_at", "completed_at", "upload_id",
    )  # fmt: skip

    etag: str | None
    parts: int
    total_bytes: int
    checksum: str | None
    checksum_algorithm: str | None
    checksum_confirmed: bool
    version_id: str | None
    started_at: datetime
    completed_at: datetime
    upload_id: str | None

    def __init__(self, **values: Any) -> None:
        self.__dict__.update({name: values[name] for name in self._FIELDS})

    @property
    def e_tag(self) -> str | None:
        """The same as `etag`."""
        return self.etag

    def __getitem__(self, name: str) -> Any:
        if name == "e_tag":
            return self.etag
        if name not in self._FIELDS:
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._FIELDS)

    def __len__(self) -> int:
        return len(self._FIELDS)

    def __repr__(self) -> str:
        return "UploadInfo(" + ", ".join(f"{name}={self[name]!r}" for name in self._FIELDS) + ")"


@dataclass(frozen=True)
class ObjectInfo:
    """What the store reports about an object, as attributes and by ``info["size"]``.

    Attributes:
        uri: ``s3://bucket/key``.
        size: bytes; None where neither HeadObject nor a GetObject of the first byte reports it.
        etag: without quotes, a weak one with its ``W/``; None where the store reports none that can be read.
        last_modified: aware datetime in UTC, or None where the store reports none.
        content_type: as stored, or None.
        metadata: user metadata, names in lower case.
        checksum: base64 of the full-object checksum, or None.
        checksum_algorithm: ``"crc64nvme"`` and so on, or None where there is no `checksum`.
        storage_class: None means STANDARD.
        version_id: in a versioned bucket, else None.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/key", b"content", content_type="text/plain")
        >>> found = s3dlio.stat("s3://my-bucket/key")
        >>> found.uri, found["size"], found.content_type
        ('s3://my-bucket/key', 7, 'text/plain')
    """

    uri: str
    size: int | None
    etag: str | None
    last_modified: datetime | None
    content_type: str | None
    metadata: Mapping[str, str]
    checksum: str | None
    checksum_algorithm: str | None
    storage_class: str | None
    version_id: str | None

    def __getitem__(self, name: str) -> Any:
        if name not in self.__dataclass_fields__:
            raise KeyError(name)
        return getattr(self, name)


@dataclass(frozen=True, slots=True)
class OperationStats:
    """What a client's requests of one S3 operation come to.

    Attributes:
        requests: requests whose outcome is known, the failed ones included.
        retries: attempts beyond the first one of each.
        failures: requests that ended by an error, or were cancelled.
        bytes_sent: bytes of the bodies of requests that succeeded.
        bytes_received: bytes of the bodies of their responses.
        seconds: from the first attempt of each to its end, added up.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/counted", b"content")
        >>> s3dlio.stats().operations["PutObject"].bytes_sent >= 7
        True
    """

    requests: int
    retries: int
    failures: int
    bytes_sent: int
    bytes_received: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ClientStats:
    """What a client has done so far, and what it holds.

    Attributes:
        operations: an `OperationStats` for each S3 operation by its name.
        connections_opened: connections that were established.
        connections_in_use: connections with a request in progress.
        connections_idle: open connections that wait for the next request.
        pool_in_use_bytes: payload memory of the process that something uses: results, and transfers in progress.
        pool_idle_bytes: payload memory of the process that is kept warm.

    Example:
        >>> with s3dlio.Client() as client:
        ...     info = client.put_bytes("s3://my-bucket/counted", b"content")
        ...     stats = client.stats()
        >>> stats.requests, stats.bytes_sent, stats.retries, stats.connections_opened
        (1, 7, 0, 1)
    """

    operations: Mapping[str, OperationStats]
    connections_opened: int
    connections_in_use: int
    connections_idle: int
    pool_in_use_bytes: int
    pool_idle_bytes: int

    @property
    def requests(self) -> int:
        """Requests of all operations."""
        return sum(one.requests for one in self.operations.values())

    @property
    def retries(self) -> int:
        """Retries of all operations."""
        return sum(one.retries for one in self.operations.values())

    @property
    def failures(self) -> int:
        """Failed requests of all operations."""
        return sum(one.failures for one in self.operations.values())

    @property
    def bytes_sent(self) -> int:
        """Bytes sent by all operations."""
        return sum(one.bytes_sent for one in self.operations.values())

    @property
    def bytes_received(self) -> int:
        """Bytes received by all operations."""
        return sum(one.bytes_received for one in self.operations.values())


@dataclass(frozen=True)
class UploadSummary:
    """A multipart upload that is neither completed nor aborted.

    Attributes:
        uri: the object it would become.
        upload_id: its id, for `MultipartUploadWriter.resume`.
        started_at: when it was created, an aware datetime; None where the store reports none.

    Example:
        >>> with s3dlio.MultipartUploadWriter.from_uri("s3://my-bucket/unfinished") as writer:
        ...     count = writer.write(b"first")
        ...     writer.flush()
        ...     s3dlio.list_uploads("s3://my-bucket/unfinished")[0].uri
        's3://my-bucket/unfinished'
    """

    uri: str
    upload_id: str
    started_at: datetime | None


@dataclass(frozen=True, slots=True)
class TransferredFile:
    """A file that was uploaded or downloaded.

    Attributes:
        uri: the object.
        path: the file.
        size: bytes.
        etag: of the object, without quotes; None where the store reports none.

    Example:
        >>> from pathlib import Path
        >>> Path("measurements.bin").write_bytes(b"12345")
        5
        >>> (file,) = s3dlio.upload("measurements.bin", "s3://my-bucket/files/").transferred
        >>> file.uri, file.size
        ('s3://my-bucket/files/measurements.bin', 5)
    """

    uri: str
    path: str
    size: int
    etag: str | None


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that was left as it is, because both sides have the same bytes.

    Attributes:
        uri: the object.
        path: the file.
        size: bytes.

    Example:
        >>> from pathlib import Path
        >>> Path("kept.bin").write_bytes(b"12345")
        5
        >>> result = s3dlio.upload("kept.bin", "s3://my-bucket/files/")
        >>> (kept,) = s3dlio.upload("kept.bin", "s3://my-bucket/files/", skip_existing=True).skipped
        >>> kept.uri
        's3://my-bucket/files/kept.bin'
    """

    uri: str
    path: str
    size: int


@dataclass(frozen=True)
class TransferResult:
    """How the files of one call ended; about 300 bytes a file.

    Attributes:
        transferred: a `TransferredFile` each, in the order in which they were done.
        skipped: a `SkippedFile` each.

    Example:
        >>> from pathlib import Path
        >>> Path("one.bin").write_bytes(b"12345")
        5
        >>> result = s3dlio.upload("one.bin", "s3://my-bucket/files/")
        >>> len(result.transferred), len(result.skipped), result.total_bytes
        (1, 0, 5)
    """

    transferred: list[TransferredFile]
    skipped: list[SkippedFile]

    @property
    def total_bytes(self) -> int:
        """Bytes of all transferred files."""
        return sum(one.size for one in self.transferred)


@dataclass(frozen=True, slots=True)
class SyncAction:
    """What a sync did, or would do, to one name.

    Attributes:
        operation: ``"upload"``, ``"download"``, ``"copy"`` or ``"delete"``.
        source: path or URI; None for a deletion.
        target: path or URI.
        size: bytes; None where they are not known.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/before/a", b"12345")
        >>> s3dlio.sync("s3://my-bucket/before/", "s3://my-bucket/after/", dry_run=True).actions[0].operation
        'copy'
    """

    operation: str
    source: str | None
    target: str
    size: int | None


@dataclass(frozen=True)
class SyncResult:
    """What a sync did, or with ``dry_run`` would do.

    Attributes:
        actions: a `SyncAction` each: transfers in the order of their names, then deletions.
        unchanged: files that were the same on both sides.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/from/a", b"12345")
        >>> first = s3dlio.sync("s3://my-bucket/from/", "s3://my-bucket/to/")
        >>> again = s3dlio.sync("s3://my-bucket/from/", "s3://my-bucket/to/")
        >>> len(first.actions), len(again.actions), again.unchanged
        (1, 0, 1)
    """

    actions: list[SyncAction]
    unchanged: int

    @property
    def total_bytes(self) -> int:
        """Bytes of all transfers."""
        return sum(one.size or 0 for one in self.actions if one.operation != "delete")
