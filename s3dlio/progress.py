"""Progress reports, for callers that want to draw a bar.

The writer and the reader decide when to report. This module imports nothing of ours.
"""

from typing import NamedTuple, Protocol


class ProgressEvent(NamedTuple):
    """How far a transfer has come.

    Attributes:
        operation: ``"upload"`` or ``"download"``.
        uri: the object, as ``s3://bucket/key``; in `get_many` and `put_many` the one that has just finished.
        bytes_done: payload bytes that have arrived, counted once even if they were sent twice.
        total_bytes: payload bytes expected, or None while that is unknown.
        parts_done: parts (upload), ranges (download) or objects (`get_many`, `put_many`) that are finished.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/key", b"content")
        >>> view = s3dlio.get("s3://my-bucket/key", progress=print)
        ProgressEvent(operation='download', uri='s3://my-bucket/key', bytes_done=7, total_bytes=7, parts_done=1)
    """

    operation: str
    uri: str
    bytes_done: int
    total_bytes: int | None
    parts_done: int


class Progress(Protocol):
    """A callable that takes a `ProgressEvent`.

    It is called from worker threads, one call at a time for one transfer, and should return quickly.
    An exception that it raises is logged and does not end the transfer.

    Example:
        >>> def report(event: s3dlio.ProgressEvent) -> None:
        ...     print(f"{event.operation}: {event.bytes_done} bytes")
        >>> info = s3dlio.put_bytes("s3://my-bucket/key", b"content", progress=report)
        upload: 7 bytes
    """

    def __call__(self, event: ProgressEvent, /) -> object: ...
