"""`get`, `get_range`, `get_into` and `get_many`: whole objects, parts of one, and many at once.

Arguments are checked here, before any request; `download` and `batch` fetch the bytes.
"""

from collections.abc import Sequence
from typing import Literal, Unpack, overload

from ._memory.bytes_view import BytesView
from ._memory.pool import flat_view
from ._net.addresses import parse_uri
from ._s3.default import ClientLike, service_of
from ._transfer.batch import Batch, Gets
from ._transfer.download import Download
from ._values.checks import check_integer
from .config import MAX_OBJECT_SIZE, DownloadSettings
from .options import Buffer, GetOptions, OnError, checks_names
from .progress import Progress


@checks_names(GetOptions)
def get(
    uri: str,
    *,
    version_id: str | None = None,
    progress: Progress | None = None,
    client: ClientLike | None = None,
    **options: Unpack[GetOptions],
) -> BytesView:
    """Fetches a whole object into pooled memory.

    Args:
        uri: ``s3://bucket/key``.
        version_id: a version other than the current one.
        progress: called with a `ProgressEvent` after each finished range.
        client: a `Client`; None for the default one, built from the environment.
        options: see `GetOptions`.

    Returns:
        A read-only `BytesView`; its memory returns to the pool with the last view of it.

    Raises:
        NotFoundError: there is no such object, bucket or version.
        ObjectChangedError: the object was replaced during the download.
        ChecksumMismatchError: the bytes do not have the checksum that the store reports.
        S3Error, TransportError: the store refused, or could not be reached.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/greeting", b"hello, world")
        >>> view = s3dlio.get("s3://my-bucket/greeting")
        >>> len(view), bytes(view[:5])
        (12, b'hello')

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    """
    settings, verify = _settings(options)
    service = service_of(client)
    download = Download(
        service, parse_uri(uri), settings, version_id=version_id, progress=progress, verify=service.verifies(verify)
    )
    download.run()
    return download.view()


@checks_names(GetOptions)
def get_range(
    uri: str,
    offset: int,
    length: int | None = None,
    *,
    version_id: str | None = None,
    progress: Progress | None = None,
    client: ClientLike | None = None,
    **options: Unpack[GetOptions],
) -> BytesView:
    """Fetches the bytes [offset, offset + length) of an object.

    Args:
        uri: ``s3://bucket/key``.
        offset: first byte, from 0.
        length: number of bytes; None for all up to the end. For 0, no request is sent.
        version_id: a version other than the current one.
        progress: called with a `ProgressEvent` after each finished range.
        client: a `Client`; None for the default one, built from the environment.
        options: see `GetOptions`. Only with `offset` 0 and `length` None is there a checksum to `verify`.

    Returns:
        A read-only `BytesView`, shorter than `length` if the object ends earlier.

    Raises:
        InvalidRangeError: `offset` is at or past the end (offset 0 of an empty object gives an empty view).
        ConfigurationError: `offset` or `length` is negative or not a whole number.
        NotFoundError, ObjectChangedError, S3Error, TransportError: as for `get`.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/digits", b"0123456789")
        >>> bytes(s3dlio.get_range("s3://my-bucket/digits", 2, 3))
        b'234'
        >>> bytes(s3dlio.get_range("s3://my-bucket/digits", 8))
        b'89'

    Source: https://www.rfc-editor.org/rfc/rfc9110#section-14
    """
    location = parse_uri(uri)
    start = check_integer("offset", offset, 0, MAX_OBJECT_SIZE, "bytes")
    count = None if length is None else check_integer("length", length, 0, MAX_OBJECT_SIZE, "bytes")
    settings, verify = _settings(options)
    if count == 0:
        return BytesView(b"")
    service = service_of(client)
    download = Download(
        service, location, settings, start=start, length=count, version_id=version_id,
        verify=service.verifies(verify), progress=progress,
    )  # fmt: skip
    download.run()
    return download.view()


