"""DeleteObject and DeleteObjects. That an object is missing already is success.

It decides nothing about batches, threads or later attempts; `deletion` does.

Sources: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObject.html and
https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from .._net.addresses import Location
from .._values.checks import check_version_id
from ..errors import NotFoundError, S3Error
from . import xml
from .checksums import ALGORITHMS
from .failures import s3_error
from .requests import CancelScope, Request
from .responses import parsed, unless_parsed
from .service import Service

# Most objects of one DeleteObjects.
MOST_OBJECTS = 1000
# The status that DeleteObject responds with for a code: a failure among many comes without one. 200 for other codes,
# which is what the request as a whole was responded with.
_STATUSES = {"AccessDenied": 403, "InternalError": 500, "MethodNotAllowed": 405, "SlowDown": 503}


class Entry(NamedTuple):
    """An object to delete, or one version of it."""

    key: str
    version_id: str | None = None


def delete_object(
    service: Service, location: Location, version_id: str | None = None, scope: CancelScope | None = None
) -> None:
    """Deletes an object; in a versioned bucket this adds a delete marker, unless a version is named.

    Raises:
        NotFoundError: there is no such bucket.
        S3Error, TransportError: the store refused, or could not be reached.
    """
    query = [] if version_id is None else [("versionId", check_version_id(version_id))]
    try:
        service.call(Request("DeleteObject", "DELETE", *location, query=query), scope)
    except NotFoundError as error:
        if error.code == "NoSuchBucket":
            raise


def delete_objects(
    service: Service, bucket: str, entries: Sequence[Entry], scope: CancelScope | None = None
) -> list[tuple[Entry, S3Error]]:
    """Deletes up to 1,000 objects of one bucket by one request; returns those that the store has not deleted.

    Raises:
        ValueError: a key holds a character that XML cannot express.
        S3Error, TransportError: the request as a whole failed.
    """
    body = xml.delete_document(entries)
    algorithm = ALGORITHMS["crc32"]
    headers = {"content-type": "application/xml", algorithm.header: algorithm.encode(algorithm.of([body]))}
    try:
        digest = hashlib.md5(body, usedforsecurity=False).digest()
    except ValueError:  # the cryptographic library has no MD5; few stores insist on it
        pass
    else:
        headers["content-md5"] = base64.b64encode(digest).decode()
    request = Request(
        "DeleteObjects",
        "POST",
        bucket,
        query=[("delete", "")],
        headers=headers,
        body=(body,),
        error_in_body=True,
        doubt=unless_parsed(xml.parse_delete_result),
    )
    response = service.call(request, scope)
    asked = {(entry.key, entry.version_id): entry for entry in entries}
    failed = []
    for one in parsed(request, response, xml.parse_delete_result):
        entry = asked.get((one.key, one.version_id)) or asked.get((one.key, None))
        if entry is None:
            why = f"it reports a failure of {one.key!r}, which was not to be deleted"
            raise s3_error(request, response.status, "MalformedResponse", why, attempts=response.attempts)
        if one.code in ("NoSuchKey", "NoSuchVersion"):
            continue
        of_one = Request("DeleteObjects", "POST", bucket, one.key)
        status = _STATUSES.get(one.code, response.status)
        failed.append((entry, s3_error(of_one, status, one.code, one.message, attempts=response.attempts)))
    return failed
