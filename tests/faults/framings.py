"""The framings of HTTP/1.1 in which a store, or a proxy before it, may send the same response.

Each is a behaviour: the model's answer, with something changed in it if a test says so, framed in another way.

Source: https://www.rfc-editor.org/rfc/rfc9112#section-6
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import cycle

from model import Reply
from peer import Behaviour, Turn

Alter = Callable[[Reply], Reply]

LENGTH, CHUNKED, ODD_CHUNKS, CLOSE = "length", "chunked", "odd-chunks", "close"
FRAMINGS = (LENGTH, CHUNKED, ODD_CHUNKS, CLOSE)
UNTOLD = (CHUNKED, ODD_CHUNKS, CLOSE)
# Of odd chunks: sizes that fit no buffer, with extensions, leading zeros and upper case.
ODD_SIZES = (1, 7, 4095, 70_001, 2, 16_384)
PIECE = 1 << 20


@dataclass(frozen=True)
class Framed:
    """A response in one of the framings.

    Attributes:
        framing: `LENGTH`, `CHUNKED`, `ODD_CHUNKS` (with extensions and trailers), or `CLOSE`.
        alter: changes the model's answer.
        cut: the body's last so many bytes are left out, and its framing ends as it should.
        extra: bytes that follow the body within the framing.
    """

    framing: str
    alter: Alter | None = None
    cut: int = 0
    extra: bytes = b""

    def __call__(self, turn: Turn) -> None:
        reply = turn.serve()
        if self.alter is not None:
            reply = self.alter(reply)
        body = reply.body[: len(reply.body) - self.cut] + self.extra
        if turn.method == "HEAD" or self.framing == LENGTH or reply.status >= 300:
            turn.send(replace(reply, body=body) if body else reply)
            return
        with turn.peer.changed:
            turn.seen.status = reply.status
        if self.framing == CLOSE:
            head = turn.head_of(
                replace(reply, headers={**reply.headers, "Transfer-Encoding": "x", "Connection": "close"})
            )
            turn.link.send(head.replace(b"Transfer-Encoding: x\r\n", b""))
            turn.link.send(body)
            turn.close()
            return
        turn.link.send(turn.head_of(replace(reply, headers={**reply.headers, "Transfer-Encoding": "chunked"})))
        turn.link.send(_odd(body) if self.framing == ODD_CHUNKS else _even(body))


def head_without_length(turn: Turn, reply: Reply) -> bytes:
    """The head of a response whose body ends with the connection, or of one to HEAD that does not tell the length."""
    marked = {**reply.headers, "Transfer-Encoding": "none", "Connection": "close"}
    return turn.head_of(replace(reply, headers=marked)).replace(b"Transfer-Encoding: none\r\n", b"")


def _even(body: bytes) -> bytes:
    pieces = [body[at : at + PIECE] for at in range(0, len(body), PIECE)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def _odd(body: bytes) -> bytes:
    made, at = [], 0
    for size in cycle(ODD_SIZES):
        if at >= len(body):
            break
        piece = body[at : at + size]
        made.append(b'%06X;name="value; %d"\r\n%b\r\n' % (len(piece), size, piece))
        at += size
    return b"".join(made) + b'000;last\r\nx-trailer: said late\r\nETag: "another"\r\n\r\n'


def altered(*changes: Behaviour) -> Alter:
    """What behaviours that change one thing in an answer change together."""

    def alter(reply: Reply) -> Reply:
        for change in changes:
            reply = change.alter(reply)  # type: ignore[attr-defined]
        return reply

    return alter
