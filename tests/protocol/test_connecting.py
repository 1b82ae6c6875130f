"""Making a connection has one budget for everything, hears a cancel, and tells at once what no retry can change."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from small_store import Peer, Reply, client_of

import s3dlio
from s3dlio import RetryPolicy, Timeouts
from s3dlio._net.addresses import Origin
from s3dlio._net.connections import Connections
from s3dlio.config import ClientSettings
from s3dlio.errors import TimeoutError as OurTimeoutError
from s3dlio.errors import TransportError

DEADLINE = 30
Script = Callable[[socket.socket], object]
STORE = Origin("https", "store.invalid", 443)


class Ended(Exception):
    pass


def read_head(sock: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(4096)
        if not piece:
            break
        data += piece
    return data


class Server:
    """Runs a script for each connection, on threads that end with the test."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.place: tuple[str, int] = self._listener.getsockname()[:2]
        self.ended = threading.Event()
        self.accepted: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"http://{self.place[0]}:{self.place[1]}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.settimeout(DEADLINE)
                self.accepted.append(sock)
                self._threads.append(threading.Thread(target=self._serve, args=(sock,), daemon=True))
                self._threads[-1].start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            self._script(sock)

    def close(self) -> None:
        self.ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self.accepted:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE)


@pytest.fixture
def serve() -> Iterator[Callable[[Script], Server]]:
    made: list[Server] = []

    def make(script: Script) -> Server:
        made.append(Server(script))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def hole() -> Iterator[tuple[str, int]]:
    """An address at which connections are neither accepted nor refused."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):  # fills the queue of connections to accept
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()


@pytest.fixture
def connections() -> Iterator[Callable[..., Connections]]:
    made: list[Connections] = []

    def make(connect: float, **settings: Any) -> Connections:
        made.append(Connections(settings=ClientSettings(timeouts=Timeouts(connect=connect), **settings)))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    return str(tmp_path / "authority.pem")


def resolved(monkeypatch: pytest.MonkeyPatch, *places: tuple[str, int]) -> None:
    """Has the name `many.invalid` stand for these addresses."""
    ordinary = socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        if host != "many.invalid":
            return ordinary(host, *arguments, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


MANY = Origin("http", "many.invalid", 80)


def closed_place() -> tuple[str, int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place: tuple[str, int] = probe.getsockname()
        return place


# ----------------------------------------------------------------------------------------------------- one budget


def test_all_addresses_of_a_host_share_the_time(
    hole: tuple[str, int], serve: Any, connections: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = serve(read_head)
    resolved(monkeypatch, *[hole] * 8, late.place)
    with pytest.raises(OurTimeoutError, match=r"within 1 s"):
        connections(1.0).lease(MANY)
    assert late.accepted == []


def test_an_address_that_nobody_answers_at_leaves_time_for_the_next(
    hole: tuple[str, int], serve: Any, connections: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = serve(read_head)
    resolved(monkeypatch, hole, closed_place(), good.place)
    with connections(4.0).lease(MANY) as lease:
        assert lease.sock.getpeername() == good.place


def test_a_refusal_of_every_address_is_told_as_one(connections: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved(monkeypatch, closed_place(), closed_place())
    with pytest.raises(TransportError, match="refused") as caught:
        connections(10.0).lease(MANY)
    assert not isinstance(caught.value, OurTimeoutError)


def test_a_host_without_addresses_is_a_transport_error(connections: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved(monkeypatch)
    with pytest.raises(TransportError, match="no address"):
        connections(10.0).lease(MANY)


@pytest.mark.parametrize("host", ["a" * 64 + ".invalid", "a..invalid"])
def test_a_name_that_cannot_be_one_is_a_transport_error(connections: Any, host: str) -> None:
    with pytest.raises(TransportError, match="no connection"):
        connections(10.0).lease(Origin("http", host, 80))


def test_a_proxy_that_goes_on_with_its_head_is_given_up(
    serve: Any, connections: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drip(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 Connection established\r\n")
        while not server.ended.wait(0.05):
            sock.sendall(b"x-more: x\r\n")

    server = serve(drip)
    monkeypatch.setenv("https_proxy", server.url)
    with pytest.raises(OurTimeoutError, match="through the proxy"):
        connections(0.5).lease(STORE)


def test_a_proxy_and_the_handshake_share_the_time(
    serve: Any, connections: Any, authority: trustme.CA, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("store.invalid").configure_cert(context)

    def slow(sock: socket.socket) -> None:
        read_head(sock)
        server.ended.wait(0.7)
        sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        server.ended.wait(0.7)
        context.wrap_socket(sock, server_side=True).close()

    server = serve(slow)
    monkeypatch.setenv("https_proxy", server.url)
    with pytest.raises(OurTimeoutError, match=r"within 1 s"):
        connections(1.0, ca_bundle=bundle).lease(STORE)
    with connections(20.0, ca_bundle=bundle).lease(STORE):
        pass


def test_the_callers_deadline_is_the_budget_where_it_is_shorter(
    serve: Any, connections: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(lambda sock: (read_head(sock), server.ended.wait(DEADLINE)))
    monkeypatch.setenv("https_proxy", server.url)
    with pytest.raises(OurTimeoutError, match=r"within 0\.\d+ s"):
        connections(DEADLINE).lease(STORE, within=0.3)


# -------------------------------------------------------------------------------------------------------- cancelled


def end() -> None:
    raise Ended


def test_a_cancel_is_heard_while_an_address_does_not_answer(hole: tuple[str, int], connections: Any) -> None:
    with pytest.raises(Ended):
        connections(600.0).lease(Origin("http", *hole), check=end)


def test_a_cancel_is_heard_while_a_proxy_does_not_answer(
    serve: Any, connections: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(lambda sock: (read_head(sock), server.ended.wait(DEADLINE)))
    monkeypatch.setenv("https_proxy", server.url)
    with pytest.raises(Ended):
        connections(600.0).lease(STORE, check=end)


def test_a_cancel_is_heard_during_a_handshake(serve: Any, connections: Any) -> None:
    server = serve(lambda sock: (sock.recv(4096), server.ended.wait(DEADLINE)))
    with pytest.raises(Ended):
        connections(600.0).lease(Origin("https", *server.place), check=end)


def test_an_abort_ends_a_part_that_is_being_connected(hole: tuple[str, int]) -> None:
    patient = Timeouts(connect=600.0)
    client = s3dlio.Client(
        endpoint_url=f"http://{hole[0]}:{hole[1]}", credentials=("id", "s"), region="r", timeouts=patient
    )
    writer = client.writer("s3://b/k")
    writer.write(b"x")
    timer = threading.Timer(0.3, writer.abort)
    timer.start()
    with pytest.raises(s3dlio.S3dlioError):
        writer.close()
    timer.join(DEADLINE)


# --------------------------------------------------------------------------------------------- the lease of a series


def test_a_series_waits_for_its_lease_no_longer_than_its_deadline(peer: Peer) -> None:
    def stall(_: Peer, method: str, path: str, *__: object) -> Reply | None:
        if path == "/b/stalled":
            arrived.set()
            may_end.wait(DEADLINE)
        return None

    arrived, may_end = threading.Event(), threading.Event()
    peer.script = stall
    peer.objects["/b/stalled"] = peer.objects["/b/k"] = b"hello"
    retries = RetryPolicy(max_attempts=2, base_delay=0.001, deadline=0.5)
    with client_of(peer, max_connections=1) as holder:
        quick = s3dlio.Client(
            endpoint_url=peer.endpoint_url, credentials=("id", "s"), region="r", max_connections=1, retries=retries
        )
        quick._service._attempts._connections = holder._service._attempts._connections
        holding = threading.Thread(target=holder.get, args=("s3://b/stalled",))
        holding.start()
        assert arrived.wait(DEADLINE)
        try:
            for call in (
                lambda: quick.get_many(["s3://b/k"] * 4),
                lambda: quick.put_many([("s3://b/k", b"x")] * 4),
            ):
                with pytest.raises(s3dlio.TimeoutError, match="was returned in time"):
                    call()
        finally:
            may_end.set()
            holding.join(DEADLINE)


@pytest.mark.timeout(40)
def test_a_series_connects_no_longer_than_its_deadline(hole: tuple[str, int]) -> None:
    client = s3dlio.Client(
        endpoint_url=f"http://{hole[0]}:{hole[1]}", credentials=("id", "s"), region="r",
        timeouts=Timeouts(connect=600.0), retries=RetryPolicy(deadline=0.4),
    )  # fmt: skip
    for call in (lambda: client.get_many(["s3://b/k"] * 4), lambda: client.put_many([("s3://b/k", b"x")] * 4)):
        with pytest.raises(s3dlio.TimeoutError):
            call()


# --------------------------------------------------------------------------------------------------- refused by proxies


def answering(status: bytes) -> Script:
    def script(sock: socket.socket) -> None:
        while read_head(sock):
            sock.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 9\r\n\r\n<html>no!")

    return script


def proxied_client(server: Server, scheme: str, monkeypatch: pytest.MonkeyPatch) -> s3dlio.Client:
    host, port = server.place
    monkeypatch.setenv(f"{scheme}_proxy", f"http://user:hunter2@{host}:{port}")
    retries = RetryPolicy(max_attempts=3, base_delay=0.001)
    return s3dlio.Client(endpoint_url=f"{scheme}://store.invalid", credentials=("id", "s"), region="r", retries=retries)


CALLS: dict[str, Callable[[s3dlio.Client], object]] = {
    "get": lambda client: client.get("s3://b/k"),
    "get_many": lambda client: client.get_many(["s3://b/k"], max_in_flight=1),
    "put_bytes": lambda client: client.put_bytes("s3://b/k", b"x"),
    "put_many": lambda client: client.put_many([("s3://b/k", b"x")], max_in_flight=1),
    "stat": lambda client: client.stat("s3://b/k"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_another_password_is_told_at_once(
    serve: Any, scheme: str, call: Callable[[s3dlio.Client], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(answering(b"407 Proxy Authentication Required"))
    client = proxied_client(server, scheme, monkeypatch)
    with pytest.raises(TransportError, match=f"the proxy 127.0.0.1:{server.place[1]} refused .*407") as caught:
        call(client)
    assert "1 attempt" in str(caught.value)
    assert "hunter2" not in f"{caught.value!r}"
    assert len(server.accepted) == 1
    client.close()


def test_a_407_without_a_proxy_of_ours_is_told_at_once(serve: Any) -> None:
    server = serve(answering(b"407 Proxy Authentication Required"))
    client = s3dlio.Client(endpoint_url=server.url, credentials=("id", "s"), region="r")
    with pytest.raises(TransportError, match="a proxy between here and the store refused the request with status 407"):
        client.get("s3://b/k")
    assert len(server.accepted) == 1
    client.close()


@pytest.mark.parametrize(("status", "attempts"), [("403 Forbidden", 1), ("405 No", 1), ("502 Bad", 3), ("429 Slow", 3)])
def test_a_tunnel_that_is_refused_for_good_is_asked_for_once(
    serve: Any, status: str, attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(answering(status.encode()))
    client = proxied_client(server, "https", monkeypatch)
    with pytest.raises(TransportError, match=status[:3]):
        client.get("s3://b/k")
    assert len(server.accepted) == attempts
    client.close()


# ------------------------------------------------------------------------------------------------------- authorities


@pytest.mark.parametrize("way", ["argument", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "profile"])
@pytest.mark.parametrize("kind", ["home", "folder"])
def test_a_bundle_below_home_and_a_folder_of_authorities_are_trusted(
    serve: Any, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, kind: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = serve(shaking_hands(context))
    monkeypatch.setenv("HOME", str(tmp_path))
    name = "authorities"
    if kind == "folder":
        (tmp_path / name).mkdir()
        name = f"authorities/{hash_of(authority)}.0"
    authority.cert_pem.write_to_path(str(tmp_path / name))
    given: dict[str, Any] = {}
    if way == "argument":
        given["ca_bundle"] = "~/authorities"
    elif way == "profile":
        (tmp_path / "config").write_text("[default]\nca_bundle=~/authorities\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    else:
        monkeypatch.setenv(way, "~/authorities")
    client = s3dlio.Client(endpoint_url=f"https://localhost:{server.place[1]}", region="r", **given)
    origin = Origin("https", "localhost", server.place[1])
    with client.service._connections.lease(origin):
        pass
    client.close()


def shaking_hands(context: ssl.SSLContext) -> Script:
    def script(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as inner:
            inner.recv(1)

    return script


def hash_of(authority: trustme.CA) -> str:
    """The name under which OpenSSL looks for an authority in a folder."""
    pem = authority.cert_pem.bytes()
    command = ["openssl", "x509", "-noout", "-subject_hash"]
    return subprocess.run(command, input=pem, capture_output=True, check=True).stdout.decode().strip()


def test_the_bundle_of_requests_gives_way_to_amazons(
    serve: Any, bundle: str, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = serve(shaking_hands(context))
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
    client = s3dlio.Client(endpoint_url=f"https://localhost:{server.place[1]}", region="r")
    with client.service._connections.lease(Origin("https", "localhost", server.place[1])):
        pass
    client.close()
