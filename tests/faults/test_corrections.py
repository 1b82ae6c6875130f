"""Many requests fail together: region, clock and credentials are put right once, and none is judged by another's."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from email.utils import formatdate
from pathlib import Path

import pytest
from behaviours import Clock, Expired, InRegion, Status
from marks import ATTEMPTS, Connect
from model import MIB, error_reply
from peer import Behaviour, Peer, Rule, Turn

import s3dlio
from s3dlio import Client

URI = "s3://b/k"
COUNT, IN_FLIGHT = 64, 16
SMALL = bytes(range(256)) * 8
LARGE = bytes(range(256)) * (11 << 12)
KEYS = [f"k{number}" for number in range(COUNT)]
URIS = [f"s3://b/{key}" for key in KEYS]
RANGED = {"range_optimization": True, "range_threshold": 0, "chunk_size": MIB, "range_concurrency": 8}


@dataclass
class Together:
    """Holds the first `count` requests until all of them are there, and then does as told with each."""

    count: int
    do: Behaviour

    def __post_init__(self) -> None:
        self._barrier = threading.Barrier(self.count)
        self._lock = threading.Lock()
        self._left = self.count

    def __call__(self, turn: Turn) -> None:
        with self._lock:
            self._left -= 1
            first = self._left >= 0
        if first:
            self._barrier.wait(20)
        self.do(turn)


@dataclass(frozen=True)
class ExpiredForHeads:
    """S3 answers 400 to a HEAD too, and the answer has no document."""

    token: str

    def __call__(self, turn: Turn) -> None:
        expired = turn.headers.get("x-amz-security-token") == self.token
        turn.send(error_reply(400, "ExpiredToken") if expired else turn.serve())


FAULTS: dict[str, Behaviour] = {
    **{f"region-{status}": InRegion("eu-west-1", status) for status in (301, 307, 400)},
    "clock-ahead": Clock(7200),
    "clock-behind": Clock(-7200),
}


def read_many(client: Client) -> None:
    assert client.get_many(URIS, max_in_flight=IN_FLIGHT) == [(uri, SMALL) for uri in URIS]


def write_many(client: Client) -> None:
    assert len(client.put_many([(uri, SMALL) for uri in URIS], max_in_flight=IN_FLIGHT)) == COUNT


def read_ranges(client: Client) -> None:
    assert client.get(URI, **RANGED) == LARGE


def write_parts(client: Client) -> None:
    client.put_bytes(URI, LARGE, part_size=5 * MIB)


def ask_many(client: Client) -> None:
    """As many callers as threads, each with requests of its own."""
    failed: list[BaseException] = []

    def ask(uri: str) -> None:
        try:
            assert client.stat(uri).size == len(SMALL)
            assert client.get(uri) == SMALL
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask, args=(uri,)) for uri in URIS[:IN_FLIGHT]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failed == []


CALLS: dict[str, Callable[[Client], None]] = {
    "get_many": read_many,
    "put_many": write_many,
    "get-ranged": read_ranges,
    "put-multipart": write_parts,
    "callers": ask_many,
}


@pytest.fixture(autouse=True)
def stored(peer: Peer) -> None:
    peer.store.put("b", "k", LARGE)
    for key in KEYS:
        peer.store.put("b", key, SMALL)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_all_that_fail_together_are_sent_again(
    peer: Peer, client: Client, fault: Behaviour, call: Callable[[Client], None]
) -> None:
    peer.play(Rule(do=fault))
    call(client)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_sixteen_refused_at_the_same_moment_are_all_sent_again(peer: Peer, client: Client, fault: Behaviour) -> None:
    peer.play(Rule("GetObject", do=Together(IN_FLIGHT, fault)))
    read_many(client)


class Process:
    """A `credential_process` that gives token-1, token-2 and so on, and how often it ran."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._log = folder / "started"
        program = folder / "program.py"
        program.write_text(
            "import json, os\n"
            f"with open({str(self._log)!r}, 'a') as log:\n"
            "    log.write('x')\n"
            f"number = os.path.getsize({str(self._log)!r})\n"
            "print(json.dumps({'Version': 1, 'AccessKeyId': 'id', 'SecretAccessKey': 's',\n"
            "    'SessionToken': f'token-{number}'}))\n"
        )
        (folder / "config").write_text(f"[default]\ncredential_process = {sys.executable} {program}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))

    @property
    def runs(self) -> int:
        return self._log.stat().st_size


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Process:
    return Process(tmp_path, monkeypatch)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_expired_token_is_renewed_once_for_all(
    peer: Peer, connect: Connect, process: Process, call: Callable[[Client], None]
) -> None:
    peer.play(Rule(do=Expired("token-1")))
    call(connect(peer, credentials=None))
    assert process.runs == 2


def test_sixteen_refused_at_the_same_moment_renew_once(peer: Peer, connect: Connect, process: Process) -> None:
    peer.play(Rule("GetObject", do=Together(IN_FLIGHT, Expired("token-1"))))
    read_many(connect(peer, credentials=None))
    assert process.runs == 2


def test_a_token_that_expires_again_is_renewed_again(peer: Peer, connect: Connect, process: Process) -> None:
    client = connect(peer, credentials=None)
    for number in (1, 2, 3):
        peer.play(Rule(do=Expired(f"token-{number}")))
        read_many(client)
    assert process.runs == 4


# -------------------------------------------------------------------------------------------------------------- bounds


class AnotherRegionEachTime:
    def __call__(self, turn: Turn) -> None:
        turn.read()
        headers = {"x-amz-bucket-region": f"eu-west-{turn.seen.order % 9 + 1}"}
        turn.send(error_reply(301, "PermanentRedirect", headers=headers))


class AlwaysSkewed:
    """A clock that is never where it was."""

    def __call__(self, turn: Turn) -> None:
        turn.read()
        date = formatdate(1_000_000_000 + turn.seen.order * 100_000, usegmt=True)
        turn.send(replace(error_reply(403, "RequestTimeTooSkewed"), headers={"Date": date}))


BOUNDED: dict[str, tuple[Behaviour, str]] = {
    "region": (AnotherRegionEachTime(), "PermanentRedirect"),
    "clock": (AlwaysSkewed(), "RequestTimeTooSkewed"),
    "token": (Status(400, "ExpiredToken"), "ExpiredToken"),
    "location": (
        Status(400, "IllegalLocationConstraintException", {"x-amz-bucket-region": "eu-south-1"}),
        "IllegalLocationConstraintException",
    ),
}


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize(("fault", "code"), BOUNDED.values(), ids=BOUNDED)
def test_a_correction_that_does_not_help_is_not_made_again(
    peer: Peer, connect: Connect, fault: Behaviour, code: str
) -> None:
    peer.play(Rule(do=fault))
    client = connect(peer, credentials=None)
    with pytest.raises(s3dlio.S3Error, match=code):
        client.get(URI)
    assert len(peer.requests()) <= 2
    with pytest.raises(s3dlio.S3Error, match=code):
        client.get_many(URIS, max_in_flight=IN_FLIGHT)
    assert len(peer.requests()) <= 2 + COUNT * ATTEMPTS


# ------------------------------------------------------------------------------------------- answers without a document


@pytest.mark.parametrize("status", [301, 307, 400])
def test_a_head_finds_the_region(peer: Peer, client: Client, status: int) -> None:
    peer.play(Rule(do=InRegion("eu-west-1", status)))
    assert client.stat(URI).size == len(LARGE)


def test_a_head_renews_an_expired_token(peer: Peer, connect: Connect, process: Process) -> None:
    peer.play(Rule(do=ExpiredForHeads("token-1")))
    assert connect(peer, credentials=None).stat(URI).size == len(LARGE)
    assert process.runs == 2


def test_a_head_that_is_refused_for_something_else_is_told_after_one_more(
    peer: Peer, connect: Connect, process: Process
) -> None:
    peer.play(Rule("HeadObject", do=Status(400)))
    with pytest.raises(s3dlio.S3Error, match="status 400"):
        connect(peer, credentials=None).stat(URI)
    assert len(peer.requests()) == process.runs == 2


def test_a_head_that_is_refused_without_a_token_is_told_at_once(peer: Peer, client: Client) -> None:
    peer.play(Rule("HeadObject", do=Status(400)))
    with pytest.raises(s3dlio.S3Error, match="status 400"):
        client.stat(URI)
    assert len(peer.requests()) == 1


@dataclass(frozen=True)
class OptInRegion:
    """A bucket of a region that has to be opted into, asked for at another one's host."""

    region: str
    header: bool

    def __call__(self, turn: Turn) -> None:
        if f"/{self.region}/s3/aws4_request" in turn.headers["authorization"]:
            turn.send(turn.serve())
            return
        turn.read()
        reply = error_reply(400, "IllegalLocationConstraintException")
        text = f"The {self.region} location constraint is incompatible for the region specific endpoint"
        body = re.sub(rb"<Message>.*</Message>", f"<Message>{text}</Message>".encode(), reply.body)
        turn.send(replace(reply, body=body, headers={"x-amz-bucket-region": self.region} if self.header else {}))


@pytest.mark.parametrize("header", [True, False], ids=["header", "message"])
def test_a_region_that_has_to_be_opted_into_is_found(peer: Peer, client: Client, header: bool) -> None:
    peer.play(Rule(do=OptInRegion("eu-south-1", header)))
    read_many(client)
    write_parts(client)


def test_what_is_no_region_is_not_signed_for(peer: Peer, client: Client) -> None:
    peer.play(Rule(do=Status(400, "IllegalLocationConstraintException", {"x-amz-bucket-region": "evil.example/"})))
    with pytest.raises(s3dlio.S3Error, match="IllegalLocation"):
        client.get(URI)
    assert len(peer.requests()) == 1


# ------------------------------------------------------------------------------------------------------- odd dates


@pytest.mark.parametrize("date", ["", "undefined", "Thu, 01 Jan 99999999999 00:00:00 GMT", "0001-01-01T00:00:00Z"])
def test_a_refusal_for_the_clock_without_a_date_is_told(peer: Peer, client: Client, date: str) -> None:
    peer.play(Rule(do=Status(403, "RequestTimeTooSkewed", {"Date": date})))
    with pytest.raises(s3dlio.AccessDeniedError, match="RequestTimeTooSkewed"):
        client.get(URI)
    with pytest.raises(s3dlio.AccessDeniedError):
        client.stat(URI)


def test_a_date_of_a_machine_in_between_does_not_spoil_the_clock(peer: Peer, client: Client) -> None:
    """A HEAD is refused for lack of rights, and a cache dates the answer: what follows is signed for the right time."""
    dated = {"Date": "Wed, 01 Jan 2020 00:00:00 GMT"}
    peer.play(Rule("HeadObject", do=Status(403, None, dated)), Rule(do=Clock(0)))
    with pytest.raises(s3dlio.AccessDeniedError):
        client.stat(URI)
    assert len(peer.requests()) == 2
    assert client.get(URI) == LARGE
    assert [one.status for one in peer.requests("GetObject")] == [200]


@pytest.mark.parametrize("text", ["", "undefined", "-5", "1e400", "9" * 400, "\u00b2", "0001-01-01T00:00:00Z"])
def test_an_odd_wish_to_be_left_alone_is_no_obstacle(peer: Peer, connect: Connect, text: str) -> None:
    client = connect(peer, retries=s3dlio.RetryPolicy(max_attempts=2, base_delay=0.001, deadline=10.0))
    peer.play(Rule("GetObject", attempt=1, do=Status(503, "SlowDown", {"Retry-After": text, "Date": text})))
    try:
        assert client.get(URI) == LARGE
    except s3dlio.ThrottledError:
        assert text == "9" * 400  # longer than the deadline
