"""Exceptions that outlive their handler: those of a failed upload, or the result of one of many operations.

An exception refers to its traceback, that to frames, and those to the values of their variables: payload memory would
stay allocated, in cycles that only the collector breaks. Before Python 3.11.9 and 3.12.3 the collector crashes on a
memoryview in such a cycle (CPython's gh-77894). Callers are `failures`, `object_operations`, `upload` and `batch`.
"""

from __future__ import annotations

import contextlib
import sys
import types
import weakref
from collections.abc import Iterator
from typing import Any, TypeVar, cast

from ..errors import S3dlioError, WriterClosedError

E = TypeVar("E", bound=BaseException)


def without_traceback(error: E) -> E:
    """The same exception without its traceback and those of its causes."""
    for one in _chain(error):
        one.__traceback__ = None
    return error


class KeptError:
    """The exception that ended an upload, to be raised repeatedly: the same object while it is referenced, else a copy.

    An interrupt (KeyboardInterrupt, SystemExit and everything else that is not an Exception) belongs to the thread that
    it was raised in. That thread gets it while it handles it; later calls, and other threads, get a WriterClosedError.

    Args:
        error: what ended the upload.
        what: names the upload in that WriterClosedError.
        raised: whether the caller raises `error` itself; else the first call of `to_raise` returns it.
    """

    def __init__(self, error: BaseException, what: str = "the operation", *, raised: bool = True) -> None:
        self._model = like(error)
        self._what = what
        self._raised = _weak(error)
        self._owed = not raised

    def to_raise(self) -> BaseException:
        """The exception to raise. Don't bind it to a local when raising: that makes a reference cycle."""
        if not isinstance(self._model, Exception):
            return self._of_interrupt()
        raised = None if self._raised is None else self._raised()
        if raised is None:
            raised = like(self._model)
            self._raised = _weak(raised)
        return raised

    def _of_interrupt(self) -> BaseException:
        if self._owed:
            self._owed = False
            return like(self._model)
        handled = _handled_like(self._model)
        if handled is not None:
            return handled
        ended = WriterClosedError(f"{self._what} was ended by {_named(self._model)}; make a new writer")
        ended.__cause__ = like(self._model)
        return ended


def _named(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}({text})" if text else type(error).__name__


def _handled_like(model: BaseException) -> BaseException | None:
    """The interrupt that this thread is handling, if it is like `model`."""
    one, seen = sys.exc_info()[1], set[int]()
    while one is not None and id(one) not in seen:
        if type(one) is type(model) and one.args == model.args:
            return one
        seen.add(id(one))
        one = one.__context__
    return None


def like(error: E) -> E:
    """An exception of the same class and state without traceback, even if its class takes other arguments."""
    try:
        copy = _blank(error)
        copy.args = error.args
        _copy_state(error, copy)
    except Exception:  # a class that cannot be instantiated this way
        stand_in = S3dlioError(f"{type(error).__name__}: {error}")
        return cast(E, stand_in)
    if error.__cause__ is not None:
        copy.__cause__ = without_traceback(error.__cause__)
    copy.__suppress_context__ = error.__suppress_context__
    return copy


def _blank(error: E) -> E:
    if isinstance(error, BaseExceptionGroup):  # its exceptions have tracebacks too
        inner = [like(one) for one in error.exceptions]
        return cast(E, BaseExceptionGroup.__new__(type(error), error.message, inner))
    kind = type(error)
    return cast(E, _built_in(kind).__new__(kind, *error.args))


def _built_in(kind: type[BaseException]) -> Any:
    """The built-in base class of `kind`, which creates instances of `kind` with any arguments."""
    heap_type = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement
    return next(one for one in kind.__mro__ if not one.__flags__ & heap_type)


def _copy_state(error: BaseException, copy: BaseException) -> None:
    """Copies what is not in `args`: `__dict__`, and through descriptors the slots and fields of built-in classes."""
    copy.__dict__.update(error.__dict__)
    for kind in type(error).__mro__:
        for name, field in vars(kind).items():
            if name.startswith("__") or not isinstance(field, _FIELDS):
                continue
            with contextlib.suppress(AttributeError, TypeError):  # not set, or set once by the class
                value = field.__get__(error, kind)
                # None may mean that it is not set.
                if getattr(copy, name, None) is not value:
                    field.__set__(copy, value)


_FIELDS = (types.MemberDescriptorType, types.GetSetDescriptorType)


def _weak(error: BaseException) -> weakref.ref[BaseException] | None:
    try:
        return weakref.ref(error)
    except TypeError:  # MemoryError, KeyboardInterrupt and other built-in exceptions
        return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            todo += [one.__cause__, one.__context__]
            if isinstance(one, BaseExceptionGroup):
                todo += one.exceptions
