"""One upload's parts in flight: they are queued, sent by workers, counted, and published.

One lock guards the upload; decisions are taken under the lock and acted on outside it. Workers hold this object and
never the writer, so that a dropped writer is noticed. It never copies payload; `lifecycle` ends it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime

from .._net.addresses import Location
from .._runtime import workers
from .._s3 import multipart_operations, object_operations
from .._s3.checksums import Algorithm, Checksum, load
from .._s3.endpoint_state import refuses_checksum
from .._s3.requests import Cancelled, cancelled_with
from .._s3.responses import Stored
from .._s3.service import Service
from .._s3.xml import ListedPart
from ..config import MultipartUploadConfig
from ..errors import ChecksumMismatchError, S3dlioError, S3Error
from ..progress import Progress, ProgressEvent
from .assembler import Part
from .completion import Completion, StoredPart
from .lifecycle import Lifecycle, State
from .resumed import Resumed

log = logging.getLogger("s3dlio")


class Upload(Lifecycle):
    """The upload of one object."""

    def __init__(
        self,
        service: Service,
        location: Location,
        config: MultipartUploadConfig,
        progress: Progress | None,
        created_at: str,
    ) -> None:
        super().__init__(service, location, config, progress, created_at)
        self.algorithm: Algorithm | None = service.checksum_algorithm(config.checksum)
        if self.algorithm is not None:
            load()
        self.started_at = datetime.now(UTC)
        self.parts: dict[int, StoredPart] = {}
        self.published: Stored | None = None
        # Bytes of `parts`; None until this upload has stored one.
        self._stored: int | None = None
        self._listed: dict[int, ListedPart] = {}
        self._queue: deque[tuple[Part, bool]] = deque()
        self._unfinished = 0
        self._starting = 0
        self._creating = False
        workers.register_open(self)

    # ------------------------------------------------------------------------------------ the caller's side

    @property
    def idle(self) -> bool:
        return not self._unfinished

    def _discard_queued(self) -> None:
        while self._queue:
            self._finish(*self._queue.popleft())

    def adopt(self, resumed: Resumed, *, compare: bool = False) -> int:
        """Continues an upload that is on the store; returns how many parts, from the first on, it has in full.

        With `compare` it relies on none: all bytes are written again, and a part is sent where its checksum differs.
        """
        self._resumed, self.algorithm = resumed, resumed.algorithm
        if self.algorithm is not None:
            load()
        complete = [] if compare else resumed.complete_parts(self.config.part_size, self.config.grow_part_size)
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
        workers.register_open(self)  # again: the first time, the reaper's thread may have failed to start
        while self._claim_worker():
            try:
                workers.start(self._work)
            except RuntimeError:
                if self._no_worker_left():
                    self._upload_here()
                return

    def _claim_worker(self) -> bool:
        """Counts one more worker as starting, if it is useful; returns whether it did."""
        with self.lock:
            lacks = self._starting + len(self._workers) < min(self.config.max_in_flight, self._unfinished)
            self._starting += lacks
            return lacks

    def _no_worker_left(self) -> bool:
        """Withdraws a claim when no thread can be started; returns whether there is no other worker either."""
        with self.lock:
            self._starting -= 1
            return self._starting == 0 and not self._workers

    def join(self) -> None:
        """Returns when every part queued so far is stored; raises the upload's failure."""
        self.changed.wait_for(lambda: self.state is not State.OPEN or not self._unfinished)
        self.check_open()

    def join_reports(self) -> None:
        """Returns when the progress of every stored part has been reported. Call without the writer's turn."""
        self._reports.join(self._end_by_callback)

    # ------------------------------------------------------------------------------------ the workers' side

    def _work(self) -> None:
        """A worker's task.

        We wait only for workers that have started: an interrupt may keep a claimed one from ever starting.
        """
        with self.lock:
            self._starting -= 1
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
            if not isinstance(error, Exception):  # raised in the caller's own thread
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
        """Counts a stored part, replacing one of the same number. Call with the lock held."""
        if self._stored is None:
            self._stored = sum(part.length for part in self.parts.values())
        before = self.parts.get(number)
        self._stored += stored.length - (0 if before is None else before.length)
        self.parts[number] = stored
        if self.state is State.OPEN:
            event = ProgressEvent("upload", self.uri, self._stored, self.config.expected_size, len(self.parts))
            self._reports.add(event)

    def _leave_work(self) -> None:
        """Ends a worker and wakes waiting threads; the last worker of a failed upload first aborts it on the store."""
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
        """Counts a part as done and releases its memory. Call with the lock held."""
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
            if (listed := self._already_stored(part, crc)) is not None:
                return listed
            checksum = None if algorithm is None or crc is None else Checksum(algorithm, algorithm.encode(crc))
            try:
                stored = multipart_operations.upload_part(
                    self.service, self.location, upload_id, part.number, views, checksum, self._scope
                )
            except S3Error as error:
                if not self._restarts(upload_id, algorithm, error):
                    raise
                continue
            if stored.sent_twice:
                self._cancelled_parts = True
            if self.upload_id == upload_id:
                etag = None if stored.etag is None else stored.etag.as_given
                return StoredPart(etag, part.length, crc)
            self._abort_superseded(upload_id)  # it took a part after it was superseded

    def _already_stored(self, part: Part, crc: int | None) -> StoredPart | None:
        """The part that the resumed upload already has, if its size and checksum are those of the bytes written now."""
        listed = self._listed.pop(part.number, None)
        if listed is None or listed.etag is None or crc is None or self._resumed is None:
            return None
        same = (listed.size, self._resumed.crc_of(listed)) == (part.length, crc)
        return StoredPart(listed.etag.as_given, listed.size, crc) if same else None

    def _restarts(self, upload_id: str, algorithm: Algorithm | None, error: S3Error) -> bool:
        """Whether the part goes into a new upload with the next checksum, because the store accepted the algorithm at
        Create but refuses it with a part. Only possible while no part is stored: a stored part's memory is released."""
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
            with cancelled_with(None):
                multipart_operations.abort_upload(self.service, self.location, upload_id)
        except S3dlioError as error:
            log.warning("the upload %s of %s could not be aborted: %s", upload_id, self.uri, error)

    def _checksum(self, crc: int | None) -> Checksum | None:
        return None if self.algorithm is None or crc is None else Checksum(self.algorithm, self.algorithm.encode(crc))

    def _ensure_created(self) -> tuple[str, Algorithm | None]:
        """The upload id and its algorithm. The first part's worker creates the upload; the others wait for it."""
        mine, current = False, ("", self.algorithm)

        def decided() -> bool:
            nonlocal mine, current
            if self._creating:
                return False
            if self.upload_id is not None:
                current = self.upload_id, self.algorithm
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
                current = created, self.algorithm
            return current
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
            self._change_state(State.CLOSED)
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
        """Publishes the object of `total` bytes and checks that the store has what was sent."""
        with self.lock:
            self.check_open()
            self._change_state(State.COMPLETING)
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
            self._change_state(State.CLOSED)
        workers.unregister_open(self)
        return stored

    def _check_parts(self, total: int) -> None:
        """Checks that no part is missing and that the parts hold as many bytes as the writer accepted."""
        held = sum(part.length for part in self.parts.values())
        if held != total or (self.parts and max(self.parts) != len(self.parts)):
            raise ChecksumMismatchError(
                f"{self.uri}: {total} bytes were written, and {len(self.parts)} parts up to number "
                f"{max(self.parts, default=0)} with {held} bytes were stored; nothing was published"
            )
