"""`ls` and `du`: what a bucket holds, and how much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .filters import root_of
from .invocation import Invocation
from .text import stamp

if TYPE_CHECKING:
    import s3dlio


def ls(invocation: Invocation) -> None:
    """Lists the buckets, or what each URI selects."""
    if not invocation.options.uris:
        _list_buckets(invocation)
    for uri in invocation.options.uris:
        _list(invocation, uri)


def _list_buckets(invocation: Invocation) -> None:
    for bucket in invocation.client.list_buckets():
        uri = f"s3://{bucket.name}"
        _show(invocation, uri, f"{stamp(bucket.created_at):>20}  {uri}", created_at=bucket.created_at)


def _list(invocation: Invocation, uri: str) -> None:
    recursive = invocation.options.recursive or is_glob(uri)
    before = invocation.report.succeeded
    filters, start = invocation.filters, len(root_of(uri))
    for page in invocation.client.iter_objects(uri, recursive=recursive).pages():
        # Both are in the store's order, which is that of the bytes.
        prefixes = sorted(page.prefixes, key=_as_bytes, reverse=True)
        for found in page.objects:
            while prefixes and _as_bytes(prefixes[-1]) < _as_bytes(found.uri):
                _show_prefix(invocation, prefixes.pop(), filters.allow, start)
            if filters.allow(found.uri[start:]):
                _show_object(invocation, found)
        while prefixes:
            _show_prefix(invocation, prefixes.pop(), filters.allow, start)
    if invocation.report.succeeded == before:
        say_nothing_found(invocation, uri)


def _as_bytes(uri: str) -> bytes:
    return uri.encode("utf-8", "surrogateescape")


def _show_object(invocation: Invocation, found: s3dlio.ObjectInfo) -> None:
    line = f"{stamp(found.last_modified):>20}  {invocation.size(found.size):>12}  {found.uri}"
    _show(
        invocation, found.uri, line, size=found.size, last_modified=found.last_modified, etag=found.etag,
        storage_class=found.storage_class,
    )  # fmt: skip


def _show_prefix(invocation: Invocation, uri: str, allows: Callable[[str], bool], start: int) -> None:
    if allows(uri[start:]):
        _show(invocation, uri, f"{'':20}  {'PREFIX':>12}  {uri}", prefix=True)


def _show(invocation: Invocation, uri: str, line: str, **fields: object) -> None:
    options = invocation.options
    only = options.only_uris or options.null
    invocation.report.found(uri if only else line, end="\0" if options.null else "\n", uri=uri, **fields)


def du(invocation: Invocation) -> None:
    """Adds up the objects that each URI selects, and those of its prefixes where a depth is given."""
    for uri in invocation.options.uris:
        _add_up(invocation, uri)


def _add_up(invocation: Invocation, uri: str) -> None:
    depth, start = invocation.options.max_depth, len(root_of(uri))
    sums: dict[str, list[int]] = {}
    total = [0, 0]
    with invocation.progress() as progress:
        progress.expect_more()
        for page in selected(invocation, uri):
            for found in page:
                size = found.size or 0
                levels = found.uri[start:].split("/")[:-1]
                at = found.uri[:start]
                for level in levels[:depth]:
                    at += level + "/"
                    below = sums.setdefault(at, [0, 0])
                    below[0] += size
                    below[1] += 1
                total[0] += size
                total[1] += 1
            progress.add(sum(found.size or 0 for found in page), len(page))
    if not total[1] and say_nothing_found(invocation, uri):
        return
    for prefix, (size, count) in sums.items():
        _show_sum(invocation, prefix, size, count)
    _show_sum(invocation, uri, total[0], total[1])


def _show_sum(invocation: Invocation, uri: str, size: int, count: int) -> None:
    line = f"{invocation.size(size):>16}  {count:>12}  {uri}"
    invocation.report.found(line, uri=uri, size=size, objects=count)


def selected(invocation: Invocation, uri: str) -> Iterator[list[s3dlio.ObjectInfo]]:
    """The objects that a URI selects and the filters leave, page by page."""
    filters, start = invocation.filters, len(root_of(uri))
    for page in invocation.client.iter_objects(uri).pages():
        objects = page.objects
        yield [found for found in objects if filters.allow(found.uri[start:])] if filters.rules else objects


def is_glob(uri: str) -> bool:
    """Whether it has a character that makes a glob."""
    return any(one in uri for one in "*?[")


def say_nothing_found(invocation: Invocation, uri: str) -> bool:
    """Says that a URI selects nothing, and what may have been meant; False for an empty bucket, which is something."""
    if not uri.removeprefix("s3://").rstrip("/").count("/"):
        return False
    meant = ""
    if not uri.endswith("/") and not is_glob(uri):
        below = invocation.client.iter_objects(uri + "/")
        meant = f"; for what lies below it write {uri}/" if next(below, None) is not None else ""
        below.close()
    invocation.report.nothing_found(f"{uri}: nothing found{meant}", uri=uri)
    return True
