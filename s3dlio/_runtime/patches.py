"""Refuses to work in a process whose threads or sockets gevent or eventlet have replaced.

The library waits in native code, on native threads. A greenlet in place of a driver thread never yields to the thread
that waits for it, and a socket that yields while a lock is held lets another greenlet of the same thread wait for that
lock: both hang the process forever, even against Ctrl-C. Modules may be replaced before this package is imported or
after, so every call, every request and every new thread checks here. It imports neither library.
"""

from __future__ import annotations

import sys
from typing import Any

from ..errors import ConfigurationError

# Modules that must be the standard library's own, by each library's names for them, and the call that keeps them so.
_GEVENT = ("threading", "queue", "socket", "ssl", "select")
_GEVENT_REMEDY = "monkey.patch_all(thread=False, queue=False, socket=False, dns=False, ssl=False, select=False)"
_EVENTLET = ("thread", "socket", "select")
_EVENTLET_REMEDY = "eventlet.monkey_patch(thread=False, socket=False, select=False)"


def refuse_patches() -> None:
    """Raises ConfigurationError, with the remedies, if a module that the library waits with was replaced."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None:
        _refuse(gevent, "is_module_patched", _GEVENT, "gevent", _GEVENT_REMEDY)
    if eventlet is not None:
        _refuse(eventlet, "is_monkey_patched", _EVENTLET, "eventlet", _EVENTLET_REMEDY)


def _refuse(library: Any, question: str, names: tuple[str, ...], called: str, remedy: str) -> None:
    is_patched = getattr(library, question, None)  # None while another thread imports it
    replaced = [name for name in names if is_patched is not None and is_patched(name)]
    if replaced:
        raise ConfigurationError(
            f"{called} has replaced {', '.join(replaced)} in this process, and s3dlio would hang with these; "
            f"leave these modules as they are, by {remedy}, or use s3dlio in a subprocess that is not patched"
        )
