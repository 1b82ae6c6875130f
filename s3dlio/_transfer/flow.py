"""Many objects whose results are consumed while the call still runs: a window that slides over the objects.

A batch on worker threads fills the window, and one consumer empties it. It never holds more results than the window
allows, however slowly they are consumed. The objects may be known from the beginning, or be added meanwhile, as a
listing finds them. Callers are the data loader, and the transfers of files.
"""

from __future__ import annotations

import os
from collections import deque
from typing import Any

from .._runtime import workers
from .._runtime.kept_errors import without_traceback
from .._s3.requests import Cancelled, CancelScope
from ..errors import ForkedError, S3dlioError
from .batch import Batch, Work
from .ramp import Ramp


class _Running(Batch):
    """The batch behind a flow. Its consumer holds it, and it holds no reference to its consumer."""

    def __init__(self, work: Work, limit: int, window: int, keep_errors: bool, complete: bool) -> None:
        super().__init__(work, limit, keep_errors)
        self._ramp = Ramp(limit)
        self._results = []
        self._window = window
        self._complete = complete
        # Guarded by the lock: results that nobody took yet, how many were taken, and whether no more will come.
        self._ready: deque[tuple[int, Any]] = deque()
        self._consumed = 0
        self._over = False
        # Set by the consumer's finalizer, which may take no lock; waiting workers look at it from time to time.
        self.abandoned = False

    @property
    def _may_take(self) -> int:
        return min(self._work.count, self._consumed + self._window) - self._next

    @property
    def _all_taken(self) -> bool:
        return self.abandoned or self._stopped or (self._complete and self._next == self._work.count)

    def grown(self, complete: bool) -> None:
        """The work has more objects, or is complete."""
        with self._lock:
            self._complete = complete
            self._changed.notify_all()

    @property
    def open(self) -> int:
        """Objects whose results were not consumed yet."""
        return self._work.count - self._consumed

    def _take(self) -> tuple[int, int]:
        while True:
            self._changed.wait_for(lambda: self._all_taken or self._may_take > 0)
            if self.abandoned:
                return 0, 0
            first, last = super()._take()
            if first < last or self._all_taken:
                return first, last

    def _store(self, first: int, done: list[Any]) -> None:
        with self._lock:
            self._ready.extend(enumerate(done, first))
            self._changed.notify_all()

    def start(self) -> bool:
        """Begins on a worker; False if no thread can be started."""
        try:
            workers.start(self._run_to_end)
        except RuntimeError:
            return False
        return True

    def _run_to_end(self) -> None:
        error: BaseException | None = None
        try:
            self.run()
        except BaseException as raised:
            error = raised
        with self._lock:
            self._error, self._over = error, True
            self._changed.notify_all()

    def consume(self, most: int) -> list[tuple[int, Any]]:
        """Waits until there is a result, and takes up to `most`; none at the end. Raises the error that ended it."""
        taken: list[tuple[int, Any]] = []

        def take() -> bool:
            while self._ready and len(taken) < most:
                taken.append(self._ready.popleft())
            self._consumed += len(taken)
            if taken:
                self._changed.notify_all()
            return bool(taken) or self._over

        self._changed.wait_for(take)
        if not taken and self._error is not None:
            raise self._take_error()
        return taken

    def cancel(self) -> None:
        """Ends all requests, from any thread; a thread that waits for a result raises."""
        self._stop(Cancelled("the loader was closed"))

    def stop(self) -> None:
        """Ends all requests, and returns when no worker runs any more."""
        self.cancel()
        self._changed.wait_for(lambda: self._over)
        self._ready.clear()
        self._error = None  # it would make a reference cycle with its frames


class Flow:
    """The results of `work`, as pairs of an object's index and its result, in the order in which they arrive.

    Args:
        work: what is done with each object.
        limit: objects in flight at once.
        window: objects in flight and results not yet consumed, together, at most.
        keep_errors: an exception takes the place of an object's result; otherwise the first one ends everything.
        complete: the work has all its objects; otherwise `grown` tells of more.
    """

    def __init__(
        self, work: Work, limit: int, window: int, *, keep_errors: bool = False, complete: bool = True
    ) -> None:
        self._work = work
        self._window = window
        self._keep_errors = keep_errors
        self._pid = os.getpid()
        self._ended = self._failed = False
        self._next_alone: int | None = None
        self._running = _Running(work, limit, window, keep_errors, complete)
        if not self._running.start():
            self._next_alone = 0

    @property
    def full(self) -> bool:
        """Whether the window has no room for another object: take results before more are added."""
        return self._running.open >= self._window if self._next_alone is None else self._next_alone < self._work.count

    def grown(self, *, complete: bool = False) -> None:
        """Tells that the work has more objects now; or, with `complete`, that there will be no more."""
        self._running.grown(complete)

    def take(self, most: int) -> list[tuple[int, Any]]:
        """The next results: at least one and at most `most`, or none at the end.

        Raises:
            ForkedError: another process began this.
            S3dlioError: an earlier call ended by an error or an interrupt.
        """
        if self._pid != os.getpid():
            raise ForkedError(
                "the loader's iterator belongs to the process that this one was forked from; make one here"
            )
        if self._failed:
            raise S3dlioError("the loading ended by an error or an interrupt; begin another one")
        if self._ended:
            return []
        try:
            taken = self._alone() if self._next_alone is not None else self._running.consume(most)
        except BaseException:
            self.close()
            self._failed = True
            raise
        self._ended = not taken
        return taken

    def _alone(self) -> list[tuple[int, Any]]:
        """The next object, fetched in the caller's thread, because no other could be started."""
        index = self._next_alone or 0
        if index == self._work.count:
            return []
        self._next_alone = index + 1
        try:
            return [(index, self._work.run_alone(index, None, CancelScope()))]
        except Exception as error:
            if not self._keep_errors:
                raise
            return [(index, without_traceback(error))]

    def cancel(self) -> None:
        """Ends what a thread waits for here."""
        self._running.cancel()

    def close(self) -> None:
        """Ends all requests: there are no more results. Returns when no worker runs any more."""
        if self._ended or self._pid != os.getpid():
            return
        self._ended = True
        if self._next_alone is None:
            self._running.stop()

    def __del__(self) -> None:
        running = getattr(self, "_running", None)
        if running is not None and not self._ended and self._pid == os.getpid():
            running.abandoned = True
