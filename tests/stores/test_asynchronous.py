"""The asynchronous face on real stores: each twin does what its function does, on any loop."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Callable, Coroutine
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop

import s3dlio
from s3dlio import Client
from s3dlio._runtime.bounded import MOST_THREADS

MIB = 1 << 20
Runner = Callable[[Coroutine[Any, Any, Any]], Any]
RUNNERS: dict[str, Runner] = {"asyncio": asyncio.run, "uvloop": uvloop.run}
on_both = pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)


@on_both
def test_every_twin_does_what_its_function_does(store: Any, tmp_path: Path, run: Runner) -> None:
    data = os.urandom(3 * MIB)
    uri, many = store.uri("aio/one"), [store.uri(f"aio/many/{number}") for number in range(20)]

    async def work() -> None:
        info = await s3dlio.put_bytes_async(uri, data)
        assert info.total_bytes == len(data)
        assert await s3dlio.get_async(uri) == data
        assert await s3dlio.get_range_async(uri, 10, 20) == data[10:30]
        array = np.zeros(len(data), np.uint8)
        assert await s3dlio.get_into_async(uri, array) == len(data)
        assert array.tobytes() == data
        assert (await s3dlio.stat_async(uri)).size == len(data)
        assert (await s3dlio.exists_async(uri), await s3dlio.exists_async(uri + "-not")) == (True, False)
        infos = await s3dlio.put_many_async([(one, one.encode()) for one in many])
        assert [one.total_bytes for one in infos] == [len(one) for one in many]
        assert [bytes(view) for _, view in await s3dlio.get_many_async(many)] == [one.encode() for one in many]
        assert sorted(await s3dlio.list_async(store.uri("aio/many/"))) == sorted(many)
        assert sorted([one.uri async for one in s3dlio.iter_objects_async(store.uri("aio/many/"))]) == sorted(many)
        pages = [page async for page in s3dlio.iter_objects_async(store.uri("aio/"), recursive=False).pages()]
        assert [page.prefixes for page in pages] == [[store.uri("aio/many/")]]
        columns = await s3dlio.iter_objects_async(store.uri("aio/many/")).columns()
        assert int(columns.sizes.sum()) == sum(map(len, many))
        assert [one.size async for one in s3dlio.list_versions_async(uri)] == [len(data)]
        assert [[one.size for one in page] async for page in s3dlio.list_versions_async(uri).pages()] == [[len(data)]]
        assert (await s3dlio.copy_async(uri, uri + "-copy")).total_bytes == len(data)
        assert (await s3dlio.presign_async(uri)).method == "GET"
        assert await s3dlio.list_uploads_async(store.uri("aio/")) == []
        assert await s3dlio.abort_uploads_async(store.uri("aio/"), older_than=60) == []
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "file").write_bytes(data)
        assert (await s3dlio.upload_async(tmp_path / "in", store.uri("aio/up/"))).transferred[0].size == len(data)
        await s3dlio.download_async(store.uri("aio/up/"), tmp_path / "out")
        assert (tmp_path / "out" / "file").read_bytes() == data
        assert (await s3dlio.sync_async(store.uri("aio/up/"), tmp_path / "out")).actions == []
        assert await s3dlio.create_bucket_async(store.bucket + "-more")
        assert store.bucket + "-more" in [one.name for one in await s3dlio.list_buckets_async()]
        await s3dlio.delete_bucket_async(store.bucket + "-more")
        assert await s3dlio.delete_async(store.uri("aio/many/"), recursive=True) == 20
        assert await s3dlio.delete_all_versions_async(store.uri("aio/")) >= 3

    run(work())


@on_both
def test_writers_files_and_chunks_are_awaited(store: Any, run: Runner) -> None:
    data = os.urandom(12 * MIB)
    uri = store.uri("aio/writer")

    async def work() -> None:
        async with s3dlio.AsyncMultipartUploadWriter.from_uri(uri, part_size=5 * MIB) as writer:
            view = await writer.reserve(6 * MIB)
            view[:] = data[: 6 * MIB]
            await writer.commit(6 * MIB)
            for start in range(6 * MIB, 12 * MIB, 100_000):
                await writer.write(memoryview(data)[start : start + 100_000], copy=False)
            await writer.flush()
            assert (writer.bytes_written, writer.parts_uploaded, writer.closed) == (len(data), 3, False)
        assert (await writer.close()).total_bytes == len(data)
        chunks = [bytes(chunk) async for chunk in s3dlio.get_iter_async(uri, chunk_size=MIB)]
        assert b"".join(chunks) == data
        async with s3dlio.open_async(uri) as file:
            assert (await file.peek())[:10] == data[:10]
            assert await file.read(1000) == data[:1000]
            assert file.seek(-100, 2) == len(data) - 100
            memory = bytearray(200)
            assert await file.readinto(memory) == 100
            assert memory[:100] == data[-100:]
            file.seek(5)
            assert await file.readall() == data[5:]
        async with s3dlio.open_async(store.uri("aio/file"), "wb") as written:
            assert (await written.write(data[:100_000]), await written.write(b"x"), written.tell()) == (
                100_000, 1, 100_001,
            )  # fmt: skip
        assert written.info.total_bytes == 100_001
        with pytest.raises(FileExistsError):
            await s3dlio.open_async(store.uri("aio/file"), "xb")

        async def fails() -> None:
            async with s3dlio.open_async(store.uri("aio/half"), "wb") as half:
                await half.write(bytes(MIB))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fails()
        assert not await s3dlio.exists_async(store.uri("aio/half"))
        left = s3dlio.AsyncMultipartUploadWriter.from_uri(store.uri("aio/left"), part_size=5 * MIB, abort_on_drop=False)
        await left.write(data)
        await left.flush()
        upload_id = left.upload_id
        assert upload_id is not None
        resumed = await s3dlio.AsyncMultipartUploadWriter.resume(store.uri("aio/left"), upload_id)
        await resumed.write(data[resumed.resume_offset :])
        assert (await resumed.close()).total_bytes == len(data)
        await left.abort()

    run(work())


def test_calls_of_a_writer_that_begin_together_are_served_in_order(store: Any) -> None:
    pieces = [bytes([number]) * (70_000 + number) for number in range(200)]

    async def work() -> None:
        async with s3dlio.AsyncMultipartUploadWriter.from_uri(store.uri("aio/order")) as writer:
            await asyncio.gather(*(writer.write(piece) for piece in pieces))

    asyncio.run(work())
    assert s3dlio.get(store.uri("aio/order")) == b"".join(pieces)


def test_many_calls_take_few_threads(store: Any) -> None:
    s3dlio.put_bytes(store.uri("aio/small"), b"small")

    async def work() -> int:
        before = threading.active_count()
        most = 0

        async def one() -> None:
            nonlocal most
            assert await s3dlio.get_async(store.uri("aio/small")) == b"small"
            most = max(most, threading.active_count() - before)

        await asyncio.gather(*(one() for _ in range(1000)))
        return most

    assert asyncio.run(work()) <= MOST_THREADS + 8  # and the drivers


def test_one_client_serves_loops_one_after_the_other_and_at_once(store: Any) -> None:
    client = Client(endpoint_url=store.endpoint_url)
    client.put_bytes(store.uri("aio/loops"), b"content")

    async def fetch() -> list[bytes]:
        return [
            bytes(one) for one in await asyncio.gather(*(client.get_async(store.uri("aio/loops")) for _ in range(9)))
        ]

    for run in (asyncio.run, uvloop.run, asyncio.run):
        assert run(fetch()) == [b"content"] * 9
    found: list[list[bytes]] = []
    threads = [
        threading.Thread(target=lambda run=run: found.append(run(fetch())))  # type: ignore[misc]
        for run in (asyncio.run, uvloop.run) * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[b"content"] * 9] * 4


def _in_child(endpoint: str, uri: str) -> None:
    async def fetch() -> bytes:
        return bytes(await s3dlio.get_async(uri))

    os._exit(0 if asyncio.run(fetch()) == b"content" else 1)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_use_the_face_that_their_parent_has_used(store: Any, method: str) -> None:
    uri = store.uri("aio/children")

    async def fetch() -> bytes:
        await s3dlio.put_bytes_async(uri, b"content")
        return bytes(await s3dlio.get_async(uri))

    assert asyncio.run(fetch()) == b"content"
    child = multiprocessing.get_context(method).Process(target=_in_child, args=(store.endpoint_url, uri))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    if method == "spawn":
        resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]  # its pipe is no leak of ours


def test_errors_are_those_of_the_functions(store: Any) -> None:
    async def work() -> None:
        with pytest.raises(s3dlio.NotFoundError):
            await s3dlio.get_async(store.uri("aio/missing"))
        with pytest.raises(s3dlio.UnsupportedUriError):
            await s3dlio.get_async("nowhere")
        with pytest.raises(TypeError, match="did you mean 'chunk_size'"):
            await s3dlio.get_async(store.uri("x"), chunksize=1)  # type: ignore[call-arg]
        with pytest.raises(s3dlio.NotFoundError):
            [one async for one in s3dlio.iter_objects_async("s3://no-such-bucket-here/")]
        listing = s3dlio.iter_objects_async("s3://no-such-bucket-here/")
        with pytest.raises(s3dlio.NotFoundError):
            await listing.__anext__()
        with pytest.raises(s3dlio.S3dlioError, match="begin another one"):
            await listing.__anext__()
        writer = s3dlio.AsyncMultipartUploadWriter("no-such-bucket-here", "key")
        await writer.write(b"x")
        with pytest.raises(s3dlio.NotFoundError):
            await writer.close()
        reserved = s3dlio.AsyncMultipartUploadWriter.from_uri(store.uri("aio/r"))
        with pytest.raises(s3dlio.ReservationError):
            await reserved.commit(1)
        await reserved.abort()

    asyncio.run(work())


def test_a_loader_is_iterated_asynchronously(store: Any) -> None:
    uris = [store.uri(f"aio/loader/{number}") for number in range(30)]
    s3dlio.put_many([(uri, uri.encode()) for uri in uris])

    async def work() -> list[bytes]:
        loader = s3dlio.PyBytesAsyncDataLoader(s3dlio.PyDataset.from_uris(uris), {"prefetch": 4})
        return [bytes(view) async for view in loader]

    assert sorted(asyncio.run(work())) == sorted(uri.encode() for uri in uris)
