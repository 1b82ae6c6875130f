"""How an asynchronous call runs: the blocking function on a worker, awaited by a future of the caller's loop.

No loop is kept and nothing is bound to one. Cancelling the await ends the call's requests at once, and the await ends
when the call has returned: from then on nothing reads or writes the caller's memory. `asyncio` is imported by the first
asynchronous call, which has it already.
"""

from __future__ import annotations

import functools
import inspect
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar

from ._runtime.bounded import Line, SharedLine, shared
from ._s3.requests import CancelScope, cancelled_with
from .errors import S3dlioError

if TYPE_CHECKING:
    import asyncio

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

Task = Callable[[], Any]


@functools.cache
def _future_type() -> Any:
    """The class of the futures, made when `asyncio` is loaded."""
    import asyncio
    import contextlib
    import contextvars

    class Call(asyncio.Future[Any]):
        """The result of one blocking call.

        `cancel` ends the call's requests. The future becomes cancelled when the call has returned, or at once if it had
        not begun.
        """

        def __init__(
            self, loop: asyncio.AbstractEventLoop, function: Callable[[], Any], end: Callable[[], None] | None
        ):
            super().__init__(loop=loop)
            self._function: Task | None = function
            self._end = end
            self._context = contextvars.copy_context()
            self._scope = CancelScope()
            self._to_begin = [None]  # popped by whoever is first: the thread that begins, or `cancel`
            self._ending = False
            self._message: Any = None
            self._outcome: tuple[Any, BaseException | None] = (None, None)

        def cancel(self, msg: Any = None) -> bool:
            if self.done():
                return False
            self._ending, self._message = True, msg
            try:
                self._to_begin.pop()
            except IndexError:
                self._scope.cancel()
                if self._end is not None:
                    self._end()
                return True
            self._function = None
            return super().cancel(msg)

        def run(self) -> None:
            """The task of a worker."""
            try:
                self._to_begin.pop()
            except IndexError:  # cancelled before
                return
            function, self._function = self._function, None
            assert function is not None
            try:
                with cancelled_with(self._scope):
                    self._outcome = self._context.run(function), None
            except BaseException as error:  # its frames hold the caller's buffers: nothing here may keep it
                self._outcome = None, None if self._ending else error
            del function
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits
                self.get_loop().call_soon_threadsafe(self._conclude)

        def _conclude(self) -> None:
            """On the loop: hands over the result, which a cancelled call has no more than an error."""
            (result, error), self._outcome = self._outcome, (None, None)
            if self.done():
                return
            if self._ending:
                super().cancel(self._message)
            elif error is not None:
                self.set_exception(error)
            else:
                self.set_result(result)

    return Call


async def call(function: Callable[[], R], end: Callable[[], None] | None = None, line: Line | None = None, /) -> R:
    """What `function` returns, called on a worker.

    Args:
        end: called, from the loop's thread, where the await is cancelled after the call has begun, to end what no scope
            of the call ends; it returns at once.
        line: where the call waits for its turn; None for the line of all.
    """
    import asyncio

    future: asyncio.Future[R] = _future_type()(asyncio.get_running_loop(), function, end)
    (line or shared()).start(future.run)  # type: ignore[attr-defined]
    try:
        return await future
    finally:
        del future  # an error's traceback holds this frame, and the future the error


def twin(function: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """The asynchronous twin of a function or method, with the same parameters."""

    async def awaited(*args: P.args, **named: P.kwargs) -> R:
        return await call(functools.partial(function, *args, **named))

    _dress(awaited, function)
    return awaited


def twin_of_iterator(function: Callable[P, R], kind: Callable[[R], T]) -> Callable[P, T]:
    """The twin of a function that returns an iterator and makes no request: it returns an asynchronous one."""

    def begun(*args: P.args, **named: P.kwargs) -> T:
        return kind(function(*args, **named))

    _dress(begun, function)
    return begun


def _dress(twin: Any, function: Any) -> None:
    name = function.__name__
    twin.__name__, twin.__qualname__ = f"{name}_async", f"{function.__qualname__}_async"
    twin.__module__ = function.__module__
    twin.__doc__ = f"The asynchronous twin of `{name}`: the same parameters, result and errors; see there."
    twin.__signature__ = inspect.signature(function)
    twin.twin_of = function


class AsyncBatches(AsyncIterator[T], Generic[T]):
    """An asynchronous iterator whose items come in batches: an await that finds one there does not wait.

    Where an await is cancelled, the iteration has ended: what had arrived meanwhile is lost, and never left out.

    Args:
        source: gives the next batch, None at the end.
        end: ends what the source waits for, from any thread.

    Example:
        >>> infos = s3dlio.put_many([(f"s3://my-bucket/aio-pages/{number}", b"x") for number in range(3)])
        >>> async def count():
        ...     return [len(page.objects) async for page in s3dlio.iter_objects_async("s3://my-bucket/aio-pages/").pages()]
        >>> import asyncio
        >>> asyncio.run(count())
        [3]
    """

    def __init__(self, source: Callable[[], list[T] | None], end: Callable[[], None]) -> None:
        self._source = source
        self._end = end
        self._line = SharedLine(1)
        self._ready: deque[T] = deque()
        self._broken = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._ready:
            if self._broken:
                raise S3dlioError("the iteration ended by an error or a cancellation; begin another one")
            try:
                batch = await call(self._source, self._end, self._line)
            except BaseException:
                self._broken = True  # a batch that came meanwhile is lost: never a list with a gap
                raise
            if batch is None:
                raise StopAsyncIteration
            self._ready.extend(batch)
        return self._ready.popleft()
