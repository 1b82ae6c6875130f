"""Several endpoints of one store: even loads, and one that dies costs nothing but itself."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest
from behaviours import Serve, Status
from model import Store
from peer import Peer, Rule, Turn

import s3dlio
from s3dlio import Client
from s3dlio._net.addresses import Endpoint
from s3dlio._s3 import endpoints as of_endpoints
from s3dlio._s3 import retry
from s3dlio._s3.endpoints import Endpoints, Taken
from s3dlio._s3.failures import Failed
from s3dlio._s3.hedging import LEAST_SAMPLES

MIB = 1 << 20
LARGE = bytes(range(256)) * 4096 * 24
RANGES = {"range_optimization": True, "range_threshold": 0, "chunk_size": MIB}


@pytest.fixture
def peers() -> Iterator[list[Peer]]:
    """Four peers in front of one store."""
    store = Store()
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Peer(store)) for _ in range(4)]


def client_of(peers: list[Peer], **settings: object) -> Client:
    given: dict[str, object] = {
        "endpoint_url": [peer.endpoint_url for peer in peers],
        "region": "us-east-1",
        "credentials": ("id", "secret"),
        "addressing_style": "path",
    }
    return Client(**{**given, **settings})  # type: ignore[arg-type]


def counts(peers: list[Peer]) -> list[int]:
    return [len(peer.requests()) for peer in peers]


def is_even(numbers: list[int]) -> bool:
    return max(numbers) <= 2 * min(numbers)


def test_loads_are_even_and_parts_of_one_upload_go_through_all(peers: list[Peer]) -> None:
    with client_of(peers) as client:
        client.put_bytes("s3://b/large", LARGE, part_size=5 * MIB)
        assert {len(peer.requests("UploadPart")) for peer in peers} <= {1, 2}
        assert client.get("s3://b/large", **RANGES) == LARGE  # type: ignore[arg-type]
        assert is_even([len(peer.requests("GetObject")) for peer in peers])
        names = [f"s3://b/s{number}" for number in range(400)]
        client.put_many([(uri, uri.encode()) for uri in names])
        assert is_even([len(peer.requests("PutObject")) for peer in peers])
        assert [bytes(view) for _, view in client.get_many(names)] == [uri.encode() for uri in names]
        assert len(client.list("s3://b/", recursive=True)) == 401
        assert client.delete("s3://b/", recursive=True) == 401


@pytest.mark.parametrize("what", ["small", "parts", "ranges"])
def test_one_that_dies_under_load_costs_no_error(peers: list[Peer], what: str) -> None:
    names = [f"s3://b/s{number}" for number in range(1000)]
    peers[0].store.put("b", "large", LARGE)
    dead = threading.Event()

    def kill() -> None:
        while len(peers[2].requests()) < 5:
            time.sleep(0.001)
        peers[2].close()
        dead.set()

    killer = threading.Thread(target=kill)
    killer.start()
    with client_of(peers) as client:
        if what == "small":
            client.put_many([(uri, uri.encode()) for uri in names], max_in_flight=32)
            found = client.get_many(names, max_in_flight=32)
            assert [bytes(view) for _, view in found] == [uri.encode() for uri in names]
        elif what == "parts":
            while not dead.is_set():
                client.put_bytes("s3://b/large", LARGE, part_size=5 * MIB)
        else:
            while not dead.is_set():
                assert client.get("s3://b/large", **RANGES) == LARGE  # type: ignore[arg-type]
        killer.join()
        assert dead.is_set()
        before = counts(peers)
        for uri in names[:60]:
            client.put_bytes(uri, b"x")
        after = [now - then for now, then in zip(counts(peers), before, strict=True)]
        assert after[2] == 0
        assert sum(after) == 60
        assert is_even([after[0], after[1], after[3]])
        assert peers[0].store.orphans() == []


def test_one_that_refuses_to_serve_is_left_alone_and_used_again_later(
    peers: list[Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_endpoints, "FIRST_ASIDE", 0.3)
    peers[1].play(Rule("PutObject", do=Status(503, "ServiceUnavailable")))
    with client_of(peers) as client:
        for number in range(40):
            client.put_bytes(f"s3://b/s{number}", b"x")
        assert len(peers[1].requests("PutObject")) == 1
        assert client.stats().operations["PutObject"].failures == 0
        peers[1].play(Rule("PutObject", do=Serve()))
        time.sleep(0.4)
        for number in range(40):
            client.put_bytes(f"s3://b/s{number}", b"x")
        assert len(peers[1].requests("PutObject")) >= 8


def test_a_second_attempt_goes_to_another_one(peers: list[Peer]) -> None:
    asked: list[Peer] = []

    def stall_first(turn: Turn) -> None:
        asked.append(turn.peer)
        turn.read()
        if len(asked) == 1:
            turn.hold()
        turn.send(turn.serve())

    with client_of(peers, retries=s3dlio.RetryPolicy(hedge=1.0)) as client:
        client.put_bytes("s3://b/k", b"x" * 1000)
        for _ in range(2 * LEAST_SAMPLES):
            client.get("s3://b/k")
        peers[0].store.put("b", "slow", b"content")
        for peer in peers:
            peer.play(Rule("GetObject", key="slow", do=stall_first))
        assert client.get("s3://b/slow") == b"content"
    assert len(asked) == 2
    assert asked[0] is not asked[1]


def test_all_dead_is_one_error_that_names_one(peers: list[Peer]) -> None:
    with client_of(peers, retries=s3dlio.RetryPolicy(max_attempts=5, base_delay=0.001)) as client:
        for peer in peers:
            peer.close()
        with pytest.raises(s3dlio.TransportError, match=r"failed after 5 attempts .* no connection to http://127"):
            client.put_bytes("s3://b/k", b"x")


def endpoint(number: int) -> Endpoint:
    return Endpoint.from_url(f"http://10.0.0.{number}:9000")


def failed(status: int | None = None) -> Failed:
    one = Failed(retry.Failure.CONNECT if status is None else None, None)
    one.status = status
    return one


def test_the_one_with_the_fewest_in_flight_is_next_and_of_equal_ones_the_one_unused_for_longest() -> None:
    several = Endpoints([endpoint(number) for number in range(3)])
    first = [several.take((), 10) for _ in range(3)]
    assert [one.endpoint for one in first] == [endpoint(number) for number in range(3)]
    several.give(first[1], [])
    assert several.take(()).endpoint == endpoint(1)
    several.give(first[2], [])
    several.give(first[0], [])
    assert [several.take(()).endpoint for _ in range(2)] == [endpoint(0), endpoint(2)]
    assert several.take((endpoint(0),)).endpoint == endpoint(1)


def test_one_that_failed_is_tried_by_one_attempt_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    several = Endpoints([endpoint(1), endpoint(2)])
    bad, good = endpoint(1), endpoint(2)

    def taken(count: int) -> list[Taken]:
        """Those at the bad one, of so many."""
        return [one for one in [several.take(()) for _ in range(count)] if one.endpoint == bad]

    early, late = taken(4)
    several.give(early, failed())
    assert several.has_other((bad,))
    assert not several.has_other((good,))
    several.give(late, [])  # it began before, and proves nothing
    assert taken(10) == []
    now[0] += of_endpoints.FIRST_ASIDE
    (trial,) = taken(3)  # one tries it, and the others do not wait for what it finds
    several.give(trial, failed(503))
    now[0] += of_endpoints.FIRST_ASIDE
    assert taken(5) == []  # it is left alone for twice as long
    now[0] += of_endpoints.FIRST_ASIDE
    (trial,) = taken(3)
    several.give(trial, None)  # cancelled: nothing is known, and another may try
    (trial,) = taken(3)
    several.give(trial, [])
    assert len(taken(10)) == 10
    several.give(Taken(good, 1), failed())
    several.give(Taken(bad, 1), failed())
    assert several.take((bad, good)).endpoint in (bad, good)  # none is healthy: one is tried all the same


@pytest.mark.parametrize("status", [404, 403, 412, 416, 501])
def test_an_answer_about_the_object_says_nothing_against_the_endpoint(status: int) -> None:
    several = Endpoints([endpoint(1), endpoint(2)])
    taken = several.take(())
    several.give(taken, failed(status))
    assert several.has_other(())
    assert {several.take(()).endpoint, several.take(()).endpoint} == {endpoint(1), endpoint(2)}


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("http://10.0.0.{1...3}:9000", [f"http://10.0.0.{n}:9000" for n in (1, 2, 3)]),
        ("http://h{08...10}", ["http://h08", "http://h09", "http://h10"]),
        ("http://{1...2}.r{3...4}", ["http://1.r3", "http://1.r4", "http://2.r3", "http://2.r4"]),
        ("http://a:1, http://b:2\thttp://c:3", ["http://a:1", "http://b:2", "http://c:3"]),
    ],
)
def test_endpoints_are_named_as_servers_of_minio_are(
    text: str, urls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3DLIO_ENDPOINTS", text)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://not-this")
    found = Client(credentials=("a", "b")).service.endpoints
    assert found == tuple(Endpoint.from_url(url) for url in urls)
    assert Client(endpoint_url=urls, credentials=("a", "b")).service.endpoints == found


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("http://h{1..3}", "brace that is no range"),
        ("http://h{3...1}", r"\{3...1\} is empty"),
        ("http://h{1...2000}", "more than 1024 numbers"),
        ("http://{1...40}.{1...40}", "more than 1024 endpoints"),
        ([], "empty sequence"),
        (["http://a", "ftp://b"], "not an HTTP URL"),
    ],
)
def test_endpoints_that_cannot_be_are_told(given: object, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(s3dlio.ConfigurationError, match=words):
        Client(endpoint_url=given, credentials=("a", "b"), region="r").stat("s3://b/k")  # type: ignore[arg-type]
    if isinstance(given, str):
        monkeypatch.setenv("S3DLIO_ENDPOINTS", given)
        with pytest.raises(s3dlio.ConfigurationError, match=words):
            Client(credentials=("a", "b"), region="r").stat("s3://b/k")
