"""`open` and `get_iter`: objects as files, and as chunks in order.

A reader serves random access by small blocks and sequential reading by a `Stream` that runs ahead. A writer is a
`MultipartUploadWriter` with the interface of a file.
"""

import contextlib
import io
import os
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

from ._memory.bytes_view import BytesView
from ._memory.pool import flat_view
from ._memory.views import copy_span
from ._net.addresses import Location, format_uri, parse_uri
from ._s3.default import ClientLike, service_of
from ._s3.get_response import RangeIgnored, Version
from ._s3.service import Service
from ._transfer.download import Download
from ._transfer.ranges import auto_chunk, auto_concurrency
from ._transfer.stream import Stream
from ._values.checks import check_integer
from .config import KIB, MIB, DownloadSettings, MultipartUploadConfig
from .errors import ConfigurationError, ForkedError, ObjectExistsError, PreconditionFailedError, S3Error
from .listing import exists
from .options import Buffer, UploadOptions, checks_names
from .progress import Progress
from .results import UploadInfo
from .writer import MultipartUploadWriter

# What one request of random access fetches at least, and the first one, which also finds out the size.
BLOCK = 256 * KIB
# A read of at least this many bytes goes straight into the caller's memory, by parallel ranges.
DIRECT = 8 * MIB
# After so many bytes in sequence a reader runs ahead.
SEQUENTIAL = 512 * KIB
LARGEST = 1 << 40


