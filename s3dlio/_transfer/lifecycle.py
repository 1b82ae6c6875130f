"""The state of one upload and every way it ends: failure, abort, interrupt, a dropped writer, exit.

The state changes in one function under the upload's lock; what follows from a change is done outside the lock. An
`upload` is a lifecycle with parts; all that this module knows of parts is that threads send them.
"""

from __future__ import annotations

import enum
import logging
import os
import threading
import time
import warnings

from .._net.addresses import Location, format_uri
from .._runtime import workers
from .._runtime.kept_errors import KeptError
from .._s3.requests import Cancelled, CancelScope
from .._s3.service import Service
from ..config import MultipartUploadConfig
from ..errors import ForkedError, S3dlioError, WriterClosedError
from ..progress import Progress
from .aborting import Aborting
from .account import Account
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


class Lifecycle(Account):
    """State, failure and endings of one upload.

    Attributes:
        error: the first failure; every later call raises it.
        upload_id: None until the store has created the upload.
    """

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
        self.created_at = created_at
        self.pid = os.getpid()
        self.state = State.OPEN
        self.error: KeptError | None = None
        self.upload_id: str | None = None
        # An upload that another writer created is aborted only by an explicit `abort`.
        self._resumed: Resumed | None = None
        # So does one that its maker wants to resume later, whatever ends it.
        self.kept = False
        self._abort_requested = False
        self._drop_reported = False
        self._scope = CancelScope()
        # Idents of the threads that upload parts.
        self._workers: set[int] = set()
        # Whether an attempt was cut short: the store may still take its part.
        self._cancelled_parts = False
        self._aborting = Aborting(service, location, self.lock, self.changed)
        self._reports = Reports(self.lock, progress)

    def _discard_queued(self) -> None:
        """Drops the parts that no worker has started. Called with the lock held."""
        raise NotImplementedError

    def check_process(self) -> None:
        if os.getpid() != self.pid:
            raise ForkedError(f"the writer of {self.uri} belongs to process {self.pid}; make a new one in this process")

    @property
    def ended(self) -> bool:
        return self.state not in (State.OPEN, State.COMPLETING)

    def check_open(self) -> None:
        """Raises the error of the writer's state unless it is open. Call with or without the lock."""
        if self.state is State.OPEN:
            return
        if self.state is State.FAILED:
            assert self.error is not None
            raise self.error.to_raise()
        if self.state is State.ABORTED:
            raise WriterClosedError(f"the upload of {self.uri} was aborted; make a new writer")
        raise WriterClosedError(f"the writer of {self.uri} is closed; make a new one for another object")

    def _change_state(self, to: State, error: KeptError | None = None) -> State:
        """The only function that changes the state; returns the previous one. Call with the lock held."""
        before = self.state
        self.state = to
        if error is not None:
            self.error = error
        if to is not State.COMPLETING:
            self._discard_queued()
        if to in (State.FAILED, State.ABORTED):
            self._reports.drop()
        self.changed.notify_all()
        return before

    def fail(self, error: BaseException, *, by_callback: bool = False) -> bool:
        """Fails the upload, unless it has ended: parts in flight are stopped, and it is aborted if so configured.

        Args:
            error: the caller raises it here; every later call raises it again.
            by_callback: the progress callback raised it, so the next call raises it. It does not stop
                a Complete that has begun.

        Returns:
            Whether this error made the upload fail.
        """
        with self.lock:
            if self.state is not State.OPEN and (by_callback or self.state is not State.COMPLETING):
                return False
            self._change_state(State.FAILED, KeptError(error, f"the upload of {self.uri}", raised=not by_callback))
            idle = not self._workers
        self._scope.cancel()
        if idle and isinstance(error, Exception) and not isinstance(error, Cancelled):
            self._abort_quietly()
        elif idle:  # neither an interrupt nor a cancellation waits for the store
            workers.start_or_reap(self._abort_quietly, self)
        return True

    def _end_by_callback(self, error: BaseException) -> bool:
        return self.fail(error, by_callback=True)

    def abort(self, *, explicit: bool = True) -> None:
        """Stops parts in flight, waits for them, then aborts on the store. Idempotent; from any thread.

        A failed upload stays failed, and later calls still raise its error.

        Args:
            explicit: whether the caller asked for it. If not, an upload that another writer created stays on the store.
        """

        def decided() -> bool:
            if self.state is State.COMPLETING:
                return False
            self._abort_requested |= explicit
            if self.state is State.OPEN:
                self._change_state(State.ABORTED)
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
        """Aborts after an interrupt: stops parts now and leaves the abort request to a worker."""
        with self.lock:
            if self.state is not State.OPEN:  # the thread that failed it also aborts it
                return
            self._change_state(State.ABORTED)
        self._scope.cancel()
        workers.start_or_reap(self._end_quietly, self)

    def join_workers(self, timeout: float | None = None) -> None:
        """Returns when no worker is left: nothing is being sent, and a failed upload has been aborted.

        Args:
            timeout: the most seconds to wait; None for no limit.
        """
        until = None if timeout is None else time.monotonic() + timeout
        own = {threading.get_ident()}  # a signal handler may call abort while its thread is a worker
        self.changed.wait_for(lambda: self._workers <= own, until)

    def join_ending(self) -> None:
        """Waits, at the end of `close`, until a failed upload has been aborted."""
        if self.state is State.FAILED:
            self.join_workers()

    def reap(self) -> None:
        """Ends an upload whose writer was dropped or is still open at exit."""
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
        finally:  # also if warnings are errors
            if self.config.abort_on_drop:
                self._abort_dropped()

    def _warn_of_drop(self) -> None:
        """Warns once: the reaper and the exit handler may both call it, and both wait for the abort."""
        with self.lock:
            warned, self._drop_reported = self._drop_reported, True
        if not warned:
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
        """Aborts the upload on the store if it has an id, and unregisters it even if that fails.

        An upload that another writer created, or that is kept, stays for the next `resume`, unless the caller called
        `abort`.
        """

        def to_abort() -> str | None:
            stays = self._resumed is not None or self.kept
            return None if stays and not self._abort_requested else self.upload_id

        try:
            self._aborting.run(to_abort, lambda: self._cancelled_parts)
        except S3dlioError:
            workers.unregister_open(self)
            raise
        workers.unregister_open(self)
