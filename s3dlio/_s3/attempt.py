"""One attempt at a request: its exchange, and the judgement of its response.

The body of a GetObject response passes through here and nowhere else: `get_response` judges the head before the body
gets a destination, however the body is framed, and the number of received bytes is compared with what the head
promised before a `Response` is made. An attempt never retries. Only `attempts` makes attempts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._memory.destinations import Bounded, Collected, Destination, Full, TooLong
from .._net import http
from .._net.addresses import Location, format_uri
from .._net.exchange import Exchange, Outcome
from ..errors import ObjectChangedError, S3dlioError
from .failures import s3_error
from .get_response import Promise, Replaced, UnfitResponse, judge
from .requests import Request, Response


class Attempt:
    """One exchange of a request.

    Args:
        aside: the body of a GetObject response goes to memory of its own, for `copy_to`, and not to the request's
            destination, which another attempt may be writing to.
    """

    def __init__(self, exchange: Exchange, request: Request, *, aside: bool = False) -> None:
        self.exchange = exchange
        self.request = request
        self._aside = aside
        self._read_headers: http.Headers | None = None
        self._promise: Promise | None = None
        self._destination: Destination | None = None

    @property
    def whole(self) -> memoryview | None:
        """The destination, where it is memory for the whole body."""
        destination = self._destination
        return None if destination is None or destination.cut else destination.view

    def begin_body(self) -> None:
        """Judges the head and gives the body a destination; the exchange continues once it is submitted.

        Raises:
            BadResponse: the head contradicts itself.
            S3Error, ObjectChangedError: the response is not what was asked for.
        """
        if self.exchange.status >= 300:
            self.exchange.continue_into(None)
            return
        destination = self._choose()
        assert destination.view is not None  # the exchange pauses only before a body of known length
        self.exchange.continue_into(destination.view, cut=destination.cut)

    def fits(self) -> bool:
        """Whether the response is a success, and its head says that it is what was asked for."""
        if not 200 <= self.exchange.status < 300:
            return False
        if self.request.asked is None or self._promise is not None:
            return True
        try:
            self._judge()
        except (http.BadResponse, S3dlioError):
            return False
        return True

    def finish(self, sock: Any, idle_timeout: float, cancelled: Callable[[], bool]) -> Response:
        """The whole response, as its head promised. The body of an UNUSUAL response is received here.

        Raises:
            BadResponse: the peer did not send a response, or not what its head promised.
            OSError: the connection broke.
            S3Error, ObjectChangedError: the response is not what was asked for.
        """
        exchange = self.exchange
        payload = self.request.asked is not None and exchange.status < 300
        if payload and self._promise is None:
            self._choose()
        response = Response(
            exchange.status, self._headers, exchange.body_bytes, exchange.body_received, attempts=1, uncertain=0,
            head_came=exchange.head_came,
        )  # fmt: skip
        has_body = self.request.method != "HEAD" and response.status not in (204, 304)
        if exchange.outcome == Outcome.UNUSUAL and has_body:
            document = http.Document()
            sink = self._destination if payload and self._destination is not None else document
            try:
                http.read_rest(
                    sock, exchange.head_bytes, exchange.leftover, sink=sink, idle_timeout=idle_timeout,
                    cancelled=cancelled,
                )  # fmt: skip
            except Full:
                pass
            except TooLong as error:
                raise http.BadResponse(
                    f"{error.length} bytes came, more than the head of the response promised"
                ) from None
            response.body, response.received = bytes(document.body), sink.length
        if payload:
            self._check(response.received)
            response.promise = self._promise
            if isinstance(self._destination, Collected):
                response.body_at = (self._destination.buffer(response.received), 0)
        return response

    def copy_to(self, destination: memoryview) -> None:
        """Copies a body that was received aside."""
        assert self.whole is not None
        destination[: len(self.whole)] = self.whole

    @property
    def _headers(self) -> http.Headers:
        if self._read_headers is None:
            exchange = self.exchange
            self._read_headers = http.read_headers(exchange.head_bytes, ordinary=exchange.head_is_ordinary)
        return self._read_headers

    def _choose(self) -> Destination:
        """Judges the head, and only then asks for a destination."""
        promise = self._judge()
        length, request = promise.length, self.request
        if self._aside and length is not None:
            destination: Destination = Bounded(memoryview(bytearray(length)))
        elif request.on_head is not None:
            destination = request.on_head(promise)
        elif request.into is not None and length is not None:
            destination = Bounded(request.into[:length])
        else:
            destination = Collected()
        self._promise, self._destination = promise, destination
        return destination

    def _judge(self) -> Promise:
        request, status = self.request, self.exchange.status
        assert request.asked is not None
        try:
            return judge(request.asked, status, self._headers)
        except UnfitResponse as error:
            if error.passing:
                raise http.BadResponse(f"the store sent {error}") from None
            raise unfit_error(request, status, error) from None

    def _check(self, received: int) -> None:
        """Compares the number of received bytes with what the head promised."""
        assert self._promise is not None
        assert self._destination is not None
        promised = self._promise.length
        if self._destination.cut and self._destination.view is not None:
            promised = len(self._destination.view)
        if promised is not None and received != promised:
            raise http.BadResponse(f"{received} bytes came of {promised} that the head of the response promised")


def unfit_error(request: Request, status: int, error: UnfitResponse) -> S3dlioError:
    """The error for a response that is not what was asked for."""
    if isinstance(error, Replaced):
        uri = format_uri(*Location(request.bucket or "", request.key))
        return ObjectChangedError(f"{uri} was replaced while it was being read ({error}); read it again")
    return s3_error(request, status, error.code, f"the store sent {error}")
