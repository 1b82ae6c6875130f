"""The scripted store and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from small_store import Peer, client_of, running_peer

import s3dlio


@pytest.fixture
def peer() -> Iterator[Peer]:
    with running_peer() as server:
        yield server


@pytest.fixture
def client(peer: Peer) -> Iterator[s3dlio.Client]:
    with client_of(peer) as made:
        yield made
