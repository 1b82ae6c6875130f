"""What goes wrong in a soak: for each request a throw of the dice that only the seed and the request decide.

So the same seed gives the same faults to the same requests, in whatever order threads send them. `Chaos` is of the
scripted peer, `Detour` of the proxy before MinIO.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from behaviours import (
    CorruptResponse,
    DripRequest,
    DropAfterHead,
    DropBeforeHead,
    IgnoreRange,
    LongBody,
    LostResponse,
    ResetResponse,
    Serve,
    ShortBody,
    Status,
    WrongContentRange,
)
from counts import Counts
from faulty import COMPLETE, CREATE, CURABLE, FATAL, PUT, UPLOAD_PART
from oddities import DATES, ETAGS, FRAMINGS, GATEWAY, MISSING, REPLACED, UNUSABLE
from peer import Behaviour, Turn
from proxy import Asked

DOOMED = "doomed"  # keys that begin so meet a fault that no retry cures
VERIFIED = "verified"  # keys that begin so are read as a whole only, so that every flipped bit is detected
_SHARE = 0.2
_LATE_SHARE = 0.01
# Well beyond the second after which a part counts as late, at a time when a part takes milliseconds.
_LATE = DripRequest(pieces=1, pause=2.5)

_ANYTHING: list[Behaviour] = [Status(503, "SlowDown"), Status(500, "InternalError"), DropBeforeHead(), DropAfterHead()]
_READING = [
    *_ANYTHING,
    ResetResponse(at=1000),
    ShortBody(),
    ShortBody(by=7, announced=True),
    LongBody(),
    IgnoreRange(),
    WrongContentRange("bytes 1-2/3"),
]
_FAULTS: dict[str, list[Behaviour]] = {
    **{
        operation: [fault for name, fault in CURABLE if name == operation]
        for operation in (CREATE, UPLOAD_PART, COMPLETE, PUT)
    },
    "GetObject": _READING,
    "HeadObject": _ANYTHING,
    "ListParts": _ANYTHING,
    "ListMultipartUploads": _ANYTHING,
    "AbortMultipartUpload": [*_ANYTHING, LostResponse()],
}
_FATAL = {
    operation: [fault for name, fault in FATAL if name == operation] for operation in (UPLOAD_PART, COMPLETE, PUT)
}
_LOST_CREATES: list[Behaviour] = [LostResponse(), LostResponse(Status(500, "InternalError")), DropAfterHead()]
_LOST_CREATE_SHARE = 0.03


class Chaos:
    """Answers every request of a soak, some of them badly."""

    def __init__(self, seed: object, counts: Counts) -> None:
        self._seed = seed
        self._counts = counts

    def __call__(self, turn: Turn) -> None:
        seen = turn.seen
        if seen.operation == UPLOAD_PART and seen.attempt > 1:
            self._count_second_sending(turn)
        fault = self.choose(seen.operation, seen.key, seen.part, seen.offset, seen.attempt)
        if not isinstance(fault, Serve):
            self._counts.add("injected faults")
        fault(turn)

    def choose(self, operation: str, key: str, part: int | None, offset: int | None, attempt: int) -> Behaviour:
        """The fault for this request, or `Serve`."""
        dice = random.Random(f"{self._seed}/{operation}/{key}/{part}/{offset}/{attempt}")
        if key.startswith(DOOMED) and operation in _FATAL:
            # One and the same fault for all attempts; and one part is enough.
            constant = random.Random(f"{self._seed}/{operation}/{key}")
            if operation != UPLOAD_PART or part == 2:
                return constant.choice(_FATAL[operation])
        if operation == CREATE and dice.random() < _LOST_CREATE_SHARE:
            return dice.choice(_LOST_CREATES)
        if operation == UPLOAD_PART and dice.random() < _LATE_SHARE:
            return _LATE
        faults: Sequence[Behaviour] = _FAULTS.get(operation, ())
        if operation == "GetObject" and key.startswith(VERIFIED):
            faults = [*faults, CorruptResponse()]
        return dice.choice(faults) if faults and dice.random() < _SHARE else Serve()

    def _count_second_sending(self, turn: Turn) -> None:
        """A part that comes while an earlier sending of it is still being answered was sent twice on purpose."""
        seen = turn.seen
        same = (one for one in turn.peer.requests(UPLOAD_PART, seen.part) if one.upload_id == seen.upload_id)
        if any(one.open and one is not seen for one in same):
            self._counts.add("parts sent twice")


# Of all answers that pass the proxy, how many are framed otherwise, and how many have something odd in their heads.
_FRAMED_SHARE, _HEAD_SHARE = 0.4, 0.4
# Of answers to a range, how many say too little to be of use. Of other answers none: what a cut body without a length
# lacks, nobody can know whose object has no checksum.
_UNUSABLE_SHARE = 0.02
# How many are replaced by a page of the gateway's own, after they have had their effect.
_REPLACED_SHARE = 0.03
_IN_HEADS = [*ETAGS, *MISSING, *DATES]


class Detour:
    """Names the oddities of each answer that goes through the proxy."""

    def __init__(self, seed: object, counts: Counts) -> None:
        self._seed = seed
        self._counts = counts

    def __call__(self, asked: Asked) -> list[str]:
        names = self.choose(asked)
        self._counts.add("answers altered on their way", bool(names))
        return names

    def choose(self, asked: Asked) -> list[str]:
        dice = random.Random(f"{self._seed}/{asked}")
        if asked.operation == "GetObject" and asked.offset is not None and dice.random() < _UNUSABLE_SHARE:
            return [dice.choice(list(UNUSABLE))]
        if dice.random() < _REPLACED_SHARE:
            return [dice.choice(list(REPLACED if asked.method in ("PUT", "POST", "DELETE") else GATEWAY))]
        names = [dice.choice(list(FRAMINGS))] if dice.random() < _FRAMED_SHARE else []
        if dice.random() < _HEAD_SHARE:
            names += dice.sample(_IN_HEADS, dice.randint(1, 3))
        return names
