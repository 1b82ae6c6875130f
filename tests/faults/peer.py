"""A scripted S3 peer: a real HTTP/1.1 server on loopback, plain or TLS, that plays a table of rules.

A request that no rule matches is answered by the model behind it; one that a rule matches is handed to the
rule's behaviour as a `Turn`. Every request is recorded with its part, attempt and the bytes that came.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import select
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote

from model import Call, Reply, Store, operation_of

DEADLINE = 20.0  # seconds until a test that waits for the peer fails
LARGEST_HEAD = 1 << 16
PIECE = 1 << 18
NARROW = 1 << 16  # receive buffer, in bytes, of a behaviour that stops reading


class Over(Exception):
    """The peer was closed, or the other end has gone, while a behaviour was acting."""


@dataclass
class Seen:
    """One request as the peer saw it.

    Attributes:
        order: position among all requests, from 0.
        attempt: how often this operation was asked for on this key, part and range, from 1.
        offset: first byte of the range asked for.
        at: monotonic seconds.
        received: body bytes so far; `whole` says that all came.
        after_abort: AbortMultipartUpload of its upload had come before.
        late: body bytes that were not yet on this machine when the abort came.
        status: what was answered; None for no answer.
        open: still being answered.
    """

    order: int
    operation: str
    bucket: str
    key: str
    part: int | None
    offset: int | None
    upload_id: str
    attempt: int
    headers: Mapping[str, str]
    connection: int
    at: float
    after_abort: bool
    received: int = 0
    whole: bool = False
    late: int = 0
    status: int | None = None
    open: bool = True

    def __str__(self) -> str:
        where = "".join(f" {name}={getattr(self, name)}" for name in ("part", "offset") if getattr(self, name))
        return f"{self.order}: {self.operation}{where} attempt {self.attempt} -> {self.status}"


Behaviour = Callable[["Turn"], None]


NO_RANGE = -1


@dataclass(frozen=True)
class Rule:
    """Which requests a behaviour answers; what is None matches everything, an offset of NO_RANGE whole objects."""

    operation: str | None = None
    part: int | None = None
    offset: int | None = None
    key: str | None = None
    attempt: int | Container[int] | None = None
    do: Behaviour = field(kw_only=True)

    def matches(self, seen: Seen) -> bool:
        named = all(
            wanted is None or wanted == found
            for found, wanted in [
                (seen.operation, self.operation),
                (seen.part, self.part),
                (NO_RANGE if seen.offset is None else seen.offset, self.offset),
                (seen.key, self.key),
            ]
        )
        if self.attempt is None or not named:
            return named
        return seen.attempt == self.attempt if isinstance(self.attempt, int) else seen.attempt in self.attempt


class Link:
    """One connection: reads heads and bodies, writes bytes, never blocks past the peer's end."""

    def __init__(self, sock: socket.socket, number: int, lock: Any) -> None:
        self.sock = sock
        self.number = number
        self.answered = b""  # the last answer that went out whole
        self._lock = lock
        self._buffer = bytearray()

    def read_head(self) -> bytes | None:
        """A request's head, or None where the other end closed before one."""
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > LARGEST_HEAD:
                raise ValueError("the request's head is too large")
            data = self._receive(PIECE)
            if not data:
                return None
            self._buffer += data
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self._buffer = bytearray(rest)
        return head

    def read(self, most: int, count: Callable[[int], None]) -> bytes:
        """1 to `most` bytes, counted under the peer's lock as they are taken; none at the end of the stream."""
        if self._buffer:
            with self._lock:
                data = bytes(self._buffer[:most])
                del self._buffer[:most]
                count(len(data))
            return data
        return self._receive(min(most, PIECE), count)

    def waiting(self) -> int:
        """Bytes that have arrived on this machine and were not read. Call with the lock held."""
        number = array.array("i", [0])
        fcntl.ioctl(self.sock.fileno(), termios.FIONREAD, number)
        # TLS may hold a record in part, of which neither tells.
        decrypted = self.sock.pending() + (1 << 14) if isinstance(self.sock, ssl.SSLSocket) else 0
        return number[0] + decrypted + len(self._buffer)

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            piece = view[:PIECE]
            try:
                view = view[self.sock.send(piece) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._poll(select.POLLOUT)
            except ssl.SSLWantReadError:
                self._poll(select.POLLIN)

    def reset(self) -> None:
        """Closes so that the other end sees a reset and not an end of stream."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def shut(self) -> None:
        """Wakes the thread that reads or writes here."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def _receive(self, most: int, count: Callable[[int], None] = lambda _: None) -> bytes:
        while True:
            try:
                with self._lock:
                    data = self.sock.recv(most)
                    count(len(data))
                    return data
            except (BlockingIOError, ssl.SSLWantReadError):
                self._poll(select.POLLIN)
            except ssl.SSLWantWriteError:
                self._poll(select.POLLOUT)

    def _poll(self, events: int) -> None:
        poller = select.poll()
        poller.register(self.sock, events)
        poller.poll(DEADLINE * 1000)


class Turn:
    """One request and the means to answer it well or badly."""

    def __init__(self, peer: Peer, link: Link, method: str, target: str, headers: Mapping[str, str], seen: Seen):
        self.peer = peer
        self.link = link
        self.method = method
        self.target = target
        self.headers = headers
        self.seen = seen
        self.keeps = True  # the connection serves another request afterwards
        self.before_abort: int | None = 0 if seen.after_abort else None
        self._body = bytearray()
        self._length = int(headers.get("content-length") or 0)
        self._expected = headers.get("expect", "").lower() == "100-continue"
        self._date = formatdate(usegmt=True)
        seen.whole = not self._length

    def read(self, upto: int | None = None) -> bytes:
        """The body's first `upto` bytes, or all of it."""
        wanted = self._length if upto is None else min(upto, self._length)
        if self._expected and wanted:
            self._expected = False
            self.link.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(self._body) < wanted:
            data = self.link.read(wanted - len(self._body), self._count)
            if not data:
                raise Over
            self._body += data
        return bytes(self._body)

    def _count(self, more: int) -> None:
        seen = self.seen
        seen.received += more
        seen.whole = seen.received == self._length
        if self.before_abort is not None:
            seen.late = max(0, seen.received - self.before_abort)

    def serve(self, body: bytes | None = None, without: str = "") -> Reply:
        """The model's answer to the whole request, with its effect; `body` and `without` (a header) spoil it."""
        whole = self.read() if body is None else body
        path, _, query = self.target.partition("?")
        bucket, _, key = unquote(path).lstrip("/").partition("/")
        headers = {name: value for name, value in self.headers.items() if name != without}
        asked = dict(parse_qsl(query, keep_blank_values=True))
        return self.peer.store.answer(Call(self.seen.operation, bucket, key, asked, headers, whole))

    def send(self, reply: Reply) -> None:
        """The whole answer; an answer before the whole request was read ends the connection."""
        self.send_head(reply)
        body = b"" if self.method == "HEAD" else reply.body
        self.link.send(body)
        self.link.answered = self.head_of(reply) + body
        if not self.seen.whole:
            self.linger()

    def send_head(self, reply: Reply) -> None:
        with self.peer.changed:
            self.seen.status = reply.status
        self.link.send(self.head_of(reply))

    def head_of(self, reply: Reply) -> bytes:
        """The head as it goes out, with what an HTTP server adds to the model's headers."""
        length = len(reply.body) if reply.length is None else reply.length
        told = {"Date": self._date, "Server": "scripted", "x-amz-request-id": f"{self.seen.order:016X}"}
        if reply.status not in (204, 304) and "Transfer-Encoding" not in reply.headers:
            told["Content-Length"] = str(length)
        told |= reply.headers
        lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in told.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def narrow(self) -> None:
        """Keeps what the kernel takes in ahead of us small, so that the other end notices when we stop reading."""
        self.link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)

    def hold(self) -> None:
        """Neither reads nor writes until the test says `peer.resume()`; `Over` where it closes the peer instead."""
        self.peer.hold()

    def pause(self, seconds: float) -> None:
        """Time passes between two bytes; `Over` where the peer is closed meanwhile."""
        if self.peer.closed.wait(seconds):
            raise Over

    def close(self) -> None:
        self.keeps = False

    def reset(self) -> None:
        self.link.reset()
        self.keeps = False

    def linger(self) -> None:
        """Ends our half and reads what still comes: a close with unread bytes would destroy the answer on its way."""
        self.keeps = False
        if not isinstance(self.link.sock, ssl.SSLSocket):
            self.link.sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while self.link.read(PIECE, self._count):
                pass


