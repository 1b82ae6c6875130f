"""Turns and waiting under interrupts: none can lose a turn, and calls are served in the order of their arrival."""

from __future__ import annotations

import dis
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

import pytest

from s3dlio._runtime.waiting import Changed, Turn

# After these CPython looks for signals, and raises what their handlers raise; nowhere else.
LOOKS_FOR_SIGNALS = ("CALL", "RESUME", "JUMP_BACKWARD", "CALL_FUNCTION_EX", "CALL_KW")
SWEEP = 4000


class Interrupt(BaseException):
    pass


class Injection:
    """Raises `Interrupt` at the nth point of some functions where a signal handler may run."""

    def __init__(self, codes: set[CodeType], at: int) -> None:
        self._codes = codes
        self._left = at
        self._before: dict[FrameType, str] = {}
        # Python 3.12 looks whether any frame wants opcodes when tracing begins, and not later.
        sys._getframe(1).f_trace_opcodes = True

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code not in self._codes:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            before = self._before.get(frame, "")
            self._before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if before in LOOKS_FOR_SIGNALS:
                self._left -= 1
                if self._left < 0:
                    sys.settrace(None)
                    raise Interrupt
        return self


def may_enter(turn: Turn) -> bool:
    """Whether another thread gets the turn."""
    entered = threading.Event()
    threading.Thread(target=lambda: turn.run(entered.set), daemon=True).start()
    return entered.wait(10)


def test_no_interrupt_at_any_step_loses_the_turn() -> None:
    turn, at = Turn(), 0
    while True:
        sys.settrace(Injection({Turn.run.__code__}, at))
        try:
            turn.run(lambda: None)
        except Interrupt:
            assert may_enter(turn), f"the turn is lost by an interrupt at point {at}"
        else:
            break
        finally:
            sys.settrace(None)
        at += 1
    assert at > 5  # there are such points


def test_no_interrupt_at_any_step_of_waiting_leaves_the_lock_held_or_let_go_of_twice() -> None:
    lock, at = threading.Lock(), 0
    while True:
        changed, left = Changed(lock), iter([False, False, True])

        def holds(changed: Changed = changed, left: Iterator[bool] = left) -> bool:
            changed.notify_all()
            return next(left)

        sys.settrace(Injection({Changed.wait_for.__code__, Changed.notify_all.__code__}, at))
        try:
            changed.wait_for(holds)
        except Interrupt:
            assert not lock.locked(), f"the lock is held after an interrupt at point {at}"
        else:
            break
        finally:
            sys.settrace(None)
        at += 1
    assert at > 10


@pytest.fixture
def alarms() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_thousands_of_signals_lose_no_turn_while_others_ask_for_it(alarms: None) -> None:
    turn, stop, served = Turn(), threading.Event(), [0, 0]

    def ask(number: int) -> None:
        def serve() -> None:
            served[number] += 1

        while not stop.is_set():
            turn.run(serve)

    threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(2)]
    for thread in threads:
        thread.start()
    interrupts = 0
    try:
        for number in range(SWEEP):
            try:
                # Each a little later than the one before: they sweep over all that a call does.
                signal.setitimer(signal.ITIMER_REAL, 2e-6 + number % 400 * 5e-7)
                while True:
                    turn.run(lambda: None)
            except Interrupt:
                interrupts += 1
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert not any(thread.is_alive() for thread in threads), "a turn was lost"
    assert interrupts == SWEEP
    assert may_enter(turn)
    assert min(served) > 0


def test_calls_are_served_in_the_order_of_their_arrival() -> None:
    turn, hold, served = Turn(), threading.Event(), []
    holding = threading.Event()

    def occupy() -> None:
        holding.set()
        assert hold.wait(30)

    threads = [threading.Thread(target=lambda: turn.run(occupy))]
    threads[0].start()
    assert holding.wait(30)
    for number in range(20):
        last = turn._last
        threads.append(threading.Thread(target=lambda number=number: turn.run(served.append, number)))
        threads[-1].start()
        _until(lambda last=last: turn._last is not last)  # it stands in the line
    hold.set()
    for thread in threads:
        thread.join(30)
    assert served == list(range(20))


def test_who_gives_the_turn_back_and_asks_again_overtakes_nobody() -> None:
    turn, served = Turn(), []
    asked = threading.Event()

    def other() -> None:
        turn.run(served.append, "other")

    def first() -> None:
        last = turn._last
        thread.start()
        _until(lambda: turn._last is not last)
        asked.set()

    thread = threading.Thread(target=other)
    turn.run(first)
    turn.run(served.append, "again")
    thread.join(30)
    assert served == ["other", "again"]


def test_where_a_waiting_call_is_interrupted_those_behind_it_are_served(alarms: None) -> None:
    turn, hold, holding, served = Turn(), threading.Event(), threading.Event(), threading.Event()

    def occupy() -> None:
        holding.set()
        assert hold.wait(30)

    occupier = threading.Thread(target=lambda: turn.run(occupy))
    occupier.start()
    assert holding.wait(30)
    behind = threading.Thread(target=lambda: turn.run(served.set))
    start = threading.Timer(0.05, behind.start)
    start.start()
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    with pytest.raises(Interrupt):
        turn.run(lambda: None)
    start.join()
    assert not served.is_set()
    hold.set()
    assert served.wait(30)
    occupier.join(30)
    behind.join(30)


def test_whether_the_turn_is_this_threads_own_is_known() -> None:
    turn, seen = Turn(), []
    assert (turn.mine, turn.taken) == (False, False)

    def look() -> None:
        seen.append((turn.mine, turn.taken))
        thread = threading.Thread(target=lambda: seen.append((turn.mine, turn.taken)))
        thread.start()
        thread.join(30)

    turn.run(look)
    assert seen == [(True, True), (False, True)]


def test_waiting_ends_when_it_holds_or_its_time_is_over() -> None:
    lock = threading.Lock()
    changed, values = Changed(lock), []
    waiting = threading.Thread(target=lambda: values.append(changed.wait_for(lambda: "told" in values)))
    waiting.start()
    with lock:
        values.append("told")
        changed.notify_all()
    waiting.join(30)
    assert values == ["told", True]
    assert changed.wait_for(lambda: False, time.monotonic()) is False


def _until(holds: Any) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0)
