"""`stat`, `cat`, `pipe` and `presign`: single objects."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

from .exits import UsageError, usage_errors
from .invocation import Invocation
from .listing import is_glob, say_nothing_found
from .text import stamp


def stat(invocation: Invocation) -> None:
    """Shows each object; one that is missing does not end it."""
    for uri in invocation.options.uris:
        try:
            found = invocation.client.stat(uri, version_id=invocation.options.version_id)
        except Exception as error:
            invocation.report.failed(error, uri=uri)
            continue
        fields = {name: getattr(found, name) for name in found.__dataclass_fields__}
        rows = {**fields, "size": invocation.size(found.size), "last_modified": stamp(found.last_modified)}
        rows |= {f"metadata.{name}": text for name, text in rows.pop("metadata").items()}
        lines = [f"{name:<18}  {value}" for name, value in rows.items() if value is not None]
        invocation.report.found("\n".join(lines), **fields)


def cat(invocation: Invocation) -> None:
    """Writes each object that the URIs select to stdout."""
    for uri in invocation.options.uris:
        try:
            for one in _each(invocation, uri):
                write(invocation, one)
        except Exception as error:
            invocation.report.failed(error, uri=uri)


def _each(invocation: Invocation, uri: str) -> Iterator[str]:
    if not is_glob(uri) and not uri.endswith("/"):
        yield uri
        return
    found = False
    for one in invocation.client.iter_objects(uri):
        found = True
        yield one.uri
    if not found:
        say_nothing_found(invocation, uri)


def write(invocation: Invocation, uri: str) -> None:
    """Writes an object, or a range of it, to stdout."""
    options, client = invocation.options, invocation.client
    byte_range = getattr(options, "byte_range", None)
    if byte_range is None:
        view = client.get(uri, version_id=options.version_id)
    else:
        first, last = byte_range
        if first is None:  # the last bytes, of which there may be fewer
            size = client.stat(uri, version_id=options.version_id).size or 0
            first, last = max(0, size - last), None
        length = None if last is None else last - first + 1
        view = client.get_range(uri, first, length, version_id=options.version_id)
    size = len(view)
    with view:
        invocation.report.console.bytes(view)
    invocation.report.did("", uri=uri, size=size)


def pipe(invocation: Invocation) -> None:
    """Stores what comes from stdin, of any length; parts are sent while more is read."""
    options = invocation.options
    if sys.stdin is None:
        raise UsageError("stdin is closed; send the data there")
    if sys.stdin.isatty():
        raise UsageError("stdin is a terminal; send the data there, as in: tar c folder | s3dlio pipe s3://bucket/key")
    with invocation.progress() as progress:
        progress.expect(size=None)
        store(invocation, sys.stdin.fileno(), options.uri, progress)


def store(invocation: Invocation, descriptor: int, uri: str, progress: Any) -> None:
    """Stores what a descriptor yields until its end."""
    client = invocation.client
    with usage_errors():
        writer = client.writer(uri, **headers_of(invocation), progress=progress.of_one())
    with writer:
        while True:
            space = writer.reserve(writer.part_size)
            filled = _fill(descriptor, space)
            writer.commit(filled)
            if not filled:
                break
    info = writer.close()
    invocation.report.did(
        f"upload: - to {uri}", source="-", destination=uri, size=info.total_bytes, etag=info.etag,
        version_id=info.version_id,
    )  # fmt: skip


def _fill(descriptor: int, space: memoryview) -> int:
    """Reads until the space is full or the data ends; the bytes read."""
    filled = 0
    while filled < len(space):
        got = os.readv(descriptor, [space[filled:]])
        if not got:
            break
        filled += got
    return filled


def headers_of(invocation: Invocation) -> Any:
    """The options of an upload that were given."""
    options = invocation.options
    names = (
        "content_type", "cache_control", "content_encoding", "content_disposition", "storage_class", "part_size",
        "expected_size",
    )  # fmt: skip
    given = {name: getattr(options, name, None) for name in names}
    if options.metadata:
        given["metadata"] = dict(options.metadata)
    if options.no_overwrite:
        given["if_none_match"] = "*"
    return {name: value for name, value in given.items() if value is not None}


def presign(invocation: Invocation) -> None:
    """Signs a URL for each object. No request is sent."""
    options = invocation.options
    for uri in options.uris:
        client = invocation.client
        with usage_errors():
            signed = client.presign(
                uri,
                method=options.method,
                expires=options.expires,
                version_id=options.version_id,
                headers=dict(options.header or ()) or None,
                response_headers=dict(options.response_header or ()) or None,
            )
        invocation.report.found(
            signed.url, uri=uri, url=signed.url, method=signed.method, headers=signed.headers,
            expires_at=signed.expires_at,
        )  # fmt: skip
