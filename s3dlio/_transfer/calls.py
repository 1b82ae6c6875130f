"""The order of a writer's calls: one at a time, in order of arrival.

A small write takes the open buffer's fast path only while no call is running or waiting here. Called by `writer`;
`abort` and the properties never wait here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .._runtime.waiting import Turn
from ..errors import ReservationError
from .open_buffer import OpenBuffer

R = TypeVar("R")


class Calls:
    """Runs the calls of one writer in turn."""

    def __init__(self, open_buffer: OpenBuffer) -> None:
        self._open_buffer = open_buffer
        self._turn = Turn()

    @property
    def mine(self) -> bool:
        """Whether this thread is already inside a call, which a signal handler has interrupted."""
        return self._turn.mine

    def run(self, call: Callable[[], R]) -> R:
        """Returns the result of `call()`, run in this thread's turn.

        Raises:
            ReservationError: a signal handler calls a writer that its own thread is using; it would wait forever.
        """
        if self._turn.mine:
            raise ReservationError(
                "a signal handler called a writer that its own thread is using; let it raise, or call abort()"
            )
        self._open_buffer.enter()
        try:
            return self._turn.run(call)
        finally:
            self._open_buffer.leave()

    def run_if_free(self, call: Callable[[], None]) -> None:
        """Calls `call` in turn, unless another call has the turn: that one does the same work at its end."""
        if not self._turn.taken:
            self._turn.run(call)
