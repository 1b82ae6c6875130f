"""Kept exceptions are made anew with all their state, and an interrupt stays with the thread that it struck."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from s3dlio import NotFoundError, WriterClosedError
from s3dlio._runtime.kept_errors import KeptError, like


class Slotted(Exception):
    __slots__ = ("place",)

    def __init__(self, place: str, *, needed: int) -> None:
        super().__init__(place)
        self.place = place


class Particular(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first}/{second}")
        self.pair = (first, second)


def state_of(error: BaseException) -> dict[str, Any]:
    names = ("code", "errno", "filename", "strerror", "value", "reason", "start", "end", "place", "pair", "name", "key")
    return {name: getattr(error, name) for name in names if hasattr(error, name)}


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(7),
        SystemExit("ended"),
        OSError(28, "no space", "/f"),
        StopIteration(5),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd"),
        ImportError("no module", name="x"),
        Slotted("here", needed=1),
        Particular(1, 2),
        NotFoundError("GetObject", "b", "k", 404, "NoSuchKey"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_copy_has_the_state_of_its_original(error: BaseException) -> None:
    copy = like(error)
    assert type(copy) is type(error)
    assert copy is not error
    assert (copy.args, str(copy), state_of(copy)) == (error.args, str(error), state_of(error))


def test_a_group_is_copied_with_what_is_in_it() -> None:
    copy = like(ExceptionGroup("several", [ValueError("a"), OSError(2, "b")]))
    assert [type(one) for one in copy.exceptions] == [ValueError, FileNotFoundError]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit(7)])
def test_an_interrupt_is_not_raised_in_another_thread(interrupt: BaseException) -> None:
    kept = KeptError(interrupt, "the upload of s3://b/k")
    raised: list[BaseException] = []
    thread = threading.Thread(target=lambda: raised.append(kept.to_raise()))
    thread.start()
    thread.join(20)
    assert isinstance(raised[0], WriterClosedError)
    assert type(interrupt).__name__ in str(raised[0])


def test_whoever_handles_the_interrupt_goes_on_with_it() -> None:
    error, raised = SystemExit(7), None
    try:
        raise error
    except SystemExit as caught:
        raised = KeptError(caught).to_raise()
    assert raised is error


def test_an_error_is_the_same_object_for_as_long_as_anybody_has_it() -> None:
    error = NotFoundError("GetObject", "b", "k", 404, "NoSuchKey")
    kept = KeptError(error)
    assert kept.to_raise() is error


def test_a_record_of_the_log_keeps_the_text_of_an_error_and_not_the_error(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "s3dlio"):
        logging.getLogger("s3dlio").info("%s failed: %s", "it", ValueError("why"))
        logging.getLogger("s3dlio").info("%d of %d", 1, 2)
    first, second = caplog.records
    assert (first.getMessage(), first.args) == ("it failed: why", ())
    assert (second.msg, second.args) == ("%d of %d", (1, 2))
