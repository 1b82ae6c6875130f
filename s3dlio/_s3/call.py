"""One request and its attempts: how many were made, and how much time is left.

A record with a clock. `service` creates it; `attempts`, `race` and `running` read it.
"""

from __future__ import annotations

import time

from .._net.addresses import Endpoint, Origin
from ..config import RetryPolicy
from ..errors import TimeoutError
from . import retry
from .failures import NOT_SIGNED, Failed
from .requests import Request


class Call:
    """One request and the attempts made for it so far.

    Attributes:
        attempt: the number of the current attempt.
        uncertain: how many attempts may have taken effect.
        taken: tokens that the last retry took from the quota.
        corrected: when region, clock or credentials were corrected, by kind.
        signed: what the current attempt was signed with.
        origin: where the current attempt was sent; None before the first one.
        attempt_began: when, by `time.monotonic`.
        failed: the last attempt that failed; None for none.
        tried: the endpoints that failed.
    """

    def __init__(self, request: Request, policy: RetryPolicy) -> None:
        self.request = request
        self.attempt = 0
        self.uncertain = request.uncertain
        self.taken = 0
        self.corrected: dict[str, float] = {}
        self.signed = NOT_SIGNED
        self.origin: Origin | None = None
        self.failed: Failed | None = None
        self.tried: set[Endpoint] = set()
        self._deadline = policy.deadline
        self._started = self.attempt_began = time.monotonic()

    def took_before(self, failed: Failed) -> None:
        """Counts an attempt that was made in a series."""
        self._started -= failed.took
        if failed.failed_at is not None:
            self.tried.add(failed.failed_at)
        if failed.unseen:  # else it is counted as the first attempt
            self.uncertain += failed.may_have_taken_effect

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._started

    @property
    def left(self) -> float | None:
        """Seconds to the caller's deadline; None without one."""
        return None if self._deadline is None else max(0.0, self._deadline - self.elapsed)

    def out_of_time(self) -> Failed:
        error = TimeoutError(f"the deadline of {self._deadline:g} s has passed")
        return Failed(retry.Failure.TIMEOUT, error, sent=True)
