"""Streams of a store that misbehaves: the bytes of one version in order, or an error; and nothing that lingers."""

from __future__ import annotations

import gc
import io
import random
import threading
import time

import pytest
from behaviours import (
    CorruptResponse,
    IgnoreRange,
    LostResponse,
    ReplaceObject,
    ResetResponse,
    Serve,
    Stall,
    Status,
    WithoutHeader,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from marks import Connect, over_both
from peer import Peer, Rule

import s3dlio
from s3dlio import Client
from s3dlio._memory.pool import pool

KIB, MIB = 1 << 10, 1 << 20
GET, URI = "GetObject", "s3://b/k"
DATA = random.Random(1).randbytes(6 * MIB + 77)
CHUNKS = {"chunk_size": 256 * KIB, "max_in_flight": 4}


@pytest.fixture(autouse=True)
def stored(peer: Peer) -> None:
    peer.store.put("b", "k", DATA)


def all_of(file: s3dlio.ObjectReader, step: int = 100_000) -> bytes:
    found = []
    while some := file.read(step):
        found.append(some)
    return b"".join(found)


@over_both
def test_every_request_failing_once_leaves_the_bytes_exact(peer: Peer, client: Client) -> None:
    peer.play(Rule(attempt=1, do=Status(503, "SlowDown")), Rule(attempt=2, do=ResetResponse(at=1000)))
    with client.open(URI) as file:
        assert all_of(file) == DATA
    assert b"".join(client.get_iter(URI, **CHUNKS)) == DATA  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["stream", "blocks", "direct", "chunks"])
def test_versions_are_never_mixed(peer: Peer, client: Client, how: str) -> None:
    other = random.Random(2).randbytes(len(DATA))
    if how == "chunks":
        peer.play(Rule(GET, offset=1024 * KIB, do=ReplaceObject(other)))
        with pytest.raises(s3dlio.ObjectChangedError):
            list(client.get_iter(URI, **CHUNKS))  # type: ignore[arg-type]
        return
    with client.open(URI) as file:
        assert file.read(10) == DATA[:10]
        peer.store.put("b", "k", other)
        if how == "blocks":
            file.seek(3 * MIB)
        with pytest.raises(s3dlio.ObjectChangedError):
            file.readinto(bytearray(len(DATA))) if how == "direct" else all_of(file)


@pytest.mark.parametrize("header", ["etag", "content-range", "last-modified"])
def test_a_store_that_says_little_is_read_all_the_same(peer: Peer, client: Client, header: str) -> None:
    peer.play(Rule(GET, do=WithoutHeader(header)))
    if header == "content-range":  # nothing says which bytes came
        with pytest.raises(s3dlio.S3Error):
            client.open(URI)
        return
    with client.open(URI) as file:
        file.seek(5 * MIB)
        assert file.read() == DATA[5 * MIB :]
    assert b"".join(client.get_iter(URI, **CHUNKS)) == DATA  # type: ignore[arg-type]


def test_a_store_that_ignores_ranges_is_read_whole(peer: Peer, client: Client) -> None:
    peer.play(Rule(GET, do=IgnoreRange()))
    with client.open(URI) as file:
        file.seek(5 * MIB)
        assert file.read() == DATA[5 * MIB :]


def test_the_last_chunk_is_handed_out_after_the_check(peer: Peer, client: Client) -> None:
    peer.play(Rule(GET, offset=1024 * KIB, do=CorruptResponse(at=5)))
    chunks = client.get_iter(URI, **CHUNKS)  # type: ignore[arg-type]
    found: list[s3dlio.BytesView] = []
    with pytest.raises(s3dlio.ChecksumMismatchError):
        found.extend(chunks)
    assert sum(map(len, found)) < len(DATA)
    assert list(chunks) == []


@pytest.mark.parametrize("way", ["stream", "direct"])
@pytest.mark.parametrize("how", ["read", "readinto", "readall"])
def test_a_read_that_failed_skips_nothing_when_it_is_repeated(peer: Peer, connect: Connect, way: str, how: str) -> None:
    data = random.Random(3).randbytes(12 * MIB)
    peer.store.put("b", "k", data)
    # Some of what is read is there before the request that fails: the rest of a block, or four chunks of a stream.
    before, count, failing = {
        "stream": (700 * KIB, 5 * MIB, 700 * KIB + 4 * 256 * KIB),
        "direct": (10, 10 * MIB, 256 * KIB),
    }[way]
    with connect(peer, attempts=1).open(URI, read_ahead=MIB) as file:
        assert file.read(before) == data[:before]
        peer.play(Rule(GET, offset=failing, do=Status(500, "InternalError")))

        def take() -> bytes:
            if how == "readinto":
                memory = bytearray(count)
                return bytes(memory[: file.readinto(memory)])
            return file.readall() if how == "readall" else file.read(count)

        with pytest.raises(s3dlio.S3Error):
            take()
        assert file.tell() == before
        peer.play(Rule(GET, do=Serve()))
        assert take() == (data[before:] if how == "readall" else data[before : before + count])


