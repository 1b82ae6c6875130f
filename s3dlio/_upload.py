"""The state of one upload, shared by its writer and its workers: account, parts in flight, endings.

One lock guards it; decisions are taken under the lock and acted on outside it. Workers hold this
object and never the writer, so that a dropped writer is noticed. It never copies payload.
"""

from __future__ import annotations

import enum
import logging
import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from . import _operations, _workers
from ._assembler import Owner, Part, part_length
from ._checksums import ALGORITHMS, Algorithm, load
from ._client import Service
from ._completion import Completion, StoredPart
from ._kept import KeptError
from ._operations import Checksum, Stored
from ._requests import Cancelled, CancelScope
from ._uri import Location, format_uri
from ._xml import ListedPart
from .config import MultipartUploadConfig
from .errors import ForkedError, NotFoundError, S3dlioError, S3Error, WriterClosedError
from .progress import Progress, ProgressEvent

log = logging.getLogger("s3dlio")

# After an abort a cancelled part may still be stored by the server; this bounds how long that is looked for.
ABORT_CHECKS = 5
ABORT_CHECK_PAUSE = 0.2


class State(enum.Enum):
    """OPEN -> COMPLETING -> CLOSED, or OPEN | COMPLETING -> FAILED, and OPEN | FAILED -> ABORTED."""

    OPEN = "open"
    COMPLETING = "completing"
    CLOSED = "closed"
    FAILED = "failed"
    ABORTED = "aborted"


