"""Whether a local file and an object have the same bytes, by what the store reports. The rest is unknown."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping

from .._net.addresses import Location
from .._s3 import object_operations
from .._s3.get_response import content_length, full_object_checksum
from .._s3.requests import CancelScope
from .._s3.service import Service
from .._values.entity_tags import parse_entity_tag
from ..errors import NotFoundError

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


def object_is_there(service: Service, location: Location, path: str, scope: CancelScope) -> bool:
    """Whether the object exists and has the bytes of the file."""
    try:
        headers = object_operations.head_object(service, location, cancel=scope)
    except NotFoundError:
        return False
    return same(headers, path)


def file_is_there(service: Service, location: Location, size: int | None, path: str, scope: CancelScope) -> bool:
    """Whether the file exists and has the bytes of the object, whose size is known or None."""
    if os.path.islink(path) or not os.path.isfile(path) or size not in (None, os.stat(path).st_size):
        return False
    return same(object_operations.head_object(service, location, cancel=scope), path)


def _pieces(path: str) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(READ_SIZE):
            yield piece
