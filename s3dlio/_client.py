"""Runs every S3 request of one client: sign, exchange, classify, then return, retry or raise.

Retries live here and nowhere else. It knows no S3 operation by name beyond what `_retry` is told;
`_operations` builds the requests and reads the responses.
"""

from __future__ import annotations

import builtins
import errno
import logging
import os
import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from . import _http, _retry, _xml
from ._connections import Connections, Lease
from ._credentials import CredentialSource
from ._drivers import drivers
from ._exchange import Exchange, Outcome
from ._kept import without_traceback
from ._signing import Signer
from ._uri import Endpoint, Target, aws_endpoint
from .config import ClientSettings, environment_fingerprint
from .errors import (
    AccessDeniedError,
    InvalidRangeError,
    NotFoundError,
    PreconditionFailedError,
    S3Error,
    ThrottledError,
    TimeoutError,
    TransportError,
    WriterClosedError,
)

log = logging.getLogger("s3dlio")

USER_AGENT = "s3dlio"


class Cancelled(WriterClosedError):
    """The request was stopped by its `CancelScope`."""


class CancelScope:
    """One flag for all requests of an operation; raising it ends their exchanges and back-offs at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._exchanges: set[Exchange] = set()
        self._event = threading.Event()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def cancel(self) -> None:
        self._event.set()
        with self._lock:
            exchanges = list(self._exchanges)
        for exchange in exchanges:
            exchange.cancel()

    def check(self) -> None:
        if self._event.is_set():
            raise Cancelled("the operation was cancelled")

    def enter(self, exchange: Exchange) -> None:
        """Registers an exchange before its first byte goes out; raises if the flag is up already."""
        with self._lock:
            self.check()
            self._exchanges.add(exchange)

    def leave(self, exchange: Exchange) -> None:
        with self._lock:
            self._exchanges.discard(exchange)

    def pause(self, seconds: float) -> None:
        if self._event.wait(seconds):
            self.check()


@dataclass(slots=True)
class Request:
    """One S3 request. `body` segments are sent as they lie, and again at every retry.

    Attributes:
        on_head: given the head of a 2xx answer before its body is read, returns where the body goes
            (a writable buffer) or None to have it as bytes; called once per attempt.
        into: a writable buffer for a 2xx body whose place is known beforehand.
        error_in_body: the store may begin its answer with 200 before it knows the outcome.
    """

    operation: str
    method: str
    bucket: str | None
    key: str = ""
    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Sequence[Any] = ()
    into: Any = None
    on_head: Callable[[_http.ResponseHead], Any] | None = None
    error_in_body: bool = False
    upload_id: str | None = None
    part_number: int | None = None


@dataclass(slots=True)
class Response:
    """A 2xx answer. `received` counts body bytes wherever they went; `uncertain` says that an earlier
    attempt of the same request may have taken effect."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    received: int
    attempts: int
    uncertain: bool


