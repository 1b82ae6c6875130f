"""What goes into `service` and comes out of it: a request, its response, and the flag that cancels many at a time.

Values and one flag; nothing here sends, signs or decides.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .._memory.destinations import Destination
from .._net.exchange import Exchange
from .._net.http import Headers
from ..errors import WriterClosedError
from .get_response import Asked, Promise

# The native loop does not receive larger bodies into memory of its own (`exchange` leaves them to Python).
MOST_COLLECTED = 16 << 20
# The status of a response that was not received.
_NOT_RECEIVED = 0


class Cancelled(WriterClosedError):
    """The request was stopped by its `CancelScope`."""


class Cancellable(Protocol):
    """What a scope ends: an exchange, another scope, or an upload."""

    def cancel(self) -> None: ...


class FailedAttempt(Protocol):
    """What is known about a failed attempt: the store's code, or that a 2xx could not be read, and had a body."""

    code: str | None
    unreadable: bool
    body: bool


class CancelScope:
    """One flag for all requests of an operation; raising it ends their exchanges and pauses."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entered: set[Cancellable] = set()
        self._raised = False
        # Held until the flag is raised. A `threading.Event` holds a lock in Python code, where an interrupt of a pause
        # may leave it held, and raising the flag would then wait forever.
        self._lowered = threading.Lock()
        self._lowered.acquire()

    @property
    def cancelled(self) -> bool:
        return self._raised

    def cancel(self) -> None:
        self._raised = True
        with contextlib.suppress(RuntimeError):  # raised before
            self._lowered.release()
        with self._lock:
            entered = list(self._entered)
        for one in entered:
            one.cancel()

    def end(self) -> None:
        """Cancels, and returns when no driver has an exchange of the operation any more. No peer can delay that."""
        self.cancel()
        with self._lock:
            entered = list(self._entered)
        for one in entered:
            if isinstance(one, Exchange | CancelScope):
                one.end()

    def check(self) -> None:
        if self._raised:
            raise Cancelled("the operation was cancelled")

    def enter(self, one: Cancellable) -> None:
        """Registers an exchange before its first byte is sent; raises if the flag is raised already."""
        with self._lock:
            self.check()
            self._entered.add(one)

    def leave(self, one: Cancellable) -> None:
        with self._lock:
            self._entered.discard(one)

    def pause(self, seconds: float) -> None:
        if self._lowered.acquire(timeout=seconds):
            self._lowered.release()
        self.check()


_thread = threading.local()


def operation_scope() -> CancelScope:
    """The scope of a new operation. If the thread runs an asynchronous call, the operation is cancelled with it.

    Raises:
        Cancelled: it was cancelled already.
    """
    scope = CancelScope()
    outer: CancelScope | None = getattr(_thread, "scope", None)
    if outer is not None:
        outer.enter(scope)
    return scope


@contextlib.contextmanager
def cancelled_with(scope: CancelScope | None) -> Iterator[None]:
    """Operations that the thread begins in this block are cancelled with `scope`; None for those that clean up."""
    before: CancelScope | None = getattr(_thread, "scope", None)
    _thread.scope = scope
    try:
        yield
    finally:
        _thread.scope = before


@dataclass(slots=True)
class Request:
    """One S3 request. The segments of `body` are sent without a copy, and again at every retry.

    Attributes:
        asked: for a GetObject, what its response is compared with before its body gets a destination; the body then
            goes to `into`, to what `on_head` returns, or to pooled memory, and never into `Response.body`.
        on_head: for a GetObject: called once per attempt with what the head of the response promises, before the body
            is received; returns the destination.
        on_bytes: called with the number of bytes of a large body that have arrived, by the thread that waits for them;
            a retry starts from zero.
        into: a writable view for the body of a GetObject response, if its destination is known beforehand.
        error_in_body: the store may begin its response with 200 before it knows the outcome.
        check_applied: called after a failed attempt if it, or one before it, may have taken effect; returns whether it
            did. The response is then `Response.found_applied`.
        doubt: returns why a 2xx cannot be the store's response, so that the outcome is unknown; None where it can be.
        uncertain: how many earlier attempts at the same request may have taken effect.
    """

    operation: str
    method: str
    bucket: str | None
    key: str = ""
    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Sequence[Any] = ()
    asked: Asked | None = None
    into: memoryview | None = None
    on_head: Callable[[Promise], Destination] | None = None
    on_bytes: Callable[[int], None] | None = None
    error_in_body: bool = False
    check_applied: Callable[[FailedAttempt], bool] | None = None
    doubt: Callable[[Response], str | None] | None = None
    uncertain: int = 0
    upload_id: str | None = None
    part_number: int | None = None

    @property
    def body_length(self) -> int:
        return sum(memoryview(segment).nbytes for segment in self.body)

    @property
    def payload(self) -> int:
        """Bytes of the request's body, or of the destination for the response's."""
        return self.body_length or (0 if self.into is None else len(self.into))

    @property
    def may_be_sent_twice(self) -> bool:
        """Whether a second attempt does no harm: a part is replaced by the same bytes, a range is only read.

        If the destination is not known beforehand (`on_head`), only until the head has arrived.
        """
        if self.operation == "UploadPart" or self.on_head is not None:
            return True
        return self.into is not None and len(self.into) <= MOST_COLLECTED


@dataclass(slots=True)
class Response:
    """A 2xx response, or `found_applied`.

    Attributes:
        body: of a document; empty where the body went to a destination.
        received: bytes of the body, wherever they went.
        attempts: how many it took.
        uncertain: earlier attempts at the same request that may have taken effect.
        sent_twice: another attempt was cut short because this one was faster.
        body_at: the buffer that contains the body, and its offset there, if the request had no destination.
        promise: what the judged head of a GetObject response says.
        head_came: when its head was there, by `time.monotonic_ns`; 0 where that is not known.
    """

    status: int
    headers: Headers
    body: bytes
    received: int
    attempts: int
    uncertain: int
    sent_twice: bool = False
    body_at: tuple[Any, int] | None = None
    promise: Promise | None = None
    head_came: int = 0

    @classmethod
    def found_applied(cls, attempts: int) -> Response:
        """Stands for a response that was not received, to a request that is known to have taken effect."""
        return cls(_NOT_RECEIVED, {}, b"", 0, attempts, 1)

    @property
    def was_received(self) -> bool:
        """False for `found_applied`: it has no status, headers or body."""
        return self.status != _NOT_RECEIVED
