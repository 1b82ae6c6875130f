"""Interrupts in quick succession, the real ones: when a call has raised, no driver has any of its exchanges any more.

What a driver still had would be read into memory, and over a connection, that are somebody else's by then.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from authority import Authority
from peer import Peer, Rule, Turn
from programs import run

# Bytes that come one by one keep a driver busy with a connection.
PAUSE = 50e-6
SIZE = 20 << 20


@dataclass(frozen=True)
class DribbledHead:
    """A head that has no end."""

    def __call__(self, turn: Turn) -> None:
        turn.serve()
        turn.link.send(b"HTTP/1.1 200 OK\r\nx-padding: ")
        while True:  # to the client's reset
            turn.link.send(b"x")
            turn.pause(PAUSE)


@dataclass(frozen=True)
class DribbledBody:
    """A body that hardly advances, of 20 MiB or a range of them; with `first` a range from byte 0 on comes at once."""

    first: bool = False

    def __call__(self, turn: Turn) -> None:
        asked, told = turn.headers.get("range", ""), f"200 OK\r\nContent-Length: {SIZE}"
        start, end = 0, SIZE
        if asked:
            start, end = (int(text) for text in asked.removeprefix("bytes=").split("-"))
            told = (
                f"206 Partial Content\r\nContent-Range: bytes {asked[6:]}/{SIZE}\r\nContent-Length: {end - start + 1}"
            )
        turn.link.send(f'HTTP/1.1 {told}\r\nETag: "tag"\r\n\r\n'.encode())
        if self.first and start == 0:
            turn.link.send(bytes(end + 1))
            return
        while True:  # to the client's reset
            turn.link.send(b"x")
            turn.pause(PAUSE)


# Another process strikes: a thread of the one that is struck would hold it up.
STRIKER = """
import os, random, select, signal, sys, time
dice = random.Random(20)
for line in sys.stdin:
    time.sleep(dice.uniform(0, 0.01))
    for _ in range(dice.randint(2, 5)):
        os.kill(int(sys.argv[1]), signal.SIGINT)
        until = time.perf_counter() + dice.uniform(0, 2e-4)
        while time.perf_counter() < until:
            pass
    while not select.select([sys.stdin], [], [], 0.02)[0]:  # the call may have been where nothing could be raised
        os.kill(int(sys.argv[1]), signal.SIGINT)
    sys.stdin.readline()
    print("over", flush=True)
"""

PROGRAM = """
import logging, subprocess, sys
from s3dlio._s3 import hedging
from s3dlio._net.exchange import Exchange, Outcome
hedging.LEAST_PATIENCE = 0.02  # so that races begin soon
HOW, RACES = sys.argv[1], sys.argv[2] == "races"
client = s3dlio.Client(
    endpoint_url=os.environ["PEER"], credentials=("id", "secret"), region="r", ca_bundle=sys.argv[3],
    addressing_style="path", retries=s3dlio.RetryPolicy(hedge=1 if RACES else 0),
)
place = bytearray(20 << 20)
CALLS = {
    "get": lambda: client.get("s3://b/late"),
    "get_range": lambda: client.get_range("s3://b/late", 0, 50_000),
    "get_into": lambda: client.get_into("s3://b/late", place),
    "get_into-ranged": lambda: client.get_into(
        "s3://b/ranged", place, verify=False, range_optimization=True, range_threshold=0, chunk_size=1 << 20
    ),
    "get_many": lambda: client.get_many(["s3://b/late"] * 3),
    "put_bytes": lambda: client.put_bytes("s3://b/late", bytes(50_000)),
}
client.put_bytes("s3://b/object", bytes(50_000))
if RACES:
    for _ in range(60):
        client.get("s3://b/object")
        client.get_range("s3://b/object", 0, 50_000)

class Raced(logging.Handler):
    def emit(self, record):
        if "a second attempt starts" in record.msg:
            begun.set()

begun = threading.Event()
logging.getLogger("s3dlio").addHandler(Raced(logging.INFO))
logging.getLogger("s3dlio").setLevel(logging.INFO)

def interrupt(number, frame):
    # Raised only beneath the call: this program is not what is tried.
    while frame is not None:
        if frame.f_code.co_name == "call":
            raise KeyboardInterrupt
        frame = frame.f_back

signal.signal(signal.SIGINT, interrupt)
striker = subprocess.Popen(
    [sys.executable, "-c", sys.argv[4], str(os.getpid())],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
)

def strike():
    if RACES:
        begun.wait(10)
    print("strike", file=striker.stdin)

def call():
    CALLS[HOW]()

def under_way():
    exchanges = [one for one in gc.get_objects() if isinstance(one, Exchange)]
    return [one for one in exchanges if one.outcome == Outcome.PENDING and not one.submittable]

def resizable():
    try:
        place.append(0)
    except BufferError:
        return False
    place.pop()
    return True

raced = 0
gc.disable()
for attempt in range(25):
    begun.clear()
    threading.Thread(target=strike, daemon=True).start()
    try:
        call()
        raise SystemExit("the call went on")
    except KeyboardInterrupt:
        left = under_way()
    print("over", file=striker.stdin)
    striker.stdout.readline()
    assert not left, f"attempt {attempt}: {len(left)} exchanges were under way"
    deadline = time.monotonic() + 10
    while not resizable():  # a worker on its way out, or what it raised, may still name the memory
        assert time.monotonic() < deadline
        gc.collect()
    raced += begun.is_set()
if RACES:
    assert raced > 10, raced
striker.stdin.close()
striker.wait()
print("nothing was under way")
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


def interrupted(how: str, peer: Peer, bundle: Path, races: bool) -> None:
    arguments = f"import sys; sys.argv[1:] = [{how!r}, {'races' if races else 'alone'!r}, {str(bundle)!r}, STRIKER]\n"
    out, _ = run(peer, f"STRIKER = {STRIKER!r}\n" + arguments + PROGRAM)
    assert out == "nothing was under way\n"


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
@pytest.mark.parametrize("how", ["get", "get_range", "get_into"])
def test_interrupts_of_a_race_leave_neither_exchange_under_way(how: str, tls: bool, authority: Authority) -> None:
    with Peer(tls=authority.context if tls else None) as peer:
        peer.play(Rule("GetObject", key="late", do=DribbledHead()))
        interrupted(how, peer, authority.bundle, races=True)


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
@pytest.mark.parametrize("how", ["get", "get_range", "get_into", "get_into-ranged", "get_many"])
def test_interrupts_of_a_body_leave_no_exchange_under_way(how: str, tls: bool, authority: Authority) -> None:
    with Peer(tls=authority.context if tls else None) as peer:
        peer.play(
            Rule("GetObject", key="late", do=DribbledBody()),
            Rule("GetObject", key="ranged", do=DribbledBody(first=True)),
        )
        interrupted(how, peer, authority.bundle, races=False)


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
def test_interrupts_of_a_put_leave_no_exchange_under_way(tls: bool, authority: Authority) -> None:
    with Peer(tls=authority.context if tls else None) as peer:
        peer.play(Rule("PutObject", key="late", do=DribbledHead()))
        interrupted("put_bytes", peer, authority.bundle, races=False)
