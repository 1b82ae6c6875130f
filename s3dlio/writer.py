"""`MultipartUploadWriter`: streams one object to the store.

The writer owns the open reservation. `calls` runs one call at a time, `intake` turns data into segments, and whatever
outlives a call (parts in flight, endings) belongs to `upload`.
"""

import contextlib
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, Unpack

from ._memory.pool import flat_view
from ._net.addresses import Location, check_location, parse_uri
from ._runtime import workers
from ._s3.default import ClientLike, service_of
from ._s3.listings import list_parts
from ._transfer.assembler import Owner
from ._transfer.calls import Calls
from ._transfer.intake import SMALLEST_SEGMENT, Intake
from ._transfer.lifecycle import State
from ._transfer.resumed import Resumed
from ._transfer.upload import Upload
from ._values.checks import check_integer
from .config import MAX_OBJECT_SIZE, MIN_PART_SIZE, MultipartUploadConfig
from .errors import ConfigurationError, ReservationError, WriterClosedError
from .options import Buffer, UploadOptions, checks_names
from .progress import Progress
from .results import UploadInfo

PACKAGE = os.path.join(os.path.dirname(__file__), "")
P = ParamSpec("P")
R = TypeVar("R")


class _Reservation:
    """A pooled buffer lent to the caller."""

    def __init__(self, owner: Owner, view: memoryview) -> None:
        self.owner = owner
        self.view = view


