"""`mb` and `rb`: buckets."""

from __future__ import annotations

from .invocation import Invocation


def mb(invocation: Invocation) -> None:
    """Creates each bucket; one that is the caller's already is success."""
    for uri in invocation.options.uris:
        try:
            created = invocation.client.create_bucket(uri)
        except Exception as error:
            invocation.report.failed(error, uri=uri)
            continue
        invocation.report.did(f"create: {uri}" if created else f"yours already: {uri}", uri=uri, created=created)


def rb(invocation: Invocation) -> None:
    """Deletes each bucket, which has to be empty, or is emptied first."""
    force = invocation.options.force
    if force:
        for uri in invocation.options.uris:
            invocation.confirm(f"delete {uri} and all that it holds, every version of it")
    for uri in invocation.options.uris:
        try:
            emptied = invocation.client.delete_all_versions(uri.rstrip("/") + "/") if force else 0
            invocation.client.delete_bucket(uri)
        except Exception as error:
            invocation.report.failed(error, uri=uri)
            continue
        invocation.report.did(f"delete: {uri}", uri=uri, versions_deleted=emptied)
