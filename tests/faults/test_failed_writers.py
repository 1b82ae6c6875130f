"""What is left of a writer that failed, was aborted in its block, or was dropped; and work without threads."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest
from behaviours import Stall, Status
from peer import Peer, Rule

import s3dlio
from s3dlio import Client
from s3dlio._runtime.forking import _forks, no_fork

PART = 5 << 20
URI = "s3://b/k"
REFUSED = Rule("UploadPart", do=Status(403, "AccessDenied"))


def test_a_failed_writer_is_closed(peer: Peer, client: Client) -> None:
    peer.play(REFUSED)
    writer = client.writer(URI, part_size=PART)
    writer.write(bytes(PART + 1))
    with pytest.raises(s3dlio.AccessDeniedError):
        writer.flush()
    assert writer.closed


@pytest.mark.parametrize("aborts", [True, False])
def test_a_block_leaves_the_upload_of_a_failed_writer_only_where_it_is_told_to(
    peer: Peer, client: Client, aborts: bool
) -> None:
    peer.play(REFUSED)
    with (
        pytest.raises(s3dlio.AccessDeniedError),
        client.writer(URI, part_size=PART, abort_on_failure=aborts) as writer,
    ):
        writer.write(bytes(3 * PART))
    assert len(peer.store.orphans()) == (0 if aborts else 1)


def test_a_block_that_aborts_its_writer_ends_without_an_error(peer: Peer, client: Client) -> None:
    with client.writer(URI, part_size=PART) as writer:
        writer.write(bytes(2 * PART))
        writer.abort()
    assert writer.closed
    assert peer.store.orphans() == []
    assert peer.store.versions("b", "k") == []


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "always", "-c", program, *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


CLIENT = """
import gc, os, signal, sys, threading
import s3dlio
client = s3dlio.Client(endpoint_url=sys.argv[1], region="us-east-1", credentials=("id", "secret"))
"""


def test_small_writers_that_are_dropped_unclosed_say_so(peer: Peer) -> None:
    program = """
for number in range(100):
    client.writer(f"s3://b/{number}").write(b"x")
gc.collect()
"""
    assert run(CLIENT + program, peer.endpoint_url).stderr.count("was never closed") == 100


def test_an_exit_in_a_signal_handler_during_a_write_keeps_its_status(peer: Peer) -> None:
    program = """
def end(*_):
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
with client.writer("s3://b/k", part_size=5 << 20, max_in_flight=1) as writer:
    while True:
        writer.write(bytes(1 << 20))
        if writer.bytes_written == 12 << 20:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
"""
    assert run(CLIENT + program, peer.endpoint_url).returncode == 7
    assert peer.store.orphans() == []


SCARCE = """
start, left = threading.Thread.start, [int(sys.argv[2])]
def scarce(thread):
    if left[0] == 0:
        raise RuntimeError("can't start new thread")
    left[0] -= 1
    start(thread)
threading.Thread.start = scarce
"""


@pytest.mark.parametrize("threads", [3, 4, 6])
def test_many_objects_go_on_with_the_threads_that_there_are(peer: Peer, threads: int) -> None:
    for number in range(40):
        peer.store.put("b", str(number), b"x" * number)
    program = """
pairs = client.get_many([f"s3://b/{number}" for number in range(40)], max_in_flight=16)
print(all(bytes(view) == b"x" * number for number, (_, view) in enumerate(pairs)))
"""
    ended = run(CLIENT + SCARCE + program, peer.endpoint_url, str(threads))
    assert (ended.stdout, ended.returncode) == ("True\n", 0), ended.stderr


def test_an_upload_goes_on_once_a_thread_is_to_be_had(peer: Peer) -> None:
    program = """
try:
    client.put_bytes("s3://b/k", bytes(12 << 20), part_size=5 << 20)
except (RuntimeError, s3dlio.S3dlioError) as error:
    print("refused")
left[0] = 100
print(client.put_bytes("s3://b/k", bytes(12 << 20), part_size=5 << 20).parts)
writer = client.writer("s3://b/dropped", part_size=5 << 20)
writer.write(bytes(12 << 20))
writer.flush()
del writer
"""
    ended = run(CLIENT + SCARCE + program, peer.endpoint_url, "0")
    assert ended.stdout.split()[-1] == "3", ended.stderr
    assert "was never closed" in ended.stderr
    assert peer.store.orphans() == []


def test_an_inner_exit_leaves_a_fork_waiting_for_the_outer_context() -> None:
    inside, leave, forked = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        with no_fork():
            with no_fork():
                pass
            inside.set()
            leave.wait(20)

    def fork() -> None:
        _forks.hold()
        _forks.release()
        forked.set()

    threads: list[Any] = [threading.Thread(target=work), threading.Thread(target=fork)]
    threads[0].start()
    assert inside.wait(20)
    threads[1].start()
    assert not forked.wait(0.2)
    leave.set()
    assert forked.wait(20)
    for thread in threads:
        thread.join(20)


def test_an_interrupt_of_a_close_does_not_wait_for_the_store(peer: Peer, client: Client) -> None:
    peer.play(Rule("UploadPart", do=Stall()), Rule("AbortMultipartUpload", do=Stall()))
    writer = client.writer(URI, part_size=PART)
    raised: list[BaseException] = []
    writer.write(bytes(2 * PART + 1))
    peer.wait_for(lambda: bool(peer.requests("UploadPart")))

    def interrupt(frame: Any, event: str, _: object) -> None:
        if frame.f_code.co_name == "submit" and frame.f_code.co_filename.endswith("_transfer/upload.py"):
            sys.settrace(None)
            raise KeyboardInterrupt

    def close() -> None:
        sys.settrace(interrupt)
        try:
            writer.close()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=close, daemon=True)
    thread.start()
    thread.join(8)  # the abort itself would take until the client's deadline of 10 s
    hung = thread.is_alive()
    peer.resume()
    thread.join(20)
    assert not hung
    assert isinstance(raised[0], KeyboardInterrupt)
    with pytest.raises(s3dlio.WriterClosedError):
        writer.close()  # which does wait
    assert peer.store.orphans() == []
