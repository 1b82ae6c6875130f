"""Keys become paths at one place, and never one outside the target; files are walked in the order of their keys."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dlio._files import times
from s3dlio._files.names import Claimed, Target, ignores_case, relative_parts
from s3dlio._files.walking import LocalFile, Unreadable, walk
from s3dlio.errors import UnsafePathError

URI = "s3://b/k"
HOSTILE = st.lists(
    st.sampled_from(
        ["..", ".", "", "a", "A", "\0", "\\", "C:", "..\\..", "x" * 256, "\u00e9" * 128, "link", "ok", "\udc80"]
    )
    | st.text(max_size=8),
    min_size=1,
    max_size=6,
).map("/".join)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../x", r"has the part '\.\.', which no file can have"),
        ("a/../../x", r"has the part '\.\.'"),
        ("./x", r"has the part '\.'"),
        ("/etc/passwd", "has the part ''"),
        ("a//b", "has the part ''"),
        ("", "has the part ''"),
        ("a\0b", "has a NUL character"),
        ("..\\..\\x", "has a backslash"),
        ("C:/x", "begins with a drive"),
        ("c:x", "begins with a drive"),
        ("x" * 256, "has a part of more than 255 bytes"),
        ("\u00e9" * 128, "has a part of more than 255 bytes"),
        ("\udc80", "is not UTF-8"),
    ],
)
def test_a_name_that_no_file_may_have_is_refused(name: str, reason: str) -> None:
    with pytest.raises(UnsafePathError, match=reason):
        relative_parts(URI, name)


@pytest.mark.parametrize("name", ["a", "a/b/c", "...", "..a/b..", "a b+%41#?", "ab:c", "\u00e9/\u0301", "x" * 255])
def test_any_other_name_is_kept_as_it_is(name: str) -> None:
    assert "/".join(relative_parts(URI, name)) == name


@given(HOSTILE)
def test_no_key_becomes_a_path_outside_the_target(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    base = tmp_path_factory.mktemp("base")
    root, outside = base / "target", base / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "link").symlink_to(outside)
    (root / "ok").write_bytes(b"a file in the way")
    with contextlib.suppress(UnsafePathError):
        parts = relative_parts(URI, name)
        target = Target(str(root))
        with target.folder(URI, parts) as folder:
            target.check_file(folder, URI, parts)
            descriptor = os.open("temporary", os.O_CREAT | os.O_WRONLY | os.O_EXCL, dir_fd=folder)
            os.close(descriptor)
            os.rename("temporary", parts[-1], src_dir_fd=folder, dst_dir_fd=folder)
            assert os.path.realpath(target.path_of(parts)).startswith(f"{root}/")
    assert list(outside.iterdir()) == []
    assert sorted(one.name for one in base.iterdir()) == ["outside", "target"]


def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/etc")
    target = Target(str(tmp_path))
    with pytest.raises(UnsafePathError, match=r"'s3://b/k' is not stored at '.*/file/a': '.*/file' is no folder"):
        target.folder(URI, ["file", "a"]).__enter__()
    with pytest.raises(UnsafePathError, match=r"'.*/link' is a link"):
        target.folder(URI, ["link", "a"]).__enter__()
    with target.folder(URI, ["folder"]) as folder, pytest.raises(UnsafePathError, match=r"'.*/folder' is a folder"):
        target.check_file(folder, URI, ["folder"])
    assert len(os.listdir("/proc/self/fd")) < 100


def test_names_that_differ_in_case_only_are_told_apart_where_the_file_system_does_not() -> None:
    claimed = Claimed()
    claimed.claim("s3://b/Folder/a", ["Folder", "a"])
    claimed.claim("s3://b/Folder/b", ["Folder", "b"])
    with pytest.raises(UnsafePathError, match="'Folder' was, and this file system takes both names for one"):
        claimed.claim("s3://b/folder/c", ["folder", "c"])
    with pytest.raises(UnsafePathError, match="'Folder/a' was"):
        claimed.claim("s3://b/Folder/A", ["Folder", "A"])


def test_a_folder_of_this_machine_shows_how_it_compares_names(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    assert ignores_case(str(tmp_path)) is (tmp_path / "A").exists()
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def names(found: Iterator[LocalFile | Unreadable]) -> list[str]:
    return [one.name for one in found if isinstance(one, LocalFile)]


@given(st.sets(st.text(st.sampled_from("ab-./0\u00e9\U0001f600"), min_size=1, max_size=6), max_size=20))
def test_files_come_in_the_order_of_their_keys(tmp_path_factory: pytest.TempPathFactory, keys: set[str]) -> None:
    root = tmp_path_factory.mktemp("tree")
    made = set()
    for key in sorted(keys):
        if any(part in ("", ".", "..") for part in key.split("/")):
            continue
        path = root / key
        with contextlib.suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
            made.add(key)
    assert names(walk(str(root), follow_symlinks=True)) == sorted(made, key=str.encode)


def test_links_are_followed_unless_they_lead_back(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "folder").mkdir(parents=True)
    (tree / "folder" / "file").write_bytes(b"1")
    (tree / "again").symlink_to("folder")
    (tree / "back").symlink_to(".")
    (tree / "broken").symlink_to("nowhere")
    os.mkfifo(tree / "pipe")
    found = list(walk(str(tree), follow_symlinks=True))
    assert names(iter(found)) == ["again/file", "folder/file"]
    errors = {one.name: str(one.error) for one in found if isinstance(one, Unreadable)}
    assert errors.keys() == {"back/", "broken", "pipe"}
    assert "leads back to a folder above it" in errors["back/"]
    assert "nowhere" in errors["broken"] or "No such file" in errors["broken"]
    assert "pipe, a socket or a device" in errors["pipe"]
    assert names(walk(str(tree), follow_symlinks=False)) == ["folder/file"]


def test_a_name_that_is_not_utf_8_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with open(os.fsencode(tmp_path) + b"/\xff", "wb"):
        pass
    found = list(walk(str(tmp_path), follow_symlinks=True))
    assert names(iter(found)) == ["a"]
    (unreadable,) = (one for one in found if isinstance(one, Unreadable))
    assert "is not UTF-8" in str(unreadable.error)


@given(st.integers(-(10**20), 10**20))
def test_a_time_survives_as_metadata(nanoseconds: int) -> None:
    assert times.from_metadata(times.as_metadata(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1700000000.5", 1_700_000_000_500_000_000),
        ("-1.25", -1_250_000_000),
        ("1", 10**9),
        ("0.1234567891", 123_456_789),
    ],
)
def test_times_of_other_tools_are_read(text: str, expected: int) -> None:
    assert times.from_metadata(text) == expected


@pytest.mark.parametrize("text", ["", "now", "1e9", "1.2.3", "1.x", "--1", "9" * 20, "\u0661", None])
def test_what_is_no_time_is_unknown(text: str | None) -> None:
    assert times.from_metadata(text) is None


def test_random_trees_are_walked_in_flat_memory_of_one_folder(tmp_path: Path) -> None:
    rng = random.Random(3)
    for _ in range(50):
        folder = tmp_path.joinpath(*(rng.choice("abc") for _ in range(rng.randrange(4))))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{rng.randrange(1000)}").write_bytes(b"")
    walked = walk(str(tmp_path), follow_symlinks=True)
    first = next(walked)
    assert isinstance(first, LocalFile)
    assert first.name == min(str(one.relative_to(tmp_path)) for one in tmp_path.rglob("f*"))
