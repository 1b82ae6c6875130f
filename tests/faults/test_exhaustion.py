"""What is told when retries are used up, and that they end: by attempts, by the client's quota, by a deadline.

A time is asserted only from above and far from what it should be, and from below where waiting is the promise.
"""

from __future__ import annotations

import logging
import pickle
import random
import socket
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest
from behaviours import (
    Drip,
    DripRequest,
    DropBeforeHead,
    LostResponse,
    ResetResponse,
    Stall,
    StallRequest,
    StallResponse,
    Status,
    WhiteSpaceFirst,
)
from marks import ATTEMPTS, Connect
from model import MIB
from peer import Behaviour, Peer, Rule

import s3dlio
from s3dlio import Client, RetryPolicy
from s3dlio._s3.endpoint_state import RETRY_COST, TIMEOUT_COST, RetryQuota
from s3dlio._s3.retry import Failure

PART = 5 * MIB
DATA = random.Random(41).randbytes(2 * PART + 4321)
URI = "s3://b/k"
RANGED: dict[str, Any] = {"range_optimization": True, "range_threshold": 0, "chunk_size": 1 << 16}
GENEROUS = 30.0  # seconds that no call may take whose deadline is about one


def write(client: Client) -> None:
    with client.writer(URI, part_size=PART) as writer:
        writer.write(DATA)


CALLS: dict[str, tuple[Callable[[Client], object], str]] = {
    "put": (lambda client: client.put_bytes(URI, b"x"), "PutObject"),
    "create": (write, "CreateMultipartUpload"),
    "part": (write, "UploadPart"),
    "complete": (write, "CompleteMultipartUpload"),
    "get": (lambda client: client.get("s3://b/there"), "GetObject"),
    "get-range": (lambda client: client.get_range("s3://b/there", 5, 10), "GetObject"),
    "get-into": (lambda client: client.get_into("s3://b/there", bytearray(len(DATA))), "GetObject"),
    "ranged": (lambda client: client.get("s3://b/there", **RANGED), "GetObject"),
    "get-many": (lambda client: client.get_many(["s3://b/there"] * 2), "GetObject"),
    "stat": (lambda client: client.stat("s3://b/there"), "HeadObject"),
    "list-uploads": (lambda client: client.list_uploads("s3://b"), "ListMultipartUploads"),
}
calls = pytest.mark.parametrize(("call", "operation"), CALLS.values(), ids=CALLS)


@pytest.fixture(autouse=True)
def there(peer: Peer) -> None:
    peer.store.put("b", "there", DATA)


# --------------------------------------------------------------------------------------------- what an error tells


@calls
def test_a_lost_connection_tells_attempts_time_and_its_last_cause(
    peer: Peer, client: Client, call: Callable[[Client], object], operation: str
) -> None:
    peer.play(Rule(operation, do=DropBeforeHead()))
    with pytest.raises(s3dlio.TransportError, match=f"{operation}.* after {ATTEMPTS} attempts in .* s: ") as caught:
        call(client)
    assert caught.value.attempts == ATTEMPTS
    assert caught.value.elapsed is not None
    assert caught.value.elapsed > 0
    assert isinstance(caught.value.__cause__, s3dlio.TransportError)
    assert str(caught.value).endswith(str(caught.value.__cause__))


@calls
def test_a_refusal_tells_attempts_time_and_what_the_store_said(
    peer: Peer, client: Client, call: Callable[[Client], object], operation: str
) -> None:
    peer.play(Rule(operation, do=Status(503, "SlowDown")))
    with pytest.raises(s3dlio.S3Error, match=f"{operation}.* after {ATTEMPTS} attempts in ") as caught:
        call(client)
    error, told = caught.value, None if operation == "HeadObject" else "SlowDown"  # a HEAD's answer has no document
    assert (error.attempts, error.status, error.operation, error.code) == (ATTEMPTS, 503, operation, told)
    assert error.elapsed is not None
    assert error.elapsed > 0


def test_a_failed_writer_goes_on_telling_all_of_it(peer: Peer, client: Client) -> None:
    peer.play(Rule("UploadPart", do=DropBeforeHead()))
    writer = client.writer(URI, part_size=PART)
    writer.write(DATA)
    for call in (writer.close, writer.flush, writer.close):
        with pytest.raises(s3dlio.TransportError) as caught:
            call()
        assert (caught.value.attempts, caught.value.elapsed is None) == (ATTEMPTS, False)
        assert isinstance(caught.value.__cause__, s3dlio.TransportError)
        del caught  # so that the writer raises its like, and not the same object


@pytest.mark.parametrize("fault", [DropBeforeHead(), Status(503, "SlowDown")], ids=repr)
def test_an_error_from_a_worker_process_tells_it_too(peer: Peer, client: Client, fault: Behaviour) -> None:
    peer.play(Rule("GetObject", do=fault))
    with pytest.raises(s3dlio.S3dlioError) as caught:
        client.get("s3://b/there")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.attempts, copy.elapsed) == (
        str(caught.value),
        caught.value.attempts,
        caught.value.elapsed,
    )


# ------------------------------------------------------------------------------------------------------ the deadline


def in_a_hurry(connect: Connect, peer: Peer, seconds: float = 0.4, **settings: Any) -> Client:
    """Patient in every step, but not for ever in one request."""
    retries = RetryPolicy(max_attempts=100, base_delay=0.05, deadline=seconds)
    return connect(peer, deadline=120.0, retries=retries, **settings)


