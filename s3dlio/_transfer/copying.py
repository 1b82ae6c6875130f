"""Copies one object within a store: by one request, or above 5 GiB by parallel requests for its parts.

The result does not depend on the size: headers, metadata, tags, storage class and checksum are those of the source. A
copy that fails leaves no upload behind. `copy_operations` sends the requests; the public `copy` calls this.
"""

from __future__ import annotations

import hashlib
import threading
from datetime import UTC, datetime
from typing import Any

from .._net.addresses import Location
from .._net.exchange import unbroken
from .._runtime.kept_errors import without_traceback
from .._runtime.waiting import Changed
from .._runtime.workers import Crew
from .._s3 import copy_operations, multipart_operations, object_operations
from .._s3.checksums import Checksum
from .._s3.copy_operations import Copied, Source
from .._s3.get_response import full_object_checksum
from .._s3.requests import CancelScope, FailedAttempt
from .._s3.service import Service
from .._s3.xml import CompletedPart
from .._values.entity_tags import parse_entity_tag
from .._values.limits import GIB, MAX_PARTS, MIB
from ..config import MultipartUploadConfig
from ..errors import NotFoundError, S3Error
from .aborting import Aborting

# The most that one CopyObject copies. https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
LARGEST_COPY = 5 * GIB
# The store moves the bytes, so that larger parts only mean fewer requests.
PART_SIZE = 128 * MIB
MOST_IN_FLIGHT = 16


class Copying:
    """One copy."""

    def __init__(self, service: Service, source: Location, version_id: str | None, destination: Location) -> None:
        self._service = service
        self._source_location = source
        self._version_id = version_id
        self._destination = destination
        self._scope = CancelScope()
        self._lock = threading.Lock()
        self._changed = Changed(self._lock)
        self._crew = Crew(self._lock, self._changed)
        self._running = 0
        self._parts: dict[int, Copied] = {}
        self._error: BaseException | None = None

    def run(self) -> dict[str, Any]:
        """The fields of an `UploadInfo`."""
        started = datetime.now(UTC)
        source = copy_operations.find_source(self._service, self._source_location, self._version_id, self._scope)
        expected = full_object_checksum(source.headers)
        if source.size <= LARGEST_COPY:
            copied = copy_operations.copy_object(self._service, source, self._destination, self._scope)
            count, upload_id = 1, None
        else:
            copied, count, upload_id = self._copy_parts(source, expected)
        reported = None if expected is None else copied.checksums.get(expected.algorithm.xml)
        checksum = expected.value if expected is not None and reported == expected.value else None
        return {
            "etag": None if copied.tag is None else str(copied.tag),
            "parts": count,
            "total_bytes": source.size,
            "checksum": checksum,
            "checksum_algorithm": expected.algorithm.name if expected is not None and checksum is not None else None,
            "checksum_confirmed": checksum is not None,
            "version_id": copied.version_id,
            "started_at": started,
            "completed_at": datetime.now(UTC),
            "upload_id": upload_id,
        }

    def _copy_parts(self, source: Source, expected: Checksum | None) -> tuple[Copied, int, str]:
        headers = source.carried_headers
        tags = copy_operations.read_tags(self._service, source, self._scope)
        if tags is not None:
            headers["x-amz-tagging"] = tags
        # An algorithm whose parts' values the store combines into that of the whole: it compares that with ours.
        algorithm = expected.algorithm if expected is not None and not expected.algorithm.hashed else None
        upload_id = multipart_operations.create_upload_of(self._service, self._destination, headers, algorithm)
        try:
            lengths = _lengths(source.size)
            self._start_parts(source, upload_id, lengths)
            self._crew.join()
            if self._error is not None:
                raise self._error
            copied = self._complete(source, upload_id, expected if algorithm is not None else None)
            return copied, len(lengths), upload_id
        except BaseException:
            unbroken(self._scope.end)
            unbroken(self._crew.call_off)
            aborting = Aborting(self._service, self._destination, self._lock, self._changed)
            aborting.run(lambda: upload_id, lambda: True)
            raise

    def _start_parts(self, source: Source, upload_id: str, lengths: list[int]) -> None:
        start = 0
        for number, length in enumerate(lengths, 1):
            self._changed.wait_for(self._admit)
            if self._error is not None:
                return
            task = _Part(self, source, upload_id, number, start, length)
            if not self._crew.start(task):
                task()
            start += length

    def _admit(self) -> bool:
        if self._error is not None:
            return True
        if self._running >= MOST_IN_FLIGHT:
            return False
        self._running += 1
        return True

    def copy_part(self, source: Source, upload_id: str, number: int, start: int, length: int) -> None:
        copied, error = None, None
        try:
            copied = copy_operations.copy_part(
                self._service, source, self._destination, upload_id, number, start, length, self._scope
            )
        except BaseException as raised:
            error = without_traceback(raised)
        with self._lock:
            self._running -= 1
            if copied is not None:
                self._parts[number] = copied
            self._error = self._error or error
            self._changed.notify_all()
        if error is not None:
            self._scope.cancel()

    def _complete(self, source: Source, upload_id: str, expected: Checksum | None) -> Copied:
        parts = []
        for number, part in sorted(self._parts.items()):
            if part.tag is None:
                raise S3Error(
                    "UploadPartCopy", *self._destination, None, "MalformedResponse", f"part {number} has no ETag"
                )
            name = "" if expected is None else expected.algorithm.xml
            checksum = (name, part.checksums[name]) if name in part.checksums else None
            parts.append(CompletedPart(number, part.tag.as_given, checksum))
        completed = multipart_operations.complete_upload(
            self._service, self._destination, upload_id, parts, MultipartUploadConfig(), expected, source.size,
            self._is_published,
        )  # fmt: skip
        if completed is None:
            headers = object_operations.head_object(self._service, self._destination)
            found = full_object_checksum(headers)
            checksums = {} if found is None else {found.algorithm.xml: found.value}
            return Copied(parse_entity_tag(headers.get("etag")), checksums, headers.get("x-amz-version-id"))
        stored, result = completed
        return Copied(result.etag, result.checksums, stored.version_id)

    def _is_published(self, failed: FailedAttempt) -> bool:
        """After a Complete of unknown outcome: whether the object is the one that these parts make."""
        try:
            headers = object_operations.head_object(self._service, self._destination)
        except NotFoundError:
            return False
        tag = parse_entity_tag(headers.get("etag"))
        digest = hashlib.md5(usedforsecurity=False)
        for _, part in sorted(self._parts.items()):
            try:
                digest.update(bytes.fromhex(part.tag.opaque if part.tag is not None else ""))
            except ValueError:  # not an MD5: nothing can be compared
                return False
        return tag is not None and tag.opaque == f"{digest.hexdigest()}-{len(self._parts)}"


class _Part:
    """The task of one part."""

    def __init__(self, copying: Copying, source: Source, upload_id: str, number: int, start: int, length: int) -> None:
        self._arguments = (source, upload_id, number, start, length)
        self._copying = copying

    def __call__(self) -> None:
        self._copying.copy_part(*self._arguments)


def _lengths(size: int) -> list[int]:
    """Bytes of each part: equal ones, and the rest in the last."""
    part = max(PART_SIZE, -(-size // MAX_PARTS))
    return [min(part, size - start) for start in range(0, size, part)]