class Peer:
    """The server; closes, and ends every thread and socket of its own, with the `with` block.

    Args:
        store: the model that answers; a fresh one with the bucket ``b`` if None.
        tls: the context of a TLS server; None for plain HTTP.
    """

    def __init__(self, store: Store | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        self.store = store or Store()
        self._lock = threading.RLock()
        self.changed = threading.Condition(self._lock)
        self.closed = threading.Event()
        self._tls = tls
        self._rules: tuple[Rule, ...] = ()
        self._seen: list[Seen] = []
        self._turns: list[Turn] = []
        self._aborted: set[str] = set()
        self._attempts: dict[tuple[object, ...], int] = {}
        self._links: set[Link] = set()
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []
        self._resumed = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._acceptor = threading.Thread(target=self._accept, name="peer", daemon=True)
        self._acceptor.start()

    # -------------------------------------------------------------------------------------- what tests ask and say

    @property
    def endpoint_url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._listener.getsockname()[1]}"

    def play(self, *rules: Rule) -> None:
        """The scenario from now on: the first rule that matches answers; attempts are counted anew."""
        with self.changed:
            self._rules = rules
            self._attempts.clear()

    def requests(self, operation: str | None = None, part: int | None = None) -> list[Seen]:
        """What was asked so far, in the order it came."""
        with self.changed:
            return [one for one in self._seen if operation in (None, one.operation) and part in (None, one.part)]

    def late_bytes(self) -> int:
        """Bytes of parts that were not here yet when their upload's abort came."""
        return sum(one.late for one in self.requests("UploadPart"))

    def wait_for(self, predicate: Callable[[], bool], timeout: float = DEADLINE) -> None:
        """Returns once `predicate()` holds; it is looked at whenever something happened here."""
        deadline = time.monotonic() + timeout
        while not predicate():
            left = deadline - time.monotonic()
            assert left > 0, f"it did not happen within {timeout:g} s:\n{self.transcript()}"
            with self.changed:
                self.changed.wait(min(left, 0.05))

    def wait_until_quiet(self) -> None:
        """Returns once every request that came was answered or given up."""
        self.wait_for(lambda: not any(one.open for one in self.requests()))

    def resume(self) -> None:
        """What was held goes on, now and later."""
        with self.changed:
            self._resumed = True
            self.changed.notify_all()

    def transcript(self) -> str:
        return "\n".join(map(str, self.requests()))

    def close(self) -> None:
        """Ends everything; raises what a behaviour raised that no test may overlook."""
        self.closed.set()
        self.resume()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(DEADLINE)
        self._listener.close()
        with self.changed:
            links, threads = list(self._links), list(self._threads)
        for link in links:
            link.shut()
        for thread in [self._acceptor, *threads]:
            thread.join(DEADLINE)
            assert not thread.is_alive(), f"a thread of the peer did not end:\n{self.transcript()}"
        if self._failures:
            raise self._failures[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------- connections

    def hold(self) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self._resumed)
        if self.closed.is_set():
            raise Over

    def _accept(self) -> None:
        number = 0
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return  # closed
            number += 1
            thread = threading.Thread(target=self._run, args=(sock, number), name=f"peer-{number}", daemon=True)
            with self.changed:
                self._threads = [one for one in self._threads if one.is_alive()] + [thread]
                thread.start()

    def _run(self, sock: socket.socket, number: int) -> None:
        link = Link(sock, number, self._lock)
        with self.changed:
            self._links.add(link)
        try:
            if self.closed.is_set():
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(DEADLINE)
            if self._tls is not None:
                link.sock = self._tls.wrap_socket(sock, server_side=True)
            link.sock.setblocking(False)
            while self._serve(link):
                pass
        except (OSError, Over):
            pass  # the other end has gone, or the test is over: tests look at the library's end
        except BaseException as error:
            self._failures.append(error)
        finally:
            with self.changed:
                self._links.discard(link)
                self.changed.notify_all()
            link.sock.close()

    def _serve(self, link: Link) -> bool:
        """Answers one request; whether the connection serves another."""
        head = link.read_head()
        if head is None:
            return False
        turn, behaviour = self._begin(link, head)
        try:
            behaviour(turn)
            if turn.keeps:
                turn.read()
            return turn.keeps
        finally:
            with self.changed:
                turn.seen.open = False
                self._turns.remove(turn)
                self.changed.notify_all()

    def _begin(self, link: Link, head: bytes) -> tuple[Turn, Behaviour]:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        path, _, query = target.partition("?")
        asked = dict(parse_qsl(query, keep_blank_values=True))
        bucket, _, key = unquote(path).lstrip("/").partition("/")
        operation = operation_of(method, key, asked, headers)
        part = int(asked["partNumber"]) if "partNumber" in asked else None
        wanted = headers.get("range", "").removeprefix("bytes=").partition("-")[0]
        offset, upload_id = int(wanted) if wanted else None, asked.get("uploadId", "")
        with self.changed:
            which = (operation, bucket, key, part, offset)
            attempt = self._attempts[which] = self._attempts.get(which, 0) + 1
            aborted = upload_id in self._aborted
            seen = Seen(
                len(self._seen), operation, bucket, key, part, offset, upload_id, attempt, headers,
                link.number, time.monotonic(), aborted,
            )  # fmt: skip
            if operation == "AbortMultipartUpload":
                self._note_abort(upload_id)
            turn = Turn(self, link, method, target, headers, seen)
            self._seen.append(seen)
            self._turns.append(turn)
            found = next((rule.do for rule in self._rules if rule.matches(seen)), _ordinary)
            self.changed.notify_all()
        return turn, found

    def _note_abort(self, upload_id: str) -> None:
        """What of open parts is here already came before the abort; everything after counts as late."""
        self._aborted.add(upload_id)
        for turn in self._turns:
            if turn.seen.upload_id == upload_id and turn.seen.part and turn.before_abort is None:
                turn.before_abort = turn.seen.received + turn.link.waiting()


def _ordinary(turn: Turn) -> None:
    turn.send(turn.serve())
