"""A forked child uses the library at once, whatever its parent was doing; what is the parent's stays the parent's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from authority import Authority
from behaviours import Stall, Status
from peer import Peer, Rule
from programs import MIB, run, started

import s3dlio

pytestmark = pytest.mark.skipif(
    "S3DLIO_SANITIZED" in os.environ, reason="the sanitizer's allocator locks are not fork-safe"
)
RANGED = "range_optimization=True, range_threshold=0, chunk_size=65536"
FORK = f"""
import asyncio, traceback
def in_child(check, *, seconds=30):
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)
        status = 1
        try:
            check()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

def uses_everything():
    data = b"child" * 20_000
    assert client.put_bytes("s3://b/child", data).parts == 1
    assert client.put_bytes("s3://b/parts", bytes(6 * MIB), part_size=5 * MIB).parts == 2
    assert client.get("s3://b/child") == data
    assert client.get("s3://b/there", {RANGED}) == bytes(9 << 16)
    assert [bytes(view) for _, view in client.get_many(["s3://b/child"] * 3)] == [data] * 3
    with client.writer("s3://b/child", part_size=5 * MIB) as w:
        w.reserve(10)[:] = b"0123456789"
        w.commit(10)
        w.flush()
    assert client.get("s3://b/child") == b"0123456789"
    assert asyncio.run(client.get_async("s3://b/child")) == b"0123456789"
"""


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as server:
        server.store.put("b", "there", bytes(9 << 16))
        yield server
        assert server.store.orphans() == [], server.transcript()


SITUATIONS = {
    "nothing-was-done": "",
    "idle": "uses_everything()",
    "closed-client": "uses_everything(); client.close()",
    "held-results": "held = client.get('s3://b/there'); many = client.get_many(['s3://b/there'] * 9)",
    "open-reservation": "w = client.writer('s3://b/k', part_size=5 * MIB); mine = w.reserve(100)",
    "waiting-bytes": "w = client.writer('s3://b/k', part_size=5 * MIB); w.write(b'x' * 100)",
    "after-an-abort": "w = client.writer('s3://b/k', part_size=5 * MIB); w.write(bytes(6 * MIB)); w.abort()",
    "after-an-error": "client.get_many(['s3://b/missing'] * 3, on_error='return')",
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_child_uses_the_library_at_once(peer: Peer, situation: str) -> None:
    run(peer, f"{FORK}{SITUATIONS[situation]}\nin_child(uses_everything)\nuses_everything()")


@pytest.mark.parametrize("doing", ["upload", "ranges", "many"])
def test_a_child_forked_in_the_middle_of_a_transfer_uses_the_library_and_the_parent_goes_on(
    peer: Peer, doing: str
) -> None:
    call = {
        "upload": "client.put_bytes('s3://b/k', b'p' * (11 * MIB), part_size=5 * MIB).total_bytes",
        "ranges": f"len(client.get('s3://b/there', {RANGED}))",
        "many": f"len(client.get_many(['s3://b/there'] * 5, {RANGED}))",
    }[doing]
    script = f"""{FORK}
results = []
thread = threading.Thread(target=lambda: results.append({call}))
thread.start()
sys.stdin.readline()  # the peer has them, and says nothing
child = os.fork()
if child == 0:
    signal.alarm(30)
    status = 1
    try:
        print("forked", flush=True)
        sys.stdin.readline()
        uses_everything()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
thread.join(60)
print(results)
"""
    stalled = (
        Rule("UploadPart", key="k", do=Stall()) if doing == "upload" else Rule("GetObject", offset=1 << 16, do=Stall())
    )
    peer.play(stalled)
    with started(peer, script) as process:
        peer.wait_for(lambda: any(one.open and one.whole for one in peer.requests(stalled.operation)))
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("fork\n")
        process.stdin.flush()
        assert process.stdout.readline() == "forked\n"
        peer.resume()  # the parent's transfer ends beside the child's own
        out, err = process.communicate("go on\n", timeout=90)
    assert process.returncode == 0, err
    assert out.strip() == {"upload": f"[{11 * MIB}]", "ranges": f"[{9 << 16}]", "many": "[5]"}[doing]
    if doing == "upload":
        assert peer.store.versions("b", "k")[-1].data == b"p" * (11 * MIB)


def test_every_use_of_the_parents_writer_or_sink_says_that_it_is_the_parents(peer: Peer) -> None:
    script = f"""{FORK}
writer = client.writer("s3://b/k", part_size=5 * MIB)
writer.write(b"a" * (6 * MIB))
reserving = client.writer("s3://b/r", part_size=5 * MIB)
reserving.reserve(10)
sink = client.sink("b", "s")
sink.write_blocking(b"x" * 100)

