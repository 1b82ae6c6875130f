"""Progress callbacks that are slow, call their writer, or raise: nothing hangs, and nothing that was told is missed."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from small_store import Peer

import s3dlio
from s3dlio import ProgressEvent

MIB = 1 << 20
PART = 5 * MIB
SIZE = 3 * PART + 1
URI = "s3://b/k"
RANGED: dict[str, Any] = {
    "range_optimization": True,
    "range_threshold": 0,
    "chunk_size": 65536,
    "range_concurrency": 4,
}
ENDINGS = [(SystemExit, 7), (KeyboardInterrupt, "from the callback"), (GeneratorExit,)]


def within_a_minute(call: Callable[[], Any]) -> Any:
    """What `call` returns or raises, on a thread of its own; hanging fails the test."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((call(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert outcome, "the call hangs"
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


class Slow:
    """Takes longer for each event than a part or range takes."""

    def __init__(self) -> None:
        self.events: list[ProgressEvent] = []

    def __call__(self, event: ProgressEvent) -> None:
        threading.Event().wait(0.05)
        self.events.append(event)


def test_flush_and_close_return_when_all_that_is_stored_was_told(client: s3dlio.Client) -> None:
    slow = Slow()
    writer = client.writer(URI, part_size=PART, progress=slow)
    writer.write(bytes(2 * PART + 1))
    writer.flush()
    assert [(event.bytes_done, event.parts_done) for event in slow.events][-1] == (2 * PART + 1, 3)
    writer.write(bytes(PART))
    writer.close()
    done = [event.bytes_done for event in slow.events]
    assert done == sorted(done)
    assert (done[-1], slow.events[-1].parts_done) == (3 * PART + 1, 4)


@pytest.mark.parametrize("size", [100, SIZE], ids=["whole", "parts"])
def test_put_bytes_returns_when_every_part_was_told(client: s3dlio.Client, size: int) -> None:
    slow = Slow()
    info = client.put_bytes(URI, bytes(size), part_size=PART, progress=slow)
    assert len(slow.events) == info.parts
    assert slow.events[-1].bytes_done == size


@pytest.mark.parametrize("options", [{}, RANGED], ids=["whole", "ranges"])
def test_get_returns_when_every_range_was_told(peer: Peer, client: s3dlio.Client, options: dict[str, Any]) -> None:
    peer.objects["/b/k"] = bytes(9 << 16)
    slow = Slow()
    client.get(URI, progress=slow, **options)
    assert len(slow.events) == (9 if options else 1)
    assert slow.events[-1].bytes_done == 9 << 16


def test_no_part_waits_for_the_callback(peer: Peer, client: s3dlio.Client) -> None:
    seen = []

    def until_all_are_stored(_: ProgressEvent) -> None:
        deadline = threading.Event()
        while len(peer.parts) < 4 and not deadline.wait(0.01):
            pass
        seen.append(len(peer.parts))

    within_a_minute(
        lambda: client.put_bytes(URI, bytes(SIZE), part_size=PART, max_in_flight=1, progress=until_all_are_stored)
    )
    assert seen[0] == 4


def test_no_range_waits_for_the_callback(peer: Peer, client: s3dlio.Client) -> None:
    peer.objects["/b/k"] = bytes(9 << 16)

    def until_all_were_asked_for(_: ProgressEvent) -> None:
        while sum(method == "GET" for method, _, _ in peer.requests) < 9:
            threading.Event().wait(0.01)

    assert len(within_a_minute(lambda: client.get(URI, progress=until_all_were_asked_for, **RANGED))) == 9 << 16


def test_a_callback_that_aborts_ends_the_upload(peer: Peer, client: s3dlio.Client) -> None:
    writer: s3dlio.MultipartUploadWriter
    aborted = threading.Event()

    def give_up(_: ProgressEvent) -> None:
        writer.abort()
        aborted.set()

    writer = client.writer(URI, part_size=PART, max_in_flight=2, progress=give_up)

    def write() -> None:
        writer.write(bytes(SIZE))
        writer.flush()

    with pytest.raises(s3dlio.WriterClosedError):
        within_a_minute(write)
    assert aborted.wait(30)
    assert (writer.closed, peer.uploads, peer.objects) == (True, 0, {})


