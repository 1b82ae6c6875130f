"""Copies one object within a store: by one request, or above 5 GiB by parallel requests for its parts.

The result does not depend on the size: headers, metadata, tags, storage class and checksum are those of the source. A
copy that fails leaves no upload behind. `copy_operations` sends the requests; the public `copy` calls this.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .._net.addresses import Location, format_uri
from .._net.exchange import unbroken
from .._runtime.kept_errors import without_traceback
from .._runtime.waiting import Changed
from .._runtime.workers import Crew
from .._s3 import copy_operations, multipart_operations
from .._s3.checksums import Algorithm, Checksum
from .._s3.copy_operations import Copied, Source
from .._s3.endpoint_state import names_checksum
from .._s3.get_response import full_object_checksum
from .._s3.requests import CancelScope, operation_scope
from .._s3.service import Service
from .._values.limits import GIB, MAX_PARTS, MIB
from ..config import MultipartUploadConfig
from ..errors import ChecksumMismatchError, S3Error
from .aborting import Aborting
from .completion import Completion, StoredPart

log = logging.getLogger("s3dlio")

# The most that one CopyObject copies. https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
LARGEST_COPY = 5 * GIB
# The store moves the bytes, so that larger parts only mean fewer requests.
PART_SIZE = 128 * MIB
MOST_IN_FLIGHT = 16


class Copying:
    """One copy."""

    def __init__(
        self,
        service: Service,
        source: Location,
        version_id: str | None,
        destination: Location,
        outer: CancelScope | None = None,
    ) -> None:
        self._service = service
        self._outer = outer or operation_scope()
        self._source_location = source
        self._version_id = version_id
        self._destination = destination
        self._lock = threading.Lock()
        self._changed = Changed(self._lock)
        self._begin()

    def _begin(self) -> None:
        """Resets what an upload sets."""
        self._scope = CancelScope()
        self._crew = Crew(self._lock, self._changed)
        self._running = 0
        self._parts: dict[int, Copied] = {}
        self._error: BaseException | None = None

    def cancel(self) -> None:
        """Ends the copy at once; `run` then raises."""
        self._scope.cancel()

    def run(self) -> dict[str, Any]:
        """The fields of an `UploadInfo`."""
        self._outer.enter(self)
        try:
            return self._run()
        finally:
            self._outer.leave(self)

    def _run(self) -> dict[str, Any]:
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
        combined = expected is not None and not expected.algorithm.hashed
        if combined and not self._service.copies_without_checksums:
            try:
                return self._copy_all(source, headers, expected)
            except S3Error as error:
                # MinIO computes no checksum of a copied part, and then refuses the part for lack of one.
                if error.operation != "UploadPartCopy" or error.status != 400 or not names_checksum(error):
                    raise
                self._service.copies_without_checksums = True
                log.info("the store computes no checksums of copied parts; large copies are made without: %s", error)
                self._begin()
        return self._copy_all(source, headers, None)

    def _copy_all(
        self, source: Source, headers: Mapping[str, str], expected: Checksum | None
    ) -> tuple[Copied, int, str]:
        """One multipart upload from Create to Complete, with a checksum of the whole where one is expected."""
        algorithm = None if expected is None else expected.algorithm
        upload_id = multipart_operations.create_upload_of(self._service, self._destination, headers, algorithm)
        try:
            lengths = _lengths(source.size)
            self._start_parts(source, upload_id, lengths)
            self._crew.join()
            if self._error is not None:
                raise self._error
            copied = self._complete(upload_id, lengths, expected)
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

    def _complete(self, upload_id: str, lengths: list[int], expected: Checksum | None) -> Copied:
        """Publishes the copy, and compares its size and checksum with the source's.

        Raises:
            ChecksumMismatchError: the store copied other bytes than the source has.
        """
        algorithm = None if expected is None else expected.algorithm
        parts = {number: self._stored_part(number, length, algorithm) for number, length in enumerate(lengths, 1)}
        if any(part.crc is None for part in parts.values()):
            algorithm = None
        if algorithm is not None and expected is not None:
            combined = algorithm.of_parts((part.crc, part.length) for part in parts.values() if part.crc is not None)
            if combined != expected.value:
                raise ChecksumMismatchError(
                    f"{format_uri(*self._destination)}: the copied parts have {algorithm.s3_name} "
                    f"{combined}, the source has {expected.value}; nothing was published"
                )
        stored = Completion(
            self._service, self._destination, upload_id, parts, MultipartUploadConfig(), algorithm, resumed=True
        ).run()
        checksums = {algorithm.xml: stored.checksum} if algorithm and stored.checksum and stored.confirmed else {}
        return Copied(stored.etag, checksums, stored.version_id)

    def _stored_part(self, number: int, length: int, algorithm: Algorithm | None) -> StoredPart:
        copied = self._parts[number]
        value = None if algorithm is None else algorithm.reported(copied.checksums.get(algorithm.xml))
        crc = None if algorithm is None or value is None else algorithm.decode(value)
        return StoredPart(None if copied.tag is None else copied.tag.as_given, length, crc)


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
