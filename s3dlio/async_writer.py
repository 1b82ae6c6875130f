"""`AsyncMultipartUploadWriter`: the writer for asynchronous code.

Its calls run on workers, one after the other in the order in which they were made.
"""

import functools
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, Self, TypeVar, Unpack

from ._runtime.bounded import SharedLine
from ._s3.default import ClientLike
from .awaiting import call
from .config import MultipartUploadConfig
from .objects import LONGEST_JOIN
from .options import Buffer, UploadOptions, checks_names
from .progress import Progress
from .results import UploadInfo
from .writer import MultipartUploadWriter

P = ParamSpec("P")
R = TypeVar("R")


class AsyncMultipartUploadWriter:
    """A `MultipartUploadWriter` whose calls are awaited; the arguments, the results and the errors are the same.

    It is bound to no event loop. Calls that are begun together are served in order. Where an await is cancelled, the
    upload is abandoned: its exchanges end at once, the await ends when nothing reads the caller's memory any more,
    later calls raise `WriterClosedError`, and a worker aborts the upload on the store.

    ``async with`` closes it on success and aborts it on an exception, a cancellation included.

    Args:
        bucket: bucket name.
        key: object key, used exactly as given.
        progress: called with a `ProgressEvent` for each stored part, on a worker.
        client: a `Client`; None for the default one, built from the environment.
        options: the fields of `MultipartUploadConfig`.

    Raises:
        ConfigurationError: an option is out of its range.

    Example:
        >>> async def store():
        ...     async with s3dlio.AsyncMultipartUploadWriter.from_uri("s3://my-bucket/awaited") as writer:
        ...         view = await writer.reserve(5)
        ...         view[:] = b"first"
        ...         await writer.commit(5)
        ...         await writer.write(b", second")
        ...     return await writer.close()
        >>> import asyncio
        >>> asyncio.run(store()).total_bytes
        13

    Memory: as for `MultipartUploadWriter`: a call that would exceed the bound waits.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
    """

    @checks_names(UploadOptions, MultipartUploadConfig)
    def __init__(
        self,
        bucket: str,
        key: str,
        *,
        progress: Progress | None = None,
        client: ClientLike | None = None,
        **options: Unpack[UploadOptions],
    ) -> None:
        self._take(MultipartUploadWriter(bucket, key, progress=progress, client=client, **options))

    @classmethod
    @checks_names(UploadOptions, MultipartUploadConfig)
    def from_uri(
        cls,
        uri: str,
        *,
        progress: Progress | None = None,
        client: ClientLike | None = None,
        **options: Unpack[UploadOptions],
    ) -> Self:
        """Opens a writer of the object `uri` (``s3://bucket/key``); the keywords are those of the class."""
        return cls._of(MultipartUploadWriter.from_uri(uri, progress=progress, client=client, **options))

    @classmethod
    @checks_names(UploadOptions, MultipartUploadConfig)
    async def resume(
        cls,
        uri: str,
        upload_id: str,
        *,
        progress: Progress | None = None,
        client: ClientLike | None = None,
        **options: Unpack[UploadOptions],
    ) -> Self:
        """Continues an upload that another writer left on the store; see `MultipartUploadWriter.resume`."""
        resume = functools.partial(
            MultipartUploadWriter.resume, uri, upload_id, progress=progress, client=client, **options
        )
        return cls._of(await call(resume))

    @classmethod
    def _of(cls, writer: MultipartUploadWriter) -> Self:
        made = cls.__new__(cls)
        made._take(writer)
        return made

    def _take(self, writer: MultipartUploadWriter) -> None:
        self._writer = writer
        self._line = SharedLine(1)
        self._cancelled = False

    @property
    def closed(self) -> bool:
        """Whether the writer accepts no more data, because it was closed or aborted, or failed."""
        return self._writer.closed

    @property
    def bytes_written(self) -> int:
        """Bytes accepted by `commit` and `write` so far."""
        return self._writer.bytes_written

    @property
    def parts_uploaded(self) -> int:
        """Number of parts that the store has."""
        return self._writer.parts_uploaded

    @property
    def upload_id(self) -> str | None:
        """Id of the multipart upload; None until it exists."""
        return self._writer.upload_id

    @property
    def resume_offset(self) -> int:
        """Bytes that the store had when `resume` opened this writer, 0 for a new upload: write from there."""
        return self._writer.resume_offset

    @property
    def part_size(self) -> int:
        """Size in bytes of the part that is being filled."""
        return self._writer.part_size

    async def reserve(self, n: int) -> memoryview:
        """Lends memory to fill in place; see `MultipartUploadWriter.reserve`."""
        return await self._serve(self._writer.reserve, n)

    async def commit(self, n: int) -> None:
        """Hands over the first `n` bytes of the open reservation; see `MultipartUploadWriter.commit`."""
        await self._serve(self._writer.commit, n)

    async def write(self, data: Buffer, *, copy: bool = True) -> int:
        """Appends any C-contiguous buffer; see `MultipartUploadWriter.write`.

        Do not change the buffer before the await ends, and with ``copy=False`` before `flush` or `close` has ended.
        """
        if not self._line.busy:
            taken = self._writer._put(data)
            if taken >= 0:
                return taken
        return await self._serve(self._writer.write, data, copy=copy)

    async def flush(self) -> None:
        """Stores everything accepted so far; see `MultipartUploadWriter.flush`."""
        await self._serve(self._writer.flush)

    async def close(self) -> UploadInfo:
        """Stores the rest and publishes the object; see `MultipartUploadWriter.close`."""
        return await self._serve(self._writer.close)

    async def abort(self) -> None:
        """Abandons the object without waiting for calls before it; see `MultipartUploadWriter.abort`."""
        await call(self._writer.abort)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._serve(functools.partial(self._writer.__exit__, kind, error, traceback))

    async def _serve(self, function: Callable[P, R], *args: P.args, **named: P.kwargs) -> R:
        def served() -> R:
            try:
                return function(*args, **named)
            except BaseException:
                if self._cancelled:
                    self._writer._join(LONGEST_JOIN)
                raise

        return await call(served, self._cancel, self._line)

    def _cancel(self) -> None:
        """Where the await of a call is cancelled that has begun: its parts in flight stop, and the call raises."""
        self._cancelled = True
        self._writer._abandon()
