"""What may go wrong with one request of an upload, as tables: what retries cure, and what they cannot.

The writer's state machine draws from them, and so does the soak.
"""

from __future__ import annotations

from behaviours import (
    CorruptInTransit,
    DropAfterHead,
    DropBeforeHead,
    DuplicateResponse,
    EarlyResponse,
    ErrorInside200,
    LongBody,
    LostResponse,
    ResetRequest,
    ResetResponse,
    Status,
    WhiteSpaceFirst,
    WrongETag,
)
from peer import Behaviour

CREATE, UPLOAD_PART, COMPLETE, PUT = "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "PutObject"

PASSING: dict[str, Behaviour] = {
    "slow-down": Status(503, "SlowDown"),
    "internal-error": Status(500, "InternalError"),
    "gateway": Status(502),
    "drop-before-head": DropBeforeHead(),
    "reset-at-once": ResetRequest(),
    "reset-in-the-request": ResetRequest(at=100),
    "early-503": EarlyResponse(503, "SlowDown", after=100),
    "duplicate-response": DuplicateResponse(),
    "long-body": LongBody(),
}
LOST: dict[str, Behaviour] = {
    "lost-500": LostResponse(Status(500, "InternalError")),
    "lost-head-only": DropAfterHead(),
    "lost-by-reset": ResetResponse(),
}
# A lost answer to Create leaves an upload that nobody can name: the contract says so, and it is no passing fault.
CURABLE = [
    *[(operation, fault) for operation in (CREATE, UPLOAD_PART, COMPLETE, PUT) for fault in PASSING.values()],
    *[(operation, fault) for operation in (UPLOAD_PART, COMPLETE, PUT) for fault in LOST.values()],
    (UPLOAD_PART, WrongETag()),
    (COMPLETE, ErrorInside200()),
    (COMPLETE, WhiteSpaceFirst(beats=2, pause=0.01)),
]
FATAL = [
    *[
        (operation, fault)
        for operation in (CREATE, UPLOAD_PART, COMPLETE, PUT)
        for fault in (
            Status(403, "AccessDenied"),
            Status(404, "NoSuchBucket"),
            Status(503, "SlowDown"),
            DropBeforeHead(),
            ResetRequest(at=100),
            EarlyResponse(403, "AccessDenied", after=100),
        )
    ],
    (UPLOAD_PART, CorruptInTransit(at=7)),
    (COMPLETE, Status(412, "PreconditionFailed")),
    (COMPLETE, ErrorInside200("AccessDenied")),
]
