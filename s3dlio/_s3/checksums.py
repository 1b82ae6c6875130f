"""The checksums of S3: CRC64NVME, CRC32C and CRC32, computed by awscrt, and SHA256 and SHA1, computed by hashlib.

Nothing is computed byte by byte in Python. awscrt is imported when the first CRC is needed: that takes 30 ms and 12 MB.
Callers are `upload`, `completion` and `download` for payload, and the modules of operations for header names.
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

from .._runtime.forking import no_fork

# A composite value ends with the number of parts.
_COUNT = re.compile("-[0-9]{1,5}$")


@functools.cache
def _native() -> Any:
    """awscrt's functions. The thread that needs them first imports them; no fork happens meanwhile."""
    with no_fork():
        from awscrt import checksums  # type: ignore[import-untyped, unused-ignore]

    return checksums


def load() -> None:
    """Imports awscrt in the caller's thread, where CRCs will be needed: workers should import nothing."""
    _native()


@dataclass(frozen=True)
class Algorithm:
    """One checksum and its names in S3; its values are numbers of `bits` bits.

    Attributes:
        name: in lower case, as users write it: ``crc64nvme``.
        s3_name: value of ``x-amz-checksum-algorithm``: ``CRC64NVME``.
        header: header that carries a value: ``x-amz-checksum-crc64nvme``.
        xml: element that carries a value: ``ChecksumCRC64NVME``.
        bits: width of a value.
        composite: for a multipart object, the store reports the checksum of the parts' checksums, with the number of
            parts. For a hash it always does; for a CRC it depends on how the upload was created.

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
        """Whether it is a hash: the values of two byte strings cannot be combined into the value of both."""
        return self.name.startswith("sha")

    def of_kind(self, composite: bool) -> Algorithm:
        """The same algorithm with this kind of value for multipart objects."""
        return self if composite is self.composite else replace(self, composite=composite)

    def of(self, segments: Iterable[Any]) -> int:
        """The value of all segments (C-contiguous buffers of any format) together; no copy, and no GIL for long ones.

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
        """The value that S3 reports for a multipart object, from each part's value and length in bytes, in order."""
        if self.composite:
            digests = [value.to_bytes(self.bits // 8, "big") for value, _ in parts]
            return f"{self.encode(self.of(digests))}-{len(digests)}"
        known = iter(parts)
        total, _ = next(known)
        for value, length in known:
            total = self.combine(total, value, length)
        return self.encode(total)

    def update(self, data: Any, value: int = 0) -> int:
        """The CRC of the bytes so far, whose CRC is `value`, followed by `data`; no copy and, from 5 KiB, no GIL.

        Args:
            data: a C-contiguous buffer of any format; its bytes count.

        Raises:
            BufferError: `data` is not contiguous.
        """
        crc: int = getattr(_native(), self.name)(data, value)
        return crc

    def combine(self, first: int, second: int, second_length: int) -> int:
        """The CRC of two byte strings together, from the CRC of each and the length of the second in bytes."""
        crc: int = getattr(_native(), f"combine_{self.name}")(first, second, second_length)
        return crc

    def encode(self, value: int) -> str:
        """The value in S3's form: big-endian bytes in base64."""
        return base64.b64encode(value.to_bytes(self.bits // 8, "big")).decode("ascii")

    def decode(self, text: str) -> int:
        """The value of a text in S3's form.

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

    def reported(self, text: str | None) -> str | None:
        """The value, composite or not, in a header or element; None where it is absent, empty or unreadable.

        Fields that were sent twice arrive joined by a comma: equal values count as one, different ones as none.
        """
        if not text:  # the usual case: each head is searched for every algorithm
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
    """An algorithm and a value in S3's form (base64)."""

    algorithm: Algorithm
    value: str


def _algorithm(s3_name: str, bits: int, composite: bool = False) -> Algorithm:
    name = s3_name.lower()
    return Algorithm(name, s3_name, f"x-amz-checksum-{name}", f"Checksum{s3_name}", bits, composite)


# By name, in order of preference: by speed, then by width.
ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        _algorithm("CRC64NVME", 64), _algorithm("CRC32C", 32), _algorithm("CRC32", 32),
        _algorithm("SHA256", 256, composite=True),
    )
}  # fmt: skip
# An upload that another tool began may have been created with SHA1; ours never are.
FOUND = {**ALGORITHMS, "sha1": _algorithm("SHA1", 160, composite=True)}
# Tried in this order at a store that does not support an algorithm. SHA256 is too slow to be chosen by default.
LADDER = tuple(name for name, algorithm in ALGORITHMS.items() if not algorithm.composite)
