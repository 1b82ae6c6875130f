"""Races an exchange that lags far behind its like with a second one of the same request, on another connection.

`hedging` says when that is worth it. The destination belongs to the first exchange until that has ended: what the
second one receives before lies aside. A download's first response has no destination before its head is there, and is
raced only until then.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from .._net.addresses import Target
from .._net.drivers import drivers
from .._net.exchange import Exchange, Outcome
from ..errors import TransportError
from .call import Call
from .exchanges import Exchanges, receive, run
from .failures import Failed
from .hedging import Pace
from .requests import CancelScope, Response
from .sending import Sending

if TYPE_CHECKING:
    from .._net.connections import Connections, Lease

log = logging.getLogger("s3dlio")

# Seconds between two looks at which of two exchanges has ended.
RACE_SLICE = 0.01


class Race:
    """Second exchanges of one client's requests."""

    def __init__(self, exchanges: Exchanges, pace: Pace, connections: Connections) -> None:
        self._exchanges = exchanges
        self._pace = pace
        self._connections = connections

    def run(self, call: Call, target: Target, sending: Sending, scope: CancelScope) -> Response | Failed | None:
        """Runs an exchange up to where it lags behind its like, and a second one beside it from then on.

        Returns:
            How the second one ended, where that was first to be good; then the exchange has been cut short.
        """
        request = call.request
        size = 0 if request.on_head is not None else request.payload
        patience = self._pace.patience(request.operation, size) if request.may_be_sent_twice else None
        if patience is None or (call.left is not None and call.left < patience):
            return None
        if self._ends_within(patience, sending) or not self._pace.may_send_twice(request.operation, size):
            return None
        log.info("%s lags for %.1f s; it is sent a second time", request.operation, patience)

        def still_wanted() -> None:
            scope.check()
            if sending.exchange.wait(0):
                raise TransportError("the first sending has ended")

        with (
            contextlib.suppress(TransportError),
            self._connections.lease(target.origin, at_once=True, check=still_wanted, within=call.left) as lease,
        ):
            return self._race(call, target, sending, lease, scope)
        return None

    def _ends_within(self, patience: float, sending: Sending) -> bool:
        """Whether it ends in so many seconds, or comes to its head where its place is not known beforehand."""
        exchange, until = sending.exchange, time.monotonic() + patience
        if not run(exchange, patience, cancel=False):
            return False
        if exchange.outcome != Outcome.HEAD_READY or sending.request.into is None:
            return True
        sending.begin_body()
        return run(exchange, max(0.0, until - time.monotonic()), cancel=False)

    def _race(
        self, call: Call, target: Target, first: Sending, lease: Lease, scope: CancelScope
    ) -> Response | Failed | None:
        request, exchange = call.request, first.exchange
        # What it receives goes to memory of its own: the place belongs to the first until that has let go of it.
        second = self._exchanges.begin(call, target, lease, aside=request.into is not None)
        scope.enter(second.exchange)
        try:
            drivers().submit(second.exchange)
            while call.left != 0:
                if exchange.wait(RACE_SLICE):
                    if exchange.outcome != Outcome.HEAD_READY or request.into is None:
                        return None
                    first.begin_body()
                    drivers().submit(exchange)
                elif second.exchange.wait(0):
                    if request.asked is not None and not second.fits():
                        return None
                    if second.exchange.outcome == Outcome.HEAD_READY and request.into is not None:
                        second.begin_body()
                        drivers().submit(second.exchange)
                    else:
                        return self._second(call, exchange, second, lease, scope)
            return None
        finally:
            try:
                second.exchange.end()
            finally:
                scope.leave(second.exchange)

    def _second(
        self, call: Call, exchange: Exchange, second: Sending, lease: Lease, scope: CancelScope
    ) -> Response | Failed | None:
        """How the second of two sendings ended, once the first was cut short; None where the first counts."""
        request = call.request
        if request.on_head is not None:  # from here on the body's place is the second's
            if not exchange.end():
                return None
            if second.exchange.outcome == Outcome.HEAD_READY and not receive(call, second):
                return call.out_of_time()
            return self._exchanges.conclude(call, second, lease, scope)
        answer = self._exchanges.conclude(call, second, lease, scope)
        if isinstance(answer, Failed) or not exchange.end():
            return None
        if request.into is not None:
            second.copy_to(request.into)
        return replace(answer, body=b"", sent_twice=True)
