"""`cp` and `mv` between files and objects: where things go, what a dry run says, what is left after a failure."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from behaviours import Stall, Status
from model import Reply
from peer import Peer, Rule
from shell import Ended, s3dlio, start

Here = Callable[..., Ended]
FILES = {"a.txt": b"1", "e/b.npy": b"22", "e/f/c.txt": b"333", "odd [1] +%41\u0301.bin": b"4444"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with files in ``src``."""
    monkeypatch.chdir(tmp_path)
    for name, data in FILES.items():
        path = tmp_path / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in sorted(folder.rglob("*")) if one.is_file()}


def objects_of(store: Any, prefix: str = "") -> dict[str, bytes]:
    listed = store.boto3.list_objects_v2(Bucket=store.bucket, Prefix=prefix).get("Contents", [])
    return {one["Key"].removeprefix(prefix): store.read(one["Key"]) for one in listed}


def test_a_folder_goes_up_across_and_down_again(minio: Any, folder: Path) -> None:
    assert s3dlio("cp", "-r", "src", minio.uri("x/")).code == 0
    assert objects_of(minio, "x/") == FILES
    assert s3dlio("cp", "-r", minio.uri("x/"), minio.uri("y/")).code == 0
    assert objects_of(minio, "y/") == FILES
    ended = s3dlio("cp", "-r", minio.uri("y/"), "down")
    assert (ended.code, files_below(folder / "down")) == (0, FILES)
    assert re.fullmatch(r"s3dlio cp: 4 copied, 10 B, in [\d.]+ s\n", ended.err)


@pytest.mark.parametrize(
    ("arguments", "destinations"),
    [
        (["src/a.txt", "s3://B/k"], ["k"]),
        (["src/a.txt", "s3://B/k/"], ["k/a.txt"]),
        (["src/a.txt", "s3://B"], ["a.txt"]),
        (["src/a.txt", "src/e/b.npy", "s3://B/k/"], ["k/a.txt", "k/b.npy"]),
        (["-r", "src/e", "s3://B/k"], ["k/b.npy", "k/f/c.txt"]),
        (["-r", "src/e/", "s3://B"], ["b.npy", "f/c.txt"]),
        (["-r", "src", "s3://B/k/", "--exclude", "*", "--include", "*.txt"], ["k/a.txt", "k/e/f/c.txt"]),
        (["src/a.txt", "s3://B/k", "--exclude", "*"], []),
    ],
)
def test_where_files_go_is_what_the_dry_run_says(
    here: Here, embedded: Any, folder: Path, arguments: list[str], destinations: list[str]
) -> None:
    given = [one.replace("s3://B", f"s3://{embedded.bucket}") for one in arguments]
    rehearsed = here("cp", *given, "--dry-run")
    assert objects_of(embedded) == {}
    done = here("cp", *given)
    assert sorted(objects_of(embedded)) == destinations
    assert (done.lines, done.code) == (rehearsed.lines, 0 if destinations else 1)
    assert here("cp", *given).lines == done.lines  # the second time goes to the same places
    assert sorted(objects_of(embedded)) == destinations