@pytest.mark.parametrize(
    "call",
    [
        lambda w: w.write(b"x" * 100),
        lambda w: w.write(bytes(PART)),
        lambda w: (w.reserve(100), w.commit(100)),
        lambda w: w.flush(),
        lambda w: w.close(),
        lambda w: (w.parts_uploaded, w.bytes_written, w.upload_id, w.part_size, w.closed),
    ],
    ids=["write", "write-part", "reserve-commit", "flush", "close", "properties"],
)
def test_a_callback_may_call_anything_on_its_writer(
    peer: Peer, client: s3dlio.Client, call: Callable[[s3dlio.MultipartUploadWriter], Any]
) -> None:
    writer: s3dlio.MultipartUploadWriter
    called, done = [], threading.Event()

    def once(_: ProgressEvent) -> None:
        if not called:
            called.append("begun")
            call(writer)
            called.append("done")
            done.set()

    writer = client.writer(URI, part_size=PART, max_in_flight=1, progress=once)

    def write() -> s3dlio.UploadInfo:
        writer.write(bytes(2 * PART + 1))
        with contextlib.suppress(s3dlio.WriterClosedError, s3dlio.ReservationError):  # by the callback, meanwhile
            writer.flush()
        assert done.wait(30)
        return writer.close()

    info = within_a_minute(write)
    assert called == ["begun", "done"]
    assert len(peer.objects["/b/k"]) == info.total_bytes == writer.bytes_written


@pytest.mark.parametrize(("ending", "arguments"), [(one[0], one[1:]) for one in ENDINGS])
def test_what_ends_a_program_raised_by_the_callback_ends_the_upload(
    peer: Peer, client: s3dlio.Client, ending: type[BaseException], arguments: tuple[Any, ...]
) -> None:
    def end(_: ProgressEvent) -> None:
        raise ending(*arguments)

    writer = client.writer(URI, part_size=PART, max_in_flight=1, progress=end)

    def write() -> None:
        writer.write(bytes(SIZE))
        writer.flush()

    with pytest.raises(ending) as caught:
        within_a_minute(write)
    assert caught.value.args == arguments
    assert getattr(caught.value, "code", None) == getattr(ending(*arguments), "code", None)
    for call in (writer.close, writer.flush, lambda: writer.write(b"x")):
        with pytest.raises(s3dlio.WriterClosedError, match=ending.__name__) as later:
            within_a_minute(call)
        assert type(later.value.__cause__) is ending
    assert (writer.closed, peer.uploads, peer.objects) == (True, 0, {})


@pytest.mark.parametrize(("ending", "arguments"), [(one[0], one[1:]) for one in ENDINGS])
def test_what_ends_a_program_is_not_lost_though_the_object_was_published(
    peer: Peer, client: s3dlio.Client, ending: type[BaseException], arguments: tuple[Any, ...]
) -> None:
    def end(_: ProgressEvent) -> None:
        raise ending(*arguments)

    writer = client.writer(URI, progress=end)
    writer.write(b"x")
    with pytest.raises(ending):
        within_a_minute(writer.close)
    assert peer.objects["/b/k"] == b"x"
    assert writer.close().total_bytes == 1


@pytest.mark.parametrize("options", [{}, RANGED], ids=["whole", "ranges"])
@pytest.mark.parametrize(("ending", "arguments"), [(one[0], one[1:]) for one in ENDINGS])
def test_what_ends_a_program_ends_a_download(
    peer: Peer, client: s3dlio.Client, ending: type[BaseException], arguments: tuple[Any, ...], options: dict[str, Any]
) -> None:
    peer.objects["/b/k"] = bytes(9 << 16)

    def end(_: ProgressEvent) -> None:
        raise ending(*arguments)

    with pytest.raises(ending) as caught:
        within_a_minute(lambda: client.get(URI, progress=end, **options))
    assert getattr(caught.value, "code", None) == getattr(ending(*arguments), "code", None)


def test_an_exception_of_the_callback_is_logged_and_disturbs_nothing(
    peer: Peer, client: s3dlio.Client, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: ProgressEvent) -> None:
        raise ValueError("of the callback")

    with caplog.at_level(logging.ERROR, "s3dlio"):
        info = client.put_bytes(URI, bytes(SIZE), part_size=PART, progress=fail)
        assert len(client.get(URI, progress=fail)) == info.total_bytes
    assert sum("progress callback failed" in record.message for record in caplog.records) == info.parts + 1


def test_no_event_follows_an_abort(client: s3dlio.Client) -> None:
    entered, go_on, events = threading.Event(), threading.Event(), []

    def hold(event: ProgressEvent) -> None:
        events.append(event)
        entered.set()
        assert go_on.wait(30)

    writer = client.writer(URI, part_size=PART, progress=hold)
    writer.write(bytes(SIZE))
    assert entered.wait(30)
    within_a_minute(writer.abort)  # which does not wait for the callback
    go_on.set()
    with pytest.raises(s3dlio.WriterClosedError):
        writer.close()
    writer._state.join_reports()
    assert len(events) == 1


