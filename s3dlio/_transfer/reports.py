"""Delivers progress events to the caller's callback: one at a time, in order, on a worker thread of their own.

The callback may be slow, may call anything on its writer, and may raise: no lock is held while it runs, and no part or
range waits for it. Callers are `upload`, `download` and `batch`, which return only when their events are delivered.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from .._runtime import workers
from .._runtime.kept_errors import without_traceback
from .._runtime.waiting import Changed
from ..progress import Progress, ProgressEvent

log = logging.getLogger("s3dlio")


# Called with a SystemExit, KeyboardInterrupt or the like that the callback raised: ends the transfer with it and
# returns whether the transfer raises it. Passed to each call, because storing it would make a reference cycle that
# keeps payload alive.
End = Callable[[BaseException], bool]


class Reports:
    """The events of one transfer.

    Args:
        lock: the transfer's, so that an event is added together with the change it reports.
        callback: the caller's; None for no reports.
    """

    def __init__(self, lock: Any, callback: Progress | None) -> None:
        if callback is not None and not callable(callback):
            raise TypeError(f"progress={callback!r} is not callable; give a function of one ProgressEvent, or None")
        self._lock = lock
        self._callback = callback
        self._changed = Changed(lock)
        self._events: deque[ProgressEvent] = deque()
        # Ident of the delivering thread, which sets it itself.
        self._deliverer: int | None = None
        self._raised: BaseException | None = None

    def add(self, event: ProgressEvent) -> None:
        """Appends an event for `deliver`. Call with the lock held."""
        if self._callback is not None:
            self._events.append(event)

    def deliver(self, end: End) -> bool:
        """Starts a worker that delivers what was added; False if no thread can be started. Call without the lock."""
        with self._lock:
            if not self._events or self._deliverer is not None:
                return True
        try:
            workers.start(lambda: self._deliver(end))
        except RuntimeError:
            return False
        return True

    def join(self, end: End) -> None:
        """Waits, interruptibly, until all added events are delivered; returns immediately if the callback itself calls.

        Raises:
            BaseException: raised by the callback too late for the transfer to raise it. Raised once.
        """
        if self._callback is None or self._deliverer == threading.get_ident():
            return
        if not self.deliver(end):  # or an interrupt kept an earlier call from starting it
            self._deliver(end)
        self._changed.wait_for(lambda: not self._events and self._deliverer is None)
        if self._raised is not None:
            raise self._take_error()

    def _take_error(self) -> BaseException:
        """Removes and returns the error: keeping it here would make a reference cycle with its frames."""
        error, self._raised = self._raised, None
        assert error is not None
        return error

    def drop(self) -> None:
        """Discards the events not delivered yet. Call with the lock held."""
        self._events.clear()
        self._changed.notify_all()

    def _deliver(self, end: End) -> None:
        with self._lock:
            if self._deliverer is not None:
                return
            self._deliverer = threading.get_ident()
        try:
            while (event := self._next()) is not None:
                self._call(event)
        except BaseException as error:  # from the callback, or an interrupt if this is the caller's thread
            try:
                if not end(without_traceback(error)):
                    self._raised = error
            finally:
                with self._lock:
                    self._deliverer = None
                    self.drop()
            log.warning("a progress callback ended its transfer with %s", type(error).__name__)

    def _next(self) -> ProgressEvent | None:
        """The next event; without one, this thread stops being the deliverer."""
        with self._lock:
            if self._events:
                return self._events.popleft()
            self._deliverer = None
            self._changed.notify_all()
            return None

    def _call(self, event: ProgressEvent) -> None:
        assert self._callback is not None
        try:
            self._callback(event)
        except Exception:
            log.exception("a progress callback failed")