def refused():
    for call in (
        lambda: writer.write(b"x"), lambda: writer.write(bytearray(MIB), copy=False), writer.flush, writer.close,
        writer.abort, lambda: writer.reserve(1), lambda: reserving.commit(1), writer.__enter__().flush,
        lambda: sink.write_blocking(b"x"), lambda: sink.write_owned_blocking(b"x"), sink.finish_blocking,
        sink.abort_blocking,
    ):
        try:
            call()
        except s3dlio.ForkedError as error:
            assert "make a new one" in str(error)
        else:
            raise SystemExit(f"{{call}} was not refused")
    writer.__exit__(ValueError, ValueError(), None)
    writer.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)

def drops_them():
    global writer, reserving, sink
    refused()
    writer = reserving = sink = None
    gc.collect()
    uses_everything()

def exits():
    sys.exit(0)

in_child(drops_them)
child = os.fork()
if child == 0:
    sys.exit(0)  # with atexit, finalizers and all
os.waitpid(child, 0)
writer.write(b"b" * MIB)
assert writer.close().total_bytes == 7 * MIB
reserving.commit(10)
assert reserving.close().total_bytes == 10
assert sink.finish_blocking().total_bytes == 100
"""
    run(peer, script)
    assert peer.store.versions("b", "k")[-1].data == b"a" * (6 * MIB) + b"b" * MIB
    assert peer.requests("AbortMultipartUpload") == []


def test_a_child_forked_while_every_lock_is_held_does_not_wait_for_them(peer: Peer) -> None:
    """The thread that holds a lock does not exist in the child, and will never let go of it there."""
    script = f"""{FORK}
from contextlib import ExitStack
from s3dlio._memory import pool
from s3dlio._net import drivers
from s3dlio._runtime import bounded, operation_log, workers
from s3dlio._s3 import default
uses_everything()
service, process, running = client.service, workers._process, drivers.drivers()
attempts = service._attempts
locks = [
    pool._lock, default._default_lock, drivers._lock, running._lock, process.workers._lock,
    process.open_lock, process.reaper._lock, attempts._lock, attempts._pace._lock, service._quota._lock,
    service._credentials._lock, service._connections._lock, bounded.shared()._lock,
    operation_log._lock, service.observer._lock, attempts.endpoints._lock,
]
with ExitStack() as stack:
    for lock in locks:
        stack.enter_context(lock)
    in_child(uses_everything)
uses_everything()
"""
    run(peer, script)


def test_no_lock_is_left_out_of_the_test_above() -> None:
    """Locks of one transfer belong to the parent's objects, which a child may not use; all others are named there."""
    package = Path(s3dlio.__file__).parent
    made = re.compile(r"threading\.R?Lock\(\)")
    found = {path.name for path in package.rglob("*.py") if made.search(path.read_text(encoding="utf-8"))}
    process_wide = {
        "pool.py", "attempts.py", "default.py", "drivers.py", "workers.py", "credentials.py",
        "connections.py", "endpoint_state.py", "hedging.py", "bounded.py", "observing.py", "operation_log.py",
        "endpoints.py",
    }  # fmt: skip
    of_a_transfer = {
        "requests.py", "account.py", "download.py", "batch.py", "waiting.py", "ahead.py", "copying.py", "deletion.py",
        "budget.py", "running.py", "streams.py",
    }  # fmt: skip
    of_the_command = {"batch.py", "console.py", "parallel.py", "progress.py", "report.py"}
    assert found == process_wide | of_a_transfer | of_the_command | {"forking.py"}  # its own belong to the fork


FIRST = {
    "upload": "with client.writer('s3://b/k', part_size=5 * MIB) as w: w.write(bytes(11 * MIB))",
    "dropped": "w = client.writer('s3://b/k', part_size=5 * MIB); w.write(bytes(6 * MIB)); del w; time.sleep(1)",
    "ranges": f"client.get('s3://b/there', {RANGED})",
    "get-many": "client.get_many(['s3://b/there'] * 40)",
    "put-many": "client.put_many([('s3://b/k%d' % n, b'x') for n in range(40)])",
    "refused": "client.get_many(['s3://b/missing'] * 40, on_error='return')",
    "told-to-wait": "client.get_many(['s3://b/there'] * 4)",
}


@pytest.mark.parametrize("client", ["plain", "tls", "credentials-from-the-chain"])
@pytest.mark.parametrize("first", FIRST)
def test_nothing_is_imported_on_a_thread_of_ours(first: str, client: str, tmp_path: Path) -> None:
    """A child forked meanwhile would wait for ever for the lock of the module that the thread was importing."""
    tls, chain = client == "tls", client == "credentials-from-the-chain"
    authority = Authority.make(tmp_path)
    bundle = str(authority.bundle)
    script = f"""
main, imported = threading.get_ident(), []
def watch(event, arguments):
    if event == "import" and threading.get_ident() != main:
        imported.append((arguments[0], threading.current_thread().name))
sys.addaudithook(watch)
if {tls}:
    client = s3dlio.Client(endpoint_url=os.environ["PEER"], credentials=("i", "s"), region="r", ca_bundle={bundle!r})
if {chain}:
    os.environ.update(AWS_ACCESS_KEY_ID="id", AWS_SECRET_ACCESS_KEY="secret")
    client = s3dlio.Client(endpoint_url=os.environ["PEER"])
{FIRST[first]}
assert imported == [], imported
"""
    with Peer(tls=authority.context if tls else None) as server:
        server.store.put("b", "there", bytes(9 << 16))
        if first == "told-to-wait":
            slow = Status(503, "SlowDown", headers={"Retry-After": "Wed, 25 Nov 2020 04:00:00 GMT"})
            server.play(Rule("GetObject", attempt=1, do=slow))
        run(server, script)


