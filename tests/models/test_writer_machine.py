"""One writer against `BytesIO`: every order of calls, sizes around every boundary, faults in between.

Whatever happens, an object is there only if `close` returned, and then it is exactly what was written; every
error is one of the contract's, and nothing stays on the store that somebody would go on paying for.
"""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest
from behaviours import Stall
from faulty import CURABLE, FATAL, UPLOAD_PART
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from model import checksum_of
from peer import Behaviour, Peer, Rule
from scripted import EXTENT, PART, TALLY, Counted, await_no_orphans, bytes_at, connect, write_tally

import s3dlio

KIB = 1 << 10
URI = "s3://b/k"
MOST_PLAYS = 5  # each lets a request fail once more; the client tries more often than that

boundaries = st.sampled_from([0, 1, 4 * KIB, 64 * KIB, PART, 2 * PART])
nudges = st.sampled_from([0, 0, -1, 1, 17, -4096, 4096])


class WriterMachine(RuleBasedStateMachine):
    """One writer, the bytes it was given, and what was done to its peer."""

    def __init__(self) -> None:
        super().__init__()
        TALLY["examples"] += 1
        self.peer = Peer()
        self.client = connect(self.peer.endpoint_url)
        self.model = bytearray()
        self.rules: list[Rule] = []
        self.plays = 0
        self.broken = False  # a fault that retries cannot cure has been installed
        self.reserved: memoryview | None = None
        self.reserved_size = 0
        self.borrowed: list[Any] = []
        self.held: list[tuple[Any, bytes]] = []
        self.error: BaseException | None = None
        self.aborted = False
        self.info: s3dlio.UploadInfo | None = None

    @initialize(in_flight=st.integers(1, 3), checksum=st.sampled_from(["crc64nvme", "crc64nvme", "crc32c", None]))
    def start(self, in_flight: int, checksum: str | None) -> None:
        self.writer = self.client.writer(URI, part_size=PART, max_in_flight=in_flight, checksum=checksum)

    # -------------------------------------------------------------------------------------------- what may be done

    @property
    def open(self) -> bool:
        return self.error is None and not self.aborted and self.info is None

    def guarded(self, call: Any, *arguments: Any, **options: Any) -> Any:
        """Calls an open writer; what fails must be an error of the contract that a fault explains."""
        try:
            return call(*arguments, **options)
        except s3dlio.S3dlioError as error:
            self.note_failure(error)
            return None

    def note_failure(self, error: s3dlio.S3dlioError) -> None:
        note(f"{error!r}\n{self.peer.transcript()}")
        assert self.broken, f"{error!r} without a fault that explains it"
        assert isinstance(error, s3dlio.S3Error | s3dlio.TransportError | s3dlio.ChecksumMismatchError)
        self.error = error

    def size(self, boundary: int, nudge: int, to_the_edge: bool) -> int:
        """A size near a boundary, or the one that fills the open part (and then `nudge`), within the limit."""
        if to_the_edge:
            boundary = PART - len(self.model) % PART
        return max(0, min(boundary + nudge, EXTENT.parts * PART + 1 - len(self.model)))

    @precondition(lambda self: self.open and self.reserved is None)
    @rule(
        boundary=boundaries,
        nudge=nudges,
        to_the_edge=st.booleans(),
        kind=st.sampled_from(["bytes", "copied", "borrowed", "array"]),
    )
    def write(self, boundary: int, nudge: int, to_the_edge: bool, kind: str) -> None:
        size = self.size(boundary, nudge, to_the_edge)
        if kind == "array":
            size -= size % 8
        data = bytes_at(len(self.model), size)
        given: Any = data
        if kind == "array":
            given = np.frombuffer(bytearray(data), np.float64)
        elif kind != "bytes":
            given = bytearray(data)
        written = self.guarded(self.writer.write, given, copy=kind not in ("borrowed", "array"))
        if self.error is not None:
            return
        assert written == size
        self.model += data
        if kind in ("borrowed", "array"):
            self.borrowed.append(given)
        elif kind == "copied":
            _scribble(given)

    @precondition(lambda self: self.open and self.reserved is None)
    @rule(boundary=boundaries, nudge=nudges, to_the_edge=st.booleans())
    def reserve(self, boundary: int, nudge: int, to_the_edge: bool) -> None:
        size = self.size(boundary, nudge, to_the_edge)
        if size == 0:
            with pytest.raises(s3dlio.ConfigurationError):
                self.writer.reserve(0)
            return
        self.reserved = self.guarded(self.writer.reserve, size)
        self.reserved_size = size
        if self.reserved is not None:
            assert (len(self.reserved), self.reserved.format, self.reserved.readonly) == (size, "B", False)

    @precondition(lambda self: self.open and self.reserved is not None)
    @rule(part=st.sampled_from(["all", "half", "one", "none", "small"]), hold=st.booleans())
    def commit(self, part: str, hold: bool) -> None:
        view = self.reserved
        assert view is not None
        size = {"all": self.reserved_size, "half": self.reserved_size // 2, "one": 1, "none": 0, "small": 64 * KIB - 1}
        length = min(size[part], self.reserved_size)
        data = bytes_at(len(self.model), length)
        view[:length] = data
        held = np.frombuffer(view, np.uint8) if hold else None
        self.reserved = None
        self.guarded(self.writer.commit, length)
        if held is None:
            with pytest.raises(ValueError, match="released"):
                view[0]
        else:
            self.held.append((held[:length], data))
        if self.error is None:
            self.model += data

    @precondition(lambda self: self.open and self.reserved is None)
    @rule()
    def flush(self) -> None:
        self.guarded(self.writer.flush)
        if self.error is None:
            self.lend_nothing_any_more()
            assert b"".join(self.stored_parts()) == self.model, self.peer.transcript()

    @precondition(lambda self: self.open and self.reserved is None and len(self.model) > 0)
    @rule()
    def close(self) -> None:
        info = self.guarded(self.writer.close)
        if self.error is None:
            self.info = info
            self.check_published()

    @rule()
    def abort(self) -> None:
        self.writer.abort()
        if self.info is None and self.error is None:  # after a failure it changes nothing
            self.aborted = True

    @precondition(lambda self: self.open and not self.broken and self.reserved is None)
    @rule()
    def abort_while_a_call_and_parts_are_on_their_way(self) -> None:
        self.peer.play(Rule(UPLOAD_PART, do=Counted(Stall())))
        before = len(self.peer.requests(UPLOAD_PART))
        data = bytes_at(len(self.model), PART - len(self.model) % PART + 1)
        outcome: list[object] = []
        writing = threading.Thread(target=lambda: outcome.append(_outcome(self.writer.write, data)))
        writing.start()
        self.peer.wait_for(lambda: len(self.peer.requests(UPLOAD_PART)) > before)
        self.writer.abort()
        self.aborted = True
        writing.join(20)
        assert outcome in ([len(data)], [s3dlio.WriterClosedError])
        if outcome == [len(data)]:
            self.model += data
        self.peer.resume()

    # ------------------------------------------------------------------------------------------------- what breaks

    @precondition(lambda self: self.open and self.plays < MOST_PLAYS)
    @rule(fault=st.sampled_from(CURABLE))
    def something_breaks_once(self, fault: tuple[str, Behaviour]) -> None:
        self.plays += 1
        self.play(Rule(fault[0], attempt=1, do=Counted(fault[1])))

    @precondition(lambda self: self.open and not self.broken)
    @rule(fault=st.sampled_from(FATAL), chance=st.integers(0, 3))
    def something_breaks_for_good(self, fault: tuple[str, Behaviour], chance: int) -> None:
        if chance == 0:  # most writers should live
            self.broken = True
            self.play(Rule(fault[0], do=Counted(fault[1])))

    def play(self, new: Rule) -> None:
        """The newest rule comes first; those before it stay, and count their attempts anew."""
        self.rules.insert(0, new)
        self.peer.play(*self.rules)

    # ------------------------------------------------------------------------------------------------- what is misuse

    @precondition(lambda self: self.open and self.reserved is not None)
    @rule(call=st.sampled_from(["write", "flush", "close", "reserve"]))
    def call_out_of_turn(self, call: str) -> None:
        arguments = {"write": (b"x",), "reserve": (1,)}.get(call, ())
        self.expect_refusal(s3dlio.ReservationError, getattr(self.writer, call), *arguments)

    @precondition(lambda self: self.open and self.reserved is None)
    @rule()
    def commit_without_a_reservation(self) -> None:
        self.expect_refusal(s3dlio.ReservationError, self.writer.commit, 0)

    @precondition(lambda self: self.open and self.reserved is not None)
    @rule(beyond=st.sampled_from([-1, 1]))
    def commit_what_was_not_reserved(self, beyond: int) -> None:
        size = -1 if beyond < 0 else self.reserved_size + 1
        self.expect_refusal(s3dlio.ConfigurationError, self.writer.commit, size)

    def expect_refusal(self, refusal: type[Exception], call: Any, *arguments: Any) -> None:
        """The writer says what is wrong and stays usable, or tells of a failure that came meanwhile."""
        try:
            call(*arguments)
        except refusal:
            return
        except s3dlio.S3dlioError as error:
            self.note_failure(error)
            return
        raise AssertionError("it was not refused")

    @precondition(lambda self: not self.open)
    @rule(call=st.sampled_from(["write", "reserve", "flush", "commit", "close"]))
    def call_after_the_end(self, call: str) -> None:
        arguments: tuple[Any, ...] = {"write": (b"x",), "reserve": (1,), "commit": (0,)}.get(call, ())
        method = getattr(self.writer, call)
        if call == "close" and self.info is not None:
            assert method() is self.info
        elif self.error is not None:
            with pytest.raises(type(self.error)) as caught:
                method(*arguments)
            assert str(caught.value) == str(self.error)
        else:
            with pytest.raises(s3dlio.WriterClosedError):
                method(*arguments)

    # ------------------------------------------------------------------------------------------------ what must hold

    @invariant()
    def every_byte_is_counted(self) -> None:
        if hasattr(self, "writer") and self.error is None:
            assert self.writer.closed is not self.open
            if not self.aborted:
                assert self.writer.bytes_written == len(self.model)

    @invariant()
    def held_memory_never_shows_other_bytes(self) -> None:
        assert all(array.tobytes() == data for array, data in self.held)

    @invariant()
    def an_object_is_there_only_once_it_is_whole(self) -> None:
        versions = self.peer.store.versions("b", "k")
        if self.info is not None or not versions:
            return
        # An answer was lost and the next one refused: the error says that it does not know, and what is there is whole.
        assert isinstance(self.error, s3dlio.S3dlioError), self.peer.transcript()
        assert self.error.uncertain, self.peer.transcript()
        assert all(version.data == self.model for version in versions)

    def lend_nothing_any_more(self) -> None:
        """After flush and close, what was lent is the caller's again: other bytes in it change nothing."""
        for buffer in self.borrowed:
            _scribble(buffer)
        self.borrowed.clear()

    def stored_parts(self) -> list[bytes]:
        upload_id = self.writer.upload_id
        if upload_id is None:
            return []
        parts = self.peer.store.uploads[upload_id].parts
        return [parts[number].data for number in sorted(parts)]

    def check_published(self) -> None:
        self.lend_nothing_any_more()
        info = self.info
        assert info is not None
        version = self.peer.store.versions("b", "k")[-1]
        assert version.data == self.model, self.peer.transcript()
        assert (info.total_bytes, info.etag) == (len(self.model), version.etag)
        assert info.parts == (version.parts or 1)
        if info.checksum_algorithm is not None:
            assert info.checksum == checksum_of(info.checksum_algorithm, bytes(self.model))
        assert self.peer.store.orphans() == []

    def teardown(self) -> None:
        try:
            if hasattr(self, "writer"):
                self.end()
        finally:
            self.client.close()
            self.peer.close()
            write_tally()

    def end(self) -> None:
        """Every writer is closed at last, if it can be."""
        if self.open and self.reserved is not None:
            self.commit("none", False)
        if self.open:
            info = self.guarded(self.writer.close)
            if self.error is None:
                self.info = info
                self.check_published()
        if self.info is None:
            await_no_orphans(self.peer)
            self.an_object_is_there_only_once_it_is_whole()
        self.held_memory_never_shows_other_bytes()


def _outcome(call: Any, *arguments: Any) -> object:
    """What a call returns, or the class of what it raises."""
    try:
        return call(*arguments)
    except Exception as error:
        return type(error)


def _scribble(buffer: Any) -> None:
    memory = memoryview(buffer).cast("B")
    if memory.nbytes:
        memory[:] = b"\xee" * memory.nbytes


WriterMachine.TestCase.settings = EXTENT.settings()
TestWriterMachine = pytest.mark.timeout(3600 if EXTENT.examples > 200 else 600)(WriterMachine.TestCase)


@pytest.fixture(autouse=True, scope="module")
def leave_nothing() -> Any:
    yield
    gc.collect()