class ObjectReader(io.RawIOBase):
    """An object as a binary file that can be read anywhere; `open` makes it.

    All its bytes are of one version of the object. `read(n)` returns fewer than `n` bytes only at the end. A few
    kilobytes here and there are fetched in blocks of 256 KiB; after half a megabyte in sequence, up to `read_ahead`
    bytes are fetched ahead by parallel ranges; and 8 MiB or more at once go straight into the caller's memory. One
    thread at a time reads; others wait.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/lines", b"first\\nsecond\\n")
        >>> with s3dlio.open("s3://my-bucket/lines") as file:
        ...     file.readline(), file.seek(-7, 2), file.read()
        (b'first\\n', 6, b'second\\n')
    """

    def __init__(self, service: Service, location: Location, version_id: str | None, read_ahead: int) -> None:
        super().__init__()
        self._service = service
        self._location = location
        self._version_id = version_id
        self._read_ahead = read_ahead
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._position = 0
        # Bytes that were read in sequence, up to the position `_expected`.
        self._sequence = self._expected = 0
        # The last block, or the chunk of the stream that is being read, and where it begins.
        self._block, self._block_at = BytesView(b""), 0
        self._stream: Stream | None = None
        self._version: Version | None = None
        self._size = 0
        self._open()

    def _open(self) -> None:
        """Fetches the first block, which tells the size and the version."""
        try:
            first = self._download(0, BLOCK)
            first.run()
        except S3Error as error:
            if error.code != RangeIgnored.code:
                raise
            self._size = self._fetch_everything()
            return
        self._block = first.view()
        version = first.version
        total = None if version is None else version.total
        whole = len(self._block) < BLOCK if total is None else len(self._block) == total
        if whole:
            self._size = len(self._block)
        elif total is None or version is None or (version.tag is None and version.modified is None):
            self._size = self._fetch_everything()
        else:
            self._size, self._version = total, version

    def _fetch_everything(self) -> int:
        """For stores that send no ranges, or tell neither size nor version: the whole object is kept in memory."""
        download = Download(self._service, self._location, DownloadSettings.resolve(False), version_id=self._version_id)
        size = download.run()
        self._block, self._block_at = download.view(), 0
        return size

    def _download(self, start: int, length: int, destination: memoryview | None = None) -> Download:
        parallel = length >= DIRECT
        settings = DownloadSettings(
            range_optimization=parallel,
            range_threshold=DIRECT,
            range_concurrency=auto_concurrency(length),
            chunk_size=auto_chunk(length),
        )
        return Download(
            self._service, self._location, settings, start=start, length=length, version_id=self._version_id,
            version=self._version, destination=destination, verify=False,
        )  # fmt: skip

    @property
    def name(self) -> str:
        """The object's URI."""
        return format_uri(*self._location)

    @property
    def mode(self) -> str:
        """``"rb"``."""
        return "rb"

    @property
    def size(self) -> int:
        """Bytes of the object."""
        return self._size

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position of the next byte."""
        self._check()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Changes the position, also beyond the end, and returns it. Nothing is fetched.

        Raises:
            ValueError: the position would be negative, or `whence` is none of 0, 1 and 2.
        """
        self._check()
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}.get(whence)
        if base is None:
            raise ValueError(f"whence={whence!r} is none of 0 (start), 1 (position) and 2 (end)")
        position = base + check_integer("offset", offset, -LARGEST, LARGEST, "bytes")
        if position < 0:
            raise ValueError(f"seek to {position}, before the start of {self.name!r}")
        self._position = position
        return position

    def write(self, data: Any, /) -> int:
        """Not supported: open the object with ``"wb"``."""
        raise io.UnsupportedOperation("the object is open for reading; open it with 'wb'")

    def readinto(self, buffer: Any, /) -> int:
        """Fills the caller's memory as far as the object goes; returns the number of bytes."""
        view = flat_view(buffer, "buffer", writable=True)
        with self._reading():
            done = 0
            wanted = max(0, min(len(view), self._size - self._position))
            while done < wanted:
                done += self._read_some(view[done:wanted])
            return done

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """One thread's turn. A read that fails leaves the position where it was: repeated, it skips no bytes."""
        self._check()  # another thread of the process that this one was forked from may hold the lock forever
        with self._lock:
            self._check()
            before = self._position, self._expected, self._sequence
            try:
                yield
            except BaseException:
                self._position, self._expected, self._sequence = before
                raise

    def readall(self) -> bytes:
        """All bytes from the position on."""
        return self.read(-1)

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes from the position on, fewer only at the end; all of them for -1 or None."""
        with self._reading():
            left = max(0, self._size - self._position)
            count = left if size is None or size < 0 else min(size, left)
            inside = self._in_block(self._position)
            if inside is not None and len(inside) >= count:
                self._advance(count)
                return bytes(inside[:count])
            buffer = bytearray(count)
            self.readinto(buffer)
            return bytes(buffer)

    def peek(self, size: int = 0, /) -> bytes:
        """Some bytes from the position on, which stays where it is; none only at the end."""
        with self._reading():
            if self._position >= self._size:
                return b""
            if self._in_block(self._position) is None:
                self._next_block(min(BLOCK, self._size - self._position))
            inside = self._in_block(self._position)
            assert inside is not None
            return bytes(inside[: max(size, 8 * KIB)])

    def _read_some(self, view: memoryview) -> int:
        """Reads at least one byte of those that are there."""
        inside = self._in_block(self._position)
        if inside is None and self._stream_is_at(self._position):
            self._next_chunk()
            inside = self._in_block(self._position)
        if inside is None and len(view) >= DIRECT:
            self._close_stream()
            count = self._download(self._position, len(view), view).run()
            self._advance(count)
            return count
        if inside is None:
            self._next_block(len(view))
            inside = self._in_block(self._position)
        assert inside is not None
        count = min(len(view), len(inside))
        copy_span(view, 0, inside, 0, count)
        self._advance(count)
        return count

    def _advance(self, count: int) -> None:
        self._sequence = self._sequence + count if self._position == self._expected else count
        self._position += count
        self._expected = self._position

    def _in_block(self, position: int) -> BytesView | None:
        """What is there from the position on."""
        if self._block_at <= position < self._block_at + len(self._block):
            return self._block[position - self._block_at :]
        return None

    def _next_block(self, wanted: int) -> None:
        """Fetches a block from the position on, or begins to run ahead."""
        left = self._size - self._position
        sequential = self._position == self._expected and self._sequence >= SEQUENTIAL
        self._close_stream()
        if sequential and left > BLOCK and self._read_ahead:
            self._start_stream(left)
            return
        download = self._download(self._position, min(left, max(wanted, BLOCK)))
        download.run()
        self._block, self._block_at = download.view(), self._position

    def _start_stream(self, left: int) -> None:
        chunk = min(auto_chunk(left), max(BLOCK, self._read_ahead // 4))
        settings = DownloadSettings(
            range_optimization=True,
            range_threshold=0,
            range_concurrency=max(1, min(auto_concurrency(left), self._read_ahead // chunk)),
            chunk_size=chunk,
        )
        self._stream_at = self._position
        self._stream = Stream(
            self._service, self._location, settings, self._read_ahead, start=self._position, length=left,
            version_id=self._version_id, version=self._version, verify=False,
        )  # fmt: skip
        self._stream.start()
        self._next_chunk()

    def _stream_is_at(self, position: int) -> bool:
        return self._stream is not None and self._stream_at == position

    def _next_chunk(self) -> None:
        assert self._stream is not None
        try:
            chunk = self._stream.take()
        except BaseException:
            self._close_stream()
            raise
        if chunk is None:
            raise AssertionError("the stream ended before the object")
        self._block, self._block_at = chunk, self._stream_at
        self._stream_at += len(chunk)

    def _cancel(self) -> None:
        """Ends what a thread waits for here."""
        stream = self._stream
        if stream is not None:
            stream.cancel()

    def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _check(self) -> None:
        if self.closed:
            raise ValueError(f"{self.name!r} is closed")
        if self._pid != os.getpid():
            raise ForkedError(f"the reader of {self.name!r} belongs to the process that this one was forked from")

    def close(self) -> None:
        """Ends the requests that run ahead, and returns the memory."""
        if not self.closed:
            try:
                if self._pid == os.getpid():
                    self._close_stream()
                self._block = BytesView(b"")
            finally:
                super().close()

    def __del__(self) -> None:
        stream = getattr(self, "_stream", None)
        if stream is not None and self._pid == os.getpid():
            stream.abandoned = True

    def __repr__(self) -> str:
        return f"<ObjectReader of {self.name!r}>"


class ObjectWriter(io.RawIOBase):
    """An object as a binary file that is written from its first byte to its last; `open` makes it.

    Parts are sent while more is written. The object appears when `close` returns, and not before: an exception in the
    ``with`` block aborts it, as does dropping the file without closing it. `flush` does nothing, because a part that
    is sent short cannot grow; `writer` is the `MultipartUploadWriter` for all else.

    Example:
        >>> with s3dlio.open("s3://my-bucket/rows", "wb") as file:
        ...     file.write(b"first,"), file.write(b"second"), file.tell()
        (6, 6, 12)
        >>> file.info.total_bytes
        12
    """

    def __init__(self, writer: MultipartUploadWriter, uri: str, mode: str) -> None:
        super().__init__()
        self.writer = writer
        self._uri = uri
        self._mode = mode
        self._info: UploadInfo | None = None

    @property
    def name(self) -> str:
        """The object's URI."""
        return self._uri

    @property
    def mode(self) -> str:
        """``"wb"`` or ``"xb"``."""
        return self._mode

    @property
    def info(self) -> UploadInfo:
        """What the store has.

        Raises:
            ValueError: the file was not closed yet, or not stored.
        """
        if self._info is None:
            raise ValueError(f"{self._uri!r} is not stored; close() stores it")
        return self._info

    def writable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Not supported: open the object with ``"rb"``."""
        raise io.UnsupportedOperation("the object is open for writing; open it with 'rb'")

    def tell(self) -> int:
        """Bytes written so far."""
        return self.writer.bytes_written

    def write(self, data: Buffer, /) -> int:
        """Appends a copy of any C-contiguous buffer; returns its number of bytes, always all of them."""
        if self.closed:
            raise ValueError(f"{self._uri!r} is closed")
        return self.writer.write(data)

    def close(self) -> None:
        """Stores the rest and publishes the object.

        Raises:
            ObjectExistsError: opened with ``"xb"``, and there is an object by now.
            S3Error, TransportError, ChecksumMismatchError: as for `MultipartUploadWriter.close`.
        """
        if self.closed:
            return
        try:
            self._info = self.writer.close()
        except PreconditionFailedError as error:
            if self._mode == "xb":
                raise _existing(self._uri, error.uncertain) from error
            raise
        finally:
            super().close()

    def abort(self) -> None:
        """Abandons the object: nothing of it stays on the store."""
        try:
            self.writer.abort()
        finally:
            super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        try:
            self.writer._abort_after(error)
        finally:
            super().close()

    def __del__(self) -> None:
        """The writer is dropped with the file: it warns and aborts. `io` would close, and so publish what is there."""

    def __repr__(self) -> str:
        return f"<ObjectWriter of {self._uri!r}>"


@overload
def open(
    uri: str,
    mode: Literal["rb"] = "rb",
    *,
    version_id: str | None = None,
    read_ahead: int = 64 * MIB,
    client: ClientLike | None = None,
) -> ObjectReader: ...


@overload
def open(
    uri: str,
    mode: Literal["wb", "xb"],
    *,
    progress: Progress | None = None,
    client: ClientLike | None = None,
    **options: Unpack[UploadOptions],
) -> ObjectWriter: ...


@checks_names(UploadOptions, MultipartUploadConfig)
def open(
    uri: str,
    mode: Literal["rb", "wb", "xb"] = "rb",
    *,
    version_id: str | None = None,
    read_ahead: int = 64 * MIB,
    progress: Progress | None = None,
    client: ClientLike | None = None,
    **options: Unpack[UploadOptions],
) -> ObjectReader | ObjectWriter:
    """Opens an object as a binary file, for whatever reads and writes files: pickle, tarfile, zipfile, gzip, pyarrow.

    Args:
        uri: ``s3://bucket/key``.
        mode: ``"rb"`` to read; ``"wb"`` to write; ``"xb"`` to write only if there is no such object. For text, put an
            `io.TextIOWrapper` around it.
        version_id: to read a version other than the current one.
        read_ahead: bytes that sequential reading may fetch ahead (0 to 1 GiB; 0 for none).
        progress: called with a `ProgressEvent` for each part that is written.
        client: a `Client`; None for the default one, built from the environment.
        options: to write: the fields of `MultipartUploadConfig`.

    Returns:
        An `ObjectReader` or an `ObjectWriter`.

    Raises:
        ValueError: there is no such mode.
        ConfigurationError: an option is out of its range, or does not belong to the mode.
        NotFoundError: to read: there is no such object, bucket or version.
        ObjectExistsError: for ``"xb"``: there is such an object. `close` raises it too, if one appears meanwhile.
        S3Error, TransportError: the store refused, or could not be reached.

    Example:
        >>> import json
        >>> with s3dlio.open("s3://my-bucket/settings.json", "wb", content_type="application/json") as file:
        ...     count = file.write(json.dumps({"rate": 0.5}).encode())
        >>> with s3dlio.open("s3://my-bucket/settings.json") as file:
        ...     json.load(file)
        {'rate': 0.5}

    Source: https://docs.python.org/3/library/io.html#io.RawIOBase
    """
    location = parse_uri(uri)
    if mode not in ("rb", "wb", "xb"):
        raise ValueError(f"mode={mode!r}: expected 'rb', 'wb' or 'xb'; put an io.TextIOWrapper around it for text")
    if mode == "rb":
        given = sorted(options) + (["progress"] if progress is not None else [])
        if given:
            raise ConfigurationError(f"{', '.join(given)}: for writing only, and mode is 'rb'")
        check_integer("read_ahead", read_ahead, 0, 1 << 30, "bytes")
        return ObjectReader(service_of(client), location, version_id, read_ahead)
    if version_id is not None:
        raise ConfigurationError(f"version_id is for reading only, and mode is {mode!r}")
    if mode == "xb":
        if options.get("if_match") is not None:
            raise ConfigurationError("if_match contradicts mode 'xb', which stores only what is not there")
        options["if_none_match"] = "*"
        if exists(uri, client=client):
            raise _existing(uri)
    return ObjectWriter(MultipartUploadWriter.from_uri(uri, progress=progress, client=client, **options), uri, mode)


def _existing(uri: str, uncertain: int = 0) -> ObjectExistsError:
    if not uncertain:
        return ObjectExistsError(f"{uri!r} exists; open it with 'wb' to replace it")
    error = ObjectExistsError(
        f"{uri!r} exists, and may be what this file wrote: {uncertain} earlier attempt(s) to store it ended without an "
        "answer; compare it before you open it with 'wb' to replace it"
    )
    error.uncertain = uncertain
    return error


class ObjectChunks(Iterator[BytesView]):
    """The chunks of an object, in order; `get_iter` makes it. It can be used as a context manager.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/stream", b"0123456789")
        >>> with s3dlio.get_iter("s3://my-bucket/stream") as chunks:
        ...     b"".join(chunks)
        b'0123456789'
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._pid = os.getpid()
        self._started = self._ended = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> BytesView:
        if self._ended:
            raise StopIteration
        if not self._started:
            self._started = True
            self._stream.start()
        try:
            chunk = self._stream.take()
        except BaseException:
            self.close()
            raise
        if chunk is None:
            self._ended = True
            raise StopIteration
        return chunk

    def _cancel(self) -> None:
        """Ends what a thread waits for here."""
        self._stream.cancel()

    def close(self) -> None:
        """Ends all requests: there are no more chunks."""
        if not self._ended and self._pid == os.getpid():
            self._ended = True
            if self._started:
                self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):
            if self._pid == os.getpid():
                self._stream.abandoned = True


