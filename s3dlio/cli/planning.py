"""Which file becomes which object, and the other way round: what a transfer would do, without doing it.

The rules are those of the library's `upload` and `download`; tests compare the two.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from .exits import UsageError
from .filters import root_of
from .invocation import Invocation
from .listing import is_glob, selected


class Step(NamedTuple):
    """One file or object, and what it becomes."""

    source: str
    destination: str
    size: int | None


def is_uri(text: str) -> bool:
    """Whether it names something on a store."""
    return text[:5].lower() == "s3://"


def is_prefix(uri: str) -> bool:
    """Whether what is copied there goes below it: it ends in ``/``, or is a bucket."""
    return uri.endswith("/") or uri.count("/") < 3


def plan_uploads(invocation: Invocation, source: str, uri: str) -> Iterator[Step]:
    """The files that a path stands for, in no order.

    Raises:
        FileNotFoundError: there is no such path.
        UsageError: it is a glob, which the library expands where nothing has to be planned.
    """
    filters, below = invocation.filters, uri if uri.endswith("/") else uri + "/"
    if is_glob(source) and not os.path.lexists(source):
        raise UsageError(f"{source} is a glob; leave it to the shell, or give its folder with --include")
    if os.path.isdir(source):
        follow = not invocation.options.no_follow_symlinks
        for path, name in _walk(invocation, source, "", follow):
            if filters.allow(name):
                yield Step(path, below + name, os.stat(path).st_size)
    else:
        name = os.path.basename(source)
        size = os.stat(source).st_size
        if filters.allow(name):
            yield Step(source, below + name if is_prefix(uri) or len(invocation.options.sources) > 1 else uri, size)


def _walk(invocation: Invocation, folder: str, prefix: str, follow: bool) -> Iterator[tuple[str, str]]:
    """Paths of the files below a folder, and their names relative to the root; what cannot be read is a warning."""
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        invocation.report.warned(f"skipped {folder}: {error.strerror}", source=folder)
        return
    for entry in entries:
        if entry.is_symlink() and not follow:
            continue
        if entry.is_dir():
            above = os.path.realpath(folder)
            if entry.is_symlink() and f"{above}/".startswith(f"{os.path.realpath(entry.path)}/"):
                invocation.report.warned(f"skipped {entry.path}: it leads back to a folder above it", source=entry.path)
                continue
            yield from _walk(invocation, entry.path, f"{prefix}{entry.name}/", follow)
        elif entry.is_file():
            yield entry.path, prefix + entry.name
        else:
            invocation.report.warned(f"skipped {entry.path}: it is no file, or leads nowhere", source=entry.path)


def plan_downloads(invocation: Invocation, source: str, path: str) -> Iterator[Step]:
    """The objects that a URI selects, and their files, in the order of the store."""
    start = len(root_of(source))
    several = len(invocation.options.sources) > 1 or is_glob(source) or is_prefix(source)
    into = several or path.endswith("/") or os.path.isdir(path)
    for page in selected(invocation, source):
        for found in page:
            name = found.uri[start:]
            if not name.endswith("/"):  # a marker of a folder becomes no file
                yield Step(found.uri, os.path.join(path, name) if into else path, found.size)


def plan_copies(invocation: Invocation, source: str, destination: str) -> Iterator[Step]:
    """The objects that a URI selects, and what they become; of a single one, without asking the store."""
    start = len(root_of(source))
    if not is_glob(source) and not is_prefix(source):
        name = source[start:]
        if invocation.filters.allow(name):
            below = destination if destination.endswith("/") else destination + "/"
            several = is_prefix(destination) or len(invocation.options.sources) > 1
            yield Step(source, below + name if several else destination, None)
        return
    below = destination if destination.endswith("/") else destination + "/"
    for page in selected(invocation, source):
        for found in page:
            yield Step(found.uri, below + found.uri[start:], found.size)


def grouped(steps: list[Step]) -> Iterator[tuple[str, list[Step]]]:
    """Steps by the folder or prefix of their destination, which ends in ``/``."""
    groups: dict[str, list[Step]] = {}
    for step in steps:
        groups.setdefault(step.destination[: step.destination.rfind("/") + 1] or "./", []).append(step)
    yield from groups.items()


def escapes(root: str, step: Step) -> bool:
    """Whether a file would lie outside the folder `root`: by its key, or by a link below the folder."""
    name = os.path.relpath(step.destination, root) if step.destination else ""
    parts = step.destination[len(root) :].split("/")
    real = os.path.realpath(root)
    parent = os.path.realpath(os.path.dirname(step.destination))
    return ".." in parts or name.startswith("..") or not f"{parent}/".startswith(f"{real}/".replace("//", "/"))


def step_of(source: str | list[str], below: str, uri: str) -> Step:
    """The step of an object that a call of the library transferred, of which an error tells its URI alone."""
    base = uri[uri.rfind("/") + 1 :]
    if not isinstance(source, str):
        if is_uri(source[0]):
            return Step(uri, os.path.join(below, base), None)
        return Step(next((one for one in source if os.path.basename(one) == base), base), uri, None)
    if is_uri(source):
        return Step(uri, os.path.join(below, uri[len(root_of(source)) :]), None)
    if os.path.isdir(source):
        return Step(os.path.join(source, uri[len(below if below.endswith("/") else below + "/") :]), uri, None)
    return Step(source, uri, None)
