"""What the store lists of an upload that another writer created: its checksums, and the parts it has in full.

Pure functions of the listing; nothing is sent from here. Called by `writer` when an upload is resumed, and by `upload`
for the parts beyond the complete ones.
"""

from __future__ import annotations

from typing import NamedTuple

from .._s3.checksums import FOUND, Algorithm
from .._s3.listings import PartsListing
from .._s3.xml import ListedPart
from ..errors import ConfigurationError
from .assembler import part_length
from .completion import StoredPart


class Resumed(NamedTuple):
    """An upload that another writer created, as the store lists it.

    Attributes:
        algorithm: of its checksums; None if it has none or the store does not name it.
        kind_known: whether `algorithm` is certainly of the kind (composite or full object) that the upload has.
        parts: the parts that the store has.
    """

    upload_id: str
    algorithm: Algorithm | None
    kind_known: bool
    parts: list[ListedPart]

    @classmethod
    def of(cls, uri: str, upload_id: str, listing: PartsListing, wanted: Algorithm | None) -> Resumed:
        """Reads the store's listing. An upload's checksums are fixed when it is created.

        Args:
            wanted: the caller's choice. It applies if the store names no algorithm. None sends no checksums then,
                even if the store lists checksums that it has computed itself.

        Raises:
            ConfigurationError: its parts have checksums that this library cannot continue.
        """
        name, kind = listing.checksum_algorithm, listing.checksum_type
        if not name:
            named = {element for part in listing.parts for element in part.checksums}
            found = next((one for one in FOUND.values() if one.xml in named), None)
            if found is None and not listing.parts and name is None:
                return cls(upload_id, wanted, True, listing.parts)
            name = None if found is None or wanted is None else found.s3_name
        if name is None:
            return cls(upload_id, None, True, listing.parts)
        algorithm = FOUND.get(name.lower())
        impossible = algorithm is None or kind not in (None, "", "COMPOSITE", "FULL_OBJECT")
        if algorithm is None or impossible or (kind == "FULL_OBJECT" and algorithm.hashed):
            raise ConfigurationError(
                f"the upload {upload_id} of {uri} was created with checksums {name} of type {kind or 'unknown'}, which "
                "this library cannot continue; finish it with the tool that created it, or abort it and start again"
            )
        # CRC64NVME and hashes have one kind each.
        certain = bool(kind) or algorithm.hashed or algorithm.name == "crc64nvme"
        return cls(
            upload_id, algorithm.of_kind(kind == "COMPOSITE" if kind else algorithm.composite), certain, listing.parts
        )

    def crc_of(self, part: ListedPart) -> int | None:
        """The listed checksum of a part as a number; None without one, or for a composite one."""
        if self.algorithm is None:
            return None
        value = self.algorithm.reported(part.checksums.get(self.algorithm.xml))
        return None if value is None or "-" in value else self.algorithm.decode(value)

    def complete_parts(self, part_size: int, grow: bool) -> list[StoredPart]:
        """The parts, from the first on without a gap, that the store has in full.

        If the upload has checksums, a part counts only with the one that the store lists for it.
        """
        listed = {part.number: part for part in self.parts}
        complete: list[StoredPart] = []
        while (part := listed.get(len(complete) + 1)) is not None:
            crc = self.crc_of(part)
            expected = part_length(part.number, part_size, grow)
            if part.size != expected or part.etag is None or (self.algorithm is not None and crc is None):
                break
            complete.append(StoredPart(part.etag.as_given, part.size, crc))
        return complete
