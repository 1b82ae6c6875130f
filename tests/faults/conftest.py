"""Peers and clients of the fault tests: each test has its own."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator

import pytest
from authority import Authority
from marks import ATTEMPTS, Connect, open_sockets
from peer import Peer

import s3dlio


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def peer(request: pytest.FixtureRequest, authority: Authority) -> Iterator[Peer]:
    """A peer with a fresh store: plain HTTP, and TLS too where the test is marked `over_both`."""
    threads, sockets = set(threading.enumerate()), open_sockets()
    with Peer(tls=authority.context if getattr(request, "param", "plain") == "tls" else None) as opened:
        yield opened
    left = [thread.name for thread in set(threading.enumerate()) - threads if thread.name.startswith("peer")]
    assert not left, f"the peer left threads: {left}"
    deadline = time.monotonic() + 10
    while open_sockets() > sockets:  # a worker may be about to close what was cancelled
        assert time.monotonic() < deadline, "sockets were left open"
        gc.collect()  # the traceback of an expected error may hold the client that it came through
        threading.Event().wait(0.01)


@pytest.fixture
def connect(authority: Authority) -> Iterator[Connect]:
    """Makes clients of a peer that retry fast; `deadline` is what they wait without progress, in seconds."""
    opened: list[s3dlio.Client] = []

    def make(peer: Peer, *, deadline: float = 10.0, attempts: int = ATTEMPTS, **settings: object) -> s3dlio.Client:
        given: dict[str, object] = {
            "endpoint_url": peer.endpoint_url,
            "region": "us-east-1",
            "credentials": ("id", "secret"),
            "addressing_style": "path",
            "ca_bundle": str(authority.bundle),
            "timeouts": s3dlio.Timeouts(connect=10, send=deadline, first_byte=deadline, idle=deadline),
            "retries": s3dlio.RetryPolicy(max_attempts=attempts, base_delay=0.001),
        }
        opened.append(s3dlio.Client(**{**given, **settings}))  # type: ignore[arg-type]
        return opened[-1]

    yield make
    for client in opened:
        client.close()


@pytest.fixture
def client(peer: Peer, connect: Connect) -> s3dlio.Client:
    return connect(peer)


@pytest.fixture
def impatient(peer: Peer, connect: Connect) -> s3dlio.Client:
    """Gives up after half a second without progress: for peers that stall."""
    return connect(peer, deadline=0.5)
