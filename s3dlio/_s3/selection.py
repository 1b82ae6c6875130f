"""What a URI selects: one object, everything below a prefix, or the keys that match a glob.

The one rule of prefixes of the package: ``s3://bucket/name`` is the object ``name`` and nothing else, a trailing ``/``
means what lies below, and ``*``, ``?`` or ``[`` make a glob. Functions of text; the public functions call them.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from .._net.addresses import Location, parse_uri
from ..errors import ConfigurationError, UnsupportedUriError

_SPECIAL = re.compile(r"[*?\[]")


class Selection(NamedTuple):
    """Some keys of one bucket.

    Attributes:
        prefix: all its keys begin with it; of a single object, the key.
        glob: what a key has to match; empty for a prefix and for a single object.
        single: it is the one object with the key `prefix`.
    """

    bucket: str
    prefix: str
    glob: str = ""
    single: bool = False

    @property
    def one_level(self) -> bool:
        """Whether no key has a ``/`` after the prefix's last one: then a listing can leave out what lies deeper."""
        rest = self.glob[self.prefix.rfind("/") + 1 :]
        return bool(rest) and "/" not in rest and "**" not in rest

    def matches(self, key: str) -> bool:
        """Whether `key`, which begins with the prefix, is one of them."""
        if self.single:
            return key == self.prefix
        return not self.glob or compile_glob(self.glob).fullmatch(key) is not None


def select(uri: str) -> Selection:
    """The keys that `uri` selects.

    Raises:
        UnsupportedUriError: it is no S3 URI, or its glob has a ``[`` without a ``]``.
    """
    bucket, key = parse_uri(uri, require_key=False)
    if not key or (key.endswith("/") and not _SPECIAL.search(key)):
        return Selection(bucket, key)
    special = _SPECIAL.search(key)
    if special is None:
        return Selection(bucket, key, single=True)
    compile_glob(key)
    return Selection(bucket, key[: special.start()], key)


def select_one(uri: str) -> Location:
    """The object that `uri` names, for functions of one object: ``*``, ``?`` and ``[`` are characters of its key.

    Raises:
        UnsupportedUriError: it ends in ``/``.
    """
    location = parse_uri(uri, require_key=False)
    if not location.key or location.key.endswith("/"):
        raise UnsupportedUriError(f"{uri!r} stands for what lies below it; name one object, as in 's3://bucket/key'")
    return location


@functools.lru_cache(maxsize=128)
def compile_glob(glob: str) -> re.Pattern[str]:
    """The regular expression of a glob.

    ``*`` and ``?`` match characters other than ``/``, ``**`` any characters, ``**/`` also nothing, ``[ab]``, ``[a-z]``
    and ``[!a]`` one character other than ``/``. ``[*]`` matches the character ``*`` itself.
    """
    parts: list[str] = []
    at = 0
    while at < len(glob):
        if glob.startswith("**/", at) and (at == 0 or glob[at - 1] == "/"):
            parts.append("(?:.*/)?")
            at += 3
        elif glob.startswith("**", at):
            parts.append(".*")
            at += 2
        elif glob[at] == "*":
            parts.append("[^/]*")
            at += 1
        elif glob[at] == "?":
            parts.append("[^/]")
            at += 1
        elif glob[at] == "[":
            at, text = _class(glob, at)
            parts.append(text)
        else:
            parts.append(re.escape(glob[at]))
            at += 1
    return re.compile("".join(parts), re.DOTALL)


def _class(glob: str, at: int) -> tuple[int, str]:
    """The regular expression of the class that begins at `at`, and where it ends."""
    negated = glob.startswith("!", at + 1)
    start = at + 1 + negated
    end = glob.find("]", start + 1)  # a ] in the first place is a member
    if end < 0:
        raise UnsupportedUriError(f"the glob {glob!r} has a '[' without a ']'; write '[[]' for the character itself")
    members = re.sub(r"([\\^\[\]&~|])", r"\\\1", glob[start:end])
    try:
        re.compile(f"[{members}]")
    except re.error as error:
        raise UnsupportedUriError(f"the glob {glob!r} has a class that cannot be used: {error}") from None
    return end + 1, f"(?!/)[{'^' if negated else ''}{members}]"


def compile_pattern(pattern: str | None) -> re.Pattern[str] | None:
    """The regular expression that was given as ``pattern=``.

    Raises:
        ConfigurationError: it is none.
    """
    if pattern is None:
        return None
    try:
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ConfigurationError(f"pattern={pattern!r} is not a regular expression: {error}") from None
