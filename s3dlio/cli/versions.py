"""`versions`: every version and delete marker, and how to bring objects back."""

from __future__ import annotations

from .invocation import Invocation
from .listing import say_nothing_found
from .text import stamp


def versions(invocation: Invocation) -> None:
    """Lists the versions that each URI selects, or removes the markers that hide objects."""
    for uri in invocation.options.uris:
        if invocation.options.undelete:
            _undelete(invocation, uri)
        else:
            _list(invocation, uri)


def _list(invocation: Invocation, uri: str) -> None:
    before = invocation.report.succeeded
    for one in invocation.client.list_versions(uri):
        kind = "marker" if one.is_delete_marker else "object"
        latest = "latest" if one.is_latest else ""
        line = (
            f"{stamp(one.last_modified):>20}  {invocation.size(one.size):>12}  {kind} {latest:<6}  "
            f"{one.version_id}  {one.uri}"
        )
        fields = {name: getattr(one, name) for name in one.__dataclass_fields__}
        invocation.report.found(line, **fields)
    if invocation.report.succeeded == before:
        say_nothing_found(invocation, uri)


def _undelete(invocation: Invocation, uri: str) -> None:
    for one in invocation.client.list_versions(uri):
        if not (one.is_latest and one.is_delete_marker):
            continue
        try:
            invocation.client.delete(one.uri, version_id=one.version_id)
        except Exception as error:
            invocation.report.failed(error, source=one.uri)
            continue
        invocation.report.did(f"undelete: {one.uri}", source=one.uri, version_id=one.version_id)
