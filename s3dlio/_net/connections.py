"""The only importer of urllib3: connecting, TLS verification, proxies, and leases of pooled connections.

`exchange` sends and receives over a lease. A connection returns to its pool only if its exchange ended cleanly;
otherwise it is closed. A forked child must never use the parent's sockets. `service` holds the pools, `attempts`
leases.
"""

from __future__ import annotations

import base64
import builtins
import contextlib
import encodings.idna  # noqa: F401 - connecting encodes host names, and workers must import nothing: see `workers`
import errno
import os
import re
import select
import socket
import ssl
import struct
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

import urllib3
from urllib3 import exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import Timeout, parse_url
from urllib3.util.ssl_ import create_urllib3_context

from .._runtime.forking import no_fork
from .._values.environment import ca_bundle_from_environment
from ..config import ClientSettings
from ..errors import ConfigurationError, TimeoutError, TransportError
from . import tls
from .addresses import Origin
from .exchange import reset_connection
from .idle_connections import IdleConnections
from .proxies import ProxyRefusedError, load_proxies, proxy_for

# Idle connections kept to one host if the client sets no cap.
KEPT_IDLE = 256
# Hosts whose connections are kept; with virtual-host addressing, each bucket is a host.
KEPT_HOSTS = 64
# For a peer with at most this round trip, in microseconds, the send buffer has so many bytes (the kernel doubles it).
# Otherwise it grows to several MiB for each connection, and bytes leave the cache before they are read: 4.3 instead of
# 5.4 GiB/s on loopback, at 0.19 instead of 0.15 CPU s/GiB in the kernel. Even at 1 ms it is enough for 1 GB/s. A tenth
# of it would be less than one segment on loopback, and stalls.
NEAR = 1000
NEAR_SEND_BUFFER = 512 << 10
# Where Linux has the smoothed round trip in its struct tcp_info: an unsigned int (linux/tcp.h).
_RTT_AT = 68

# Seconds between two checks while connecting, or while all connections of a capped client are leased; a connection that
# returns ends the wait.
WAIT_SLICE = 0.1
# Each of a host's addresses gets its share of the remaining time, but at least so many seconds: an address that does
# not respond must not use up the time of the others.
LEAST_SHARE = 0.5


class Lease:
    """One connection, checked out for one exchange; a context manager.

    Attributes:
        origin: where it leads.
        sock: the connected, non-blocking socket.
        reused: it had served an exchange before.
        previous_head: head of the last response on it; empty if none was received.
        ended: the exchange ended with a response. If not, closing drops the bytes that the kernel has not sent yet.
        origin_form_absolute: there is a plain-HTTP proxy: the request target must be absolute.
        proxy: host and port of the proxy; None for none.
        proxy_headers: headers that the proxy needs.
    """

    def __init__(self, owner: Connections, pool: Any, connection: Any, origin: Origin, reused: bool, absolute: bool):
        self._owner = owner
        self._pool = pool
        self._connection = connection
        self._pid = os.getpid()
        self._kept = False
        self.ended = False
        self.origin = origin
        self.sock = connection.sock
        self.reused = reused
        self.previous_head: bytes = getattr(connection, "s3dlio_last_head", b"") if reused else b""
        self.origin_form_absolute = absolute
        self.proxy = _proxy_address(pool)
        self.proxy_headers: dict[str, str] = dict(pool.proxy_headers) if absolute else {}

    def keep(self, last_head: bytes = b"") -> None:
        """Allows the connection to be reused: the exchange ended cleanly, with a response of this head."""
        self._connection.s3dlio_last_head = last_head
        self._kept = self.ended = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pid != os.getpid():
            self._connection.close()  # only this process's descriptor: the connection is the parent's
            return
        if kind is not None or not self.ended:
            _shut_down(self._connection, reset=True)
        elif not self._kept or _has_unread(self.sock):
            _shut_down(self._connection)
        self._pool._put_conn(self._connection)
        self._owner.count_returned()


def _has_unread(sock: Any) -> bool:
    """Whether there are unrequested bytes, or the peer has closed: such a connection is out of step."""
    if isinstance(sock, ssl.SSLSocket) and sock.pending():
        return True
    return _ready(sock, select.POLLIN, 0.0)


