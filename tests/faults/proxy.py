"""An HTTP/1.1 intermediary between a client and a store on loopback, which passes requests on as they are, and answers
as they may come out of proxies and gateways: framed otherwise, and with headers dropped, weakened or odd.

Host and all signed headers go on unchanged, so that signatures hold. `choose` names the oddities of each answer
(`oddities`). A store that is not there, or ends in the middle, is answered for with a 502 or a broken connection.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, unquote

from model import operation_of
from oddities import ODDITIES, Answer, Framing
from peer import DEADLINE, PIECE, Link

# Chunk sizes of a body that is framed oddly; large enough on the average that a part has some hundred.
_CHUNKS = (1, 2, 7, 1000, 4095, 4097, 65_521, 262_139)
_EXTENSIONS = (b"", b"", b";a", b";name=value", b';name="a; quoted\\" one"')
_TRAILERS = (
    b"",
    b"x-proxy-took: 3\r\n",
    b'ETag: "of-the-trailer"\r\nx-amz-checksum-crc64nvme: AAAAAAAAAAA=\r\n',
)
_KEPT = 4000  # lines of the transcript


class Gone(Exception):
    """The client has closed its connection."""


class Broken(Exception):
    """The store has closed its connection, or is not there."""


@dataclass(frozen=True)
class Asked:
    """One request as the proxy saw it; `attempt` counts the same ones, from 1."""

    method: str
    operation: str
    bucket: str
    key: str
    part: int | None
    offset: int | None
    attempt: int

    def __str__(self) -> str:
        named = [("part", self.part), ("offset", self.offset)]
        where = "".join(f" {name}={value}" for name, value in named if value is not None)
        return f"{self.operation} {self.bucket}/{self.key}{where} attempt {self.attempt}"


Choose = Callable[[Asked], Sequence[str]]


class _Side(Link):
    """One of the two connections; an error of it is known by its class."""

    def __init__(self, sock: socket.socket, error: type[Exception]) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        super().__init__(sock, 0, threading.Lock())
        self._error = error

    @property
    def holds(self) -> bool:
        """Whether bytes are here that poll does not see."""
        return bool(self._buffer) or (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0)

    def send(self, data: bytes) -> None:
        try:
            super().send(data)
        except OSError as error:
            raise self._error from error

    def take(self, most: int) -> bytes:
        """1 to `most` bytes."""
        try:
            data = self.read(most, lambda _: None)
        except OSError as error:
            raise self._error from error
        if not data:
            raise self._error
        return data

    def take_line(self) -> bytes:
        while b"\n" not in self._buffer:
            self._buffer += self.take_more()
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        return line.rstrip(b"\r")

    def take_more(self) -> bytes:
        try:
            data = self._receive(PIECE)
        except OSError as error:
            raise self._error from error
        if not data:
            raise self._error
        return data

    def end(self) -> None:
        """Says that this is the end: over TLS by an alert too, without which it would be a break (RFC 9112, 9.8)."""
        if isinstance(self.sock, ssl.SSLSocket):
            with contextlib.suppress(OSError, ValueError):
                self.sock.unwrap()


class Proxy:
    """Listens on loopback, plain or TLS, and passes on to a store on `port`; all ends with the `with` block.

    Args:
        choose: names of the oddities of each answer, in the order they are applied.
        seed: decides what is left to chance within an oddity.
    """

    def __init__(
        self, port: int, choose: Choose = lambda _: (), *, seed: object = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self.port = port
        self.choose = choose
        self._seed = seed
        self._tls = tls
        self._lock = threading.Lock()
        self._quiet = threading.Condition(self._lock)
        self._under_way = 0
        self._closed = False
        self._attempts: dict[tuple[object, ...], int] = {}
        self._lines: deque[str] = deque(maxlen=_KEPT)
        self._sides: set[_Side] = set()
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._acceptor = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._acceptor.start()

    @property
    def endpoint_url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._listener.getsockname()[1]}"

    def transcript(self, key: str = "") -> str:
        """What passed, last of all the newest: of the keys that hold `key`."""
        with self._lock:
            return "\n".join(line for line in self._lines if key in line)

    def wait_until_quiet(self) -> None:
        """Returns once every request that came was answered or given up."""
        with self._quiet:
            assert self._quiet.wait_for(lambda: not self._under_way, DEADLINE), "a request did not end"

    def close(self) -> None:
        """Ends everything; raises what went wrong in the proxy itself."""
        with self._lock:
            self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(DEADLINE)
        self._listener.close()
        with self._lock:
            sides, threads = list(self._sides), list(self._threads)
        for side in sides:
            side.shut()
        for thread in [self._acceptor, *threads]:
            thread.join(DEADLINE)
            assert not thread.is_alive(), f"a thread of the proxy did not end:\n{self.transcript()}"
        if self._failures:
            raise self._failures[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------- connections

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return  # closed
            thread = threading.Thread(target=self._serve, args=(sock,), name="proxy-client", daemon=True)
            with self._lock:
                self._threads = [one for one in self._threads if one.is_alive()] + [thread]
                thread.start()

    @contextlib.contextmanager
    def _opened(self, sock: socket.socket, error: type[Exception]) -> Iterator[_Side]:
        side = _Side(sock, error)
        try:
            with self._lock:
                if self._closed:
                    raise error
                self._sides.add(side)
            yield side
        finally:
            with self._lock:
                self._sides.discard(side)
            side.sock.close()

    def _serve(self, sock: socket.socket) -> None:
        """Serves one client's connection, with one connection to the store at a time."""
        try:
            if self._tls is not None:
                sock.settimeout(DEADLINE)
                sock = self._tls.wrap_socket(sock, server_side=True)
            with self._opened(sock, Gone) as client, contextlib.ExitStack() as stack:
                store: _Side | None = None
                while True:
                    head = client.read_head()
                    if head is None:
                        return
                    if store is not None and _readable(store):  # it has closed, for there was nothing to say
                        stack.close()
                        store = None
                    passage = _Passage(self, client, *self._begin(head))
                    if store is None:
                        with contextlib.suppress(Broken):
                            store = stack.enter_context(self._opened(self._connect(), Broken))
                    if not self._run(passage, store):
                        return
                    if passage.store_closes:
                        stack.close()
                        store = None
        except (OSError, Gone, Broken):
            sock.close()
        except BaseException as error:
            sock.close()
            self._failures.append(error)

    def _run(self, passage: _Passage, store: _Side | None) -> bool:
        with self._quiet:
            self._under_way += 1
        try:
            return passage.run(store)
        finally:
            with self._quiet:
                self._under_way -= 1
                self._quiet.notify_all()

    def _connect(self) -> socket.socket:
        try:
            return socket.create_connection(("127.0.0.1", self.port), DEADLINE)
        except OSError as error:
            raise Broken from error

    def _begin(self, head: bytes) -> tuple[bytes, Asked]:
        method, target, _ = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
        path, _, query = target.partition("?")
        asked = dict(parse_qsl(query, keep_blank_values=True))
        bucket, _, key = unquote(path).lstrip("/").partition("/")
        fields = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
        headers = {name.lower(): value.strip() for name, _, value in fields}
        operation = operation_of(method, key, asked, headers)
        part = int(asked["partNumber"]) if "partNumber" in asked else None
        first = headers.get("range", "").removeprefix("bytes=").partition("-")[0]
        offset = int(first) if first else None
        with self._lock:
            which = (operation, bucket, key, part, offset)
            attempt = self._attempts[which] = self._attempts.get(which, 0) + 1
        return head, Asked(method, operation, bucket, key, part, offset, attempt)

    def note(self, asked: Asked, came_of_it: str) -> None:
        with self._lock:
            self._lines.append(f"{asked}: {came_of_it}")

    def dice(self, asked: Asked) -> random.Random:
        """What is left to chance with this answer is the same in every run, whatever the bucket is called."""
        return random.Random(f"{self._seed}/{replace(asked, bucket='')}")


