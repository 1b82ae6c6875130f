"""Counts the payload memory that one writer keeps alive, and waits until more may be taken.

It never allocates. `intake` takes from the account before it allocates; finished segments give bytes back. An upload's
`Lifecycle` is an account.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from .._runtime.waiting import Changed
from .assembler import Owner
from .budget import Budget


class Account:
    """Counts the bytes in use, bounded by `most` parts.

    Attributes:
        lock: guards the whole upload. Reentrant, because a signal handler may abort.
        changed: wakes the threads that wait for a change under the lock.
        account: bytes that the writer keeps alive.
    """

    def __init__(self, most: int) -> None:
        self.lock = threading.RLock()
        self.changed = Changed(self.lock)
        self.account = 0
        self._most = most
        # Shared with other transfers of the same call: what is taken here is taken there too.
        self.budget: Budget | None = None

    def check_open(self) -> None:
        """Raises if no more memory may be taken. Called with the lock held."""
        raise NotImplementedError

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight that could make room. Called with the lock held."""
        raise NotImplementedError

    def take(self, more: int, part_size: int, pack_waiting: Callable[[], None] | None) -> None:
        """Adds `more` bytes to the account, after waiting until the writer's bound allows it.

        `pack_waiting` is called, without the lock, when nothing is in flight that could make room;
        None means that the caller may not wait (it is packing to make room).
        """
        if self.budget is not None:
            self.budget.take(more, self.check_open)
        try:
            self._take(more, part_size, pack_waiting)
        except BaseException:
            if self.budget is not None:
                self.budget.give(more)
            raise

    def _take(self, more: int, part_size: int, pack_waiting: Callable[[], None] | None) -> None:
        limit = self._most * part_size
        taken = stuck = False

        def decided() -> bool:
            nonlocal taken, stuck
            self.check_open()
            if pack_waiting is None or self.account + min(more, part_size) <= limit:
                self.account += more
                taken = True
            else:
                stuck = self.idle
            return taken or stuck

        try:
            self.changed.wait_for(decided)
            if stuck:
                assert pack_waiting is not None
                pack_waiting()
                pack_waiting = None
                self.changed.wait_for(decided)
        except BaseException:
            if taken:  # an interrupt arrived after the bytes were counted
                with self.lock:
                    self.account -= more
            raise

    def refund(self, amount: int) -> None:
        """Returns `amount` bytes that were taken but not used."""
        with self.lock:
            self._give_back(amount)
            self.changed.notify_all()

    def _give_back(self, amount: int) -> None:
        self.account -= amount
        if self.budget is not None:
            self.budget.give(amount)

    def drop(self, owner: Owner, uses: int = 1) -> None:
        """Ends `uses` uses of an owner; at zero its memory is released."""
        with self.lock:
            self._drop(owner, uses)
            self.changed.notify_all()

    def _drop(self, owner: Owner, uses: int = 1) -> None:
        owner.uses -= uses
        if owner.uses == 0:
            owner.view = None
            self._give_back(owner.pinned)
