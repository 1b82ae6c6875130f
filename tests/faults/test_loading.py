"""What a data loader promises: every object once, in bounded memory, and nothing after an error or its end."""

from __future__ import annotations

import gc
import random
import threading
import time
from typing import Any

import pytest
from behaviours import ResetResponse, StallResponse, Status
from peer import Peer, Rule

import s3dlio
from s3dlio import Client, PyBytesAsyncDataLoader, PyDataset
from s3dlio._memory.pool import pool

GET = "GetObject"
NAMES = [f"set/{number:03}" for number in range(100)]
CONTENT = {name: random.Random(name).randbytes(1000 + 17 * at) for at, name in enumerate(NAMES)}


@pytest.fixture
def dataset(peer: Peer, client: Client) -> PyDataset:
    for name, data in CONTENT.items():
        peer.store.put("b", name, data)
    return PyDataset("s3://b/set/", client=client)


def content_of(items: list[Any]) -> dict[str, bytes]:
    return {item.uri.removeprefix("s3://b/"): bytes(item) for item in items}


@pytest.mark.parametrize("prefetch", [1, 3, 64, 1024])
@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_every_object_comes_once(dataset: PyDataset, prefetch: int, batch: int) -> None:
    items = PyBytesAsyncDataLoader(dataset, {"prefetch": prefetch}).items()
    found: list[Any] = []
    while some := items.collect_batch(batch):
        assert len(some) == min(batch, 100 - len(found))
        found += some
    assert len(found) == 100
    assert content_of(found) == CONTENT
    assert items.collect_batch(1) == []


def test_no_more_is_fetched_than_the_window_holds(peer: Peer, dataset: PyDataset) -> None:
    items = PyBytesAsyncDataLoader(dataset, {"prefetch": 4}).items()
    (first,) = items.collect_batch(1)
    settled, deadline = 0, time.monotonic() + 10
    while settled < 5 and time.monotonic() < deadline:
        settled = settled + 1 if len(peer.requests(GET)) == 9 else 0
        threading.Event().wait(0.02)
    assert len(peer.requests(GET)) == 9  # one was consumed, and eight wait
    assert content_of([first, *items]) == CONTENT


def test_a_failed_request_is_made_again_and_no_object_is_lost(peer: Peer, dataset: PyDataset) -> None:
    peer.play(
        *(Rule(GET, key=name, attempt=1, do=Status(503, "SlowDown")) for name in NAMES[::7]),
        *(Rule(GET, key=name, attempt=1, do=ResetResponse(at=300)) for name in NAMES[3::7]),
    )
    assert content_of(list(PyBytesAsyncDataLoader(dataset, {"prefetch": 16}).items())) == CONTENT


def test_an_error_comes_after_what_arrived_before_it_and_never_looks_like_the_end(
    peer: Peer, dataset: PyDataset, held_before: int
) -> None:
    peer.play(Rule(GET, key=NAMES[50], do=Status(403, "AccessDenied")))
    items = PyBytesAsyncDataLoader(dataset, {"prefetch": 8}).items()
    found: list[Any] = []
    with pytest.raises(s3dlio.AccessDeniedError, match="set/050"):
        found.extend(items)
    assert content_of(found).items() <= CONTENT.items()
    with pytest.raises(s3dlio.S3dlioError, match="ended by an error"):
        items.collect_batch(1)
    found.clear()
    gc.collect()
    assert pool().in_use_bytes <= held_before


@pytest.mark.parametrize("how", ["close", "drop"])
def test_a_loader_that_is_given_up_ends_its_requests(
    peer: Peer, dataset: PyDataset, held_before: int, how: str
) -> None:
    items = PyBytesAsyncDataLoader(dataset, {"prefetch": 8}).items()
    assert len(items.collect_batch(5)) == 5
    if how == "close":
        items.close()
        assert items.collect_batch(5) == []
    else:
        del items
        gc.collect()
    deadline = time.monotonic() + 10
    while pool().in_use_bytes > held_before:
        assert time.monotonic() < deadline, "the views were not given back"
        gc.collect()
        threading.Event().wait(0.01)
    assert len(peer.requests(GET)) <= 5 + 16


def test_closing_does_not_wait_for_a_peer_that_stalls(peer: Peer, dataset: PyDataset) -> None:
    peer.play(Rule(GET, key=NAMES[20], do=StallResponse(at=100)))
    items = PyBytesAsyncDataLoader(dataset, {"prefetch": 4}).items()
    assert len(items.collect_batch(10)) == 10
    items.close()
    assert items.collect_batch(1) == []


def test_shards_share_the_objects_and_a_seed_repeats_the_order(dataset: PyDataset) -> None:
    shards = [
        list(PyBytesAsyncDataLoader(dataset, {"shard_rank": rank, "shard_world_size": 3}).items()) for rank in range(3)
    ]
    assert [len(shard) for shard in shards] == [34, 33, 33]
    assert content_of([item for shard in shards for item in shard]) == CONTENT

    def order(seed: int) -> list[list[str]]:
        loader = PyBytesAsyncDataLoader(dataset, {"shuffle": True, "seed": seed, "prefetch": 1})
        return [[item.uri for item in loader.items()] for _ in range(2)]

    first, second = order(1)
    assert sorted(first) == sorted(second) == dataset.uris()
    assert first != second
    assert order(1) == [first, second]
    assert order(2) != [first, second]


def test_bad_input_is_named(dataset: PyDataset) -> None:
    with pytest.raises(TypeError, match="uris is a str"):
        PyDataset.from_uris("s3://b/k")
    with pytest.raises(s3dlio.ConfigurationError, match="uris is empty"):
        PyDataset.from_uris([])
    with pytest.raises(s3dlio.UnsupportedUriError, match="not an S3 URI"):
        PyDataset.from_uris(["/tmp/file"])
    with pytest.raises(TypeError, match="is not a PyDataset"):
        PyBytesAsyncDataLoader(["s3://b/k"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="opts='prefetch' is not a mapping"):
        PyBytesAsyncDataLoader(dataset, "prefetch")  # type: ignore[arg-type]
    with pytest.raises(s3dlio.ConfigurationError, match="prefetch=0 is outside 1 to 1024"):
        PyBytesAsyncDataLoader(dataset, {"prefetch": 0})
    with pytest.raises(s3dlio.ConfigurationError, match="shard_rank=2 is outside 0 to 1"):
        PyBytesAsyncDataLoader(dataset, {"shard_rank": 2, "shard_world_size": 2})
    with pytest.warns(UserWarning, match=r"options \['prefech'\] are not known here"):
        PyBytesAsyncDataLoader(dataset, {"prefech": 3})
    items = PyBytesAsyncDataLoader(dataset).items()
    with pytest.raises(s3dlio.ConfigurationError, match="n=0 is outside"):
        items.collect_batch(0)
    items.close()
