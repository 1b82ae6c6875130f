"""Runs one transfer against the scripted peer and prints every function of the package that it calls, in order.

Run as a program of its own (``python walk.py reservation``), because only threads that start later are profiled.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

from small_store import client_of, running_peer

import s3dlio

CALLS: list[str] = []
MIB = 1 << 20


def _record(frame: Any, event: str, function: Any) -> None:
    if event == "call":
        module, name = frame.f_globals.get("__name__", ""), frame.f_code.co_qualname
    elif event == "c_call":
        owner = getattr(function, "__self__", None)
        module = getattr(function, "__module__", None) or type(owner).__module__
        name = getattr(function, "__qualname__", "")
    else:
        return
    if module.startswith("s3dlio."):
        CALLS.append(f"{module.removeprefix('s3dlio.')}.{name}")


def reservation(client: s3dlio.Client) -> None:
    """Three parts, of which the last is short."""
    with client.writer("s3://bucket/key", part_size=5 * MIB) as writer:
        for size in (5 * MIB, 5 * MIB, MIB):
            writer.reserve(size)[:] = bytes(size)
            writer.commit(size)


def ranged_get(client: s3dlio.Client) -> None:
    client.get("s3://bucket/large", range_optimization=True, range_threshold=MIB, chunk_size=MIB)


def small_object(client: s3dlio.Client) -> None:
    client.get_many([f"s3://bucket/small{i}" for i in range(8)])


WAYS = {"reservation": reservation, "ranged_get": ranged_get, "small_object": small_object}


def main(way: str) -> None:
    with running_peer() as peer:
        peer.objects["/bucket/large"] = bytes(8 * MIB)
        peer.objects.update({f"/bucket/small{i}": bytes(4096) for i in range(8)})
        with client_of(peer) as client:
            threading.setprofile(_record)
            sys.setprofile(_record)
            try:
                WAYS[way](client)
            finally:
                sys.setprofile(None)
                threading.setprofile(None)
    print(json.dumps(CALLS))


if __name__ == "__main__":
    main(sys.argv[1])