SIDE_BY_SIDE = f"""{FORK}
def twice_side_by_side(make, pause):
    # In a process where nobody has done it before: a thread does what `make` makes, and after a pause a child does too.
    def do_both():
        act = make()
        begun = threading.Event()
        threading.Thread(target=lambda: (begun.set(), act()), daemon=True).start()
        begun.wait()
        pause()
        in_child(act)
    in_child(do_both, seconds=40)
"""


def test_a_child_forked_while_a_thread_signs_for_the_first_time_signs_at_once(peer: Peer) -> None:
    """OpenSSL has locks too, and none may be held where a thread of ours has given up the GIL."""
    script = (
        SIDE_BY_SIDE
        + """
from s3dlio._s3.credentials import Credentials
from s3dlio._s3.signing import Signer
sys.setswitchinterval(1e-6)

def sign():
    prepared = Signer().prepare(
        method="GET", host="h", headers={}, varying=(), region="r", credentials=Credentials("id", "secret")
    )
    prepared.authorization("/b/k", "")

def pause():
    for _ in range(number % 20):
        time.sleep(0)

for number in range(400):
    twice_side_by_side(lambda: sign, pause)
"""
    )
    run(peer, script)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_child_forked_while_a_thread_makes_the_first_request_uses_the_library_at_once(
    tls: bool, tmp_path: Path
) -> None:
    """That request imports botocore and urllib3, reads the authorities and shakes hands; the child does so too."""
    authority = Authority.make(tmp_path)
    script = f"""{SIDE_BY_SIDE}
os.environ.update(AWS_ACCESS_KEY_ID="id", AWS_SECRET_ACCESS_KEY="secret")
bundle = {str(authority.bundle)!r} if {tls} else None

def make_get():
    client = s3dlio.Client(endpoint_url=os.environ["PEER"], region="r", ca_bundle=bundle)

    def get():
        assert client.get("s3://b/k") == b"x"

    return get

for number in range(40):
    twice_side_by_side(make_get, lambda: time.sleep(number % 10 * 0.0{"17" if tls else "13"}))
"""
    with Peer(tls=authority.context if tls else None) as server:
        server.store.put("b", "k", b"x")
        run(server, script)


@pytest.mark.skipif(sys.platform != "linux", reason="it preloads a library")
def test_no_other_thread_holds_a_lock_of_openssls_when_the_process_forks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS contexts, connections, handshakes, a thread's first call and its end, and session tickets take some."""
    library, source = tmp_path / "held_locks.so", Path(__file__).parents[1] / "support" / "held_locks.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    authority = Authority.make(tmp_path)
    script = f"""{FORK}
def get():
    s3dlio.Client(
        endpoint_url=os.environ["PEER"], region="r", ca_bundle={str(authority.bundle)!r}, credentials=("id", "secret")
    ).get("s3://b/k")

for number in range(10):
    thread = threading.Thread(target=get)
    thread.start()
    while thread.is_alive():
        in_child(lambda: None)
        time.sleep(0.001)
    in_child(lambda: None)
in_child(get)
"""
    with Peer(tls=authority.context) as server:
        server.store.put("b", "k", b"x")
        reported = run(server, script)[1].split("a lock is held by another thread:\n")[1:]
    # awscrt has a cryptographic library of its own. Only its import calls that.
    assert [trace for trace in reported if "_awscrt" not in trace] == []


def test_a_fork_waits_for_other_threads_in_no_fork_but_not_for_ever_and_not_for_its_own(peer: Peer) -> None:
    script = f"""{FORK}
from s3dlio._runtime import forking
no_fork, inside, leave = forking.no_fork, threading.Event(), threading.Event()
def stay():
    with no_fork():
        inside.set()
        leave.wait()
thread = threading.Thread(target=stay)
thread.start()
inside.wait()
threading.Timer(0.3, leave.set).start()
def was_waited_for():
    assert leave.is_set()
in_child(was_waited_for)
thread.join()
inside.clear(), leave.clear()
forking.LONGEST = 0.2
thread = threading.Thread(target=stay)
thread.start()
inside.wait()
with no_fork():
    in_child(uses_everything)
leave.set()
thread.join()
"""
    run(peer, script)
