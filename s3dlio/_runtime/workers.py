"""Daemon threads for tasks that may block, the reaper of dropped uploads, and what happens at exit and fork.

Workers start on demand and are reused; nothing here limits their number, because every operation limits its own. If the
system can start no more threads, an operation continues with those it has, or in the caller's thread if it has none.
Callers are `upload`, `download`, `batch` and `reports`. Nothing here may hold a reference to a writer, and no task
may import a module: a child forked meanwhile would wait forever for the lock that an import holds (see `forking`).
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from ..errors import ConfigurationError
from .patches import refuse_patches
from .waiting import Changed

log = logging.getLogger("s3dlio")

IDLE_SECONDS = 10.0
EXIT_SECONDS = 5.0

Task = Callable[[], object]


class Reapable(Protocol):
    """An upload that others than its writer can end."""

    uri: str

    def reap(self) -> None: ...


_TRACING = "opentelemetry.context"


class _Traced:
    """A task that runs in the context of OpenTelemetry that it was started in: its spans belong to the caller's."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._tracing: Any = sys.modules[_TRACING]
        self._context = self._tracing.get_current()

    def __call__(self) -> None:
        token = self._tracing.attach(self._context)
        try:
            self._task()
        finally:
            self._tracing.detach(token)


class _Workers:
    """Idle threads wait for tasks in one queue; a task starts a thread when none is idle."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
        # Waiting threads, less those that a task was queued for. An interrupt may leave it too low, which starts a
        # thread too many, but never too high, which would leave a task waiting behind a busy thread.
        self._idle = 0
        self._started = 0

    def start(self, task: Task) -> None:
        """Gives a task to an idle thread or a new one; RuntimeError if no thread can be started: nothing is queued."""
        if _TRACING in sys.modules:
            task = _Traced(task)
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
                self._tasks.put(task)
                return
            self._started += 1
            name = f"s3dlio-worker-{self._started}"
        threading.Thread(target=self._serve, name=name, daemon=True).start()
        self._tasks.put(task)

    def _serve(self) -> None:
        while (task := self._next()) is not None:
            try:
                task()
            except BaseException:
                # Tasks report to their own operation; this is a defect, and it must not end the thread silently.
                log.exception("a worker task failed")
            del task
            with self._lock:
                self._idle += 1

    def _next(self) -> Task | None:
        """The next task, or None after a while without one."""
        while True:
            try:
                return self._tasks.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._tasks.empty():  # no task was queued for a waiting thread
                        self._idle = max(0, self._idle - 1)
                        return None


class Crew:
    """The tasks of one operation on worker threads: started one by one, joined, or called off.

    An interrupt, or a lack of threads, may end the starting anywhere. A task that has not begun when the operation is
    called off never begins, so that nothing waits for a task that no thread will take.

    Args:
        lock: the operation's.
        changed: notified whenever a task has ended.
    """

    def __init__(self, lock: Any, changed: Changed) -> None:
        self._lock = lock
        self._changed = changed
        self._promised = 0
        self._running = 0

    def start(self, task: Task) -> bool:
        """Runs `task` on a worker; False if no thread can be started for it."""
        with self._lock:
            self._promised += 1
        try:
            start(lambda: self._run(task))
        except RuntimeError:
            with self._lock:
                self._promised -= 1
            return False
        return True

    def join(self) -> None:
        """Returns, interruptibly, when every task has ended."""
        self._changed.wait_for(lambda: not self._promised and not self._running)

    def call_off(self) -> None:
        """Prevents further tasks from beginning, and returns when those that had begun have ended."""
        with self._lock:
            self._promised = 0
        self._changed.wait_for(lambda: not self._running)

    def _run(self, task: Task) -> None:
        with self._lock:
            if not self._promised:
                return
            self._promised -= 1
            self._running += 1
        try:
            task()
        finally:
            with self._lock:
                self._running -= 1
                self._changed.notify_all()


class _Reaper:
    """One thread that ends uploads whose writers were dropped; finalizers only put into its queue."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Reapable] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running = False

    def ensure_running(self) -> bool:
        """Starts the thread if there is none; False if it cannot be started. The next call tries again."""
        if self._running:
            return True
        with self._lock:
            if not self._running:
                try:
                    threading.Thread(target=self._serve, name="s3dlio-reaper", daemon=True).start()
                except RuntimeError:
                    return False
                self._running = True
        return True

    def put(self, upload: Reapable) -> None:
        self._queue.put(upload)

    def _serve(self) -> None:
        self._running = True  # here, because an interrupt may hit the starting thread
        while True:
            upload = self._queue.get()
            try:
                upload.reap()
            except BaseException:
                log.exception("a dropped upload could not be aborted")
            del upload


class _Process:
    """What belongs to this process and not to its forked children."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.workers = _Workers()
        self.reaper = _Reaper()
        self.open_uploads: weakref.WeakSet[Any] = weakref.WeakSet()
        self.open_lock = threading.Lock()


_process = _Process()


def _after_fork_in_child() -> None:
    global _process
    _process = _Process()


os.register_at_fork(after_in_child=_after_fork_in_child)


def start(task: Task) -> None:
    """Runs `task` on a worker thread; RuntimeError if none can be started, and then it never runs.

    Raises:
        ConfigurationError: threads are patched (`patches`).
    """
    refuse_patches()
    _process.workers.start(task)


def register_open(upload: Reapable) -> None:
    """Remembers an upload that must be ended if its writer is dropped, or the interpreter exits, first."""
    refuse_patches()
    with _process.open_lock:
        _process.open_uploads.add(upload)
    _process.reaper.ensure_running()


def unregister_open(upload: Reapable) -> None:
    with _process.open_lock:
        _process.open_uploads.discard(upload)


def reap(upload: Reapable) -> None:
    """Hands a dropped upload to the reaper. Safe in a finalizer: takes no lock of ours, does no I/O."""
    _process.reaper.put(upload)


def start_or_reap(task: Task, upload: Reapable) -> None:
    """Runs `task`, which ends `upload`, on a worker; if none can be started, the reaper or the exit ends it."""
    try:
        start(task)
    except RuntimeError:
        reap(upload)


class _Ending:
    """An upload being ended while the interpreter waits."""

    def __init__(self, upload: Reapable) -> None:
        self._upload = upload
        self.uri = upload.uri
        self.ended = threading.Event()

    def reap(self) -> None:
        try:
            self._upload.reap()
        finally:
            self.ended.set()


def _at_exit() -> None:
    """Ends all open uploads in parallel and within a time limit: a stalled peer must not hold up the exit."""
    with _process.open_lock:
        endings = [_Ending(upload) for upload in _process.open_uploads]
    for ending in endings:
        try:
            start(ending.reap)
        # From Python 3.12 on no thread can be started at exit; the reaper's is running.
        except (RuntimeError, ConfigurationError):
            _process.reaper.put(ending)
    if endings and not _process.reaper.ensure_running():
        log.warning("no thread can be started to end the upload of %s and others", endings[0].uri)
    deadline = time.monotonic() + EXIT_SECONDS
    for ending in endings:
        ending.ended.wait(max(0.0, deadline - time.monotonic()))


atexit.register(_at_exit)
