"""One sending of a request: its exchange, and on the way back the judgement of what came.

The only door through which the body of a GetObject's response comes: `get_response` judges the head before the body
is given a destination, whatever its framing, and what was received is compared with what the head promised before a
`Response` is made. It never sends again. Only `attempts` makes sendings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from .._memory.collected import Bounded, Collected
from .._net import http
from .._net.addresses import Location, format_uri
from .._net.exchange import Exchange, Outcome
from ..errors import ObjectChangedError, S3dlioError
from .failures import s3_error
from .get_response import Promise, Replaced, UnfitResponse, judge
from .requests import FirstBytes, Request, Response


class Sending:
    """One exchange of a request.

    Args:
        aside: the body of a GetObject's response goes to memory of its own, for `copy_to`, and not to the request's
            destination, which another sending may write to.
    """

    def __init__(self, exchange: Exchange, request: Request, *, aside: bool = False) -> None:
        self.exchange = exchange
        self.request = request
        self._aside = aside
        self._head: http.ResponseHead | None = None
        self._promise: Promise | None = None
        # A view of the promised length, `FirstBytes`, something to append to, or None.
        self._destination: Any = None

    @property
    def place(self) -> memoryview | None:
        """Where the body goes, where that is one piece of memory of its length."""
        return self._destination if isinstance(self._destination, memoryview) else None

    def begin_body(self) -> None:
        """At the head: judges it, gives the body a destination, and has the exchange go on once it is submitted.

        Raises:
            BadResponse: the head contradicts itself.
            S3Error, ObjectChangedError: it is not what was asked for.
        """
        head = self._read_head()
        if not 200 <= head.status < 300:
            self.exchange.continue_into(None)
            return
        self._choose(head)
        cut = isinstance(self._destination, FirstBytes)
        self.exchange.continue_into(self._destination.place if cut else self._destination, cut=cut)

    def fits(self) -> bool:
        """Whether a good head is there that was, or can be, judged to be what was asked for."""
        if not 200 <= self.exchange.status < 300:
            return False
        if self.request.asked is None or self._promise is not None:
            return True
        try:
            self._judge(self._read_head())
        except (http.BadResponse, S3dlioError):
            return False
        return True

    def finish(
        self, sock: Any, idle_timeout: float, cancelled: Callable[[], bool]
    ) -> tuple[http.ResponseHead, Response]:
        """What came, whole and as promised; an UNUSUAL response is read to its end.

        Raises:
            BadResponse: what came is no response, or not what its head promised.
            OSError: the connection broke.
            S3Error, ObjectChangedError: the response is not what was asked for.
        """
        exchange = self.exchange
        head = self._read_head()
        payload = self.request.asked is not None and 200 <= head.status < 300
        if payload and self._promise is None:
            self._choose(head)
        response = Response(head.status, head.headers, exchange.body_bytes, exchange.body_received, 1, False)
        if exchange.outcome == Outcome.UNUSUAL and self.request.method != "HEAD" and head.status not in (204, 304):
            document = http.Document()
            sink: Any = self._sink() if payload else document
            with contextlib.suppress(_Full):
                http.read_rest(
                    sock, exchange.head_bytes, exchange.leftover, sink=sink, idle_timeout=idle_timeout,
                    cancelled=cancelled,
                )  # fmt: skip
            response.body, response.received = bytes(document.body), sink.length
        if payload:
            self._check(response.received)
            response.promise = self._promise
            if isinstance(self._destination, Collected):
                response.place = (self._destination.buffer(), 0)
        return head, response

    def copy_to(self, place: memoryview) -> None:
        """Copies a body that went aside."""
        assert self.place is not None
        place[: len(self.place)] = self.place

    def _read_head(self) -> http.ResponseHead:
        if self._head is None:
            self._head = http.parse_head(self.exchange.head_bytes)
        return self._head

    def _choose(self, head: http.ResponseHead) -> None:
        """Judges the head, and only then asks for a destination."""
        promise = self._judge(head)
        if self._aside and promise.length is not None:
            self._destination = memoryview(bytearray(promise.length))
        elif self.request.on_head is not None:
            self._destination = self.request.on_head(promise)
        elif self.request.into is not None and promise.length is not None:
            self._destination = self.request.into[: promise.length]
        else:
            self._destination = Collected()
        self._promise = promise

    def _judge(self, head: http.ResponseHead) -> Promise:
        request = self.request
        assert request.asked is not None
        try:
            return judge(request.asked, head.status, head.headers)
        except UnfitResponse as error:
            if error.passing:
                raise http.BadResponse(f"the store answered {error}") from None
            raise unfit_error(request, head.status, error) from None

    def _sink(self) -> Any:
        """What takes the pieces of a body whose framing only Python reads."""
        if isinstance(self._destination, FirstBytes):
            return _First(self._destination.place)
        if isinstance(self._destination, Collected | Bounded):
            return self._destination
        return Bounded(self.place or memoryview(b""), _more_than_promised)

    def _check(self, received: int) -> None:
        """The bytes that came are as many as the head promised."""
        assert self._promise is not None
        promised = self._promise.length
        if isinstance(self._destination, FirstBytes):
            promised = len(self._destination.place)
        if promised is not None and received != promised:
            raise http.BadResponse(f"{received} bytes came of {promised} that the head of the response promised")


class _Full(Exception):
    """No more of a body is wanted."""


class _First:
    """Takes what fits, and ends the reading there."""

    def __init__(self, place: memoryview) -> None:
        self._place = place
        self.length = 0

    def append(self, data: bytes) -> None:
        taken = min(len(data), len(self._place) - self.length)
        self._place[self.length : self.length + taken] = data[:taken]
        self.length += taken
        if self.length == len(self._place):
            raise _Full


def _more_than_promised(length: int) -> Exception:
    return http.BadResponse(f"{length} bytes came, more than the head of the response promised")


def unfit_error(request: Request, status: int, error: UnfitResponse) -> S3dlioError:
    """What the caller is told of a response that is not what was asked for."""
    if isinstance(error, Replaced):
        uri = format_uri(*Location(request.bucket or "", request.key))
        return ObjectChangedError(f"{uri} was replaced while it was being read ({error}); read it again")
    return s3_error(request, status, error.code, f"the store answered {error}")
