"""A second attempt beside one that lags far behind similar requests: the first good response counts.

It ends the other one, and never retries. `hedging` decides when an attempt lags and what a second one may cost. Only
`attempts` starts races.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from .._net.addresses import Target
from .._net.drivers import drivers
from .._net.exchange import Outcome
from ..errors import TransportError
from .attempt import Attempt
from .call import Call
from .failures import Failed, Result
from .hedging import Pace
from .requests import CancelScope
from .running import receive, run

if TYPE_CHECKING:
    from .._net.connections import Connections, Lease

log = logging.getLogger("s3dlio")


class Maker(Protocol):
    """Begins attempts and turns ended ones into results."""

    def begin(self, call: Call, target: Target, lease: Lease, *, aside: bool = False) -> Attempt: ...

    def conclude(self, call: Call, attempt: Attempt, lease: Lease, scope: CancelScope) -> Result: ...


class Race:
    """One attempt, and a second one beside it if the first one lags.

    Args:
        target: tells where a second attempt goes.
        first: an attempt that has not begun; the scope knows its exchange.
    """

    def __init__(
        self,
        maker: Maker,
        connections: Connections,
        pace: Pace,
        call: Call,
        target: Callable[[], Target],
        first: Attempt,
        scope: CancelScope,
    ) -> None:
        self._maker = maker
        self._connections = connections
        self._pace = pace
        self._call = call
        self._target = target
        self._first = first
        self._scope = scope

    def run(self) -> Result | None:
        """Runs the first attempt until it lags, and from then on a second one beside it.

        Returns:
            The result of the second, if that one counts: the first was then cut short. None if the first counts; it has
            ended, or still runs.
        """
        call, request = self._call, self._call.request
        size = 0 if request.on_head is not None else request.payload
        patience = self._pace.patience(request.operation, size) if request.may_be_sent_twice else None
        if patience is None or (call.left is not None and call.left < patience):
            return None
        if self._first_ends_within(patience) or not self._pace.may_send_twice(request.operation, size):
            return None
        log.info("%s lags for %.1f s; a second attempt starts beside it", request.operation, patience)
        target = self._target()
        with (
            contextlib.suppress(TransportError),
            self._connections.lease(
                target.origin, no_wait=True, check=self._check_first_runs, within=call.left
            ) as lease,
        ):
            return self._run_both(lease, target)
        return None

    def _check_first_runs(self) -> None:
        self._scope.check()
        if self._first.exchange.wait(0):
            raise TransportError("the first attempt has ended")

    def _first_ends_within(self, patience: float) -> bool:
        """Whether it ends in so many seconds, or, if its destination is not known beforehand, reaches its head."""
        exchange, until = self._first.exchange, time.monotonic() + patience
        if not run(exchange, patience, cancel=False):
            return False
        if exchange.outcome != Outcome.HEAD_READY or self._first.request.into is None:
            return True
        self._first.begin_body()
        return run(exchange, max(0.0, until - time.monotonic()), cancel=False)

    def _run_both(self, lease: Lease, target: Target) -> Result | None:
        call, request, exchange = self._call, self._call.request, self._first.exchange
        # The second receives into memory of its own: the destination belongs to the first until the first releases it.
        second = self._maker.begin(call, target, lease, aside=request.into is not None)
        second.exchange.put_beside(exchange)
        self._scope.enter(second.exchange)
        try:
            drivers().submit(second.exchange)
            while exchange.wait_beside(second.exchange, call.left):
                if exchange.wait(0):
                    if exchange.outcome != Outcome.HEAD_READY or request.into is None:
                        return None
                    self._first.begin_body()
                    drivers().submit(exchange)
                elif second.exchange.wait(0):
                    if request.asked is not None and not second.fits():
                        return None
                    if second.exchange.outcome == Outcome.HEAD_READY and request.into is not None:
                        second.begin_body()
                        drivers().submit(second.exchange)
                    else:
                        return self._conclude_second(second, lease)
            return None
        finally:
            try:
                second.exchange.end()
            finally:
                self._scope.leave(second.exchange)

    def _conclude_second(self, second: Attempt, lease: Lease) -> Result | None:
        """The result of the second, after the first was cut short; None if the first counts."""
        call, request, first = self._call, self._call.request, self._first.exchange
        if request.on_head is not None:  # from here on the body's destination is the second's
            if not first.end():
                return None
            if second.exchange.outcome == Outcome.HEAD_READY and not receive(call, second):
                return call.out_of_time()
            return self._maker.conclude(call, second, lease, self._scope)
        result = self._maker.conclude(call, second, lease, self._scope)
        if isinstance(result, Failed) or not first.end():
            return None
        if request.into is not None:
            second.copy_to(request.into)
        return replace(result, body=b"", sent_twice=True)
