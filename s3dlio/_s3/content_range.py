"""The one reader of Content-Range: which bytes of which object a response holds.

Pure: text in, numbers out. It never guesses at a malformed field, because a wrong offset puts bytes in a wrong place.
Callers are `get_response` and `failures`.
"""

from __future__ import annotations

import re

# RFC 9110, section 14.4; 19 digits hold every 64-bit length and keep int() cheap on hostile input.
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", re.IGNORECASE)
# In a 416: the size of the object.
_UNSATISFIED = re.compile(r"bytes \*/([0-9]{1,19})", re.IGNORECASE)


def parse_content_range(text: str) -> tuple[int, int, int | None]:
    """First and last byte position, both inclusive, and the object's size (None where the store wrote ``*``).

    Raises:
        ValueError: `text` is not ``bytes first-last/total``, or its numbers contradict each other.

    Source: RFC 9110, section 14.4
    """
    match = _CONTENT_RANGE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"Content-Range {text!r} is not of the form 'bytes first-last/total'")
    first, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    if last < first or (total is not None and last >= total):
        raise ValueError(f"Content-Range {text!r} contradicts itself")
    return first, last, total


def parse_unsatisfied_range(text: str | None) -> int | None:
    """The object's size in the Content-Range of a 416, ``bytes */size``; None where it does not say.

    Source: RFC 9110, section 14.4
    """
    match = _UNSATISFIED.fullmatch((text or "").strip())
    return None if match is None else int(match[1])
