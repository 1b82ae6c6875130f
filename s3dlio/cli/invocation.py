"""One command that is being run: its options, its client, its report."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from .connection import open_client
from .exits import UsageError, usage_errors
from .progress import Progress
from .report import Report
from .text import human

if TYPE_CHECKING:
    import s3dlio

    from ..syncing import Filters


class Invocation:
    """What every command is called with.

    Attributes:
        options: its parsed arguments.
        report: where it says what it did.
        among_others: `run` runs it, and shows the progress of all.
    """

    def __init__(self, options: argparse.Namespace, report: Report, client: s3dlio.Client | None = None) -> None:
        self.options = options
        self.report = report
        self.among_others = client is not None
        self._client = client

    @property
    def client(self) -> s3dlio.Client:
        """The client, made when it is first needed."""
        if self._client is None:
            self._client = open_client(self.options)
        return self._client

    @property
    def filters(self) -> Filters:
        """What ``--include`` and ``--exclude`` say.

        Raises:
            UsageError: one of them is no glob.
        """
        from ..syncing import Filters  # with the whole face, which ``--help`` does not need

        with usage_errors():
            return Filters.of((), (), self.options.filters or ())

    @property
    def filtered(self) -> bool:
        """Whether there are any."""
        return bool(self.options.filters)

    def size(self, size: int | None) -> str:
        """A size as it was asked for: exact, or for people."""
        if size is None:
            return "-"
        return human(size) if self.options.human_readable else str(size)

    def progress(self, noun: str = "objects") -> Progress:
        """The progress display, where one is wanted."""
        off = self.options.no_progress or self.among_others or (self.options.json and not self.report.console.live)
        return Progress(self.report, noun, every=0 if off else self.options.progress_every)

    def confirm(self, what: str) -> None:
        """Asks before something that cannot be undone.

        Raises:
            UsageError: the answer is no, or nobody can be asked and ``--yes`` was not given.
        """
        if self.options.yes:
            return
        console = self.report.console
        if not self.report.asks:
            raise UsageError(f"this would {what}; where nobody can be asked, say so with --yes")
        console.question(f"s3dlio {self.report.name}: {what}? [y/N] ")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise UsageError("nothing was done")