class MultipartUploadWriter:
    """Streams one object to the store: parts are sent while the caller keeps writing.

    Any number of threads may use it; calls are served in the order of their arrival. If a waiting call is
    interrupted, later calls may overtake earlier ones. `abort` and the properties never wait for another call.

    As a context manager it closes on success and aborts when the block raises; if the block called `abort`, it does
    nothing more. `abort_on_failure` concerns failures of the writer itself: once it has failed, only that setting
    decides whether the upload is aborted, whatever the block raises.

    An interrupt (KeyboardInterrupt, SystemExit) during a call is raised by that call. If it leaves the object
    incomplete, every later call, on any thread, raises a `WriterClosedError` with the interrupt as its cause.

    Args:
        bucket: bucket name.
        key: object key, used exactly as given.
        progress: called with a `ProgressEvent` for each stored part.
        client: a `Client`; None for the default one, built from the environment.
        options: the fields of `MultipartUploadConfig`.

    Raises:
        ConfigurationError: an option is out of its range.

    Example:
        >>> with s3dlio.MultipartUploadWriter.from_uri("s3://my-bucket/log", part_size=8 << 20) as writer:
        ...     for number in range(3):
        ...         count = writer.write(b"line %d; " % number)
        >>> writer.close().total_bytes
        24

    Memory: at most ``(max_in_flight + 2) * part_size`` bytes of payload, plus the bytes by which the largest single
    reservation or borrowed buffer exceeds one part.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
    """

    _upload: Upload | None = None
    _resume_offset = 0

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
        config = MultipartUploadConfig(**options)
        location = check_location(bucket, key)
        self._config = config
        self._reservation: _Reservation | None = None
        self._flush_unjoined = False
        self._info: UploadInfo | None = None
        self._upload = Upload(service_of(client), location, config, progress, _caller())
        self._intake = Intake(self._upload, config)
        self._calls = Calls(self._intake.open_buffer)

    @classmethod
    @checks_names(UploadOptions, MultipartUploadConfig)
    def resume(
        cls,
        uri: str,
        upload_id: str,
        *,
        progress: Progress | None = None,
        client: ClientLike | None = None,
        **options: Unpack[UploadOptions],
    ) -> Self:
        """Continues an upload that another writer, perhaps of a process that died, left on the store.

        Write the object's bytes from `resume_offset` on. A later part that the store has already is sent again only if
        its size or checksum differs from that of the bytes written now. The checksum algorithm is the one that the
        upload was created with, even a composite one of another tool, whatever `checksum` says; if the store
        reports none, no checksums are sent.

        After a failure, an exception in the `with` block or garbage collection, the upload stays on the store for the
        next `resume`. Only `abort()` aborts it.

        Args:
            uri: ``s3://bucket/key``.
            upload_id: as `upload_id` or `list_uploads` returned it.
            progress: called with a `ProgressEvent` for each stored part.
            client: a `Client`; None for the default one, built from the environment.
            options: the fields of `MultipartUploadConfig`. Without `part_size` the size of the first stored part is
                used. Headers were fixed when the upload was created and are not sent again.

        Raises:
            NotFoundError: there is no such upload; it was completed (see `stat`) or aborted.
            ConfigurationError: the upload uses a checksum algorithm that cannot be continued; nothing was sent.

        Example:
            >>> writer = s3dlio.MultipartUploadWriter.from_uri("s3://my-bucket/big", abort_on_drop=False)
            >>> count = writer.write(bytes(6 << 20))
            >>> writer.flush()
            >>> del writer  # as if the process had died
            >>> left = s3dlio.list_uploads("s3://my-bucket/big")[0]
            >>> writer = s3dlio.MultipartUploadWriter.resume(left.uri, left.upload_id)
            >>> count = writer.write(bytes(8 << 20)[writer.resume_offset :])
            >>> writer.close().total_bytes >> 20
            8

        Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html
        """
        return cls._continue(uri, upload_id, progress, client, options, compare=False)

    @classmethod
    def _continue(
        cls,
        uri: str,
        upload_id: str,
        progress: Progress | None,
        client: ClientLike | None,
        options: UploadOptions,
        *,
        compare: bool,
    ) -> Self:
        """A writer that continues an upload; with `compare` from its first byte on."""
        location = parse_uri(uri)
        if not isinstance(upload_id, str) or not upload_id:
            raise ConfigurationError(f"upload_id={upload_id!r} is not the id of an upload; list_uploads() shows them")
        service = service_of(client)
        listing = list_parts(service, location, upload_id)
        listed = listing.parts
        if "part_size" not in options and len(listed) > 1 and listed[0].number == 1 and listed[0].size >= MIN_PART_SIZE:
            options["part_size"] = listed[0].size
        wanted = service.checksum_algorithm(MultipartUploadConfig(**options).checksum)
        resumed = Resumed.of(uri, upload_id, listing, wanted)
        writer = cls(location.bucket, location.key, progress=progress, client=client, **options)
        stored = writer._state.adopt(resumed, compare=compare)
        writer._intake.start_after(stored)
        writer._resume_offset = writer.bytes_written
        return writer

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
        location: Location = parse_uri(uri)
        return cls(location.bucket, location.key, progress=progress, client=client, **options)

    # ---------------------------------------------------------------------------------------- properties

    @property
    def _state(self) -> Upload:
        assert self._upload is not None
        return self._upload

    @property
    def closed(self) -> bool:
        """Whether the writer accepts no more data, because it was closed or aborted, or failed."""
        return self._state.ended

    @property
    def bytes_written(self) -> int:
        """Bytes accepted by `commit` and `write` so far."""
        return self._intake.open_buffer.written

    @property
    def parts_uploaded(self) -> int:
        """Number of parts that the store has."""
        return len(self._state.parts)

    @property
    def upload_id(self) -> str | None:
        """Id of the multipart upload; None until it exists."""
        return self._state.upload_id

    @property
    def resume_offset(self) -> int:
        """Bytes that the store had when `resume` opened this writer, 0 for a new upload: write from there."""
        return self._resume_offset

    @property
    def part_size(self) -> int:
        """Size in bytes of the part that is being filled."""
        return self._intake.assembler.part_size

    # --------------------------------------------------------------------------------------------- calls

    def reserve(self, n: int) -> memoryview:
        """Lends memory to fill in place, so that no byte is copied on the way to the socket.

        Reserve one to four parts at a time; a larger reservation hardly overlaps with the transfer of the previous one.

        Args:
            n: bytes, from 1; more than `part_size` is allowed.

        Returns:
            A writable, page-aligned memoryview of exactly `n` bytes (format ``'B'``). `commit` hands it over.

        Raises:
            ReservationError: a reservation is open already.
            MemoryError: the machine does not have that much memory.
            ConfigurationError: `n` is not a whole number from 1 to 5 TiB.

        Example:
            >>> with s3dlio.MultipartUploadWriter.from_uri("s3://my-bucket/array") as writer:
            ...     view = writer.reserve(1 << 20)
            ...     view[:5] = b"first"
            ...     writer.commit(5)
            >>> bytes(s3dlio.get("s3://my-bucket/array"))
            b'first'
        """
        return self._serve(self._reserve, n)

    def _reserve(self, n: int) -> memoryview:
        if self._reservation is not None:
            raise ReservationError("a reservation is open; call commit(n) for it first")
        size = check_integer("n", n, 1, MAX_OBJECT_SIZE, "bytes", "reserve what will be committed")
        owner = self._intake.acquire(size, self._intake.pack_everything)
        try:
            assert owner.view is not None
            self._reservation = _Reservation(owner, owner.view[:])
        except BaseException:
            self._reservation = None
            self._state.drop(owner)
            raise
        return self._reservation.view

    def commit(self, n: int) -> None:
        """Hands over the first `n` bytes of the open reservation (0 gives it back).

        The reserved view is released if nothing else exports it. Other exports stay readable; writing through them
        before the upload has ended is an error that the checksum detects.

        Args:
            n: bytes, from 0 to the reserved size.

        Raises:
            ReservationError: no reservation is open.
            ConfigurationError: `n` is out of range; the reservation stays open.
        """
        self._serve(self._commit, n)

    def _commit(self, n: int) -> None:
        reservation = self._reservation
        if reservation is None:
            raise ReservationError("no reservation is open; call reserve(n) first")
        owner = reservation.owner
        assert owner.view is not None
        size = check_integer("n", n, 0, len(owner.view), "bytes", "commit at most what was reserved")
        try:
            self._reservation = None
            with contextlib.suppress(BufferError):  # NumPy arrays over the view keep it alive
                reservation.view.release()
            with self._intake.failing_on_error():
                self._intake.hand_over(owner, size)
        finally:
            self._state.drop(owner)

    def write(self, data: Buffer, *, copy: bool = True) -> int:
        """Appends any C-contiguous buffer, of any format and shape.

        Args:
            data: bytes, memoryview, NumPy array, array.array, mmap and so on.
            copy: False borrows the memory until its parts are stored: do not change it before `flush` or `close`
                returns. `bytes` of 64 KiB and more are always borrowed, smaller buffers always copied.

        Returns:
            The number of bytes written, always all of them.

        Raises:
            TypeError, ValueError: `data` is not a contiguous buffer in host memory, or holds objects, pointers or
                a mask.
            ReservationError: a reservation is open.

        Example:
            >>> with s3dlio.MultipartUploadWriter.from_uri("s3://my-bucket/greeting") as writer:
            ...     writer.write(b"hello, "), writer.write(bytearray(b"world"), copy=False)
            (7, 5)
        """
        taken = self._intake.open_buffer.put(data)
        if taken >= 0:
            return taken
        view = flat_view(data)
        return self._serve(self._write, view, copy and type(data) is not bytes)

    def _put(self, data: Any) -> int:
        """What `write` does first: copies a small buffer that has room, and never waits; else returns -1."""
        return self._intake.open_buffer.put(data)

    def _write(self, view: memoryview, copy: bool) -> int:
        self._refuse_reservation("write")
        if len(view) < SMALLEST_SEGMENT or copy:
            self._intake.copy_in(view)
        else:
            self._intake.borrow(view)
        return len(view)

    def flush(self) -> None:
        """Stores everything accepted so far, the tail as a short part, and returns when it is stored.

        More data may follow; the short part is then replaced under the same number. After `flush` no borrowed buffer is
        referenced any more, and the progress of everything stored has been reported.

        Raises:
            ReservationError: a reservation is open; the writer stays usable.
            S3Error, TransportError: the upload failed.
        """
        self._serve(self._flush)
        self._state.join_reports()
        self._state.check_open()  # the callback may have ended the upload

    def _flush(self) -> None:
        self._refuse_reservation("flush")
        intake = self._intake
        if intake.assembler.waiting > intake.flushed:
            with intake.failing_on_error():
                intake.pack(intake.assembler.where(lambda owner: owner.borrowed))
                self._send_open_part()
        self._join_open_part()

    def _send_open_part(self) -> None:
        """Sends the open part as it is; it must be stored before another part takes its number."""
        self._flush_unjoined = True
        self._intake.flushed = self._intake.assembler.waiting
        self._state.submit([self._intake.assembler.finish()], keep=True)

    def _join_open_part(self) -> None:
        self._state.join()
        self._flush_unjoined = False

    def close(self) -> UploadInfo:
        """Stores the rest and publishes the object. A second call returns the same result.

        Returns:
            What the store has, as an `UploadInfo`, after the progress of every part has been reported.

        Raises:
            ReservationError: a reservation is open; the writer stays usable.
            S3Error, TransportError: the upload failed; it is then aborted unless `abort_on_failure` is False.
            ChecksumMismatchError: the store has other bytes than were sent, or not all of them.
        """
        self._state.check_process()
        try:
            info = self._calls.run(self._close)
        except Exception:
            self._release_if_ended()
            self._state.join_ending()
            raise
        except BaseException:  # an interrupt does not wait for the store
            self._release_if_ended()
            raise
        self._release_if_ended()
        self._state.join_reports()
        return info

    def abort(self) -> None:
        """Abandons the object: stops the parts in flight, waits for them, and aborts the upload on the store.

        It may be called from any thread, progress callback or signal handler; a call that waits in another thread
        raises `WriterClosedError`. A second call does nothing, like one after a successful `close`. After a failure
        every other call still raises that failure.

        Raises:
            S3Error: the store refused to abort.
            WriterClosedError: called by a signal handler that interrupted the `close` that is publishing the object;
                when the handler raises it, that `close` ends.

        Example:
            >>> writer = s3dlio.MultipartUploadWriter.from_uri("s3://my-bucket/draft")
            >>> count = writer.write(b"not wanted")
            >>> writer.abort()
            >>> writer.close()
            Traceback (most recent call last):
                ...
            s3dlio.WriterClosedError: the upload of s3://my-bucket/draft was aborted; make a new writer
        """
        self._abort(explicit=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._abort_after(error)
        elif self._state.state is not State.ABORTED:  # the block may have called abort() itself
            try:
                self.close()
            except BaseException as failure:
                self._abort_after(failure)
                raise

    def __del__(self) -> None:
        upload = self._upload
        if upload is not None and upload.state is State.OPEN and os.getpid() == upload.pid:
            workers.reap(upload)

    # ------------------------------------------------------------------------------------------ serving

    def _serve(self, call: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """Calls `call` in the caller's turn, on an open writer."""

        def served() -> R:
            self._state.check_open()
            self._intake.settle()
            if self._flush_unjoined:  # by an interrupted call: its part must be stored before the next of its number
                self._join_open_part()
            try:
                return call(*arguments, **named)
            finally:
                if self._reservation is None and not self._flush_unjoined:
                    self._intake.arm()

        self._state.check_process()
        try:
            return self._calls.run(served)
        finally:
            self._release_if_ended()

    def _release_if_ended(self) -> None:
        """Returns the writer's memory to the pool once the upload has ended and no call is running.

        Every call, and every ending of the upload, calls this last. If another call has the turn, that one releases
        the memory. A call that takes the turn meanwhile finds the upload ended and returns soon.
        """
        if self._state.ended:
            self._calls.run_if_free(self._release)

    def _release(self) -> None:
        self._intake.release()
        reservation, self._reservation = self._reservation, None
        if reservation is not None:
            self._state.drop(reservation.owner)

    def _abort_after(self, cause: BaseException | None) -> None:
        """Aborts without masking the error being raised and without delaying an interrupt.

        A failed upload has already been aborted, or stays on the store.
        """
        try:
            self._state.check_process()
            if self._state.state is State.FAILED and isinstance(cause, Exception):
                self._state.join_ending()
                self._release_if_ended()
            elif isinstance(cause, Exception):
                self._abort(explicit=False)
            else:
                self._abandon()
        except Exception as error:
            workers.log.warning("the upload of %s could not be aborted: %s", self._state.uri, error)

    def _abort(self, *, explicit: bool) -> None:
        self._state.check_process()
        if self._calls.mine and self._state.state is State.COMPLETING:
            raise WriterClosedError(f"the upload of {self._state.uri} is being published; abort() ended close()")
        try:
            self._state.abort(explicit=explicit)
        finally:
            self._release_if_ended()

    def _abandon(self) -> None:
        """Abandons the object without waiting: parts stop now, and a worker aborts the upload on the store."""
        self._state.check_process()
        self._state.abandon()
        self._release_if_ended()

    def _join(self, timeout: float) -> None:
        """Waits at most `timeout` seconds until no part is in flight."""
        self._state.join_workers(timeout)

    def _refuse_reservation(self, call: str) -> None:
        if self._reservation is not None:
            raise ReservationError(
                f"{call}() while a reservation is open; call commit(n) for it first (0 gives it back)"
            )

    def _close(self) -> UploadInfo:
        upload, intake = self._state, self._intake
        if self._info is not None:
            return self._info
        if upload.published is None:  # else an interrupt arrived after the response
            upload.check_open()
            intake.settle()
            self._refuse_reservation("close")
            self._publish()
        stored = upload.published
        assert stored is not None
        self._info = UploadInfo(
            etag=stored.bare_etag,
            parts=len(upload.parts),
            total_bytes=intake.open_buffer.written,
            checksum=stored.checksum,
            checksum_algorithm=None if stored.checksum is None or upload.algorithm is None else upload.algorithm.name,
            checksum_confirmed=stored.confirmed,
            version_id=stored.version_id,
            started_at=upload.started_at,
            completed_at=datetime.now(UTC),
            upload_id=upload.upload_id,
        )
        return self._info

    def _publish(self) -> None:
        upload, intake = self._state, self._intake
        if self._flush_unjoined:
            self._join_open_part()
        if upload.upload_id is None and intake.assembler.number == 1:
            upload.put_whole(intake.assembler.finish())
            return
        if intake.assembler.waiting > intake.flushed or (intake.assembler.number == 1 and not upload.parts):
            with intake.failing_on_error():
                self._send_open_part()
        self._join_open_part()
        upload.complete(intake.open_buffer.written)


def _caller() -> str:
    """``file:line`` of the nearest frame outside this package, for the warning about a writer left open."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
