"""Peers on loopback that each run one script, once: what the tests of this folder talk to."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import trustme

from s3dlio._net.drivers import drivers
from s3dlio._net.exchange import Exchange

REQUEST = b"PUT / HTTP/1.1\r\nhost: x\r\n\r\n"
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope"
Script = Callable[[socket.socket], object]


class Peers:
    """Makes connections, plain or TLS, to threads that run a script and close; all end with the `with` block."""

    def __init__(self, server: ssl.SSLContext | None = None, client: ssl.SSLContext | None = None) -> None:
        self._contexts = (server, client)
        self._opened: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.released = threading.Event()

    def connect(self, script: Script, *, buffers: int | None = None) -> socket.socket:
        """Our end. `buffers` bounds what the kernel keeps on its way to the peer, in bytes."""
        server, client = self._contexts
        with socket.socket() as listener:
            if buffers is not None:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            ours = socket.create_connection(listener.getsockname(), 30)
            theirs, _ = listener.accept()
        if buffers is not None:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
        thread = threading.Thread(target=self._run, args=(script, theirs, server), daemon=True)
        thread.start()
        self._threads.append(thread)
        if client is not None:
            ours = client.wrap_socket(ours, server_hostname="localhost")
        self._opened.append(ours)
        return ours

    def stall(self, sock: socket.socket) -> None:
        """A script, or the end of one: neither reads nor closes before the test has ended."""
        self.released.wait(60)

    def close(self) -> None:
        self.released.set()
        for sock in self._opened:
            sock.close()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive(), "a peer's script did not end"

    def _run(self, script: Script, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if context is not None:
                sock = context.wrap_socket(sock, server_side=True)
            script(sock)
        except OSError:
            pass  # a peer whose other end has gone is no finding: the tests look at our end
        finally:
            sock.close()

    def __enter__(self) -> Peers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server and of a client that trusts it."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("localhost", key_type=trustme.KeyType.ECDSA).configure_cert(server)
    authority.configure_trust(client)
    return server, client


def read_head(sock: socket.socket) -> bytes:
    """What came up to the end of the request's head, and with it."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(4096)
        if not piece:
            break
        data += piece
    return data


def read_exactly(sock: socket.socket, size: int, *, piece: int = 1 << 18, pause: float = 0.0) -> bytes:
    """`size` bytes, at most `piece` at a time with a pause of so many seconds after each; fewer if the peer closes."""
    received = bytearray()
    while len(received) < size:
        data = sock.recv(min(piece, size - len(received)))
        if not data:
            break
        received += data
        if pause:
            time.sleep(pause)
    return bytes(received)


def answer(*pieces: bytes, pause: float = 0.0) -> Script:
    """Reads the request's head, sends the pieces, and waits until we close."""

    def script(sock: socket.socket) -> None:
        read_head(sock)
        for piece in pieces:
            sock.sendall(piece)
            if pause:
                time.sleep(pause)
        while sock.recv(1 << 20):
            pass

    return script


def answer_and_close(*pieces: bytes) -> Script:
    def script(sock: socket.socket) -> None:
        read_head(sock)
        for piece in pieces:
            sock.sendall(piece)

    return script


def start(sock: socket.socket, body: Sequence[Any] = (), **options: Any) -> Exchange:
    """An exchange under way on the process's drivers."""
    exchange = Exchange(sock, REQUEST, list(body), **options)
    drivers().submit(exchange)
    return exchange


def run(sock: socket.socket, body: Sequence[Any] = (), **options: Any) -> Exchange:
    """An exchange that has ended."""
    options.setdefault("idle_timeout", 30)
    exchange = start(sock, body, **options)
    assert exchange.wait(60), "the exchange did not end"
    return exchange


def resume(exchange: Exchange, into: Any) -> None:
    """Goes on after HEAD_READY, to the end."""
    exchange.continue_into(into)
    drivers().submit(exchange)
    assert exchange.wait(60), "the exchange did not end"


def patterned(size: int) -> bytes:
    """Bytes in which no block repeats another, so that a mixed-up one shows."""
    return os.urandom(size)
