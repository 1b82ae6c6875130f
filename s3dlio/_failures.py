"""What went wrong with one attempt, as a value: classified by `_retry`, told to the caller as an exception.

It holds no traceback and no payload. Only `_attempts` makes these; `_operations` makes errors of its own by `s3_error`.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Protocol

from . import _http, _retry, _xml
from ._exchange import Exchange, Outcome
from ._kept import without_traceback
from ._ranges import parse_unsatisfied_range
from .config import ClientSettings
from .errors import (
    AccessDeniedError,
    InvalidRangeError,
    NotFoundError,
    PreconditionFailedError,
    S3Error,
    ThrottledError,
    TimeoutError,
    TransportError,
)


class Named(Protocol):
    """What an error says about its request."""

    operation: str
    bucket: str | None
    key: str
    upload_id: str | None
    part_number: int | None


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


class Failed:
    """One failed attempt: either an answer of the store or a failure of the transport."""

    def __init__(self, failure: _retry.Failure | None, error: Exception | None, *, sent: bool = False) -> None:
        self.failure = failure
        self.error = None if error is None else without_traceback(error)
        self.status: int | None = None
        self.code: str | None = None
        self.message: str | None = None
        self.request_id: str | None = None
        self.host_id: str | None = None
        self.region: str | None = None
        self.headers: Mapping[str, str] = {}
        self.may_have_taken_effect = sent and failure is not None
        # It says nothing about the request, as of a pooled connection that the server had closed: no attempt.
        self.unseen = False
        # Seconds that the attempt took, where it was one of a series.
        self.took = 0.0

    @classmethod
    def of_exchange(cls, exchange: Exchange, settings: ClientSettings) -> Failed:
        kind, text = _FAILURES[Outcome(exchange.outcome)]
        times = settings.timeouts
        text = text.format(send=times.send, first_byte=times.first_byte, idle=times.idle)
        error_class = TimeoutError if kind is _retry.Failure.TIMEOUT else TransportError
        error = error_class(text)
        error.__cause__ = exchange.error
        return cls(kind, error, sent=exchange.request_sent)

    @classmethod
    def of_answer(cls, head: _http.ResponseHead, body: bytes, sent: bool) -> Failed:
        failed = cls(None, None, sent=sent)
        failed.status = head.status
        failed.headers = head.headers
        failed.request_id = head.headers.get("x-amz-request-id")
        failed.host_id = head.headers.get("x-amz-id-2")
        document = _xml.parse_error(body) if body else None
        if document is not None:
            failed.code, failed.message, failed.region = document.code, document.message, document.region
            failed.request_id = failed.request_id or document.request_id
            failed.host_id = failed.host_id or document.host_id
        # A gateway that gives up (5xx) may have passed the request on.
        failed.may_have_taken_effect = head.status >= 500
        return failed

    @property
    def date(self) -> float | None:
        """The store's clock when it answered, in seconds since the epoch."""
        return _instant(self.headers.get("date"))

    @property
    def retry_after(self) -> float:
        """Seconds that the store asks to be left alone: a number or a date (RFC 9110, section 10.2.3)."""
        text = self.headers.get("retry-after", "").strip()
        if text.isdecimal():
            return float(text)
        until, now = _instant(text), self.date
        return 0.0 if until is None or now is None else max(0.0, until - now)

    def __str__(self) -> str:
        return str(self.error) if self.error else f"status {self.status} ({self.code})"

    def as_error(self, request: Named, attempts: int, elapsed: float, uncertain: int) -> S3Error | TransportError:
        """What the caller is told. No frame of the raising may name it: that would be a cycle."""
        if self.status is not None:
            error = s3_error(request, self.status, self.code, self.message, self.request_id, self.host_id, attempts)
            error.uncertain, error.elapsed = uncertain, elapsed
            if isinstance(error, InvalidRangeError):
                error.object_size = parse_unsatisfied_range(self.headers.get("content-range"))
            return error
        place = "" if request.bucket is None else f" of s3://{request.bucket}/{request.key}"
        part = "" if request.part_number is None else f", part {request.part_number}"
        times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        text = f"{request.operation}{place}{part} failed after {times} in {elapsed:.1f} s: {self.error}"
        error_class = TimeoutError if isinstance(self.error, builtins.TimeoutError) else TransportError
        raised = error_class(text)
        raised.uncertain, raised.elapsed, raised.attempts = uncertain, elapsed, attempts
        return raised


def _instant(text: str | None) -> float | None:
    from email.utils import parsedate_to_datetime  # 10 ms that only failures need

    try:
        return None if not text else parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None


_THROTTLES = ("SlowDown", "TooManyRequests", "RequestLimitExceeded", "Throttling", "ThrottlingException")


def s3_error(
    request: Named,
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
