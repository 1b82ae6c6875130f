"""Many small requests one after the other on one connection, without a return to Python between them.

The native loop runs them; this module gives bodies their destinations and returns the responses. It never retries: the
caller deals with a request whose response is not a complete 2xx. Only `attempts` calls it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .._net.drivers import drivers
from .._net.exchange import Exchange, Outcome
from .._net.http import OrdinaryHeaders
from ..config import Timeouts
from .requests import CancelScope, Request, Response

if TYPE_CHECKING:
    from .._net.connections import Lease

# Provides memory for bodies: called with the length of the next body and the number of bodies still to come, it returns
# a buffer and an offset in it, with room for at least that body from there on.
Room = Callable[[int, int], tuple[Any, int]]


class Limit(NamedTuple):
    """How long one request of a series may take.

    Attributes:
        seconds: from the response before it, or from the start of the series.
        may_cut: whether a request that takes longer may be cut short.
        spent: seconds that the first one had used before the series started.
    """

    seconds: float
    may_cut: Callable[[], bool]
    spent: float = 0.0


class Series:
    """One run of requests on a leased connection.

    Args:
        room: provides memory for bodies.
        expected: expected length of the first body; 0 if unknown.
        request_ids_differ: the store gives each response another request id.

    Attributes:
        exchange: the native series, ended.
        responses: those of the first requests, all of them complete 2xx.
        cut: the request after those was cut short, because it took too long or there is no memory for its body; sent
            alone, it shows which.
        took: seconds that it took, in the first case.
        last_head: head of the last of those responses; empty for none.
    """

    def __init__(
        self,
        lease: Lease,
        head_bytes: Sequence[bytes],
        requests: Sequence[Request],
        room: Room,
        expected: int,
        timeouts: Timeouts,
        request_ids_differ: bool,
    ) -> None:
        self._count = len(requests)
        self._room = room
        self._destinations: list[tuple[int, Any, int]] = []
        self.responses: list[Response] = []
        self.cut = False
        self.took = 0.0
        self.last_head = b""
        self._seen = 0
        self._since = 0.0
        self.exchange = Exchange(
            lease.sock,
            head_bytes[0],
            requests[0].body,
            followed_by=[(head, request.body) for head, request in zip(head_bytes[1:], requests[1:], strict=True)],
            into=self._destination(0, expected),
            reused=lease.reused,
            previous_head=lease.previous_head if request_ids_differ else None,
            send_timeout=timeouts.send,
            first_byte_timeout=timeouts.first_byte,
            idle_timeout=timeouts.idle,
        )

    def run(self, scope: CancelScope, limits: Sequence[Limit]) -> None:
        """Runs it to the end, or up to a request that took too long or whose response is not a complete 2xx.

        Args:
            limits: the shortest first. If a request that took longer must not be cut short, the next limit applies;
                after the last one, it is waited for.
        """
        exchange = self.exchange
        self._since = time.monotonic()
        scope.enter(exchange)
        try:
            while True:
                drivers().submit(exchange)
                passed = next((one for one in limits if not self._advances(one) and one.may_cut()), None)
                if passed is not None:
                    self.took = time.monotonic() - self._since + (passed.spent if self._seen == 0 else 0.0)
                    exchange.end()
                    self.cut = exchange.outcome == Outcome.CANCELLED and not scope.cancelled
                exchange.wait(None)
                if exchange.outcome != Outcome.HEAD_READY:
                    break
                try:
                    destination = self._destination(exchange.completed, exchange.content_length)
                except Exception:
                    exchange.end()
                    self.cut = not scope.cancelled
                    break
                exchange.continue_into(destination)
        except BaseException:
            exchange.end()
            raise
        finally:
            scope.leave(exchange)
        self._collect()

    @property
    def times(self) -> list[tuple[int, int]]:
        """When the head of each of `responses` was there, and when it ended, by `time.monotonic_ns`."""
        times = self.exchange.times
        if len(times) < len(self.responses):
            times.append((self.exchange.head_came, time.monotonic_ns()))
        return times

    def _advances(self, limit: Limit) -> bool:
        """Waits; False once one request took longer than the limit, which is checked four times in that time."""
        while True:
            patience = limit.seconds - (limit.spent if self._seen == 0 else 0.0)
            left = self._since + patience - time.monotonic()
            if self.exchange.wait(max(0.001, min(limit.seconds / 4, left))):
                return True
            if self.exchange.completed != self._seen:
                self._seen, self._since = self.exchange.completed, time.monotonic()
            elif time.monotonic() - self._since >= patience:
                return False

    def _destination(self, completed: int, length: int) -> Any:
        if length == 0:
            return bytearray()
        buffer, start = self._room(length, self._count - completed)
        self._destinations.append((completed, buffer, start))
        return memoryview(buffer)[start:]

    def _collect(self) -> None:
        destinations = self._destinations
        for number, (status, head, offset, length) in enumerate(self.exchange.responses):
            while len(destinations) > 1 and destinations[1][0] <= number:
                destinations.pop(0)
            body_at = (destinations[0][1], destinations[0][2] + offset) if length else None
            self.last_head = head
            self.responses.append(Response(status, OrdinaryHeaders(head), b"", length, 1, 0, body_at=body_at))
