"""What the command shows where: pipes, pseudo-terminals, closed readers, signals, and a store that misbehaves."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from behaviours import Stall, Status
from model import Reply
from peer import Peer, Rule, Turn
from shell import DEADLINE, in_terminal, read_all, s3dlio, start

from s3dlio.cli.arguments import COMMANDS

ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
CONTROL = "\x1b]0;evil\x07\u202e.txt"


# ------------------------------------------------------------------------------------------------- start


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_loads_nothing_that_it_does_not_need(arguments: list[str]) -> None:
    program = (
        "import sys; from s3dlio.cli import main; code = main(sys.argv[1:]); "
        "heavy = 'numpy botocore urllib3 awscrt httptools dataclasses logging socket ssl'.split(); "
        "ours = [one for one in sys.modules if one.startswith('s3dlio.') and not one.startswith('s3dlio.cli')]; "
        "print(code, [*ours, *(one for one in heavy if one in sys.modules)], file=sys.stderr)"
    )
    if arguments[0] not in ("--help", "--version", "ls", "presign"):
        from s3dlio.cli import main

        assert main(arguments) == 0
        return
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert done.stderr == "0 []\n"
    assert "s3dlio" in done.stdout


def test_every_command_is_there() -> None:
    import importlib

    for call, _, _ in COMMANDS.values():
        module, _, name = call.partition(":")
        assert callable(getattr(importlib.import_module(f"s3dlio.cli.{module}"), name))


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "s3dlio", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == s3dlio("--version").out


# ------------------------------------------------------------------------------------------------- terminals


def test_a_key_cannot_command_the_terminal(peer: Peer) -> None:
    peer.store.put("b", CONTROL, b"x")
    code, shown = in_terminal("ls", "s3://b")
    assert (code, "\x1b]" in shown, "\x07" in shown, "\u202e" in shown) == (0, False, False, False)
    assert r"s3://b/\x1b]0;evil\x07\u202e.txt" in shown
    assert s3dlio("ls", "-1", "s3://b").out == f"s3://b/{CONTROL}\n"  # a pipe gets the key itself
    assert "\x1b" not in s3dlio("stat", f"s3://b/{CONTROL}x").err


def test_an_error_is_red_on_a_terminal_alone(peer: Peer) -> None:
    assert "\x1b[31ms3dlio ls:\x1b[0m" in in_terminal("ls", "s3://none")[1]
    for env in ({"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": "dumb"}, {"CI": "true"}):
        assert not ESCAPES.search(in_terminal("ls", "s3://none", env=env)[1])
    assert not ESCAPES.search(s3dlio("ls", "s3://none").err)


class Slow:
    """Answers when the test says so."""

    def __init__(self) -> None:
        import threading

        self.go = threading.Event()

    def __call__(self, turn: Turn) -> None:
        self.go.wait(DEADLINE)
        turn.send(turn.serve())


def test_progress_is_a_line_that_goes_away_on_a_terminal_and_lines_elsewhere(peer: Peer, tmp_path: Any) -> None:
    slow = Slow()
    peer.play(Rule("UploadPart", part=2, do=slow))
    data = tmp_path / "data"
    data.write_bytes(bytes(20 << 20))

    def piped(*options: str) -> tuple[str, str]:
        slow.go.clear()
        with data.open("rb") as source:
            process = start("pipe", "s3://b/k", *options, stdin=source)
        assert process.stdout is not None
        assert process.stderr is not None
        seen = b""
        if "--no-progress" not in options and "--quiet" not in options:
            while b"MiB/s" not in seen:
                seen += os.read(process.stderr.fileno(), 65536)
        slow.go.set()
        out, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0
        return out.decode(), (seen + err).decode()

    out, err = piped("--progress-every", "0.05")
    assert out == "upload: - to s3://b/k\n"
    assert re.search(r"^s3dlio pipe: 16\.0 MiB, [\d.]+ [KM]iB/s$", err, re.M)
    assert "\r" not in err
    assert piped("--no-progress") == (out, "")
    assert piped("--quiet") == ("", "")


def test_a_terminal_shows_one_line_of_progress_and_erases_it(peer: Peer) -> None:
    slow = Slow()
    for number in range(3):
        peer.store.put("b", f"k{number}", b"x")
    peer.play(Rule("ListObjectsV2", do=slow))
    import threading

    threading.Timer(0.5, slow.go.set).start()
    code, shown = in_terminal("du", "s3://b")
    assert code == 0
    first, *_, last = shown.split("\r\x1b[K")
    assert (first, last.split()) == ("0 objects", ["3", "3", "s3://b"])


def test_a_question_is_asked_on_a_terminal(peer: Peer) -> None:
    peer.store.put("b", "k", b"x")
    code, shown = in_terminal("rm", "-r", "s3://b/", answer="n")
    assert (code, "delete all objects of s3://b/? [y/N]" in shown) == (252, True)
    assert peer.store.versions("b", "k")
    code, shown = in_terminal("rm", "-r", "s3://b/", answer="y")
    assert (code, "delete: s3://b/k" in shown) == (0, True)


# ------------------------------------------------------------------------------------------------- endings


def test_a_reader_that_leaves_is_no_error(peer: Peer) -> None:
    for number in range(3000):
        peer.store.put("b", f"{number:05}{'x' * 200}", b"")
    with start("ls", "s3://b") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(100)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_full_disk_is_an_error() -> None:
    with open("/dev/full", "wb") as full, start("--help", stdout=full) as process:
        assert process.stderr is not None
        assert process.stderr.read() == b"s3dlio: stdout: No space left on device\n"
    assert process.returncode == 255


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_an_upload_and_leaves_nothing(peer: Peer, number: int, code: int) -> None:
    default = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    with start("pipe", "s3://b/k", **default) as process:
        assert process.stdin is not None
        process.stdin.write(bytes(36 << 20))
        process.stdin.flush()
        peer.wait_for(lambda: any(seen.whole for seen in peer.requests("UploadPart")))
        process.send_signal(number)
        assert process.stderr is not None
        err = process.stderr.read()
    assert (process.returncode, err.decode().splitlines()[-1]) == (
        code, f"s3dlio: {'interrupted' if code == 130 else 'terminated'}",
    )  # fmt: skip
    assert "Traceback" not in err.decode()
    assert {one.ended for one in peer.store.uploads.values()} == {"aborted"}
    assert not peer.store.versions("b", "k")


def test_ctrl_c_that_is_typed_ends_an_upload_and_leaves_nothing(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(40 << 20))
    peer.play(Rule("UploadPart", part=2, do=Stall()))
    ours, theirs = pty.openpty()
    terminal: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)

    def control() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    with start(
        "cp", str(tmp_path / "data"), "s3://b/k", start_new_session=True, preexec_fn=control, **terminal
    ) as process:
        os.close(theirs)
        peer.wait_for(lambda: bool(peer.requests("UploadPart", 2)))
        os.write(ours, b"\x03")
        shown = read_all(ours)
    os.close(ours)
    # The terminal shows what was typed, before the line or within it.
    lines = ESCAPES.sub("", shown).replace("^C", "").split("\r")
    assert (process.returncode, lines[-2]) == (130, "s3dlio: interrupted")
    assert peer.store.orphans() == []


# ------------------------------------------------------------------------------------------------- a store that refuses


@pytest.mark.parametrize(
    ("status", "error", "command", "code"),
    [
        (403, "AccessDenied", ["ls", "s3://b"], 254),
        (403, "AccessDenied", ["rm", "s3://b/k"], 1),
        (503, "SlowDown", ["ls", "s3://b", "--max-attempts", "2"], 254),
        (503, "SlowDown", ["cat", "s3://b/k", "--max-attempts", "2"], 1),
        (404, "NoSuchBucket", ["du", "s3://b"], 254),
    ],
)
def test_a_refusal_is_one_sentence_and_a_code(
    peer: Peer, status: int, error: str, command: list[str], code: int
) -> None:
    peer.play(Rule(do=Status(status, error)))
    ended = s3dlio(*command)
    first, *more = ended.err.splitlines()
    assert (ended.code, ended.out, len(more)) == (code, "", command[0] == "rm")
    assert f"status {status} ({error})" in first
    assert "Traceback" in s3dlio(*command, "--debug").err


def test_each_object_that_stays_is_named_and_the_others_are_gone(peer: Peer) -> None:
    for number in range(4):
        peer.store.put("b", f"d/{number}", b"x")

    def refuse(turn: Turn) -> None:
        turn.read()
        deleted = "".join(f"<Deleted><Key>d/{number}</Key></Deleted>" for number in (0, 1, 3))
        error = "<Error><Key>d/2</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
        turn.send(Reply(200, {}, f"<DeleteResult>{deleted}{error}</DeleteResult>".encode()))

    peer.play(Rule("DeleteObjects", do=refuse))
    ended = s3dlio("rm", "-r", "s3://b/d/")
    assert ended.code == 1
    assert ended.lines == [f"delete: s3://b/d/{number}" for number in (0, 1, 3)]
    assert "s3://b/d/2" in ended.err
    assert "3 deleted, 1 failed" in ended.err