@pytest.mark.parametrize(
    ("arguments", "paths"),
    [
        (["s3://B/src/a.txt", "k"], ["k"]),
        (["s3://B/src/a.txt", "k/"], ["k/a.txt"]),
        (["s3://B/src/a.txt", "."], ["a.txt"]),
        (["-r", "s3://B/src/e/", "k"], ["k/b.npy", "k/f/c.txt"]),
        (["s3://B/src/**/*.txt", "k"], ["k/a.txt", "k/e/f/c.txt"]),
        (["-r", "s3://B/src/", "k", "--exclude", "e/f/*", "--exclude", "odd*"], ["k/a.txt", "k/e/b.npy"]),
    ],
)
def test_where_objects_go_is_what_the_dry_run_says(
    here: Here, embedded: Any, tmp_path: Path, monkeypatch: Any, arguments: list[str], paths: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, data in FILES.items():
        embedded.boto3.put_object(Bucket=embedded.bucket, Key=f"src/{name}", Body=data)
    given = [one.replace("s3://B", f"s3://{embedded.bucket}") for one in arguments]
    rehearsed = here("cp", *given, "--dry-run")
    assert files_below(tmp_path) == {}
    done = here("cp", *given)
    assert (done.code, done.lines, sorted(files_below(tmp_path))) == (0, rehearsed.lines, paths)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a", "b"], "is an S3 URI|an S3 URI such as"),
        (["src", "s3://b/k"], "src is a folder; copy what it holds with --recursive"),
        (["s3://b/k/", "."], "copy that with --recursive"),
        (["-r", "s3://b/k", "."], "write s3://b/k/ with --recursive"),
        (["src/a.txt", "src/e", "s3://b/k", "-r"], "write s3://b/k/"),
        (["s3://b/k", "s3://b/k"], "onto itself"),
        (["-r", "s3://b/k/", "s3://b/k/below/"], "onto itself"),
        (["-", "s3://b/k/"], "names no object"),
        (["-", "s3://b/k", "--dry-run"], "stands for a stream"),
        (["-r", "src/*", "s3://b/", "--exclude", "x"], "leave it to the shell"),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(
    here: Here, embedded: Any, folder: Path, arguments: list[str], words: str
) -> None:
    ended = here("cp", *arguments)
    assert (ended.code, ended.out) == (252, "")
    assert re.search(words, ended.err)


def test_streams_come_and_go_with_a_dash(minio: Any) -> None:
    assert s3dlio("cp", "-", minio.uri("k"), stdin=b"content").code == 0
    assert s3dlio("cp", minio.uri("k"), "-") == Ended(0, "content", "")


def test_moving_deletes_what_was_copied(here: Here, minio: Any, folder: Path) -> None:
    assert here("mv", "-r", "src", minio.uri("x/")).code == 0
    assert (files_below(folder), objects_of(minio, "x/")) == ({}, FILES)
    assert here("mv", "-r", minio.uri("x/"), minio.uri("y/")).code == 0
    assert objects_of(minio) == {f"y/{name}": data for name, data in FILES.items()}
    assert here("mv", "-r", minio.uri("y/"), "back").code == 0
    assert (objects_of(minio), files_below(folder / "back")) == ({}, FILES)


def test_nothing_is_moved_by_a_dry_run(here: Here, embedded: Any, folder: Path) -> None:
    here("mv", "-r", "src", embedded.uri("x/"), "--dry-run")
    assert (files_below(folder / "src"), objects_of(embedded)) == (FILES, {})


def test_what_both_sides_have_is_left(here: Here, minio: Any, folder: Path) -> None:
    here("cp", "-r", "src", minio.uri("x/"))
    again = here("cp", "-r", "src", minio.uri("x/"), "--skip-existing", "--json")
    assert (again.objects[-1]["bytes"], again.code) == (0, 0)
    assert sum(one.get("kept", False) for one in again.objects) == 4


def test_a_missing_source_is_named(here: Here, embedded: Any, folder: Path) -> None:
    ended = here("cp", "none", embedded.uri("k"))
    assert (ended.code, "none: No such file" in ended.err) == (1, True)
    for target in ("k", embedded.uri("other")):
        ended = here("cp", embedded.uri("none"), target)
        assert (ended.code, "404" in ended.err) == (1, True)
    ended = here("cp", "-r", embedded.uri("none/"), "down")
    assert (ended.code, "nothing found" in ended.err) == (1, True)


@pytest.mark.parametrize("options", [[], ["--exclude", "x"]])
def test_a_key_never_leaves_the_target(here: Here, peer: Peer, tmp_path: Path, options: list[str]) -> None:
    for key in ("d/../../evil", "d/good", "d/link/through"):
        peer.store.put("b", key, b"x")
    target, outside = tmp_path / "in" / "target", tmp_path / "outside"
    target.mkdir(parents=True)
    outside.mkdir()
    (target / "link").symlink_to(outside)
    ended = here("cp", "-r", "s3://b/d/", str(target), *options)
    assert (ended.code, ended.lines) == (1, [f"download: s3://b/d/good to {target}/good"])
    assert sorted(files_below(tmp_path)) == ["in/target/good"]
    assert "evil" in ended.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_cannot_be_read_is_skipped_with_a_warning(here: Here, embedded: Any, folder: Path) -> None:
    (folder / "src" / "a.txt").chmod(0)
    ended = here("cp", "-r", "src", embedded.uri("x/"))
    assert (ended.code, len(ended.lines)) == (2, 3)
    assert "a.txt" in ended.err


def test_a_link_that_leads_nowhere_is_skipped_with_a_warning(here: Here, embedded: Any, folder: Path) -> None:
    (folder / "src" / "lost").symlink_to("nowhere")
    for options in ([], ["--exclude", "x"]):
        ended = here("cp", "-r", "src", embedded.uri("x/"), *options)
        assert (ended.code, len(ended.lines), "lost" in ended.err) == (2, 4, True)
    assert here("cp", "-r", "src", embedded.uri("x/"), "--no-follow-symlinks").code == 0


def test_an_archived_object_is_skipped_with_a_warning(here: Here, peer: Peer, tmp_path: Path) -> None:
    for key in ("d/cold", "d/warm"):
        peer.store.put("b", key, b"x")
    peer.play(Rule("GetObject", key="d/cold", do=Status(403, "InvalidObjectState")))
    ended = here("cp", "-r", "s3://b/d/", str(tmp_path / "t"), "--json")
    assert (ended.code, ended.objects[-1]["warnings"], ended.objects[-1]["succeeded"]) == (2, 1, 1)
    assert sorted(files_below(tmp_path)) == ["t/warm"]


def test_what_failed_is_named_and_the_others_are_there(here: Here, peer: Peer, folder: Path) -> None:
    peer.play(Rule("PutObject", key="x/e/b.npy", do=Status(403, "AccessDenied")))
    ended = here("mv", "-r", "src", "s3://b/x/")
    assert ended.code == 1
    assert len(ended.lines) == 3
    assert "s3://b/x/e/b.npy" in ended.err
    assert files_below(folder) == {"src/e/b.npy": b"22"}  # what was not stored was not deleted


def test_what_could_not_be_deleted_after_a_move_is_told(here: Here, peer: Peer) -> None:
    peer.store.put("b", "k", b"x")
    peer.play(Rule("DeleteObject", do=Status(403, "AccessDenied")), Rule("DeleteObjects", do=_denied))
    ended = here("mv", "s3://b/k", "s3://b/other")
    assert (ended.code, ended.out, "AccessDenied" in ended.err) == (1, "", True)


def _denied(turn: Any) -> None:
    turn.read()
    turn.send(Reply(403, {}, b"<Error><Code>AccessDenied</Code></Error>"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_a_download_leaves_no_file(peer: Peer, tmp_path: Path, number: int) -> None:
    for index in range(3):
        peer.store.put("b", f"d/{index}", bytes(1 << 20))
    peer.play(Rule("GetObject", key="d/1", do=Stall()))
    ready = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    with start("cp", "-r", "s3://b/d/", str(tmp_path / "t"), **ready) as process:
        peer.wait_for(lambda: any(one.key == "d/1" for one in peer.requests("GetObject")))
        process.send_signal(number)
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == 128 + number
    assert set(files_below(tmp_path)) <= {"t/0", "t/2"}
