"""Which proxy to use for an origin: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, and NO_PROXY.

It opens no connection and repeats no proxy's URL, which may contain a password. `connections` calls it.
"""

from __future__ import annotations

import ipaddress
import re
import sys

from .._runtime.forking import no_fork
from .._values.environment import has_proxy_variables
from ..errors import TransportError
from .addresses import Origin

# Systems where `urllib.request` reads the settings of the desktop too.
_DESKTOP_HAS_PROXIES = sys.platform == "darwin"


class ProxyRefusedError(TransportError):
    """A proxy refused, and will refuse the same again."""

    @classmethod
    def of_status(cls, status: int, proxy: str | None, what: str = "the request") -> ProxyRefusedError:
        """`proxy` is its host and port; None if no proxy is configured."""
        named = "a proxy between here and the store" if proxy is None else f"the proxy {proxy}"
        if status != 407:
            return cls(f"{named} refused {what} with status {status}")
        return cls(
            f"{named} refused {what} with status 407: it needs another user and password; give them in the URL of "
            "HTTP_PROXY or HTTPS_PROXY, or name the store in NO_PROXY"
        )


def _may_have_proxies() -> bool:
    return _DESKTOP_HAS_PROXIES or has_proxy_variables()


def load_proxies() -> None:
    """Imports what proxies need in the caller's thread, because workers import nothing. Most processes need nothing."""
    if _may_have_proxies():
        with no_fork():
            import urllib.request  # noqa: F401


def proxy_for(origin: Origin) -> str | None:
    """The URL of the proxy for this origin, with a scheme; None for a direct connection."""
    if not _may_have_proxies():
        return None
    with no_fork():
        from urllib.request import getproxies, getproxies_environment, proxy_bypass

    known = getproxies()
    proxy = known.get(origin.scheme) or known.get("all")
    if not proxy:
        return None
    if getproxies_environment():
        if needs_no_proxy(origin.host, origin.port, known.get("no", "")):
            return None
    elif proxy_bypass(f"{origin.host}:{origin.port}"):  # the settings of a desktop
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def needs_no_proxy(host: str, port: int, exceptions: str) -> bool:
    """Whether NO_PROXY contains this host.

    Its entries are separated by commas or blanks. ``*`` is every host. A name is that host and all below it, with or
    without a dot or ``*.`` before it. An address may be in any spelling, IPv6 with or without brackets, or a network in
    CIDR notation. An entry that ends in a port is for that port only. Other entries match no host.

    Args:
        host: a name or address, without brackets.
        exceptions: the variable's text.
    """
    address = _address(host)
    return any(_names(entry, host.lower().rstrip("."), address, port) for entry in re.split(r"[,\s]+", exceptions))


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _names(entry: str, host: str, address: _Address | None, port: int) -> bool:
    entry = entry.lower()
    if entry in ("", "*"):
        return bool(entry)
    if "/" in entry:
        return address is not None and _in_network(address, entry)
    name, only = _host_and_port(entry)
    if only is not None and only != port:
        return False
    if address is not None:
        return _address(name) == address
    name = name.removeprefix("*").lstrip(".").rstrip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _host_and_port(entry: str) -> tuple[str, int | None]:
    """The parts of ``host``, ``host:port``, ``[address]`` or ``[address]:port``; a bare IPv6 address has no port."""
    found = re.fullmatch(r"\[([^\]]*)\](?::([0-9]{1,5}))?", entry) or re.fullmatch(r"([^:]*)(?::([0-9]{1,5}))?", entry)
    if found is None:
        return entry, None
    return found[1], None if found[2] is None else int(found[2])


def _address(text: str) -> _Address | None:
    """The address, an IPv4 address written as IPv6 as IPv4; None for a name."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _in_network(address: _Address, entry: str) -> bool:
    try:
        return address in ipaddress.ip_network(entry.replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        return False
