"""What a scripted peer does wrong, one small class each; a `Rule` says to which request.

A behaviour is called with the `Turn` it answers. What it does not spoil is the model's own answer, so that
each breaks exactly one promise of the protocol.
"""

from __future__ import annotations

import base64
import calendar
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate

from model import PREFIX, Reply, error_reply
from peer import Behaviour, Over, Turn

AFTER_HEAD = 0


@dataclass(frozen=True)
class Serve:
    """Answers as it should: the end of a chain of rules, and what `attempt` leaves out."""

    def __call__(self, turn: Turn) -> None:
        turn.send(turn.serve())


@dataclass(frozen=True)
class Status:
    """An error status with an S3 code (None: without a document), the request read and without effect."""

    status: int
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, turn: Turn) -> None:
        turn.read()
        turn.send(self.reply(turn))

    def reply(self, turn: Turn) -> Reply:
        if self.code is None or turn.method == "HEAD":
            return Reply(self.status, self.headers)
        return error_reply(self.status, self.code, headers=self.headers)


@dataclass(frozen=True)
class Page:
    """A 200 of something that is not the store, which has taken the request in: by itself without effect."""

    body: bytes = b"<html><body>Welcome</body></html>"
    headers: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, turn: Turn) -> None:
        turn.read()
        turn.send(Reply(200, self.headers, self.body))


# ------------------------------------------------------------------------------------ connections that break


@dataclass(frozen=True)
class DropBeforeHead:
    """Takes the request in, has no effect, and closes without a byte of answer."""

    def __call__(self, turn: Turn) -> None:
        turn.read()
        turn.close()


@dataclass(frozen=True)
class DropAfterHead:
    """The head of the answer, and then the end of the stream."""

    def __call__(self, turn: Turn) -> None:
        turn.send_head(turn.serve())
        turn.close()


@dataclass(frozen=True)
class ResetRequest:
    """A reset once `at` bytes of the request's body have come."""

    at: int = AFTER_HEAD

    def __call__(self, turn: Turn) -> None:
        turn.read(self.at)
        turn.reset()


@dataclass(frozen=True)
class ResetResponse:
    """A reset once `at` bytes of the answer's body have gone."""

    at: int = AFTER_HEAD

    def __call__(self, turn: Turn) -> None:
        reply = turn.serve()
        turn.send_head(reply)
        turn.link.send(reply.body[: self.at])
        turn.reset()


@dataclass(frozen=True)
class CloseResponse:
    """The end of the stream once `at` bytes of the answer's body have gone."""

    at: int = AFTER_HEAD

    def __call__(self, turn: Turn) -> None:
        reply = turn.serve()
        turn.send_head(reply)
        turn.link.send(reply.body[: self.at])
        turn.close()


@dataclass(frozen=True)
class LostResponse:
    """The request takes effect, but its answer is lost: closes, or does `then` instead."""

    then: Behaviour | None = None

    def __call__(self, turn: Turn) -> None:
        turn.serve()
        if self.then is None:
            turn.close()
        else:
            self.then(turn)


# ------------------------------------------------------------------------------------------------ slow peers


@dataclass(frozen=True)
class StallRequest:
    """Stops reading after `at` bytes of the body; goes on as it should when the test resumes the peer."""

    at: int = AFTER_HEAD

    def __call__(self, turn: Turn) -> None:
        turn.narrow()
        turn.read(self.at)
        turn.hold()
        turn.send(turn.serve())


@dataclass(frozen=True)
class Stall:
    """Takes the request in and says nothing, until the test resumes the peer."""

    def __call__(self, turn: Turn) -> None:
        turn.read()
        turn.hold()
        turn.send(turn.serve())


@dataclass(frozen=True)
class StallResponse:
    """Stops after `at` bytes of the answer's body."""

    at: int = AFTER_HEAD

    def __call__(self, turn: Turn) -> None:
        reply = turn.serve()
        turn.send_head(reply)
        turn.link.send(reply.body[: self.at])
        turn.hold()
        turn.link.send(reply.body[self.at :])


