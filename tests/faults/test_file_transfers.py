"""Files on their way to and from a store that misbehaves: whole and right under their name, or not there at all."""

from __future__ import annotations

import os
import random
import resource
import threading
from pathlib import Path
from typing import Any

import pytest
from behaviours import CorruptResponse, ReplaceObject, ResetRequest, ResetResponse, Serve, Status
from marks import Connect, over_both
from peer import Peer, Rule, Turn

import s3dlio
from s3dlio import Client
from s3dlio._memory.pool import pool

MIB = 1 << 20
GET, PUT, PART = "GetObject", "PutObject", "UploadPart"
SMALL = {f"{number:03}": random.Random(number).randbytes(number * 97) for number in range(60)}
LARGE = random.Random(1).randbytes(12 * MIB + 345)
RANGES = {"chunk_size": MIB, "range_threshold": 2 * MIB}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "files"
    root.mkdir()
    for name, data in SMALL.items():
        (root / name).write_bytes(data)
    (root / "large").write_bytes(LARGE)
    return root


@pytest.fixture
def filled(peer: Peer) -> Peer:
    for name, data in SMALL.items():
        peer.store.put("b", f"t/{name}", data)
    peer.store.put("b", "t/large", LARGE)
    return peer


def content(root: Path) -> dict[str, bytes]:
    return {str(one.relative_to(root)): one.read_bytes() for one in root.rglob("*")}


def objects(peer: Peer) -> dict[str, bytes]:
    return {key.removeprefix("t/"): peer.store.versions("b", key)[-1].data for key in peer.store.keys("b")}


@over_both
def test_every_request_failing_once_leaves_every_file_exact(
    peer: Peer, client: Client, folder: Path, tmp_path: Path
) -> None:
    peer.play(
        Rule(PUT, attempt=1, do=Status(503, "SlowDown")),
        Rule(PART, attempt=1, do=ResetRequest(at=1000)),
        Rule(GET, attempt=1, do=ResetResponse(at=50)),
    )
    client.upload(folder, "s3://b/t/", 8, part_size=5 * MIB)
    assert objects(peer) == {**SMALL, "large": LARGE}
    client.download("s3://b/t/", tmp_path / "back", 8, **RANGES)
    assert content(tmp_path / "back") == {**SMALL, "large": LARGE}
    assert peer.store.orphans() == []


@pytest.mark.parametrize("size", [10, 12 * MIB], ids=["small", "large"])
def test_a_folder_that_takes_the_file_s_name_meanwhile_is_told(
    peer: Peer, client: Client, tmp_path: Path, size: int
) -> None:
    peer.store.put("b", "t/name", bytes(size))

    def make_folder(turn: Turn) -> None:
        (tmp_path / "name").mkdir(exist_ok=True)
        turn.send(turn.serve())

    (tmp_path / "first").write_bytes(b"")
    peer.play(Rule(GET, key="t/name", do=make_folder))
    with pytest.raises(s3dlio.UnsafePathError, match=r"'s3://b/t/name' is not stored: '.*/name' is a folder"):
        client.download("s3://b/t/", tmp_path, **RANGES)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["first", "name"]


def test_a_refused_file_is_told_and_all_others_are_stored(peer: Peer, client: Client, folder: Path) -> None:
    peer.play(
        Rule(PUT, key="t/030", do=Status(403, "AccessDenied")), Rule(PART, part=2, do=Status(403, "AccessDenied"))
    )
    with pytest.raises(s3dlio.ManyFailedError, match="2 of 61 files of s3://b/t/ failed") as caught:
        client.upload(folder, "s3://b/t/", part_size=5 * MIB)
    assert caught.value.failed.keys() == {"s3://b/t/030", "s3://b/t/large"}
    assert all(isinstance(one, s3dlio.AccessDeniedError) for one in caught.value.failed.values())
    assert objects(peer) == {name: data for name, data in SMALL.items() if name != "030"}
    assert {uri.removeprefix("s3://b/t/") for uri in caught.value.succeeded} == objects(peer).keys()
    assert peer.store.orphans() == []


@pytest.mark.parametrize("name", ["030", "large"])
@pytest.mark.parametrize("fault", [Status(403, "AccessDenied"), CorruptResponse(at=200)])
def test_an_object_that_cannot_be_had_leaves_no_file(
    filled: Peer, client: Client, tmp_path: Path, name: str, fault: Any
) -> None:
    filled.play(Rule(GET, key=f"t/{name}", do=fault))
    with pytest.raises(s3dlio.ManyFailedError, match="1 of 61 files") as caught:
        client.download("s3://b/t/", tmp_path, **RANGES)
    expected = s3dlio.AccessDeniedError if isinstance(fault, Status) else s3dlio.ChecksumMismatchError
    assert isinstance(caught.value.failed[f"s3://b/t/{name}"], expected)
    assert content(tmp_path) == {key: data for key, data in {**SMALL, "large": LARGE}.items() if key != name}


