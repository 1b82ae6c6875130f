"""What a soak does, one scenario at a time on each of its threads: uploads, downloads, endings, kills, forks.

A scenario enters in the ledger what it begins and what the library reports, and judges nothing: that is the audit's.
An error of the contract is an answer; every other exception ends the soak.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import stress
from chaos import DOOMED, VERIFIED
from content import Content
from counts import Counts
from ledger import Records
from places import MinioPlace, Place

import s3dlio

KIB, MIB = 1 << 10, 1 << 20
PART = 5 * MIB
CHUNK = 64 * KIB
PROGRAMS = Path(__file__).with_name("programs.py")
LONGEST = 120.0  # seconds that a program may take
TRIES = 25

_SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, MIB, PART - 1, PART, PART + 1, 2 * PART, 3 * PART + 17]
_STEPS = [100, 4 * KIB, CHUNK - 1, CHUNK, 300_000, MIB, PART, 2 * PART + 1]


@dataclass
class Turn:
    """One scenario's place, dice and names; what it does is counted."""

    place: Place
    dice: random.Random
    counts: Counts
    name: str

    def content(self, size: int | None = None) -> Content:
        chosen = self.dice.choice([*_SIZES, self.dice.randrange(6 * PART)]) if size is None else size
        return Content(self.dice.getrandbits(48), chosen)

    def begin(self, key: str, content: Content) -> None:
        self.place.ledger.begin(key, content)

    def closed(self, key: str, content: Any, info: s3dlio.UploadInfo, size: int) -> None:
        self.place.ledger.close(key, content, info.version_id)
        self.counts.add("uploads")
        self.counts.add("bytes uploaded", size)

    @contextlib.contextmanager
    def answers(self, *expected: type[Exception]) -> Iterator[None]:
        """Counts what the library refuses; errors that are not of its contract pass."""
        try:
            yield
        except (s3dlio.S3dlioError, *expected) as error:
            self.counts.add(f"calls that ended in {type(error).__name__} at the {self.place.name}")


# ------------------------------------------------------------------------------------------------------- writing


def fill(turn: Turn, writer: s3dlio.MultipartUploadWriter, data: bytes, upto: int | None = None) -> list[bytearray]:
    """Writes `data` in steps of all sizes and ways; returns what was lent."""
    dice, lent, offset = turn.dice, [], 0
    end = len(data) if upto is None else upto
    step = dice.choice(_STEPS[2:]) if end > MIB else dice.choice(_STEPS)
    while offset < end:
        piece = data[offset : min(end, offset + step)]
        way = dice.randrange(4)
        if way == 0:
            view = writer.reserve(len(piece))
            view[:] = piece
            writer.commit(len(piece))
        elif way == 1:
            lent.append(bytearray(piece))
            writer.write(lent[-1], copy=False)
        else:
            writer.write(piece if way == 2 else np.frombuffer(piece, np.uint8))
        offset += len(piece)
        if dice.random() < 0.03:
            writer.flush()
    return lent


def options(turn: Turn) -> dict[str, Any]:
    checksum = turn.dice.choice(["crc64nvme", "crc64nvme", "crc32c", "crc32", None])
    return {"part_size": PART, "max_in_flight": turn.dice.randint(1, 6), "checksum": checksum}


def upload(turn: Turn) -> None:
    """One object, in steps of all sizes and ways; what was lent is the caller's again afterwards."""
    content = turn.content()
    turn.begin(turn.name, content)
    with turn.answers(), turn.place.client.writer(turn.place.uri(turn.name), **options(turn)) as writer:
        lent = fill(turn, writer, content.data())
        info = writer.close()
        for buffer in lent:
            buffer[:] = bytes(len(buffer))
        turn.closed(turn.name, content, info, content.size)
    read_some(turn, turn.name, 1)


def upload_many(turn: Turn) -> None:
    """Small objects by the dozen, read back together."""
    names = [f"{turn.name}-{number}" for number in range(turn.dice.randint(5, 40))]
    for name in names:
        content = turn.content(turn.dice.choice([0, 1, 100, 4 * KIB, CHUNK, 300_000]))
        turn.begin(name, content)
        with turn.answers():
            info = turn.place.client.put_bytes(turn.place.uri(name), content.data())
            turn.closed(name, content, info, content.size)
    pairs = turn.place.client.get_many([turn.place.uri(name) for name in names], max_in_flight=8, on_error="return")
    for name, (_, view) in zip(names, pairs, strict=True):
        with turn.answers():
            if isinstance(view, Exception):
                raise view
            note_read(turn, name, 0, None, view)