def _ready(sock: socket.socket, events: int, seconds: float | None) -> bool:
    """Waits at most `seconds` for one of `events`; returns whether one came."""
    poller = select.poll()
    poller.register(sock, events)
    return bool(poller.poll(None if seconds is None else max(0.0, seconds * 1000)))


def _shut_down(connection: Any, *, reset: bool = False) -> None:
    """Ends the connection for the peer too, even if a forked child still holds its descriptor.

    `reset` drops the bytes that the kernel has not sent yet, so that no byte of a part follows an abort.
    """
    sock = connection.sock
    if sock is not None and not (reset and reset_connection(sock.fileno())):
        with contextlib.suppress(OSError):  # the peer closed it first
            sock.shutdown(socket.SHUT_RDWR)
    connection.close()


def _limit_send_buffer(sock: Any) -> None:
    """Keeps bytes for a near peer in the cache. A far one needs the kernel's buffer, which grows with distance."""
    if not hasattr(socket, "TCP_INFO"):
        return
    with contextlib.suppress(OSError, struct.error):
        facts = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RTT_AT + 4)
        if struct.unpack_from("I", facts, _RTT_AT)[0] < NEAR:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NEAR_SEND_BUFFER)


class Connections:
    """The connection pools of one client, one for each host; any thread may lease.

    A forked child gets pools of its own. Proxies are looked up in the environment once for each origin.

    Attributes:
        opened: connections that were established so far.
        in_use: leases that have not ended.
    """

    def __init__(self, *, settings: ClientSettings, profile_bundle: Callable[[], str | None] = lambda: None) -> None:
        self._settings = settings
        self._profile_bundle = profile_bundle
        load_proxies()
        self._reset_after_fork()
        _living.add(self)

    def _reset_after_fork(self) -> None:
        self._lock = threading.Lock()
        self._managers: dict[tuple[str, str | None], Any] = {}
        self._proxies: dict[Origin, str | None] = {}
        self.opened = self.in_use = 0

    def lease(
        self,
        origin: Origin,
        *,
        fresh: bool = False,
        check: Callable[[], None] | None = None,
        no_wait: bool = False,
        within: float | None = None,
    ) -> Lease:
        """A connection to `origin`, a new one if none is idle.

        If the client has a cap and all its connections are leased, it waits for one to be returned.

        Args:
            origin: where to connect.
            fresh: never take a connection that was used before.
            check: called about ten times a second during such a wait and while connecting; an exception that it raises
                ends both. It cannot interrupt the look-up of a host's name, which is one system call.
            no_wait: raise TransportError instead of waiting for a connection: for callers that hold a lease already.
            within: seconds that both may take, if less than the settings allow.

        Raises:
            TransportError: it could not be established (`TimeoutError`: not in time).
            ConfigurationError: the proxy or the CA bundle cannot be used.
        """
        proxy = self._proxy_for(origin)
        until = None if within is None else time.monotonic() + within
        pool, connection = self._checked_out(origin, proxy, check, no_wait, until)
        try:
            reused = not fresh and not connection.is_closed
            if not reused:
                _shut_down(connection)
                self._connect(pool, connection, origin, until, check)
            connection.sock.setblocking(False)
        except BaseException:
            connection.close()
            pool._put_conn(connection)
            raise
        with self._lock:
            self.opened += not reused
            self.in_use += 1
        return Lease(self, pool, connection, origin, reused, proxy is not None and origin.scheme == "http")

    def count_returned(self) -> None:
        """A lease has ended."""
        with self._lock:
            self.in_use -= 1

    @property
    def idle(self) -> int:
        """Open connections that no request uses."""
        with self._lock:
            managers = list(self._managers.values())
        pools = [pool for manager in managers for pool in map(manager.pools.get, manager.pools.keys())]
        return sum(pool.pool.open for pool in pools if pool is not None and pool.pool is not None)

    def close(self) -> None:
        """Closes idle connections; leased ones end with their leases, and later leases find new pools."""
        with self._lock:
            managers, self._managers = list(self._managers.values()), {}
            self._proxies = {}
        for manager in managers:
            for pool in map(manager.pools.get, manager.pools.keys()):
                if pool is not None:  # dropped meanwhile as the least recently used host
                    pool.close()
            manager.clear()

    def _checked_out(
        self,
        origin: Origin,
        proxy: str | None,
        check: Callable[[], None] | None,
        no_wait: bool,
        until: float | None,
    ) -> tuple[Any, Any]:
        while True:
            pool = self._manager(origin.scheme, proxy).connection_from_host(origin.host, origin.port, origin.scheme)
            try:
                return pool, pool._get_conn(timeout=0.001 if no_wait else WAIT_SLICE)
            except exceptions.EmptyPoolError:
                if no_wait:
                    raise TransportError(f"no connection to {origin.host}:{origin.port} is free") from None
                if until is not None and time.monotonic() >= until:
                    raise TimeoutError(f"no connection to {origin.host}:{origin.port} was returned in time") from None
                if check is not None:
                    check()
            except exceptions.ClosedPoolError:
                continue  # closed by `close`, or as the least recently used host: the next round makes another

    def _connect(
        self, pool: Any, connection: Any, origin: Origin, until: float | None, check: Callable[[], None] | None
    ) -> None:
        where = f"{origin.scheme}://{origin.host}:{origin.port}"
        if pool.proxy is not None:
            where += f" through the proxy {_proxy_address(pool)}"
        seconds = self._settings.timeouts.connect
        if until is not None:
            seconds = min(seconds, max(0.001, until - time.monotonic()))
        connection.timeout = seconds
        before, _connecting.budget = _connecting.budget, _Budget(seconds, check)  # a signal handler may connect too
        try:
            if pool.proxy is not None and origin.scheme == "https":
                pool._prepare_proxy(connection)
            else:
                connection.connect()
        except TransportError:  # of `check`
            raise
        except (exceptions.HTTPError, OSError) as error:
            late = isinstance(error, exceptions.ConnectTimeoutError | builtins.TimeoutError)
            # urllib3 counts a refused connection and an unknown host among its timeouts.
            if late and not isinstance(error, exceptions.NewConnectionError):
                raise TimeoutError(f"no connection to {where} within {seconds:.3g} s") from error
            tunnel = _TUNNEL_FAILED.match(str(error))
            if tunnel is not None and tunnel[1][0] == "4" and tunnel[1] not in ("408", "429"):
                what = f"a tunnel to {origin.host}:{origin.port}"
                raise ProxyRefusedError.of_status(int(tunnel[1]), _proxy_address(pool), what) from error
            raise TransportError(f"no connection to {where}: {error}") from error
        finally:
            _connecting.budget = before
            with no_fork():
                tls.leave()
        _limit_send_buffer(connection.sock)
        if origin.scheme == "https" and not self._settings.verify:
            warnings.warn(
                f"the certificate of {origin.host} is not verified (verify=False)",
                exceptions.InsecureRequestWarning,
                stacklevel=3,
            )

    def _manager(self, scheme: str, proxy: str | None) -> Any:
        with self._lock:
            manager = self._managers.get((scheme, proxy))
            if manager is None:
                manager = self._managers[scheme, proxy] = self._new_manager(scheme, proxy)
            return manager

    def _new_manager(self, scheme: str, proxy: str | None) -> urllib3.PoolManager:
        settings = self._settings
        options: dict[str, Any] = {
            "num_pools": KEPT_HOSTS,
            "maxsize": settings.max_connections or KEPT_IDLE,
            "block": settings.max_connections is not None,
            "timeout": Timeout(connect=settings.timeouts.connect),
            "socket_options": HTTPConnection.default_socket_options,  # TCP_NODELAY, which pools of a proxy lack
        }
        if scheme == "https" or _uses_tls(proxy):
            options["ssl_context"] = self._tls_context()
            options["cert_reqs"] = "CERT_REQUIRED" if settings.verify else "CERT_NONE"
        manager = urllib3.PoolManager(**options) if proxy is None else _proxy_manager(proxy, options)
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager

    def _tls_context(self) -> ssl.SSLContext:
        """One context for all connections: loading the platform's authorities takes tens of milliseconds."""
        with no_fork():
            context = self._new_tls_context()
        context.sslsocket_class = _SteppedSocket
        return context

    def _new_tls_context(self) -> ssl.SSLContext:
        if not self._settings.verify:
            return create_urllib3_context(cert_reqs=ssl.CERT_NONE)
        context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
        bundle = (
            self._settings.ca_bundle
            or ca_bundle_from_environment()
            or self._profile_bundle()
            or ca_bundle_from_environment("REQUESTS_CA_BUNDLE")
        )
        if bundle is None:
            context.load_default_certs()
            return context
        path = os.path.expanduser(bundle)
        try:
            context.load_verify_locations(**{"capath" if os.path.isdir(path) else "cafile": path})
        except OSError as error:
            raise ConfigurationError(f"ca_bundle={bundle!r} cannot be used ({error}); give a PEM file") from error
        return context

    def _proxy_for(self, origin: Origin) -> str | None:
        try:
            return self._proxies[origin]
        except KeyError:
            proxy = proxy_for(origin)
        if origin.scheme == "https" and _uses_tls(proxy):
            # urllib3 would wrap TLS in TLS in an object that is not a socket.
            raise ConfigurationError(
                "https through a proxy that itself uses TLS is not supported; give HTTPS_PROXY an http:// URL"
            )
        self._proxies[origin] = proxy
        return proxy


