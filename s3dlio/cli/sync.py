"""`sync`: makes a folder or prefix like another, and says each thing that it did."""

from __future__ import annotations

from typing import Any

import s3dlio

from .exits import UsageError
from .invocation import Invocation
from .objects import headers_of
from .planning import is_uri, step_of
from .transfers import failed


def sync(invocation: Invocation) -> None:
    """Transfers what differs, and deletes the rest where that is asked for."""
    options, report = invocation.options, invocation.report
    if not is_uri(options.source) and not is_uri(options.destination):
        raise UsageError(f"neither {options.source} nor {options.destination} is an S3 URI such as s3://bucket/prefix/")
    unchanged = 0
    with invocation.progress() as progress:
        try:
            result = invocation.client.sync(
                options.source, options.destination, **_settings(invocation), progress=progress.of_many()
            )
        except s3dlio.ManyFailedError as error:
            _partly(invocation, error)
        except s3dlio.ConfigurationError as error:
            raise UsageError(str(error)) from None
        else:
            unchanged = result.unchanged
            for action in result.actions:
                _say(invocation, action)
    report.summary(f"changed, {unchanged} unchanged", dry_run=options.dry_run)


def _settings(invocation: Invocation) -> dict[str, Any]:
    options = invocation.options
    return {
        **headers_of(invocation),
        "delete": options.delete,
        "max_delete": options.max_delete,
        "allow_empty": options.allow_empty,
        "size_only": options.size_only,
        "checksum_always": options.checksum,
        "filters": options.filters or (),
        "dry_run": options.dry_run,
        "resume": options.resume,
        "follow_symlinks": not options.no_follow_symlinks,
        "max_in_flight": options.jobs,
    }


def _say(invocation: Invocation, action: s3dlio.SyncAction) -> None:
    if action.source is None:
        invocation.report.did(f"{action.operation}: {action.target}", source=action.target)
        return
    line = f"{action.operation}: {action.source} to {action.target}"
    invocation.report.did(line, source=action.source, destination=action.target, size=action.size)


def _partly(invocation: Invocation, error: s3dlio.ManyFailedError) -> None:
    """Says what was done and what was not; the error names objects alone."""
    options = invocation.options
    verb = "copy" if is_uri(options.source) and is_uri(options.destination) else "upload"
    verb = verb if is_uri(options.destination) else "download"
    for uri in error.succeeded:
        step = step_of(options.source, options.destination, uri)
        _say(invocation, s3dlio.SyncAction(verb, step.source, step.destination, None))
    for uri, one in sorted(error.failed.items()):
        failed(invocation, one, uri, several=True)
