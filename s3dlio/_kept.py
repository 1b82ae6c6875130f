"""Exceptions that are kept beyond their handler: by an upload that failed, or as the result of one of many.

A kept exception holds its traceback, that its frames, and those whatever their variables named: payload memory
would stay out, in cycles that only the collector ends. Before Python 3.11.9 and 3.12.3 the collector crashes
on a memoryview in such a cycle (CPython's gh-77894). Callers are `_failures`, `_operations`, `_upload` and `_many`.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TypeVar

E = TypeVar("E", bound=BaseException)


def without_traceback(error: E) -> E:
    """The same exception without the way it came, nor that of its causes."""
    for one in _chain(error):
        one.__traceback__ = None
    return error


class KeptError:
    """An error that is raised again and again: the same object for as long as anybody has it, else its like."""

    def __init__(self, error: BaseException) -> None:
        self._model = _like(error)
        self._raised = _weak(error)

    def to_raise(self) -> BaseException:
        """What to raise, by an expression: a frame that names it would be held by it."""
        raised = None if self._raised is None else self._raised()
        if raised is None:
            raised = _like(self._model)
            self._raised = _weak(raised)
        return raised


def _like(error: E) -> E:
    copy = type(error).__new__(type(error), *error.args)
    copy.args = error.args
    copy.__dict__.update(error.__dict__)
    if error.__cause__ is not None:
        copy.__cause__ = without_traceback(error.__cause__)
    return copy


def _weak(error: BaseException) -> weakref.ref[BaseException] | None:
    try:
        return weakref.ref(error)
    except TypeError:  # MemoryError, KeyboardInterrupt and other exceptions of Python's own
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
