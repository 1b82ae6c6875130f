"""`MultipartUploadWriter` and `MultipartUploadSink`: what a caller holds while an object is written.

The writer turns calls into segments and lets the assembler cut them; it owns the turn of the calls and
the open buffer. Everything that outlives a call (parts in flight, endings) belongs to `_upload`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from . import _workers
from ._assembler import Assembler, Owner, Segment
from ._buffers import gather_copy, page_round
from ._client import ClientLike, service_of
from ._payload import flat_view, pool
from ._upload import State, Upload
from ._uri import Location, check_location, parse_uri
from .config import KIB, MAX_OBJECT_SIZE, MultipartUploadConfig, check_integer
from .errors import ReservationError
from .progress import Progress

# Below this a segment of its own (one iovec, one owner) costs more than copying the bytes does.
SMALLEST_SEGMENT = 64 * KIB


class UploadInfo(Mapping[str, Any]):
    """What was stored. Attributes and mapping access by the same names.

    Attributes:
        etag: ETag without quotes (`e_tag` is the same).
        parts: number of parts; 1 when one PutObject sufficed.
        total_bytes: size of the object in bytes.
        checksum: base64 of the whole object's checksum, or None.
        checksum_algorithm: ``"crc64nvme"`` and so on, or None.
        version_id: version of the object in a versioned bucket, or None.
        started_at, completed_at: aware datetimes in UTC.
        upload_id: the multipart upload's id; None when one PutObject sufficed.
    """

    _FIELDS = (
        "etag", "parts", "total_bytes", "checksum", "checksum_algorithm", "version_id",
        "started_at", "completed_at", "upload_id",
    )  # fmt: skip

    etag: str
    parts: int
    total_bytes: int
    checksum: str | None
    checksum_algorithm: str | None
    version_id: str | None
    started_at: datetime
    completed_at: datetime
    upload_id: str | None

    def __init__(self, **values: Any) -> None:
        for name in self._FIELDS:
            setattr(self, name, values[name])

    @property
    def e_tag(self) -> str:
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


class _Turn:
    """Lets threads in one at a time, in the order of their arrival."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._taken = False

    def __enter__(self) -> None:
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Event()
            self._waiting.append(mine)
        try:
            mine.wait()
        except BaseException:
            with self._lock:
                given_up = mine in self._waiting
                if given_up:
                    self._waiting.remove(mine)
            if not given_up:  # the turn came together with the interrupt: hand it on
                self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._taken = False


class _Reservation:
    """A pooled buffer in the caller's hands."""

    def __init__(self, owner: Owner, view: memoryview) -> None:
        self.owner = owner
        self.view = view


class _OpenBuffer:
    """The buffer that small and waiting bytes are copied into; `used` bytes of it are taken."""

    def __init__(self, owner: Owner, size: int) -> None:
        self.owner = owner
        self.size = size
        self.used = 0


def make_config(options: Mapping[str, Any]) -> MultipartUploadConfig:
    """The configuration these keywords describe; an unknown one is named."""
    known = {field.name for field in fields(MultipartUploadConfig)}
    for name in options:
        if name not in known:
            raise TypeError(f"unknown option {name!r}; known are {', '.join(sorted(known))}")
    return MultipartUploadConfig(**options)


