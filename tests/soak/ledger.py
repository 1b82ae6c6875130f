"""What a soak promised and saw, and the audit that compares it with what the stores have.

The ledger takes down what was begun, what `close()` reported, what downloads returned and what warnings named. The
audit reads the store by other means than the library, and believes only that.
"""

from __future__ import annotations

import hashlib
import re
import struct
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from stress import check_records

SETTLING = 30.0  # seconds that endings under way at the end of a round may take
_UNSEEN_CREATES = re.compile(r"CreateMultipartUpload of (s3://\S+) that may have taken effect unseen: (\d+)")


def digest(data: Any) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


# ------------------------------------------------------------------------------------------- what objects hold


class Whole(Protocol):
    """The bytes that an object has to have, all of them and in order."""

    def holds(self, data: bytes) -> bool: ...


@dataclass(frozen=True)
class Records:
    """What threads wrote side by side: so many records of each, in any order among threads."""

    written: list[int]

    def holds(self, data: bytes) -> bool:
        try:
            check_records(data, self.written)
        except (AssertionError, struct.error, IndexError):
            return False
        return True


# ------------------------------------------------------------------------------------------------------ the store


@dataclass(frozen=True)
class StoredVersion:
    version_id: str
    data: bytes


@dataclass(frozen=True)
class LeftUpload:
    """A multipart upload that nobody ended, with the number of its parts."""

    key: str
    upload_id: str
    parts: int


class Evidence(Protocol):
    """How an audit looks into a store, without the library."""

    name: str

    def keys(self) -> list[str]: ...

    def versions(self, key: str) -> list[StoredVersion]: ...

    def uploads(self, keys: list[str]) -> list[LeftUpload]: ...


# ----------------------------------------------------------------------------------------------------- the ledger


@dataclass(frozen=True)
class _Closed:
    key: str
    version_id: str | None
    whole: Whole


@dataclass
class Ledger:
    """What happened in one bucket. Any thread may write to it."""

    bucket: str
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _begun: dict[str, list[Whole]] = field(default_factory=lambda: defaultdict(list))
    _closed: list[_Closed] = field(default_factory=list)
    _read: dict[str, list[tuple[int, int | None, bytes]]] = field(default_factory=lambda: defaultdict(list))
    _warned: Counter[str] = field(default_factory=Counter)

    def begin(self, key: str, whole: Whole) -> None:
        """Somebody is about to write this object."""
        with self._lock:
            self._begun[key].append(whole)

    def close(self, key: str, whole: Whole, version_id: str | None) -> None:
        """The library says that the store has it."""
        with self._lock:
            self._closed.append(_Closed(key, version_id, whole))

    def read(self, key: str, begin: int, end: int | None, data: Any) -> None:
        """A download of the bytes [begin, end) has returned these."""
        seen = digest(data)
        with self._lock:
            self._read[key].append((begin, end, seen))

    def note(self, text: str) -> None:
        """Takes down which of this bucket's objects the library's warnings name."""
        with self._lock:
            for uri, count in _UNSEEN_CREATES.findall(text):
                if uri.startswith(f"s3://{self.bucket}/"):
                    self._warned[uri.removeprefix(f"s3://{self.bucket}/")] += int(count)

    # ------------------------------------------------------------------------------------------------- the audit

    def audit(self, store: Evidence) -> Verdict:
        """Compares everything with what `store` has now. Call when nothing is under way any more."""
        verdict = Verdict()
        closed: dict[str, list[_Closed]] = defaultdict(list)
        for one in self._closed:
            closed[one.key].append(one)
        for key in sorted({*self._begun, *self._read, *store.keys()}):
            versions = store.versions(key)
            verdict.objects += len(versions)
            verdict.bytes += sum(len(one.data) for one in versions)
            for found in self._missing(closed[key], versions):
                verdict.lose(f"{store.name}: {key} {found.version_id}: closed, and not there as it was written")
            for version in versions:
                if not any(whole.holds(version.data) for whole in self._begun[key]):
                    verdict.mix(f"{store.name}: {key} {version.version_id}: {len(version.data)} bytes nobody wrote so")
            for begin, end in self._mixed(key, versions):
                verdict.mix(f"{store.name}: {key}: a download of [{begin}, {end}) is of no version")
        self._count_uploads(store, verdict)
        return verdict

    def _missing(self, closed: list[_Closed], versions: list[StoredVersion]) -> Iterator[_Closed]:
        for one in closed:
            named = [version for version in versions if one.version_id in (None, version.version_id)]
            if not any(one.whole.holds(version.data) for version in named):
                yield one

    def _mixed(self, key: str, versions: list[StoredVersion]) -> Iterator[tuple[int, int | None]]:
        """The downloads whose bytes are those of no whole version, cut as the download was."""
        known: dict[tuple[int, int | None], set[bytes]] = {}
        for begin, end, seen in self._read[key]:
            if (begin, end) not in known:
                known[begin, end] = {digest(memoryview(version.data)[begin:end]) for version in versions}
            if seen not in known[begin, end]:
                yield begin, end

    def _count_uploads(self, store: Evidence, verdict: Verdict) -> None:
        """Whoever drops a writer does not wait until it has been aborted: a while is given for that."""
        deadline = time.monotonic() + SETTLING
        while True:
            orphans, reported = self._split(store.uploads(sorted(self._begun)))
            if not orphans or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        verdict.reported += len(reported)
        for one in orphans:
            verdict.orphan(f"{store.name}: upload {one.upload_id} of {one.key} with {one.parts} parts was left")

    def _split(self, left: list[LeftUpload]) -> tuple[list[LeftUpload], list[LeftUpload]]:
        """Orphans, and what a warning has reported: as many uploads of a key as it was named, none with a part."""
        warned, orphans, reported = Counter(self._warned), [], []
        for one in left:
            if one.parts == 0 and warned[one.key] > 0:
                warned[one.key] -= 1
                reported.append(one)
            else:
                orphans.append(one)
        return orphans, reported


@dataclass
class Verdict:
    """What an audit found; each of `findings` is counted in one of the three numbers that have to be 0."""

    lost: int = 0
    orphaned: int = 0
    reported: int = 0
    mixed: int = 0
    objects: int = 0
    bytes: int = 0
    findings: list[str] = field(default_factory=list)

    def lose(self, finding: str) -> None:
        self.lost += 1
        self.findings.append(f"lost: {finding}")

    def orphan(self, finding: str) -> None:
        self.orphaned += 1
        self.findings.append(f"orphaned: {finding}")

    def mix(self, finding: str) -> None:
        self.mixed += 1
        self.findings.append(f"mixed: {finding}")

    def add(self, other: Verdict) -> None:
        for name in ("lost", "orphaned", "reported", "mixed", "objects", "bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.findings += other.findings

    @property
    def clean(self) -> bool:
        return not (self.lost or self.orphaned or self.mixed)

    def __str__(self) -> str:
        return f"lost {self.lost}, orphaned {self.orphaned} (reported {self.reported}), mixed {self.mixed}"
