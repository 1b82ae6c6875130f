"""`cp` and `mv`: between files and objects, and between objects, one or many.

The library gets folders, prefixes and globs whole, or in groups where filters choose among them. A dry run plans with
`planning`, and prints the same lines in the same order.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import s3dlio

from .exits import UsageError
from .invocation import Invocation
from .listing import is_glob, say_nothing_found
from .objects import headers_of, store, write
from .parallel import each
from .planning import Step, escapes, grouped, is_prefix, is_uri, plan_copies, plan_downloads, plan_uploads, step_of

if TYPE_CHECKING:
    from .progress import Progress

# What a store answers about an object that has to be restored from an archive first.
ARCHIVED = "InvalidObjectState"


def cp(invocation: Invocation) -> None:
    """Copies each source to the destination."""
    _transfer(invocation, moves=False)


def mv(invocation: Invocation) -> None:
    """Copies each source, and deletes those that were copied."""
    _transfer(invocation, moves=True)


def _transfer(invocation: Invocation, *, moves: bool) -> None:
    options = invocation.options
    for source in options.sources:
        _check(invocation, source, options.destination, moves)
    with invocation.progress() as progress:
        for source in options.sources:
            _one_source(invocation, source, progress, moves)
    if "-" not in (*options.sources, options.destination):
        invocation.report.summary("moved" if moves else "copied", dry_run=options.dry_run)


def _one_source(invocation: Invocation, source: str, progress: Progress, moves: bool) -> None:
    destination = invocation.options.destination
    if source == "-":
        progress.expect(size=None)
        store(invocation, sys.stdin.fileno(), destination, progress)
    elif destination == "-":
        write(invocation, source)
    elif is_uri(source) and is_uri(destination):
        _copy(invocation, source, progress, moves)
    elif invocation.options.dry_run or invocation.filtered:
        _planned(invocation, source, progress, moves)
    else:
        found = _run(invocation, source, destination, progress, moves)
        if not found and not invocation.report.failed_count and is_uri(source):
            say_nothing_found(invocation, source)


def _check(invocation: Invocation, source: str, destination: str, moves: bool) -> None:
    """Refuses what cannot be meant, before anything is transferred."""
    options = invocation.options
    if not is_uri(source) and not is_uri(destination):
        raise UsageError(f"neither {source} nor {destination} is an S3 URI such as s3://bucket/key")
    if "-" in (source, destination):
        _check_stream(invocation, source, destination, moves)
        return
    if is_uri(source):
        if is_prefix(source) and not options.recursive:
            raise UsageError(f"{source} stands for what lies below it; copy that with --recursive")
        if options.recursive and not is_prefix(source) and not is_glob(source):
            raise UsageError(f"{source} names one object; write {source}/ with --recursive for what lies below it")
    elif os.path.isdir(source) and not options.recursive:
        raise UsageError(f"{source} is a folder; copy what it holds with --recursive")
    if len(options.sources) > 1 and is_uri(destination) and not is_prefix(destination):
        raise UsageError(f"several sources go below a prefix; write {destination}/")
    onto = destination.startswith(source) if is_prefix(source) else destination == source
    if is_uri(source) and onto:
        raise UsageError(f"{source} cannot be copied onto itself")


def _check_stream(invocation: Invocation, source: str, destination: str, moves: bool) -> None:
    options, uri = invocation.options, destination if source == "-" else source
    if moves or len(options.sources) > 1 or options.dry_run or options.recursive:
        raise UsageError("- stands for a stream: cp copies one, to or from one object, and not in a dry run")
    if is_prefix(uri) or (destination == "-" and is_glob(uri)):
        raise UsageError(f"{uri} names no object; - needs one, as in s3://bucket/key")


# ------------------------------------------------------------------------------------------ files and objects


def _planned(invocation: Invocation, source: str, progress: Progress, moves: bool) -> None:
    """Transfers what the filters leave, group by group; or says what would be transferred."""
    options, uploads = invocation.options, not is_uri(source)
    plan = plan_uploads if uploads else plan_downloads
    steps = sorted(plan(invocation, source, options.destination))
    if not steps:
        invocation.report.nothing_found(f"{source}: nothing found", source=source)
    if options.dry_run:
        _say(invocation, steps, _verb(invocation, source, moves))
        return
    if len(steps) == 1 and steps[0].source == source:
        _run(invocation, source, options.destination, progress, moves)
        return
    if not uploads:
        steps = [step for step in steps if not _refuse_escaping(invocation, step)]
    for below, group in grouped(steps):
        _run(invocation, [one.source for one in group], below, progress, moves)


def _refuse_escaping(invocation: Invocation, step: Step) -> bool:
    if not escapes(invocation.options.destination, step):
        return False
    error = s3dlio.S3dlioError(f"the key of {step.source} would be a file outside {invocation.options.destination}")
    invocation.report.failed(error, source=step.source)
    return True


def _verb(invocation: Invocation, source: str, moves: bool) -> str:
    if moves:
        return "move"
    return "copy" if is_uri(source) and is_uri(invocation.options.destination) else _direction(source)


def _direction(source: str) -> str:
    return "download" if is_uri(source) else "upload"


def _run(invocation: Invocation, source: str | list[str], below: str, progress: Progress, moves: bool) -> int:
    """Calls the library, and reports each file; how many there were."""
    first = source if isinstance(source, str) else source[0]
    verb, report = _verb(invocation, first, moves), invocation.report
    done: list[Step] = []
    refused: dict[str, Exception] = {}
    skipped: list[s3dlio.SkippedFile] = []
    try:
        result = _call(invocation, source, below, progress)()
    except s3dlio.ManyFailedError as error:
        refused = error.failed
        done = [step_of(source, below, uri) for uri in error.succeeded]
    except Exception as error:
        failed(invocation, error, first)
        return 1
    else:
        skipped = result.skipped
        uploads = not is_uri(first)
        for one in result.transferred:
            done.append(Step(one.path, one.uri, one.size) if uploads else Step(one.uri, one.path, one.size))
    _say(invocation, [one for one in sorted(done) if not moves or _remove(invocation, one)], verb)
    for kept in skipped:
        report.kept(f"{kept.uri}: skipped, both sides have the same bytes", uri=kept.uri, path=kept.path)
    for uri, one_error in sorted(refused.items()):
        failed(invocation, one_error, uri, several=True)
    return len(done) + len(skipped) + len(refused)


def _call(
    invocation: Invocation, source: str | list[str], below: str, progress: Progress
) -> Callable[[], s3dlio.TransferResult]:
    options, client = invocation.options, invocation.client
    settings: Any = {
        "skip_existing": options.skip_existing,
        "resume": options.resume,
        "preserve_times": options.preserve_times,
        "progress": progress.of_many(),
    }
    if options.jobs is not None:
        settings["max_in_flight"] = options.jobs
    if is_uri(source if isinstance(source, str) else source[0]):
        return lambda: client.download(source, below, **settings)
    settings |= {**headers_of(invocation), "follow_symlinks": not options.no_follow_symlinks}
    return lambda: client.upload(source, below, **settings)


def _say(invocation: Invocation, steps: list[Step], verb: str) -> None:
    for step in steps:
        step = Step(step.source.removeprefix("./"), step.destination.removeprefix("./"), step.size)
        line = f"{verb}: {step.source} to {step.destination}"
        invocation.report.did(line, source=step.source, destination=step.destination, size=step.size)


def failed(invocation: Invocation, error: Exception, uri: str, *, several: bool = False) -> None:
    """Counts an error. An archived object, and one of many files that cannot be read, are skipped with a warning."""
    of_file = isinstance(error, PermissionError | FileNotFoundError) and not isinstance(error, s3dlio.S3dlioError)
    if getattr(error, "code", None) == ARCHIVED or (several and of_file and is_uri(invocation.options.destination)):
        invocation.report.warned(f"skipped: {error}", source=uri)
    else:
        invocation.report.failed(error, source=uri)


# ------------------------------------------------------------------------------------------ objects to objects


def _copy(invocation: Invocation, source: str, progress: Progress, moves: bool) -> None:
    options, client, report = invocation.options, invocation.client, invocation.report
    verb = _verb(invocation, source, moves)
    steps = plan_copies(invocation, source, options.destination)
    if options.dry_run:
        _say(invocation, list(steps), verb)
        return
    progress.expect_more()

    def copy(step: Step) -> None:
        try:
            client.copy(step.source, step.destination)
        except Exception as error:
            failed(invocation, error, step.source)
            return
        if not moves or _remove(invocation, step):
            progress.add(items=1)
            _say(invocation, [step], verb)

    if not each(steps, copy, options.jobs or 16) and not report.failed_count:
        say_nothing_found(invocation, source)


def _remove(invocation: Invocation, step: Step) -> bool:
    """Deletes the source of what was moved."""
    try:
        if is_uri(step.source):
            invocation.client.delete([step.source])
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(step.source)
    except Exception as error:
        failed(invocation, error, step.source)
        return False
    return True
