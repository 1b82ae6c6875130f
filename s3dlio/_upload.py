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
from typing import NamedTuple

from . import _listings, _operations, _workers
from ._assembler import Owner, Part, part_length
from ._checksums import FOUND, Algorithm, load
from ._client import Service
from ._completion import Completion, StoredPart
from ._endpoint_state import refuses_checksum
from ._kept import KeptError
from ._operations import Checksum, Stored
from ._requests import Cancelled, CancelScope
from ._uri import Location, format_uri
from ._xml import ListedPart
from .config import MultipartUploadConfig
from .errors import ConfigurationError, ForkedError, NotFoundError, S3dlioError, S3Error, WriterClosedError
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


class Resumed(NamedTuple):
    """An upload that another writer created, as the store lists it.

    Attributes:
        algorithm: of its checksums; None where it has none, or the store does not say.
        kind_known: the algorithm is of the kind that the upload was created with.
        parts: those that the store has.
    """

    upload_id: str
    algorithm: Algorithm | None
    kind_known: bool
    parts: list[ListedPart]

    @classmethod
    def of(cls, uri: str, upload_id: str, listing: _listings.PartsListing, wanted: Algorithm | None) -> Resumed:
        """What the store tells of the upload; its checksums were fixed when it was created.

        Args:
            wanted: the caller's choice, which counts where the store says nothing of the upload; None too, though it
                may tell checksums of parts that it has computed itself.

        Raises:
            ConfigurationError: its parts have checksums that cannot be gone on with.
        """
        name, kind = listing.checksum_algorithm, listing.checksum_type
        if not name:
            named = {element for part in listing.parts for element in part.checksums}
            found = next((one for one in FOUND.values() if one.xml in named), None)
            if found is None and not listing.parts and name is None:
                return cls(upload_id, wanted, True, listing.parts)
            name = None if found is None or wanted is None else found.s3_name
        if name is None:
            return cls(upload_id, None, True, listing.parts)
        algorithm = FOUND.get(name.lower())
        impossible = algorithm is None or kind not in (None, "", "COMPOSITE", "FULL_OBJECT")
        if algorithm is None or impossible or (kind == "FULL_OBJECT" and algorithm.hashed):
            raise ConfigurationError(
                f"the upload {upload_id} of {uri} was created with checksums {name} of type {kind or 'unknown'}, which "
                "cannot be gone on with here; finish it with what created it, or abort it and write the object anew"
            )
        # CRC64NVME and hashes have one kind each.
        certain = bool(kind) or algorithm.hashed or algorithm.name == "crc64nvme"
        return cls(
            upload_id, algorithm.of_kind(kind == "COMPOSITE" if kind else algorithm.composite), certain, listing.parts
        )


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
        # What another writer created is ended by an explicit `abort` only.
        self._resumed: Resumed | None = None
        self._is_given_up = False
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

    def adopt(self, resumed: Resumed) -> int:
        """Goes on with an upload that is on the store; returns how many parts, from the first on, it has in full.

        Where the upload has checksums a part counts only with the one that the store reports of it.
        """
        self._resumed, self.algorithm = resumed, resumed.algorithm
        if self.algorithm is not None:
            load()
        self._listed = {part.number: part for part in resumed.parts}
        number = 0
        while (part := self._listed.get(number + 1)) is not None:
            crc = self._listed_crc(part)
            expected = part_length(number + 1, self.config.part_size, self.config.grow_part_size)
            if part.size != expected or part.etag is None or (self.algorithm is not None and crc is None):
                break
            number += 1
            self.parts[number] = StoredPart(part.etag.as_given, part.size, crc)
            del self._listed[number]
        self.upload_id = resumed.upload_id
        _workers.register_open(self)
        return number

    def _listed_crc(self, part: ListedPart) -> int | None:
        value = None if self.algorithm is None else self.algorithm.told(part.checksums.get(self.algorithm.xml))
        return None if self.algorithm is None or value is None or "-" in value else self.algorithm.decode(value)

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
        views = [segment.view for segment in part.segments]
        while True:
            upload_id, algorithm = self._ensure_created()
            self._scope.check()
            crc = None if algorithm is None else algorithm.of(views)
            known = self._listed.pop(part.number, None)
            same = known is not None and crc is not None and (known.size, self._listed_crc(known)) == (part.length, crc)
            if known is not None and known.etag is not None and same:
                return StoredPart(known.etag.as_given, known.size, crc)
            checksum = None if algorithm is None or crc is None else Checksum(algorithm, algorithm.encode(crc))
            try:
                stored = _operations.upload_part(
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
            _operations.abort_upload(self.service, self.location, upload_id)
        except S3dlioError as error:
            log.warning("the upload %s of %s could not be aborted: %s", upload_id, self.uri, error)

    def _checksum(self, crc: int | None) -> Checksum | None:
        return None if self.algorithm is None or crc is None else Checksum(self.algorithm, self.algorithm.encode(crc))

    def _ensure_created(self) -> tuple[str, Algorithm | None]:
        """The upload id and its checksum; the first part's worker creates the upload, the others wait for it."""
        with self.lock:
            while self._creating:
                self.changed.wait()
            if self.upload_id is not None:
                return self.upload_id, self.algorithm
            self._scope.check()
            if self.state is not State.OPEN:
                raise Cancelled("the upload has ended")
            self._creating = True
        created: str | None = None
        try:
            created = self._create()
            return created, self.algorithm
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

    def abort(self, *, explicit: bool = True) -> None:
        """Stops parts in flight, waits for them, then aborts on the store. Idempotent; from any thread.

        Args:
            explicit: the caller has asked for it; else an upload that another writer created stays on the store.
        """
        with self.lock:
            while self.state is State.COMPLETING:
                self.changed.wait(0.1)
            if self.state is State.CLOSED:
                return
            self._is_given_up |= explicit
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
            self.abort(explicit=False)
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
        """Aborts, once, and again for as long as the store still lists parts that arrived late.

        What another writer created is the next one's to go on with, unless the caller has given it up.
        """
        with self.lock:
            while self._ending:
                self.changed.wait(0.1)
            upload_id = self.upload_id
            stays = self._resumed is not None and not self._is_given_up
            if upload_id is None or stays or self._ended_on_store:
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
                _listings.upload_exists(self.service, self.location, upload_id)
            except NotFoundError:
                return
            except S3Error as error:  # it does not say: the upload is aborted again
                log.info("the parts of %s cannot be listed: %s", self.uri, error)
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
            self.parts = {1: StoredPart(None, part.length, None)}
            self._leave(State.CLOSED)
        self._report()
        return stored

    def _put(self, views: list[memoryview]) -> Stored:
        uncertain = 0
        while True:
            checksum = self._checksum(None if self.algorithm is None else self.algorithm.of(views))
            try:
                stored = _operations.put_object(
                    self.service, self.location, views, self.config, checksum, self._scope, uncertain=uncertain
                )
                return stored._replace(checksum=None if checksum is None else checksum.value)
            except S3Error as error:
                uncertain = error.uncertain
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
            self._leave(State.CLOSED)
        _workers.unregister_open(self)
        return stored
