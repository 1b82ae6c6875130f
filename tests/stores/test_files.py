"""Files and folders to a real store and back, with boto3 as the independent writer and reader."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import s3dlio

MIB = 1 << 20
TREE = {
    "a b+c.txt": b"spaced",
    "deep/er/still/f.bin": b"deep" * 1000,
    "deep/x.npy": b"x",
    "empty": b"",
    "e\u0301/%41&<>.npy": b"odd",
    "large": os.urandom(17 * MIB + 5),
    "z[1].npy": b"brackets",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name, data in TREE.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def content(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def stored(store: Any, prefix: str = "") -> dict[str, bytes]:
    listed = store.boto3.list_objects_v2(Bucket=store.bucket, Prefix=prefix).get("Contents", [])
    return {one["Key"].removeprefix(prefix): store.read(one["Key"]) for one in listed}


def test_a_folder_goes_up_and_comes_back(store: Any, tree: Path, tmp_path: Path) -> None:
    up = s3dlio.upload(str(tree), store.uri("t/"), part_size=5 * MIB, max_in_flight=4)
    assert stored(store, "t/") == TREE
    assert sorted((one.uri, one.size) for one in up.transferred) == sorted(
        (store.uri(f"t/{name}"), len(data)) for name, data in TREE.items()
    )
    assert up.total_bytes == sum(map(len, TREE.values()))
    assert all(one.etag == store.head(one.uri.removeprefix(store.uri("")))["ETag"].strip('"') for one in up.transferred)
    down = s3dlio.download(store.uri("t/"), tmp_path / "back", chunk_size=2 * MIB)
    assert content(tmp_path / "back") == TREE
    assert sorted(one.path for one in down.transferred) == sorted(str(tmp_path / "back" / name) for name in TREE)
    assert store.uploads() == []


@pytest.mark.parametrize(
    ("sources", "target", "keys"),
    [
        ("deep/x.npy", "o", ["o"]),
        ("deep/x.npy", "o/", ["o/x.npy"]),
        ("deep/x.npy", "", ["x.npy"]),
        ("deep", "o", ["o/er/still/f.bin", "o/x.npy"]),
        ("deep/", "o/", ["o/er/still/f.bin", "o/x.npy"]),
        ("*.npy", "o/", ["o/z[1].npy"]),
        ("**.npy", "o", ["o/deep/x.npy", "o/e\u0301/%41&<>.npy", "o/z[1].npy"]),
        ("deep/*/*/f.*", "o", ["o/er/still/f.bin"]),
        ("z[1].npy", "o/", ["o/z[1].npy"]),
        (["empty", "deep"], "o", ["o/empty", "o/er/still/f.bin", "o/x.npy"]),
        (["deep/x.npy"], "o", ["o/x.npy"]),
    ],
)
def test_what_a_source_becomes_depends_on_nothing_that_is_there(
    embedded: Any, tree: Path, sources: Any, target: str, keys: list[str]
) -> None:
    paths = f"{tree}/{sources}" if isinstance(sources, str) else [tree / one for one in sources]
    for _ in range(2):  # the second run finds the result of the first
        s3dlio.upload(paths, embedded.uri(target))
        assert sorted(stored(embedded)) == keys


@pytest.mark.parametrize(
    ("uri", "target", "files"),
    [
        ("deep/x.npy", "o", ["o"]),
        ("deep/x.npy", "o/", ["o/x.npy"]),
        ("deep/x.npy", "there", ["there/x.npy"]),
        ("deep/", "o", ["o/er/still/f.bin", "o/x.npy"]),
        ("deep/", "there", ["there/er/still/f.bin", "there/x.npy"]),
        ("deep/er/*/f.bin", "o/", ["o/still/f.bin"]),
        ("**.npy", "o", ["o/deep/x.npy", "o/e\u0301/%41&<>.npy", "o/z[1].npy"]),
        (["deep/x.npy", "empty"], "o", ["o/empty", "o/x.npy"]),
    ],
)
def test_what_an_object_becomes_depends_on_nothing_that_is_there(
    embedded: Any, tmp_path: Path, uri: Any, target: str, files: list[str]
) -> None:
    for name, data in TREE.items():
        if name != "large":
            embedded.boto3.put_object(Bucket=embedded.bucket, Key=name, Body=data)
    (tmp_path / "there").mkdir()
    uris = embedded.uri(uri) if isinstance(uri, str) else [embedded.uri(one) for one in uri]
    for _ in range(2):
        s3dlio.download(uris, f"{tmp_path}/{target}")
        assert sorted(content(tmp_path)) == files


def test_one_level_is_one_level(embedded: Any, tmp_path: Path) -> None:
    for name in ("d/a", "d/e/b"):
        embedded.boto3.put_object(Bucket=embedded.bucket, Key=name, Body=b"1")
    s3dlio.download(embedded.uri("d/"), tmp_path, recursive=False)
    assert content(tmp_path) == {"a": b"1"}


def test_equal_files_are_skipped_and_changed_ones_are_not(store: Any, tree: Path, tmp_path: Path) -> None:
    s3dlio.upload(tree, store.uri("t/"), part_size=5 * MIB)
    (tree / "deep" / "x.npy").write_bytes(b"y")  # the same size
    again = s3dlio.upload(tree, store.uri("t/"), skip_existing=True)
    assert [one.uri for one in again.transferred] == [store.uri("t/deep/x.npy")]
    assert len(again.skipped) == len(TREE) - 1
    back = tmp_path / "back"
    s3dlio.download(store.uri("t/"), back)
    (back / "empty").unlink()
    (back / "large").write_bytes(TREE["large"][:-1] + b"!")
    once_more = s3dlio.download(store.uri("t/"), back, skip_existing=True)
    assert sorted(one.uri for one in once_more.transferred) == [store.uri("t/empty"), store.uri("t/large")]
    assert content(back) == {**TREE, "deep/x.npy": b"y"}


def test_times_go_with_the_files_on_request(store: Any, tmp_path: Path) -> None:
    moment = 1_234_567_890_123_456_789
    for name, size in (("small", 5), ("large", 11 * MIB)):
        path = tmp_path / name
        path.write_bytes(bytes(size))
        os.utime(path, ns=(moment, moment))
        s3dlio.upload(path, store.uri(name), preserve_times=True, part_size=5 * MIB, metadata={"colour": "red"})
        assert store.head(name)["Metadata"] == {"mtime": "1234567890.123456789", "colour": "red"}
        s3dlio.download(store.uri(name), tmp_path / "back", preserve_times=True)
        assert (tmp_path / "back").stat().st_mtime_ns == moment
    store.boto3.put_object(Bucket=store.bucket, Key="other", Body=b"1")
    s3dlio.download(store.uri("other"), tmp_path / "back", preserve_times=True)
    assert (tmp_path / "back").stat().st_mtime == store.head("other")["LastModified"].timestamp()
    s3dlio.upload(tmp_path / "small", store.uri("plain"))
    assert store.head("plain")["Metadata"] == {}


def test_headers_and_a_new_bucket(embedded: Any, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"text")
    result = s3dlio.upload(str(tmp_path / "f"), "s3://made-for-files/k", 8, True, content_type="text/plain")
    assert result.total_bytes == 4
    assert embedded.boto3.head_object(Bucket="made-for-files", Key="k")["ContentType"] == "text/plain"


def test_a_pipe_and_a_file_of_unknown_size_are_read_to_their_end(embedded: Any, tmp_path: Path) -> None:
    pipe, data = tmp_path / "pipe", os.urandom(11 * MIB)
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(data))
    writer.start()
    s3dlio.upload(pipe, embedded.uri("piped"), part_size=5 * MIB)
    writer.join()
    assert embedded.read("piped") == data
    s3dlio.upload("/proc/version", embedded.uri("version"))
    assert embedded.read("version") == Path("/proc/version").read_bytes() != b""


def test_markers_are_folders_and_conflicts_are_told(embedded: Any, tmp_path: Path) -> None:
    for key, body in {"p/": b"", "p/a": b"1", "p/a/b": b"2", "p/made/": b"", "p/../x": b"3", "p//y": b"4"}.items():
        embedded.boto3.put_object(Bucket=embedded.bucket, Key=key, Body=body)
    with pytest.raises(s3dlio.ManyFailedError) as caught:
        s3dlio.download(embedded.uri("p/"), tmp_path / "t")
    failed = caught.value.failed
    assert {uri.removeprefix(embedded.uri("")) for uri in failed} >= {"p/../x", "p//y"}
    assert all(isinstance(one, s3dlio.UnsafePathError) for one in failed.values())
    assert len(failed) == 3  # of p/a and p/a/b, the one that came second
    assert (tmp_path / "t" / "made").is_dir()
    assert [one.name for one in tmp_path.iterdir()] == ["t"]
    assert set(caught.value.succeeded) | set(failed) == {
        embedded.uri(key) for key in ("p/a", "p/a/b", "p/made/", "p/../x", "p//y")
    }


def test_what_cannot_be_read_is_told_and_the_rest_goes_on(embedded: Any, tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"1")
    (tmp_path / "broken").symlink_to("nowhere")
    with pytest.raises(s3dlio.ManyFailedError, match="1 of 2 files") as caught:
        s3dlio.upload(tmp_path, embedded.uri("t/"))
    assert caught.value.succeeded == [embedded.uri("t/good")]
    assert caught.value.failed.keys() == {embedded.uri("t/broken")}
    assert isinstance(caught.value.failed[embedded.uri("t/broken")], FileNotFoundError)
    assert stored(embedded) == {"t/good": b"1"}
    assert len(s3dlio.upload(tmp_path, embedded.uri("u/"), follow_symlinks=False).transferred) == 1


def test_progress_counts_bytes_and_files(embedded: Any, tree: Path, tmp_path: Path) -> None:
    events: list[s3dlio.ProgressEvent] = []
    s3dlio.upload(tree, embedded.uri("t/"), part_size=5 * MIB, progress=events.append)
    total = sum(map(len, TREE.values()))
    assert (events[-1].operation, events[-1].bytes_done, events[-1].parts_done) == ("upload", total, len(TREE))
    assert [one.bytes_done for one in events] == sorted(one.bytes_done for one in events)
    events.clear()
    s3dlio.download(embedded.uri("t/"), tmp_path / "back", chunk_size=2 * MIB, progress=events.append)
    assert (events[-1].operation, events[-1].bytes_done, events[-1].parts_done) == ("download", total, len(TREE))
    assert len(events) > len(TREE)  # ranges of the large one, too


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: s3dlio.upload("nowhere/at/all", "s3://b/"), FileNotFoundError, "nowhere"),
        (lambda: s3dlio.upload("nowhere/*.npy", "s3://b/"), FileNotFoundError, "is no folder"),
        (lambda: s3dlio.upload([], "s3://b/"), s3dlio.ConfigurationError, "empty sequence"),
        (lambda: s3dlio.upload(5, "s3://b/"), TypeError, "source=5 is no path"),  # type: ignore[arg-type]
        (lambda: s3dlio.upload([b"x"], "s3://b/"), TypeError, "is not a path"),  # type: ignore[list-item]
        (lambda: s3dlio.upload("setup.py", "/tmp/x"), s3dlio.UnsupportedUriError, "not an S3 URI"),
        (lambda: s3dlio.upload("setup.py", "s3://b/", 0), s3dlio.ConfigurationError, "max_in_flight=0"),
        (lambda: s3dlio.upload("setup.py", "s3://b/", resume=1), TypeError, "resume=1"),  # type: ignore[arg-type]
        (lambda: s3dlio.download([], "t"), s3dlio.ConfigurationError, "empty sequence"),
        (lambda: s3dlio.download("s3://b/k", ""), TypeError, "is not a path"),
        (lambda: s3dlio.download("file", "t"), s3dlio.UnsupportedUriError, "not an S3 URI"),
        (lambda: s3dlio.download("s3://b/[", "t"), s3dlio.UnsupportedUriError, r"without a '\]'"),
        (lambda: s3dlio.download("s3://b/k", "t", fsync="no"), TypeError, "fsync='no'"),  # type: ignore[arg-type]
    ],
)
def test_bad_input_is_named(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_a_missing_object_leaves_nothing(embedded: Any, tmp_path: Path) -> None:
    with pytest.raises(s3dlio.NotFoundError):
        s3dlio.download(embedded.uri("nothing"), tmp_path / "f")
    with pytest.raises(s3dlio.NotFoundError):
        s3dlio.download(embedded.uri("nothing"), tmp_path / "f", resume=True)
    with pytest.raises(s3dlio.NotFoundError):
        s3dlio.download("s3://no-such-bucket-at-all/p/", tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


KILLED = """
import sys, s3dlio
_, how, uri, path = sys.argv
def tell(event):
    print(event.bytes_done, flush=True)
