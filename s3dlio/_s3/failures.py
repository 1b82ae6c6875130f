"""What went wrong with one attempt, as a value: `retry` classifies it, and the caller gets it as an exception.

It holds no traceback and no payload. Only `attempts` makes these; `responses` makes errors of its own with `s3_error`.
"""

from __future__ import annotations

import builtins
import re
import time
from typing import NamedTuple, Protocol

from .._net.addresses import Endpoint
from .._net.exchange import Exchange, Outcome
from .._net.http import Headers
from .._runtime.kept_errors import without_traceback
from .._values.redaction import redacted
from .._values.timestamps import parse_timestamp
from ..config import ClientSettings
from ..errors import (
    AccessDeniedError,
    InvalidRangeError,
    NotFoundError,
    PreconditionFailedError,
    S3Error,
    ThrottledError,
    TimeoutError,
    TransportError,
)
from . import retry, xml
from .content_range import parse_unsatisfied_range
from .credentials import Credentials
from .requests import Response


class Named(Protocol):
    """What an error says about its request."""

    operation: str
    bucket: str | None
    key: str
    upload_id: str | None
    part_number: int | None


_FAILURES = {
    Outcome.CLOSED_BEFORE_RESPONSE: (
        retry.Failure.CLOSED,
        "the peer closed the connection without a response",
    ),
    Outcome.CLOSED_IN_RESPONSE: (
        retry.Failure.CLOSED,
        "the peer closed the connection in the middle of its response",
    ),
    Outcome.SEND_ERROR: (retry.Failure.SEND, "sending failed"),
    Outcome.RECEIVE_ERROR: (retry.Failure.RECEIVE, "receiving failed"),
    Outcome.SEND_TIMEOUT: (retry.Failure.TIMEOUT, "the peer accepted no byte for {send:g} s"),
    Outcome.FIRST_BYTE_TIMEOUT: (retry.Failure.TIMEOUT, "no response came for {first_byte:g} s"),
    Outcome.IDLE_TIMEOUT: (retry.Failure.TIMEOUT, "the response stopped for {idle:g} s"),
    Outcome.HEAD_TOO_LARGE: (retry.Failure.GARBAGE, "the head of the response is larger than 64 KiB"),
    Outcome.GARBAGE: (retry.Failure.GARBAGE, "the response is not HTTP/1.1"),
    Outcome.EARLY_SUCCESS: (retry.Failure.GARBAGE, "the peer reported success before it had the request"),
    Outcome.OUT_OF_STEP: (retry.Failure.GARBAGE, "the response belongs to an earlier request on the connection"),
}


# How much of a response that is not S3's XML an error shows: enough to recognise a login page or a gateway.
SHOWN_BYTES = 80
# How much of it is read for that, so that a page of megabytes costs nothing.
_LOOKED_AT = 4096
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?")


class SignedWith(NamedTuple):
    """What an attempt was signed with: its response is compared with that, not with what is known by then.

    Attributes:
        region: the region signed for; without a signature, it still selects Amazon's endpoint.
        credentials: None for anonymous access.
        clock_offset: seconds that the store's clock was believed to be ahead of ours.
    """

    region: str
    credentials: Credentials | None
    clock_offset: float


NOT_SIGNED = SignedWith("", None, 0.0)