@checks_names(GetOptions)
def get_into(
    uri: str,
    buffer: Buffer,
    *,
    offset: int = 0,
    length: int | None = None,
    version_id: str | None = None,
    progress: Progress | None = None,
    client: ClientLike | None = None,
    **options: Unpack[GetOptions],
) -> int:
    """Fetches the bytes [offset, offset + length) of an object into the caller's memory.

    Args:
        uri: ``s3://bucket/key``.
        buffer: writable C-contiguous memory of any format and shape, such as a NumPy array; it is filled from its
            first byte. After an error its contents are undefined.
        offset: first byte of the object, from 0.
        length: number of bytes; None for all up to the end.
        version_id: a version other than the current one.
        progress: called with a `ProgressEvent` after each finished range.
        client: a `Client`; None for the default one, built from the environment.
        options: see `GetOptions`.

    Returns:
        The number of bytes fetched.

    Raises:
        TypeError: the buffer holds objects or pointers, or is a masked array.
        ValueError: the buffer is read-only, not contiguous, or too short.
        InvalidRangeError: `offset` is at or past the end.
        NotFoundError, ObjectChangedError, ChecksumMismatchError, S3Error, TransportError: as for `get`.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/digits", b"0123456789")
        >>> memory = bytearray(4)
        >>> s3dlio.get_into("s3://my-bucket/digits", memory, offset=6)
        4
        >>> memory
        bytearray(b'6789')

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    """
    location = parse_uri(uri)
    start = check_integer("offset", offset, 0, MAX_OBJECT_SIZE, "bytes")
    count = None if length is None else check_integer("length", length, 0, MAX_OBJECT_SIZE, "bytes")
    destination = flat_view(buffer, "buffer", writable=True)
    if count is not None and count > len(destination):
        raise ValueError(f"buffer holds {len(destination)} bytes, length={count} is more; give a larger buffer")
    settings, verify = _settings(options)
    if count == 0:
        return 0
    service = service_of(client)
    download = Download(
        service, location, settings, start=start, length=count, version_id=version_id,
        destination=destination, verify=service.verifies(verify), progress=progress,
    )  # fmt: skip
    return download.run()


@overload
def get_many(
    uris: Sequence[str],
    *,
    max_in_flight: int = 64,
    on_error: Literal["raise"] = "raise",
    progress: Progress | None = None,
    client: ClientLike | None = None,
    **options: Unpack[GetOptions],
) -> list[tuple[str, BytesView]]: ...


@overload
def get_many(
    uris: Sequence[str],
    *,
    max_in_flight: int = 64,
    on_error: Literal["return"],
    progress: Progress | None = None,
    client: ClientLike | None = None,
    **options: Unpack[GetOptions],
) -> list[tuple[str, BytesView | Exception]]: ...


@checks_names(GetOptions)
def get_many(
    uris: Sequence[str],
    *,
    max_in_flight: int = 64,
    on_error: OnError = "raise",
    progress: Progress | None = None,
    client: ClientLike | None = None,
    **options: Unpack[GetOptions],
) -> list[tuple[str, BytesView]] | list[tuple[str, BytesView | Exception]]:
    """Fetches many objects at once.

    Bodies of up to 64 KiB share memory: keeping one view keeps up to 256 KiB; `bytes(view)` makes a copy.

    Args:
        uris: ``s3://bucket/key`` each, duplicates allowed; all are checked before any request.
        max_in_flight: objects being fetched at once (1 to 1024).
        on_error: ``"raise"`` ends the call at the first error; ``"return"`` returns the exception in place of the view.
        progress: called with a `ProgressEvent` after each finished object.
        client: a `Client`; None for the default one, built from the environment.
        options: see `GetOptions`.

    Returns:
        A pair (uri, `BytesView`) for each URI, in the order given.

    Raises:
        TypeError: `uris` is one str.
        NotFoundError, ObjectChangedError, ChecksumMismatchError, S3Error, TransportError: as for `get`, for any.

    Example:
        >>> infos = s3dlio.put_many([("s3://my-bucket/a", b"first"), ("s3://my-bucket/b", b"second")])
        >>> for uri, view in s3dlio.get_many(["s3://my-bucket/a", "s3://my-bucket/b"]):
        ...     print(uri, bytes(view))
        s3://my-bucket/a b'first'
        s3://my-bucket/b b'second'

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    """
    if isinstance(uris, str):
        raise TypeError("uris is a str; give a sequence of URIs, for example [uri]")
    if on_error not in ("raise", "return"):
        raise ValueError(f"on_error={on_error!r}: expected 'raise' or 'return'")
    limit = check_integer("max_in_flight", max_in_flight, 1, 1024, "objects")
    settings, verify = _settings(options)
    names = list(uris)
    service = service_of(client)
    gets = Gets(service, [parse_uri(uri) for uri in names], settings, service.verifies(verify))
    return list(zip(names, Batch(gets, limit, on_error == "return", progress).run(), strict=True))


def _settings(options: GetOptions) -> tuple[DownloadSettings, bool | None]:
    """The options in the form that is used: how to split a download, and whether to verify it."""
    settings = DownloadSettings.resolve(
        options.get("range_optimization"),
        options.get("range_threshold"),
        options.get("range_concurrency"),
        options.get("chunk_size"),
    )
    return settings, options.get("verify")
