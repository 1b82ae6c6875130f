"""Whether the two entries of a pair have the same bytes: by size, by times, and by checksums where these decide.

Sizes decide first, without a request. Then the object's own description is asked for, because a listing tells neither
the checksum nor the time of the file that was stored.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping

from .._net.addresses import Location
from .._s3 import object_operations
from .._s3.get_response import full_object_checksum
from .._s3.requests import CancelScope
from .._s3.service import Service
from ..errors import NotFoundError
from . import comparing, times
from .sending import IsThere
from .sides import Entry

# File systems and stores keep times with different precision; both are cut to this one before they are compared.
PRECISION_NS = 1000


def of_file_and_object(service: Service, file: Entry, location: Location, *, checksum: bool) -> IsThere:
    """Whether a file and an object of its size have the same bytes.

    The same time, as the object's metadata tell it, is believed unless `checksum`; another one is not: then the
    checksums decide, and where the store reports none, they are taken for different.
    """

    def is_there(scope: CancelScope) -> bool:
        try:
            headers = object_operations.head_object(service, location, cancel=scope)
        except NotFoundError:
            return False
        if not checksum and _same_time(headers, os.stat(file.place).st_mtime_ns):
            return True
        return comparing.same(headers, file.place)

    return is_there


def _same_time(headers: Mapping[str, str], file_ns: int) -> bool:
    modified = times.modified_ns(headers)
    return modified is not None and modified // PRECISION_NS == file_ns // PRECISION_NS


def of_objects(service: Service, source: Entry, target: Entry, locations: tuple[Location, Location]) -> IsThere:
    """Whether two objects of one size have the same bytes: by their ETags, or else by their checksums.

    Where neither decides, one that was stored after the other is taken for its copy.
    """

    def is_there(scope: CancelScope) -> bool:
        if source.etag is not None and source.etag == target.etag and not source.etag.startswith("W/"):
            return True
        head = functools.partial(object_operations.head_object, service, cancel=scope)
        first, second = (full_object_checksum(head(location)) for location in locations)
        if first is not None and second is not None and first.algorithm.name == second.algorithm.name:
            return first.value == second.value
        if first is not None or source.modified_ns is None or target.modified_ns is None:
            return False
        return target.modified_ns >= source.modified_ns

    return is_there