class _Passage:
    """One request's way to the store, and its answer's way back."""

    def __init__(self, proxy: Proxy, client: _Side, head: bytes, asked: Asked) -> None:
        self._proxy = proxy
        self._client = client
        self._head = head
        self._asked = asked
        self._dice = proxy.dice(asked)
        self._left = int(_field(head, b"content-length") or 0)  # of the request's body
        self._read = True  # all of the request was read
        self.store_closes = False

    def run(self, store: _Side | None) -> bool:
        """Whether the client's connection serves another request."""
        if store is None:
            return self._refuse("the store is not there")
        try:
            store.send(self._head + b"\r\n\r\n")
            self._pass_body(store)
        except Broken:
            pass  # it may have answered before it closed
        try:
            answer, framing = self._answer_of(store)
        except Broken:
            return self._refuse("the store ended without an answer")
        names = self._proxy.choose(self._asked)
        for name in names:
            ODDITIES[name](answer, self._dice)
        self._proxy.note(self._asked, " ".join([str(answer.status), *names]))
        whole = self._left == 0
        if answer.lost:
            self.store_closes = True
            return False
        body = framing(store) if answer.has_body else iter(())
        if answer.page is not None:
            body = self._replace(answer, body)
        ends = answer.has_body and answer.framing in (Framing.UNTIL_CLOSE, Framing.CUT)
        keeps = whole and not ends and answer.version == "HTTP/1.1"
        self.store_closes |= not whole
        self._send_head(answer, keeps)
        if answer.has_body:
            try:
                self._send_body(answer, body)
            except Broken:
                self._proxy.note(self._asked, "the store ended in the middle of its answer")
                self._client.reset()
                return False
        if not whole:
            self._linger()
        elif not keeps:
            if answer.framing is not Framing.CUT:
                self._client.end()
            return False
        return keeps

    def _replace(self, answer: Answer, body: Iterator[bytes]) -> Iterator[bytes]:
        """The page in place of what the store has answered, which is read all the same."""
        try:
            for _ in body:
                pass
        except Broken:
            self.store_closes = True
        return iter([answer.page] if answer.page else [])

    # ----------------------------------------------------------------------------------------------------- request

    def _pass_body(self, store: _Side) -> None:
        """As it comes, until the store answers before the end of it."""
        if self._left and b"100-continue" in (_field(self._head, b"expect") or b"").lower():
            self._client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        poller = select.poll()
        poller.register(self._client.sock, select.POLLIN)
        poller.register(store.sock, select.POLLIN)
        while self._left:
            ready = {store.sock.fileno()} if store.holds else set()
            if not ready and not self._client.holds:
                ready = {number for number, _ in poller.poll(DEADLINE * 1000)}
            if store.sock.fileno() in ready:
                return
            if self._client.holds or self._client.sock.fileno() in ready:
                data = self._client.take(min(self._left, PIECE))
                self._left -= len(data)
                store.send(data)

    def _linger(self) -> None:
        """Reads the rest of the request, for a close with unread bytes would destroy the answer on its way."""
        self._client.end()
        if not isinstance(self._client.sock, ssl.SSLSocket):
            self._client.sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(Gone):
            while True:
                self._client.take(PIECE)

    # ------------------------------------------------------------------------------------------------------ answer

    def _answer_of(self, store: _Side) -> tuple[Answer, Callable[[_Side], Iterator[bytes]]]:
        """The final answer's head, and how to read its body."""
        while True:
            try:
                head = store.read_head()
            except OSError as error:
                raise Broken from error
            if head is None:
                raise Broken
            if not head.startswith(b"HTTP/1.1 1"):  # what the store says in between was for this proxy
                break
        first, *lines = head.decode("latin-1").split("\r\n")
        _, status, *reason = first.split(" ", 2)
        headers = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        length = _field(head, b"content-length")
        chunked = _field(head, b"transfer-encoding") is not None
        self.store_closes = b"close" in (_field(head, b"connection") or b"").lower()
        hop_by_hop = ("connection", "keep-alive", "transfer-encoding", "content-length")
        answer = Answer(
            self._asked.method, int(status), "".join(reason),
            [(name, value) for name, value in headers if name.lower() not in hop_by_hop],
            None if length is None else int(length),
        )  # fmt: skip
        if chunked:
            return answer, _chunks
        if length is None:
            self.store_closes = True
            return answer, _until_close
        return answer, lambda side: _exactly(side, int(length))

    def _send_head(self, answer: Answer, keeps: bool) -> None:
        for status in answer.interim:
            link = "Link: </style.css>; rel=preload\r\n" if status == 103 else ""
            self._client.send(f"HTTP/1.1 {status} Interim\r\n{link}\r\n".encode())
        lines = [f"{answer.version} {answer.status} {answer.reason}"]
        lines += [f"{name}: {value}" for name, value in answer.headers]
        if answer.framing in (Framing.CHUNKED, Framing.ODD_CHUNKS) or (answer.has_body and self._must_chunk(answer)):
            if answer.status not in (204, 304) and answer.version == "HTTP/1.1":
                lines.append("Transfer-Encoding: chunked")
        elif answer.length is not None and (answer.framing is Framing.AS_IT_CAME or not answer.has_body):
            lines.append(f"Content-Length: {answer.length}")
        if not keeps:
            lines.append("Connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        for piece in (head[at : at + 1] for at in range(len(head))) if answer.in_bytes else [head]:
            self._client.send(piece)

    def _must_chunk(self, answer: Answer) -> bool:
        return answer.framing is Framing.AS_IT_CAME and answer.length is None

    def _send_body(self, answer: Answer, pieces: Iterator[bytes]) -> None:
        framing = Framing.CHUNKED if self._must_chunk(answer) else answer.framing
        if framing is Framing.CHUNKED:
            for piece in pieces:
                self._client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            self._client.send(b"0\r\n\r\n")
        elif framing is Framing.ODD_CHUNKS:
            for piece in _cut(pieces, self._dice):
                size = self._dice.choice((b"%x", b"%X", b"00%x")) % len(piece)
                self._client.send(b"%b%b\r\n%b\r\n" % (size, self._dice.choice(_EXTENSIONS), piece))
            self._client.send(b"0%b\r\n%b\r\n" % (self._dice.choice(_EXTENSIONS), self._dice.choice(_TRAILERS)))
        elif framing is Framing.CUT:
            held = b""
            for piece in pieces:
                self._client.send(held)
                held = piece
            self._client.send(held[:-1])
        else:
            for piece in pieces:
                self._client.send(piece)

    def _refuse(self, why: str) -> bool:
        """What a gateway says for a store that does not answer; the connection ends, for the request may not have."""
        self._proxy.note(self._asked, f"502, for {why}")
        self.store_closes = True
        page = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
        lines = [b"HTTP/1.1 502 Bad Gateway", b"Content-Type: text/html", b"Content-Length: %d" % len(page)]
        head = b"\r\n".join([*lines, b"Connection: close", b"", b""])
        self._client.send(head if self._asked.method == "HEAD" else head + page)
        self._linger()
        return False


def _readable(side: _Side) -> bool:
    poller = select.poll()
    poller.register(side.sock, select.POLLIN)
    return side.holds or bool(poller.poll(0))


def _field(head: bytes, name: bytes) -> bytes | None:
    for line in head.split(b"\r\n")[1:]:
        found, _, value = line.partition(b":")
        if found.strip().lower() == name:
            return value.strip()
    return None


def _exactly(side: _Side, length: int) -> Iterator[bytes]:
    while length:
        data = side.take(min(length, PIECE))
        length -= len(data)
        yield data


def _chunks(side: _Side) -> Iterator[bytes]:
    while size := int(side.take_line().partition(b";")[0], 16):
        yield from _exactly(side, size)
        side.take_line()
    while side.take_line():
        pass


def _until_close(side: _Side) -> Iterator[bytes]:
    while True:
        try:
            data = side.read(PIECE, lambda _: None)
        except OSError as error:
            raise Broken from error
        if not data:
            return
        yield data


def _cut(pieces: Iterator[bytes], dice: random.Random) -> Iterator[bytes]:
    for piece in pieces:
        at = 0
        while at < len(piece):
            size = dice.choice(_CHUNKS)
            yield piece[at : at + size]
            at += size
