"""A failure lets go of payload memory at once, and never leaves it in a cycle for the collector to find."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from small_store import Peer, error

import s3dlio
from s3dlio._memory.pool import pool

MIB = 1 << 20
RANGED: dict[str, Any] = {"range_optimization": True, "range_threshold": 0, "chunk_size": 64 * 1024}


@contextlib.contextmanager
def no_cycles_with_payload(held_before: int) -> Iterator[None]:
    """What the collector would have to end is kept for inspection; it must hold no view of memory."""
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
        gc.collect()
        found = [thing for thing in gc.garbage if isinstance(thing, memoryview | s3dlio.BytesView)]
        assert found == []
        deadline = time.monotonic() + 10  # a worker that has told its error is still on its way out
        while pool().in_use_bytes != held_before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert pool().in_use_bytes == held_before
    finally:
        gc.set_debug(0)
        gc.enable()
        gc.garbage.clear()


def failing_write(client: s3dlio.Client) -> None:
    writer = client.writer("s3://b/k", part_size=5 * MIB)
    for _ in range(3):
        writer.reserve(5 * MIB)
        writer.commit(5 * MIB)
    writer.close()


def failing_small_write(client: s3dlio.Client) -> None:
    client.put_bytes("s3://b/k", b"x" * 100_000)


def failing_get(client: s3dlio.Client) -> None:
    client.get("s3://b/k")


def failing_ranges(client: s3dlio.Client) -> None:
    client.get("s3://b/k", **RANGED)


def failing_get_many(client: s3dlio.Client) -> None:
    client.get_many(["s3://b/k"] * 3)


def errors_of_get_many(client: s3dlio.Client) -> None:
    results = client.get_many(["s3://b/k"] * 3, on_error="return")
    assert all(isinstance(result, s3dlio.S3dlioError) for _, result in results)


@pytest.mark.parametrize(
    "call", [failing_write, failing_small_write, failing_get, failing_ranges, failing_get_many, errors_of_get_many]
)
@pytest.mark.parametrize("fault", ["refused", "throttled", "reset"])
def test_a_failed_call_leaves_no_cycle_with_payload(
    peer: Peer, client: s3dlio.Client, call: Callable[[s3dlio.Client], None], fault: str, held_before: int
) -> None:
    def script(_: Peer, method: str, path: str, headers: dict[str, str], __: bytes) -> Any:
        if method == "PUT" or (method == "GET" and headers.get("range", "bytes=0-").find("=0-") < 0):
            return broken()
        return broken() if method == "GET" and call is not failing_ranges else None

    def broken() -> Any:
        if fault == "reset":
            raise ConnectionResetError  # the peer's thread ends, and the connection with it
        return error(403, "AccessDenied") if fault == "refused" else error(503, "SlowDown")

    peer.handle_error = lambda *_: None  # type: ignore[method-assign]
    peer.script = script
    peer.objects["/b/k"] = bytes(400_000)
    with no_cycles_with_payload(held_before), contextlib.suppress(s3dlio.S3dlioError):
        call(client)


def test_a_failed_writer_holds_no_payload(peer: Peer, client: s3dlio.Client, held_before: int) -> None:
    peer.script = lambda _, method, *__: error(403, "AccessDenied") if method == "PUT" else None
    writer = client.writer("s3://b/k", part_size=5 * MIB)
    writer.write(bytearray(8 * MIB))
    with pytest.raises(s3dlio.AccessDeniedError):
        writer.close()
    assert (writer._state.account, pool().in_use_bytes) == (0, held_before)


def test_an_aborted_writer_holds_no_payload(client: s3dlio.Client, held_before: int) -> None:
    writer = client.writer("s3://b/k", part_size=5 * MIB)
    writer.write(bytearray(3 * MIB))
    writer.reserve(4 * MIB).release()
    writer.abort()
    assert (writer._state.account, pool().in_use_bytes) == (0, held_before)
