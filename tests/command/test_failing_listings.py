"""A listing that breaks off is a failure of every command that goes by it: nothing is passed over in silence."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from model import error_reply
from peer import Peer, Rule, Turn
from shell import Ended

Here = Callable[..., Ended]


def second_page_denied(turn: Turn) -> None:
    """Pages of two; the one after the first is refused."""
    turn.target = turn.target.replace("max-keys=1000", "max-keys=2")
    turn.send(turn.serve() if "continuation-token" not in turn.target else error_reply(403, "AccessDenied"))


@pytest.fixture
def broken(peer: Peer) -> Peer:
    for number in range(5):
        peer.store.put("b", f"d/{number}", b"x")
    peer.play(Rule("ListObjectsV2", do=second_page_denied))
    return peer


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["ls", "-1", "s3://b/d/"], 254),
        (["du", "s3://b/d/"], 254),
        (["cat", "s3://b/d/"], 1),
        (["cp", "-r", "s3://b/d/", "T/"], 1),
        (["cp", "-r", "s3://b/d/", "T/", "--exclude", "none"], 1),
        (["cp", "-r", "s3://b/d/", "T/", "--dry-run"], 1),
        (["cp", "-r", "s3://b/d/", "s3://b/e/"], 1),
        (["mv", "-r", "s3://b/d/", "T/"], 1),
        (["sync", "s3://b/d/", "T/"], 1),
        (["rm", "-r", "s3://b/d/"], 1),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_listing_that_breaks_off_is_told_and_counted(
    here: Here, broken: Peer, tmp_path: Path, arguments: list[str], code: int, as_json: bool
) -> None:
    given = [one.replace("T/", f"{tmp_path}/") for one in arguments]
    ended = here(*given, *(["--json"] if as_json else []))
    assert ended.code == code
    if not as_json:
        assert ended.err.count("AccessDenied") == 1
        return
    lines = (ended.err if arguments[0] == "cat" else ended.out).splitlines()
    objects = Ended(0, "\n".join(lines), "").objects
    assert [one["code"] for one in objects if one.get("success") is False] == ["AccessDenied"]
    assert (objects[-1]["failed"], objects[-1]["exit_code"]) == (1, code)


def test_a_deletion_that_the_store_refuses_in_part_names_each(here: Here, peer: Peer) -> None:
    for number in range(3):
        peer.store.put("b", f"d/{number}", b"x")

    def refuse_two(turn: Turn) -> None:
        turn.read()
        keys = "".join(f"<Error><Key>d/{one}</Key><Code>AccessDenied</Code></Error>" for one in (0, 2))
        reply = replace(error_reply(200, "x"), body=f"<DeleteResult>{keys}</DeleteResult>".encode())
        turn.send(reply)

    peer.play(Rule("DeleteObjects", do=refuse_two))
    ended = here("rm", "-r", "s3://b/d/")
    assert (ended.code, ended.lines) == (1, ["delete: s3://b/d/1"])
    assert re.findall(r"s3dlio rm: .*s3://b/d/(\d)", ended.err) == ["0", "2"]
