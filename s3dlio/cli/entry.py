"""Where the command begins and ends: arguments, signals, the exit code, and whatever goes wrong on the way."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import signal
import sys
from collections.abc import Callable, Sequence

from .arguments import parse
from .console import Console
from .exits import Exit, OutputClosed, Terminated, UsageError
from .invocation import Invocation
from .report import Report

# Their failures make the exit code 1.
TRANSFERS = frozenset({"cat", "cp", "mv", "pipe", "rm", "run", "sync"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line.

    Args:
        arguments: without the program's name; None for those of the process.

    Returns:
        The exit code.
    """
    console = Console()
    try:
        _catch_signals()
        code = _run(sys.argv[1:] if arguments is None else arguments, console)
        console.close()
    except OutputClosed:
        console.abandon_output()
        return Exit.OUTPUT_CLOSED
    except KeyboardInterrupt:
        return _ended(console, Exit.INTERRUPTED, "interrupted")
    except Terminated:
        return _ended(console, Exit.TERMINATED, "terminated")
    except OSError as error:  # of stdout
        console.abandon_output()
        return _ended(console, Exit.OTHER, f"stdout: {error.strerror}")
    return code


def _run(arguments: Sequence[str], console: Console) -> Exit:
    try:
        options = parse(arguments)
    except UsageError as error:
        console.error("s3dlio", str(error))
        return Exit.USAGE
    except SystemExit:  # help or the version were asked for
        return Exit.OK
    from .connection import shown_log

    with shown_log(console, 2 if options.debug else options.verbose):
        return run(options, report_for(options, console))


def report_for(options: argparse.Namespace, console: Console, line: int | None = None) -> Report:
    """The report of a command with these options."""
    return Report(
        console,
        options.command,
        transfers=options.command in TRANSFERS,
        as_json=options.json,
        quiet=options.quiet,
        data_on_stdout=options.command == "cat" or getattr(options, "destination", None) == "-",
        trace=options.debug or options.verbose > 1,
        line=line,
    )


def run(options: argparse.Namespace, report: Report) -> Exit:
    """Runs one command; every error becomes a line and a count."""
    try:
        function_of(options)(Invocation(options, report))
    except Exception as error:
        report.failed(error)
    return report.finish()


def function_of(options: argparse.Namespace) -> Callable[[Invocation], None]:
    """What runs a command; its module is loaded only now."""
    module, _, name = options.call.partition(":")
    function: Callable[[Invocation], None] = getattr(importlib.import_module(f".{module}", __package__), name)
    return function


def _catch_signals() -> None:
    """SIGTERM unwinds as Ctrl-C does. Both are left as they are where they were ignored, as by nohup."""
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)


def _terminate(*_: object) -> None:
    raise Terminated


def _ended(console: Console, code: Exit, word: str) -> Exit:
    # A second signal need not wait for what the interpreter's exit cleans up.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    with contextlib.suppress(OutputClosed, OSError):
        console.close()
    console.error("s3dlio", word)
    return code
