"""Sizes, ages, times and keys as people write and read them. Pure functions of values."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime, timedelta

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtpe]?)(i?b)?", re.IGNORECASE)
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)", re.IGNORECASE)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def human(size: float) -> str:
    """A number of bytes in the unit that leaves up to four digits before the point: ``1.5 MiB``."""
    unit = 0
    while size >= 1024 and unit < len(UNITS) - 1:
        size /= 1024
        unit += 1
    return f"{size:.0f} {UNITS[unit]}" if unit == 0 else f"{size:.1f} {UNITS[unit]}"


def parse_size(text: str) -> int:
    """Bytes of ``16MiB``, ``16M``, ``1.5 GiB`` or ``1048576``; units are powers of 1024.

    Raises:
        ValueError: it is none of these.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no size; write for example 16MiB")
    return int(float(found[1]) * 1024 ** " kmgtpe".index(found[2].lower() or " "))


def parse_age(text: str) -> timedelta:
    """The time that ``90``, ``90s``, ``15m``, ``12h``, ``7d`` or ``2w`` stands for.

    Raises:
        ValueError: it is none of these, or zero.
    """
    found = _AGE.fullmatch(text.strip())
    if found is None or float(found[1]) == 0:
        raise ValueError(f"{text!r} is no time; write for example 90s, 15m, 12h or 7d")
    return timedelta(seconds=float(found[1]) * _SECONDS[found[2].lower()])


def duration(seconds: float) -> str:
    """A time for people: ``0.4 s``, ``12 s``, ``3 m 05 s``, ``2 h 10 m``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} m"


def stamp(time: datetime | None) -> str:
    """ISO 8601 in UTC, to the second; ``-`` where the store reports none."""
    return "-" if time is None else time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def shown(text: str) -> str:
    """The text without what a terminal would act on: controls, and characters that reorder or hide others."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(one if one == " " or one.isprintable() else _escaped(one) for one in text)


def _escaped(one: str) -> str:
    code = ord(one)
    if unicodedata.category(one) == "Cs" and 0xDC80 <= code <= 0xDCFF:  # a byte that is not valid UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