def test_of_a_part_that_is_replaced_the_bytes_count_once(client: s3dlio.Client) -> None:
    events: list[ProgressEvent] = []
    writer = client.writer(URI, part_size=PART, progress=events.append)
    for _ in range(3):
        writer.write(bytes(MIB))
        writer.flush()
    writer.close()
    assert [event.bytes_done for event in events] == [MIB, 2 * MIB, 3 * MIB]
    assert {event.parts_done for event in events} == {1}


@pytest.mark.parametrize(("options", "count"), [({}, 1), (RANGED, 8)], ids=["whole", "ranges"])
def test_a_range_is_reported_by_its_own_bytes(
    peer: Peer, client: s3dlio.Client, options: dict[str, Any], count: int
) -> None:
    peer.objects["/b/k"] = bytes(9 << 16)
    events: list[ProgressEvent] = []
    view = client.get_range(URI, 1 << 16, progress=events.append, **options)
    done = [event.bytes_done for event in events]
    assert (len(view), done[-1], len(done), done) == (8 << 16, 8 << 16, count, sorted(done))
    assert {event.total_bytes for event in events} == {8 << 16}


MANY = {f"s3://b/{number}": bytes([number]) * (number + 1) for number in range(100)}


def test_get_many_returns_when_every_object_was_reported(peer: Peer, client: s3dlio.Client) -> None:
    peer.objects.update({uri.removeprefix("s3:/"): data for uri, data in MANY.items()})
    events: list[ProgressEvent] = []
    client.get_many(list(MANY), max_in_flight=4, progress=events.append)
    assert {event.uri for event in events} == MANY.keys()
    assert [event.parts_done for event in events] == list(range(1, 101))
    sizes = [len(MANY[event.uri]) for event in events]
    assert [event.bytes_done for event in events] == [sum(sizes[: n + 1]) for n in range(100)]
    assert {(event.operation, event.total_bytes) for event in events} == {("download", None)}


def test_put_many_returns_when_every_object_was_reported(client: s3dlio.Client) -> None:
    items = [*MANY.items(), ("s3://b/large", bytes(PART + 1))]
    slow = Slow()
    client.put_many(items[-10:], max_in_flight=4, part_size=PART, progress=slow)
    total = sum(len(data) for _, data in items[-10:])
    assert [event.parts_done for event in slow.events] == list(range(1, 11))
    assert {event.uri for event in slow.events} == {uri for uri, _ in items[-10:]}
    assert slow.events[-1].bytes_done == total
    assert {(event.operation, event.total_bytes) for event in slow.events} == {("upload", total)}


def test_of_many_a_failed_object_is_reported_without_bytes(peer: Peer, client: s3dlio.Client) -> None:
    peer.objects["/b/1"] = b"four"
    events: list[ProgressEvent] = []
    client.get_many(["s3://b/0", "s3://b/1", "s3://b/2"], on_error="return", progress=events.append)
    assert [(event.parts_done, event.uri) for event in events if event.uri == "s3://b/1"] != []
    assert (len(events), events[-1].parts_done, events[-1].bytes_done) == (3, 3, 4)


@pytest.mark.parametrize("call", ["get_many", "put_many"])
@pytest.mark.parametrize(("ending", "arguments"), [(one[0], one[1:]) for one in ENDINGS])
def test_what_ends_a_program_ends_a_call_for_many(
    peer: Peer, client: s3dlio.Client, ending: type[BaseException], arguments: tuple[Any, ...], call: str
) -> None:
    peer.objects.update({uri.removeprefix("s3:/"): data for uri, data in MANY.items()})

    def end(_: ProgressEvent) -> None:
        raise ending(*arguments)

    objects: list[Any] = list(MANY) if call == "get_many" else list(MANY.items())
    with pytest.raises(ending) as caught:
        within_a_minute(lambda: getattr(client, call)(objects, progress=end))
    assert caught.value.args == arguments


def test_an_exception_of_the_callback_disturbs_no_call_for_many(
    client: s3dlio.Client, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: ProgressEvent) -> None:
        raise ValueError("of the callback")

    with caplog.at_level(logging.ERROR, "s3dlio"):
        assert len(client.put_many(list(MANY.items()), progress=fail)) == len(MANY)
    assert sum("progress callback failed" in record.message for record in caplog.records) == len(MANY)
