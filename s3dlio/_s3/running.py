"""Waits for exchanges that drivers run, within the deadline of their call, and reports progress of large bodies.

It judges nothing. `attempts` and `race` call it.
"""

from __future__ import annotations

from collections.abc import Callable

from .._net.drivers import drivers
from .._net.exchange import Exchange
from .attempt import Attempt
from .call import Call

# The progress of a body of at least this many bytes is reported while it arrives. The seconds between two reports
# depend on whether few bytes arrived since the last one: many parallel downloads must not wake the process too often.
FOLLOWED = 16 << 20
FEW_BYTES = 4 << 20
SHORTEST_PAUSE, LONGEST_PAUSE = 0.002, 0.1


def run(exchange: Exchange, timeout: float | None, *, cancel: bool = True) -> bool:
    """Submits the exchange to a driver, unless one has it, and waits until it ends; an interrupt ends it first.

    Returns:
        False if `timeout` seconds were not enough; the exchange is then cancelled if `cancel` is set.
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


def _run_followed(exchange: Exchange, call: Call, on_bytes: Callable[[int], None]) -> bool:
    """Runs it like `run`, up to the call's deadline, and reports meanwhile how many bytes have arrived."""
    pause, reported = LONGEST_PAUSE, 0
    while call.left is None or call.left > pause:
        if run(exchange, pause, cancel=False):
            return True
        arrived = exchange.body_received
        if arrived > reported:
            on_bytes(arrived)
        many, reported = arrived - reported > FEW_BYTES, arrived
        pause = max(pause / 2, SHORTEST_PAUSE) if many else min(pause * 2, LONGEST_PAUSE)
    return run(exchange, call.left)


def receive(call: Call, attempt: Attempt) -> bool:
    """Receives the body of a response whose head has come; False if the call's deadline passed first."""
    attempt.begin_body()
    on_bytes, destination = call.request.on_bytes, attempt.whole
    if on_bytes is not None and destination is not None and len(destination) >= FOLLOWED:
        return _run_followed(attempt.exchange, call, on_bytes)
    return run(attempt.exchange, call.left)
