"""The writer against a scripted peer: overlap, waiting, the account of memory, misuse and threads."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from small_store import Peer

import s3dlio

MIB = 1 << 20


def test_parts_travel_while_the_caller_is_still_writing(peer: Peer, client: s3dlio.Client) -> None:
    arrived, go_on = threading.Event(), threading.Event()

    def slow(_: Peer, method: str, *__: Any) -> None:
        if method == "PUT":
            arrived.set()
            assert go_on.wait(30)

    peer.script = slow
    writer = client.writer("s3://b/k", part_size=5 * MIB)
    writer.write(bytes(6 * MIB))
    assert arrived.wait(30)  # part 1 is on its way, and the peer holds it
    writer.write(bytes(6 * MIB))
    assert writer.parts_uploaded == 0
    go_on.set()
    assert writer.close().total_bytes == 12 * MIB


def test_abort_wakes_a_caller_that_waits_for_room(peer: Peer, client: s3dlio.Client) -> None:
    go_on = threading.Event()
    peer.script = lambda _, method, *__: go_on.wait(30) and None if method == "PUT" else None
    writer = client.writer("s3://b/k", part_size=5 * MIB, max_in_flight=1)
    raised: list[BaseException] = []
    full = threading.Event()

    def fill() -> None:
        try:
            for number in range(100):
                if number == 1:
                    full.set()
                writer.write(bytearray(5 * MIB))
        except s3dlio.WriterClosedError as error:
            raised.append(error)

    thread = threading.Thread(target=fill)
    thread.start()
    assert full.wait(30)
    writer.abort()
    thread.join(30)
    go_on.set()
    assert raised


@pytest.mark.parametrize("max_in_flight", [1, 2, 4])
@pytest.mark.parametrize(
    "calls",
    [
        [("reserve", 5, 5)] * 6,
        [("reserve", 16, 16)] * 3,
        [("reserve", 7, 0.0001)] * 8,
        [("reserve", 9, 4)] * 6,
        [("reserve", 5, 3)] * 8,
        [("write", 1, 0)] * 20,
        [("write", 12, 0)] * 3,
        [("borrow", 12, 0)] * 3,
        [("borrow", 3, 0)] * 8,
        [("borrow", 3, 0), ("reserve", 6, 2), ("write", 1, 0)] * 4,
    ],
    ids=[
        "parts",
        "large",
        "hardly-used",
        "half-used",
        "tails",
        "small-writes",
        "large-writes",
        "lent",
        "lent-small",
        "mixed",
    ],
)
def test_the_account_never_exceeds_its_formula(
    client: s3dlio.Client, calls: list[tuple[str, int, float]], max_in_flight: int
) -> None:
    part_size = 5 * MIB
    largest = max(int(call[1] * MIB) for call in calls)
    bound = (max_in_flight + 2) * part_size + max(0, largest - part_size)
    writer = client.writer("s3://b/k", part_size=part_size, max_in_flight=max_in_flight)
    upload, peak, total = writer._state, 0, 0
    take = upload.take

    def taking(*arguments: Any) -> None:
        nonlocal peak
        take(*arguments)
        peak = max(peak, upload.account)

    upload.take = taking  # type: ignore[method-assign]  # observes, changes nothing
    for kind, size, committed in calls:
        if kind == "reserve":
            writer.reserve(int(size * MIB))
            writer.commit(int(committed * MIB))
            total += int(committed * MIB)
        else:
            total += writer.write(bytearray(size * MIB), copy=kind == "write")
    assert writer.close().total_bytes == total
    assert 0 < peak <= bound
    assert upload.account == 0


def test_misuse_of_reservations_names_the_remedy(client: s3dlio.Client) -> None:
    writer = client.writer("s3://b/k")
    with pytest.raises(s3dlio.ReservationError, match="reserve"):
        writer.commit(1)
    view = writer.reserve(10)
    for call in (lambda: writer.reserve(1), lambda: writer.write(b"x"), writer.flush, writer.close):
        with pytest.raises(s3dlio.ReservationError, match="commit"):
            call()
    with pytest.raises(s3dlio.ConfigurationError, match="n=11"):
        writer.commit(11)
    view[:] = b"0123456789"
    writer.commit(10)
    with pytest.raises(ValueError, match="released"):
        view[0] = 1
    assert writer.close().total_bytes == 10


@pytest.mark.parametrize("size", [0, -1, 1.5, float("nan"), "7", True])
def test_reservations_of_no_size_are_refused(client: s3dlio.Client, size: Any) -> None:
    with pytest.raises(s3dlio.ConfigurationError, match="n="):
        client.writer("s3://b/k").reserve(size)


def test_a_view_held_across_commit_never_shows_other_bytes(client: s3dlio.Client) -> None:
    import numpy as np

    writer = client.writer("s3://b/k", part_size=5 * MIB)
    held = []
    for number in range(6):
        array = np.frombuffer(writer.reserve(MIB), np.uint8)
        array[:] = number
        writer.commit(MIB)
        held.append(array)
    writer.close()
    assert [set(array.tolist()) for array in held] == [{number} for number in range(6)]


@pytest.mark.parametrize(
    ("data", "named"),
    [("text", "encode"), (5, "offers no buffer"), (None, "offers no buffer"), ([1, 2], "offers no buffer")],
)
def test_data_that_is_no_buffer_is_refused(peer: Peer, client: s3dlio.Client, data: Any, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        client.put_bytes("s3://b/k", data)
    assert peer.requests == []


def test_data_that_is_not_contiguous_is_refused(peer: Peer, client: s3dlio.Client) -> None:
    import numpy as np

    with pytest.raises(ValueError, match="ascontiguousarray"):
        client.put_bytes("s3://b/k", np.zeros((4, 4))[:, 1])
    with pytest.raises(ValueError, match="read-only"):
        client.get_into("s3://b/k", b"xxxx")

    class OnDevice:
        __cuda_array_interface__ = None

    with pytest.raises(TypeError, match="cpu"):
        client.put_bytes("s3://b/k", OnDevice())
    assert peer.requests == []


@pytest.mark.parametrize("uri", ["http://b/k", "s3:/b/k", "s3://", "s3://b", "s3://b/", "b/k", "s3://b/a\r\nb"])
def test_uris_that_are_none_are_refused(peer: Peer, client: s3dlio.Client, uri: str) -> None:
    with pytest.raises(s3dlio.UnsupportedUriError):
        client.put_bytes(uri, b"x")
    with pytest.raises(s3dlio.UnsupportedUriError):
        client.get_many(["s3://b/k", uri])
    assert peer.requests == []


def test_an_unknown_option_is_named(client: s3dlio.Client) -> None:
    with pytest.raises(TypeError, match="part_sise"):
        s3dlio.MultipartUploadWriter("b", "k", client=client, part_sise=5)


def test_the_writers_of_many_threads_keep_each_write_whole(peer: Peer, client: s3dlio.Client) -> None:
    writer = client.writer("s3://b/k", part_size=5 * MIB)

    def write(mark: int) -> None:
        for _ in range(20):
            writer.write(bytes([mark]) * 100_003)

    threads = [threading.Thread(target=write, args=(mark,)) for mark in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert writer.close().total_bytes == 8 * 20 * 100_003
    data = peer.objects["/b/k"]
    runs = [data[start : start + 100_003] for start in range(0, len(data), 100_003)]
    assert all(run == run[:1] * 100_003 for run in runs)
