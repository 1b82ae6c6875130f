"""One exchange of a request: begun with a signed head, run by a driver, and concluded as a response or a failure.

It makes one attempt at one connection. Which connection, and whether another attempt follows, is decided above: by
`attempts`, and by `race`, which runs two exchanges of one request beside each other.
"""

from __future__ import annotations

import builtins
import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from .._net import http
from .._net.addresses import Target
from .._net.drivers import drivers
from .._net.exchange import Exchange, Outcome
from .._net.proxies import ProxyRefusedError
from ..config import ClientSettings
from . import retry, xml
from .call import Call
from .endpoint_state import EndpointState
from .failures import Failed
from .heads import write_heads
from .requests import Cancelled, CancelScope, Response
from .sending import Sending
from .signing import Signer

if TYPE_CHECKING:
    from .._net.connections import Lease

# A body from this many bytes on is followed while it comes, with seconds between two looks that depend on whether few
# bytes have come meanwhile: many downloads beside each other must not wake this process too often.
FOLLOWED = 16 << 20
FEW_BYTES = 4 << 20
SHORTEST_PAUSE, LONGEST_PAUSE = 0.002, 0.1


class Exchanges:
    """What makes the exchanges of one client's requests."""

    def __init__(self, settings: ClientSettings, signer: Signer, state: EndpointState) -> None:
        self._settings = settings
        self._signer = signer
        self._state = state

    def begin(self, call: Call, target: Target, lease: Lease, *, aside: bool = False) -> Sending:
        """One that has not begun. A GetObject's response pauses at its head, to be judged there."""
        request, timeouts = call.request, self._settings.timeouts
        exchange = Exchange(
            lease.sock,
            write_heads([request], [target], lease, self._signer, call.signed)[0],
            request.body,
            reused=lease.reused,
            previous_head=lease.previous_head if self._state.names_answers else None,
            no_body=request.method == "HEAD",
            pause_at_head=request.asked is not None,
            send_timeout=timeouts.send,
            first_byte_timeout=timeouts.first_byte,
            idle_timeout=timeouts.idle,
        )
        return Sending(exchange, request, aside=aside)

    def conclude(self, call: Call, sending: Sending, lease: Lease, scope: CancelScope) -> Response | Failed:
        """Turns an ended exchange into an answer or a failure, and gives the connection back if it is clean."""
        request, exchange = sending.request, sending.exchange
        outcome = exchange.outcome
        if outcome == Outcome.CANCELLED:
            raise Cancelled("the request was cancelled")
        if outcome not in (Outcome.COMPLETE, Outcome.UNUSUAL):
            return Failed.of_exchange(exchange, self._settings)
        try:
            head, response = sending.finish(
                lease.sock, self._settings.timeouts.idle, lambda: scope.cancelled or call.left == 0
            )
            if outcome == Outcome.COMPLETE and exchange.reusable:
                lease.keep(exchange.last_head)
            lease.ended = True
            self._state.heard(exchange.head_bytes, fresh=not lease.reused)
        except http.BadResponse as error:
            return Failed(retry.Failure.GARBAGE, error, sent=exchange.request_sent)
        except OSError as error:
            scope.check()
            if call.left == 0:
                return call.out_of_time()
            timed_out = isinstance(error, builtins.TimeoutError)
            kind = retry.Failure.TIMEOUT if timed_out else retry.Failure.RECEIVE
            return Failed(kind, error, sent=exchange.request_sent)
        if head.status == 407:
            return Failed(retry.Failure.PROXY, ProxyRefusedError.of_status(407, lease.proxy))
        refused = request.error_in_body and xml.parse_error(response.body) is not None
        if 200 <= head.status < 300 and not refused:
            return response
        return Failed.of_answer(head, response.body, exchange.request_sent)


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
        exchange.end()
        raise
    if not in_time and cancel:
        exchange.end()
    return in_time


def receive(call: Call, sending: Sending) -> bool:
    """Receives the body of a response whose head is there; False where the deadline came first."""
    sending.begin_body()
    on_bytes, place = call.request.on_bytes, sending.place
    if on_bytes is not None and place is not None and len(place) >= FOLLOWED:
        return _run_followed(sending.exchange, call, on_bytes)
    return run(sending.exchange, call.left)


def _run_followed(exchange: Exchange, call: Call, on_bytes: Callable[[int], None]) -> bool:
    """Runs it like `_run`, to the call's deadline, and tells meanwhile how much of the body is there."""
    pause, told = LONGEST_PAUSE, 0
    while call.left is None or call.left > pause:
        if run(exchange, pause, cancel=False):
            return True
        there = exchange.body_received
        if there > told:
            on_bytes(there)
        many, told = there - told > FEW_BYTES, there
        pause = max(pause / 2, SHORTEST_PAUSE) if many else min(pause * 2, LONGEST_PAUSE)
    return run(exchange, call.left)


def is_stale(exchange: Exchange) -> bool:
    """Whether it failed for what its connection had served before.

    The peer closed it without a byte of answer, as one does that had timed out idle; or what came answers nothing that
    was asked now.
    """
    if exchange.outcome in (Outcome.CLOSED_BEFORE_RESPONSE, Outcome.OUT_OF_STEP):
        return True
    broken = exchange.outcome in (Outcome.SEND_ERROR, Outcome.RECEIVE_ERROR)
    reset = isinstance(exchange.error, OSError) and exchange.error.errno in (errno.EPIPE, errno.ECONNRESET)
    return broken and reset and not exchange.head_bytes
