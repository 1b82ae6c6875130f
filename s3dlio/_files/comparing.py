"""Whether a local file and an object have the same bytes, by what the store reports. The rest is unknown."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping

from .._s3.get_response import content_length, full_object_checksum
from .._values.entity_tags import parse_entity_tag

READ_SIZE = 4 << 20
_MD5 = re.compile(r"[0-9a-f]{32}")


def same(headers: Mapping[str, str], path: str) -> bool:
    """Whether the file has the size and the checksum in the headers of an object. False where they name neither.

    An ETag that has the form of an MD5 counts as one: where it is not, no file has that MD5.
    """
    if content_length(headers) != os.stat(path).st_size:
        return False
    checksum = full_object_checksum(headers)
    if checksum is not None:
        return checksum.algorithm.encode(checksum.algorithm.of(_pieces(path))) == checksum.value
    tag = parse_entity_tag(headers.get("etag"))
    if tag is None or _MD5.fullmatch(tag.opaque) is None:
        return False
    digest = hashlib.md5(usedforsecurity=False)
    for piece in _pieces(path):
        digest.update(piece)
    return digest.hexdigest() == tag.opaque


def _pieces(path: str) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(READ_SIZE):
            yield piece
