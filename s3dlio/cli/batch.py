"""`run`: the commands of a file, side by side, with one tally."""

from __future__ import annotations

import argparse
import shlex
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from .arguments import build, parse
from .connection import SETTINGS, open_client
from .entry import function_of, report_for
from .exits import UsageError
from .invocation import Invocation
from .parallel import each

if TYPE_CHECKING:
    import s3dlio

# They need stdin or stdout for themselves, or all of the machine.
ALONE = frozenset({"bench", "cat", "completion", "pipe", "run"})


class Line(NamedTuple):
    """One command of the file."""

    number: int
    options: argparse.Namespace


def run(invocation: Invocation) -> None:
    """Runs every command; one that fails does not end the others. The file is read whole, and checked, first."""
    options = invocation.options
    lines = list(_lines(invocation, _text(options.file)))
    if invocation.report.failed_count:
        raise UsageError("nothing was run, because of the lines above")
    clients = Clients()
    with invocation.progress("commands") as progress:
        progress.expect(items=len(lines))

        def run_one(line: Line) -> None:
            report = report_for(line.options, invocation.report.console, line.number)
            try:
                function_of(line.options)(Invocation(line.options, report, clients.of(line.options)))
            except Exception as error:
                report.failed(error)
            invocation.report.absorb(report)
            progress.add(items=1)

        each(lines, run_one, options.jobs)
    invocation.report.summary("commands succeeded")


def _text(file: str) -> Iterable[str]:
    if file == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError("stdin is no file of commands; name one")
        return sys.stdin
    with open(file, encoding="utf-8", errors="surrogateescape") as opened:
        return opened.readlines()


def _lines(invocation: Invocation, text: Iterable[str]) -> Iterator[Line]:
    """The commands; a line that cannot be used is reported, and left out."""
    parser, given = build(), invocation.options
    common = {name: value for name, value in vars(given).items() if name not in ("command", "call", "file", "jobs")}
    for number, line in enumerate(text, 1):
        try:
            words = shlex.split(line, comments=True)
            if words[:1] == ["s3dlio"]:
                words = words[1:]
            if words:
                yield Line(number, _options(parse(words, parser, argparse.Namespace(**common))))
        except (UsageError, ValueError) as error:
            invocation.report.failed(UsageError(f"line {number}: {error}"))
        except SystemExit:
            invocation.report.failed(UsageError(f"line {number}: --help and --version are no commands"))


def _options(options: argparse.Namespace) -> argparse.Namespace:
    streams = "-" in (*getattr(options, "sources", ()), getattr(options, "destination", None))
    if options.command in ALONE or streams:
        raise UsageError(f"{options.command} cannot run beside others{' with -' if streams else ''}")
    return options


class Clients:
    """One client for all commands that name the same store."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[tuple[object, ...], s3dlio.Client] = {}

    def of(self, options: argparse.Namespace) -> s3dlio.Client:
        """The client of a command."""
        settings = tuple(getattr(options, name) for name in SETTINGS)
        with self._lock:
            if settings not in self._clients:
                self._clients[settings] = open_client(options)
            return self._clients[settings]
