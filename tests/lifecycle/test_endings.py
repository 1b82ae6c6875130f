"""How uploads end when nobody closes them: exit, fork, interrupts and drops, each in an interpreter of its own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from programs import MIB, Request, Stall, completes, later_ranges, parts, reads, run, started, within
from small_store import Peer, running_peer


@pytest.fixture
def peer() -> Iterator[Peer]:
    with running_peer() as server:
        yield server


def test_an_open_writer_at_exit_is_aborted_and_named(peer: Peer) -> None:
    script = """
warnings.simplefilter("always")
writer = client.writer("s3://b/k", part_size=5 * MIB)
writer.write(bytes(6 * MIB))
writer.flush()
"""
    _, err = run(peer, script)
    assert peer.uploads == 0
    assert "ResourceWarning" in err
    assert "<string>:" in err  # where the writer was made


def test_exit_does_not_wait_for_a_stalled_peer(peer: Peer) -> None:
    with Stall(peer, parts) as stall:
        script = """
writer = client.writer("s3://b/k", part_size=5 * MIB)
writer.write(bytes(12 * MIB))
sys.stdin.readline()
"""
        with started(peer, script) as process:
            assert stall.reached.wait(30)
            process.communicate("go on", timeout=30)
        assert process.returncode == 0
        assert peer.uploads == 0


def test_a_dropped_writer_is_aborted(peer: Peer) -> None:
    script = """
writer = client.writer("s3://b/k", part_size=5 * MIB)
writer.write(bytes(6 * MIB))
writer.flush()
del writer
deadline = time.monotonic() + 20
while threading.active_count() and time.monotonic() < deadline:
    from s3dlio._runtime.workers import _process
    if not _process.open_uploads:
        break
    time.sleep(0.01)
print(len(_process.open_uploads))
"""
    out, _ = run(peer, script)
    assert (out.strip(), peer.uploads) == ("0", 0)


@pytest.mark.skipif("S3DLIO_SANITIZED" in os.environ, reason="the sanitizer's allocator locks are not fork-safe")
def test_a_writer_in_a_forked_child_says_so_and_the_parent_goes_on(peer: Peer) -> None:
    script = """
writer = client.writer("s3://b/k", part_size=5 * MIB)
writer.write(b"a" * (6 * MIB))
child = os.fork()
if child == 0:
    status = 1
    try:
        writer.write(b"x")
    except s3dlio.ForkedError as error:
        status = 0 if "s3://b/k" in str(error) else 2
    try:
        writer.abort()
        status = 3
    except s3dlio.ForkedError:
        pass
    del writer
    gc.collect()
    if client.put_bytes("s3://b/child", b"mine").parts != 1:
        status = 4
    os._exit(status)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
