"""Completion in a real bash, by its own function and by a key that is pressed."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from shell import command, s3dlio

from s3dlio.cli.arguments import COMMANDS

ASK = r"""
source ./script
COMP_LINE="$1"; COMP_POINT=${#1}
_s3dlio
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the script, and with the command on the PATH."""
    (tmp_path / "bin").mkdir()
    called = " ".join(f"'{one}'" for one in command())
    (tmp_path / "bin" / "s3dlio").write_text(f'#!/bin/sh\nexec {called} "$@"\n')
    (tmp_path / "bin" / "s3dlio").chmod(0o755)
    (tmp_path / "script").write_text(s3dlio("completion", "bash").out)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path


def completed(line: str) -> list[str]:
    done = subprocess.run(["bash", "-c", ASK, "-", line], capture_output=True, text=True, check=True, timeout=60)
    return [one for one in done.stdout.splitlines() if one]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("s3dlio ", list(COMMANDS)),
        ("s3dlio p", ["presign", "pipe"]),
        ("s3dlio --json ver", ["versions"]),
        ("s3dlio --prof", ["--profile"]),
        ("s3dlio ls --nu", ["--null"]),
        ("s3dlio rm --dry", ["--dry-run"]),
        ("s3dlio ls --dry", []),
        ("s3dlio ls s3", ["s3://"]),
        ("s3dlio cp fi", []),
    ],
)
def test_commands_and_options_are_offered(folder: Path, line: str, offered: list[str]) -> None:
    assert sorted(completed(line)) == sorted(offered)


def test_uris_are_offered_by_asking_the_store(folder: Path, embedded: Any, monkeypatch: Any) -> None:
    for key in ("d/one", "d/two words", "d/*star", "e"):
        embedded.boto3.put_object(Bucket=embedded.bucket, Key=key, Body=b"x")
    bucket = embedded.bucket
    assert completed(f"s3dlio ls s3://{bucket[:-1]}") == [f"//{bucket}/"]
    assert completed(f"s3dlio cp file s3://{bucket}/") == [f"//{bucket}/d/", f"//{bucket}/e"]
    assert completed(f"s3dlio cat s3://{bucket}/d/tw") == [rf"//{bucket}/d/two\ words"]
    assert completed(f"s3dlio cat s3://{bucket}/d/*") == [rf"//{bucket}/d/\*star"]
    assert completed("s3dlio ls s3://no-such-bucket-here/x") == []
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    line = f"s3dlio --endpoint-url {embedded.endpoint_url} ls s3://{bucket}/d/on"
    assert completed(line) == [f"//{bucket}/d/one"]


def test_a_pressed_key_completes_the_line(folder: Path, embedded: Any) -> None:
    embedded.boto3.put_object(Bucket=embedded.bucket, Key="folder/the-only-one", Body=b"x")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "PS1": "ready> ", "INPUTRC": os.devnull}
    process = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        os.write(ours, b"source ./script; echo loaded\n")
        _read_until(ours, "loaded\r\n")
        os.write(ours, f"echo s3dlio is here; s3dlio stat s3://{embedded.bucket}/fo\t".encode())
        _read_until(ours, "/folder/")
        os.write(ours, b"\t")
        _read_until(ours, "the-only-one")
        os.write(ours, b" -h\n")
        shown = _read_until(ours, "last_modified")
        assert re.search(r"size +1 B", shown)
    finally:
        process.kill()
        process.wait(20)
        os.close(ours)


def _read_until(descriptor: int, text: str) -> str:
    shown, deadline = "", time.monotonic() + 20
    while text not in shown:
        assert time.monotonic() < deadline, shown
        if select.select([descriptor], [], [], 1.0)[0]:
            shown += os.read(descriptor, 65536).decode()
    return shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_the_shell_reads(tmp_path: Path, shell: str) -> None:
    text = s3dlio("completion", shell).out
    assert all(name in text for name in COMMANDS)
    assert "$$" not in text
    if shutil.which(shell) is None:
        return
    (tmp_path / "script").write_text(text)
    subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)


def test_one_has_to_be_named() -> None:
    assert s3dlio("completion").code == 252
