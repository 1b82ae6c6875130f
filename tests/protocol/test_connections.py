"""Leases against peers on loopback: plain, with TLS, behind proxies, across forks."""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import queue
import select
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import urllib3

import s3dlio
from s3dlio._net.addresses import Origin
from s3dlio._net.connections import Connections, Lease
from s3dlio.config import ClientSettings, Timeouts
from s3dlio.errors import ConfigurationError, TransportError
from s3dlio.errors import TimeoutError as OurTimeoutError

DEADLINE = 30
RESET = f"error: {ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))}"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Script = Callable[[socket.socket], None]


def read_head(sock: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = sock.recv(4096)
        if not chunk:
            break
        data += chunk
    return data


def answer_all(sock: socket.socket) -> None:
    while read_head(sock):
        sock.sendall(ANSWER)


class Peer:
    """Runs `script` for each connection; `ended` gets an item when one has ended."""

    def __init__(self, script: Script, context: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.context = context
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.accepted: list[socket.socket] = []
        self.ended: queue.Queue[str] = queue.Queue()
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def origin(self, scheme: str = "http", host: str = "127.0.0.1") -> Origin:
        return Origin(scheme, host, self.port)

    def _accept(self) -> None:
        threads = []
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                break
            sock.settimeout(DEADLINE)
            self.accepted.append(sock)
            threads.append(threading.Thread(target=self._serve, args=(sock,), daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join(DEADLINE)

    def _serve(self, sock: socket.socket) -> None:
        served = sock
        try:
            if self.context is not None:
                served = self.context.wrap_socket(sock, server_side=True)
            self.script(served)
        except OSError as error:
            self.ended.put(f"error: {error}")
        else:
            self.ended.put("end")
        finally:
            served.close()
            sock.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for sock in self.accepted:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self.thread.join(DEADLINE)


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    made: list[Peer] = []

    def make(script: Script = answer_all, context: ssl.SSLContext | None = None) -> Peer:
        made.append(Peer(script, context))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def connections() -> Iterator[Callable[..., Connections]]:
    made: list[Connections] = []

    def make(**settings: Any) -> Connections:
        made.append(Connections(settings=ClientSettings(**settings)))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def server_context(authority: trustme.CA) -> Callable[..., ssl.SSLContext]:
    def make(*names: str, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = context.maximum_version = version
        authority.issue_cert(*names).configure_cert(context)
        return context

    return make


def converse(lease: Lease, target: str = "/") -> bytes:
    """One exchange over the lease, by plain blocking calls."""
    lease.sock.settimeout(DEADLINE)
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in lease.proxy_headers.items())]
    lease.sock.sendall("\r\n".join([*lines, "", ""]).encode())
    data = b""
    while not data.endswith(b"ok"):
        chunk = lease.sock.recv(4096)
        assert chunk, "the peer closed the connection"
        data += chunk
    lease.sock.setblocking(False)
    return data


def use(connections: Connections, origin: Origin, *, fresh: bool = False) -> bool:
    """One clean exchange; says whether the connection had served before."""
    with connections.lease(origin, fresh=fresh) as lease:
        assert converse(lease) == ANSWER
        lease.keep()
        return lease.reused


def wait_readable(sock: socket.socket) -> None:
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    assert poller.poll(DEADLINE * 1000), "nothing came"


# ------------------------------------------------------------------------------------------ plain leases


def test_a_leased_socket_does_not_block_and_sends_at_once(peer: Any, connections: Any) -> None:
    with connections().lease(peer().origin()) as lease:
        assert not lease.sock.getblocking()
        assert lease.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not lease.reused
        assert not lease.origin_form_absolute
        assert lease.proxy_headers == {}


def test_a_kept_connection_serves_again(peer: Any, connections: Any) -> None:
    there, ours = peer(), connections()
    assert [use(ours, there.origin()) for _ in range(3)] == [False, True, True]
    assert len(there.accepted) == 1


def test_a_reused_socket_does_not_block(peer: Any, connections: Any) -> None:
    there, ours = peer(), connections()
    use(ours, there.origin())
    with ours.lease(there.origin()) as lease:
        assert lease.reused
        assert not lease.sock.getblocking()


def test_a_connection_whose_exchange_ended_is_closed_in_order(peer: Any, connections: Any) -> None:
    there, ours = peer(), connections()
    with ours.lease(there.origin()) as lease:
        converse(lease)
        lease.ended = True
    assert there.ended.get(timeout=DEADLINE) == "end"


def test_a_connection_that_was_not_kept_is_reset(peer: Any, connections: Any) -> None:
    there, ours = peer(), connections()
    with ours.lease(there.origin()) as lease:
        converse(lease)
    assert there.ended.get(timeout=DEADLINE) == RESET
    assert use(ours, there.origin()) is False


def test_an_exception_resets_even_a_kept_connection(peer: Any, connections: Any) -> None:
    there, ours = peer(), connections()

    def interrupted() -> None:
        with ours.lease(there.origin()) as lease:
            converse(lease)
            lease.keep()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert there.ended.get(timeout=DEADLINE) == RESET


def test_a_fresh_lease_never_takes_a_connection_that_served(peer: Any, connections: Any) -> None:
    there, ours = peer(), connections()
    use(ours, there.origin())
    assert use(ours, there.origin(), fresh=True) is False
    assert len(there.accepted) == 2


def test_leases_at_once_are_different_connections(peer: Any, connections: Any) -> None:
    there, ours = peer(), connections()
    with ours.lease(there.origin()) as one, ours.lease(there.origin()) as other:
        assert one.sock.getsockname() != other.sock.getsockname()


def test_an_idle_connection_that_the_server_closed_is_replaced(peer: Any, connections: Any) -> None:
    def answer_once(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(ANSWER)
        may_close.wait(DEADLINE)

    may_close = threading.Event()
    there, ours = peer(answer_once), connections()
    with ours.lease(there.origin()) as lease:
        converse(lease)
        lease.keep()
    may_close.set()
    wait_readable(lease.sock)
    assert use(ours, there.origin()) is False


def test_a_connection_closed_before_the_lease_ended_is_not_kept(peer: Any, connections: Any) -> None:
    def answer_once(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(ANSWER)

    there, ours = peer(answer_once), connections()
    with ours.lease(there.origin()) as lease:
        converse(lease)
        wait_readable(lease.sock)
        lease.keep()
    assert lease.sock.fileno() == -1


def test_a_connection_with_bytes_nobody_asked_for_is_not_kept(peer: Any, connections: Any) -> None:
    def answer_and_go_on(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(ANSWER)
        may_go_on.wait(DEADLINE)
        sock.sendall(ANSWER)
        read_head(sock)

    may_go_on = threading.Event()
    there, ours = peer(answer_and_go_on), connections()
    with ours.lease(there.origin()) as lease:
        converse(lease)
        may_go_on.set()
        wait_readable(lease.sock)
        lease.keep()
    assert lease.sock.fileno() == -1


def test_closing_ends_idle_connections(peer: Any, connections: Any) -> None:
    there, ours = peer(), connections()
    use(ours, there.origin())
    ours.close()
    assert there.ended.get(timeout=DEADLINE) == "end"


def test_a_lease_outlives_the_closing_and_ends_its_connection(peer: Any, connections: Any) -> None:
    there, ours = peer(), connections()
    with ours.lease(there.origin()) as lease:
        ours.close()
        converse(lease)
        lease.keep()
    assert there.ended.get(timeout=DEADLINE) == "end"


def test_after_the_closing_leases_go_on(peer: Any, connections: Any) -> None:
    there, ours = peer(), connections()
    use(ours, there.origin())
    ours.close()
    assert use(ours, there.origin()) is False


# ---------------------------------------------------------------------------------------------- failures


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_refused_connection_is_a_transport_error(connections: Any) -> None:
    origin = Origin("http", "127.0.0.1", closed_port())
    with pytest.raises(TransportError, match=f"no connection to http://127.0.0.1:{origin.port}") as caught:
        connections().lease(origin)
    assert not isinstance(caught.value, OurTimeoutError)
    assert isinstance(caught.value.__cause__, urllib3.exceptions.NewConnectionError)


def test_an_unknown_host_is_a_transport_error(connections: Any) -> None:
    with pytest.raises(TransportError, match=r"no connection to http://nowhere\.invalid:80") as caught:
        connections().lease(Origin("http", "nowhere.invalid", 80))
    assert not isinstance(caught.value, OurTimeoutError)


def test_a_failed_connection_gives_its_place_back(peer: Any, connections: Any) -> None:
    there, ours = peer(), connections(max_connections=1)
    there.close()
    for _ in range(3):
        with pytest.raises(TransportError):
            ours.lease(there.origin())


def test_a_peer_that_does_not_accept_is_a_timeout(connections: Any) -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):  # fills the queue of connections to accept
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        ours = connections(timeouts=Timeouts(connect=0.3))
        with pytest.raises(OurTimeoutError, match=r"within 0\.3 s") as caught:
            ours.lease(Origin("http", *listener.getsockname()))
    assert isinstance(caught.value.__cause__, urllib3.exceptions.ConnectTimeoutError)


def test_a_handshake_that_stands_still_is_a_timeout(peer: Any, connections: Any, bundle: str) -> None:
    there = peer(lambda sock: bool(read_head(sock)))
    ours = connections(timeouts=Timeouts(connect=0.3), ca_bundle=bundle)
    with pytest.raises(OurTimeoutError, match=r"within 0\.3 s"):
        ours.lease(there.origin("https", "localhost"))
    assert there.ended.get(timeout=DEADLINE)


# --------------------------------------------------------------------------------------------------- cap


def test_a_full_client_waits_for_a_connection_to_come_back(peer: Any, connections: Any) -> None:
    there, ours = peer(), connections(max_connections=1)
    leased: queue.Queue[bool] = queue.Queue()
    waiter = threading.Thread(target=lambda: leased.put(use(ours, there.origin())))
    with ours.lease(there.origin()) as lease:
        waiter.start()
        with pytest.raises(queue.Empty):
            leased.get(timeout=0.3)
        converse(lease)
        lease.keep()
    assert leased.get(timeout=DEADLINE) is True
    waiter.join(DEADLINE)
    assert len(there.accepted) == 1


def test_a_wait_for_a_lease_can_be_ended(peer: Any, connections: Any) -> None:
    class Ended(Exception):
        pass

    def end() -> None:
        raise Ended

    there, ours = peer(), connections(max_connections=1)
    with ours.lease(there.origin()), pytest.raises(Ended):
        ours.lease(there.origin(), check=end)


def test_a_wait_for_a_lease_ends_when_its_time_is_up(peer: Any, connections: Any) -> None:
    ours, there = connections(max_connections=1), peer()
    with ours.lease(there.origin()), pytest.raises(OurTimeoutError, match="was returned in time"):
        ours.lease(there.origin(), within=0.2)


def test_a_connection_takes_no_longer_than_the_caller_has(connections: Any) -> None:
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(2):  # what the backlog takes; the next handshake is left waiting
            held = stack.enter_context(socket.socket())
            held.setblocking(False)
            held.connect_ex(full.getsockname())
        with pytest.raises(OurTimeoutError, match=r"within 0\.[12]\d* s"):
            connections().lease(Origin("http", "127.0.0.1", full.getsockname()[1]), within=0.2)


def test_closing_ends_a_wait_for_a_lease(peer: Any, connections: Any) -> None:
    there, ours = peer(), connections(max_connections=1)
    leased: queue.Queue[bool] = queue.Queue()
    waiting = threading.Event()

    def wait() -> None:
        with ours.lease(there.origin(), check=waiting.set) as lease:
            leased.put(lease.reused)

    waiter = threading.Thread(target=wait)
    with ours.lease(there.origin()):
        waiter.start()
        assert waiting.wait(DEADLINE)
        ours.close()
        assert leased.get(timeout=DEADLINE) is False
    waiter.join(DEADLINE)


# --------------------------------------------------------------------------------------------------- TLS


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_tls_connection_serves_again(
    peer: Any, connections: Any, server_context: Any, bundle: str, version: ssl.TLSVersion
) -> None:
    there = peer(context=server_context("localhost", version=version))
    ours = connections(ca_bundle=bundle)
    assert [use(ours, there.origin("https", "localhost")) for _ in range(3)] == [False, True, True]
    assert len(there.accepted) == 1


def test_a_leased_tls_socket_does_not_block_and_sends_at_once(
    peer: Any, connections: Any, server_context: Any, bundle: str
) -> None:
    there = peer(context=server_context("localhost"))
    with connections(ca_bundle=bundle).lease(there.origin("https", "localhost")) as lease:
        assert isinstance(lease.sock, ssl.SSLSocket)
        assert not lease.sock.getblocking()
        assert lease.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_certificate_for_an_address_is_accepted(
    peer: Any, connections: Any, server_context: Any, bundle: str
) -> None:
    there = peer(context=server_context("127.0.0.1"))
    assert use(connections(ca_bundle=bundle), there.origin("https")) is False


def test_the_bundle_variable_is_trusted(
    peer: Any, connections: Any, server_context: Any, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
    there = peer(context=server_context("localhost"))
    assert use(connections(), there.origin("https", "localhost")) is False


def test_the_bundle_of_the_profile_is_trusted(
    peer: Any, server_context: Any, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(f"[default]\nca_bundle = {bundle}\n")
    there = peer(context=server_context("localhost"))
    url = f"https://localhost:{there.port}"
    retries = s3dlio.RetryPolicy(max_attempts=1)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    untrusting = s3dlio.Client(endpoint_url=url, region="r", retries=retries)
    with untrusting, pytest.raises(TransportError, match="CERTIFICATE_VERIFY_FAILED"):
        untrusting.get("s3://b/k")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with s3dlio.Client(endpoint_url=url, region="r", retries=retries) as client:
        assert client.get("s3://b/k") == b"ok"


def test_a_certificate_for_another_host_is_refused(
    peer: Any, connections: Any, server_context: Any, bundle: str
) -> None:
    there = peer(context=server_context("other.example"))
    with pytest.raises(TransportError, match="localhost") as caught:
        connections(ca_bundle=bundle).lease(there.origin("https", "localhost"))
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


def test_an_unknown_authority_is_refused(peer: Any, connections: Any, server_context: Any) -> None:
    there = peer(context=server_context("localhost"))
    with pytest.raises(TransportError, match="CERTIFICATE_VERIFY_FAILED") as caught:
        connections().lease(there.origin("https", "localhost"))
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


def test_without_verification_any_certificate_is_accepted_with_a_warning(
    peer: Any, connections: Any, server_context: Any
) -> None:
    there, ours = peer(context=server_context("other.example")), connections(verify=False)
    with pytest.warns(urllib3.exceptions.InsecureRequestWarning, match="localhost is not verified") as warned:
        assert use(ours, there.origin("https", "localhost")) is False
    assert len(warned) == 1
    assert warned[0].filename == __file__


def test_a_peer_that_does_not_speak_tls_is_a_transport_error(peer: Any, connections: Any) -> None:
    there = peer(lambda sock: sock.sendall(ANSWER))
    with pytest.raises(TransportError) as caught:
        connections().lease(there.origin("https", "localhost"))
    assert isinstance(caught.value.__cause__, OSError | urllib3.exceptions.HTTPError)


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_bundle_that_cannot_be_used_is_a_configuration_error(
    connections: Any, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"ca_bundle=.*give a PEM file"):
        connections(ca_bundle=str(path)).lease(Origin("https", "localhost", closed_port()))


# ------------------------------------------------------------------------------------------------ proxies


def proxied(monkeypatch: pytest.MonkeyPatch, scheme: str, url: str) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", url)


AUTHORIZATION = b"\r\nproxy-authorization: Basic " + base64.b64encode(b"user:pass word") + b"\r\n"


def test_plain_http_goes_to_the_proxy_in_absolute_form(
    peer: Any, connections: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(sock: socket.socket) -> None:
        heads.put(read_head(sock))
        sock.sendall(ANSWER)

    heads: queue.Queue[bytes] = queue.Queue()
    proxied(monkeypatch, "http", f"http://user:pass%20word@127.0.0.1:{peer(record).port}")
    with connections().lease(Origin("http", "store.invalid", 80)) as lease:
        assert lease.origin_form_absolute
        converse(lease, "http://store.invalid/bucket/key")
    head = heads.get(timeout=DEADLINE)
    assert head.startswith(b"GET http://store.invalid/bucket/key HTTP/1.1\r\n")
    assert AUTHORIZATION in head


@pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy"])
def test_the_proxy_for_all_schemes_serves_those_without_one(
    peer: Any, connections: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, f"http://127.0.0.1:{peer().port}")
    assert use(connections(), Origin("http", "store.invalid", 80)) is False
    proxied(monkeypatch, "http", f"http://127.0.0.1:{closed_port()}")
    with pytest.raises(TransportError, match="through the proxy"):
        connections().lease(Origin("http", "store.invalid", 80))


def test_a_proxy_without_a_scheme_is_an_http_proxy(
    peer: Any, connections: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxied(monkeypatch, "http", f"127.0.0.1:{peer().port}")
    assert use(connections(), Origin("http", "store.invalid", 80)) is False


def test_all_hosts_share_the_connections_to_a_proxy(
    peer: Any, connections: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, ours = peer(), connections()
    proxied(monkeypatch, "http", f"http://127.0.0.1:{there.port}")
    assert use(ours, Origin("http", "one.invalid", 80)) is False
    assert use(ours, Origin("http", "two.invalid", 80)) is True


def test_hosts_that_need_no_proxy_are_reached_directly(
    peer: Any, connections: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = peer()
    proxied(monkeypatch, "http", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    with connections().lease(there.origin()) as lease:
        assert not lease.origin_form_absolute
        assert converse(lease) == ANSWER


def test_plain_http_goes_through_a_proxy_that_uses_tls(
    peer: Any, connections: Any, server_context: Any, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, ours = peer(context=server_context("localhost")), connections(ca_bundle=bundle)
    proxied(monkeypatch, "http", f"https://localhost:{there.port}")
    origin = Origin("http", "store.invalid", 80)
    assert [use(ours, origin) for _ in range(2)] == [False, True]


def test_https_goes_through_a_tunnel(
    peer: Any, connections: Any, server_context: Any, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tunnel(sock: socket.socket) -> None:
        heads.put(read_head(sock))
        sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with context.wrap_socket(sock, server_side=True) as inner:
            answer_all(inner)

    heads: queue.Queue[bytes] = queue.Queue()
    context = server_context("store.invalid")
    there, ours = peer(tunnel), connections(ca_bundle=bundle)
    proxied(monkeypatch, "https", f"http://user:pass%20word@127.0.0.1:{there.port}")
    origin = Origin("https", "store.invalid", 443)
    assert [use(ours, origin) for _ in range(2)] == [False, True]
    assert use(ours, origin, fresh=True) is False
    head = heads.get(timeout=DEADLINE)
    assert head.startswith(b"CONNECT store.invalid:443 HTTP/1.")
    assert AUTHORIZATION in head
    with ours.lease(origin) as lease:
        assert not lease.origin_form_absolute
        assert lease.proxy_headers == {}


def test_a_tunnel_to_a_host_with_another_certificate_is_refused(
    peer: Any, connections: Any, server_context: Any, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tunnel(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        context.wrap_socket(sock, server_side=True).close()

    context = server_context("127.0.0.1", "localhost")
    proxied(monkeypatch, "https", f"http://127.0.0.1:{peer(tunnel).port}")
    with pytest.raises(TransportError, match="CERTIFICATE_VERIFY_FAILED"):
        connections(ca_bundle=bundle).lease(Origin("https", "store.invalid", 443))


def test_a_tunnel_that_is_refused_is_a_transport_error_without_the_password(
    peer: Any, connections: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    there = peer(refuse)
    proxied(monkeypatch, "https", f"http://user:secret@127.0.0.1:{there.port}")
    with pytest.raises(
        TransportError, match=f"the proxy 127.0.0.1:{there.port} refused a tunnel to store.invalid:443 with status 407"
    ) as caught:
        connections().lease(Origin("https", "store.invalid", 443))
    assert "secret" not in str(caught.value)


def test_a_proxy_that_stands_still_is_a_timeout(peer: Any, connections: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    there = peer(lambda sock: bool(read_head(sock) and read_head(sock)))
    proxied(monkeypatch, "https", f"http://127.0.0.1:{there.port}")
    with pytest.raises(OurTimeoutError, match="through the proxy"):
        connections(timeouts=Timeouts(connect=0.3)).lease(Origin("https", "store.invalid", 443))


@pytest.mark.parametrize(
    ("scheme", "url"),
    [
        ("http", "socks5://user:secret@127.0.0.1:1080"),
        ("http", "http://user:secret@127.0.0.1:port"),
        ("http", "http://user:secret@"),
        ("https", "https://user:secret@127.0.0.1:3128"),
        ("https", "HTTPS://user:secret@127.0.0.1:3128"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_a_configuration_error_without_the_password(
    connections: Any, monkeypatch: pytest.MonkeyPatch, scheme: str, url: str
) -> None:
    proxied(monkeypatch, scheme, url)
    with pytest.raises(ConfigurationError, match="prox") as caught:
        connections().lease(Origin(scheme, "store.invalid", 80))
    assert "secret" not in str(caught.value)


# --------------------------------------------------------------------------------------------------- fork

FORKING = """
import os, signal, socket, sys
from s3dlio._net.connections import Connections
from s3dlio._net.addresses import Origin
from s3dlio.config import ClientSettings

origin = Origin("http", "127.0.0.1", int(sys.argv[1]))
ours = Connections(settings=ClientSettings())

def use():
    with ours.lease(origin) as lease:
        lease.sock.setblocking(True)
        lease.sock.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n")
        data = b""
        while not data.endswith(b"ok"):
            chunk = lease.sock.recv(4096)
            assert chunk
            data += chunk
        lease.keep()
        return lease.reused

def fork(child):
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        status = 1
        try:
            status = child()
        finally:
            os._exit(status)
    return pid

def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def run_forking(program: str, port: int) -> str:
    command = [sys.executable, "-W", "error", "-c", FORKING + program, str(port)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0, shown.stderr
    return shown.stdout.strip()


def test_a_child_makes_connections_of_its_own_and_leaves_the_parents_usable(peer: Any) -> None:
    there = peer()
    program = "use()\nprint(ended(fork(lambda: 2 + use() + 2 * use())))\nprint(use())\n"
    assert run_forking(program, there.port) == "4\nTrue"
    assert len(there.accepted) == 2


def test_a_child_forked_while_locks_are_held_does_not_hang(peer: Any) -> None:
    program = (
        "use()\n"
        "(manager,) = ours._managers.values()\n"
        "pool = manager.connection_from_host(origin.host, origin.port, origin.scheme)\n"
        "with ours._lock, manager.pools.lock:\n"
        "    del manager, pool\n"
        "    def child():\n"
        "        import gc\n"
        "        gc.collect()\n"
        "        return 2 + use()\n"
        "    print(ended(fork(child)))\n"
    )
    assert run_forking(program, peer().port) == "2"


def test_a_lease_ends_for_the_peer_though_a_child_still_holds_its_descriptor(peer: Any) -> None:
    there = peer()
    program = (
        "ours_end, childs_end = socket.socketpair()\n"
        "def wait():\n"
        "    ours_end.close()\n"
        "    return len(childs_end.recv(1))\n"
        "with ours.lease(origin) as lease:\n"
        "    child = fork(wait)\n"
        "print('given up', flush=True)\n"
        "sys.stdin.readline()\n"
        "ours_end.close()\n"
        "print(ended(child))\n"
    )
    command = [sys.executable, "-c", FORKING + program, str(there.port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "given up\n"
        assert there.ended.get(timeout=DEADLINE) == RESET  # the child lives on, as it ends only after our line
        shown, _ = process.communicate("\n", timeout=DEADLINE)
    assert shown.strip() == "0"


def test_a_child_that_inherits_a_lease_does_not_end_it(peer: Any) -> None:
    program = (
        "lease = ours.lease(origin)\n"
        "def child():\n"
        "    lease.__exit__(None, None, None)\n"
        "    return 0\n"
        "print(ended(fork(child)))\n"
        "lease.sock.setblocking(True)\n"
        "lease.sock.sendall(b'GET / HTTP/1.1\\r\\n\\r\\n')\n"
        "print(lease.sock.recv(100)[:15])\n"
        "lease.__exit__(None, None, None)\n"
    )
    assert run_forking(program, peer().port) == "0\nb'HTTP/1.1 200 OK'"
