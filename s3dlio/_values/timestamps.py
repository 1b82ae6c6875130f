"""The one reader of points in time in a store's headers and documents.

A time that cannot be read is None, because an optional fact never breaks a response. So is a zero time, with which a
store says that it does not know. A time without a zone is UTC. Callers are `failures`, `xml` and `objects`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

# Go's zero time is in the year 0001, which `email` would read as a year of two digits, 2001.
_EARLY_YEAR = re.compile(" 0[0-9]{3}(?: |$)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_timestamp(text: str | None) -> datetime | None:
    """The moment, aware and in UTC; None where it is absent, unreadable or not after 1970-01-01T00:00:00Z.

    It reads ISO 8601 and the three forms of HTTP dates (IMF-fixdate, RFC 850, asctime). Fields that were
    sent twice arrive joined by a comma: equal halves count as one.

    Source: https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7
    """
    text = (text or "").strip()
    half = (len(text) - 2) // 2
    if half > 0 and text[half : half + 2] == ", " and text[:half] == text[half + 2 :]:
        text = text[:half]
    if not text:
        return None
    try:
        moment = _iso_8601(text) or _http_date(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return moment if moment > _EPOCH else None


def _iso_8601(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _http_date(text: str) -> datetime:
    from email.utils import parsedate_to_datetime  # 10 ms; only failures, listings and `stat` need it

    if _EARLY_YEAR.search(text):
        raise ValueError(text)
    return parsedate_to_datetime(text)
