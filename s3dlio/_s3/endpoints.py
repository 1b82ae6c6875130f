"""The endpoints of one store, and which of them the next attempt goes to.

An attempt goes to the healthy endpoint with the fewest requests in flight. One that failed is set aside, longer each
time, and then tried by one attempt. Where all are set aside, the one whose time ends first is tried. `attempts` asks.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

from .._net.addresses import Endpoint, Origin
from . import retry
from .failures import Failed

log = logging.getLogger("s3dlio")

# Seconds for which an endpoint is set aside after its first failure, doubled by each further one, and at most.
FIRST_ASIDE, LONGEST_ASIDE = 1.0, 60.0
# What says nothing of the endpoint: a certificate or a proxy that would be the same for all.
_OF_OURS = frozenset({retry.Failure.UNTRUSTED, retry.Failure.PROXY})


class _State:
    """What is known of one endpoint."""

    __slots__ = ("aside_until", "failures", "in_flight", "taken_last", "trial")

    def __init__(self) -> None:
        self.in_flight = self.taken_last = self.failures = 0
        self.aside_until = 0.0
        # Whether the one attempt that tries it again is in flight.
        self.trial = False


class Taken(NamedTuple):
    """An endpoint for one attempt.

    Attributes:
        requests: how many the attempt has.
        trial: it tries an endpoint that had failed.
    """

    endpoint: Endpoint
    requests: int
    trial: bool = False


class Endpoints:
    """One or more endpoints that lead to the same store."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.all = tuple(dict.fromkeys(endpoints))
        self._lock = threading.Lock()
        self._states = {one: _State() for one in self.all}
        self._count = 0

    @property
    def first(self) -> Endpoint:
        """The first one: it stands for the store where one address is needed, as in a presigned URL."""
        return self.all[0]

    def take(self, tried: Collection[Endpoint], requests: int = 1) -> Taken:
        """The endpoint for an attempt, which `give` ends. Of those equally loaded, it is the one unused for longest.

        Args:
            tried: endpoints where earlier attempts failed; they are taken if there is no other.
            requests: how many requests the attempt has.
        """
        if len(self.all) == 1:
            return Taken(self.first, requests)
        now = time.monotonic()
        with self._lock:
            usable = [one for one in self.all if self._usable(self._states[one], now)]
            choice = [one for one in usable if one not in tried] or usable
            if choice:
                chosen = min(choice, key=lambda one: (self._states[one].in_flight, self._states[one].taken_last))
            else:
                chosen = min(self.all, key=lambda one: (one in tried, self._states[one].aside_until))
            state = self._states[chosen]
            state.trial = state.failures > 0
            state.in_flight += requests
            self._count += 1
            state.taken_last = self._count
            return Taken(chosen, requests, state.trial)

    def _usable(self, state: _State, now: float) -> bool:
        return not state.failures or (now >= state.aside_until and not state.trial)

    def give(self, taken: Taken, result: object) -> None:
        """Ends an attempt. What began before an endpoint failed proves nothing of it afterwards.

        Args:
            result: a `Failed` attempt may be the endpoint's fault; None where the attempt was cancelled.
        """
        if len(self.all) == 1:
            return
        failed = isinstance(result, Failed) and is_of_endpoint(result)
        endpoint = taken.endpoint
        with self._lock:
            state = self._states[endpoint]
            state.in_flight -= taken.requests
            before = state.failures
            if before and not taken.trial:  # many that fail together count once
                return
            state.trial = False
            if failed:
                state.failures = before + 1
                state.aside_until = time.monotonic() + min(LONGEST_ASIDE, FIRST_ASIDE * 2**before)
            elif result is not None:
                state.failures = 0
        if failed and not before:
            log.warning("endpoint %s:%d is set aside: %s", endpoint.host, endpoint.port, result)
        elif before and not failed and result is not None:
            log.info("endpoint %s:%d is used again", endpoint.host, endpoint.port)

    def beside(self, origin: Origin) -> Endpoint | None:
        """A healthy endpoint beside the one at `origin`; None where there is none."""
        if len(self.all) == 1:
            return None
        now = time.monotonic()
        with self._lock:
            usable = [
                one
                for one in self.all
                if (one.host, one.port) != (origin.host, origin.port) and self._usable(self._states[one], now)
            ]
            return min(usable, key=lambda one: self._states[one].in_flight, default=None)

    def has_other(self, tried: Collection[Endpoint]) -> bool:
        """Whether there is a healthy endpoint that is not among `tried`."""
        if len(self.all) == 1:
            return False
        now = time.monotonic()
        with self._lock:
            return any(one not in tried and self._usable(self._states[one], now) for one in self.all)


def is_of_endpoint(failed: Failed) -> bool:
    """Whether another endpoint of the same store may do better: it did not answer, or that it cannot serve."""
    if failed.unseen or failed.failure in _OF_OURS:
        return False
    return failed.failure is not None or (failed.status is not None and failed.status in (500, 502, 503, 504))