@dataclass(frozen=True)
class Drip:
    """An answer that takes its time: `pieces` pieces with a pause before each, in seconds."""

    pieces: int = 10
    pause: float = 0.05

    def __call__(self, turn: Turn) -> None:
        reply = turn.serve()
        turn.send_head(reply)
        step = -(-len(reply.body) // self.pieces) or 1
        for start in range(0, len(reply.body), step):
            turn.pause(self.pause)
            turn.link.send(reply.body[start : start + step])


@dataclass(frozen=True)
class DripRequest:
    """Reads the body slowly: `pieces` pieces with a pause after each, in seconds."""

    pieces: int = 10
    pause: float = 0.05

    def __call__(self, turn: Turn) -> None:
        turn.narrow()
        length = int(turn.headers.get("content-length") or 0)
        for number in range(1, self.pieces + 1):
            turn.read(length * number // self.pieces)
            turn.pause(self.pause)
        turn.send(turn.serve())


# ------------------------------------------------------------------------------- answers that are out of order


@dataclass(frozen=True)
class EarlyResponse:
    """An error after `after` bytes of the body, while the rest is going out."""

    status: int
    code: str
    after: int = AFTER_HEAD

    def __call__(self, turn: Turn) -> None:
        turn.narrow()
        turn.read(self.after)
        turn.send(error_reply(self.status, self.code, headers={"Connection": "close"}))


@dataclass(frozen=True)
class EarlySuccess:
    """A 200 with an ETag, and the checksum that it was told, after `after` bytes of the body; without effect."""

    after: int = AFTER_HEAD

    def __call__(self, turn: Turn) -> None:
        turn.narrow()
        turn.read(self.after)
        told = {name: value for name, value in turn.headers.items() if re.fullmatch(PREFIX + "(crc|sha).*", name)}
        turn.send(Reply(200, {"ETag": '"0123456789abcdef0123456789abcdef"', **told}))


@dataclass(frozen=True)
class DuplicateDuringNext:
    """The answer before on this connection once more, after `after` bytes of the body; without effect.

    The first request of a connection is served as it should be.
    """

    after: int = AFTER_HEAD

    def __call__(self, turn: Turn) -> None:
        if not turn.link.answered:
            turn.send(turn.serve())
            return
        turn.narrow()
        turn.read(self.after)
        turn.link.send(turn.link.answered)
        turn.read() if turn.seen.whole else turn.linger()


@dataclass(frozen=True)
class DuplicateResponse:
    """The answer twice in one piece: the second belongs to no request."""

    def __call__(self, turn: Turn) -> None:
        reply = turn.serve()
        turn.seen.status = reply.status
        turn.link.send((turn.head_of(reply) + reply.body) * 2)


@dataclass(frozen=True)
class ErrorInside200:
    """A 200 whose document is an error, as Complete and copies may answer; without effect."""

    code: str = "InternalError"

    def __call__(self, turn: Turn) -> None:
        turn.read()
        turn.send(replace(error_reply(500, self.code), status=200))


@dataclass(frozen=True)
class WhiteSpaceFirst:
    """A 200 at once, white space to keep the connection open, and at last the document.

    S3 sends the XML declaration before the white space, other stores send none; `error` ends in an error's document.
    """

    beats: int = 5
    pause: float = 0.05
    declaration: bool = True
    error: str | None = None

    def __call__(self, turn: Turn) -> None:
        reply = turn.serve() if self.error is None else error_reply(500, self.error)
        turn.read()
        if reply.status != 200 and self.error is None:
            turn.send(reply)
            return
        declaration, document = re.fullmatch(rb"(<\?xml[^>]*\?>\n)?(.*)", reply.body, re.DOTALL).groups()  # type: ignore[union-attr]
        turn.send_head(Reply(200, {**reply.headers, "Transfer-Encoding": "chunked"}))
        first = [declaration] if declaration and self.declaration else []
        for piece in [*first, *[b" "] * self.beats, document]:
            turn.link.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            turn.pause(self.pause)
        turn.link.send(b"0\r\n\r\n")


# ----------------------------------------------------------------------------------------- answers that are wrong


@dataclass(frozen=True)
class CorruptInTransit:
    """Byte `at` of the body arrives changed, and the store looks at it as it came."""

    at: int = 0

    def __call__(self, turn: Turn) -> None:
        turn.send(turn.serve(_flipped(turn.read(), self.at)))


@dataclass(frozen=True)
class CorruptStored:
    """Byte `at` of the body is stored changed by a store that does not look: it echoes what it was told."""

    at: int = 0

    def __call__(self, turn: Turn) -> None:
        told = next((name for name in turn.headers if re.fullmatch(PREFIX + "(crc|sha).*", name)), "")
        reply = turn.serve(_flipped(turn.read(), self.at), without=told)
        headers = {name: value for name, value in reply.headers.items() if name.lower() != told}
        turn.send(replace(reply, headers={**headers, told: turn.headers[told]} if told else headers))


class _Altering:
    """The model's answer, with something changed in it."""

    def __call__(self, turn: Turn) -> None:
        turn.send(self.alter(turn.serve()))

    def alter(self, reply: Reply) -> Reply:
        raise NotImplementedError


@dataclass(frozen=True)
class CorruptResponse(_Altering):
    """Byte `at` of the answer's body is changed."""

    at: int = 0

    def alter(self, reply: Reply) -> Reply:
        return replace(reply, body=_flipped(reply.body, self.at))


@dataclass(frozen=True)
class WithoutHeader(_Altering):
    """The answer lacks a header, and its document the element of that name."""

    name: str

    def alter(self, reply: Reply) -> Reply:
        headers = {name: value for name, value in reply.headers.items() if name.lower() != self.name.lower()}
        element = re.escape(self.name).encode()
        return replace(reply, headers=headers, body=re.sub(rb"<%b>[^<]*</%b>" % (element, element), b"", reply.body))


@dataclass(frozen=True)
class WithHeader(_Altering):
    """The answer has a header of another value, whatever the model said."""

    name: str
    value: str

    def alter(self, reply: Reply) -> Reply:
        headers = {name: value for name, value in reply.headers.items() if name.lower() != self.name.lower()}
        return replace(reply, headers={**headers, self.name: self.value})


def WithoutETag() -> Behaviour:  # reads as a behaviour in a table
    """The answer names no ETag."""
    return WithoutHeader("ETag")


@dataclass(frozen=True)
class WrongETag(_Altering):
    """Another ETag than the stored one, in the header and in a document."""

    etag: str = "0123456789abcdef0123456789abcdef"

    def alter(self, reply: Reply) -> Reply:
        headers = {name: f'"{self.etag}"' if name == "ETag" else value for name, value in reply.headers.items()}
        body = re.sub(rb"<ETag>[^<]*</ETag>", b"<ETag>%b</ETag>" % self.etag.encode(), reply.body)
        return replace(reply, headers=headers, body=body)


@dataclass(frozen=True)
class WrongChecksum(_Altering):
    """Every checksum that the answer names, in a header or a document, is another one."""

    def alter(self, reply: Reply) -> Reply:
        headers = {
            name: _another(value) if re.fullmatch(PREFIX + "(crc|sha).*", name) else value
            for name, value in reply.headers.items()
        }
        element = rb"<(Checksum(?:CRC|SHA)\w+)>([^<]*)<"
        body = re.sub(element, lambda m: b"<%b>%b<" % (m[1], _another(m[2].decode()).encode()), reply.body)
        return replace(reply, headers=headers, body=body)


def WrongContentRange(value: str) -> Behaviour:
    """The answer says to be of other bytes than were asked for."""
    return WithHeader("Content-Range", value)


@dataclass(frozen=True)
class IgnoreRange:
    """The whole object, with a 200, to a request for a range."""

    def __call__(self, turn: Turn) -> None:
        turn.send(turn.serve(without="range"))


@dataclass(frozen=True)
class ShortBody:
    """`by` bytes fewer than Content-Length says, and the end; or `announced`, with a Content-Length that agrees."""

    by: int = 1
    announced: bool = False

    def __call__(self, turn: Turn) -> None:
        reply = turn.serve()
        body = reply.body[: len(reply.body) - self.by]
        turn.send_head(replace(reply, body=body if self.announced else reply.body))
        turn.link.send(body)
        if not self.announced:
            turn.close()


@dataclass(frozen=True)
class LongBody:
    """`by` bytes more than belong there: beyond Content-Length, or `announced` by it."""

    by: int = 1
    announced: bool = False

    def __call__(self, turn: Turn) -> None:
        reply = turn.serve()
        body = reply.body + b"X" * self.by
        turn.seen.status = reply.status
        turn.link.send(turn.head_of(replace(reply, body=body if self.announced else reply.body)) + body)


@dataclass(frozen=True)
class ReplaceObject:
    """Somebody else writes the object just before this request is served."""

    data: bytes

    def __call__(self, turn: Turn) -> None:
        turn.read()
        self.write(turn)
        turn.send(turn.serve())

    def write(self, turn: Turn) -> None:
        turn.peer.store.put(turn.seen.bucket, turn.seen.key, self.data)


# ------------------------------------------------------------------------- places, clocks, identities, algorithms


@dataclass(frozen=True)
class InRegion:
    """The bucket lives in `region`: a request signed for another is redirected (301, 307) or refused (400).

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/Redirects.html
    """

    region: str
    status: int = 301
    location: str | None = None

    def __call__(self, turn: Turn) -> None:
        if f"/{self.region}/s3/aws4_request" in turn.headers.get("authorization", ""):
            turn.send(turn.serve())
            return
        code = {301: "PermanentRedirect", 307: "TemporaryRedirect", 400: "AuthorizationHeaderMalformed"}[self.status]
        headers = {"x-amz-bucket-region": self.region}
        if self.location is not None:
            headers["Location"] = self.location + turn.target
        turn.read()
        reply = error_reply(self.status, code, headers=headers)
        region = f"<Region>{self.region}</Region></Error>".encode()
        turn.send(replace(reply, body=reply.body.replace(b"</Error>", region)))


@dataclass(frozen=True)
class Clock:
    """A clock that is `ahead` seconds of this machine's: requests more than 15 minutes off are refused.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, RequestTimeTooSkewed
    """

    ahead: float

    def __call__(self, turn: Turn) -> None:
        now = time.time() + self.ahead
        signed = calendar.timegm(time.strptime(turn.headers["x-amz-date"], "%Y%m%dT%H%M%SZ"))
        turn.read()
        reply = turn.serve() if abs(now - signed) <= 900 else error_reply(403, "RequestTimeTooSkewed")
        turn.send(replace(reply, headers={**reply.headers, "Date": formatdate(now, usegmt=True)}))


@dataclass(frozen=True)
class Expired:
    """A session token that is valid no more; every other one is served."""

    token: str

    def __call__(self, turn: Turn) -> None:
        turn.read()
        expired = turn.headers.get("x-amz-security-token") == self.token
        turn.send(error_reply(400, "ExpiredToken") if expired else turn.serve())


@dataclass(frozen=True)
class Without:
    """A store that knows none of these checksum algorithms, and refuses requests that name one."""

    algorithms: tuple[str, ...]
    status: int = 400
    code: str = "InvalidRequest"
    message: str = "Checksum algorithm provided is unsupported."

    def __call__(self, turn: Turn) -> None:
        named = {turn.headers.get(PREFIX + "algorithm", "").lower()}
        named |= {name.removeprefix(PREFIX) for name in turn.headers if name.startswith(PREFIX)}
        turn.read()
        turn.send(error_reply(self.status, self.code, self.message) if named & set(self.algorithms) else turn.serve())


def _flipped(data: bytes, at: int) -> bytes:
    if not data:
        raise Over  # nothing there to change
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def _another(checksum: str) -> str:
    value, dash, parts = checksum.partition("-")
    return base64.b64encode(_flipped(base64.b64decode(value), 0)).decode() + dash + parts
