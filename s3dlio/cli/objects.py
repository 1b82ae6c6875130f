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

# Bytes up to which a range is fetched by one call, and those of one read of a longer one.
LARGE = 64 << 20
CHUNK = 8 << 20


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
    """Writes an object, or a range of it, to stdout, in bounded memory."""
    byte_range = getattr(invocation.options, "byte_range", None)
    chunks = _whole(invocation, uri) if byte_range is None else _part(invocation, uri, *byte_range)
    size = 0
    for chunk in chunks:
        invocation.report.console.bytes(chunk)
        size += len(chunk)
    invocation.report.did("", uri=uri, size=size)


def _whole(invocation: Invocation, uri: str) -> Iterator[Any]:
    with invocation.client.get_iter(uri, version_id=invocation.options.version_id) as chunks:
        for chunk in chunks:
            with chunk:
                yield chunk


def _part(invocation: Invocation, uri: str, first: int | None, last: int | None) -> Iterator[Any]:
    """The bytes from `first` to `last`, both included; without `first` the last ones, without `last` all the others."""
    client, version = invocation.client, invocation.options.version_id
    if first is not None and last is not None and last - first < LARGE:
        with client.get_range(uri, first, last - first + 1, version_id=version) as view:
            yield view
        return
    with client.open(uri, "rb", version_id=version) as file:
        size = file.seek(0, os.SEEK_END)
        if first is None:  # there may be fewer
            first, last = max(0, size - (last or 0)), size - 1
        elif first and first >= size:
            client.get_range(uri, first, version_id=version)  # says so as the store does
        left = min(size, size if last is None else last + 1) - file.seek(first)
        while left > 0 and (data := file.read(min(left, CHUNK))):
            left -= len(data)
            yield data


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
