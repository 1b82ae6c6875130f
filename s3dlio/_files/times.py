"""The modification time of a file in an object's metadata, in the form that rclone gave it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime

from .._values.timestamps import parse_timestamp

# Metadata name: seconds since 1970 in UTC, as a decimal number of any precision.
NAME = "mtime"


def as_metadata(nanoseconds: int) -> str:
    """The text of a time."""
    sign, (seconds, rest) = "-" if nanoseconds < 0 else "", divmod(abs(nanoseconds), 10**9)
    return f"{sign}{seconds}.{rest:09}" if rest else f"{sign}{seconds}"


def modified_ns(headers: Mapping[str, str]) -> int | None:
    """When the file that was stored was modified, in ns since 1970, or else the object; None where neither is known."""
    noted = from_metadata(headers.get(f"x-amz-meta-{NAME}"))
    if noted is not None:
        return noted
    modified = parse_timestamp(headers.get("last-modified"))
    return None if modified is None else nanoseconds_of(modified)


def from_metadata(text: str | None) -> int | None:
    """The time of a text in ns since 1970; None where it is none."""
    if text is None:
        return None
    whole, _, fraction = text.strip().partition(".")
    digits = whole.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 12 or not (fraction + "0").isdigit():
        return None
    value = int(digits) * 10**9 + int((fraction + "0" * 9)[:9])
    return -value if whole.startswith("-") else value


def nanoseconds_of(moment: datetime) -> int:
    """A time in ns since 1970."""
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


def set_modified(descriptor: int, nanoseconds: int) -> None:
    """Sets the modification time of an open file."""
    os.utime(descriptor, ns=(nanoseconds, nanoseconds))
