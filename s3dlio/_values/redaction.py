"""Removes from texts what gives access to a store or proxy: a presigned query's values, and a URL's user and password.

Error messages, reprs and log records pass through it, because a user or a store may have put such a URL into them. It
never changes another text. From log records it also removes exceptions.
"""

from __future__ import annotations

import logging
import re

REDACTED = "[redacted]"

_QUERY = re.compile(
    r"(?i)\b(X-Amz-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|Signature)(=|%3D)[^&\s'\"<>;,]+"
)
# The part before the ``@`` of a URL's authority (RFC 3986, section 3.2.1), also where the URL is inside another one and
# so percent-encoded. A secret may contain slashes that were not encoded: where a colon is not followed by a port,
# everything up to an ``@`` belongs to the secret.
_USER = re.compile(
    r"(?i)\b([a-z][a-z0-9+.-]*:/{2})"
    r"(?:[^\s/?#'\"<>]*|(?!\[)[^\s/?#'\"<>:]*:(?!\d{1,5}(?:[/?#'\"\s]|$))[^\s'\"<>]*)(@|%40)"
)
_ENCODED_USER = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*%3A(?:%2F){2})(?:(?!%40|%2F|%3F)[^\s/?#'\"<>&@])*%40")
_ANY_USER = re.compile(r"[^\s'\"<>]*(?:@|%40)")


def redacted(text: str) -> str:
    """The text without the values of a presigned query (Signature Version 4 and 2), and without users of URLs."""
    if "=" in text or "%3" in text:
        text = _QUERY.sub(rf"\1\2{REDACTED}", text)
    if "://" in text and ("@" in text or "%40" in text):
        text = _USER.sub(rf"\1{REDACTED}\2", text)
    if "%40" in text:
        text = _ENCODED_USER.sub(rf"\1{REDACTED}%40", text)
    return text


def shown(value: object) -> str:
    """The repr of a value that should be a URI or URL but is not, without anything that may be a user and password."""
    text = repr(value)
    return redacted(text) if "://" in text else _ANY_USER.sub(f"{REDACTED}@", text)


class RedactingFilter(logging.Filter):
    """Redacts log records of levels that are enabled, and leaves no exception among their arguments.

    A handler may keep its records, and an exception's frames would keep payload memory with it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        clean = redacted(text)
        if clean != text or any(isinstance(one, BaseException) for one in record.args or ()):
            record.msg, record.args = clean, ()
        return True


logging.getLogger("s3dlio").addFilter(RedactingFilter())
