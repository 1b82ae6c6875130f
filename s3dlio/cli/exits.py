"""Exit codes of the command, and which one an error asks for.

The codes are those of the AWS command line, which scripts know.
Source: https://docs.aws.amazon.com/cli/latest/userguide/cli-usage-returncodes.html
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from enum import IntEnum


class Exit(IntEnum):
    """What the exit code says."""

    OK = 0
    FAILED = 1  # something failed after a transfer or deletion had begun, or nothing was found
    WARNED = 2  # finished, but something was skipped
    INTERRUPTED = 130  # 128 + SIGINT
    OUTPUT_CLOSED = 141  # 128 + SIGPIPE: the reader of stdout has gone
    TERMINATED = 143  # 128 + SIGTERM
    USAGE = 252
    NOT_CONFIGURED = 253  # no credentials, no such profile, a setting that cannot be used, a missing extra
    REFUSED = 254  # the store answered with an error
    OTHER = 255


class UsageError(Exception):
    """The command line cannot be used; the message says what to write instead."""


class Terminated(BaseException):
    """SIGTERM arrived."""


class OutputClosed(BaseException):
    """The reader of stdout has gone, so there is no more to do."""


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Where a call of the library only checks what was given: what it refuses is wrong usage."""
    import s3dlio

    try:
        yield
    except s3dlio.ConfigurationError as error:
        raise UsageError(str(error)) from None


def exit_of(error: BaseException) -> Exit:
    """The code for an error that nothing came before."""
    if isinstance(error, UsageError):
        return Exit.USAGE
    if isinstance(error, ImportError):
        return Exit.NOT_CONFIGURED
    import s3dlio  # its errors exist once it was loaded

    if isinstance(error, s3dlio.UnsupportedUriError):
        return Exit.USAGE
    if isinstance(error, s3dlio.ConfigurationError | s3dlio.CredentialsError):
        return Exit.NOT_CONFIGURED
    return Exit.REFUSED if isinstance(error, s3dlio.S3Error) else Exit.OTHER


def exit_after(failures: Iterable[Exit], *, transfers: bool) -> Exit:
    """The code of a command whose failures have these codes, at least one.

    Args:
        transfers: the command moves or deletes: each failure but those of its settings makes it 1.
    """
    found = set(failures)
    if found <= {Exit.USAGE, Exit.NOT_CONFIGURED}:  # nothing was begun
        return max(found)
    if transfers:
        return Exit.FAILED
    return Exit.REFUSED if Exit.REFUSED in found else Exit.OTHER
