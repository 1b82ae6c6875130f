"""The command line of the harness: `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import NoReturn

from . import compare, own_store, suite

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def terminate(number: int, _frame: object) -> NoReturn:
    """Ends the run with an exception, so that servers are stopped and their folders removed."""
    for one in ENDING:
        signal.signal(one, signal.SIG_IGN)  # a second one must not interrupt the clean-up
    sys.exit(128 + number)


def main() -> None:
    """Parses the command line and runs the one command that it names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module, start, text in (
        ("compare", compare, compare.compare, "this library against others, turn by turn"),
        ("suite", suite, suite.suite, "all workloads, with tables and plots"),
        ("run", own_store, own_store.run, "against a store of your own"),
    ):
        command = commands.add_parser(name, help=text)
        module.add_arguments(command)
        command.set_defaults(start=start)
    for one in ENDING:
        signal.signal(one, terminate)
    options = parser.parse_args()
    options.start(options)


if __name__ == "__main__":
    main()
