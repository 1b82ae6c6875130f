"""`s3dlio sync`: the same lines with and without a dry run, guarded deletions, one tally."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from behaviours import Status
from peer import Peer, Rule
from shell import Ended, s3dlio

Here = Callable[..., Ended]
FILES = {"a.txt": b"1", "e/b.npy": b"22", "e/f/c.txt": b"333"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, data in FILES.items():
        path = tmp_path / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path


def keys_of(store: Any) -> list[str]:
    return [one["Key"] for one in store.boto3.list_objects_v2(Bucket=store.bucket).get("Contents", [])]


def test_a_folder_is_made_alike_and_the_second_time_nothing_moves(minio: Any, folder: Path) -> None:
    rehearsed = s3dlio("sync", "src", minio.uri("x/"), "--dry-run")
    assert keys_of(minio) == []
    done = s3dlio("sync", "src", minio.uri("x/"))
    assert done.lines == rehearsed.lines == [f"upload: src/{name} to {minio.uri(f'x/{name}')}" for name in FILES]
    assert (done.code, keys_of(minio)) == (0, [f"x/{name}" for name in FILES])
    again = s3dlio("sync", "src", minio.uri("x/"))
    assert (again.code, again.out) == (0, "")
    assert "0 changed, 3 unchanged" in again.err
    assert s3dlio("sync", minio.uri("x/"), minio.uri("y/")).code == 0
    down = s3dlio("sync", minio.uri("y/"), "down", "--json").objects
    assert [one["destination"] for one in down[:-1]] == [f"down/{name}" for name in FILES]
    assert (folder / "down" / "e" / "b.npy").read_bytes() == b"22"


def test_deletions_come_last_and_what_is_excluded_is_never_deleted(here: Here, embedded: Any, folder: Path) -> None:
    for key in ("x/old", "x/keep.log", "x/a.txt"):
        embedded.boto3.put_object(Bucket=embedded.bucket, Key=key, Body=b"0000")
    arguments = ("sync", "src", embedded.uri("x/"), "--delete", "--exclude", "*.log")
    rehearsed = here(*arguments, "--dry-run")
    done = here(*arguments)
    assert done.lines == rehearsed.lines
    assert done.lines[-1] == f"delete: {embedded.uri('x/old')}"
    assert keys_of(embedded) == sorted(["x/keep.log", *(f"x/{name}" for name in FILES)])


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--max-delete", "1"], "2|more than"), ([], "is empty")],
)
def test_a_target_is_not_wiped_by_accident(
    here: Here, embedded: Any, folder: Path, options: list[str], words: str
) -> None:
    for key in ("x/1", "x/2"):
        embedded.boto3.put_object(Bucket=embedded.bucket, Key=key, Body=b"x")
    source = "src" if options else "empty"
    (folder / "empty").mkdir()
    ended = here("sync", source, embedded.uri("x/"), "--delete", *options)
    assert ended.code == 1
    assert re.search(words, ended.err)
    assert {"x/1", "x/2"} <= set(keys_of(embedded))


def test_what_failed_is_named_and_nothing_is_deleted_then(here: Here, peer: Peer, folder: Path) -> None:
    peer.store.put("b", "x/old", b"x")
    peer.play(Rule("PutObject", key="x/e/b.npy", do=Status(403, "AccessDenied")))
    ended = here("sync", "src", "s3://b/x/", "--delete")
    assert (ended.code, sorted(ended.lines)) == (
        1, ["upload: src/a.txt to s3://b/x/a.txt", "upload: src/e/f/c.txt to s3://b/x/e/f/c.txt"],
    )  # fmt: skip
    assert "s3://b/x/e/b.npy" in ended.err
    assert peer.store.versions("b", "x/old")


def test_a_listing_that_fails_is_a_failure(here: Here, peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "kept").write_bytes(b"x")
    peer.play(Rule("ListObjectsV2", do=Status(403, "AccessDenied")))
    ended = here("sync", "s3://b/x/", str(tmp_path / "t"), "--delete")
    assert (ended.code, (tmp_path / "t" / "kept").exists()) == (1, True)
    assert "AccessDenied" in ended.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a", "b"], "is an S3 URI such as"),
        (["src", "s3://b/x/", "--size-only", "--checksum"], "exclude each other"),
        (["src", "s3://b/x/", "--exclude", "[a"], r"without a '\]'"),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(
    here: Here, embedded: Any, folder: Path, arguments: list[str], words: str
) -> None:
    ended = here("sync", *arguments)
    assert ended.code == 252
    assert re.search(words, ended.err)
