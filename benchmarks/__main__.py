"""The command line of the harness: `python -m benchmarks compare --help`."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import NoReturn

from . import compare

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _terminate(number: int, _frame: object) -> NoReturn:
    for one in _ENDING:
        signal.signal(one, signal.SIG_IGN)  # a second one must not interrupt the cleaning up
    sys.exit(128 + number)  # an exception, so that servers are ended and their folders removed


def main() -> None:
    """Parses the command line and runs the one command that it names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    commands = parser.add_subparsers(dest="command", required=True)
    compare.add_arguments(commands.add_parser("compare", help="this library against others, turn by turn"))
    for one in _ENDING:
        signal.signal(one, _terminate)
    options = parser.parse_args()
    compare.compare(options)


if __name__ == "__main__":
    main()