writer.write(b"b" * MIB)
print(writer.close().total_bytes)
"""
    out, _ = run(peer, script)
    assert out.strip() == str(7 * MIB)
    assert peer.objects["/b/k"] == b"a" * (6 * MIB) + b"b" * MIB
    assert peer.objects["/b/child"] == b"mine"


# ------------------------------------------------------------------------------- interrupts, signals and aborts

WRITER = 'w = client.writer("s3://b/k", part_size=5 * MIB, max_in_flight=1)'
READING = {
    "get": 'client.get("s3://b/k")',
    "get-ranged": 'client.get("s3://b/k", range_optimization=True, range_threshold=0)',
    "get_range": 'client.get_range("s3://b/k", 5, 10)',
    "get_into": 'client.get_into("s3://b/k", bytearray(100))',
    "get_many": 'client.get_many(["s3://b/k"] * 3)',
    "get_many-keeping-errors": 'client.get_many(["s3://b/k"] * 3, on_error="return")',
}
RANGED = 'client.get("s3://b/k", range_optimization=True, range_threshold=0, chunk_size=65536)'
INTO_RANGED = (
    'client.get_into("s3://b/k", bytearray(9 << 16), range_optimization=True, range_threshold=0, chunk_size=65536)'
)
WRITING = {
    "put_bytes": 'client.put_bytes("s3://b/k", b"x")',
    "put_many": 'client.put_many([("s3://b/k", b"x")] * 70)',
    "put_many-keeping-errors": 'client.put_many([("s3://b/k", b"x")] * 70, on_error="return")',
    "put_many-large": 'client.put_many([("s3://b/k", bytes(12 * MIB))], part_size=5 * MIB)',
    "put_many-large-keeping-errors": (
        'client.put_many([("s3://b/k", bytes(12 * MIB))] * 3, part_size=5 * MIB, on_error="return")'
    ),
    "put_bytes-parts": 'client.put_bytes("s3://b/k", bytes(11 * MIB), part_size=5 * MIB)',
    "write": f"{WRITER}\n    for _ in range(99): w.write(bytearray(5 * MIB))",
    "write-lent": f"{WRITER}\n    for _ in range(99): w.write(bytearray(5 * MIB), copy=False)",
    "reserve": f"{WRITER}\n    for _ in range(99): w.reserve(5 * MIB); w.commit(5 * MIB)",
    "flush": f"{WRITER}; w.write(bytes(6 * MIB)); w.flush()",
    "close": f"{WRITER}; w.write(bytes(6 * MIB)); w.close()",
    "with": "with client.writer('s3://b/k', part_size=5 * MIB) as w: w.write(bytes(6 * MIB)); w.flush()",
}
COMPLETING = {
    "close": f"{WRITER}; w.write(bytes(6 * MIB)); w.close()",
    "with": "with client.writer('s3://b/k', part_size=5 * MIB) as w: w.write(bytes(6 * MIB))",
}
BLOCKED: dict[str, tuple[Request, bool, str]] = {
    **{name: (reads, False, code) for name, code in READING.items()},
    "get-later-ranges": (later_ranges, False, RANGED),
    "get_into-later-ranges": (later_ranges, True, INTO_RANGED),
    **{name: (parts, False, code) for name, code in WRITING.items()},
    **{f"{name}-while-completing": (completes, False, code) for name, code in COMPLETING.items()},
    **{f"{name}-all-stalled": (parts, True, code) for name, code in WRITING.items()},
    **{f"{name}-while-completing-all-stalled": (completes, True, code) for name, code in COMPLETING.items()},
}
INTERRUPTED = """
try:
    {code}
except KeyboardInterrupt:
    print(time.monotonic(), flush=True)
"""


@pytest.mark.parametrize("name", BLOCKED)
def test_an_interrupt_ends_a_call_that_waits_for_a_stalled_peer(peer: Peer, name: str) -> None:
    holds, all_after, code = BLOCKED[name]
    peer.objects["/b/k"] = bytes(9 << 16)

    def attempt() -> float:
        with Stall(peer, holds, all_after=all_after) as stall:
            with started(peer, INTERRUPTED.format(code=code)) as process:
                assert stall.reached.wait(30)
                assert process.stdout is not None
                before = time.monotonic()  # one clock for all processes of a machine
                process.send_signal(signal.SIGINT)
                line = process.stdout.readline()
                if all_after:
                    stall.let_go()
                _, err = process.communicate(timeout=30)
            assert process.returncode == 0, err
            assert peer.uploads == 0
        return float(line) - before

    within(0.3, attempt)


@pytest.mark.parametrize("name", ["get", "get-ranged", "get_many", "write", "close", "with", "put_bytes-parts"])
def test_sigterm_with_a_handler_that_raises_ends_the_call_and_the_upload(peer: Peer, name: str) -> None:
    holds, code = (reads, READING[name]) if name in READING else (parts, WRITING[name])
    script = f"""
def terminated(*_):
    print(time.monotonic(), flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, terminated)
if True:
    {code}
"""

    def attempt() -> float:
        with Stall(peer, holds) as stall:
            with started(peer, script) as process:
                assert stall.reached.wait(30)
                before = time.monotonic()
                process.send_signal(signal.SIGTERM)
                out, err = process.communicate(timeout=30)
            assert process.returncode == 7, err
            assert peer.uploads == 0
        return float(out) - before

    within(0.3, attempt)


@pytest.mark.parametrize("name", ["get", "get-ranged", "get_many", "flush", "close"])
def test_a_handler_that_returns_lets_the_call_go_on(peer: Peer, name: str) -> None:
    holds, code = (reads, READING[name]) if name in READING else (parts, WRITING[name])
    peer.objects["/b/k"] = bytes(5000)
    script = f"""
