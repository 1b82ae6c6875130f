"""Which proxy stands before an origin: NO_PROXY in all the forms that people write."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from s3dlio._net.addresses import Origin
from s3dlio._net.proxies import ProxyRefusedError, needs_no_proxy, proxy_for


@pytest.mark.parametrize(
    ("exceptions", "host", "port", "direct"),
    [
        ("", "example.com", 80, False),
        (" , ,, ", "example.com", 80, False),
        ("*", "example.com", 80, True),
        ("a.test, *", "::1", 80, True),
        # Names
        ("example.com", "example.com", 80, True),
        ("example.com", "EXAMPLE.com.", 80, True),
        ("EXAMPLE.COM", "example.com", 80, True),
        ("example.com", "b.example.com", 80, True),
        ("example.com", "notexample.com", 80, False),
        ("example.com", "example.com.evil", 80, False),
        (".example.com", "example.com", 80, True),
        (".example.com", "b.example.com", 80, True),
        ("*.example.com", "b.example.com", 80, True),
        ("*.example.com", "notexample.com", 80, False),
        ("example.com.", "example.com", 80, True),
        (".", "example.com", 80, False),
        ("*.", "example.com", 80, False),
        ("com", "example.com", 80, True),
        ("a.test b.test\tc.test", "c.test", 80, True),
        ("a.test,b.test", "b.test", 80, True),
        # Ports
        ("example.com:9000", "example.com", 9000, True),
        ("example.com:9000", "b.example.com", 9000, True),
        ("example.com:9000", "example.com", 80, False),
        ("example.com:", "example.com", 80, False),
        ("example.com:port", "example.com", 80, False),
        ("localhost:80", "localhost", 80, True),
        # Addresses
        ("192.0.2.7", "192.0.2.7", 80, True),
        ("192.0.2.7:80", "192.0.2.7", 80, True),
        ("192.0.2.7:81", "192.0.2.7", 80, False),
        ("2.7", "192.0.2.7", 80, False),
        (".2.7", "192.0.2.7", 80, False),
        ("7", "192.0.2.7", 80, False),
        ("192.0.2.77", "192.0.2.7", 80, False),
        ("::1", "::1", 80, True),
        ("[::1]", "::1", 80, True),
        ("[::1]:80", "::1", 80, True),
        ("[::1]:81", "::1", 80, False),
        ("0:0:0:0:0:0:0:1", "::1", 80, True),
        ("::1", "0:0:0:0:0:0:0:1", 80, True),
        ("2001:DB8::1", "2001:db8:0::1", 80, True),
        ("2001:db8::1", "2001:db8::11", 80, False),
        ("fe80::1", "fe80::1%eth0", 80, True),
        ("192.0.2.7", "::ffff:192.0.2.7", 80, True),
        ("[", "::1", 80, False),
        ("[]", "::1", 80, False),
        ("[::1", "::1", 80, False),
        # Networks
        ("192.0.2.0/24", "192.0.2.7", 80, True),
        ("192.0.2.7/24", "192.0.2.9", 80, True),
        ("192.0.2.0/24", "192.0.3.7", 80, False),
        ("10.0.0.0/8, 192.168.0.0/16", "192.168.4.5", 80, True),
        ("0.0.0.0/0", "198.51.100.1", 80, True),
        ("0.0.0.0/0", "::1", 80, False),
        ("fd00::/8", "fd12::1", 80, True),
        ("[fd00::]/8", "fd12::1", 80, True),
        ("fd00::/8", "fe80::1", 80, False),
        ("::/0", "192.0.2.7", 80, False),
        ("192.0.2.0/24", "::ffff:192.0.2.7", 80, True),
        ("192.0.2.0/33", "192.0.2.7", 80, False),
        ("192.0.2.0/", "192.0.2.7", 80, False),
        ("10.0.0.0/8", "10.example.com", 80, False),
        ("example.com/24", "example.com", 80, False),
    ],
)
def test_an_entry_names_the_hosts_that_it_should(exceptions: str, host: str, port: int, direct: bool) -> None:
    assert needs_no_proxy(host, port, exceptions) is direct


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_what_no_proxy_names_is_reached_directly(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "proxy.example:3128")
    monkeypatch.setenv(variable, "[::1],10.0.0.0/8,.internal")
    assert proxy_for(Origin("http", "store.example", 80)) == "http://proxy.example:3128"
    for host in ("::1", "10.1.2.3", "store.internal"):
        assert proxy_for(Origin("http", host, 9000)) is None


def test_without_a_variable_there_is_no_proxy_and_urllib_is_not_asked() -> None:
    program = (
        "import sys\n"
        "from s3dlio._net.addresses import Origin\n"
        "from s3dlio._net.proxies import proxy_for\n"
        "print(proxy_for(Origin('http', 'store.example', 80)), 'urllib.request' in sys.modules)\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    shown = subprocess.run([sys.executable, "-c", program], env=clean, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == f"None {sys.platform == 'darwin'}"


def test_no_proxy_alone_is_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "x")
    assert proxy_for(Origin("https", "store.example", 443)) is None


def test_a_refusal_names_the_proxy_and_what_to_do() -> None:
    told = str(ProxyRefusedError.of_status(407, "proxy.example:3128"))
    assert "proxy.example:3128" in told
    assert "HTTPS_PROXY" in told
    assert "a proxy between here and the store refused" in str(ProxyRefusedError.of_status(403, None))