def upload_by_threads(turn: Turn) -> None:
    """Eight threads on one writer."""
    written = [0] * stress.THREADS
    whole = Records(written)
    turn.place.ledger.begin(turn.name, whole)
    until = time.monotonic() + turn.dice.uniform(0.2, 1.0)
    with turn.answers(), turn.place.client.writer(turn.place.uri(turn.name), **options(turn)) as writer:
        stress.run_all([(stress.write_records, writer, one, until, written) for one in range(stress.THREADS)])
        turn.closed(turn.name, whole, writer.close(), writer.bytes_written)


def end_early(turn: Turn) -> None:
    """Writers that are aborted, dropped, or left by an exception; and those of objects that cannot be written."""
    way = turn.dice.choice(["abort", "abort", "drop", "raise", "doomed"])
    if way == "doomed":
        turn.name = f"{DOOMED}-{turn.name}"
        content = turn.content(3 * PART)
    else:
        content = turn.content(turn.dice.choice([0, 100, PART, 4 * PART]))
    turn.begin(turn.name, content)
    writer = turn.place.client.writer(turn.place.uri(turn.name), **options(turn))
    with turn.answers(KeyError):
        if way == "abort":
            turn.counts.add("writers aborted")
            aborting = threading.Timer(turn.dice.uniform(0.0, 0.1), writer.abort)
            aborting.start()
            try:
                fill(turn, writer, content.data())
                turn.closed(turn.name, content, writer.close(), content.size)
            finally:
                aborting.join()
        elif way == "drop":
            turn.counts.add("writers dropped")
            fill(turn, writer, content.data())
            del writer
            gc.collect()
        elif way == "raise":
            turn.counts.add("writers left by an exception")
            with writer:
                fill(turn, writer, content.data())
                raise KeyError("the caller's own error")
        else:
            with writer:
                fill(turn, writer, content.data())
                turn.closed(turn.name, content, writer.close(), content.size)


# ------------------------------------------------------------------------------------------------------- reading


def note_read(turn: Turn, key: str, begin: int, end: int | None, data: Any) -> None:
    turn.place.ledger.read(key, begin, end, data)
    turn.counts.add("downloads")
    turn.counts.add("bytes downloaded", len(data))


def read_once(turn: Turn, key: str, dice: random.Random) -> None:
    client, uri = turn.place.client, turn.place.uri(key)
    ranged = {
        "range_optimization": True,
        "range_threshold": 0,
        "chunk_size": dice.choice([CHUNK, MIB]),
        "range_concurrency": dice.randint(1, 6),
    }
    way = dice.choice(["get", "ranged"] if key.startswith(VERIFIED) else ["get", "ranged", "into", "range"])
    if way in ("get", "ranged"):
        note_read(turn, key, 0, None, client.get(uri, **(ranged if way == "ranged" else {})))
    elif way == "into":
        memory = bytearray(7 * PART)
        size = client.get_into(uri, memory, **ranged)
        note_read(turn, key, 0, None, memoryview(memory)[:size])
    else:
        begin = dice.choice([0, 1, 1000, CHUNK, PART - 1])
        count = dice.choice([1, CHUNK, MIB, 2 * PART])
        note_read(turn, key, begin, begin + count, client.get_range(uri, begin, count, **ranged))


def read_some(turn: Turn, key: str, times: int) -> None:
    for _ in range(times):
        with turn.answers():
            read_once(turn, key, turn.dice)


