"""`sync` between folders and real stores, with boto3 as the independent writer and reader."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import s3dlio

MIB = 1 << 20
TREE = {
    "a b+c.txt": b"spaced",
    "deep/er/f.bin": b"deep" * 1000,
    "deep/x.npy": b"x",
    "deep.bak": b"a sibling that begins alike",
    "empty": b"",
    "e\u0301/%41&<>.npy": b"odd",
    "large": os.urandom(11 * MIB),
}


def fill(root: Path, tree: dict[str, bytes] = TREE) -> Path:
    for name, data in tree.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def content(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def stored(store: Any, prefix: str = "") -> dict[str, bytes]:
    listed = store.boto3.list_objects_v2(Bucket=store.bucket, Prefix=prefix).get("Contents", [])
    return {one["Key"].removeprefix(prefix): store.read(one["Key"]) for one in listed}


def names(result: s3dlio.SyncResult, root: str) -> list[tuple[str, str]]:
    return [(one.operation, one.target.removeprefix(root)) for one in result.actions]


def test_a_second_sync_moves_nothing_in_any_direction(store: Any, tmp_path: Path) -> None:
    root = fill(tmp_path / "tree")
    first = s3dlio.sync(root, store.uri("t"), part_size=5 * MIB)
    expected = sorted(TREE, key=str.encode)
    assert names(first, store.uri("t/")) == [("upload", name) for name in expected]
    assert first.total_bytes == sum(map(len, TREE.values()))
    assert stored(store, "t/") == TREE
    again = s3dlio.sync(root, store.uri("t/"))
    assert (again.actions, again.unchanged) == ([], len(TREE))
    down = s3dlio.sync(store.uri("t/"), tmp_path / "back")
    assert names(down, f"{tmp_path}/back/") == [("download", name) for name in expected]
    assert content(tmp_path / "back") == TREE
    assert s3dlio.sync(store.uri("t/"), tmp_path / "back").actions == []
    assert s3dlio.sync(tmp_path / "back", store.uri("t/")).actions == []  # the times came back with the files
    between = s3dlio.sync(store.uri("t/"), store.uri("u/"))
    assert names(between, store.uri("u/")) == [("copy", name) for name in expected]
    assert stored(store, "u/") == TREE
    assert s3dlio.sync(store.uri("t/"), store.uri("u/")).actions == []


@pytest.mark.parametrize("target", ["k", "d/"])
def test_a_single_file_and_a_single_object(embedded: Any, tmp_path: Path, target: str) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    key = {"k": "k", "d/": "d/f"}[target]
    for expected in ([("upload", key)], []):
        assert names(s3dlio.sync(tmp_path / "f", embedded.uri(target)), embedded.uri("")) == expected
    name = key.rpartition("/")[2]
    for folder, path in (("out", "out"), ("in/", f"in/{name}")):
        for expected in ([("download", path)], []):
            found = s3dlio.sync(embedded.uri(key), f"{tmp_path}/{folder}")
            assert names(found, f"{tmp_path}/") == expected
    for expected in ([("copy", "other")], []):
        assert names(s3dlio.sync(embedded.uri(key), embedded.uri("other")), embedded.uri("")) == expected
    assert embedded.read("other") == b"12345"


@pytest.mark.parametrize("direction", ["up", "down", "between"])
def test_what_differs_is_moved_and_the_rest_deleted_on_request(store: Any, tmp_path: Path, direction: str) -> None:
    changed = {**TREE, "deep/x.npy": b"y", "empty": b"not any more", "new": b"n"}
    del changed["deep/er/f.bin"], changed["deep.bak"]
    local = fill(tmp_path / "tree", changed if direction == "up" else TREE)
    remote = TREE if direction == "up" else changed
    for name, data in remote.items():
        store.boto3.put_object(Bucket=store.bucket, Key=f"t/{name}", Body=data)
    store.boto3.put_object(Bucket=store.bucket, Key="t.outside", Body=b"1")
    if direction == "between":
        for name, data in TREE.items():
            store.boto3.put_object(Bucket=store.bucket, Key=f"u/{name}", Body=data)
    source, target, operation = {
        "up": (str(local), store.uri("t/"), "upload"),
        "down": (store.uri("t/"), f"{local}/", "download"),
        "between": (store.uri("t/"), store.uri("u/"), "copy"),
    }[direction]
    kept = s3dlio.sync(source, target, dry_run=True)
    assert names(kept, target) == [(operation, one) for one in ("deep/x.npy", "empty", "new")]
    rehearsed = s3dlio.sync(source, target, delete=True, dry_run=True)
    assert content(local) == (changed if direction == "up" else TREE)
    done = s3dlio.sync(source, target, delete=True)
    assert names(done, target) == names(rehearsed, target)
    assert [one for one in names(done, target) if one[0] == "delete"] == [
        ("delete", "deep.bak"), ("delete", "deep/er/f.bin"),
    ]  # fmt: skip
    now = content(local) if direction == "down" else stored(store, "t/" if direction == "up" else "u/")
    assert now == changed
    assert store.read("t.outside") == b"1"
    assert s3dlio.sync(source, target, delete=True).actions == []


def test_a_file_that_was_replaced_by_an_older_one_of_the_same_size_is_moved(embedded: Any, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"new")
    s3dlio.sync(tmp_path, embedded.uri("t/"))
    (tmp_path / "f").write_bytes(b"old")
    os.utime(tmp_path / "f", (1_000_000, 1_000_000))
    assert len(s3dlio.sync(tmp_path, embedded.uri("t/"), size_only=True).actions) == 0
    assert len(s3dlio.sync(tmp_path, embedded.uri("t/")).actions) == 1
    assert embedded.read("t/f") == b"old"
    status = (tmp_path / "f").stat()
    (tmp_path / "f").write_bytes(b"odd")  # under the same time
    os.utime(tmp_path / "f", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert len(s3dlio.sync(tmp_path, embedded.uri("t/")).actions) == 0
    assert len(s3dlio.sync(tmp_path, embedded.uri("t/"), checksum_always=True).actions) == 1
    os.utime(tmp_path / "f", (2_000_000, 2_000_000))  # other times prove nothing
    assert len(s3dlio.sync(tmp_path, embedded.uri("t/")).actions) == 0


def test_what_is_excluded_is_neither_moved_nor_deleted(embedded: Any, tmp_path: Path) -> None:
    fill(tmp_path / "tree", {"a.npy": b"1", "b.tmp": b"2", "d/c.npy": b"3"})
    for key in ("t/old.npy", "t/old.tmp", "t/d/old.tmp"):
        embedded.boto3.put_object(Bucket=embedded.bucket, Key=key, Body=b"0")
    s3dlio.sync(tmp_path / "tree", embedded.uri("t/"), exclude="*.tmp", delete=True)
    assert sorted(stored(embedded, "t/")) == ["a.npy", "d/c.npy", "d/old.tmp", "old.tmp"]
    s3dlio.sync(embedded.uri("t/"), tmp_path / "tree", exclude="*", include="d/**", delete=True)
    assert sorted(content(tmp_path / "tree")) == ["a.npy", "b.tmp", "d/c.npy", "d/old.tmp"]


def test_a_target_is_not_wiped_by_accident(embedded: Any, tmp_path: Path) -> None:
    fill(tmp_path / "kept", {"a": b"1", "b": b"2", "c": b"3"})
    s3dlio.sync(tmp_path / "kept", embedded.uri("t/"))
    (tmp_path / "void").mkdir()
    for source, target in ((tmp_path / "void", embedded.uri("t/")), (embedded.uri("void/"), tmp_path / "kept")):
        with pytest.raises(s3dlio.DeletionRefusedError, match=r"is empty, so everything in .* would be deleted"):
            s3dlio.sync(source, target, delete=True)
    (tmp_path / "kept" / "a").unlink()
    (tmp_path / "kept" / "b").unlink()
    with pytest.raises(s3dlio.DeletionRefusedError, match=r"has 2 files that .* more than max_delete=1"):
        s3dlio.sync(tmp_path / "kept", embedded.uri("t/"), delete=True, max_delete=1)
    assert sorted(stored(embedded, "t/")) == ["a", "b", "c"]
    assert len(s3dlio.sync(tmp_path / "kept", embedded.uri("t/"), delete=True, max_delete=2).actions) == 2
    with pytest.raises(FileNotFoundError):
        s3dlio.sync(tmp_path / "nowhere", embedded.uri("t/"), delete=True, allow_empty=True)
    with pytest.raises(s3dlio.NotFoundError):
        s3dlio.sync("s3://no-such-bucket-anywhere/", tmp_path / "kept", delete=True, allow_empty=True)
    assert sorted(content(tmp_path / "kept")) == ["c"]
    s3dlio.sync(tmp_path / "void", embedded.uri("t/"), delete=True, allow_empty=True)
    assert stored(embedded, "t/") == {}


def test_a_failure_is_told_and_nothing_is_deleted(embedded: Any, tmp_path: Path) -> None:
    fill(tmp_path / "tree", {"a": b"1", "b": b"2"})
    (tmp_path / "tree" / "broken").symlink_to("nowhere")
    embedded.boto3.put_object(Bucket=embedded.bucket, Key="t/extra", Body=b"0")
    with pytest.raises(s3dlio.ManyFailedError) as caught:
        s3dlio.sync(tmp_path / "tree", embedded.uri("t/"), delete=True)
    assert caught.value.failed.keys() == {embedded.uri("t/broken")}
    assert caught.value.succeeded == [embedded.uri("t/a"), embedded.uri("t/b")]
    assert sorted(stored(embedded, "t/")) == ["a", "b", "extra"]
    s3dlio.sync(tmp_path / "tree", embedded.uri("t/"), delete=True, exclude="broken")
    assert sorted(stored(embedded, "t/")) == ["a", "b"]


def test_hostile_keys_and_links_never_lead_outside(embedded: Any, tmp_path: Path) -> None:
    for key in ("t/../../evil", "t//evil", "t/link/evil", "t/good"):
        embedded.boto3.put_object(Bucket=embedded.bucket, Key=key, Body=b"0")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "victim").write_bytes(b"1")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(s3dlio.ManyFailedError) as caught:
        s3dlio.sync(embedded.uri("t/"), tmp_path / "target", delete=True)
    assert len(caught.value.failed) == 3
    assert all(isinstance(one, s3dlio.UnsafePathError) for one in caught.value.failed.values())
    for key in ("t/../../evil", "t//evil", "t/link/evil"):
        embedded.boto3.delete_object(Bucket=embedded.bucket, Key=key)
    s3dlio.sync(embedded.uri("t/"), tmp_path / "target", delete=True)  # links on this side are nobody's files
    assert content(tmp_path / "outside") == {"victim": b"1"}
    assert sorted(one.name for one in (tmp_path / "target").iterdir()) == ["good", "link"]


def test_special_characters_are_literal(embedded: Any, tmp_path: Path) -> None:
    fill(tmp_path / "a[1]*", {"f?": b"1"})
    embedded.boto3.put_object(Bucket=embedded.bucket, Key="a1/other", Body=b"0")
    s3dlio.sync(tmp_path / "a[1]*", embedded.uri("a[1]*/"))
    assert s3dlio.sync(tmp_path / "a[1]*", embedded.uri("a[1]*/"), delete=True).actions == []
    s3dlio.sync(embedded.uri("a[1]*/"), tmp_path / "back")
    assert content(tmp_path / "back") == {"f?": b"1"}


@pytest.mark.parametrize(
    ("src", "dst", "options", "error", "text"),
    [
        ("a", "b", {}, s3dlio.ConfigurationError, "neither src='a' nor dst='b' is an S3 URI"),
        ("s3://b/a/", "s3://b/a/b/", {}, s3dlio.ConfigurationError, "overlap"),
        ("s3://b/k", "x", {"delete": True}, s3dlio.ConfigurationError, "delete=True with the single source"),
        ("setup.py", "s3://b/", {"delete": True}, s3dlio.ConfigurationError, "delete=True with the single source"),
        ("s3://b/", "x", {"max_delete": -1}, s3dlio.ConfigurationError, "max_delete=-1"),
        ("s3://b/", "x", {"size_only": True, "checksum_always": True}, s3dlio.ConfigurationError, "exclude each other"),
        ("s3://b/", "x", {"dry_run": "yes"}, TypeError, "dry_run='yes'"),
        (5, "s3://b/", {}, TypeError, "src=5 is neither a path nor a URI"),
        ("s3:///x/", "x", {}, s3dlio.UnsupportedUriError, "s3:///x/"),
    ],
)
def test_bad_input_is_named(src: Any, dst: Any, options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        s3dlio.sync(src, dst, **options)
