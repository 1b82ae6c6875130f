"""`uploads`: multipart uploads in progress, or left behind."""

from __future__ import annotations

from typing import Any

from .exits import UsageError
from .invocation import Invocation
from .text import stamp


def uploads(invocation: Invocation) -> None:
    """Lists the uploads that each URI selects, or aborts those that are old."""
    options = invocation.options
    if options.abort != (options.older_than is not None):
        raise UsageError("give --abort and --older-than together, as in --abort --older-than 7d")
    for uri in options.uris:
        if options.abort:
            found = invocation.client.abort_uploads(uri, older_than=options.older_than)
        else:
            found = invocation.client.list_uploads(uri)
        for one in found:
            fields: dict[str, Any] = {"uri": one.uri, "upload_id": one.upload_id, "started_at": one.started_at}
            if options.abort:
                invocation.report.did(f"abort: {one.uri} (upload {one.upload_id})", **fields)
            else:
                invocation.report.found(f"{stamp(one.started_at):>20}  {one.upload_id}  {one.uri}", **fields)
