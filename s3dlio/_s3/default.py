"""Which `Service` a call uses: the given client's, or the default one, made from the environment.

It is the only module-wide state of the request path. The public modules ask it at each call.
"""

from __future__ import annotations

import os
import threading
from typing import Protocol

from .._values.environment import environment_fingerprint
from ..config import ClientSettings
from .service import Service


class ClientLike(Protocol):
    """Anything that holds a `Service`: the public `Client`."""

    @property
    def service(self) -> Service: ...


_default_lock = threading.Lock()
_default: tuple[tuple[object, ...], Service] | None = None


def service_of(client: ClientLike | None) -> Service:
    """The client's service, or the default one, which is replaced when the environment names another store."""
    service = _default_service() if client is None else getattr(client, "service", None)
    if not isinstance(service, Service):
        raise TypeError(f"client={client!r} is not a Client; give one, or None for the default one")
    service.load()
    return service


def _default_service() -> Service:
    global _default
    environment = environment_fingerprint()
    with _default_lock:
        if _default is None or _default[0] != environment:
            _default = (environment, Service(ClientSettings()))
        return _default[1]


def _after_fork_in_child() -> None:
    global _default, _default_lock
    _default, _default_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
