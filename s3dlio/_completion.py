"""Publishes one multipart upload, and makes sure that what the store has is what was sent.

A Complete whose answer was lost is looked for before it is sent again; an answer that leaves something out
is completed by a HEAD. Called by `_upload` once all parts are stored; it keeps no state of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from . import _operations
from ._checksums import Algorithm
from ._client import Service
from ._operations import Checksum, Stored
from ._uri import Location, format_uri
from ._xml import CompletedPart
from .config import MultipartUploadConfig
from .errors import ChecksumMismatchError, S3dlioError, S3Error


class StoredPart(NamedTuple):
    """A part that the store has: its ETag, length in bytes and checksum (None where checksums are off)."""

    etag: str
    length: int
    crc: int | None


class Completion:
    """One upload with all its parts, by number."""

    def __init__(
        self,
        service: Service,
        location: Location,
        upload_id: str,
        parts: Mapping[int, StoredPart],
        config: MultipartUploadConfig,
        algorithm: Algorithm | None,
    ) -> None:
        self._service = service
        self._location = location
        self._uri = format_uri(*location)
        self._upload_id = upload_id
        self._parts = parts
        self._config = config
        self._algorithm = algorithm
        self._total = sum(part.length for part in parts.values())
        self._checksum = self._combined()
        self._found: Stored | None = None

    def run(self) -> Stored:
        """Completes the upload; the checksum of what it returns is that of the bytes sent.

        Raises:
            S3Error, TransportError: the store refused, or no answer came.
            ChecksumMismatchError: the store has something else than what was sent.
        """
        try:
            stored = self._complete()
        except S3Error as error:
            if error.code != "InvalidPart":
                raise
            if not self._take_listed_etags():
                raise
            stored = self._complete()
        wrong = self._difference(stored)
        if wrong is not None:
            ours = stored is not self._found  # another writer may have published what a HEAD has found
            fate = _operations.withdraw(self._service, self._location, stored.version_id if ours else None)
            raise ChecksumMismatchError(f"{self._uri}: {wrong}; {fate}")
        return stored._replace(checksum=None if self._checksum is None else self._checksum.value)

    def _in_order(self) -> Iterator[tuple[int, StoredPart]]:
        """Number and part, without a second table of up to 10,000 of them."""
        return ((number, self._parts[number]) for number in sorted(self._parts))

    def _complete(self) -> Stored:
        listed = (self._listed(number, part) for number, part in self._in_order())
        stored = _operations.complete_upload(
            self._service, self._location, self._upload_id, listed, self._config, self._checksum, self._total,
            self._published,
        )  # fmt: skip
        if stored is None:
            assert self._found is not None
            stored = self._found
        return stored

    def _combined(self) -> Checksum | None:
        if self._algorithm is None:
            return None
        known = ((part.crc, part.length) for _, part in self._in_order() if part.crc is not None)
        return Checksum(self._algorithm, self._algorithm.of_parts(known))

    def _listed(self, number: int, part: StoredPart) -> CompletedPart:
        algorithm = self._algorithm
        if algorithm is None or part.crc is None:
            return CompletedPart(number, part.etag)
        return CompletedPart(number, part.etag, (algorithm.xml, algorithm.encode(part.crc)))

    def _published(self) -> bool:
        """Whether an earlier Complete of unknown outcome has published the object: it is there, and it is ours."""
        try:
            headers = _operations.head_object(self._service, self._location)
        except S3dlioError:
            return False
        etag = _operations.bare_etag(headers.get("etag"))
        if headers.get("content-length") != str(self._total):
            return False
        reported = _operations.reported_checksum(headers, self._algorithm)
        if self._checksum is not None and reported is not None:
            ours = reported == self._checksum.value
        else:
            ours = etag == self._expected_etag()
        if ours:
            self._found = Stored(etag, reported, _operations.version_of(headers))
        return ours

    def _expected_etag(self) -> str | None:
        """What S3 calls an object of these parts: the MD5 of their MD5s, and their number."""
        try:
            digests = b"".join(bytes.fromhex(part.etag) for _, part in self._in_order())
        except ValueError:  # encrypted parts have other ETags
            return None
        return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(self._parts)}"

    def _take_listed_etags(self) -> bool:
        """Adopts the ETags that the store lists, where sizes and checksums of all parts are ours."""
        try:
            parts = _operations.list_parts(self._service, self._location, self._upload_id)
        except S3dlioError:
            return False
        listed = {part.number: part for part in parts}
        adopted: dict[int, StoredPart] = {}
        for number, part in self._in_order():
            found = listed.get(number)
            if found is None or found.size != part.length:
                return False
            checksum = self._listed(number, part).checksum
            if checksum is not None and found.checksums.get(checksum[0], checksum[1]) != checksum[1]:
                return False
            adopted[number] = part._replace(etag=_operations.bare_etag(found.etag))
        self._parts = adopted
        return True

    def _difference(self, stored: Stored) -> str | None:
        """What the store has otherwise than it was sent, or None; a HEAD tells what its answer left out."""
        checksum, echoed = self._checksum, stored.checksum
        if echoed is None:
            headers = _operations.head_object(self._service, self._location, version_id=stored.version_id)
            size = int(headers.get("content-length", "-1"))
            if size != self._total:
                return f"the store has {size} bytes, {self._total} were sent"
            echoed = _operations.reported_checksum(headers, self._algorithm)
        if checksum is not None and echoed is not None and echoed != checksum.value:
            name = checksum.algorithm.s3_name
            return f"the store has {name} {echoed}, {checksum.value} was sent; {_operations.LIKELY_CAUSE}"
        suffix = stored.etag.rpartition("-")[2] if "-" in stored.etag else None
        if suffix is not None and suffix.isdigit() and int(suffix) != len(self._parts):
            return f"the store's ETag {stored.etag} counts {suffix} parts, not {len(self._parts)}"
        return None
