"""What may be called beneath a TLS socket: OpenSSL's functions of the very library that made it, while it lives."""

from __future__ import annotations

import _ssl
import gc
import logging
import socket
import ssl

import pytest
from peers import REQUEST, Peers, contexts, patterned, run, start

from s3dlio import _buffers
from s3dlio._net import tls
from s3dlio._net.exchange import Outcome


def test_without_a_module_of_its_own_pythons_openssl_cannot_be_called() -> None:
    assert "built into the interpreter" in tls.fallback_reason(None, ssl.OPENSSL_VERSION_NUMBER)


def test_a_module_that_is_linked_to_no_openssl_is_told() -> None:
    assert "no OpenSSL" in tls.fallback_reason(_buffers.__file__, ssl.OPENSSL_VERSION_NUMBER)
    assert tls.without_gil()  # and what was found before is found again


def test_a_library_of_another_version_is_never_called() -> None:
    assert tls.fallback_reason(_ssl.__file__, ssl.OPENSSL_VERSION_NUMBER) == ""
    told = tls.fallback_reason(_ssl.__file__, ssl.OPENSSL_VERSION_NUMBER + 16)
    assert f"{ssl.OPENSSL_VERSION_NUMBER:#x}" in told
    assert f"{ssl.OPENSSL_VERSION_NUMBER + 16:#x}" in told


def test_the_fall_back_is_told_once_with_what_it_costs(caplog: pytest.LogCaptureFixture) -> None:
    server, client = contexts()
    caplog.set_level(logging.INFO, "s3dlio")
    with Peers(server, client) as peers:
        try:
            tls.without_gil(False)
            for _ in range(3):
                assert not tls.TlsTransport(peers.connect(peers.stall)).native
        finally:
            tls.without_gil(True)
        assert tls.TlsTransport(peers.connect(peers.stall)).native
    told = [record.getMessage() for record in caplog.records if "TLS uses the methods" in record.getMessage()]
    assert len(told) == 1
    assert "1.3 times the CPU time" in told[0]
    assert "switched off" in told[0]


def test_the_object_that_is_read_from_outlives_its_socket() -> None:
    server, client = contexts()
    with Peers(server, client) as peers:
        sock = peers.connect(peers.stall)
        exchange = start(sock, idle_timeout=30)
        beneath, sock._sslobj = sock._sslobj, None  # as closing a socket does
        assert [one for one in gc.get_referrers(beneath) if isinstance(one, tls.TlsTransport)]
        del beneath
        assert exchange.end()


def test_a_head_and_the_first_bytes_of_its_body_share_a_record() -> None:
    records: list[bytes] = []

    def script(sock: socket.socket) -> None:
        while sum(map(len, records)) < len(REQUEST) + 20_000:
            records.append(sock.recv(1 << 20))  # never more than one record
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        sock.recv(1)

    segments = [patterned(5), b"", patterned(19_995)]
    with Peers(*contexts()) as peers:
        assert run(peers.connect(script), segments).outcome == Outcome.COMPLETE
    assert b"".join(records) == REQUEST + b"".join(segments)
    assert len(records[0]) == 16 << 10