class Service:
    """What one client holds to talk to its endpoint: settings, credentials, signer, connections."""

    def __init__(self, settings: ClientSettings) -> None:
        self.settings = settings
        self._credentials = CredentialSource(settings)
        self._signer = Signer()
        self._connections = Connections(settings=settings)
        self._lock = threading.Lock()
        self._endpoint: Endpoint | None = None

    def load(self) -> None:
        """Imports what signing needs in the caller's thread: a child forked while a worker imports would hang."""
        if self.settings.credentials != "anonymous":
            self._signer.load()

    @property
    def region(self) -> str:
        return self._credentials.region

    @property
    def endpoint(self) -> Endpoint:
        with self._lock:
            if self._endpoint is None:
                url = self._credentials.endpoint_url() or aws_endpoint(self._credentials.region)
                self._endpoint = Endpoint.from_url(url, self.settings.addressing_style)
            return self._endpoint

    def close(self) -> None:
        """Closes idle connections; requests under way go on."""
        self._connections.close()

    def call(self, request: Request, cancel: CancelScope | None = None) -> Response:
        """The answer to `request`, with retries.

        Raises:
            S3Error: the store refused (a subclass says how).
            TransportError, TimeoutError: no answer came within the attempts.
            Cancelled: `cancel` was raised.
        """
        scope = cancel or CancelScope()
        target = self.endpoint.target(request.bucket, request.key, request.query)
        started = time.monotonic()
        uncertain = False
        attempt = 0
        while True:
            attempt += 1
            scope.check()
            failed = self._attempt(request, target, scope)
            if isinstance(failed, Response):
                failed.attempts, failed.uncertain = attempt, uncertain
                return failed
            uncertain = uncertain or failed.may_have_taken_effect
            outcome = _retry.Outcome(request.operation, failed.status, failed.code, failed.failure)
            elapsed = time.monotonic() - started
            decision = _retry.classify(outcome, attempt, elapsed, self.settings.retries, random.random())
            if decision.verdict is not _retry.Verdict.RETRY:
                raise failed.as_error(request, attempt, elapsed, uncertain) from failed.error
            log.info("%s attempt %d: %s; again in %.2f s", request.operation, attempt, failed, decision.delay)
            scope.pause(decision.delay)

    def _attempt(self, request: Request, target: Target, scope: CancelScope) -> Response | _Failed:
        """One attempt; a pooled connection that the server had closed costs a second sending, not an attempt."""
        try:
            for fresh in (False, True):
                with self._connections.lease(target.origin, fresh=fresh, check=scope.check) as lease:
                    exchange = self._exchange(request, target, lease, scope)
                    stale = lease.reused and not fresh and _closed_unused(exchange)
                    if not stale:
                        return self._conclude(request, exchange, lease, scope)
        except TransportError as error:
            return _Failed(_connect_failure(error), error)
        raise AssertionError("a fresh connection is never stale")

    def _exchange(self, request: Request, target: Target, lease: Lease, scope: CancelScope) -> Exchange:
        timeouts = self.settings.timeouts
        exchange = Exchange(
            lease.sock,
            self._head(request, target, lease),
            request.body,
            into=request.into,
            no_body=request.method == "HEAD",
            pause_at_head=request.on_head is not None,
            send_timeout=timeouts.send,
            first_byte_timeout=timeouts.first_byte,
            idle_timeout=timeouts.idle,
        )
        scope.enter(exchange)
        try:
            _run(exchange)
            if exchange.outcome == Outcome.HEAD_READY:
                head = _http.parse_head(exchange.head_bytes)
                assert request.on_head is not None
                request.into = request.on_head(head) if 200 <= head.status < 300 else None
                exchange.continue_into(request.into)
                _run(exchange)
        finally:
            scope.leave(exchange)
        return exchange

    def _head(self, request: Request, target: Target, lease: Lease) -> bytes:
        """The signed request head, credentials taken anew so that a refresh takes effect."""
        headers = {"host": target.host_header, "user-agent": USER_AGENT, **request.headers}
        length = sum(memoryview(segment).nbytes for segment in request.body)
        if length or request.method in ("PUT", "POST"):
            headers["content-length"] = str(length)
        credentials = self._credentials.frozen()
        if credentials is not None:
            headers = self._signer.sign(
                method=request.method,
                host=target.host_header,
                path=target.path,
                query_string=target.query_string,
                headers=headers,
                credentials=credentials,
                region=self.region,
            )
        path = f"{target.path}?{target.query_string}" if target.query_string else target.path
        if lease.origin_form_absolute:
            path = f"{target.origin.scheme}://{target.host_header}{path}"
            headers = {**headers, **lease.proxy_headers}
        lines = [f"{request.method} {path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("ascii")

    def _conclude(self, request: Request, exchange: Exchange, lease: Lease, scope: CancelScope) -> Response | _Failed:
        """Turns an ended exchange into an answer or a failure, and gives the connection back if it is clean."""
        outcome = exchange.outcome
        if outcome == Outcome.CANCELLED:
            raise Cancelled("the request was cancelled")
        if outcome not in (Outcome.COMPLETE, Outcome.UNUSUAL):
            return _Failed.of_exchange(exchange, self.settings)
        try:
            head = _http.parse_head(exchange.head_bytes)
            body, received = exchange.body_bytes, exchange.body_received
            if outcome == Outcome.UNUSUAL:
                body, received = self._finish_unusual(request, exchange, head, lease, scope)
            elif exchange.reusable:
                lease.keep()
        except _http.BadResponse as error:
            return _Failed(_retry.Failure.GARBAGE, error, sent=exchange.request_sent)
        except OSError as error:
            timed_out = isinstance(error, builtins.TimeoutError)
            kind = _retry.Failure.TIMEOUT if timed_out else _retry.Failure.RECEIVE
            return _Failed(kind, error, sent=exchange.request_sent)
        refused = request.error_in_body and _xml.parse_error(body) is not None
        if 200 <= head.status < 300 and not refused:
            return Response(head.status, head.headers, body, received, 1, False)
        return _Failed.of_answer(head, body, exchange.request_sent)

    def _finish_unusual(
        self, request: Request, exchange: Exchange, head: _http.ResponseHead, lease: Lease, scope: CancelScope
    ) -> tuple[bytes, int]:
        if request.method == "HEAD" or head.status in (204, 304):
            return b"", 0
        ok = 200 <= head.status < 300
        return _http.read_rest(
            lease.sock,
            exchange.head_bytes,
            exchange.leftover,
            into=request.into if ok else None,
            idle_timeout=self.settings.timeouts.idle,
            cancelled=lambda: scope.cancelled,
        )


def _run(exchange: Exchange) -> None:
    """Hands the exchange to a driver and sleeps until it ends; an interrupt ends it first."""
    try:
        drivers().submit(exchange)
        exchange.wait(None)
    except BaseException:
        # The driver must have let go of the caller's memory before the interrupt travels on.
        exchange.cancel()
        exchange.wait(None)
        raise


def _connect_failure(error: TransportError) -> _retry.Failure:
    if isinstance(error, TimeoutError):
        return _retry.Failure.TIMEOUT
    if isinstance(error.__cause__, ssl.SSLCertVerificationError):
        return _retry.Failure.UNTRUSTED
    return _retry.Failure.CONNECT


def _closed_unused(exchange: Exchange) -> bool:
    """Whether the peer closed the connection without a byte of answer, as one does that had timed out idle."""
    if exchange.outcome == Outcome.CLOSED_BEFORE_RESPONSE:
        return True
    broken = exchange.outcome in (Outcome.SEND_ERROR, Outcome.RECEIVE_ERROR)
    reset = isinstance(exchange.error, OSError) and exchange.error.errno in (errno.EPIPE, errno.ECONNRESET)
    return broken and reset and not exchange.head_bytes


_FAILURES = {
    Outcome.CLOSED_BEFORE_RESPONSE: (
        _retry.Failure.CLOSED,
        "the peer closed the connection without an answer",
    ),
    Outcome.CLOSED_IN_RESPONSE: (
        _retry.Failure.CLOSED,
        "the peer closed the connection in the middle of its answer",
    ),
    Outcome.SEND_ERROR: (_retry.Failure.SEND, "sending failed"),
    Outcome.RECEIVE_ERROR: (_retry.Failure.RECEIVE, "receiving failed"),
    Outcome.SEND_TIMEOUT: (_retry.Failure.TIMEOUT, "the peer took no byte for {send:g} s"),
    Outcome.FIRST_BYTE_TIMEOUT: (_retry.Failure.TIMEOUT, "no answer came for {first_byte:g} s"),
    Outcome.IDLE_TIMEOUT: (_retry.Failure.TIMEOUT, "the answer stopped for {idle:g} s"),
    Outcome.HEAD_TOO_LARGE: (_retry.Failure.GARBAGE, "the head of the answer is larger than 64 KiB"),
    Outcome.GARBAGE: (_retry.Failure.GARBAGE, "the answer is not HTTP/1.1"),
}


class _Failed:
    """One failed attempt: either an answer of the store or a failure of the transport."""

    def __init__(self, failure: _retry.Failure | None, error: Exception | None, *, sent: bool = False) -> None:
        self.failure = failure
        self.error = None if error is None else without_traceback(error)
        self.status: int | None = None
        self.code: str | None = None
        self.message: str | None = None
        self.request_id: str | None = None
        self.host_id: str | None = None
        self.may_have_taken_effect = sent and failure is not None

    @classmethod
    def of_exchange(cls, exchange: Exchange, settings: ClientSettings) -> _Failed:
        kind, text = _FAILURES[Outcome(exchange.outcome)]
        times = settings.timeouts
        text = text.format(send=times.send, first_byte=times.first_byte, idle=times.idle)
        error_class = TimeoutError if kind is _retry.Failure.TIMEOUT else TransportError
        error = error_class(text)
        error.__cause__ = exchange.error
        return cls(kind, error, sent=exchange.request_sent)

    @classmethod
    def of_answer(cls, head: _http.ResponseHead, body: bytes, sent: bool) -> _Failed:
        failed = cls(None, None, sent=sent)
        failed.status = head.status
        failed.request_id = head.headers.get("x-amz-request-id")
        failed.host_id = head.headers.get("x-amz-id-2")
        document = _xml.parse_error(body) if body else None
        if document is not None:
            failed.code, failed.message = document.code, document.message
            failed.request_id = failed.request_id or document.request_id
            failed.host_id = failed.host_id or document.host_id
        # A gateway that gives up (5xx) may have passed the request on.
        failed.may_have_taken_effect = head.status >= 500
        return failed

    def __str__(self) -> str:
        return str(self.error) if self.error else f"status {self.status} ({self.code})"

    def as_error(self, request: Request, attempts: int, elapsed: float, uncertain: bool) -> S3Error | TransportError:
        """What the caller is told. No frame of the raising may name it: that would be a cycle."""
        if self.status is not None:
            error = s3_error(request, self.status, self.code, self.message, self.request_id, self.host_id, attempts)
            error.uncertain = uncertain
            return error
        place = "" if request.bucket is None else f" of s3://{request.bucket}/{request.key}"
        part = "" if request.part_number is None else f", part {request.part_number}"
        times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        text = f"{request.operation}{place}{part} failed after {times} in {elapsed:.1f} s: {self.error}"
        error_class = TimeoutError if isinstance(self.error, builtins.TimeoutError) else TransportError
        raised = error_class(text)
        raised.uncertain = uncertain
        return raised


_THROTTLES = ("SlowDown", "TooManyRequests", "RequestLimitExceeded", "Throttling", "ThrottlingException")


def s3_error(
    request: Request,
    status: int,
    code: str | None,
    message: str | None,
    request_id: str | None = None,
    host_id: str | None = None,
    attempts: int = 1,
) -> S3Error:
    """The error class for what the store answered, filled in."""
    error_class: type[S3Error] = {
        401: AccessDeniedError,
        403: AccessDeniedError,
        404: NotFoundError,
        412: PreconditionFailedError,
        416: InvalidRangeError,
        429: ThrottledError,
    }.get(status, S3Error)
    if code in _THROTTLES:
        error_class = ThrottledError
    elif code == "ConditionalRequestConflict":
        error_class = PreconditionFailedError
    return error_class(
        request.operation, request.bucket, request.key or None, status, code, message, request_id, host_id,
        request.upload_id, request.part_number, attempts,
    )  # fmt: skip


class ClientLike(Protocol):
    """Anything that holds a `Service`: the public `Client`."""

    @property
    def service(self) -> Service: ...


_default_lock = threading.Lock()
_default: tuple[tuple[str | None, ...], Service] | None = None


def service_of(client: ClientLike | None) -> Service:
    """The client's service, or the default one, which is made anew when the environment names another store."""
    service = _default_service() if client is None else client.service
    service.load()
    return service


def _default_service() -> Service:
    global _default
    environment = environment_fingerprint()
    with _default_lock:
        if _default is None or _default[0] != environment:
            _default = (environment, Service(ClientSettings()))
        return _default[1]


def _after_fork_in_child() -> None:
    global _default, _default_lock
    _default, _default_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