READING = ["get", "get-into", "ranged", "get-many", "list-uploads"]
HELD_UP: dict[str, tuple[str, Behaviour]] = {
    **{f"no-answer-{name}": (name, Stall()) for name in CALLS},
    **{f"503-{name}": (name, Status(503, "SlowDown")) for name in CALLS},
    **{f"stall-in-{name}": (name, StallResponse(at=10)) for name in READING},
    **{f"drip-{name}": (name, Drip(pieces=100, pause=0.2)) for name in READING},
    **{f"reset-{name}": (name, ResetResponse(at=10)) for name in READING},
    "white-space-complete": ("complete", WhiteSpaceFirst(beats=1000, pause=0.1, error="InternalError")),
}


@pytest.mark.parametrize(("name", "fault"), HELD_UP.values(), ids=HELD_UP)
def test_a_deadline_ends_every_request_whatever_holds_it_up(
    peer: Peer, connect: Connect, name: str, fault: Behaviour
) -> None:
    call, operation = CALLS[name]
    hurried = in_a_hurry(connect, peer)
    peer.play(Rule(operation, do=fault))
    started = time.monotonic()
    with pytest.raises((s3dlio.TransportError, s3dlio.S3Error), match=operation) as caught:
        call(hurried)
    assert time.monotonic() - started < GENEROUS
    assert caught.value.elapsed is not None


def test_a_complete_that_was_done_when_its_deadline_passed_is_found(peer: Peer, connect: Connect) -> None:
    peer.play(Rule("CompleteMultipartUpload", do=LostResponse(Stall())))
    write(in_a_hurry(connect, peer))
    assert [version.data for version in peer.store.versions("b", "k")] == [DATA]


@pytest.mark.parametrize("fault", [StallRequest(at=1000), DripRequest(pieces=1000, pause=0.2)], ids=["stall", "drip"])
@pytest.mark.parametrize("operation", ["PutObject", "UploadPart"])
def test_a_deadline_ends_a_body_that_does_not_go_out(
    peer: Peer, connect: Connect, operation: str, fault: Behaviour
) -> None:
    size = 24 * MIB  # far more than kernels keep on the way
    hurried = in_a_hurry(connect, peer)
    peer.play(Rule(operation, do=fault))
    started = time.monotonic()
    with pytest.raises(s3dlio.TimeoutError, match=f"{operation}.*deadline of 0.4 s has passed"):
        hurried.put_bytes(URI, bytes(size), part_size=size if operation == "PutObject" else 12 * MIB - 1)
    assert time.monotonic() - started < GENEROUS
    peer.wait_for(lambda: not peer.store.orphans())


def test_a_deadline_ends_the_wait_for_a_connection(connect: Connect, peer: Peer) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        held = [socket.socket() for _ in range(2)]
        for one in held:  # what the backlog takes; the next handshake is left waiting
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(s3dlio.TransportError, match="GetObject"):
            in_a_hurry(connect, peer, endpoint_url=url).get(URI)
        assert time.monotonic() - started < 8  # a connection may take 10 s otherwise
        for one in held:
            one.close()


def test_a_deadline_is_not_for_what_ends_in_time(connect: Connect, peer: Peer) -> None:
    patient = in_a_hurry(connect, peer, seconds=60.0)
    peer.play(Rule(attempt=1, do=Status(503, "SlowDown")))
    write(patient)
    assert patient.get(URI, **RANGED) == DATA


# --------------------------------------------------------------------------------------------------------- the quota


def test_a_client_whose_quota_is_used_up_sends_nothing_again(
    peer: Peer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    retries = RetryPolicy(max_attempts=3, base_delay=0.001, quota=4 * RETRY_COST)
    client = connect(peer, retries=retries)
    peer.play(Rule("GetObject", do=Status(503, "SlowDown")))
    with caplog.at_level(logging.WARNING, "s3dlio"):
        for attempts in (3, 3, 1, 1):  # two retries each, until there is nothing left
            with pytest.raises(s3dlio.ThrottledError) as caught:
                client.get(URI)
            assert caught.value.attempts == attempts
    assert "retry quota" in caplog.text
    peer.play(Rule("GetObject", attempt=1, do=Status(503, "SlowDown")))
    for _ in range(RETRY_COST):  # each success gives one back
        client.stat("s3://b/there")
    assert client.get("s3://b/there") == DATA


def test_the_quota_gives_back_what_a_successful_retry_took() -> None:
    quota = RetryQuota(RetryPolicy(quota=TIMEOUT_COST))
    assert quota.take(Failure.TIMEOUT) == TIMEOUT_COST
    assert quota.take(None) == 0
    quota.give_back(TIMEOUT_COST)
    assert [quota.take(None), quota.take(None), quota.take(None)] == [RETRY_COST, RETRY_COST, 0]
    for _ in range(3 * TIMEOUT_COST):
        quota.give_back(0)
    assert [quota.take(Failure.TIMEOUT), quota.take(None)] == [TIMEOUT_COST, 0]


# ------------------------------------------------------------------------------------------------------- Retry-After


def test_a_date_to_retry_after_is_waited_for(peer: Peer, client: Client) -> None:
    class Later:
        def __call__(self, turn: Any) -> None:
            now = time.time()
            headers = {"Date": formatdate(now, usegmt=True), "Retry-After": formatdate(now + 2, usegmt=True)}
            Status(503, "SlowDown", headers)(turn)

    peer.play(Rule("GetObject", attempt=1, do=Later()))
    assert client.get("s3://b/there") == DATA
    first, second = peer.requests("GetObject")
    assert second.at - first.at >= 1.9