@checks_names()
def get_iter(
    uri: str,
    *,
    chunk_size: int = 8 * MIB,
    max_in_flight: int = 8,
    version_id: str | None = None,
    verify: bool | None = None,
    progress: Progress | None = None,
    client: ClientLike | None = None,
) -> ObjectChunks:
    """Fetches an object in order, chunk after chunk, in bounded memory; parallel ranges run ahead of the consumer.

    Memory: at most ``(max_in_flight + 1) * chunk_size`` bytes of payload, plus the chunks that the caller keeps.

    Args:
        uri: ``s3://bucket/key``.
        chunk_size: bytes of a chunk (64 KiB to 5 GiB); the last one may be shorter.
        max_in_flight: chunks in flight or waiting to be consumed (1 to 1024).
        version_id: a version other than the current one.
        verify: compare the whole object with the checksum that the store reports, before the last chunk is handed out.
            None means True, unless ``AWS_RESPONSE_CHECKSUM_VALIDATION`` is ``when_required``.
        progress: called with a `ProgressEvent` after each fetched range.
        client: a `Client`; None for the default one, built from the environment.

    Returns:
        An iterator of `BytesView`; ``close()`` ends it early, and so does dropping it. No request is made before it is
        first asked. From a store that identifies no version of the object, it comes as one chunk.

    Raises:
        ConfigurationError: an option is out of its range.
        NotFoundError, ObjectChangedError, ChecksumMismatchError, S3Error, TransportError: as for `get`, while
            iterating.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/long", bytes(200_000))
        >>> [len(chunk) for chunk in s3dlio.get_iter("s3://my-bucket/long", chunk_size=65536)]
        [65536, 65536, 65536, 3392]

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    """
    location = parse_uri(uri)
    settings = DownloadSettings(
        range_optimization=True,
        range_threshold=0,
        range_concurrency=check_integer("max_in_flight", max_in_flight, 1, 1024, "chunks"),
        chunk_size=check_integer("chunk_size", chunk_size, 64 * KIB, 5 << 30, "bytes"),
    )
    service = service_of(client)
    stream = Stream(
        service, location, settings, max_in_flight * chunk_size, version_id=version_id,
        verify=service.verifies(verify), progress=progress,
    )  # fmt: skip
    return ObjectChunks(stream)