def read_while_replaced(turn: Turn) -> None:
    """Two readers of an object that is written again and again, now longer, now shorter, now of the same size."""
    if turn.dice.random() < 0.5:
        turn.name = f"{VERIFIED}-{turn.name}"
    contents = [turn.content(turn.dice.choice([CHUNK, MIB, PART, 2 * PART, 3 * PART + 17])) for _ in range(4)]
    written = threading.Event()

    def write(content: Content) -> None:
        turn.begin(turn.name, content)
        with turn.answers():
            info = turn.place.client.put_bytes(turn.place.uri(turn.name), content.data(), part_size=PART)
            turn.closed(turn.name, content, info, content.size)

    def replace() -> None:
        try:
            for content in contents[1:]:
                write(content)
        finally:
            written.set()

    def read(dice: random.Random) -> None:
        while not written.is_set():
            with turn.answers():
                read_once(turn, turn.name, dice)

    write(contents[0])
    readers = [(read, random.Random(turn.dice.getrandbits(32))) for _ in range(2)]
    stress.run_all([(replace,), *readers])


# ------------------------------------------------------------------------------------------------------ processes


def killed_writer(turn: Turn) -> None:
    """A process that writes is killed at random moments, and the next one goes on where it was."""
    content = turn.content(turn.dice.randrange(2 * PART, 8 * PART))
    turn.begin(turn.name, content)
    wanted, kills = turn.dice.randint(1, 4), 0
    for _ in range(TRIES):
        killed = run_program(turn, "write", [content], turn.dice.uniform(0.0, 0.4) if kills < wanted else None)
        kills += killed
        if killed and not turn.place.versions(turn.name):
            continue
        if turn.place.versions(turn.name):
            break
    else:
        raise RuntimeError(f"{turn.name} was not written by {TRIES} processes")
    turn.counts.add("kills survived", kills)
    # One that was killed before it had the answer to Create leaves an upload, which only its caller can end.
    for left in turn.place.client.list_uploads(turn.place.uri(turn.name)):
        turn.counts.add("uploads of killed writers ended")
        turn.place.client.resume(left.uri, left.upload_id).abort()


def forking_writer(turn: Turn) -> None:
    """A process that forks while its parts travel: the child writes an object of its own."""
    contents = [turn.content(turn.dice.randrange(PART, 5 * PART)), turn.content(turn.dice.randrange(2 * PART))]
    turn.begin(turn.name, contents[0])
    turn.begin(f"{turn.name}-child", contents[1])
    run_program(turn, "fork", contents, None)
    turn.counts.add("forks")


def run_program(turn: Turn, program: str, contents: list[Content], kill_after: float | None) -> bool:
    """Runs a writing process, and kills it `kill_after` seconds after it began to write; whether that was in time."""
    names = [turn.name, f"{turn.name}-child"]
    command = [sys.executable, "-W", "ignore", str(PROGRAMS), program, json.dumps(turn.place.settings)]
    for name, content in zip(names, contents, strict=False):
        command += [turn.place.uri(name), str(content.number), str(content.size)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    pipe, killed = subprocess.PIPE, False
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as child:
        assert child.stdout is not None
        started = child.stdout.readline()
        try:
            if started and kill_after is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(kill_after)
                killed = child.poll() is None
                child.kill()
            out, errors = child.communicate(timeout=LONGEST)
        except BaseException:
            child.kill()
            raise
    turn.place.ledger.note(errors)
    for line in out.splitlines():
        _, uri, version_id = line.split(" ")
        which = names.index(uri.removeprefix(turn.place.uri("")))
        turn.place.ledger.close(names[which], contents[which], None if version_id == "None" else version_id)
        turn.counts.add("uploads")
        turn.counts.add("bytes uploaded", contents[which].size)
    if not killed and child.returncode and not re.search(r"^s3dlio\.\w+: ", errors, re.MULTILINE):
        raise RuntimeError(f"{program} ended with {child.returncode}:\n{errors[-4000:]}")
    return killed


def restart(turn: Turn) -> None:
    """MinIO dies in the middle of what the other threads do, and comes back."""
    if isinstance(turn.place, MinioPlace) and turn.place.restart(turn.dice.uniform(0.0, 1.0)):
        turn.counts.add("times MinIO was killed and restarted")


# How often each is chosen, relative to the others.
WEIGHTS: dict[Callable[[Turn], None], int] = {
    upload: 8,
    upload_many: 2,
    upload_by_threads: 2,
    end_early: 4,
    read_while_replaced: 4,
    killed_writer: 3,
    forking_writer: 1,
    restart: 1,
}
