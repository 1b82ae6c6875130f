"""Writes and signs the heads of HTTP requests: of one, or of many that are sent on one connection.

The only writer of request heads. It sends nothing. `attempts` calls it.
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
    requests: Sequence[Request],
    targets: Sequence[Target],
    lease: Lease,
    signer: Signer,
    signed: SignedWith,
    now: datetime | None = None,
) -> list[bytes]:
    """The heads of requests of one method and host that have the same header names, signed for one instant.

    Args:
        targets: one for each request.
        lease: the connection they go over; a proxy changes the request line.
        signed: region, credentials and clock offset to sign with.
        now: the instant to sign for; None for the store's present time.
    """
    first, target = requests[0], targets[0]
    headers = [_headers(request) for request in requests]
    varying = []
    if len(headers) > 1:
        varying = [name for name in headers[0] if len({one[name] for one in headers}) > 1]
    same = {"host": target.host_header, "user-agent": USER_AGENT}
    same.update((name, value) for name, value in headers[0].items() if name not in varying)
    prepared = None
    if signed.credentials is not None:
        prepared = signer.prepare(
            method=first.method, host=target.host_header, headers=same, varying=varying,
            credentials=signed.credentials, region=signed.region, now=now or _store_time(signed),
        )  # fmt: skip
        same = prepared.fixed
    prefix = ""
    if lease.origin_form_absolute:
        prefix = f"{target.origin.scheme}://{target.host_header}"
        same = {**same, **lease.proxy_headers}
    fixed = "".join(f"{name}: {value}\r\n" for name, value in same.items())
    heads = []
    for one, where in zip(headers, targets, strict=True):
        values = [one[name] for name in varying]
        path = f"{where.path}?{where.query_string}" if where.query_string else where.path
        text = f"{first.method} {prefix}{path} HTTP/1.1\r\n{fixed}"
        for name, value in zip(varying, values, strict=True):
            text += f"{name}: {value}\r\n"
        if prepared is not None:
            text += f"authorization: {prepared.authorization(where.path, where.query_string, values)}\r\n"
        heads.append(f"{text}\r\n".encode("ascii"))
    return heads


def _headers(request: Request) -> Mapping[str, str]:
    if not request.body and request.method not in ("PUT", "POST"):
        return request.headers
    return {**request.headers, "content-length": str(request.body_length)}


def _store_time(signed: SignedWith) -> datetime | None:
    """The store's time, where its clock is known to differ from ours."""
    return datetime.now(UTC) + timedelta(seconds=signed.clock_offset) if signed.clock_offset else None
