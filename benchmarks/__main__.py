"""The command line of the harness: `python -m benchmarks compare --help`."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import NoReturn

from . import compare


def _terminate(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)  # an exception, so that servers are ended and their folders removed


def main() -> None:
    """Parses the command line and runs the one benchmark that it names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    commands = parser.add_subparsers(dest="command", required=True)
    compare.add_arguments(commands.add_parser("compare", help="this library against the original, turn by turn"))
    signal.signal(signal.SIGTERM, _terminate)
    options = parser.parse_args()
    compare.compare(options)


if __name__ == "__main__":
    main()
