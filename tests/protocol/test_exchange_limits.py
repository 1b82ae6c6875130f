"""What an exchange takes for granted of its caller, of the kernel and of this process: nothing without a bound."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import HELLO, REQUEST, Peers, answer, read_exactly, read_head, run, start

from s3dlio._net.drivers import Drivers
from s3dlio._net.exchange import Exchange, Outcome

MIB = 1 << 20


@pytest.fixture
def peers() -> Iterator[Peers]:
    with Peers() as opened:
        yield opened


# ---------------------------------------------------------------------------------------------- lists of segments


class Lying(list[Any]):
    """Says that it has one item, and gives all."""

    def __len__(self) -> int:
        return 1


class Growing(list[Any]):
    """Has more items each time it is gone through."""

    def __iter__(self) -> Iterator[Any]:
        self.extend([b"more"] * 4000)
        return super().__iter__()


class Shrinking(list[Any]):
    """Has fewer items than it said before it was gone through."""

    def __iter__(self) -> Iterator[Any]:
        del self[1:]
        return super().__iter__()


LISTS = {"lying": Lying([b"x"] * 20_000), "growing": Growing([b"x"]), "shrinking": Shrinking([b"x"] * 20_000)}


@pytest.mark.parametrize("segments", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("series", [False, True], ids=["alone", "series"])
def test_what_a_list_of_segments_gives_is_sent_whatever_it_says(peers: Peers, segments: Any, series: bool) -> None:
    body = type(segments)(list.copy(segments))
    held = {Lying: 20_000, Growing: 1 + 4 * 4000, Shrinking: 1}[type(segments)]
    received: list[bytes] = []

    def script(sock: socket.socket) -> None:
        if series:
            read_exactly(sock, len(REQUEST))
            sock.sendall(HELLO)
        received.append(read_exactly(sock, len(REQUEST) + held))
        sock.sendall(HELLO)
        sock.recv(1)

    sock = peers.connect(script)
    exchange = run(sock, followed_by=[(REQUEST, body)], into=bytearray(500)) if series else run(sock, body)
    assert exchange.outcome == Outcome.COMPLETE
    assert len(received[0]) == len(REQUEST) + held


def test_more_segments_than_a_request_can_have_are_refused() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ValueError, match="more than the limit"):
        Exchange(ours, REQUEST, Lying([b""] * (1 << 20)))


# --------------------------------------------------------------------------------------------- what ended ones keep


def kept() -> int:
    """How many exchanges there are, wherever they are held."""
    gc.collect()
    return sum(isinstance(one, Exchange) for one in gc.get_objects())


def test_ended_exchanges_keep_no_bodies_while_another_one_trickles(peers: Peers) -> None:
    def trickle(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not peers.released.wait(0.02):
            sock.sendall(b"x")

    body = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (9 * MIB) + bytes(9 * MIB)
    before = kept()
    one_loop = Drivers(1)
    trickling = Exchange(peers.connect(trickle), REQUEST, [], idle_timeout=30)
    one_loop.submit(trickling)
    for _ in range(20):
        exchange = Exchange(peers.connect(answer(body)), REQUEST, [], idle_timeout=30)
        one_loop.submit(exchange)
        assert exchange.wait(60)
        assert len(exchange.body_bytes) == 9 * MIB
        del exchange
    for _ in range(500):
        if kept() - before <= 2:
            break
        peers.released.wait(0.01)
    assert kept() - before <= 2  # the trickling one, and one that has just ended
    assert trickling.outcome == Outcome.PENDING
    assert one_loop.close(30)


# -------------------------------------------------------------------------------------------- a kernel that refuses

# Stands between this process and the C library, as a kernel that refuses: calls for more than INT_MAX bytes, as
# macOS does, and poll altogether while it is told to.
KERNEL = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>

int poll_fails = 0;
long polled = 0;

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    static ssize_t (*next)(int, const struct msghdr *, int);
    size_t total = 0;
    if (!next) next = (ssize_t (*)(int, const struct msghdr *, int))dlsym(RTLD_NEXT, "sendmsg");
    for (size_t i = 0; i < message->msg_iovlen; i++) total += message->msg_iov[i].iov_len;
    if (total > INT_MAX) { errno = EINVAL; return -1; }
    return next(fd, message, flags);
}
ssize_t recv(int fd, void *to, size_t length, int flags) {
    static ssize_t (*next)(int, void *, size_t, int);
    if (!next) next = (ssize_t (*)(int, void *, size_t, int))dlsym(RTLD_NEXT, "recv");
    if (length > INT_MAX) { errno = EINVAL; return -1; }
    return next(fd, to, length, flags);
}
int poll(struct pollfd *fds, nfds_t count, int timeout) {
    static int (*next)(struct pollfd *, nfds_t, int);
    if (!next) next = (int (*)(struct pollfd *, nfds_t, int))dlsym(RTLD_NEXT, "poll");
    if (poll_fails) { __atomic_fetch_add(&polled, 1, __ATOMIC_RELAXED); errno = poll_fails; return -1; }
    return next(fds, count, timeout);
}
"""
COMPILER = shutil.which("cc") or shutil.which("gcc")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kernel")
    (folder / "kernel.c").write_text(KERNEL, encoding="ascii")
    library = folder / "kernel.so"
    command = [str(COMPILER), "-shared", "-fPIC", "-O1", "-o", str(library), str(folder / "kernel.c"), "-ldl"]
    subprocess.run(command, check=True)
    return library


