"""`rm`: deletes objects, or all versions of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from .exits import UsageError
from .filters import root_of
from .invocation import Invocation
from .listing import is_glob, selected

# URIs that one call of the library gets: enough for batches of 1,000 on several connections.
AT_ONCE = 10_000


def rm(invocation: Invocation) -> None:
    """Deletes what each URI selects. That an object is missing is success."""
    options = invocation.options
    for uri in options.uris:
        _check(invocation, uri)
    for uri in options.uris:
        if options.all_versions:
            _remove_versions(invocation, uri)
        elif is_glob(uri) or options.recursive:
            _remove_selected(invocation, uri)
        else:
            _remove_one(invocation, uri)
    invocation.report.summary("deleted", dry_run=options.dry_run)


def _check(invocation: Invocation, uri: str) -> None:
    """Refuses what may be meant otherwise, before anything is deleted."""
    options = invocation.options
    several = uri.endswith("/") or is_glob(uri) or not uri.removeprefix("s3://").count("/")
    if options.recursive and not several:
        raise UsageError(f"{uri} names one object; write {uri}/ with --recursive for what lies below it")
    if several and not is_glob(uri) and not options.recursive and not options.all_versions:
        raise UsageError(f"{uri} stands for what lies below it; delete that with --recursive")
    if options.version_id is not None and (several or options.all_versions):
        raise UsageError(f"--version-id with {uri}, of which several versions would be deleted; name one object")
    if options.all_versions and invocation.filtered:
        raise UsageError("--all-versions deletes all that a URI selects; it takes no --include and --exclude")
    if root_of(uri).count("/") == 3 and uri.rstrip("/") == root_of(uri).rstrip("/") and not options.dry_run:
        what = "all versions of all objects" if options.all_versions else "all objects"
        invocation.confirm(f"delete {what} of {uri}")


def _remove_one(invocation: Invocation, uri: str) -> None:
    version = invocation.options.version_id
    if not invocation.options.dry_run:
        try:
            invocation.client.delete(uri, version_id=version)
        except Exception as error:
            invocation.report.failed(error, source=uri)
            return
    _say(invocation, uri, version)


def _say(invocation: Invocation, uri: str, version: str | None = None) -> None:
    of_version = "" if version is None else f" (version {version})"
    fields: dict[str, Any] = {} if version is None else {"version_id": version}
    invocation.report.did(f"delete: {uri}{of_version}", source=uri, **fields)


def _remove_selected(invocation: Invocation, uri: str) -> None:
    with invocation.progress() as progress:
        progress.expect_more()
        for uris in _chunks(invocation, uri):
            _remove(invocation, uris)
            progress.add(items=len(uris))


def _chunks(invocation: Invocation, uri: str) -> Iterator[list[str]]:
    """URIs to delete; where there is a limit, all of them are listed before the first is deleted."""
    found: Iterator[str] = (one.uri for page in selected(invocation, uri) for one in page)
    most = invocation.options.max_delete
    if most is not None:
        first = list(itertools.islice(found, most + 1))
        if len(first) > most:
            raise UsageError(f"{uri} selects more than --max-delete {most}; nothing was deleted")
        found = iter(first)
    while chunk := list(itertools.islice(found, AT_ONCE)):
        yield chunk


def _remove(invocation: Invocation, uris: list[str]) -> None:
    import s3dlio

    failed: dict[str, Exception] = {}
    if not invocation.options.dry_run:
        try:
            invocation.client.delete(uris)
        except s3dlio.ManyFailedError as error:
            failed = error.failed
        except s3dlio.S3dlioError as error:
            failed = dict.fromkeys(uris, error)
    for uri in uris:
        if uri in failed:
            invocation.report.failed(failed[uri], source=uri)
        else:
            _say(invocation, uri)


def _remove_versions(invocation: Invocation, uri: str) -> None:
    import s3dlio

    found = [(one.uri, one.version_id) for one in invocation.client.list_versions(uri)]
    most = invocation.options.max_delete
    if most is not None and len(found) > most:
        raise UsageError(f"{uri} selects {len(found)} versions, more than --max-delete {most}; nothing was deleted")
    failed: dict[str, Exception] = {}
    if found and not invocation.options.dry_run:
        try:
            invocation.client.delete_all_versions(uri)
        except s3dlio.ManyFailedError as error:
            failed = error.failed
    for one, version in found:
        name = f"{one} (version {version})"
        if name in failed:
            invocation.report.failed(failed[name], source=one, version_id=version)
        else:
            _say(invocation, one, version)
