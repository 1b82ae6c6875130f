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
from collections.abc import Iterable
from datetime import UTC, datetime

from .._net.addresses import Location, format_uri
from .._runtime import workers
from .._runtime.kept_errors import KeptError
from .._s3 import multipart_operations, object_operations
from .._s3.checksums import Algorithm, Checksum, load
from .._s3.endpoint_state import refuses_checksum
from .._s3.requests import Cancelled, CancelScope
from .._s3.responses import Stored
from .._s3.service import Service
from .._s3.xml import ListedPart
from ..config import MultipartUploadConfig
from ..errors import ChecksumMismatchError, ForkedError, S3dlioError, S3Error, WriterClosedError
from ..progress import Progress, ProgressEvent
from .aborting import Aborting
from .account import Account
from .assembler import Part
from .completion import Completion, StoredPart
from .reports import Reports
from .resumed import Resumed

log = logging.getLogger("s3dlio")


class State(enum.Enum):
    """OPEN -> COMPLETING -> CLOSED, or OPEN | COMPLETING -> FAILED, or OPEN -> ABORTED."""

    OPEN = "open"
    COMPLETING = "completing"
    CLOSED = "closed"
    FAILED = "failed"
    ABORTED = "aborted"


class Upload(Account):
    """One object on its way to the store."""

    def __init__(
        self,
        service: Service,
        location: Location,
        config: MultipartUploadConfig,
        progress: Progress | None,
        created_at: str,
    ) -> None:
        super().__init__(config.max_in_flight + 1)
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
        self.state = State.OPEN
        self.error: KeptError | None = None
        self.upload_id: str | None = None
        self.parts: dict[int, StoredPart] = {}
        self.published: Stored | None = None
        # Bytes of `parts`, once the first of them was stored by this upload.
        self._stored: int | None = None
        # What another writer created is ended by an explicit `abort` only.
        self._resumed: Resumed | None = None
        self._is_given_up = False
        self._is_reaped = False
        self._listed: dict[int, ListedPart] = {}
        self._scope = CancelScope()
        self._queue: deque[tuple[Part, bool]] = deque()
        self._unfinished = 0
        self._promised = 0
        # Threads that upload parts, by their idents.
        self._workers: set[int] = set()
        self._creating = False
        self._cancelled_parts = False
        self._aborting = Aborting(service, location, self.lock, self.changed)
        self._reports = Reports(self.lock, progress)
        workers.register_open(self)

    # ------------------------------------------------------------------------------------ the caller's side

    def check_process(self) -> None:
        if os.getpid() != self.pid:
            raise ForkedError(f"the writer of {self.uri} belongs to process {self.pid}; make a new one in this process")

    @property
    def idle(self) -> bool:
        return not self._unfinished

    @property
    def ended(self) -> bool:
        return self.state not in (State.OPEN, State.COMPLETING)

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

    def adopt(self, resumed: Resumed) -> int:
        """Continues an upload that is on the store; returns how many parts, from the first on, it has in full."""
        self._resumed, self.algorithm = resumed, resumed.algorithm
        if self.algorithm is not None:
            load()
        complete = resumed.complete_parts(self.config.part_size, self.config.grow_part_size)
        self.parts.update(enumerate(complete, 1))
        self._listed = {part.number: part for part in resumed.parts if part.number not in self.parts}
        self.upload_id = resumed.upload_id
        workers.register_open(self)
        return len(complete)

    def submit(self, parts: Iterable[Part], *, keep: bool = False) -> None:
        """Queues parts for upload; `keep` leaves their segments to the assembler (a flush)."""
        with self.lock:
            self.check_open()
            for part in parts:
                self._queue.append((part, keep))
                self._unfinished += 1
        workers.register_open(self)  # where its first try found no thread for the reaper
        while self._promise():
            try:
                workers.start(self._work)
            except RuntimeError:
                if self._is_alone():
                    self._upload_here()
                return

    def _promise(self) -> bool:
        """Whether one more worker is of use; it is counted then."""
        with self.lock:
            lacks = self._promised + len(self._workers) < min(self.config.max_in_flight, self._unfinished)
            self._promised += lacks
            return lacks

    def _is_alone(self) -> bool:
        """Takes back a promise that no thread could be had for; tells whether there is no other either."""
        with self.lock:
            self._promised -= 1
            return self._promised == 0 and not self._workers

    def join(self) -> None:
        """Returns when every part queued so far is stored; raises the upload's failure."""
        self.changed.wait_for(lambda: self.state is not State.OPEN or not self._unfinished)
        self.check_open()

    def join_reports(self) -> None:
        """Returns when the progress of every part that is stored has been reported. Call without the writer's turn."""
        self._reports.join(self._end_by_callback)

    # ------------------------------------------------------------------------------------ the workers' side

    def _work(self) -> None:
        """A worker's task.

        Only who has begun is waited for: an interrupt may have kept a promised one from ever being started.
        """
        with self.lock:
            self._promised -= 1
        self._upload_here()

    def _upload_here(self) -> None:
        """Uploads queued parts, on this thread, until there are none."""
        begun = False
        try:
            with self.lock:
                self._workers.add(threading.get_ident())
                begun = True
            while self._upload_next():
                pass
        finally:
            if begun:
                self._leave_work()

    def _upload_next(self) -> bool:
        with self.lock:
            if not self._queue:
                return False
            part, keep = self._queue.popleft()
        stored = None
        try:
            stored = self._send(part)
        except Cancelled:
            self._cancelled_parts = True
        except BaseException as error:
            self.fail(error)
            if not isinstance(error, Exception):  # it struck the caller's own thread
                raise
        finally:
            with self.lock:
                if stored is not None:
                    self._record(part.number, stored)
                self._finish(part, keep)
        if stored is not None:
            self._reports.deliver(self._end_by_callback)
        return True

    def _record(self, number: int, stored: StoredPart) -> None:
        """Counts a part that the store has, in the place of one of the same number. Call with the lock held."""
        if self._stored is None:
            self._stored = sum(part.length for part in self.parts.values())
        before = self.parts.get(number)
        self._stored += stored.length - (0 if before is None else before.length)
        self.parts[number] = stored
        if self.state is State.OPEN:
            event = ProgressEvent("upload", self.uri, self._stored, self.config.expected_size, len(self.parts))
            self._reports.add(event)

    def _leave_work(self) -> None:
        """A worker ends; the last one of a failed upload ends that on the store first, and those who wait know."""
        own = threading.get_ident()
        with self.lock:
            last_of_failed = self._workers == {own} and self.state is State.FAILED
            if not last_of_failed:
                self._workers.discard(own)
                self.changed.notify_all()
                return
        try:
            self._abort_quietly()
        finally:
            with self.lock:
                self._workers.discard(own)
                self.changed.notify_all()

    def _finish(self, part: Part, keep: bool) -> None:
        """Counts a part as done and lets its memory go. Call with the lock held."""
        self._unfinished -= 1
        if not keep:
            for segment in part.segments:
                self._drop(segment.owner)
        self.changed.notify_all()

    def _send(self, part: Part) -> StoredPart:
        views = [segment.view for segment in part.segments]
        while True:
            upload_id, algorithm = self._ensure_created()
            self._scope.check()
            crc = None if algorithm is None else algorithm.of(views)
            if (listed := self._listed_alike(part, crc)) is not None:
                return listed
            checksum = None if algorithm is None or crc is None else Checksum(algorithm, algorithm.encode(crc))
            try:
                stored = multipart_operations.upload_part(
                    self.service, self.location, upload_id, part.number, views, checksum, self._scope
                )
            except S3Error as error:
                if not self._begins_anew(upload_id, algorithm, error):
                    raise
                continue
            if stored.sent_twice:
                self._cancelled_parts = True
            if self.upload_id == upload_id:
                etag = None if stored.etag is None else stored.etag.as_given
                return StoredPart(etag, part.length, crc)
            self._abort_superseded(upload_id)  # it has taken in a part after it was given up

    def _listed_alike(self, part: Part, crc: int | None) -> StoredPart | None:
        """The part as the resumed upload lists it, if size and checksum are those of the bytes written now."""
        listed = self._listed.pop(part.number, None)
        if listed is None or listed.etag is None or crc is None or self._resumed is None:
            return None
        same = (listed.size, self._resumed.crc_of(listed)) == (part.length, crc)
        return StoredPart(listed.etag.as_given, listed.size, crc) if same else None

    def _begins_anew(self, upload_id: str, algorithm: Algorithm | None, error: S3Error) -> bool:
        """Whether the part goes into another upload, with the next checksum: a store may take one at Create and refuse
        it with a part. That is possible while no part is stored, for the memory of a stored one is gone."""
        with self.lock:
            if self.upload_id != upload_id:
                return True
            if self.parts or self._resumed is not None or not refuses_checksum(error):
                return False
        if not self.service.without_algorithm(algorithm, error):
            return False
        with self.lock:
            if self.upload_id == upload_id:
                self.upload_id, self.algorithm = None, self.service.checksum_algorithm(self.config.checksum)
        self._abort_superseded(upload_id)
        return True

    def _abort_superseded(self, upload_id: str) -> None:
        try:
            multipart_operations.abort_upload(self.service, self.location, upload_id)
        except S3dlioError as error:
            log.warning("the upload %s of %s could not be aborted: %s", upload_id, self.uri, error)

    def _checksum(self, crc: int | None) -> Checksum | None:
        return None if self.algorithm is None or crc is None else Checksum(self.algorithm, self.algorithm.encode(crc))

    def _ensure_created(self) -> tuple[str, Algorithm | None]:
        """The upload id and its checksum; the first part's worker creates the upload, the others wait for it."""
        mine, there = False, ("", self.algorithm)

        def decided() -> bool:
            nonlocal mine, there
            if self._creating:
                return False
            if self.upload_id is not None:
                there = self.upload_id, self.algorithm
                return True
            self._scope.check()
            if self.state is not State.OPEN:
                raise Cancelled("the upload has ended")
            self._creating = mine = True
            return True

        created: str | None = None
        try:
            self.changed.wait_for(decided)
            if mine:
                created = self._create()
                there = created, self.algorithm
            return there
        finally:
            if mine:
                with self.lock:
                    self._creating = False
                    self.upload_id = created
                    self.changed.notify_all()

    def _create(self) -> str:
        while True:
            try:
                return multipart_operations.create_upload(self.service, self.location, self.config, self.algorithm)
            except S3Error as error:
                if not self.service.without_algorithm(self.algorithm, error):
                    raise
                self.algorithm = self.service.checksum_algorithm(self.config.checksum)

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
        if to in (State.FAILED, State.ABORTED):
            self._reports.drop()
        self.changed.notify_all()
        return before

    def fail(self, error: BaseException, *, by_callback: bool = False) -> bool:
        """The first failure wins: everything else is stopped, and the upload aborted if so configured.

        Args:
            error: raised where it struck, and told by every later call.
            by_callback: it was raised by the progress callback: the first call that meets it raises it. It does not end
                what is being published.

        Returns:
            Whether the upload has failed by it.
        """
        with self.lock:
            if self.state is not State.OPEN and (by_callback or self.state is not State.COMPLETING):
                return False
            self._leave(State.FAILED, KeptError(error, f"the upload of {self.uri}", raised=not by_callback))
            idle = not self._workers
        self._scope.cancel()
        if idle and isinstance(error, Exception):
            self._abort_quietly()
        elif idle:  # an interrupt does not wait for the store
            workers.start_or_reap(self._abort_quietly, self)
        return True

    def _end_by_callback(self, error: BaseException) -> bool:
        return self.fail(error, by_callback=True)

    def abort(self, *, explicit: bool = True) -> None:
        """Stops parts in flight, waits for them, then aborts on the store. Idempotent; from any thread.

        What has failed stays so, and every call goes on telling how.

        Args:
            explicit: the caller has asked for it; else an upload that another writer created stays on the store.
        """

        def decided() -> bool:
            if self.state is State.COMPLETING:
                return False
            self._is_given_up |= explicit
            if self.state is State.OPEN:
                self._leave(State.ABORTED)
            return True

        self.changed.wait_for(decided)
        if self.state is State.CLOSED:
            return
        self._scope.cancel()
        self.join_workers()
        try:
            self._end_on_store()
        except S3dlioError as error:
            if self.state is not State.FAILED:
                raise
            self._warn("failed", error)

    def abandon(self) -> None:
        """Aborts for a caller who was interrupted: parts are stopped now, and a worker does what takes time."""
        with self.lock:
            if self.state is not State.OPEN:  # who let it fail sees to it
                return
            self._leave(State.ABORTED)
        self._scope.cancel()
        workers.start_or_reap(self._end_quietly, self)

    def join_workers(self, timeout: float | None = None) -> None:
        """Returns when no worker is left, so that nothing is sent any more and a failed upload has been aborted.

        Args:
            timeout: seconds after which it returns all the same; None for none.
        """
        until = None if timeout is None else time.monotonic() + timeout
        own = {threading.get_ident()}  # a signal handler may abort while its thread is at work here
        self.changed.wait_for(lambda: self._workers <= own, until)

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
        try:
            self._warn_of_drop()
        finally:  # where warnings are errors too
            if self.config.abort_on_drop:
                self._abort_dropped()

    def _warn_of_drop(self) -> None:
        """Once: the reaper and the exit may come to it at the same time, and both wait until it has been aborted."""
        with self.lock:
            told, self._is_reaped = self._is_reaped, True
        if not told:
            warnings.warn(
                f"a writer of {self.uri}, made at {self.created_at}, was never closed",
                ResourceWarning,
                stacklevel=1,
            )

    def _abort_dropped(self) -> None:
        try:
            self.abort(explicit=False)
        except S3dlioError as error:
            self._warn("dropped", error)

    def _abort_quietly(self) -> None:
        if not self.config.abort_on_failure:
            workers.unregister_open(self)
            return
        try:
            self._end_on_store()
        except S3dlioError as error:
            self._warn("failed", error)

    def _end_quietly(self) -> None:
        self.join_workers()
        try:
            self._end_on_store()
        except S3dlioError as error:
            self._warn("interrupted", error)

    def _warn(self, which: str, error: S3dlioError) -> None:
        log.warning("the %s upload %s of %s could not be aborted: %s", which, self.upload_id, self.uri, error)

    def _end_on_store(self) -> None:
        """Aborts on the store what has an id there; nobody need end it any more, whatever comes of it.

        What another writer created is the next one's to go on with, unless the caller has given it up.
        """

        def to_abort() -> str | None:
            return None if self._resumed is not None and not self._is_given_up else self.upload_id

        try:
            self._aborting.run(to_abort, lambda: self._cancelled_parts)
        except S3dlioError:
            workers.unregister_open(self)
            raise
        workers.unregister_open(self)

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
            self._record(1, StoredPart(None, part.length, None))
            self.published = stored
            self._leave(State.CLOSED)
        workers.unregister_open(self)
        self._reports.deliver(self._end_by_callback)
        return stored

    def _put(self, views: list[memoryview]) -> Stored:
        uncertain = 0
        while True:
            checksum = self._checksum(None if self.algorithm is None else self.algorithm.of(views))
            try:
                stored = object_operations.put_object(
                    self.service, self.location, views, self.config, checksum, self._scope, uncertain=uncertain
                )
                return stored._replace(checksum=None if checksum is None else checksum.value)
            except S3Error as error:
                uncertain = error.uncertain
                if not self.service.without_algorithm(self.algorithm, error):
                    raise
                self.algorithm = self.service.checksum_algorithm(self.config.checksum)

    def complete(self, total: int) -> Stored:
        """Publishes the object, and checks that the store has what was sent: `total` bytes."""
        with self.lock:
            self.check_open()
            self._leave(State.COMPLETING)
        try:
            assert self.upload_id is not None
            self._check_parts(total)
            stored = Completion(
                self.service,
                self.location,
                self.upload_id,
                self.parts,
                self.config,
                self.algorithm,
                self._resumed is not None,
                self._resumed is None or self._resumed.kind_known,
            ).run()
        except BaseException as error:
            self.fail(error)
            raise
        with self.lock:
            self.published = stored
            self._leave(State.CLOSED)
        workers.unregister_open(self)
        return stored

    def _check_parts(self, total: int) -> None:
        """The parts that are to be published are all there, and hold what the writer accepted: our own last check."""
        held = sum(part.length for part in self.parts.values())
        if held != total or (self.parts and max(self.parts) != len(self.parts)):
            raise ChecksumMismatchError(
                f"{self.uri}: {total} bytes were written, and {len(self.parts)} parts up to number "
                f"{max(self.parts, default=0)} with {held} bytes were stored; nothing was published"
            )
