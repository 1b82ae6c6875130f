"""The one reader of entity tags: what an ETag header or element says, and how it is sent back.

A tag that cannot be read is None, never an empty one, because it is unknown. Every comparison of tags
and every If-Match goes through here. Callers are `config`, `xml`, `responses` and `download`, among others.

Source: https://www.rfc-editor.org/rfc/rfc9110#section-8.8.3
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

# RFC 9110, section 8.8.3: visible characters except the quote, and bytes outside ASCII.
_QUOTED = re.compile('(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
# Some stores leave the quotes out.
_BARE = re.compile("(W/)?([\x21\x23-\x7e\x80-\xff]+)")
_SEPARATOR = re.compile(r"[ \t]*,[ \t]*")


@dataclass(frozen=True, slots=True)
class EntityTag:
    """One entity tag.

    Attributes:
        opaque: the text between the quotes; never empty.
        weak: equal tags mean equivalent content, but not equal bytes.
        quoted: the store wrote it with quotes. Comparisons ignore this.
    """

    opaque: str
    weak: bool = False
    quoted: bool = field(default=True, compare=False)

    def __str__(self) -> str:
        """Without quotes, for callers; a weak tag keeps its ``W/``."""
        return f"W/{self.opaque}" if self.weak else self.opaque

    @property
    def as_given(self) -> str:
        """As the store wrote it, for CompleteMultipartUpload."""
        text = f'"{self.opaque}"' if self.quoted else self.opaque
        return f"W/{text}" if self.weak else text

    @property
    def if_match(self) -> str | None:
        """The value of an If-Match header, which compares strongly (RFC 9110, section 13.1.1); None for a weak tag.

        None too for a tag outside ASCII, which cannot be written in a request head.
        """
        return None if self.weak or not self.opaque.isascii() else f'"{self.opaque}"'


@lru_cache(maxsize=64)  # the tag of a small write is read twice
def parse_entity_tag(text: str | None) -> EntityTag | None:
    """The tag in a header or element; None where it is absent, empty or unreadable.

    Fields that were sent twice arrive joined by a comma: equal tags count as one, different ones as none.
    """
    text = (text or "").strip(" \t\r\n")
    found: EntityTag | None = None
    position = 0
    while position < len(text):
        one = _QUOTED.match(text, position)
        if one is None:
            tags = {_bare(part) for part in _SEPARATOR.split(text)}
            return tags.pop() if len(tags) == 1 else None
        tag = EntityTag(one[2], one[1] is not None) if one[2] else None
        if tag is None or (found is not None and tag != found):
            return None
        found, position = tag, one.end()
        if position < len(text):
            separator = _SEPARATOR.match(text, position)
            if separator is None:
                return None
            position = separator.end()
    return found


def _bare(text: str) -> EntityTag | None:
    one = _BARE.fullmatch(text)
    return None if one is None else EntityTag(one[2], one[1] is not None, quoted=False)