@pytest.mark.parametrize("resume", [False, True])
def test_an_old_file_stays_as_it_is_until_the_new_one_is_whole(
    filled: Peer, client: Client, tmp_path: Path, resume: bool
) -> None:
    (tmp_path / "large").write_bytes(b"old")
    filled.play(Rule(GET, offset=6 * MIB, do=Status(403, "AccessDenied")))
    with pytest.raises(s3dlio.AccessDeniedError):
        client.download("s3://b/t/large", tmp_path / "large", resume=resume, **RANGES)
    assert (tmp_path / "large").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == (3 if resume else 1)


def test_an_object_that_is_replaced_is_never_mixed(filled: Peer, client: Client, tmp_path: Path) -> None:
    filled.play(Rule(GET, offset=6 * MIB, do=ReplaceObject(random.Random(2).randbytes(len(LARGE)))))
    with pytest.raises(s3dlio.ObjectChangedError):
        client.download("s3://b/t/large", tmp_path / "large", **RANGES)
    assert content(tmp_path) == {}


def test_only_what_is_missing_is_fetched_again(filled: Peer, client: Client, tmp_path: Path) -> None:
    rule = Rule(GET, offset=11 * MIB, do=Status(403, "AccessDenied"))
    filled.play(rule)
    with pytest.raises(s3dlio.AccessDeniedError):
        client.download("s3://b/t/large", tmp_path / "large", 1, resume=True, **RANGES)
    (notes,) = (one for one in tmp_path.iterdir() if one.name.endswith(".ranges"))
    noted = notes.read_bytes().count(b"offset")
    assert noted > 3
    filled.play(Rule(GET, do=Serve()))
    before = len(filled.requests(GET))
    client.download("s3://b/t/large", tmp_path / "large", resume=True, **RANGES)
    assert content(tmp_path) == {"large": LARGE}
    assert len(filled.requests(GET)) - before == 13 - noted + 1  # the first range is always fetched


def test_a_spoiled_range_is_fetched_again_and_a_spoiled_note_is_not_believed(
    filled: Peer, client: Client, tmp_path: Path
) -> None:
    filled.play(Rule(GET, offset=11 * MIB, do=Status(403, "AccessDenied")))
    with pytest.raises(s3dlio.AccessDeniedError):
        client.download("s3://b/t/large", tmp_path / "large", 1, resume=True, **RANGES)
    (temporary,) = (one for one in tmp_path.iterdir() if not one.name.endswith(".ranges"))
    notes = temporary.with_name(temporary.name + ".ranges")
    with temporary.open("r+b") as file:
        file.seek(3 * MIB + 5)
        file.write(b"spoiled")
    with notes.open("ab") as file:
        file.write(b'{"offset": 0, "length": -5, "crc": 1}\n{"offset": 1048576}\n{"offset": 9, "le')
    filled.play(Rule(GET, do=Serve()))
    client.download("s3://b/t/large", tmp_path / "large", resume=True, **RANGES)
    assert content(tmp_path) == {"large": LARGE}


