"""Where things go, what filters leave, which exit codes there are: ours beside the commands that people know."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
FILES = {"a.txt": b"1", "e/b.npy": b"22", "e/f/c.txt": b"333", "e.bak": b"4444"}
ODD = [
    "a b", "a+b", "a%20b", "a&b=c", "e\u0301", "\u00e9", "#x", "x;y", "(1)", "'q'", "\u65e5\u672c", "~t", "a=b", "@",
    "dots..",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, data in FILES.items():
        path = tmp_path / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path


def below(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in sorted(folder.rglob("*")) if one.is_file()}


def objects(store: Any, prefix: str) -> dict[str, bytes]:
    listed = store.boto3.list_objects_v2(Bucket=store.bucket, Prefix=prefix).get("Contents", [])
    return {one["Key"].removeprefix(prefix): store.read(one["Key"]) for one in listed}


# Ours, those of the AWS command line, those of s5cmd; P is a prefix of one's own.
UP = {
    "a file to a key": (["src/a.txt", "P/k"],) * 3,
    "a file below a prefix": (["src/a.txt", "P/k/"],) * 3,
    "a folder below a prefix": (["-r", "src", "P/k/"], ["--recursive", "src", "P/k/"], ["src/", "P/k/"]),
    "a folder below a name": (["-r", "src", "P/k"], ["--recursive", "src", "P/k"], None),
    "a folder with a slash": (["-r", "src/", "P/k/"], ["--recursive", "src/", "P/k/"], ["src/", "P/k/"]),
}


@pytest.mark.parametrize("case", UP)
def test_files_go_where_others_put_them(minio: Any, folder: Path, run: Run, oracle: str, case: str) -> None:
    ours, aws, s5cmd = UP[case]
    theirs = s5cmd if oracle == "s5cmd" else aws
    if theirs is None:
        pytest.skip("it has no such command")
    for name, arguments in (("s3dlio", ours), (oracle, theirs)):
        done = run(name, "cp", *(one.replace("P/", f"s3://{minio.bucket}/{name}/") for one in arguments))
        assert done.returncode == 0, done.stderr
    assert objects(minio, "s3dlio/") == objects(minio, f"{oracle}/") != {}


DOWN = {
    "a key to a file": (["P/a.txt", "D/k"],) * 3,
    "a key into a folder": (["P/a.txt", "D/"],) * 3,
    "a prefix into a folder": (["-r", "P/e/", "D/k"], ["--recursive", "P/e/", "D/k"], ["P/e/*", "D/k/"]),
    "all into a folder": (["-r", "P/", "D/k/"], ["--recursive", "P/", "D/k/"], ["P/*", "D/k/"]),
}


@pytest.mark.parametrize("case", DOWN)
def test_objects_go_where_others_put_them(minio: Any, folder: Path, run: Run, oracle: str, case: str) -> None:
    for name, data in FILES.items():
        minio.boto3.put_object(Bucket=minio.bucket, Key=f"src/{name}", Body=data)
    ours, aws, s5cmd = DOWN[case]
    for name, arguments in (("s3dlio", ours), (oracle, s5cmd if oracle == "s5cmd" else aws)):
        (folder / f"to-{name}").mkdir()
        given = (one.replace("P/", f"s3://{minio.bucket}/src/").replace("D/", f"to-{name}/") for one in arguments)
        done = run(name, "cp", *given)
        assert done.returncode == 0, done.stderr
    assert below(folder / "to-s3dlio") == below(folder / f"to-{oracle}") != {}


def test_odd_names_go_both_ways(minio: Any, folder: Path, run: Run, oracle: str) -> None:
    tree = {f"{name}/{name}.x": name.encode() for name in ODD}
    for name, data in tree.items():
        (folder / "odd" / name).parent.mkdir(parents=True)
        (folder / "odd" / name).write_bytes(data)
    recursive = [] if oracle == "s5cmd" else ["--recursive"]
    below_ours, below_theirs = f"s3://{minio.bucket}/ours/", f"s3://{minio.bucket}/theirs/"
    star = "*" if oracle == "s5cmd" else ""
    for done in (
        run("s3dlio", "cp", "-r", "odd", below_ours),
        run(oracle, "cp", *recursive, "odd/", below_theirs),
        run(oracle, "cp", *recursive, below_ours + star, "down-theirs/"),
        run("s3dlio", "cp", "-r", below_theirs, "down-ours"),
    ):
        assert done.returncode == 0, done.stderr
    assert objects(minio, "ours/") == objects(minio, "theirs/") == tree
    assert below(folder / "down-ours") == below(folder / "down-theirs") == tree


@pytest.mark.parametrize(
    "filters",
    [
        ["--exclude", "*.npy"],
        ["--exclude", "*", "--include", "*.txt"],
        ["--exclude", "*", "--include", "*.txt", "--exclude", "a.*"],
        ["--include", "*.txt", "--exclude", "*"],
        ["--exclude", "e.bak"],
        ["--exclude", "?.txt"],
    ],
)
@pytest.mark.parametrize("oracle", ["aws", "boto3-s3"], indirect=True)
def test_filters_leave_what_others_leave(minio: Any, folder: Path, run: Run, oracle: str, filters: list[str]) -> None:
    for name, recursive in (("s3dlio", "-r"), (oracle, "--recursive")):
        run(name, "cp", recursive, "src", f"s3://{minio.bucket}/{name}/", *filters)
    ours, theirs = objects(minio, "s3dlio/"), objects(minio, f"{oracle}/")
    # Theirs compares `?.txt` with the whole of `e/f/c.txt`; ours with its last part.
    assert set(theirs) - set(ours) == ({"e/f/c.txt"} if filters == ["--exclude", "?.txt"] else set())
    assert set(ours) <= set(theirs)


@pytest.mark.parametrize("oracle", ["aws", "boto3-s3"], indirect=True)
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_a_sync_after_anothers_moves_nothing(minio: Any, folder: Path, run: Run, oracle: str, first: str) -> None:
    order = ["s3dlio", oracle] if first == "ours" else [oracle, "s3dlio"]
    done = [run(name, "sync", "src", f"s3://{minio.bucket}/x/") for name in order]
    assert [one.returncode for one in done] == [0, 0]
    assert objects(minio, "x/") == FILES
    assert done[0].stdout.count("upload: ") == len(FILES)
    assert "upload: " not in done[1].stdout


# Exit codes of ours, of boto3-s3 (which has those of version 2 of the AWS command line), and of version 1. Ours differ
# where a file is missing, which is a failure as any other, and where the store refuses to delete a bucket.
CODES = {
    "a bucket": (["ls", "s3://B"], 0, 0, 0),
    "an empty bucket": (["ls", "s3://EMPTY"], 0, 0, 0),
    "nothing below a prefix": (["ls", "s3://B/none/"], 1, 1, 1),
    "no such bucket": (["ls", "s3://no-such-bucket-here"], 254, 254, 255),
    "a copy of nothing": (["cp", "s3://B/none", "x"], 1, 1, 1),
    "a file that is not there": (["cp", "none", "s3://B/k"], 1, 255, 255),
    "a copy that ends well": (["cp", "src/a.txt", "s3://B/k"], 0, 0, 0),
    "a deletion of nothing": (["rm", "s3://B/none"], 0, 0, 0),
    "two local paths": (["cp", "a", "b"], 252, 252, 255),
    "an unknown option": (["ls", "--frob"], 252, 252, 255),
    "a bucket that is not empty": (["rb", "s3://B"], 254, 1, 1),
    "a signed URL": (["presign", "s3://B/k"], 0, 0, 0),
}


@pytest.mark.parametrize("oracle", ["aws", "boto3-s3"], indirect=True)
@pytest.mark.parametrize("case", CODES)
def test_exit_codes_are_those_that_scripts_know(minio: Any, folder: Path, run: Run, oracle: str, case: str) -> None:
    minio.boto3.create_bucket(Bucket=f"{minio.bucket}-empty")
    minio.boto3.put_object(Bucket=minio.bucket, Key="there", Body=b"x")
    arguments, ours, version_2, version_1 = CODES[case]
    given = [one.replace("EMPTY", f"{minio.bucket}-empty").replace("//B", f"//{minio.bucket}") for one in arguments]
    assert run("s3dlio", *given).returncode == ours
    assert run(oracle, *given).returncode == (version_1 if oracle == "aws" else version_2)


@pytest.mark.parametrize("oracle", ["aws", "boto3-s3"], indirect=True)
def test_without_credentials_the_code_is_theirs(minio: Any, run: Run, oracle: str) -> None:
    for name in ("s3dlio", oracle):
        done = run(name, "ls", f"s3://{minio.bucket}", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
        assert done.returncode in (253, 255), (name, done.stderr)
    assert run("s3dlio", "ls", f"s3://{minio.bucket}", AWS_ACCESS_KEY_ID="").returncode == 253
