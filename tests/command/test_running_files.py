"""`s3dlio run`: many commands of a file, one tally, errors by line."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from behaviours import Stall, Status
from peer import Peer, Rule
from shell import Ended, s3dlio, start

Here = Callable[..., Ended]


def test_commands_run_side_by_side_with_one_tally(minio: Any, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}").write_bytes(bytes([number]) * 100)
    lines = [f"cp '{tmp_path}/{number}' {minio.uri(f'k {number}')!r}" for number in range(20)]
    file = tmp_path / "commands"
    file.write_text("# uploads\n\n" + "\n".join(lines) + f"\ns3dlio ls {minio.uri('none/')}  # nothing is there\n")
    ended = s3dlio("run", str(file), "--json", "-j", "4")
    *found, summary = ended.objects
    assert sorted(one["line"] for one in found if one["operation"] == "cp") == list(range(3, 23))
    assert [(one["line"], one["error"]) for one in found if not one["success"]] == [(23, "NothingFound")]
    assert (summary["succeeded"], summary["failed"], summary["bytes"], ended.code) == (20, 1, 2000, 1)
    assert {minio.read(f"k {number}") for number in range(20)} == {bytes([number]) * 100 for number in range(20)}


def test_commands_come_from_stdin_too_and_take_the_options_of_run(embedded: Any, monkeypatch: Any) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    embedded.boto3.put_object(Bucket=embedded.bucket, Key="k", Body=b"x")
    line = f"ls -1 {embedded.uri('k')}\n".encode()
    ended = s3dlio("--endpoint-url", embedded.endpoint_url, "run", "-", stdin=line)
    assert (ended.code, ended.lines) == (0, [embedded.uri("k")])
    assert "1 commands succeeded" in ended.err


def test_a_line_that_cannot_be_used_is_named_before_anything_is_run(here: Here, peer: Peer, tmp_path: Path) -> None:
    file = tmp_path / "commands"
    file.write_text("mb s3://new\nfrob\ncat s3://b/k\ncp - s3://b/k\nrm 's3://b/k\n--help\n")
    ended = here("run", str(file))
    assert ended.code == 252
    for number in (2, 3, 4, 5, 6):
        assert f"line {number}:" in ended.err
    assert "nothing was run" in ended.err
    assert peer.requests() == []


def test_a_command_that_fails_is_named_by_its_line_and_the_others_go_on(here: Here, peer: Peer, tmp_path: Path) -> None:
    peer.store.put("b", "k", b"x")
    peer.play(Rule("HeadObject", key="no", do=Status(403, "AccessDenied")))
    file = tmp_path / "commands"
    file.write_text("stat s3://b/no\nls -1 s3://b/k\nrm -r s3://b/\n")
    ended = here("run", str(file))
    assert (ended.code, ended.lines) == (1, ["s3://b/k"])
    assert "s3dlio stat (line 1): HeadObject" in ended.err
    assert "s3dlio rm (line 3): this would delete all objects" in ended.err
    assert "1 commands succeeded, 2 failed" in ended.err


def test_a_missing_file_of_commands_is_one_sentence(here: Here) -> None:
    ended = here("run", "/no/such/file")
    assert (ended.code, ended.err.splitlines()[0]) == (1, "s3dlio run: /no/such/file: No such file or directory")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_every_command(peer: Peer, tmp_path: Path, number: int) -> None:
    peer.store.put("b", "d/0", bytes(1 << 20))
    (tmp_path / "large").write_bytes(bytes(40 << 20))
    file = tmp_path / "commands"
    file.write_text(f"cp s3://b/d/0 {tmp_path}/t/\ncp {tmp_path}/large s3://b/large\n")
    peer.play(Rule("GetObject", do=Stall()), Rule("UploadPart", part=2, do=Stall()))
    ready = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    with start("run", str(file), **ready) as process:
        peer.wait_for(lambda: bool(peer.requests("GetObject") and peer.requests("UploadPart", 2)))
        process.send_signal(number)
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == 128 + number
    assert sorted(one.name for one in tmp_path.rglob("*") if one.is_file()) == ["commands", "large"]
    assert peer.store.orphans() == []
