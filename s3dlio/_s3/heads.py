"""The one writer of request heads, signed: of one request, or of many that are alike.

It only writes; `exchanges` and `attempts` send. A single request is a list of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from .._net.addresses import Target
from .failures import SignedWith
from .requests import Request
from .signing import Signer

if TYPE_CHECKING:
    from .._net.connections import Lease

USER_AGENT = "s3dlio"


def write_heads(
    requests: Sequence[Request], targets: Sequence[Target], lease: Lease, signer: Signer, signed: SignedWith
) -> list[bytes]:
    """The heads of requests of one method and host that name the same headers, signed for one instant."""
    first, target = requests[0], targets[0]
    written = [_headers(request) for request in requests]
    varying = [name for name in written[0] if len({one[name] for one in written}) > 1] if len(requests) > 1 else []
    same = {"host": target.host_header, "user-agent": USER_AGENT}
    same.update((name, value) for name, value in written[0].items() if name not in varying)
    prepared = None
    if signed.credentials is not None:
        prepared = signer.prepare(
            method=first.method, host=target.host_header, headers=same, varying=varying,
            credentials=signed.credentials, region=signed.region, now=_now(signed),
        )  # fmt: skip
        same = prepared.fixed
    prefix = ""
    if lease.origin_form_absolute:
        prefix = f"{target.origin.scheme}://{target.host_header}"
        same = {**same, **lease.proxy_headers}
    fixed = "".join([f"{name}: {value}\r\n" for name, value in same.items()])
    made = []
    for one, where in zip(written, targets, strict=True):
        values = [one[name] for name in varying]
        path = f"{where.path}?{where.query_string}" if where.query_string else where.path
        text = f"{first.method} {prefix}{path} HTTP/1.1\r\n{fixed}"
        for name, value in zip(varying, values, strict=True):
            text += f"{name}: {value}\r\n"
        if prepared is not None:
            text += f"authorization: {prepared.authorization(where.path, where.query_string, values)}\r\n"
        made.append(f"{text}\r\n".encode("ascii"))
    return made


def _headers(request: Request) -> Mapping[str, str]:
    length = request.body_length
    if not length and request.method not in ("PUT", "POST"):
        return request.headers
    return {**request.headers, "content-length": str(length)}


def _now(signed: SignedWith) -> datetime | None:
    """The store's time, where it has told that ours is wrong."""
    return datetime.now(UTC) + timedelta(seconds=signed.clock_offset) if signed.clock_offset else None
