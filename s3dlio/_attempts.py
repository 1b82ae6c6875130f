"""One request's way through its attempts, and how an exchange is run, cut short and judged by how it ended.

It sends nothing itself and decides nothing about retries. Only `_client` calls it.
"""

from __future__ import annotations

import errno
import ssl
import time

from . import _retry
from ._drivers import drivers
from ._exchange import Exchange, Outcome
from ._failures import Failed
from ._requests import Request
from .config import RetryPolicy
from .errors import TimeoutError, TransportError


class Call:
    """One request's way through its attempts."""

    def __init__(self, request: Request, policy: RetryPolicy) -> None:
        self.request = request
        self.attempt = 0
        self.uncertain = False
        self.taken = 0
        self.corrected: set[str] = set()
        self._deadline = policy.deadline
        self._started = time.monotonic()

    def took_before(self, failed: Failed) -> None:
        """An attempt was made as one of a series."""
        self._started -= failed.took
        self.uncertain = failed.may_have_taken_effect

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._started

    @property
    def left(self) -> float | None:
        """Seconds to the caller's deadline; None without one."""
        return None if self._deadline is None else max(0.0, self._deadline - self.elapsed)

    def out_of_time(self) -> Failed:
        error = TimeoutError(f"the deadline of {self._deadline:g} s has passed")
        return Failed(_retry.Failure.TIMEOUT, error, sent=True)


def run(exchange: Exchange, timeout: float | None, *, cancel: bool = True) -> bool:
    """Hands the exchange to a driver, if none has it, and sleeps until it ends; an interrupt ends it first.

    Returns:
        False if `timeout` seconds were not enough; the exchange was cancelled then, if `cancel` says so.
    """
    try:
        if exchange.submittable:
            drivers().submit(exchange)
        in_time = exchange.wait(timeout)
    except BaseException:
        end(exchange)
        raise
    if not in_time and cancel:
        end(exchange)
    return in_time


def end(exchange: Exchange) -> bool:
    """Cuts an exchange short; then its driver has let go of the caller's memory. False where it had ended well."""
    exchange.cancel()
    exchange.wait(None)
    return exchange.outcome != Outcome.COMPLETE


def connect_failure(error: TransportError) -> _retry.Failure:
    if isinstance(error, TimeoutError):
        return _retry.Failure.TIMEOUT
    if isinstance(error.__cause__, ssl.SSLCertVerificationError):
        return _retry.Failure.UNTRUSTED
    return _retry.Failure.CONNECT


def closed_unused(exchange: Exchange) -> bool:
    """Whether the peer closed the connection without a byte of answer, as one does that had timed out idle."""
    if exchange.outcome == Outcome.CLOSED_BEFORE_RESPONSE:
        return True
    broken = exchange.outcome in (Outcome.SEND_ERROR, Outcome.RECEIVE_ERROR)
    reset = isinstance(exchange.error, OSError) and exchange.error.errno in (errno.EPIPE, errno.ECONNRESET)
    return broken and reset and not exchange.head_bytes