# The standard library's message with the status of a proxy's response to CONNECT.
_TUNNEL_FAILED = re.compile(r"Tunnel connection failed: ([0-9]{3})\b")


def _proxy_address(pool: Any) -> str | None:
    """Host and port of the pool's proxy."""
    return None if pool.proxy is None else f"{pool.proxy.host}:{pool.proxy.port}"


def _uses_tls(proxy: str | None) -> bool:
    return proxy is not None and proxy.lower().startswith("https:")


def _proxy_manager(proxy: str, options: dict[str, Any]) -> urllib3.PoolManager:
    """Refuses a URL that is not a proxy's without repeating it: it may contain a password."""
    try:
        url = parse_url(proxy)
        if not url.host:
            raise ConfigurationError("the proxy's URL names no host; write it as 'http://host:port'")
        headers = {}
        if url.auth is not None:  # RFC 7617, with what a URL cannot hold percent-encoded
            headers["proxy-authorization"] = f"Basic {base64.b64encode(unquote(url.auth).encode()).decode()}"
        context = options.get("ssl_context") if url.scheme == "https" else None
        return urllib3.ProxyManager(proxy, proxy_headers=headers, proxy_ssl_context=context, **options)
    except exceptions.ProxySchemeUnknown as error:
        raise ConfigurationError(f"the proxy cannot be used: {error}") from error
    except exceptions.HTTPError:
        raise ConfigurationError("the proxy's URL is malformed; write it as 'http://host:port'") from None