def shown_by(program: str, preload: Path | None = None) -> str:
    """What a program prints, in a process of its own."""
    tests = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(tests)])}
    if preload is not None:
        environment["LD_PRELOAD"] = f"{environment.get('LD_PRELOAD', '')} {preload}".strip()
    command = [sys.executable, "-W", "ignore", "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


interposing = pytest.mark.skipif(
    COMPILER is None or sys.platform != "linux" or "S3DLIO_SANITIZED" in os.environ,
    reason="it takes a compiler, and a C library that is not interposed already",
)

LARGE_SEND = """
from peers import Peers, read_head, start
from s3dlio._net.exchange import Outcome

def take_some(sock):
    buffer = bytearray(1 << 20)
    while sock.recv_into(buffer):
        pass

with Peers() as peers:
    exchange = start(peers.connect(take_some), SEGMENTS)
    while exchange.outcome == Outcome.PENDING and exchange.sent < 1 << 30:
        exchange.wait(0.01)
    print(exchange.outcome.name, exchange.error)
    exchange.cancel()
    exchange.wait()
"""


@interposing
@pytest.mark.parametrize(
    "segments",
    ["[bytes(64 << 20)] * 48", "[__import__('mmap').mmap(-1, 3 << 30)]"],
    ids=["many-segments", "one-segment"],
)
def test_no_send_is_larger_than_every_kernel_takes(kernel: Path, segments: str) -> None:
    assert shown_by(LARGE_SEND.replace("SEGMENTS", segments), kernel) == "PENDING None"


LARGE_RECEIVE = """
import mmap
from peers import Peers, contexts, read_head, run
from s3dlio._net import tls

tls.without_gil(not BY_METHODS)

def announce_much(sock):
    read_head(sock)
    sock.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % (3 << 30))
    sock.sendall(bytes(1 << 20))

with Peers(*CONTEXTS) as peers:
    place = mmap.mmap(-1, 3 << 30)
    exchange = run(peers.connect(announce_much), into=place)
    print(exchange.outcome.name, exchange.body_received)
"""


@interposing
@pytest.mark.parametrize(
    ("of_tls", "by_methods"),
    [("()", False), ("contexts()", False), ("contexts()", True)],
    ids=["plain", "tls", "methods"],
)
def test_no_receive_is_larger_than_every_kernel_takes(kernel: Path, of_tls: str, by_methods: bool) -> None:
    program = LARGE_RECEIVE.replace("CONTEXTS", of_tls, 1).replace("BY_METHODS", str(by_methods))
    assert shown_by(program, kernel) == f"CLOSED_IN_RESPONSE {MIB}"


POLL_FAILS = """
import ctypes, time
from peers import HELLO, REQUEST, Peers, read_exactly, run, start
from s3dlio._net.exchange import Outcome

kernel = ctypes.CDLL("KERNEL")
fails, polled = ctypes.c_int.in_dll(kernel, "poll_fails"), ctypes.c_long.in_dll(kernel, "polled")

def reply(sock):
    read_exactly(sock, len(REQUEST) + (4 << 20))
    sock.sendall(HELLO)
    sock.recv(1)

with Peers() as peers:
    stalled = start(peers.connect(peers.stall), [bytes(64 << 20)], send_timeout=1.0)
    opened, quiet, last = [peers.connect(reply) for _ in range(5)], peers.connect(peers.stall), peers.connect(reply)
    fails.value = ERROR
    busy = [start(sock, [bytes(4 << 20)]) for sock in opened]
    print([one.wait(30) and one.outcome.name for one in busy] == ["COMPLETE"] * 5)
    used = time.process_time()
    print(stalled.wait(30), stalled.outcome.name)
    print(time.process_time() - used < 0.5)
    silent = start(quiet)
    calls = polled.value
    silent.wait(0.5)
    print(0 < polled.value - calls < 1000)
    silent.cancel()
    print(silent.wait(30), silent.outcome.name)
    fails.value = 0
    print(run(last, [bytes(4 << 20)]).outcome.name)
"""


@interposing
@pytest.mark.parametrize("error", ["ENOMEM", "EINVAL", "EAGAIN"])
def test_where_poll_fails_exchanges_go_on_and_no_loop_spins(kernel: Path, error: str) -> None:
    program = POLL_FAILS.replace("KERNEL", str(kernel)).replace("ERROR", str(getattr(errno, error)))
    expected = ["True", "True SEND_TIMEOUT", "True", "True", "True CANCELLED", "COMPLETE"]
    assert shown_by(program, kernel).splitlines() == expected


MORE_THAN_THE_LIMIT = """
import resource, socket, time
from peers import HELLO, REQUEST
from s3dlio._net.drivers import drivers
from s3dlio._net.exchange import Exchange, Outcome

pairs = [socket.socketpair() for _ in range(200)]
exchanges = [Exchange(ours, REQUEST, []) for ours, _ in pairs]
drivers()._count = 1
for exchange in exchanges:
    drivers().submit(exchange)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
for _, theirs in pairs[:100]:
    theirs.recv(100)
    theirs.sendall(HELLO)
print({one.wait(30) and one.outcome.name for one in exchanges[:100]})
used = time.process_time()
exchanges[150].wait(1.0)
print(time.process_time() - used < 0.5)
for exchange in exchanges[100:]:
    exchange.cancel()
print({one.wait(30) and one.outcome.name for one in exchanges[100:]})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone counts what poll is given against the limit")
def test_more_exchanges_than_the_limit_of_descriptors_allows_to_poll_all_end() -> None:
    assert shown_by(MORE_THAN_THE_LIMIT).splitlines() == ["{'COMPLETE'}", "True", "{'CANCELLED'}"]


# ------------------------------------------------------------------------------------- a fork in the middle of a wait

FORKING = """
import os, signal, threading
from peers import HELLO, Peers, read_head, run, start
from s3dlio import ForkedError
from s3dlio._net.exchange import Outcome

children = []

def fork(number, frame):
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # so that a child that waits for ever ends
    else:
        children.append(child)

signal.signal(signal.SIGUSR1, fork)
go_on = threading.Event()
parent = os.getpid()

def script(sock):
    read_head(sock)
    os.kill(parent, signal.SIGUSR1)
    go_on.wait(30)
    sock.sendall(HELLO)
    sock.recv(1)

peers = Peers()
body, place = bytearray(b"body"), bytearray(5)
exchange = start(peers.connect(script), [body], into=place)
try:
    while not children:
        exchange.wait(0.05)
except ForkedError:
    pass
if os.getpid() != parent:
    try:
        exchange.wait()
        os._exit(1)
    except ForkedError:
        pass
    exchange.cancel()
    ended = exchange.wait(0) and exchange.outcome == Outcome.CANCELLED
    body.append(1)
    place.append(1)
    os._exit(17 if ended else 2)
print(os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]))
go_on.set()
print(exchange.wait(30), exchange.outcome.name, bytes(place))
peers.close()
"""


def test_a_child_forked_by_a_signal_handler_in_a_wait_is_told_and_the_parent_goes_on() -> None:
    assert shown_by(FORKING).splitlines() == ["17", "True COMPLETE b'hello'"]


def test_a_waiting_thread_is_not_disturbed_by_forks_of_others(peers: Peers) -> None:
    exchange = start(peers.connect(answer()))
    ended = threading.Event()
    thread = threading.Thread(target=lambda: exchange.wait(30) and ended.set())
    thread.start()
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    exchange.cancel()
    thread.join(30)
    assert ended.is_set()