class MultipartUploadWriter:
    """Streams one object to the store, in parts that travel while the caller goes on writing.

    Usable from many threads; calls are served in the order they arrive. As a context manager it closes
    on success and aborts when the block raises.

    Args:
        bucket: bucket name.
        key: object key, kept exactly.
        progress: called with a `ProgressEvent` after each stored part.
        client: a `Client`; None for the default one, built from the environment.
        options: the fields of `MultipartUploadConfig`.

    Raises:
        ConfigurationError: an option is out of its range.

    Memory: at most ``(max_in_flight + 2) * part_size`` bytes of payload, plus what the largest single
    reservation or borrowed object exceeds one part by.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
    """

    _upload: Upload | None = None

    def __init__(
        self,
        bucket: str,
        key: str,
        *,
        progress: Progress | None = None,
        client: ClientLike | None = None,
        **options: Any,
    ) -> None:
        config = make_config(options)
        location = check_location(bucket, key)
        self._config = config
        self._assembler = Assembler(config.part_size, config.grow_part_size)
        self._turn = _Turn()
        self._reservation: _Reservation | None = None
        self._open_buffer: _OpenBuffer | None = None
        self._flushed = 0
        self._flush_unjoined = False
        self._last_part_sent = False
        self._bytes_written = 0
        self._info: UploadInfo | None = None
        self._upload = Upload(service_of(client), location, config, progress, _caller())

    @classmethod
    def from_uri(
        cls, uri: str, *, progress: Progress | None = None, client: ClientLike | None = None, **options: Any
    ) -> Self:
        """A writer of the object `uri` (``s3://bucket/key``); the keywords are the class's."""
        location: Location = parse_uri(uri)
        return cls(location.bucket, location.key, progress=progress, client=client, **options)

    # ---------------------------------------------------------------------------------------- properties

    @property
    def _state(self) -> Upload:
        assert self._upload is not None
        return self._upload

    @property
    def closed(self) -> bool:
        """Whether the writer takes no more data: closed or aborted."""
        return self._state.state in (State.CLOSED, State.ABORTED)

    @property
    def bytes_written(self) -> int:
        """Bytes accepted by `commit` and `write` so far."""
        return self._bytes_written

    @property
    def parts_uploaded(self) -> int:
        """Parts that the store has."""
        return len(self._state.parts)

    @property
    def upload_id(self) -> str | None:
        """The multipart upload's id; None until it exists."""
        return self._state.upload_id

    @property
    def part_size(self) -> int:
        """Bytes of the part that is being filled now."""
        return self._assembler.part_size

    # --------------------------------------------------------------------------------------------- calls

    def reserve(self, n: int) -> memoryview:
        """Writable, page-aligned memory of exactly `n` bytes (format ``'B'``), to be handed over by `commit`.

        One to four parts at a time are best: a larger reservation hardly overlaps with the one before it.

        Raises:
            ReservationError: a reservation is open already.
            MemoryError: the machine has not that much memory.
            ConfigurationError: `n` is not a whole number from 1 to 5 TiB.
        """
        with self._serving():
            if self._reservation is not None:
                raise ReservationError("a reservation is open; call commit(n) for it first")
            size = check_integer("n", n, 1, MAX_OBJECT_SIZE, "bytes", "reserve what will be committed")
            owner = self._acquire(size, self._pack_everything)
            assert owner.view is not None
            self._reservation = _Reservation(owner, owner.view[:])
            return self._reservation.view

    def commit(self, n: int) -> None:
        """Hands the first `n` bytes of the open reservation over (0 gives it back).

        The reserved view is released where nothing else exports it; other exports stay readable, and
        writing through them before the upload has ended is an error that the checksum detects.

        Raises:
            ReservationError: no reservation is open.
            ConfigurationError: `n` is outside 0 to the reserved size; the reservation stays open.
        """
        with self._serving():
            reservation = self._reservation
            if reservation is None:
                raise ReservationError("no reservation is open; call reserve(n) first")
            owner = reservation.owner
            assert owner.view is not None
            size = check_integer("n", n, 0, len(owner.view), "bytes", "commit at most what was reserved")
            self._reservation = None
            with contextlib.suppress(BufferError):  # NumPy arrays over the view keep it alive
                reservation.view.release()
            try:
                with self._failing_on_error():
                    self._hand_over(owner, size)
            finally:
                self._state.drop(owner)

    def write(self, data: Any, *, copy: bool = True) -> int:
        """Appends any C-contiguous buffer, of any format and shape.

        Args:
            data: bytes, memoryview, NumPy array, array.array, mmap and so on.
            copy: False borrows the memory until its parts are stored: it must not change before `flush`
                or `close` returns. `bytes` of 64 KiB and more are always borrowed, smaller buffers always copied.

        Returns:
            The number of bytes written, all of them.

        Raises:
            TypeError, ValueError: `data` is no contiguous buffer in host memory.
            ReservationError: a reservation is open.
        """
        view = flat_view(data)
        with self._serving():
            self._refuse_reservation("write")
            if len(view) >= SMALLEST_SEGMENT and (not copy or type(data) is bytes):
                self._borrow(view)
            else:
                self._copy_in(view)
            return len(view)

    def flush(self) -> None:
        """Stores everything accepted so far, the tail as a short part, and returns when it is stored.

        More data may follow: the short part is then replaced under the same number. No borrowed buffer is
        referenced any more.
        """
        with self._serving():
            self._refuse_reservation("flush")
            if self._assembler.waiting > self._flushed:
                with self._failing_on_error():
                    self._pack([s for s in self._assembler.segments if s.owner.borrowed])
                    self._flush_unjoined = True
                    self._flushed = self._assembler.waiting
                    self._state.submit([self._assembler.finish()], keep=True)
            self._state.join()
            self._flush_unjoined = False

    def close(self) -> UploadInfo:
        """Stores the rest, publishes the object and returns what the store has. Idempotent.

        Raises:
            ReservationError: a reservation is open; the writer stays usable.
            S3Error, TransportError: the upload failed; it is then aborted unless `abort_on_failure` is False.
            ChecksumMismatchError: the store has something else than what was sent.
        """
        self._state.check_process()
        with self._turn:
            if self._info is not None:
                return self._info
            self._state.check_open()
            self._refuse_reservation("close")
            self._info = self._close()
            return self._info

    def abort(self) -> None:
        """Gives the object up: stops parts in flight, waits for them, and aborts the upload on the store.

        From any thread; a call that waits elsewhere raises `WriterClosedError`. Idempotent; does nothing after
        a successful `close`.

        Raises:
            S3Error: the store refused to abort.
        """
        self._state.check_process()
        self._state.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                self.close()
            except BaseException:
                self._abort_after_error()
                raise
        else:
            self._abort_after_error()

    def __del__(self) -> None:
        upload = self._upload
        if upload is not None and upload.state is State.OPEN and os.getpid() == upload.pid:
            _workers.reap(upload)

    # ------------------------------------------------------------------------------------------- the way

    @contextlib.contextmanager
    def _serving(self) -> Iterator[None]:
        """The caller's turn on an open writer."""
        self._state.check_process()
        with self._turn:
            self._state.check_open()
            if self._flush_unjoined:  # an interrupted flush: its short part must not meet its successor
                self._state.join()
                self._flush_unjoined = False
            yield

    @contextlib.contextmanager
    def _failing_on_error(self) -> Iterator[None]:
        """After bytes were taken, an exception leaves the object incomplete: the writer has failed."""
        try:
            yield
        except BaseException as error:
            self._state.fail(error)
            raise

    def _abort_after_error(self) -> None:
        """Aborts without masking the error on its way."""
        try:
            self.abort()
        except Exception as error:
            _workers.log.warning("the upload of %s could not be aborted: %s", self._state.uri, error)

    def _refuse_reservation(self, call: str) -> None:
        if self._reservation is not None:
            raise ReservationError(
                f"{call}() while a reservation is open; call commit(n) for it first (0 gives it back)"
            )

    def _acquire(self, size: int, pack: Callable[[], None] | None, *, open_buffer: bool = False) -> Owner:
        """Pooled memory of `size` bytes, charged to the account; the caller holds one use of it.

        `pack` is called when nothing in flight can make room; None does not wait at all.
        """
        pinned = page_round(size)
        self._state.take(pinned, self.part_size, pack)
        try:
            buffer = pool().acquire(size, page_aligned=True)
        except BaseException:
            self._state.untake(pinned)
            raise
        owner = Owner(memoryview(buffer), pinned, open_buffer=open_buffer)
        owner.uses = 1
        return owner

    def _hand_over(self, owner: Owner, length: int) -> None:
        """Committed or borrowed bytes become segments, or are packed where a segment would cost more."""
        assert owner.view is not None
        if length < SMALLEST_SEGMENT:
            self._copy_in(owner.view[:length])
            return
        self._add(owner, 0, length)
        self._pack(self._assembler.oversized())

    def _borrow(self, view: memoryview) -> None:
        self._state.take(len(view), self.part_size, self._pack_everything)
        owner = Owner(view, len(view), borrowed=True)
        owner.uses = 1
        try:
            with self._failing_on_error():
                self._hand_over(owner, len(view))
        finally:
            self._state.drop(owner)

    def _copy_in(self, view: memoryview) -> None:
        """Copies into open buffers, one after the other, handing parts over as they fill."""
        done = 0
        try:
            while done < len(view):
                buffer = self._current_buffer(self._pack_everything)
                room = self._assembler.room or self.part_size
                length = min(len(view) - done, buffer.size - buffer.used, room)
                self._fill(buffer, view, done, length)
                self._add(buffer.owner, buffer.used - length, length)
                done += length
        except BaseException as error:
            if done:
                self._state.fail(error)
            raise
        finally:
            self._retire_full_buffer()

    def _fill(self, buffer: _OpenBuffer, source: memoryview, offset: int, length: int) -> None:
        gather_copy(buffer.owner.view, buffer.used, source, offset, length)
        buffer.used += length

    def _current_buffer(self, pack: Callable[[], None] | None) -> _OpenBuffer:
        self._retire_full_buffer()
        while self._open_buffer is None:
            size = self.part_size
            owner = self._acquire(size, pack, open_buffer=True)
            if self._open_buffer is None:
                self._open_buffer = _OpenBuffer(owner, size)
            else:  # packing has opened one meanwhile
                self._state.drop(owner)
            self._retire_full_buffer()
        return self._open_buffer

    def _retire_full_buffer(self) -> None:
        buffer = self._open_buffer
        if buffer is not None and buffer.used == buffer.size:
            self._open_buffer = None
            self._state.drop(buffer.owner)

    def _add(self, owner: Owner, offset: int, length: int) -> None:
        with self._state.lock:
            before = self._assembler.number
            parts = list(self._assembler.add(owner, offset, length))
            if self._assembler.number != before:
                self._flushed = 0
        self._bytes_written += length
        if parts:
            self._state.submit(parts)

    def _pack(self, segments: list[Segment], pack: Callable[[], None] | None = lambda: None) -> None:
        """Copies waiting segments into the open buffer and lets their owners go.

        It may wait for parts in flight, but never packs again in order to pack.
        """
        for segment in segments:
            source, packed, done = segment.view, [], 0
            while done < segment.length:
                buffer = self._current_buffer(pack)
                length = min(segment.length - done, buffer.size - buffer.used)
                self._fill(buffer, source, done, length)
                packed.append(Segment(buffer.owner, buffer.used - length, length))
                with self._state.lock:
                    buffer.owner.uses += 1
                done += length
            with self._state.lock:
                self._assembler.replace(segment, packed)
            self._state.drop(segment.owner)

    def _pack_everything(self) -> None:
        """Nothing in flight can make room: pack what waits if it pins more than the open buffer would."""
        if self._assembler.pinned() > self.part_size:
            self._pack([s for s in self._assembler.segments if not s.owner.open_buffer], None)

    def _close(self) -> UploadInfo:
        upload, rest = self._state, self._assembler.finish()
        if self._flush_unjoined or upload.upload_id is not None or rest.number > 1 or self._flushed:
            if not self._last_part_sent and rest.length > self._flushed:
                self._last_part_sent = True
                upload.submit([rest], keep=True)
            upload.join()
            parts = len(upload.parts)
            stored = upload.complete()
        else:
            stored, parts = upload.put_whole(rest), 1
        for segment in rest.segments:
            upload.drop(segment.owner)
        if self._open_buffer is not None:
            upload.drop(self._open_buffer.owner)
            self._open_buffer = None
        return UploadInfo(
            etag=stored.etag,
            parts=parts,
            total_bytes=self._bytes_written,
            checksum=stored.checksum,
            checksum_algorithm=None if stored.checksum is None else self._config.checksum,
            version_id=stored.version_id,
            started_at=upload.started_at,
            completed_at=datetime.now(UTC),
            upload_id=upload.upload_id,
        )