# ------------------------------------------------------------------------------------------------ connecting


class _Budget:
    """The time for establishing one connection: all addresses, the proxy's response and the handshake share it.

    Args:
        check: called during each wait; an exception that it raises ends everything.
    """

    def __init__(self, seconds: float, check: Callable[[], None] | None) -> None:
        self.until = time.monotonic() + seconds
        self._check = check

    @property
    def left(self) -> float:
        """Seconds, never 0: a step that is too late ends with its first wait."""
        return max(0.001, self.until - time.monotonic())

    def wait(self, sock: socket.socket, events: int, until: float | None = None) -> None:
        """Returns once one of `events` has come; TimeoutError at the end of the budget, or at `until` before."""
        end = self.until if until is None else min(until, self.until)
        while not _ready(sock, events, min(WAIT_SLICE, end - time.monotonic())):
            if self._check is not None:
                self._check()
            if time.monotonic() >= end:
                raise builtins.TimeoutError("timed out")


class _Connecting(threading.local):
    """The budget of the connection that this thread establishes."""

    budget: _Budget | None = None


_connecting = _Connecting()


def _budget() -> _Budget:
    budget = _connecting.budget
    assert budget is not None, "connections are established by `Connections.lease`"
    return budget


class _ConnectingSocket(socket.socket):
    """A socket to the store or a proxy: while it connects, each wait draws on the budget."""

    @classmethod
    def reached(
        cls, family: int, kind: int, protocol: int, address: Any, options: Sequence[Any], until: float
    ) -> _ConnectingSocket:
        """A socket connected to this address."""
        sock = cls(family, kind, protocol)
        try:
            for option in options:
                sock.setsockopt(*option)
            sock.setblocking(False)
            failed = sock.connect_ex(address)
            if failed in (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN):
                _budget().wait(sock, select.POLLOUT, until)
                failed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if failed:
                raise OSError(failed, os.strerror(failed))
            sock.settimeout(_budget().left)
        except BaseException:
            sock.close()
            raise
        return sock

    def recv_into(self, *arguments: Any) -> int:
        if _connecting.budget is not None:
            _connecting.budget.wait(self, select.POLLIN)
        return super().recv_into(*arguments)


