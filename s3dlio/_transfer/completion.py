"""Publishes one multipart upload, and checks that the store has what was sent.

After a Complete of unknown outcome the store is asked before a retry: while it lists the upload, the Complete has not
happened. A value missing from a response is unknown; only a value that differs from ours fails an upload. Called by
`upload` once all parts are stored; it keeps no state of its own.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from .._net.addresses import Location, format_uri
from .._s3 import get_response, listings, multipart_operations, object_operations, responses
from .._s3.checksums import Algorithm, Checksum
from .._s3.endpoint_state import refuses_checksum
from .._s3.requests import FailedAttempt
from .._s3.responses import Stored
from .._s3.service import Service
from .._s3.xml import CompletedPart, CompleteResult
from .._values.entity_tags import parse_entity_tag
from ..config import MultipartUploadConfig
from ..errors import ChecksumMismatchError, NotFoundError, S3dlioError, S3Error

log = logging.getLogger("s3dlio")


class StoredPart(NamedTuple):
    """A part that the store has: its ETag as reported (None if it reported none), length in bytes and checksum (None if
    checksums are off)."""

    etag: str | None
    length: int
    crc: int | None


class Completion:
    """One upload with all its parts, by number.

    Args:
        resumed: another writer created the upload, with headers that are not known.
        kind_known: whether the upload is known to have been created with this kind of algorithm (composite or full
            object). If not, no checksum of the object is sent; the reported one is compared, whatever its kind.
    """

    def __init__(
        self,
        service: Service,
        location: Location,
        upload_id: str,
        parts: Mapping[int, StoredPart],
        config: MultipartUploadConfig,
        algorithm: Algorithm | None,
        resumed: bool = False,
        kind_known: bool = True,
    ) -> None:
        self._service = service
        self._location = location
        self._uri = format_uri(*location)
        self._upload_id = upload_id
        self._parts = parts
        self._config = config
        self._algorithm = algorithm
        self._resumed = resumed
        self._total = sum(part.length for part in parts.values())
        self._checksum = self._object_checksum()
        # What the requests contain; each becomes False if the store refuses it.
        self._sends_checksum, self._sends_part_checksums = kind_known, True
        self._uncertain = 0
        self._found: Stored | None = None

    def run(self) -> Stored:
        """Completes the upload; the result's checksum is that of the bytes sent.

        Raises:
            S3Error, TransportError: the store refused, or no response came.
            ChecksumMismatchError: the store has other bytes than were sent.
        """
        if any(part.etag is None for part in self._parts.values()) and not self._take_listed_etags():
            numbers = [number for number, part in self._in_order() if part.etag is None]
            raise S3Error(
                "CompleteMultipartUpload", *self._location, None, "MissingETag",
                f"the store reported no ETag for {len(numbers)} parts, the first of them part {numbers[0]}",
                upload_id=self._upload_id,
            )  # fmt: skip
        corrected: set[str] = set()
        while True:
            try:
                return self._complete()
            except S3Error as error:
                self._uncertain = error.uncertain
                if not self._correct(error, corrected):
                    raise

    def _correct(self, error: S3Error, done: set[str]) -> bool:
        """Whether another Complete may succeed: each cause of a refusal is corrected once."""
        if error.code == "InvalidPart" and "etags" not in done:
            done.add("etags")
            return self._take_listed_etags(refused=True)
        if self._checksum is None or not refuses_checksum(error) or not self._service.settings.checksum_fallback:
            return False
        # The store has accepted checksums with the parts. The published object's checksum is compared all the same.
        if self._sends_checksum:
            self._sends_checksum = False
        elif self._sends_part_checksums:
            self._sends_part_checksums = False
        else:
            return False
        self._service.without_algorithm(self._algorithm, error)
        return True

    def _in_order(self) -> Iterator[tuple[int, StoredPart]]:
        """Yields number and part in order, without a second table of up to 10,000 parts."""
        return ((number, self._parts[number]) for number in sorted(self._parts))

    def _complete(self) -> Stored:
        listed = (
            CompletedPart(number, part.etag or "", self._part_checksum(part) if self._sends_part_checksums else None)
            for number, part in self._in_order()
        )
        response = multipart_operations.complete_upload(
            self._service, self._location, self._upload_id, listed, self._config,
            self._checksum if self._sends_checksum else None, self._total, self._published, self._uncertain,
        )  # fmt: skip
        if response is None:
            assert self._found is not None
            return self._found._replace(checksum=None if self._checksum is None else self._checksum.value)
        return self._verified(*response)

    def _object_checksum(self) -> Checksum | None:
        if self._algorithm is None:
            return None
        known = ((part.crc, part.length) for _, part in self._in_order() if part.crc is not None)
        return Checksum(self._algorithm, self._algorithm.of_parts(known))

    def _part_checksum(self, part: StoredPart) -> tuple[str, str] | None:
        """A part's checksum: the XML element that carries it, and its value."""
        algorithm = self._algorithm
        return None if algorithm is None or part.crc is None else (algorithm.xml, algorithm.encode(part.crc))

    # --------------------------------------------------------------------------------- a Complete of unknown outcome

    def _published(self, failed: FailedAttempt) -> bool:
        """Whether a Complete of unknown outcome has published the object: the upload has ended, and the stored object
        is what was sent. Equal bytes alone prove nothing: they may be an older object's."""
        if not self._has_ended(failed):
            return False
        try:
            headers = object_operations.head_object(self._service, self._location)
        except S3dlioError:
            return False
        size = get_response.content_length(headers)
        if size is not None and size != self._total:
            return False
        if not self._resumed and not object_operations.described_as(headers, self._config):
            return False
        reported = responses.reported_checksum(headers, self._algorithm)
        etag = parse_entity_tag(headers.get("etag"))
        if self._checksum is not None and reported is not None:
            ours = reported == self._checksum.value
        else:
            ours = etag is not None and etag.opaque == self._expected_etag()
        if ours:
            self._found = Stored(etag, reported, responses.version_of(headers), confirmed=reported is not None)
        return ours

    def _has_ended(self, failed: FailedAttempt) -> bool:
        """Whether the store says that the upload has ended; a request that fails for another reason proves nothing."""
        try:
            listings.upload_exists(self._service, self._location, self._upload_id)
        except NotFoundError as error:
            if error.code == "NoSuchUpload":
                return True
        except S3dlioError as error:
            log.info("cannot find out whether %s was completed: %s", self._uri, error)
        else:
            return False
        return failed.code == "NoSuchUpload"

    def _expected_etag(self) -> str | None:
        """The ETag that S3 gives an object of these parts: the MD5 of their MD5s and their number."""
        tags = [parse_entity_tag(part.etag) for _, part in self._in_order()]
        try:
            digests = b"".join(bytes.fromhex("" if tag is None else tag.opaque) for tag in tags)
        except ValueError:  # encrypted parts have other ETags
            return None
        return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(self._parts)}"

    # ------------------------------------------------------------------------------------------------- parts' ETags

    def _take_listed_etags(self, refused: bool = False) -> bool:
        """Adopts the ETags that the store lists, if the sizes and checksums of all parts match ours.

        Args:
            refused: whether the store refused our ETags. A weak ETag is then sent as a strong one, because a proxy
                may have weakened it.
        """
        try:
            listing = listings.list_parts(self._service, self._location, self._upload_id)
        except S3dlioError as error:
            log.info("the parts of %s cannot be listed: %s", self._uri, error)
            return False
        listed = {part.number: part for part in listing.parts}
        adopted: dict[int, StoredPart] = {}
        for number, part in self._in_order():
            found, ours = listed.get(number), self._part_checksum(part)
            if found is None or found.size != part.length:
                return False
            if ours is not None and self._algorithm is not None:
                value = self._algorithm.reported(found.checksums.get(ours[0]))
                if value not in (None, ours[1]):
                    return False
            tag = found.etag or parse_entity_tag(part.etag)
            if tag is None:
                return False
            adopted[number] = part._replace(etag=f'"{tag.opaque}"' if refused and tag.weak else tag.as_given)
        self._parts = adopted
        return True

    # ------------------------------------------------------------------------------------------- what was published

    def _verified(self, stored: Stored, result: CompleteResult) -> Stored:
        """Compares what was published with what was sent, as far as the store reports it. A HEAD supplies what is
        missing from the response to Complete.

        Raises:
            ChecksumMismatchError: the store reports a different size or checksum.
        """
        algorithm = self._algorithm
        reported = None if algorithm is None else algorithm.reported(result.checksums.get(algorithm.xml))
        if reported is None:
            stored, reported = self._with_head(stored)
        if stored.etag is not None and "-" in stored.etag.opaque:
            count = stored.etag.opaque.rpartition("-")[2]
            if count.isdecimal() and int(count) != len(self._parts):
                log.info("%s: the ETag %s does not count its %d parts", self._uri, stored.etag, len(self._parts))
        sent = self._sent_as(reported)
        if reported is None or sent is None:
            return stored._replace(checksum=None if self._checksum is None else self._checksum.value)
        if reported != sent.value:
            fate = "nothing was deleted, because only a checksum of the whole object identifies a version"
            if not sent.algorithm.composite:
                fate = object_operations.withdraw(self._service, self._location, stored.version_id)
            raise ChecksumMismatchError(
                f"{self._uri}: the store has {sent.algorithm.s3_name} {reported}, {sent.value} was sent; "
                f"{responses.LIKELY_CAUSE}; {fate}"
            )
        return stored._replace(checksum=reported, confirmed=True)

    def _sent_as(self, reported: str | None) -> Checksum | None:
        """Our checksum, of the kind that the store reports; None if the two cannot be compared.

        Some stores report a composite checksum although a full-object one was requested.
        """
        algorithm = self._algorithm
        if reported is None or algorithm is None or ("-" in reported) is algorithm.composite:
            return self._checksum
        if algorithm.hashed:
            return None
        other = algorithm.of_kind(not algorithm.composite)
        known = ((part.crc, part.length) for _, part in self._in_order() if part.crc is not None)
        return Checksum(other, other.of_parts(known))

    def _with_head(self, stored: Stored) -> tuple[Stored, str | None]:
        """The response to Complete with what a HEAD adds, and the checksum that the HEAD reports."""
        try:
            headers = object_operations.head_object(self._service, self._location, version_id=stored.version_id)
        except S3dlioError as error:
            log.info("cannot ask the store what it has of %s: %s", self._uri, error)
            return stored, None
        etag = parse_entity_tag(headers.get("etag"))
        named = stored.etag is not None and etag is not None and stored.version_id is None
        if named and str(stored.etag).removeprefix("W/") != str(etag).removeprefix("W/"):
            return stored, None  # another writer has replaced the object
        size = get_response.content_length(headers)
        if size is not None and size != self._total:
            raise ChecksumMismatchError(
                f"{self._uri}: the store has {size} bytes, {self._total} were sent; nothing was deleted, because a "
                "size does not prove whose object it is"
            )
        reported = None if self._algorithm is None else self._algorithm.reported(headers.get(self._algorithm.header))
        return stored._replace(etag=stored.etag or etag), reported
