"""Every error keeps what it says when it is pickled or copied, and tells no secret."""

from __future__ import annotations

import copy
import inspect
import pickle
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from s3dlio import errors
from s3dlio.errors import ManyFailedError, S3dlioError, S3Error, TransportError

CLASSES = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, S3dlioError)]
WAYS: dict[str, Callable[[Any], Any]] = {
    **{
        f"pickle-{protocol}": (lambda one, protocol=protocol: pickle.loads(pickle.dumps(one, protocol)))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def made(cls: type[S3dlioError]) -> S3dlioError:
    """An error of this class with every attribute set to something else than its default."""
    error: S3dlioError
    if issubclass(cls, S3Error):
        error = cls("UploadPart", "b", "k", 503, "SlowDown", "as told", "request", "host", "upload", 7, 3)
    elif issubclass(cls, ManyFailedError):
        error = cls("two failed", ["s3://b/good"], {"s3://b/bad": made(S3Error), "s3://b/ill": made(TransportError)})
    else:
        error = cls("something was wrong")
    error.uncertain, error.attempts, error.elapsed = 2, 3, 1.25
    error.add_note("a note")
    return error


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_attribute_survives(cls: type[S3dlioError], way: Callable[[Any], Any]) -> None:
    error = made(cls)
    again = way(error)
    assert type(again) is cls
    # Errors within an error are compared by what they say.
    assert repr(vars(again)) == repr(vars(error))
    assert (str(again), repr(again.args)) == (str(error), repr(error.args))
    assert (again.uncertain, again.attempts, again.elapsed) == (2, 3, 1.25)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_cause_survives_where_it_can(way: Callable[[Any], Any]) -> None:
    cause = TransportError("no connection")
    cause.uncertain = 1
    cause.__cause__ = ConnectionRefusedError(111, "refused")
    error = made(S3Error)
    error.__cause__ = cause
    again = way(error)
    assert again.__suppress_context__
    assert vars(again) == vars(error)
    assert type(again.__cause__) is TransportError
    assert again.__cause__.uncertain == 1
    assert isinstance(again.__cause__.__cause__, ConnectionRefusedError)
    assert again.__cause__.__cause__.errno == 111


@pytest.mark.parametrize(
    "cause",
    [ssl.SSLError(1, "handshake"), OSError(5, "io"), ValueError(lambda: None), RuntimeError(object())],
    ids=lambda one: type(one).__name__,
)
def test_an_error_can_be_pickled_whatever_caused_it(cause: BaseException) -> None:
    class Local(Exception):
        pass

    for one in (cause, Local("nobody finds this class"), made(S3Error)):
        error = made(TransportError)
        error.__cause__ = one
        again = pickle.loads(pickle.dumps(error))
        assert vars(again) == vars(error)
        assert str(again) == str(error)


def test_an_error_that_caused_itself_can_be_pickled() -> None:
    first, second = made(S3Error), made(TransportError)
    first.__cause__, second.__cause__ = second, first
    assert str(pickle.loads(pickle.dumps(first))) == str(first)


def test_the_errors_of_many_objects_are_taken_apart_by_their_classes() -> None:
    refused, lost = made(S3Error), made(TransportError)
    failed = {"s3://b/bad": refused, "s3://b/worse": refused, "s3://b/ill": lost}
    parts: list[BaseException] = []
    try:
        raise ManyFailedError("three of four failed", ["s3://b/good"], failed)
    except* S3Error as part:
        parts.append(part)
    except* TransportError as part:
        parts.append(part)
    first, second = parts
    assert isinstance(first, ManyFailedError)
    assert isinstance(second, ManyFailedError)
    assert first.exceptions == (refused,)
    assert first.failed == {"s3://b/bad": refused, "s3://b/worse": refused}
    assert first.succeeded == ["s3://b/good"]
    assert second.failed == {"s3://b/ill": lost}
