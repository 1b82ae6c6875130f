"""Reads what the native loop leaves: unusual response heads, and bodies that are chunked or have no length.

httptools parses them, on the worker thread that made the request. This module judges no response and bounds no
payload: the caller chooses the destination. It must never run on a driver thread, because it waits.
"""

from __future__ import annotations

import select
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httptools

from .._memory.destinations import Sink
from .exchange import head_field

# More than any document that S3 sends. Payload has no limit but memory.
MAX_DOCUMENT = 64 << 20
# What framing (chunk sizes, extensions, trailers) may take beyond the body: a chunk of one byte takes six.
MAX_FRAMING = 1 << 20
FRAMING_PER_BYTE = 8
_SLICE = 0.1  # seconds between two checks of the cancel flag


# Names are lower case; repeated fields are joined with a comma (RFC 9110, section 5.2).
Headers = Mapping[str, str]


class OrdinaryHeaders(Headers):
    """The fields of a head that the native scanner understands; it looks them up when they are asked for."""

    __slots__ = ("_head",)

    def __init__(self, head: bytes) -> None:
        self._head = head

    def __getitem__(self, name: str) -> str:
        value = head_field(self._head, name.encode("latin-1"))
        if value is None:
            raise KeyError(name)
        return value

    def get(self, name: str, default: Any = None) -> Any:
        value = head_field(self._head, name.encode("latin-1"))
        return default if value is None else value

    def __iter__(self) -> Iterator[str]:
        lines = self._head.decode("latin-1").split("\r\n")[1:-2]
        return iter(dict.fromkeys(line.partition(":")[0].lower() for line in lines))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class BadResponse(ValueError):
    """The peer sent something that is not an HTTP/1.1 response, or larger than any response of S3."""


class _Collector:
    """The callbacks of httptools."""

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
        if self.in_body:  # trailers contain nothing that S3 clients need
            return
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1").strip(" \t")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        self.in_body = True

    def on_body(self, data: bytes) -> None:
        if self._sink is None or self.complete:  # bytes after the body belong to no request
            return
        try:
            self._sink.append(data)
        except BaseException as error:  # httptools would raise an error of its own instead
            self.failure = error
            raise
        self.received += len(data)

    def taken_failure(self) -> BaseException:
        """The sink's exception, without keeping it: its frames refer to this object."""
        failure, self.failure = self.failure, None
        assert failure is not None
        return failure

    def on_message_complete(self) -> None:
        self.complete = True


def read_headers(head: bytes, *, ordinary: bool) -> Headers:
    """The headers of a complete head, which the native scanner found to be ordinary or not.

    Raises:
        BadResponse: httptools does not understand an unusual one.
    """
    if ordinary:
        return OrdinaryHeaders(head)
    collector = _Collector(None)
    parser = httptools.HttpResponseParser(collector)
    try:
        parser.feed_data(head)
    except httptools.HttpParserError as error:
        raise BadResponse(f"not an HTTP response: {error}") from error
    if not collector.in_body:
        raise BadResponse("the response head is incomplete")
    return collector.headers


class Document:
    """A body that is a document of S3."""

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
    """Reads the body after `head` from a non-blocking socket into `sink`; an exception of `sink` is raised again.

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
            raise BadResponse(f"{raw} bytes came that contain only {collector.received} of a body")
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