class _SteppedSocket(ssl.SSLSocket):
    """Does its handshake in steps and waits for the peer between them: a fork waits for a step, not for the peer.

    Creating the object and each step take locks of OpenSSL without the GIL.
    """

    @classmethod
    def _create(cls, sock: socket.socket, *, do_handshake_on_connect: bool = True, **options: Any) -> Self:
        with no_fork():
            made: Self = super()._create(sock, do_handshake_on_connect=False, **options)  # type: ignore[misc]
        if do_handshake_on_connect:
            made.do_handshake()
        return made

    def do_handshake(self, block: bool = False) -> None:
        timeout = self.gettimeout()
        self.setblocking(False)
        tls.prepare(self)
        try:
            self._shake()
        except BaseException:
            self.close()  # before Python 3.13 the standard library does so only after some errors
            raise
        self.settimeout(timeout)

    def _shake(self) -> None:
        while True:
            try:
                with no_fork():
                    return super().do_handshake()
            except ssl.SSLWantReadError:
                wanted = select.POLLIN
            except ssl.SSLWantWriteError:
                wanted = select.POLLOUT
            _budget().wait(self, wanted)


class _HTTPConnection(HTTPConnection):
    """urllib3's connection, established within a budget."""

    def _new_conn(self) -> socket.socket:
        try:
            return self._reached()
        except socket.gaierror as error:
            raise exceptions.NameResolutionError(self.host, self, error) from error
        except builtins.TimeoutError as error:
            raise exceptions.ConnectTimeoutError(self, f"connecting to {self.host} timed out") from error
        except TransportError:  # of the budget's check
            raise
        except OSError as error:
            raise exceptions.NewConnectionError(self, f"Failed to establish a new connection: {error}") from error

    def _reached(self) -> socket.socket:
        """A socket connected to the first of the host's addresses that responds within its share of the time."""
        budget = _budget()
        try:
            found = socket.getaddrinfo(self._dns_host.strip("[]"), self.port, type=socket.SOCK_STREAM)
        except UnicodeError as error:
            raise OSError(f"{self.host!r} is not a host name") from error
        failed: OSError = OSError("the host has no address")
        for number, (family, kind, protocol, _, address) in enumerate(found):
            if time.monotonic() >= budget.until:
                raise builtins.TimeoutError("timed out")
            until = time.monotonic() + max(LEAST_SHARE, budget.left / (len(found) - number))
            try:
                return _ConnectingSocket.reached(family, kind, protocol, address, self.socket_options or (), until)
            except TransportError:
                raise
            except OSError as error:
                failed = error
        try:
            raise failed
        finally:
            del failed  # it refers to this frame


class _HTTPSConnection(_HTTPConnection, HTTPSConnection):
    """The same for TLS."""


# ------------------------------------------------------------------------------------------------ fork


class _HTTPPool(urllib3.HTTPConnectionPool):
    """urllib3's pool, known to the fork handler."""

    ConnectionCls = _HTTPConnection
    QueueCls: Any = IdleConnections

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        _living.add(self)

    def _reset_after_fork(self) -> None:
        """Closes this process's descriptors of the parent's idle connections.

        They would keep connections open after the parent has closed them.
        """
        idle: Any = self.pool
        self.pool = None
        if idle is not None:
            for connection in idle.clear():
                connection.close()


class _HTTPSPool(_HTTPPool, urllib3.HTTPSConnectionPool):
    """The same for TLS."""

    ConnectionCls = _HTTPSConnection


_living: weakref.WeakSet[Connections | _HTTPPool] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for one in list(_living):
        one._reset_after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
