"""The client of a command: its options first, then the environment and the profile, as the library finds them."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import s3dlio

    from .console import Console

# The options that name a store: commands of one `run` that agree on them share a client.
SETTINGS = (
    "endpoint_url", "region", "profile", "no_sign_request", "addressing_style", "no_verify_ssl", "ca_bundle",
    "max_attempts", "timeout",
)  # fmt: skip


def open_client(options: argparse.Namespace) -> s3dlio.Client:
    """A client with the settings that were given.

    Raises:
        ConfigurationError: one of them, or of the environment, cannot be used.
    """
    import s3dlio

    seconds = options.timeout
    retries = None if options.max_attempts is None else s3dlio.RetryPolicy(max_attempts=options.max_attempts)
    timeouts = (
        None if seconds is None else s3dlio.Timeouts(connect=seconds, send=seconds, first_byte=seconds, idle=seconds)
    )
    return s3dlio.Client(
        endpoint_url=options.endpoint_url,
        region=options.region,
        profile=options.profile,
        credentials="anonymous" if options.no_sign_request else None,
        addressing_style=options.addressing_style or "auto",
        verify=not options.no_verify_ssl,
        ca_bundle=options.ca_bundle,
        timeouts=timeouts,
        retries=retries,
    )


@contextlib.contextmanager
def shown_log(console: Console, verbosity: int) -> Iterator[None]:
    """Sends what the library logs, and Python's warnings, to stderr: warnings always, requests with ``-v``."""
    import logging
    import warnings

    class Shows(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                console.note(f"s3dlio: {self.format(record)}")
            except Exception:
                self.handleError(record)

    def show(message: Warning | str, *_: object, **__: object) -> None:
        console.note(f"s3dlio: warning: {message}")

    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)]
    logger, handler = logging.getLogger("s3dlio"), Shows(level)
    before, showwarning = logger.level, warnings.showwarning
    logger.addHandler(handler)
    warnings.showwarning = show
    if verbosity:
        logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        warnings.showwarning = showwarning