class Failed:
    """One failed attempt: either a response of the store or a failure of the transport.

    Attributes:
        signed: what the attempt was signed with; None if it was not.
    """

    signed: SignedWith | None = None

    def __init__(self, failure: retry.Failure | None, error: Exception | None, *, sent: bool = False) -> None:
        self.failure = failure
        self.error = None if error is None else without_traceback(error)
        self.status: int | None = None
        self.code: str | None = None
        self.message: str | None = None
        self.request_id: str | None = None
        self.host_id: str | None = None
        self.region: str | None = None
        self.headers: Headers = {}
        self.at = time.time()
        self.may_have_taken_effect = sent and failure is not None
        # Says nothing about the request, as when the server had closed the pooled connection; not counted.
        self.unseen = False
        # A 2xx that cannot be the store's own response, and whether it had a body.
        self.unreadable = self.body = False
        # Failed because its pooled connection was stale, and whether the request had been sent.
        self.stale_connection = self.request_sent = False
        # Seconds that the attempt took, if it was one of a series.
        self.took = 0.0
        # As of a `Response`.
        self.head_came = 0
        # The endpoint of a series that failed by it, and whether a healthy one was not tried yet.
        self.failed_at: Endpoint | None = None
        self.others_serve = False

    @classmethod
    def of_exchange(cls, exchange: Exchange, settings: ClientSettings) -> Failed:
        kind, text = _FAILURES[Outcome(exchange.outcome)]
        times = settings.timeouts
        text = text.format(send=times.send, first_byte=times.first_byte, idle=times.idle)
        error_class = TimeoutError if kind is retry.Failure.TIMEOUT else TransportError
        error = error_class(text)
        error.__cause__ = exchange.error
        # A peer that claims success may have accepted the request, however little of it was sent.
        return cls(kind, error, sent=exchange.request_sent or exchange.outcome == Outcome.EARLY_SUCCESS)

    @classmethod
    def of_response(cls, response: Response, sent: bool) -> Failed:
        headers, body = response.headers, response.body
        failed = cls(None, None, sent=sent)
        failed.status, failed.head_came = response.status, response.head_came
        failed.headers = headers
        failed.request_id = headers.get("x-amz-request-id")
        failed.host_id = headers.get("x-amz-id-2")
        document = xml.parse_error(body) if body else None
        if document is not None:
            failed.code, failed.message, failed.region = document.code, document.message, document.region
            failed.request_id = failed.request_id or document.request_id
            failed.host_id = failed.host_id or document.host_id
        else:
            # The response to a HEAD has no document; MinIO puts this much into headers.
            failed.code = headers.get("x-minio-error-code") or None
            failed.message = headers.get("x-minio-error-desc", "").strip('" ') or described(headers, body)
        place = headers.get("location") or (document.endpoint if document is not None else None)
        if place:
            points = f"it points to {_printable(place)}"
            failed.message = points if failed.message is None else f"{failed.message.rstrip('.')}; {points}"
        # A gateway that gives up (5xx) may have passed the request on.
        failed.may_have_taken_effect = response.status >= 500
        return failed

    @classmethod
    def of_doubt(cls, response: Response, doubt: str) -> Failed:
        """A 2xx that cannot be read: whether the request took effect is unknown."""
        text = f"the response with status {response.status} cannot be read: {doubt}"
        failed = cls(retry.Failure.GARBAGE, TransportError(text), sent=True)
        failed.unreadable, failed.body = True, bool(response.received or response.body)
        return failed

    @property
    def date(self) -> float | None:
        """The store's time in the response, in seconds since the epoch; None if absent or unreadable."""
        moment = parse_timestamp(self.headers.get("date"))
        return None if moment is None else moment.timestamp()

    @property
    def retry_after(self) -> float:
        """Retry-After in seconds, given as a number or a date (RFC 9110, section 10.2.3); 0 if absent or unreadable.

        A date counts from the Date of the response, or from our clock if it has none.
        """
        text = self.headers.get("retry-after", "").strip()
        number, _, again = text.partition(", ")
        if _SECONDS.fullmatch(number) and again in ("", number):
            return float(number)
        until = parse_timestamp(text)
        if until is None:
            return 0.0
        date = self.date
        return max(0.0, until.timestamp() - (self.at if date is None else date))

    def __str__(self) -> str:
        return str(self.error) if self.error else f"status {self.status} ({self.code})"

    def as_error(self, request: Named, attempts: int, elapsed: float, uncertain: int) -> S3Error | TransportError:
        """The exception for the caller. Don't bind it to a local when raising: that makes a reference cycle."""
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


# The result of an attempt.
Result = Response | Failed


def described(headers: Headers, body: bytes) -> str | None:
    """Describes a body that is not S3's XML, so that the user can find out which machine sent it; None if empty."""
    text = _printable(body[:_LOOKED_AT].decode("utf-8", "replace"))
    if not text:
        return None
    kind = _printable(headers.get("content-type", ""))
    return f"the response is not S3's XML{f' but {kind}' if kind else ''}, and begins {text!r}"


def _printable(text: str) -> str:
    """The first printable characters on one line. Secrets are removed before the cut, which could hide one."""
    clean = redacted(" ".join("".join(c if c.isprintable() else " " for c in text).split()))
    return clean if len(clean) <= SHOWN_BYTES else f"{clean[:SHOWN_BYTES]}..."


def s3_error(
    request: Named,
    status: int,
    code: str | None,
    message: str | None,
    request_id: str | None = None,
    host_id: str | None = None,
    attempts: int = 1,
) -> S3Error:
    """The exception for a response, of the class for its status and code."""
    error_class: type[S3Error] = {
        401: AccessDeniedError,
        403: AccessDeniedError,
        404: NotFoundError,
        412: PreconditionFailedError,
        416: InvalidRangeError,
    }.get(status, S3Error)
    if code in retry.THROTTLE_CODES or status in retry.THROTTLE_STATUSES:
        error_class = ThrottledError
    elif code == "ConditionalRequestConflict":
        error_class = PreconditionFailedError
    elif code == "InvalidObjectState":
        message = f"{(message or 'it is not readable now').rstrip('.')}; the object is archived: restore it first"
    return error_class(
        request.operation, request.bucket, request.key or None, status, code, message, request_id, host_id,
        request.upload_id, request.part_number, attempts,
    )  # fmt: skip
