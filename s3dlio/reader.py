"""`get`, `get_range`, `get_into` and `get_many`: whole objects, parts of one, and many at once.

Arguments are checked here, before any request; the bytes are `download`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from ._memory.bytes_view import BytesView
from ._memory.pool import flat_view
from ._net.addresses import parse_uri
from ._s3.default import ClientLike, service_of
from ._transfer.batch import Batch, Gets
from ._transfer.download import Download
from .config import MAX_OBJECT_SIZE, DownloadSettings, check_integer
from .progress import Progress


def get(
    uri: str,
    *,
    version_id: str | None = None,
    progress: Progress | None = None,
    verify: bool | None = None,
    range_optimization: bool | None = None,
    range_threshold: int | None = None,
    range_concurrency: int | None = None,
    chunk_size: int | None = None,
    client: ClientLike | None = None,
) -> BytesView:
    """The whole object as a `BytesView` of pooled memory.

    Args:
        uri: ``s3://bucket/key``.
        version_id: a version other than the current one.
        progress: called with a `ProgressEvent` after each finished range.
        verify: compare with the full-object checksum where the store reports one; None does, unless
            ``AWS_RESPONSE_CHECKSUM_VALIDATION`` is ``when_required``.
        range_optimization: parallel ranges for large objects; None follows ``S3DLIO_ENABLE_RANGE_OPTIMIZATION``.
        range_threshold: bytes from which ranges are used; None follows ``S3DLIO_RANGE_THRESHOLD_MB``.
        range_concurrency: ranges in flight; None follows ``S3DLIO_RANGE_CONCURRENCY``.
        chunk_size: bytes of one range; None follows ``S3DLIO_CHUNK_SIZE``.
        client: a `Client`; None for the default one.

    Raises:
        NotFoundError, S3Error, TransportError: the object could not be read.
        ObjectChangedError: it was replaced meanwhile.
        ChecksumMismatchError: its bytes are not what the store says they are.
    """
    settings = DownloadSettings.resolve(range_optimization, range_threshold, range_concurrency, chunk_size)
    service = service_of(client)
    download = Download(
        service, parse_uri(uri), settings, version_id=version_id, progress=progress, verify=service.verifies(verify)
    )
    download.run()
    return download.view()


def get_range(
    uri: str,
    offset: int,
    length: int | None = None,
    *,
    version_id: str | None = None,
    range_optimization: bool | None = None,
    range_threshold: int | None = None,
    range_concurrency: int | None = None,
    chunk_size: int | None = None,
    client: ClientLike | None = None,
) -> BytesView:
    """The bytes [offset, offset + length) of the object; fewer where it ends before, None for "to its end".

    Raises:
        InvalidRangeError: `offset` is at or past the end (offset 0 of an empty object gives an empty view).
        ConfigurationError: `offset` or `length` is negative or not a whole number.
    """
    location = parse_uri(uri)
    start = check_integer("offset", offset, 0, MAX_OBJECT_SIZE, "bytes")
    count = None if length is None else check_integer("length", length, 0, MAX_OBJECT_SIZE, "bytes")
    settings = DownloadSettings.resolve(range_optimization, range_threshold, range_concurrency, chunk_size)
    if count == 0:
        return BytesView(b"")
    download = Download(
        service_of(client), location, settings, start=start, length=count, version_id=version_id, verify=False
    )
    download.run()
    return download.view()


def get_into(
    uri: str,
    buffer: Any,
    *,
    offset: int = 0,
    length: int | None = None,
    version_id: str | None = None,
    progress: Progress | None = None,
    verify: bool | None = None,
    range_optimization: bool | None = None,
    range_threshold: int | None = None,
    range_concurrency: int | None = None,
    chunk_size: int | None = None,
    client: ClientLike | None = None,
) -> int:
    """Fetches the object's bytes [offset, offset + length) into ``buffer[0:]`` and returns their number.

    `buffer` is any writable C-contiguous memory. After an error its contents are undefined.

    Raises:
        TypeError: the buffer is one of objects or pointers, or a masked array.
        ValueError: the buffer is read-only, not contiguous, or shorter than what was asked for.
        InvalidRangeError: `offset` is at or past the end.
    """
    location = parse_uri(uri)
    start = check_integer("offset", offset, 0, MAX_OBJECT_SIZE, "bytes")
    count = None if length is None else check_integer("length", length, 0, MAX_OBJECT_SIZE, "bytes")
    destination = flat_view(buffer, "buffer", writable=True)
    if count is not None and count > len(destination):
        raise ValueError(f"buffer holds {len(destination)} bytes, length={count} asks for more; give a larger buffer")
    settings = DownloadSettings.resolve(range_optimization, range_threshold, range_concurrency, chunk_size)
    if count == 0:
        return 0
    service = service_of(client)
    download = Download(
        service, location, settings, start=start, length=count, version_id=version_id,
        destination=destination, verify=service.verifies(verify), progress=progress,
    )  # fmt: skip
    return download.run()


def get_many(
    uris: Sequence[str],
    *,
    max_in_flight: int = 64,
    on_error: Literal["raise", "return"] = "raise",
    verify: bool | None = None,
    range_optimization: bool | None = None,
    range_threshold: int | None = None,
    range_concurrency: int | None = None,
    chunk_size: int | None = None,
    client: ClientLike | None = None,
) -> list[tuple[str, Any]]:
    """Many objects: ``[(uri, BytesView)]`` in the order given, duplicates included.

    Bodies of up to 64 KiB share their memory: a view that is kept keeps up to 256 KiB; `bytes(view)` copies.

    Args:
        uris: ``s3://bucket/key`` each; all are checked before any request.
        max_in_flight: objects being fetched at once (1 to 1024).
        on_error: ``"raise"`` ends everything at the first error; ``"return"`` puts the exception in the view's place.
    """
    if isinstance(uris, str):
        raise TypeError("uris is a str; give a sequence of URIs, for example [uri]")
    if on_error not in ("raise", "return"):
        raise ValueError(f"on_error={on_error!r}: expected 'raise' or 'return'")
    limit = check_integer("max_in_flight", max_in_flight, 1, 1024, "objects")
    settings = DownloadSettings.resolve(range_optimization, range_threshold, range_concurrency, chunk_size)
    names = list(uris)
    service = service_of(client)
    gets = Gets(service, [parse_uri(uri) for uri in names], settings, service.verifies(verify))
    return list(zip(names, Batch(gets, limit, on_error == "return").run(), strict=True))
