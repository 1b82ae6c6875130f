"""Threads on one writer, and a collector that runs at random points: programs of their own, with a deadline.

``stress.py threads|collector SECONDS`` prints one line of JSON with what it counted. A deadlock ends it with every
thread's stack. The tests beside it run it for seconds; a nightly run does so for minutes.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import hashlib
import json
import random
import struct
import sys
import threading
import time
from typing import Any

import numpy as np
from behaviours import DropBeforeHead, Status
from peer import Peer, Rule
from scripted import PART, connect

import s3dlio

THREADS = 8
GRACE = 90.0  # seconds beyond its time after which a program counts as locked up
RECORD = struct.Struct("<4sHIIQ")  # mark, thread, number, payload's length, payload's digest
MARK = b"\xc5rec"
# Around what is copied, borrowed, packed and cut; small enough that records outnumber parts.
SIZES = (0, 1, 100, 4096, (1 << 16) - 1, 1 << 16, (1 << 16) + 1, 300_000, 1_500_000)
MOST = 24 * PART


def record(thread: int, number: int, length: int) -> bytes:
    payload = random.Random(thread << 32 | number).randbytes(length)
    digest = int.from_bytes(hashlib.blake2b(payload, digest_size=8).digest(), "little")
    return RECORD.pack(MARK, thread, number, length, digest) + payload


def check_records(data: bytes, written: list[int]) -> None:
    """Every record is there once and whole, those of one thread in their order, and nothing else is."""
    position, following = 0, [0] * len(written)
    while position < len(data):
        mark, thread, number, length, digest = RECORD.unpack_from(data, position)
        assert mark == MARK, f"no record begins at {position}"
        assert number == following[thread], f"thread {thread}: record {number} where {following[thread]} belongs"
        following[thread] += 1
        position += RECORD.size
        payload = data[position : position + length]
        assert int.from_bytes(hashlib.blake2b(payload, digest_size=8).digest(), "little") == digest
        position += length
    assert following == written, f"records stored {following}, written {written}"


def write_records(writer: s3dlio.MultipartUploadWriter, thread: int, until: float, written: list[int]) -> None:
    choose = random.Random()
    while time.monotonic() < until and writer.bytes_written < MOST:
        data = record(thread, written[thread], choose.choice(SIZES))
        kind = choose.randrange(4)
        if kind == 0:
            writer.write(data)
        elif kind == 1:
            writer.write(bytearray(data), copy=False)
        elif kind == 2:
            writer.write(memoryview(bytearray(data)))
        else:
            writer.write(np.frombuffer(data, np.uint8), copy=False)
        written[thread] += 1
        if choose.random() < 0.003:
            writer.flush()


def run_threads(seconds: float) -> dict[str, int]:
    """One writer after the other, eight threads on each, requests failing now and then."""
    counts = {"writers": 0, "writes": 0, "bytes": 0}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with Peer() as peer, connect(peer.endpoint_url) as client:
            peer.play(Rule(part=2, attempt=1, do=Status(503, "SlowDown")), Rule(part=4, attempt=1, do=DropBeforeHead()))
            writer = client.writer("s3://b/k", part_size=PART, max_in_flight=random.randint(1, 6))
            written = [0] * THREADS
            run_all(
                [(write_records, writer, thread, min(end, time.monotonic() + 5), written) for thread in range(THREADS)]
            )
            info = writer.close()
            data = peer.store.versions("b", "k")[-1].data
            assert info.total_bytes == len(data)
            check_records(data, written)
            assert peer.store.orphans() == []
        counts["writers"] += 1
        counts["writes"] += sum(written)
        counts["bytes"] += len(data)
    return counts


# ------------------------------------------------------------------------------------------------- the collector


class Cycle:
    """Garbage that only the collector finds, with whatever it holds."""

    def __init__(self, *held: Any) -> None:
        self.me, self.held = self, held


def use_and_drop(client: s3dlio.Client, name: str, until: float, counts: dict[str, int]) -> None:
    """Writers, views and reservations that end in cycles, in every state, beside others that are closed."""
    choose = random.Random()
    data = random.Random(5).randbytes(2 * PART + 5)
    while time.monotonic() < until:
        writer = client.writer(f"s3://b/{name}", part_size=PART, max_in_flight=2)
        way = choose.randrange(5)
        if way == 0:
            Cycle(writer)
        elif way == 1:
            writer.write(data)
            Cycle(writer, data)
        elif way == 2:
            view = writer.reserve(PART)
            Cycle(writer, view, np.frombuffer(view, np.uint8))
            del view
        elif way == 3:
            writer.write(bytearray(data[: PART + 1]), copy=False)
            writer.flush()
            Cycle(writer)
        else:
            writer.write(data)
            writer.close()
            view = client.get(f"s3://b/{name}")
            assert view == data
            Cycle(view, memoryview(view), writer)
            counts["closed"] += 1
            del view
        del writer
        counts["dropped"] += 1


def collect_at_random(stop: threading.Event) -> None:
    choose = random.Random()
    while not stop.wait(choose.random() * 0.01):
        gc.set_threshold(choose.choice([1, 2, 5, 50, 700]), choose.choice([1, 3, 10]), choose.choice([1, 5]))
        gc.collect(choose.randrange(3))


def run_collector(seconds: float) -> dict[str, int]:
    """Collections at random points on every thread, while writers in cycles are dropped and others work."""
    counts = {"dropped": 0, "closed": 0}
    end, stop = time.monotonic() + seconds, threading.Event()
    collector = threading.Thread(target=collect_at_random, args=(stop,))
    collector.start()
    before = gc.get_threshold()
    try:
        while time.monotonic() < end:
            # A peer keeps in memory all that it was sent, about 250 MB a second.
            until = min(end, time.monotonic() + 5)
            with Peer() as peer, connect(peer.endpoint_url) as client:
                run_all([(use_and_drop, client, f"k{number}", until, counts) for number in range(4)])
                gc.collect()
                peer.wait_for(lambda peer=peer: not peer.store.orphans(), timeout=60)
    finally:
        stop.set()
        collector.join()
        gc.set_threshold(*before)
    counts["collections"] = sum(one["collections"] for one in gc.get_stats())
    return counts


def run_all(tasks: list[tuple[Any, ...]]) -> None:
    """Each task on a thread of its own; raises the first error."""
    errors: list[BaseException] = []

    def run(call: Any, *arguments: Any) -> None:
        try:
            call(*arguments)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def main() -> None:
    program, seconds = sys.argv[1], float(sys.argv[2])
    faulthandler.dump_traceback_later(seconds + GRACE, exit=True)
    with contextlib.redirect_stdout(sys.stderr):
        counts = {"threads": run_threads, "collector": run_collector}[program](seconds)
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
