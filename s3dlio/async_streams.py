"""`open_async` and `get_iter_async`: objects as files, and as chunks in order, for asynchronous code."""

import functools
import io
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Generic, Literal, ParamSpec, Self, TypeVar, Unpack, overload

from ._memory.bytes_view import BytesView
from ._runtime.bounded import SharedLine
from ._s3.default import ClientLike
from .async_writer import AsyncMultipartUploadWriter
from .awaiting import AsyncBatches, call
from .config import MIB, MultipartUploadConfig
from .options import Buffer, UploadOptions, checks_names
from .progress import Progress
from .results import UploadInfo
from .streams import ObjectChunks, ObjectReader, ObjectWriter
from .streams import open as open_blocking

P = ParamSpec("P")
R = TypeVar("R")


class AsyncObjectReader:
    """An `ObjectReader` whose reads are awaited; `open_async` makes it. Reads are served in order.

    Where a read is cancelled, the position stays where it was, and nothing writes into the caller's memory any more.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/aio-lines", b"first\\nsecond\\n")
        >>> async def last():
        ...     async with s3dlio.open_async("s3://my-bucket/aio-lines") as file:
        ...         file.seek(-7, 2)
        ...         return await file.read()
        >>> import asyncio
        >>> asyncio.run(last())
        b'second\\n'
    """

    def __init__(self, file: ObjectReader) -> None:
        self._file = file
        self._line = SharedLine(1)

    @property
    def name(self) -> str:
        """The object's URI."""
        return self._file.name

    @property
    def mode(self) -> str:
        """``"rb"``."""
        return self._file.mode

    @property
    def size(self) -> int:
        """Bytes of the object."""
        return self._file.size

    @property
    def closed(self) -> bool:
        """Whether the file was closed."""
        return self._file.closed

    def tell(self) -> int:
        """The position of the next byte."""
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Changes the position and returns it; see `ObjectReader.seek`. Nothing is fetched."""
        return self._file.seek(offset, whence)

    async def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes from the position on, fewer only at the end; all of them for -1 or None."""
        return await self._serve(self._file.read, size)

    async def readall(self) -> bytes:
        """All bytes from the position on."""
        return await self._serve(self._file.readall)

    async def readinto(self, buffer: Any, /) -> int:
        """Fills the caller's memory as far as the object goes; returns the number of bytes."""
        return await self._serve(self._file.readinto, buffer)

    async def peek(self, size: int = 0, /) -> bytes:
        """Some bytes from the position on, which stays where it is; none only at the end."""
        return await self._serve(self._file.peek, size)

    async def close(self) -> None:
        """Ends the requests that run ahead, and returns the memory."""
        await self._serve(self._file.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _serve(self, function: Callable[P, R], *args: P.args, **named: P.kwargs) -> R:
        return await call(functools.partial(function, *args, **named), self._file._cancel, self._line)


class AsyncObjectWriter:
    """An `ObjectWriter` whose writes are awaited; `open_async` makes it.

    ``async with`` publishes the object on success, and aborts it on an exception, a cancellation included. After a
    cancelled await the object is abandoned.

    Example:
        >>> async def store():
        ...     async with s3dlio.open_async("s3://my-bucket/aio-rows", "wb") as file:
        ...         await file.write(b"first,")
        ...         await file.write(b"second")
        ...     return file.info.total_bytes
        >>> import asyncio
        >>> asyncio.run(store())
        12
    """

    def __init__(self, file: ObjectWriter) -> None:
        self._file = file
        self.writer = AsyncMultipartUploadWriter._of(file.writer)

    @property
    def name(self) -> str:
        """The object's URI."""
        return self._file.name

    @property
    def mode(self) -> str:
        """``"wb"`` or ``"xb"``."""
        return self._file.mode

    @property
    def info(self) -> UploadInfo:
        """What the store has; see `ObjectWriter.info`."""
        return self._file.info

    @property
    def closed(self) -> bool:
        """Whether the file was closed."""
        return self._file.closed

    def tell(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    async def write(self, data: Buffer, /) -> int:
        """Appends a copy of any C-contiguous buffer; returns its number of bytes, always all of them."""
        if self._file.closed:
            raise ValueError(f"{self.name!r} is closed")
        return await self.writer.write(data)

    async def close(self) -> None:
        """Stores the rest and publishes the object; see `ObjectWriter.close`."""
        await self.writer._serve(self._file.close)

    async def abort(self) -> None:
        """Abandons the object: nothing of it stays on the store."""
        await call(self._file.abort)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.writer._serve(self._file.__exit__, kind, error, traceback)


F = TypeVar("F", AsyncObjectReader, AsyncObjectWriter)


class AsyncOpening(Awaitable[F], Generic[F]):
    """A file that is being opened: ``async with`` opens and closes it, ``await`` opens it. Use one of them, once.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/aio-opened", b"content")
        >>> async def fetch():
        ...     file = await s3dlio.open_async("s3://my-bucket/aio-opened")
        ...     content = await file.read()
        ...     await file.close()
        ...     return content
        >>> import asyncio
        >>> asyncio.run(fetch())
        b'content'
    """

    def __init__(self, opening: Callable[[], F]) -> None:
        self._opening: Callable[[], F] = opening
        self._file: F | None = None

    def __await__(self) -> Generator[Any, Any, F]:
        return call(self._opening).__await__()

    async def __aenter__(self) -> F:
        self._file = await self
        return self._file

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._file is not None
        await self._file.__aexit__(kind, error, traceback)


@overload
def open_async(
    uri: str,
    mode: Literal["rb"] = "rb",
    *,
    version_id: str | None = None,
    read_ahead: int = 64 * MIB,
    client: ClientLike | None = None,
) -> AsyncOpening[AsyncObjectReader]: ...


@overload
def open_async(
    uri: str,
    mode: Literal["wb", "xb"],
    *,
    progress: Progress | None = None,
    client: ClientLike | None = None,
    **options: Unpack[UploadOptions],
) -> AsyncOpening[AsyncObjectWriter]: ...


@checks_names(UploadOptions, MultipartUploadConfig)
def open_async(
    uri: str,
    mode: Literal["rb", "wb", "xb"] = "rb",
    *,
    version_id: str | None = None,
    read_ahead: int = 64 * MIB,
    progress: Progress | None = None,
    client: ClientLike | None = None,
    **options: Unpack[UploadOptions],
) -> AsyncOpening[Any]:
    """The asynchronous twin of `open`: the same parameters and errors; see there.

    Returns:
        For ``async with``, or to be awaited: an `AsyncObjectReader` or an `AsyncObjectWriter`.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/aio-read", b"content")
        >>> async def fetch():
        ...     async with s3dlio.open_async("s3://my-bucket/aio-read") as file:
        ...         return await file.read(3)
        >>> import asyncio
        >>> asyncio.run(fetch())
        b'con'
    """

    def opening() -> AsyncObjectReader | AsyncObjectWriter:
        file: ObjectReader | ObjectWriter = open_blocking(  # type: ignore[call-overload]
            uri, mode, version_id=version_id, read_ahead=read_ahead, progress=progress, client=client, **options
        )
        return AsyncObjectReader(file) if isinstance(file, ObjectReader) else AsyncObjectWriter(file)

    return AsyncOpening(opening)


class AsyncObjectChunks(AsyncBatches[BytesView]):
    """The chunks of an object, in order; `get_iter_async` makes it. It can be used by ``async with``.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/aio-stream", b"0123456789")
        >>> async def fetch():
        ...     return b"".join([bytes(chunk) async for chunk in s3dlio.get_iter_async("s3://my-bucket/aio-stream")])
        >>> import asyncio
        >>> asyncio.run(fetch())
        b'0123456789'
    """

    def __init__(self, chunks: ObjectChunks) -> None:
        self._chunks = chunks
        super().__init__(self._next, chunks._cancel)

    def _next(self) -> list[BytesView] | None:
        chunk = next(self._chunks, None)
        return None if chunk is None else [chunk]

    async def aclose(self) -> None:
        """Ends all requests: there are no more chunks."""
        self._ready.clear()
        await call(self._chunks.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