if how == "upload":
    s3dlio.upload(path, uri, part_size=5 << 20, max_in_flight=2, resume=True, progress=tell)
else:
    s3dlio.download(uri, path, 2, chunk_size=1 << 20, resume=True, progress=tell)
"""


@pytest.mark.parametrize("how", ["upload", "download"])
def test_a_killed_transfer_is_continued(minio: Any, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3DLIO_STATE_DIR", str(tmp_path / "state"))
    data = os.urandom(60 * MIB + 7)
    path, uri = tmp_path / "files" / "data", minio.uri("data")
    path.parent.mkdir()
    if how == "upload":
        path.write_bytes(data)
    else:
        minio.boto3.put_object(Bucket=minio.bucket, Key="data", Body=data)
    command = [sys.executable, "-c", KILLED, how, uri, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 20 * MIB:
                process.kill()
                break
    assert process.returncode == -9
    assert [one.name for one in path.parent.iterdir()] == ["data"] if how == "upload" else not path.exists()
    before = minio.uploads()
    assert len(before) == (how == "upload")
    events: list[s3dlio.ProgressEvent] = []
    if how == "upload":
        s3dlio.upload(path, uri, part_size=5 * MIB, resume=True, progress=events.append)
        assert minio.read("data") == data
        assert minio.uploads() == []
        assert list((tmp_path / "state").iterdir()) == []
    else:
        s3dlio.download(uri, path, chunk_size=MIB, resume=True, progress=events.append)
        assert path.read_bytes() == data
    assert [one.name for one in path.parent.iterdir()] == ["data"]
    assert events[-1].bytes_done == len(data)
