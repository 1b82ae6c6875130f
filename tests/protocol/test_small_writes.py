"""Writes of a few bytes between all other calls: the object is what was written, and every state speaks up."""

from __future__ import annotations

import io
import json
import pickle
import random
import signal
import tarfile
import threading
import time
from typing import Any

import numpy as np
import pytest
from small_store import Peer

import s3dlio

KIB, MIB = 1 << 10, 1 << 20
PART = 5 * MIB


@pytest.mark.parametrize("seed", range(6))
def test_any_mixture_of_calls_is_what_was_written(peer: Peer, client: s3dlio.Client, seed: int) -> None:
    chance = random.Random(seed)
    expected = bytearray()
    writer = client.writer("s3://b/k", part_size=PART)
    for _ in range(400):
        size = chance.choice([0, 1, 7, 512, 4 * KIB, 64 * KIB - 1, 64 * KIB, 300 * KIB])
        data = chance.randbytes(size)
        way = chance.choice(["write", "write", "write", "bytearray", "array", "commit", "flush"])
        if way == "commit":
            writer.reserve(size + 1)[:size] = data
            writer.commit(size)
        elif way == "flush":
            if chance.random() < 0.1:
                writer.flush()
            continue
        else:
            given: Any = {"write": bytes, "bytearray": bytearray, "array": lambda b: np.frombuffer(b, "u1")}[way](data)
            assert writer.write(given) == size
        expected += data
        assert writer.bytes_written == len(expected)
    info = writer.close()
    assert info.total_bytes == len(expected)
    assert peer.objects["/b/k"] == expected


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_small_writes_to_the_edge_of_a_part(peer: Peer, client: s3dlio.Client, extra: int) -> None:
    count, piece = PART // (4 * KIB), bytes(range(256)) * 16
    with client.writer("s3://b/k", part_size=PART) as writer:
        for _ in range(2 * count):
            writer.write(piece)
        for _ in range(2 if extra else 1):
            writer.write(b"x" * max(extra, 0))
    expected = piece * (2 * count) + b"x" * (2 * max(extra, 0))
    assert peer.objects["/b/k"] == expected
    if extra <= 0:  # no third part is begun for nothing
        assert not any("partNumber=3" in path for method, path, _ in peer.requests if method == "PUT")


def test_libraries_that_write_in_small_pieces(peer: Peer, client: s3dlio.Client) -> None:
    value = {str(number): list(range(number % 50)) for number in range(2000)}
    table = np.arange(10_000.0).reshape(100, 100)
    with client.writer("s3://b/pickle") as writer:
        pickle.dump(value, writer)
    with client.writer("s3://b/npy") as writer:
        np.save(writer, table)
    with client.writer("s3://b/json") as writer:
        for piece in json.JSONEncoder().iterencode(value):
            writer.write(piece.encode())
    with client.writer("s3://b/tar") as writer, tarfile.open(fileobj=writer, mode="w|") as tar:
        for number in range(50):
            member = tarfile.TarInfo(f"{number}.bin")
            member.size = number * 100
            tar.addfile(member, io.BytesIO(bytes([number]) * member.size))
    assert pickle.loads(peer.objects["/b/pickle"]) == value
    assert np.array_equal(np.load(io.BytesIO(peer.objects["/b/npy"])), table)
    assert json.loads(peer.objects["/b/json"]) == value
    with tarfile.open(fileobj=io.BytesIO(peer.objects["/b/tar"])) as tar:
        assert [tar.extractfile(name).read() for name in tar.getnames()] == [bytes([n]) * (n * 100) for n in range(50)]  # type: ignore[union-attr]


def test_every_state_refuses_a_small_write_as_it_does_a_large_one(peer: Peer, client: s3dlio.Client) -> None:
    def begun() -> s3dlio.MultipartUploadWriter:
        writer = client.writer("s3://b/k", part_size=PART)
        assert [writer.write(b"a"), writer.write(b"b")] == [1, 1]
        return writer

    writer = begun()
    reserved = writer.reserve(3)
    with pytest.raises(s3dlio.ReservationError, match="write"):
        writer.write(b"c")
    reserved[:] = b"cde"
    writer.commit(3)
    writer.write(b"f")
    writer.close()
    assert peer.objects["/b/k"] == b"abcdef"
    with pytest.raises(s3dlio.WriterClosedError):
        writer.write(b"g")
    writer = begun()
    writer.abort()
    with pytest.raises(s3dlio.WriterClosedError, match="aborted"):
        writer.write(b"g")
    assert writer.bytes_written == 2
    writer = begun()
    peer.script = lambda *_: (403, {}, b"<Error><Code>AccessDenied</Code></Error>")
    with pytest.raises(s3dlio.AccessDeniedError):
        writer.flush()
    with pytest.raises(s3dlio.AccessDeniedError):
        writer.write(b"g")


@pytest.mark.parametrize("data", ["text", None, 7, np.array(["a", None]), np.arange(9)[::2]], ids=repr)
def test_data_that_is_no_buffer_of_bytes_is_refused_between_small_writes(client: s3dlio.Client, data: Any) -> None:
    writer = client.writer("s3://b/k")
    writer.write(b"a")
    with pytest.raises((TypeError, ValueError)):
        writer.write(data)
    assert writer.write(b"b") == 1
    assert writer.close().total_bytes == 2


def test_small_writes_of_many_threads_stay_whole_and_in_each_threads_order(peer: Peer, client: s3dlio.Client) -> None:
    writer = client.writer("s3://b/k", part_size=PART)

    def work(name: int) -> None:
        for number in range(3000):
            writer.write(b"%d:%d;" % (name, number))
            if number % 500 == 0:
                writer.write(bytearray(b"%d:L;" % name) + bytearray(0))
                writer.write(b"")

    threads = [threading.Thread(target=work, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    info = writer.close()
    stored = bytes(peer.objects["/b/k"])
    assert info.total_bytes == len(stored)
    records = [record.split(b":") for record in stored.split(b";")[:-1]]
    for name in range(6):
        mine = [number for who, number in records if int(who) == name and number != b"L"]
        assert mine == [b"%d" % number for number in range(3000)]


def test_signals_between_small_writes_lose_none_and_double_none(peer: Peer, client: s3dlio.Client) -> None:
    """A handler that raises: what `write` returned for is in the object, and the writer has failed or holds it all."""

    class Interrupt(BaseException):
        pass

    armed = True

    def handler(*_: Any) -> None:
        if armed:
            raise Interrupt

    before = signal.signal(signal.SIGALRM, handler)
    uncertain = 0
    try:
        for attempt in range(30):
            writer = client.writer(f"s3://b/{attempt}", part_size=PART)
            written = 0
            signal.setitimer(signal.ITIMER_REAL, 0.003 + attempt * 0.0001)
            try:
                armed = True
                end = time.monotonic() + 5
                while time.monotonic() < end:
                    writer.write(b"%07d;" % written)
                    written += 1
            except Interrupt:
                pass
            finally:
                armed = False
                signal.setitimer(signal.ITIMER_REAL, 0)
            try:
                writer.close()
            except s3dlio.WriterClosedError:
                continue  # the interrupt had left it incomplete
            records = bytes(peer.objects[f"/b/{attempt}"]).split(b";")[:-1]
            # The interrupted call itself may have been taken, and been interrupted on its way back.
            assert records == [b"%07d" % number for number in range(len(records))]
            assert written <= len(records) <= written + 1
            uncertain += 1
    finally:
        signal.signal(signal.SIGALRM, before)
    assert uncertain > 0