@pytest.mark.parametrize("lost", [False, True])
def test_an_exclusive_file_whose_answer_is_lost_says_that_the_object_may_be_its_own(
    peer: Peer, client: Client, lost: bool
) -> None:
    uri = "s3://b/exclusive"
    if lost:
        peer.play(Rule("PutObject", attempt=1, do=LostResponse()))
    file = client.open(uri, "xb")
    file.write(b"ours")
    if not lost:
        peer.store.put("b", "exclusive", b"theirs")
    with pytest.raises(s3dlio.ObjectExistsError) as caught:
        file.close()
    assert caught.value.uncertain == lost
    assert ("may be what this file wrote" in str(caught.value)) == lost
    assert [one.data for one in peer.store.versions("b", "exclusive")] == [b"ours" if lost else b"theirs"]


def test_random_access_fetches_little(peer: Peer, client: Client) -> None:
    with client.open(URI) as file:
        for offset in (5 * MIB, 100, 3 * MIB, 6 * MIB):
            file.seek(offset)
            assert file.read(50) == DATA[offset : offset + 50]
    asked = [one.headers["range"] for one in peer.requests(GET)]
    assert len(asked) == 5
    assert len(peer.requests()) == 5  # and nothing else: the size comes with the first block


def test_no_chunk_is_fetched_beyond_the_window(peer: Peer, client: Client) -> None:
    chunks = client.get_iter(URI, **CHUNKS)  # type: ignore[arg-type]
    first = next(chunks)
    deadline = time.monotonic() + 5
    while len(peer.requests(GET)) < 5 and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    threading.Event().wait(0.2)  # nothing more may come
    assert len(peer.requests(GET)) == 5  # the first one, and four in the window
    assert first == DATA[: 256 * KIB]
    assert b"".join(chunks) == DATA[256 * KIB :]


@pytest.mark.parametrize("how", ["close", "drop", "with"])
@pytest.mark.parametrize("what", ["chunks", "reader"])
def test_what_is_given_up_ends_its_requests(peer: Peer, client: Client, held_before: int, how: str, what: str) -> None:
    peer.play(Rule(GET, offset=2048 * KIB, do=Stall()))
    if what == "chunks":
        opened: s3dlio.ObjectChunks | s3dlio.ObjectReader = client.get_iter(URI, **CHUNKS)  # type: ignore[arg-type]
        next(opened)  # type: ignore[call-overload]
    else:
        opened = client.open(URI)
        assert len(opened.read(700 * KIB)) == 700 * KIB
    if how == "with":
        with opened:
            pass
    elif how == "close":
        opened.close()
    else:
        peer.play(Rule(GET, do=Serve()))
        peer.resume()
    del opened
    gc.collect()
    deadline = time.monotonic() + 10
    while pool().in_use_bytes > held_before:
        assert time.monotonic() < deadline, "memory was not given back"
        gc.collect()
        threading.Event().wait(0.01)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 3 * MIB),
    st.sampled_from([0, 256 * KIB, 64 * MIB]),
    st.lists(
        st.tuples(st.just("read"), st.sampled_from([-1, 0, 1, 1000, 300 * KIB, 9 * MIB]))
        | st.tuples(st.just("readinto"), st.sampled_from([0, 1, 5000, 2 * MIB, 9 * MIB]))
        | st.tuples(st.just("seek"), st.integers(0, 3 * MIB + 10))
        | st.tuples(st.just("end"), st.integers(-3 * MIB, 10))
        | st.tuples(st.just("skip"), st.integers(0, 100_000))
        | st.tuples(st.just("line"), st.just(0)),
        max_size=12,
    ),
)
def test_a_reader_is_like_a_file_in_memory(size: int, read_ahead: int, steps: list[tuple[str, int]]) -> None:
    with Peer() as peer, Client(
        endpoint_url=peer.endpoint_url, region="r", credentials=("a", "b"), addressing_style="path"
    ) as client:  # fmt: skip
        peer.store.put("b", "k", DATA[:size])
        model = io.BytesIO(DATA[:size])
        with client.open(URI, read_ahead=read_ahead) as file:
            for step, number in steps:
                if step == "read":
                    assert file.read(number) == model.read(number)
                elif step == "readinto":
                    ours, theirs = bytearray(number), bytearray(number)
                    assert file.readinto(ours) == model.readinto(theirs)
                    assert ours == theirs
                elif step == "line":
                    assert file.readline() == model.readline()
                elif step == "end" and size + number >= 0:
                    assert file.seek(number, 2) == model.seek(number, 2)
                elif step == "skip":
                    assert file.seek(number, 1) == model.seek(number, 1)
                elif step == "seek":
                    assert file.seek(number) == model.seek(number)
                assert file.tell() == model.tell()