class Upload:
    """One object on its way to the store."""

    def __init__(
        self,
        service: Service,
        location: Location,
        config: MultipartUploadConfig,
        progress: Progress | None,
        created_at: str,
    ) -> None:
        self.service = service
        self.location = location
        self.uri = format_uri(*location)
        self.config = config
        self.algorithm: Algorithm | None = service.checksum_algorithm(config.checksum)
        if self.algorithm is not None:
            load()
        self.created_at = created_at
        self.started_at = datetime.now(UTC)
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.state = State.OPEN
        self.error: KeptError | None = None
        self.upload_id: str | None = None
        self.parts: dict[int, StoredPart] = {}
        self._listed: dict[int, ListedPart] = {}
        self.account = 0
        self._scope = CancelScope()
        self._queue: deque[tuple[Part, bool]] = deque()
        self._unfinished = 0
        self._promised = 0
        self._workers = 0
        self._creating = False
        self._cancelled_parts = False
        self._ending = False
        self._ended_on_store = False
        self._progress = progress
        self._progress_lock = threading.Lock()

    # ------------------------------------------------------------------------------------ the caller's side

    def check_process(self) -> None:
        if os.getpid() != self.pid:
            raise ForkedError(f"the writer of {self.uri} belongs to process {self.pid}; make a new one in this process")

    def check_open(self) -> None:
        """Raises what the writer's state says; call with the lock held or not."""
        if self.state is State.OPEN:
            return
        if self.state is State.FAILED:
            assert self.error is not None
            raise self.error.to_raise()
        if self.state is State.ABORTED:
            raise WriterClosedError(f"the upload of {self.uri} was aborted; make a new writer")
        raise WriterClosedError(f"the writer of {self.uri} is closed; make a new one for another object")

    def adopt(self, upload_id: str, listed: Iterable[ListedPart]) -> int:
        """Goes on with an upload that is on the store; returns how many parts, from the first on, it has in full.

        The algorithm is that of the parts, for it was fixed when the upload was created, or none where none was asked
        for. Where there is one a part counts only with the checksum that the store reports of it.
        """
        self._listed = {part.number: part for part in listed}
        unknown = all(self._listed_crc(part) is None for part in self._listed.values())
        if self._listed and self.algorithm is not None and unknown:
            named = {name for part in self._listed.values() for name in part.checksums}
            self.algorithm = next((one for one in ALGORITHMS.values() if one.xml in named), None)
        number = 0
        while (part := self._listed.get(number + 1)) is not None:
            crc = self._listed_crc(part)
            expected = part_length(number + 1, self.config.part_size, self.config.grow_part_size)
            if part.size != expected or (self.algorithm is not None and crc is None):
                break
            number += 1
            self.parts[number] = StoredPart(part.etag, part.size, crc)
            del self._listed[number]
        self.upload_id = upload_id
        _workers.register_open(self)
        return number

    def _listed_crc(self, part: ListedPart) -> int | None:
        if self.algorithm is None or self.algorithm.xml not in part.checksums:
            return None
        return self.algorithm.decode(part.checksums[self.algorithm.xml])

    def take(self, more: int, part_size: int, pack_waiting: Callable[[], None] | None) -> None:
        """Adds `more` bytes to the account, after waiting until the writer's bound allows it.

        `pack_waiting` is called, without the lock, when nothing is in flight that could make room;
        None means that the caller may not wait (it is packing to make room).
        """
        limit = (self.config.max_in_flight + 1) * part_size
        with self.lock:
            self.check_open()
            if pack_waiting is not None:
                self._await(lambda: self.account + min(more, part_size) <= limit or not self._unfinished)
                self.check_open()
                crowded = self.account + min(more, part_size) > limit
            if pack_waiting is None or not crowded:
                self.account += more
                return
        pack_waiting()
        with self.lock:
            self.check_open()
            self.account += more

    def untake(self, amount: int) -> None:
        with self.lock:
            self.account -= amount
            self.changed.notify_all()

    def drop(self, owner: Owner, uses: int = 1) -> None:
        """Ends `uses` uses of an owner; at zero its memory is let go of."""
        with self.lock:
            self._drop(owner, uses)
            self.changed.notify_all()

    def _drop(self, owner: Owner, uses: int = 1) -> None:
        owner.uses -= uses
        if owner.uses == 0:
            self.account -= owner.pinned
            owner.view = None

    def submit(self, parts: Iterable[Part], *, keep: bool = False) -> None:
        """Queues parts for upload; `keep` leaves their segments to the assembler (a flush)."""
        with self.lock:
            self.check_open()
            _workers.register_open(self)
            for part in parts:
                self._queue.append((part, keep))
                self._unfinished += 1
            while self._promised + self._workers < min(self.config.max_in_flight, self._unfinished):
                self._promised += 1
                _workers.start(self._work)

    def join(self) -> None:
        """Returns when every part queued so far is stored; raises the upload's failure."""
        with self.lock:
            self._await(lambda: not self._unfinished)
            self.check_open()

    def _await(self, holds: Callable[[], bool]) -> None:
        """Waits, interruptibly, until `holds()` or the upload is no longer open. Call with the lock held."""
        while self.state is State.OPEN and not holds():
            self.changed.wait(0.1)

    # ------------------------------------------------------------------------------------ the workers' side

    def _work(self) -> None:
        """Uploads queued parts until there are none.

        Only who has begun is waited for: an interrupt may have kept a promised one from ever being started.
        """
        with self.lock:
            self._promised -= 1
            self._workers += 1
        while True:
            with self.lock:
                if not self._queue:
                    break
                part, keep = self._queue.popleft()
            try:
                stored = self._send(part)
            except Cancelled:
                stored = None
                self._cancelled_parts = True
            except BaseException as error:
                stored = None
                self.fail(error)
            with self.lock:
                if stored is not None:
                    self.parts[part.number] = stored
                self._finish(part, keep)
            if stored is not None:
                self._report()
            del part
        self._leave_work()

    def _leave_work(self) -> None:
        """A worker ends; the last one of a failed upload ends that on the store first, and those who wait know."""
        with self.lock:
            last_of_failed = self._workers == 1 and self.state is State.FAILED
            if not last_of_failed:
                self._workers -= 1
                self.changed.notify_all()
                return
        try:
            self._abort_quietly()
        finally:
            with self.lock:
                self._workers -= 1
                self.changed.notify_all()

    def _finish(self, part: Part, keep: bool) -> None:
        """Counts a part as done and lets its memory go. Call with the lock held."""
        self._unfinished -= 1
        if not keep:
            for segment in part.segments:
                self._drop(segment.owner)
        self.changed.notify_all()

    def _send(self, part: Part) -> StoredPart:
        upload_id = self._ensure_created()
        self._scope.check()
        views = [segment.view for segment in part.segments]
        crc = None if self.algorithm is None else self.algorithm.of(views)
        known = self._listed.pop(part.number, None)
        if known is not None and crc is not None and (known.size, self._listed_crc(known)) == (part.length, crc):
            return StoredPart(known.etag, known.size, crc)
        stored = _operations.upload_part(
            self.service, self.location, upload_id, part.number, views, self._checksum(crc), self._scope
        )
        if stored.sent_twice:
            self._cancelled_parts = True
        return StoredPart(stored.etag, part.length, crc)

    def _checksum(self, crc: int | None) -> Checksum | None:
        return None if self.algorithm is None or crc is None else Checksum(self.algorithm, self.algorithm.encode(crc))

    def _ensure_created(self) -> str:
        """The upload id; the first part's worker creates the upload, the others wait for it."""
        with self.lock:
            while self._creating:
                self.changed.wait()
            if self.upload_id is not None:
                return self.upload_id
            self._scope.check()
            if self.state is not State.OPEN:
                raise Cancelled("the upload has ended")
            self._creating = True
        created: str | None = None
        try:
            created = self._create()
            return created
        finally:
            with self.lock:
                self._creating = False
                self.upload_id = created
                self.changed.notify_all()

    def _create(self) -> str:
        while True:
            try:
                return _operations.create_upload(self.service, self.location, self.config, self.algorithm)
            except S3Error as error:
                if not self.service.without_algorithm(self.algorithm, error):
                    raise
                self.algorithm = self.service.checksum_algorithm(self.config.checksum)

    def _report(self) -> None:
        if self._progress is None:
            return
        with self._progress_lock:
            with self.lock:
                done, count = sum(p.length for p in self.parts.values()), len(self.parts)
            try:
                self._progress(ProgressEvent("upload", self.uri, done, self.config.expected_size, count))
            except Exception:
                log.exception("a progress callback failed")

    # ------------------------------------------------------------------------------------------- endings

    def _leave(self, to: State, error: KeptError | None = None) -> State:
        """The one place where the state changes; returns the state before. Call with the lock held."""
        before = self.state
        self.state = to
        if error is not None:
            self.error = error
        if to is not State.COMPLETING:
            while self._queue:
                self._finish(*self._queue.popleft())
        self.changed.notify_all()
        return before

    def fail(self, error: BaseException) -> None:
        """The first failure wins: everything else is stopped, and the upload aborted if so configured."""
        with self.lock:
            if self.state not in (State.OPEN, State.COMPLETING):
                return
            self._leave(State.FAILED, KeptError(error))
            idle = self._workers == 0
        self._scope.cancel()
        if idle and isinstance(error, Exception):
            self._abort_quietly()
        elif idle:  # an interrupt does not wait for the store
            _workers.start(self._abort_quietly)

    def abort(self) -> None:
        """Stops parts in flight, waits for them, then aborts on the store. Idempotent; from any thread."""
        with self.lock:
            while self.state is State.COMPLETING:
                self.changed.wait(0.1)
            if self.state is State.CLOSED:
                return
            failed = self.state is State.FAILED
            self._leave(State.ABORTED)
        self._scope.cancel()
        self.join_workers()
        try:
            self._end_on_store()
        except S3dlioError as error:
            if not failed:
                raise
            log.warning("the failed upload %s of %s could not be aborted: %s", self.upload_id, self.uri, error)

    def abandon(self) -> None:
        """Aborts for a caller who was interrupted: parts are stopped now, and a worker does what takes time."""
        with self.lock:
            if self.state not in (State.OPEN, State.FAILED):
                return
            self._leave(State.ABORTED)
        self._scope.cancel()
        _workers.start(self._end_quietly)

    def join_workers(self, timeout: float | None = None) -> None:
        """Returns when no worker is left, so that nothing is sent any more and a failed upload has been aborted.

        Args:
            timeout: seconds after which it returns all the same; None for none.
        """
        until = None if timeout is None else time.monotonic() + timeout
        with self.lock:
            while self._workers and (until is None or time.monotonic() < until):
                self.changed.wait(0.1)

    def join_ending(self) -> None:
        """At the end of `close`: a failed upload has been aborted before the failure is told."""
        if self.state is State.FAILED:
            self.join_workers()

    def reap(self) -> None:
        """Ends an upload whose writer was dropped, or is still open at exit."""
        if os.getpid() != self.pid:
            return
        if self.state is State.ABORTED:
            self._end_quietly()
        elif self.state is State.FAILED:
            self.join_workers()
            self._abort_quietly()
        if self.state is not State.OPEN:
            return
        warnings.warn(
            f"a writer of {self.uri}, made at {self.created_at}, was never closed",
            ResourceWarning,
            stacklevel=1,
        )
        if not self.config.abort_on_drop:
            return
        try:
            self.abort()
        except S3dlioError as error:
            log.warning("the dropped upload %s of %s could not be aborted: %s", self.upload_id, self.uri, error)

    def _abort_quietly(self) -> None:
        if not self.config.abort_on_failure:
            _workers.unregister_open(self)
            return
        try:
            self._end_on_store()
        except S3dlioError as error:
            log.warning("the failed upload %s of %s could not be aborted: %s", self.upload_id, self.uri, error)

    def _end_quietly(self) -> None:
        self.join_workers()
        try:
            self._end_on_store()
        except S3dlioError as error:
            log.warning("the upload %s of %s could not be aborted: %s", self.upload_id, self.uri, error)

    def _end_on_store(self) -> None:
        """Aborts, once, and again for as long as the store still lists parts that arrived late."""
        with self.lock:
            while self._ending:
                self.changed.wait(0.1)
            upload_id = self.upload_id
            if upload_id is None or self._ended_on_store:
                _workers.unregister_open(self)
                return
            self._ending = True
        try:
            _operations.abort_upload(self.service, self.location, upload_id)
            self._ended_on_store = True
            if self._cancelled_parts:
                self._abort_late_parts(upload_id)
        finally:
            with self.lock:
                self._ending = False
                self.changed.notify_all()
            _workers.unregister_open(self)

    def _abort_late_parts(self, upload_id: str) -> None:
        for _ in range(ABORT_CHECKS):
            try:
                _operations.list_parts(self.service, self.location, upload_id)
            except NotFoundError:
                return
            time.sleep(ABORT_CHECK_PAUSE)
            _operations.abort_upload(self.service, self.location, upload_id)

    # ------------------------------------------------------------------------------------------ completion

    def put_whole(self, part: Part) -> Stored:
        """Stores an object that fits one part by one PutObject."""
        views = [segment.view for segment in part.segments]
        try:
            stored = self._put(views)
        except Cancelled:
            self.check_open()
            raise
        except Exception as error:
            self.fail(error)
            raise
        with self.lock:
            self.parts = {1: StoredPart(stored.etag, part.length, None)}
            self._leave(State.CLOSED)
        self._report()
        return stored

    def _put(self, views: list[memoryview]) -> Stored:
        while True:
            checksum = self._checksum(None if self.algorithm is None else self.algorithm.of(views))
            try:
                stored = _operations.put_object(self.service, self.location, views, self.config, checksum, self._scope)
                return stored._replace(checksum=None if checksum is None else checksum.value)
            except S3Error as error:
                if not self.service.without_algorithm(self.algorithm, error):
                    raise
                self.algorithm = self.service.checksum_algorithm(self.config.checksum)

    def complete(self) -> Stored:
        """Publishes the object, and checks that the store has what was sent."""
        with self.lock:
            self.check_open()
            self._leave(State.COMPLETING)
        try:
            assert self.upload_id is not None
            stored = Completion(
                self.service, self.location, self.upload_id, self.parts, self.config, self.algorithm
            ).run()
        except BaseException as error:
            self.fail(error)
            raise
        with self.lock:
            self._leave(State.CLOSED)
        _workers.unregister_open(self)
        return stored
