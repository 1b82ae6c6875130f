"""`s3dlio bench` measures within its time, says it in a table, bars and JSON, and leaves nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from behaviours import Stall, Status
from peer import Peer, Rule
from shell import Ended, s3dlio, start

from s3dlio.cli.bench import bars

Here = Callable[..., Ended]
QUICK = ("--seconds", "0.01", "--large", "9MiB", "--small", "100")


def test_a_store_is_measured_and_left_as_it_was(minio: Any) -> None:
    minio.boto3.put_object(Bucket=minio.bucket, Key="p/kept", Body=b"x")
    *measured, summary = s3dlio("bench", minio.uri("p/"), *QUICK, "--json").objects
    assert [one["measured"].split()[0] for one in measured] == ["put", "get", "put", "get", "list"]
    for one in measured:
        assert one["objects_per_second"] > 0
        assert one["seconds"] > 0
        assert (one["bytes_per_second"] > 0) == (one["measured"] != "list")
    assert (summary["exit_code"], summary["succeeded"]) == (0, 5)
    assert [one["Key"] for one in minio.boto3.list_objects_v2(Bucket=minio.bucket)["Contents"]] == ["p/kept"]


def test_people_get_a_table_and_bars(here: Here, minio: Any) -> None:
    lines = here("bench", f"s3://{minio.bucket}", *QUICK).lines
    assert lines[0].split() == ["rate", "objects/s", "CPU", "s/GiB", "objects", "seconds"]
    assert [line.split()[0] for line in lines[1:6]] == ["put", "get", "put", "get", "list"]
    assert sum("##" in line for line in lines) >= 2


def test_bars_are_as_long_as_their_values() -> None:
    _, *lines = bars([("a", 1.0, "1/s"), ("b", 4.0, "4/s")])
    assert [line.count("#") for line in lines] == [10, 40]


def test_what_was_stored_goes_when_a_measurement_fails(here: Here, peer: Peer) -> None:
    peer.play(Rule("GetObject", do=Status(403, "AccessDenied")))
    ended = here("bench", "s3://b/p/", *QUICK)
    assert (ended.code, "AccessDenied" in ended.err) == (254, True)
    assert here("ls", "s3://b/p/").code == 1


def test_a_signal_deletes_what_was_stored(peer: Peer) -> None:
    peer.play(Rule("GetObject", do=Stall()))
    ready = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    with start("bench", "s3://b/p/", *QUICK, **ready) as process:
        peer.wait_for(lambda: bool(peer.requests("GetObject")))
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == 130
    assert s3dlio("ls", "s3://b/p/").code == 1
    assert peer.store.orphans() == []


def test_one_object_is_no_place_to_measure(here: Here, peer: Peer) -> None:
    assert here("bench", "s3://b/key").code == 252
