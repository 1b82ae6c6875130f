"""Takes out of texts what gives access to a store: the signature, token and access key of a presigned query string.

Messages of errors and log records go through it, because a user or a store may have put such a URL into them. It
must never change anything else.
"""

from __future__ import annotations

import logging
import re

_SECRET = re.compile(
    r"(?i)\b(X-Amz-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|Signature)(=|%3D)[^&\s'\"<>;,]+"
)


def redacted(text: str) -> str:
    """The text without the values of a presigned query (Signature Version 4 and 2)."""
    return _SECRET.sub(r"\1\2[redacted]", text) if "=" in text or "%3" in text else text


class RedactingFilter(logging.Filter):
    """Redacts what is logged, once the record is known to be wanted."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        clean = redacted(text)
        if clean != text:
            record.msg, record.args = clean, ()
        return True


logging.getLogger("s3dlio").addFilter(RedactingFilter())
