"""What may be called beneath a TLS socket: OpenSSL's functions of the very library that made it, while it lives."""

from __future__ import annotations

import _ssl
import gc
import logging
import ssl

import pytest
from peers import Peers, contexts, start

from s3dlio import _buffers
from s3dlio._net import tls


def test_without_a_module_of_its_own_pythons_openssl_cannot_be_called() -> None:
    assert "built into the interpreter" in tls.hindrance(None, ssl.OPENSSL_VERSION_NUMBER)


def test_a_module_that_is_linked_to_no_openssl_is_told() -> None:
    assert "no OpenSSL" in tls.hindrance(_buffers.__file__, ssl.OPENSSL_VERSION_NUMBER)
    assert tls.without_gil()  # and what was found before is found again


def test_a_library_of_another_version_is_never_called() -> None:
    assert tls.hindrance(_ssl.__file__, ssl.OPENSSL_VERSION_NUMBER) == ""
    told = tls.hindrance(_ssl.__file__, ssl.OPENSSL_VERSION_NUMBER + 16)
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
    told = [record.getMessage() for record in caplog.records if "TLS goes by" in record.getMessage()]
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
