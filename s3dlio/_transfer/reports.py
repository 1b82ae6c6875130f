"""Progress events on their way to the caller's callback: one at a time, in order, on a worker of their own.

The callback may be slow, may call anything on its writer, and may raise: no lock is held meanwhile, and no part or
range waits for it. Callers are `upload` and `download`, which return only when what they told has been delivered.
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


# Called with a SystemExit, KeyboardInterrupt or the like that the callback raised: ends the transfer by it, and tells
# whether the transfer raises it. Given with each call: reports that held their transfer would be a cycle with payload.
End = Callable[[BaseException], bool]


class Reports:
    """The events of one transfer.

    Args:
        lock: the transfer's, so that an event is told in the very moment of what it tells.
        callback: the caller's; None where nobody asked for reports.
    """

    def __init__(self, lock: Any, callback: Progress | None) -> None:
        if callback is not None and not callable(callback):
            raise TypeError(f"progress={callback!r} is not callable; give a function of one ProgressEvent, or None")
        self._lock = lock
        self._callback = callback
        self._changed = Changed(lock)
        self._events: deque[ProgressEvent] = deque()
        # The thread that delivers; set by that thread itself.
        self._deliverer: int | None = None
        self._raised: BaseException | None = None

    def add(self, event: ProgressEvent) -> None:
        """Puts an event behind those before it, for `deliver`. Call with the lock held."""
        if self._callback is not None:
            self._events.append(event)

    def deliver(self, end: End) -> bool:
        """Has a worker deliver what was added; False where none can be had, and it waits. Call without the lock."""
        with self._lock:
            if not self._events or self._deliverer is not None:
                return True
        try:
            workers.start(lambda: self._deliver(end))
        except RuntimeError:
            return False
        return True

    def join(self, end: End) -> None:
        """Returns, interruptibly, when all that was added has been delivered; at once where the callback itself calls.

        Raises:
            BaseException: what the callback raised too late for the transfer to raise it, once.
        """
        if self._callback is None or self._deliverer == threading.get_ident():
            return
        if not self.deliver(end):  # it may also be that an interrupt has kept somebody from it
            self._deliver(end)
        self._changed.wait_for(lambda: not self._events and self._deliverer is None)
        if self._raised is not None:
            raise self._taken_error()

    def _taken_error(self) -> BaseException:
        """The error, which nothing here may hold once it is raised: its frames hold this."""
        error, self._raised = self._raised, None
        assert error is not None
        return error

    def drop(self) -> None:
        """No further event is delivered. Call with the lock held."""
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
        except BaseException as error:  # the callback's, or an interrupt where no thread was to be had
            log.warning("a progress callback ended its transfer by %s", type(error).__name__)
            try:
                if not end(without_traceback(error)):
                    self._raised = error
            finally:
                with self._lock:
                    self._deliverer = None
                    self.drop()

    def _next(self) -> ProgressEvent | None:
        """The next event; where there is none, the thread delivers no more."""
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
