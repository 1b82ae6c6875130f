"""One request on its way through its attempts: how many there were, what they may have done, and the time that is left.

Values only; `service` counts, and every wait of an attempt asks for the time left.
"""

from __future__ import annotations

import time

from ..config import RetryPolicy
from ..errors import TimeoutError
from . import retry
from .failures import NOT_SIGNED, Failed
from .requests import Request


class Call:
    """One request's way through its attempts."""

    def __init__(self, request: Request, policy: RetryPolicy) -> None:
        self.request = request
        self.attempt = 0
        self.uncertain = request.uncertain
        self.taken = 0
        self.corrected: dict[str, float] = {}
        self.signed = NOT_SIGNED
        self._deadline = policy.deadline
        self._started = time.monotonic()

    def took_before(self, failed: Failed) -> None:
        """An attempt was made as one of a series."""
        self._started -= failed.took
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
