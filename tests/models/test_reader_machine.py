"""Downloads of an object that others replace, shorten and delete, before, between and within the requests.

Whatever happens, what is returned is wholly one version that was there during the call, or the error says what
became of the object; never a mixture, never a byte beyond.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from behaviours import DropBeforeHead, ResetResponse, ShortBody, Status
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from model import Call
from peer import NO_RANGE, Behaviour, Peer, Rule, Turn
from scripted import EXTENT, TALLY, Counted, bytes_at, connect, write_tally

import s3dlio

GET = "GetObject"
CHUNK = 1 << 16  # the smallest range that the library takes
URI = "s3://b/k"
RANGED: dict[str, Any] = {
    "range_optimization": True,
    "range_threshold": 0,
    "chunk_size": CHUNK,
    "range_concurrency": 3,
}
MARGIN = b"\xaa" * 64

sizes = st.sampled_from([0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 17, 6 * CHUNK - 1])
changes = st.sampled_from(["replace", "same-size", "truncate", "grow", "delete"])


@dataclass(frozen=True)
class Change:
    """Somebody changes the object `when` this request is served: before, in the middle of its answer, or after it."""

    act: Callable[[], None]
    when: str

    def __call__(self, turn: Turn) -> None:
        turn.read()
        if self.when == "before":
            self.act()
        reply = turn.serve()
        if self.when == "lost":
            self.act()
            turn.close()
            return
        turn.send_head(reply)
        if turn.method == "HEAD":
            self.act()
            return
        middle = len(reply.body) // 2
        turn.link.send(reply.body[:middle])
        if self.when == "within":
            self.act()
        turn.link.send(reply.body[middle:])
        if self.when == "after":
            self.act()


class ReaderMachine(RuleBasedStateMachine):
    """One key, everything that ever was under it, and reads beside the changes."""

    def __init__(self) -> None:
        super().__init__()
        TALLY["examples"] += 1
        self.peer = Peer()
        self.client = connect(self.peer.endpoint_url)
        self.history: list[bytes | None] = [None]
        self.writes = 0

    @property
    def current(self) -> bytes | None:
        return self.history[-1]

    def fresh(self, size: int) -> bytes:
        self.writes += 1
        return bytes_at(self.writes, size)

    def change(self, how: str, size: int = 0) -> None:
        """Changes what is stored, as another client would, and notes it first."""
        old = self.current or b""
        with self.peer.changed:
            if how == "delete":
                self.history.append(None)
                self.peer.store.answer(Call("DeleteObject", "b", "k", {}, {}))
                return
            made = {
                "replace": self.fresh(size),
                "same-size": self.fresh(len(old)),
                "truncate": old[: len(old) // 2],
                "grow": old + self.fresh(1 + size),
            }[how]
            self.history.append(made)
            self.peer.store.put("b", "k", made)

    @rule(how=changes, size=sizes)
    def somebody_changes_it(self, how: str, size: int) -> None:
        self.change(how, size)

    @rule(
        how=changes,
        size=sizes,
        when=st.sampled_from(["before", "within", "after", "lost"]),
        chunk=st.integers(0, 6),
        way=st.sampled_from(["get", "ranged", "into", "range", "ranged-range"]),
        start=sizes,
    )
    def read_while_it_changes(self, how: str, size: int, when: str, chunk: int, way: str, start: int) -> None:
        change = Change(lambda: self.change(how, size), when)
        offset = None if way == "get" else chunk * CHUNK or NO_RANGE
        self.peer.play(Rule(GET, offset=offset, attempt=1, do=Counted(change)))
        self.read(way, start)

    @rule(
        fault=st.sampled_from([Status(503, "SlowDown"), DropBeforeHead(), ResetResponse(at=1000), ShortBody(by=1)]),
        how=changes,
        way=st.sampled_from(["get", "ranged", "into"]),
    )
    def read_while_requests_fail_and_it_changes(self, fault: Behaviour, how: str, way: str) -> None:
        self.peer.play(
            Rule(GET, attempt=1, do=Counted(_unless_empty(fault))),
            Rule(GET, attempt=2, offset=CHUNK, do=Counted(Change(lambda: self.change(how, CHUNK), "before"))),
        )
        self.read(way, 0)

    # Also where nothing is there: whether a change came to pass is a matter of time, and no precondition may ask it.
    @rule(way=st.sampled_from(["get", "ranged", "into", "range", "ranged-range"]), start=sizes, length=sizes)
    def read_in_peace(self, way: str, start: int, length: int) -> None:
        self.peer.play()
        self.read(way, start, length)

    # ------------------------------------------------------------------------------------------------- one read

    def read(self, way: str, start: int, length: int | None = None) -> None:
        """Reads, and compares with all that was there from the beginning of the call to its end."""
        first = len(self.history) - 1
        begin, count = (start, length or None) if "range" in way and way != "ranged" else (0, None)
        try:
            found = self.fetch(way, begin, count)
        except (s3dlio.S3dlioError, ValueError) as error:
            self.peer.wait_until_quiet()
            self.check_error(error, self.history[first:], begin)
            return
        self.peer.wait_until_quiet()
        there = [version for version in self.history[first:] if version is not None]
        end = None if count is None else begin + count
        assert found in [version[begin:end] for version in there], self.peer.transcript()

    def fetch(self, way: str, begin: int, count: int | None) -> bytes:
        if way in ("get", "ranged"):
            return bytes(self.client.get(URI, **(RANGED if way == "ranged" else {})))
        if way == "into":
            memory = bytearray(MARGIN + bytes(16 * CHUNK) + MARGIN)
            size = self.client.get_into(URI, memoryview(memory)[64:-64], **RANGED)
            assert memory.startswith(MARGIN)
            assert memory.endswith(MARGIN)
            return bytes(memory[64 : 64 + size])
        options = RANGED if way == "ranged-range" else {}
        return bytes(self.client.get_range(URI, begin, count, **options))

    def check_error(self, error: Exception, there: list[bytes | None], begin: int) -> None:
        note(f"{error!r}\n{self.peer.transcript()}")
        if isinstance(error, s3dlio.ObjectChangedError):
            assert len(there) > 1, "nobody changed it"
        elif isinstance(error, s3dlio.NotFoundError):
            assert None in there
        elif isinstance(error, s3dlio.InvalidRangeError):
            assert any(version is not None and begin >= len(version) for version in there)
        elif type(error) is ValueError:
            assert any(version is not None and len(version) > 16 * CHUNK for version in there), error
        else:
            raise AssertionError("an error that no change explains") from error

    def teardown(self) -> None:
        self.client.close()
        self.peer.close()
        write_tally()


def _unless_empty(fault: Behaviour) -> Behaviour:
    """What shortens an answer needs one that has a body."""

    def act(turn: Turn) -> None:
        versions = turn.peer.store.versions("b", "k")
        if versions and len(versions[-1].data) > CHUNK:
            fault(turn)
        else:
            turn.send(turn.serve())

    return act


ReaderMachine.TestCase.settings = EXTENT.settings()
TestReaderMachine = pytest.mark.timeout(3600 if EXTENT.examples > 200 else 600)(ReaderMachine.TestCase)
