"""Reads HTTP/1.1 response heads with httptools, and finishes in Python the few responses the native loop leaves.

Chunked bodies, bodies without a length and bodies that do not fit their destination end up here, on
the worker thread that asked. It must never run on a driver thread, because it waits.
"""

from __future__ import annotations

import select
import ssl
import time
from collections.abc import Callable
from typing import Any

import httptools

MAX_SPILLED_BODY = 64 << 20
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

    def __init__(self, sink: Callable[[bytes], None] | None) -> None:
        self.headers: dict[str, str] = {}
        self.in_body = False
        self.complete = False
        self._sink = sink

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_body:  # trailers say nothing that S3 clients need
            return
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1").strip(" \t")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        self.in_body = True

    def on_body(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink(data)

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


class BodyTooLong(BadResponse):
    """The body is longer than its destination, or than any document S3 sends."""


def read_rest(
    sock: Any,
    head: bytes,
    leftover: bytes,
    *,
    into: Any,
    idle_timeout: float,
    cancelled: Callable[[], bool],
) -> tuple[bytes, int]:
    """Reads the body after `head` from a non-blocking socket.

    Returns:
        The body (empty if it went to `into`) and its length in bytes.

    Raises:
        BadResponse: the framing is broken, or larger than any body needs; `BodyTooLong` if that does not fit.
        OSError: the connection broke; `builtins.TimeoutError` without progress for `idle_timeout` seconds.
        InterruptedError: `cancelled()` became true.
    """
    spilled = bytearray()
    target = None if into is None else memoryview(into).cast("B")
    received = 0

    def sink(data: bytes) -> None:
        nonlocal received
        if received + len(data) > (MAX_SPILLED_BODY if target is None else len(target)):
            raise BodyTooLong(f"the body is longer than the {received + len(data)} bytes there is room for")
        if target is None:
            spilled.extend(data)
        else:
            target[received : received + len(data)] = data
        received += len(data)

    collector = _Collector(sink)
    parser = httptools.HttpResponseParser(collector)
    declared = _declared_length(head)
    data = head + leftover
    raw = 0
    while True:
        raw += len(data)
        if raw > MAX_FRAMING + FRAMING_PER_BYTE * received:
            raise BadResponse(f"{raw} bytes came that hold only {received} of a body")
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise _root(error) from error
        if collector.complete:
            return bytes(spilled), received
        data = _receive(sock, idle_timeout, cancelled)
        if not data:
            framed = declared or b"chunked" in head.lower()
            if framed:
                raise ConnectionResetError("the peer closed the connection in the middle of a body")
            return bytes(spilled), received


def _root(error: BaseException) -> Exception:
    """httptools wraps what a callback raised; the sink's own error is the one to tell."""
    cause = error.__context__ or error.__cause__
    return cause if isinstance(cause, BodyTooLong) else BadResponse(f"broken response body: {error}")


def _declared_length(head: bytes) -> bool:
    return b"\r\ncontent-length:" in head.lower()


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
