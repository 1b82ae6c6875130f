"""Observes the requests of one client: counts them, notes them in the operation log, and makes spans of them.

`service` and `attempts` tell it of every request once, when its outcome is known: a series of small ones together.
Nothing here waits, except for a file when the operation log is written.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from .._net.addresses import Origin
from .._net.operation_lines import series_lines
from .._runtime.operation_log import OperationLog, escaped, operation_log
from .._values.environment import operation_log_path
from ..errors import S3Error
from ..results import OperationStats
from .call import Call
from .failures import Failed
from .requests import Cancelled, Request, Response
from .series import Series

_NANOSECONDS = 1e-9
# Modules of OpenTelemetry: spans are made where a program has loaded its SDK.
_SDK, _API = "opentelemetry.sdk.trace", "opentelemetry.trace"


class _Counts:
    """The sums of one operation."""

    __slots__ = ("failures", "received", "requests", "retries", "seconds", "sent")

    def __init__(self) -> None:
        self.requests = self.retries = self.failures = self.sent = self.received = 0
        self.seconds = 0.0


class Observer:
    """What is known about the requests of one client."""

    def __init__(self) -> None:
        self._counts: dict[str, _Counts] = {}
        self._log: OperationLog | None = None
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Also in a forked child, where the sums of the parent go on, and its log is another one's."""
        self._lock = threading.Lock()
        self._log = None

    def follow_environment(self) -> None:
        """Takes the operation log that the environment names now.

        Raises:
            ConfigurationError: it cannot be written.
        """
        self._log = operation_log(operation_log_path())

    def stats(self) -> dict[str, OperationStats]:
        """The sums of each operation."""
        with self._lock:
            return {
                name: OperationStats(
                    one.requests, one.retries, one.failures, one.sent, one.received, round(one.seconds, 6)
                )
                for name, one in sorted(self._counts.items())
            }

    def note(self, call: Call, result: Response | Failed | None, error: BaseException | None = None) -> None:
        """Notes one request.

        Args:
            result: its response, or its last failed attempt; None where it had none.
            error: what is raised to the caller, if its outcome is a failure.
        """
        request, seconds, retries = call.request, call.elapsed, max(0, call.attempt - 1)
        failed = error is not None
        received = result.received if isinstance(result, Response) and not failed else 0
        with self._lock:
            counts = self._counts_of(request.operation)
            counts.requests += 1
            counts.retries += retries
            counts.failures += failed
            counts.seconds += seconds
            if not failed:
                counts.sent += request.body_length
                counts.received += received
        if self._log is None and _SDK not in sys.modules:
            return
        status = None if result is None else result.status
        head_came = 0 if result is None else result.head_came
        first_byte = None if not head_came else head_came * _NANOSECONDS - call.attempt_began
        if self._log is not None:
            self._log.add(
                _line(request, seconds, request.body_length or received, status, first_byte, call, _name_of(error))
            )
        if _SDK in sys.modules:
            _make_span(request, time.time_ns(), seconds, status, retries, call.origin, error)

    def note_series(
        self, requests: Sequence[Request], series: Series, sent: Sequence[int], began: float, origin: Origin
    ) -> None:
        """Notes the requests of a series that have their responses.

        Args:
            sent: bytes of the body of each of them.
            began: when the series began, by `time.monotonic`.
        """
        done = series.responses
        first = requests[0]
        with self._lock:
            counts = self._counts_of(first.operation)
            counts.requests += len(done)
            counts.seconds += time.monotonic() - began
            counts.received += sum([one.received for one in done])
            counts.sent += sum(sent)
        if self._log is None and _SDK not in sys.modules:
            return
        wall, start = time.time_ns() - time.monotonic_ns(), int(began * 1e9)
        if self._log is not None:
            self._log.add(
                series_lines(
                    series.exchange,
                    [one.key for one in requests[: len(done)]],
                    list(sent) if first.method == "PUT" else None,
                    f"\t{first.operation}\t{first.bucket}\t".encode(),
                    f"\t1\t{origin.host}:{origin.port}\t-\n".encode(),
                    escaped,
                    wall,
                    start,
                )
            )
        if _SDK in sys.modules:
            for request, response, (_, ended) in zip(requests, done, series.times, strict=False):
                _make_span(request, wall + ended, (ended - start) * _NANOSECONDS, response.status, 0, origin, None)
                start = ended

    def _counts_of(self, operation: str) -> _Counts:
        counts = self._counts.get(operation)
        if counts is None:
            counts = self._counts[operation] = _Counts()
        return counts


def _line(
    request: Request, seconds: float, moved: int, status: int | None, first_byte: float | None, call: Call, error: str
) -> bytes:
    """One line of the operation log; a hyphen stands for what is not known."""
    at = time.time() - seconds
    first = "-" if first_byte is None else f"{max(0.0, first_byte):.6f}"
    place = "-" if call.origin is None else f"{call.origin.host}:{call.origin.port}"
    return (
        f"{at:.6f}\t{request.operation}\t{request.bucket or '-'}\t{escaped(request.key) or '-'}\t{moved}\t"
        f"{status or '-'}\t{first}\t{seconds:.6f}\t{call.attempt}\t{place}\t{error}\n"
    ).encode()


def _name_of(error: BaseException | None) -> str:
    if error is None:
        return "-"
    if isinstance(error, S3Error) and error.code:
        return escaped(error.code)
    return "Cancelled" if isinstance(error, Cancelled) else type(error).__name__


def _make_span(
    request: Request,
    ended: int,
    seconds: float,
    status: int | None,
    retries: int,
    origin: Origin | None,
    error: BaseException | None,
) -> None:
    """A span of OpenTelemetry, by its conventions for AWS SDKs and S3, in the context of the thread.

    Source: https://opentelemetry.io/docs/specs/semconv/object-stores/s3/
    """
    trace: Any = sys.modules.get(_API)
    if trace is None:
        return
    attributes: dict[str, Any] = {"rpc.system": "aws-api", "rpc.service": "S3", "rpc.method": request.operation}
    found = {
        "aws.s3.bucket": request.bucket,
        "aws.s3.key": request.key,
        "aws.s3.upload_id": request.upload_id,
        "aws.s3.part_number": request.part_number,
        "http.response.status_code": status,
        "http.request.resend_count": retries,
        "server.address": None if origin is None else origin.host,
        "server.port": None if origin is None else origin.port,
        "error.type": None if error is None else _name_of(error),
    }
    attributes |= {name: value for name, value in found.items() if value}
    began = ended - int(seconds * 1e9)
    span = trace.get_tracer("s3dlio").start_span(
        f"S3.{request.operation}", kind=trace.SpanKind.CLIENT, attributes=attributes, start_time=began
    )
    if error is not None:
        span.set_status(trace.StatusCode.ERROR, str(error))
    span.end(ended)
