"""What an intermediary may do to the answers of a store, by name: other framings, headers dropped, weakened or odd.

Each alters one head on its way through `proxy.Proxy`, and says how its body is framed. None changes a byte of a body.
`SURVIVABLE` are those that a client can do its work under, because what they take away is optional or told elsewhere;
`UNUSABLE` leave too little: a client must fail clearly or ask again, and may never make up what is missing. `REPLACED`
put a page of the intermediary's own in place of an answer: what the request has done, only the store can tell then.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime


class Framing(enum.Enum):
    """How the end of a body is told (RFC 9112, section 6)."""

    AS_IT_CAME = "by Content-Length, or chunked where the store chunks"
    CHUNKED = "chunked"
    ODD_CHUNKS = "chunked, with odd sizes, extensions and trailers"
    UNTIL_CLOSE = "by the end of the connection"
    CUT = "by an end of the connection that comes one byte too early"


@dataclass
class Answer:
    """The head of an answer on its way to the client.

    Attributes:
        headers: name and value, without Content-Length, Transfer-Encoding and Connection.
        length: Content-Length as the store told it, and as it is told on; None for none.
        interim: statuses of the interim answers that go before it (RFC 9110, section 15.2).
        in_bytes: the head goes out byte by byte.
        page: what goes out in place of the body; None for the body itself.
        lost: nothing goes out, and the connection ends.
    """

    method: str
    status: int
    reason: str
    headers: list[tuple[str, str]]
    length: int | None
    framing: Framing = Framing.AS_IT_CAME
    version: str = "HTTP/1.1"
    interim: list[int] = field(default_factory=list)
    in_bytes: bool = False
    page: bytes | None = None
    lost: bool = False

    @property
    def has_body(self) -> bool:
        return self.method != "HEAD" and self.status not in (204, 304)

    def get(self, name: str) -> str | None:
        return next((value for one, value in self.headers if one.lower() == name), None)

    def drop(self, name: str) -> None:
        """Takes out every header whose name begins so."""
        self.headers = [(one, value) for one, value in self.headers if not one.lower().startswith(name)]


Oddity = Callable[[Answer, random.Random], None]


def _framed(framing: Framing, version: str = "HTTP/1.1") -> Oddity:
    def oddity(answer: Answer, _: random.Random) -> None:
        answer.framing, answer.version = framing, version

    return oddity


def _without(name: str) -> Oddity:
    return lambda answer, _: answer.drop(name)


def _with_values(name: str, change: Callable[[str], list[str]]) -> Oddity:
    """Has a header of this name, where there is one, told with these values instead, each in a line of its own."""

    def oddity(answer: Answer, _: random.Random) -> None:
        value = answer.get(name)
        if value is not None:
            answer.drop(name)
            answer.headers += [(name, changed) for changed in change(value)]

    return oddity


def _one_of(name: str, *changes: Callable[[str], str]) -> Oddity:
    def oddity(answer: Answer, dice: random.Random) -> None:
        change = dice.choice(changes)
        _with_values(name, lambda value: [change(value)])(answer, dice)

    return oddity


def _twice(name: str) -> Oddity:
    return _with_values(name, lambda value: [value, value])


def _all_of(*oddities: Oddity) -> Oddity:
    def oddity(answer: Answer, dice: random.Random) -> None:
        for one in oddities:
            one(answer, dice)

    return oddity


def _without_length(answer: Answer, _: random.Random) -> None:
    if answer.method == "HEAD":
        answer.length = None


def _chunked_head(answer: Answer, _: random.Random) -> None:
    if answer.method == "HEAD":
        answer.length, answer.framing = None, Framing.CHUNKED


def _interim(*statuses: int) -> Oddity:
    def oddity(answer: Answer, _: random.Random) -> None:
        answer.interim += statuses

    return oddity


def _page(status: int, reason: str, page: bytes) -> Oddity:
    def oddity(answer: Answer, _: random.Random) -> None:
        answer.status, answer.reason, answer.page = status, reason, page
        answer.headers, answer.length = [("Content-Type", "text/html")], len(page)

    return oddity


def _lost(answer: Answer, _: random.Random) -> None:
    answer.lost = True


def _in_bytes(answer: Answer, _: random.Random) -> None:
    answer.in_bytes = True


def _lower_case(answer: Answer, _: random.Random) -> None:
    answer.headers = [(name.lower(), value) for name, value in answer.headers]


def _long_head(answer: Answer, _: random.Random) -> None:
    answer.headers += [("Set-Cookie", f"route{number}={'x' * 1000}; Path=/") for number in range(12)]


def _always(value: str) -> Callable[[str], str]:
    return lambda _: value


def _as(form: str) -> Callable[[str], str]:
    return lambda value: parsedate_to_datetime(value).strftime(form)


# The same moment in another form, or nothing that is one: none of them tells a wrong moment.
ODD_DATES: dict[str, Callable[[str], str]] = {
    "empty": _always(""),
    "undefined": _always("undefined"),
    "zero": _always("0"),
    "negative": _always("-0000"),
    "iso": _as("%Y-%m-%dT%H:%M:%S.000Z"),
    "unknown-zone": _as("%a, %d %b %Y %H:%M:%S -0000"),
    "asctime": _as("%a %b %d %H:%M:%S %Y"),
    "year-one": _always("Mon, 01 Jan 0001 00:00:00 GMT"),
    "far-year": _always("Fri, 01 Jan 99999999999 00:00:00 GMT"),
}

FRAMINGS: dict[str, Oddity] = {
    "chunked": _framed(Framing.CHUNKED),
    "odd-chunks": _framed(Framing.ODD_CHUNKS),
    "until-close": _framed(Framing.UNTIL_CLOSE),
    "http-1.0": _framed(Framing.UNTIL_CLOSE, "HTTP/1.0"),
    "interim-100": _interim(100),
    "interim-103": _interim(103, 103),
    "head-in-bytes": _in_bytes,
    "lower-case-names": _lower_case,
    "long-head": _long_head,
}
ETAGS: dict[str, Oddity] = {
    "weak-etag": _with_values("etag", lambda value: [f"W/{value}"]),
    "bare-etag": _with_values("etag", lambda value: [value.strip('"')]),
    "etag-twice": _twice("etag"),
    "weak-and-strong-etag": _with_values("etag", lambda value: [f"W/{value}", value]),
    "empty-etag": _with_values("etag", lambda _: [""]),
    "quoted-empty-etag": _with_values("etag", lambda _: ['""']),
    "no-etag": _without("etag"),
}
MISSING: dict[str, Oddity] = {
    "no-length-of-head": _without_length,
    "chunked-head": _chunked_head,
    "no-checksum": _without("x-amz-checksum-"),
    "no-version": _without("x-amz-version-id"),
    "no-dates": _all_of(_without("last-modified"), _without("date")),
    "no-names": _all_of(_without("x-amz-request-id"), _without("x-amz-id-2"), _without("server")),
    "no-accept-ranges": _without("accept-ranges"),
}
DATES: dict[str, Oddity] = {
    "odd-dates": _all_of(_one_of("last-modified", *ODD_DATES.values()), _one_of("date", *ODD_DATES.values())),
    "dates-twice": _all_of(_twice("last-modified"), _twice("date")),
}
SURVIVABLE: dict[str, Oddity] = {**FRAMINGS, **ETAGS, **MISSING, **DATES}
SINGLE_DATES: dict[str, Oddity] = {
    f"{name}-{kind}": _one_of(name, change) for name in ("last-modified", "date") for kind, change in ODD_DATES.items()
}
# What leaves too little: a part of an object without its place, a place that cannot be read or may not be the last, a
# body without its end.
_ODD_RANGES = ("", "bytes", "bytes */*", "bytes 5-2/9", "items 0-1/2", "bytes 0-x/9")
UNUSABLE: dict[str, Oddity] = {
    "no-content-range": _without("content-range"),
    "unknown-total": _with_values("content-range", lambda value: [value.partition("/")[0] + "/*"]),
    "content-range-twice": _with_values("content-range", lambda value: [value, "bytes 1-2/3"]),
    "odd-content-range": _one_of("content-range", *map(_always, _ODD_RANGES)),
    "other-content-range": _one_of("content-range", _always("bytes 1-2/3")),
    "cut": _framed(Framing.CUT),
}
# Those of a 200 only to requests that change something: what is read may be any bytes.
GATEWAY: dict[str, Oddity] = {
    "gateway-502": _page(502, "Bad Gateway", b"<html><body><h1>502 Bad Gateway</h1></body></html>"),
    "gateway-504": _page(504, "Gateway Timeout", b""),
    "lost": _lost,
}
REPLACED: dict[str, Oddity] = {
    **GATEWAY,
    "html-200": _page(200, "OK", b"<!DOCTYPE html><html><body>Welcome back!</body></html>"),
    "empty-200": _page(200, "OK", b""),
}
ODDITIES: dict[str, Oddity] = {**SURVIVABLE, **SINGLE_DATES, **UNUSABLE, **REPLACED}
