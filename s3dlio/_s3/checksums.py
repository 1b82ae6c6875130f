"""The checksums S3 knows: CRC64NVME, CRC32C and CRC32, computed by awscrt, and SHA256 and SHA1, by hashlib.

It must never compute over bytes one by one in Python, and never import awscrt before a checksum is needed
(57 ms and 12 MB). Called by `upload`, `completion` and `download` for payload, by `operations` for header names.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from .._runtime.forking import forks_wait

# The number of parts at the end of a composite value.
_COUNT = re.compile("-[0-9]{1,5}$")


@functools.cache
def _native() -> Any:
    with forks_wait():
        from awscrt import checksums  # type: ignore[import-untyped, unused-ignore]

    return checksums


def load() -> None:
    """Imports awscrt in the caller's thread; workers import nothing."""
    _native()


@dataclass(frozen=True)
class Algorithm:
    """One checksum and the names that S3 has for it; its values are numbers of `bits` bits.

    Attributes:
        name: in lower case, as users write it: ``crc64nvme``.
        s3_name: value of ``x-amz-checksum-algorithm``: ``CRC64NVME``.
        header: header that carries a value: ``x-amz-checksum-crc64nvme``.
        xml: element that carries a value: ``ChecksumCRC64NVME``.
        bits: width of a value.
        composite: of a multipart object the store reports that of its parts' values in a row, with their number. Of a
            hash it knows no other; of a CRC it depends on how the upload was created.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
    """

    name: str
    s3_name: str
    header: str
    xml: str
    bits: int
    composite: bool = False

    @property
    def kind(self) -> str:
        """What a multipart object's value covers: the value of ``x-amz-checksum-type``."""
        return "COMPOSITE" if self.composite else "FULL_OBJECT"

    @property
    def hashed(self) -> bool:
        """Whether it is a hash: the values of two byte strings do not give that of both in a row."""
        return self.name.startswith("sha")

    def of_kind(self, composite: bool) -> Algorithm:
        """The same algorithm, whose multipart objects have a value of this kind."""
        return self if composite is self.composite else replace(self, composite=composite)

    def of(self, segments: Iterable[Any]) -> int:
        """The value of all segments (C-contiguous buffers of any format) in a row; no copy, and no GIL for long ones.

        Raises:
            BufferError: a segment is not contiguous.
        """
        if not self.hashed:
            update, crc = getattr(_native(), self.name), 0
            for segment in segments:
                crc = update(segment, crc)
            return crc
        digest = hashlib.new(self.name, usedforsecurity=False)
        for segment in segments:
            digest.update(segment)
        return int.from_bytes(digest.digest(), "big")

    def of_parts(self, parts: Iterable[tuple[int, int]]) -> str:
        """What S3 reports of a multipart object: from each part's value and length in bytes, in their order."""
        if self.composite:
            digests = [value.to_bytes(self.bits // 8, "big") for value, _ in parts]
            return f"{self.encode(self.of(digests))}-{len(digests)}"
        known = iter(parts)
        total, _ = next(known)
        for value, length in known:
            total = self.combine(total, value, length)
        return self.encode(total)

    def update(self, data: Any, value: int = 0) -> int:
        """The CRC of what gave `value` (0: nothing) followed by `data`; no copy and, from 5 KiB, no GIL.

        Args:
            data: a C-contiguous buffer of any format, taken as its bytes.

        Raises:
            BufferError: `data` is not contiguous.
        """
        crc: int = getattr(_native(), self.name)(data, value)
        return crc

    def combine(self, first: int, second: int, second_length: int) -> int:
        """The CRC of two byte strings in a row, from the CRC of each and the second one's length in bytes."""
        crc: int = getattr(_native(), f"combine_{self.name}")(first, second, second_length)
        return crc

    def encode(self, value: int) -> str:
        """The value as S3 writes it: big-endian bytes in base64."""
        return base64.b64encode(value.to_bytes(self.bits // 8, "big")).decode("ascii")

    def decode(self, text: str) -> int:
        """The value that S3 wrote as `text`.

        Raises:
            ValueError: `text` is not base64 of this algorithm's width (composite values end in ``-N``).
        """
        try:
            raw = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) != self.bits // 8:
            raise ValueError(f"{text!r} is not a {self.s3_name} value: expected base64 of {self.bits // 8} bytes")
        return int.from_bytes(raw, "big")

    def told(self, text: str | None) -> str | None:
        """The value, composite or not, that a header or element tells; None where it is absent, empty or unreadable.

        A field that was sent twice arrives joined by a comma: equal values count as one, different ones as none.
        """
        if not text:  # every head is asked for every algorithm
            return None
        value = text.strip()
        if "," in value:
            values = {one.strip() for one in value.split(",")}
            value = values.pop() if len(values) == 1 else ""
        try:
            self.decode(_COUNT.sub("", value) if "-" in value else value)
        except ValueError:
            return None
        return value


class Checksum(NamedTuple):
    """A checksum as S3 writes it: the algorithm and the base64 value."""

    algorithm: Algorithm
    value: str


def _algorithm(s3_name: str, bits: int, composite: bool = False) -> Algorithm:
    name = s3_name.lower()
    return Algorithm(name, s3_name, f"x-amz-checksum-{name}", f"Checksum{s3_name}", bits, composite)


# By name, in the order in which they are preferred: speed, and how much a value of that width proves.
ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        _algorithm("CRC64NVME", 64), _algorithm("CRC32C", 32), _algorithm("CRC32", 32),
        _algorithm("SHA256", 256, composite=True),
    )
}  # fmt: skip
# What an upload that another tool began may have been created with; no upload of ours is.
FOUND = {**ALGORITHMS, "sha1": _algorithm("SHA1", 160, composite=True)}
# What a store without an algorithm is offered instead, one after the other; SHA256 costs too much to be chosen unasked.
LADDER = tuple(name for name, algorithm in ALGORITHMS.items() if not algorithm.composite)
