"""Cancelled awaits: they end soon, when nothing of ours uses the caller's memory any more, and they leave nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from behaviours import Serve, Stall, StallRequest, StallResponse
from marks import Connect, open_sockets
from peer import Peer, Rule

import s3dlio
from s3dlio import Client
from s3dlio._memory.pool import pool
from s3dlio._runtime.bounded import MOST_THREADS

KIB, MIB = 1 << 10, 1 << 20
URI = "s3://b/k"
DATA = random.Random(1).randbytes(12 * MIB + 77)
LONG_ENOUGH = 10.0  # a stalled peer would hold an await for the client's deadline of a minute


@pytest.fixture
def patient(peer: Peer, connect: Connect) -> Client:
    """Waits for a minute without progress."""
    peer.store.put("b", "k", DATA)
    return connect(peer, deadline=60.0)


async def cancelled_when(peer: Peer, operation: str, call: Awaitable[Any], part: int | None = None) -> None:
    """Cancels `call` once the peer has the request."""
    task = asyncio.ensure_future(call)
    while not peer.requests(operation, part):
        assert not task.done(), await task
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    begun = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begun < LONG_ENOUGH


RANGED: dict[str, Any] = {"range_threshold": MIB, "chunk_size": MIB}
CALLS: dict[str, tuple[str, Callable[[Client], Awaitable[Any]]]] = {
    "get": ("GetObject", lambda client: client.get_async(URI)),
    "ranges": ("GetObject", lambda client: client.get_async(URI, **RANGED)),
    "get-range": ("GetObject", lambda client: client.get_range_async(URI, 5, 100)),
    "get-many": ("GetObject", lambda client: client.get_many_async([URI] * 20)),
    "stat": ("HeadObject", lambda client: client.stat_async(URI)),
    "exists": ("HeadObject", lambda client: client.exists_async(URI)),
    "put": ("PutObject", lambda client: client.put_bytes_async("s3://b/put", b"x" * MIB)),
    "put-parts": ("UploadPart", lambda client: client.put_bytes_async(URI, DATA, part_size=5 * MIB)),
    "put-many": ("PutObject", lambda client: client.put_many_async([(f"s3://b/m{n}", b"x") for n in range(20)])),
    "list": ("ListObjectsV2", lambda client: client.list_async("s3://b/")),
    "delete": ("DeleteObject", lambda client: client.delete_async("s3://b/other")),
    "copy": ("CopyObject", lambda client: client.copy_async(URI, "s3://b/other")),
    "next-object": ("ListObjectsV2", lambda client: client.iter_objects_async("s3://b/").__anext__()),
    "columns": ("ListObjectsV2", lambda client: client.iter_objects_async("s3://b/").columns()),
    "next-chunk": ("GetObject", lambda client: client.get_iter_async(URI).__anext__()),
    "open": ("GetObject", lambda client: client.open_async(URI).__aenter__()),
    "download": ("GetObject", lambda client: client.download_async(URI, os.devnull + "-not/k")),
}


@pytest.mark.parametrize(("operation", "call"), CALLS.values(), ids=CALLS)
def test_a_stalled_call_ends_at_once(
    peer: Peer, patient: Client, tmp_path: Any, operation: str, call: Callable[[Client], Awaitable[Any]], request: Any
) -> None:
    peer.play(Rule(operation, do=Stall()))
    if "download" in request.node.name:
        call = lambda client: client.download_async(URI, tmp_path / "k")  # noqa: E731
    asyncio.run(cancelled_when(peer, operation, call(patient)))
    assert list(tmp_path.iterdir()) == []
    peer.play(Rule(operation, do=Serve()))
    peer.resume()
    assert patient.get(URI) == DATA  # the client goes on
    peer.wait_until_quiet()
    assert peer.store.orphans() == []


@pytest.mark.parametrize("at", [1000, 3 * MIB])
def test_nothing_is_received_into_the_caller_s_memory_after_the_await_has_ended(
    peer: Peer, patient: Client, at: int
) -> None:
    memory = bytearray(len(DATA))
    peer.play(Rule("GetObject", do=StallResponse(at=at)))
    asyncio.run(cancelled_when(peer, "GetObject", patient.get_into_async(URI, memory)))
    memory[:] = b"\xa5" * len(memory)  # its export has ended, too: a bytearray that is exported cannot be resized
    memory.append(1)
    peer.resume()
    peer.wait_until_quiet()
    time.sleep(0.05)
    assert memory == b"\xa5" * len(DATA) + b"\x01"


@pytest.mark.parametrize("parts", [1, 3])
def test_nothing_is_sent_from_the_caller_s_memory_after_the_await_has_ended(
    peer: Peer, patient: Client, parts: int
) -> None:
    size = 6 * MIB if parts == 3 else 4 * MIB
    memory = bytearray(size)
    operation = "UploadPart" if parts == 3 else "PutObject"
    peer.play(Rule(operation, do=StallRequest(at=100)))
    asyncio.run(cancelled_when(peer, operation, patient.put_bytes_async(URI, memory, part_size=5 * MIB)))
    memory.append(1)  # no export is left
    peer.resume()
    peer.wait_until_quiet()
    assert peer.store.versions("b", "k")[-1].data == DATA


WRITES: dict[str, tuple[str, Callable[[s3dlio.AsyncMultipartUploadWriter], Awaitable[Any]]]] = {
    "write": ("UploadPart", lambda writer: writer.write(bytearray(40 * MIB))),
    "borrowed": ("UploadPart", lambda writer: writer.write(bytearray(40 * MIB), copy=False)),
    "flush": ("UploadPart", lambda writer: writer.flush()),
    "close": ("CompleteMultipartUpload", lambda writer: writer.close()),
}


@pytest.mark.parametrize(("operation", "call"), WRITES.values(), ids=WRITES)
def test_a_writer_whose_call_is_cancelled_is_over_and_leaves_no_upload(
    peer: Peer, patient: Client, operation: str, call: Callable[[Any], Awaitable[Any]]
) -> None:
    peer.play(Rule(operation, do=Stall()))

    async def work() -> None:
        writer = patient.writer_async("s3://b/written", part_size=5 * MIB, max_in_flight=2)
        await writer.write(bytes(6 * MIB))
        await cancelled_when(peer, operation, call(writer))
        with pytest.raises(s3dlio.WriterClosedError):
            await writer.write(b"more")
        with pytest.raises(s3dlio.WriterClosedError):
            await writer.close()
        await writer.abort()

    asyncio.run(work())
    peer.resume()
    peer.wait_for(lambda: not peer.store.orphans())
    peer.wait_until_quiet()
    if operation == "UploadPart":
        assert not peer.store.versions("b", "written")


def test_a_cancelled_block_publishes_nothing(peer: Peer, patient: Client) -> None:
    async def store(begun: asyncio.Event) -> None:
        async with patient.writer_async("s3://b/written", part_size=5 * MIB) as writer:
            await writer.write(bytes(12 * MIB))
            begun.set()
            await asyncio.sleep(60)

    async def work() -> None:
        begun = asyncio.Event()
        task = asyncio.create_task(store(begun))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(work())
    peer.wait_for(lambda: not peer.store.orphans())
    peer.wait_until_quiet()
    assert not peer.store.versions("b", "written")


def test_a_read_that_is_cancelled_leaves_the_position_and_the_file_goes_on(peer: Peer, patient: Client) -> None:
    async def work() -> None:
        async with patient.open_async(URI, read_ahead=MIB) as file:
            assert await file.read(700 * KIB) == DATA[: 700 * KIB]
            peer.play(Rule("GetObject", offset=700 * KIB + 4 * 256 * KIB, do=Stall()))
            seen = len(peer.requests())
            task = asyncio.create_task(file.read(5 * MIB))
            while len(peer.requests()) < seen + 3:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert file.tell() == 700 * KIB
            peer.play(Rule("GetObject", do=Serve()))
            peer.resume()
            assert await file.read(5 * MIB) == DATA[700 * KIB : 700 * KIB + 5 * MIB]

    asyncio.run(work())


def test_a_listing_whose_await_is_cancelled_never_goes_on_with_a_gap(peer: Peer, patient: Client) -> None:
    peer.play(Rule("ListObjectsV2", do=Stall()))

    async def work() -> None:
        listing = patient.iter_objects_async("s3://b/")
        await cancelled_when(peer, "ListObjectsV2", listing.__anext__())
        peer.resume()
        with pytest.raises(s3dlio.S3dlioError, match="begin another one"):
            await listing.__anext__()

    asyncio.run(work())


def test_a_timeout_is_a_timeout(peer: Peer, patient: Client) -> None:
    peer.play(Rule("GetObject", do=Stall()))

    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await patient.get_async(URI)

    asyncio.run(work())


def test_a_call_that_has_not_begun_is_called_off(peer: Peer, patient: Client) -> None:
    peer.play(Rule("GetObject", do=Stall()))

    async def work() -> None:
        tasks = [asyncio.create_task(patient.get_async(URI)) for _ in range(MOST_THREADS + 20)]
        while len(peer.requests("GetObject")) < MOST_THREADS:
            await asyncio.sleep(0.01)
        for task in tasks[MOST_THREADS:]:
            task.cancel()
        assert all(isinstance(one, asyncio.CancelledError) for one in await asyncio.gather(
            *tasks[MOST_THREADS:], return_exceptions=True
        ))  # fmt: skip
        peer.resume()
        assert all(one == DATA for one in await asyncio.gather(*tasks[:MOST_THREADS]))

    asyncio.run(work())
    assert len(peer.requests("GetObject")) == MOST_THREADS


def test_a_loop_that_ends_with_calls_in_flight_ends_them(peer: Peer, patient: Client) -> None:
    peer.play(Rule("GetObject", do=Stall()))
    tasks: list[asyncio.Task[s3dlio.BytesView]] = []

    async def work() -> None:
        tasks.append(asyncio.create_task(patient.get_async(URI)))
        while not peer.requests("GetObject"):
            await asyncio.sleep(0.01)

    begun = time.monotonic()
    asyncio.run(work())  # cancels what is left
    assert time.monotonic() - begun < LONG_ENOUGH
    assert tasks[0].cancelled()


def test_ten_thousand_random_cancels_cost_nothing_afterwards(peer: Peer, patient: Client, held_before: int) -> None:
    """Gets and puts of small and large bodies, cancelled anywhere; then everything works, and nothing is left."""
    chance = random.Random(5)
    count = 10_000 if os.environ.get("S3DLIO_TESTS") == "full" else 1_500
    small = [f"s3://b/s{number}" for number in range(10)]
    for uri in small:
        patient.put_bytes(uri, uri.encode())
    memory = bytearray(2 * MIB)
    sockets, ended = open_sockets(), 0

    async def one(number: int) -> None:
        nonlocal ended
        uri = small[number % 10]
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: patient.get_async(uri),
            lambda: patient.stat_async(uri),
            lambda: patient.get_range_async(URI, number, 2 * MIB),
            lambda: patient.put_bytes_async(f"s3://b/p{number % 10}", bytes(300_000)),
            lambda: patient.get_many_async(small),
            lambda: patient.get_into_async(URI, bytearray(2 * MIB), length=2 * MIB),
        ]
        task = asyncio.ensure_future(chance.choice(calls)())
        await asyncio.sleep(chance.choice([0, 0, 0.0005, 0.002, 0.01]))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        ended += 1

    async def work() -> None:
        for start in range(0, count, 20):
            await asyncio.gather(*(one(number) for number in range(start, min(start + 20, count))))
        found = await asyncio.gather(*(patient.get_async(uri) for uri in small * 10))
        assert [bytes(view) for view in found] == [uri.encode() for uri in small * 10]
        del found
        assert await patient.get_into_async(URI, memory, length=len(memory)) == len(memory)

    asyncio.run(work())
    assert ended == count
    assert memory == DATA[: len(memory)]
    deadline = time.monotonic() + 10
    while pool().in_use_bytes > held_before or open_sockets() > sockets + 2 * MOST_THREADS:
        assert time.monotonic() < deadline, (pool().in_use_bytes, held_before, open_sockets(), sockets)
        gc.collect()
        threading.Event().wait(0.05)
    assert peer.store.orphans() == []
