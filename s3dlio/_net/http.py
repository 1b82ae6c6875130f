"""Reads HTTP/1.1 response heads with httptools, and finishes in Python the few responses the native loop leaves.

Chunked bodies and bodies without a length end up here, on the worker thread that asked. It judges no response and
bounds no payload: where the bytes go is its caller's business. It must never run on a driver thread, because it waits.
"""

from __future__ import annotations

import select
import ssl
import time
from collections.abc import Callable
from typing import Any, Protocol

import httptools

# More than any document that S3 sends. Payload has no limit but memory.
MAX_DOCUMENT = 64 << 20
# What framing (chunk sizes, extensions, trailers) may take beyond the body: a chunk of one byte takes six.
MAX_FRAMING = 1 << 20
FRAMING_PER_BYTE = 8
_SLICE = 0.1  # seconds between two looks at the cancel flag


class ResponseHead:
    """Status and headers; names are lower case, repeated fields are joined with a comma (RFC 9110, section 5.2)."""

    __slots__ = ("headers", "keep_alive", "status")

    def __init__(self, status: int, headers: dict[str, str], keep_alive: bool) -> None:
        self.status = status
        self.headers = headers
        self.keep_alive = keep_alive


class BadResponse(ValueError):
    """What the peer sent is not an HTTP/1.1 response, or is larger than anything S3 answers."""


class _Collector:
    """Takes httptools' callbacks."""

    def __init__(self, sink: Sink | None) -> None:
        self.headers: dict[str, str] = {}
        self.in_body = False
        self.complete = False
        self.received = 0
        self.failure: BaseException | None = None
        self._sink = sink

    @property
    def delimited(self) -> bool:
        """Whether the framing shows where the body ends; else that is the end of the connection."""
        return "content-length" in self.headers or "transfer-encoding" in self.headers

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_body:  # trailers say nothing that S3 clients need
            return
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1").strip(" \t")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        self.in_body = True

    def on_body(self, data: bytes) -> None:
        if self._sink is None or self.complete:  # what follows the body belongs to no request
            return
        try:
            self._sink.append(data)
        except BaseException as error:  # httptools would tell of it as an error of its own
            self.failure = error
            raise
        self.received += len(data)

    def taken_failure(self) -> BaseException:
        """What the sink raised, which nothing here may hold once it is raised again: its frames hold this."""
        failure, self.failure = self.failure, None
        assert failure is not None
        return failure

    def on_message_complete(self) -> None:
        self.complete = True


def parse_head(data: bytes) -> ResponseHead:
    """The head of a final response; raises `BadResponse` when it is none."""
    collector = _Collector(None)
    parser = httptools.HttpResponseParser(collector)
    try:
        parser.feed_data(data)
    except httptools.HttpParserError as error:
        raise BadResponse(f"not an HTTP response: {error}") from error
    if not collector.in_body:
        raise BadResponse("the response head is incomplete")
    return ResponseHead(parser.get_status_code(), collector.headers, parser.should_keep_alive())


class Sink(Protocol):
    """Where a body goes as it comes; `length` counts what it took."""

    length: int

    def append(self, data: bytes, /) -> None: ...


class Document:
    """A body that is a document of S3's, or an error's."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.length = 0

    def append(self, data: bytes) -> None:
        if len(self.body) + len(data) > MAX_DOCUMENT:
            raise BadResponse(f"the body is longer than the {MAX_DOCUMENT} bytes that any document of S3 has")
        self.body += data
        self.length += len(data)


def read_rest(
    sock: Any,
    head: bytes,
    leftover: bytes,
    *,
    sink: Sink,
    idle_timeout: float,
    cancelled: Callable[[], bool],
) -> None:
    """Reads the body after `head` from a non-blocking socket into `sink`, whose errors are passed on.

    Raises:
        BadResponse: the framing is broken, or larger than any body needs.
        OSError: the connection broke; `builtins.TimeoutError` without progress for `idle_timeout` seconds.
        InterruptedError: `cancelled()` became true.
    """
    collector = _Collector(sink)
    parser = httptools.HttpResponseParser(collector)
    data = head + leftover
    raw = 0
    while True:
        raw += len(data)
        if raw > MAX_FRAMING + FRAMING_PER_BYTE * collector.received:
            raise BadResponse(f"{raw} bytes came that hold only {collector.received} of a body")
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            if collector.failure is None:
                raise BadResponse(f"broken response body: {error}") from error
        if collector.failure is not None:
            raise collector.taken_failure()
        if collector.complete:
            return
        data = _receive(sock, idle_timeout, cancelled)
        if not data:
            if collector.delimited:
                raise ConnectionResetError("the peer closed the connection in the middle of a body")
            return


def _receive(sock: Any, idle_timeout: float, cancelled: Callable[[], bool]) -> bytes:
    """At least one byte, or ``b""`` at the end of the stream."""
    deadline = time.monotonic() + idle_timeout
    while not cancelled():
        try:
            data: bytes = sock.recv(1 << 16)
            return data
        except (BlockingIOError, ssl.SSLWantReadError):
            events = select.POLLIN
        except ssl.SSLWantWriteError:
            events = select.POLLOUT
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no byte arrived for {idle_timeout:g} s")
        poller = select.poll()
        poller.register(sock, events)
        poller.poll(min(left, _SLICE) * 1000)
    raise InterruptedError("cancelled")