class MultipartUploadSink:
    """The original's blocking interface over the same writer.

    Args:
        bucket, key: the object.
        config: a `MultipartUploadConfig`; None for the defaults.
        client: a `Client`; None for the default one.
    """

    def __init__(
        self,
        bucket: str,
        key: str,
        config: MultipartUploadConfig | None = None,
        *,
        client: ClientLike | None = None,
    ) -> None:
        chosen = MultipartUploadConfig() if config is None else config
        if not isinstance(chosen, MultipartUploadConfig):
            raise TypeError(f"config is a {type(chosen).__name__}; give a MultipartUploadConfig")
        options = {field.name: getattr(chosen, field.name) for field in fields(chosen)}
        self._writer = MultipartUploadWriter(bucket, key, client=client, **options)

    def write_blocking(self, chunk: Any) -> int:
        """Appends a copy of `chunk`; see `MultipartUploadWriter.write`."""
        return self._writer.write(chunk)

    def write_owned_blocking(self, chunk: Any) -> int:
        """Appends `chunk` without a copy; the caller gives the buffer up and must not change it."""
        return self._writer.write(chunk, copy=False)

    def finish_blocking(self) -> UploadInfo:
        """Publishes the object; see `MultipartUploadWriter.close`."""
        return self._writer.close()

    def abort_blocking(self) -> None:
        """Gives the object up; see `MultipartUploadWriter.abort`."""
        self._writer.abort()


def _caller() -> str:
    """``file:line`` of the nearest frame outside this module, for the warning about a writer left open."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