def test_an_object_that_changed_meanwhile_is_fetched_anew(filled: Peer, client: Client, tmp_path: Path) -> None:
    filled.play(Rule(GET, offset=11 * MIB, do=Status(403, "AccessDenied")))
    with pytest.raises(s3dlio.AccessDeniedError):
        client.download("s3://b/t/large", tmp_path / "large", 1, resume=True, **RANGES)
    other = random.Random(3).randbytes(len(LARGE))
    filled.store.put("b", "t/large", other)
    filled.play(Rule(GET, do=Serve()))
    client.download("s3://b/t/large", tmp_path / "large", resume=True, **RANGES)
    assert content(tmp_path) == {"large": other}


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("S3DLIO_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def begun(peer: Peer, client: Client, path: Path) -> str:
    """An upload of which one part is stored, whose last part was refused."""
    peer.play(Rule(PART, part=3, do=Status(403, "AccessDenied")))
    with pytest.raises(s3dlio.AccessDeniedError):
        client.upload(path, "s3://b/t/large", 1, part_size=5 * MIB, resume=True)
    (upload_id,) = peer.store.orphans()
    peer.play(Rule(PART, do=Serve()))
    return upload_id


def test_only_missing_parts_are_sent_again(peer: Peer, client: Client, folder: Path, state: Path) -> None:
    upload_id = begun(peer, client, folder / "large")
    before = len(peer.requests(PART))
    client.upload(folder / "large", "s3://b/t/large", part_size=5 * MIB, resume=True)
    assert objects(peer) == {"large": LARGE}
    assert [one.part for one in peer.requests(PART)[before:]] == [3]
    assert {one.upload_id for one in peer.requests(PART)} == {upload_id}
    assert peer.store.orphans() == []
    assert list(state.iterdir()) == []


@pytest.mark.parametrize("how", ["content", "time", "part_size", "store", "gone"])
def test_an_upload_of_something_else_is_not_continued(
    peer: Peer, client: Client, connect: Connect, folder: Path, state: Path, how: str
) -> None:
    upload_id = begun(peer, client, folder / "large")
    expected, options, part_size = LARGE, {}, 5 * MIB
    status = (folder / "large").stat()
    if how == "content":  # in the first part, with the old time
        expected = b"other" + LARGE[5:]
        (folder / "large").write_bytes(expected)
        os.utime(folder / "large", ns=(status.st_atime_ns, status.st_mtime_ns))
    elif how == "time":
        os.utime(folder / "large", ns=(0, 0))
    elif how == "part_size":
        part_size = 6 * MIB
    elif how == "store":
        client = connect(peer, endpoint_url=peer.endpoint_url.replace("127.0.0.1", "localhost"))
    else:
        client.resume("s3://b/t/large", upload_id).abort()
    client.upload(folder / "large", "s3://b/t/large", part_size=part_size, resume=True, **options)
    assert objects(peer) == {"large": expected}
    last = peer.requests("CompleteMultipartUpload")[-1].upload_id
    assert (last == upload_id) is (how == "content")  # the part that differs is sent again


def test_a_file_that_changes_while_it_is_read_is_not_stored(peer: Peer, client: Client, tmp_path: Path) -> None:
    path = tmp_path / "growing"
    path.write_bytes(LARGE)

    class Grow:
        def __call__(self, turn: Turn) -> None:
            with path.open("ab") as file:
                file.write(b"more")
            turn.send(turn.serve())

    peer.play(Rule(PART, part=1, do=Grow()))
    with pytest.raises(s3dlio.FileChangedError, match="growing' was changed while it was being read"):
        client.upload(path, "s3://b/t/growing", 1, part_size=5 * MIB)
    assert objects(peer) == {}
    assert peer.store.orphans() == []


@pytest.mark.parametrize("how", ["upload", "download"])
def test_no_more_is_in_flight_than_was_asked_for(
    filled: Peer, client: Client, folder: Path, tmp_path: Path, how: str
) -> None:
    lock, running, most = threading.Lock(), [0], [0]

    class Count:
        def __call__(self, turn: Turn) -> None:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            reply = turn.serve()
            turn.pause(0.002)
            with lock:
                running[0] -= 1
            turn.send(reply)

    for number in range(4):
        (folder / f"large{number}").write_bytes(LARGE)
        filled.store.put("b", f"t/large{number}", LARGE)
    filled.play(Rule(GET, do=Count()), Rule(PUT, do=Count()), Rule(PART, do=Count()))
    if how == "upload":
        client.upload(folder, "s3://b/u/", 3, part_size=5 * MIB)
    else:
        client.download("s3://b/t/", tmp_path / "back", 3, **RANGES)
    assert 1 < most[0] <= 3


def test_a_listing_that_fails_is_told_with_what_was_fetched(filled: Peer, client: Client, tmp_path: Path) -> None:
    for number in range(1100):
        filled.store.put("b", f"t/x{number:04}", b"1")
    filled.play(Rule("ListObjectsV2", attempt=2, do=Status(403, "AccessDenied")))
    with pytest.raises(s3dlio.ManyFailedError) as caught:
        client.download("s3://b/t/", tmp_path)
    assert isinstance(caught.value.failed["s3://b/t/"], s3dlio.AccessDeniedError)
    assert len(caught.value.succeeded) == 1000 == len(content(tmp_path))


def test_a_callback_that_gives_up_ends_everything(
    filled: Peer, client: Client, tmp_path: Path, held_before: int
) -> None:
    def give_up(event: s3dlio.ProgressEvent) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.download("s3://b/t/", tmp_path, 2, progress=give_up, **RANGES)
    assert not [name for name in content(tmp_path) if name.startswith(".")]
    assert pool().in_use_bytes <= held_before


def test_a_full_disk_is_told_before_a_large_object_is_fetched(filled: Peer, client: Client, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * MIB, before[1]))  # the most that a file may have
    try:
        with pytest.raises(OSError, match="File too large"):
            client.download("s3://b/t/large", tmp_path / "large", **RANGES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(filled.requests(GET)) == 1
    assert content(tmp_path) == {}


def test_a_target_that_is_no_folder_is_named(filled: Peer, client: Client, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"here")
    with pytest.raises(NotADirectoryError, match="file"):
        client.download("s3://b/t/large", tmp_path / "file" / "large")
    with pytest.raises(s3dlio.ManyFailedError):
        client.download("s3://b/t/", tmp_path / "file")
    assert content(tmp_path) == {"file": b"here"}