signal.signal(signal.SIGTERM, lambda *_: print("handled", flush=True))
if True:
    {code}
print("went on", flush=True)
if "w" in globals(): w.close()
"""
    with Stall(peer, holds) as stall, started(peer, script) as process:
        assert stall.reached.wait(30)
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert process.stdout.readline() == "handled\n"
        stall.let_go()
        out, err = process.communicate(timeout=30)
    assert (out, process.returncode) == ("went on\n", 0), err


def test_an_interrupted_writer_can_be_aborted_or_gone_on_with(peer: Peer) -> None:
    """An interrupt while a writer waits, with all it was given taken in, costs nothing."""
    script = """
w = client.writer("s3://b/k", part_size=5 * MIB)
w.write(b"a" * (6 * MIB))
try:
    print("flushing", flush=True)
    w.flush()
except KeyboardInterrupt:
    print("interrupted", flush=True)
w.write(b"b" * MIB)
print(w.close().total_bytes)
"""
    with Stall(peer, parts) as stall, started(peer, script) as process:
        assert stall.reached.wait(30)
        assert process.stdout is not None
        assert process.stdout.readline() == "flushing\n"
        while sum(method == "PUT" for method, *_ in list(peer.requests)) < 2:
            time.sleep(0.01)
        time.sleep(0.1)  # both parts are sent; now it waits
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        stall.let_go()
        out, err = process.communicate(timeout=30)
    assert out.strip() == str(7 * MIB), err
    assert peer.objects["/b/k"] == b"a" * (6 * MIB) + b"b" * MIB


def test_exit_is_bounded_though_the_whole_store_is_silent(peer: Peer) -> None:
    with Stall(peer, parts, all_after=True) as stall:
        script = """
writer = client.writer("s3://b/k", part_size=5 * MIB)
writer.write(bytes(12 * MIB))
sys.stdin.readline()
"""
        with started(peer, script) as process:
            assert stall.reached.wait(30)
            process.communicate("go on", timeout=30)  # the store would be waited for 60 s, six times
        assert process.returncode == 0


def test_abort_does_not_wait_for_a_stalled_peer(peer: Peer) -> None:
    script = """
writer = client.writer("s3://b/k", part_size=5 * MIB)
writer.write(bytes(12 * MIB))
sys.stdin.readline()
before = time.monotonic()
writer.abort()
print(time.monotonic() - before, writer.closed)
"""

    def attempt() -> float:
        with Stall(peer, parts) as stall:
            with started(peer, script) as process:
                assert stall.reached.wait(30)
                out, err = process.communicate("go on", timeout=30)
            assert out.endswith("True\n"), err
            assert peer.uploads == 0
        return float(out.split()[0])

    within(0.2, attempt)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("name", ["get-later-ranges", "get_many", "put_bytes-parts"])
def test_an_interrupt_while_threads_are_being_started_ends_the_call(
    peer: Peer, name: str, number: int, when: str
) -> None:
    """Python itself waits for a thread to start, and is interrupted there: no task may be counted that never ran."""
    peer.objects["/b/k"] = bytes(9 << 16)
    peer.script = lambda *_: time.sleep(0.3)  # so that no thread is free again before the last one is started
    code = BLOCKED[name][2]
    script = f"""
real, count = threading.Thread.start, 0
def start(thread):
    global count
    count += thread.name.startswith("s3dlio-worker")
    if count == {number} and "{when}" == "before": raise KeyboardInterrupt
    real(thread)
    if count == {number}: raise KeyboardInterrupt
threading.Thread.start = start
{INTERRUPTED.format(code=code)}
threading.Thread.start = real
print(client.put_bytes("s3://b/after", bytes(6 * MIB), part_size=5 * MIB).parts)
"""
    out, _ = run(peer, script)
    assert out.split()[1:] == ["2"]
    assert "/b/after" in peer.objects
