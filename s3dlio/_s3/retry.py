"""Decides what happens after an attempt: return its response, retry after a pause, or raise.

A pure function of values, so that it can be tested as a table: it must never sleep, draw random numbers, read a clock
or know a connection. Only `service` calls it.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from ..config import RetryPolicy


class Verdict(enum.Enum):
    """What to do now."""

    RETURN = "return"
    RETRY = "retry"
    CORRECT = "correct"
    RAISE = "raise"


class Failure(enum.Enum):
    """How an attempt ended without a response."""

    CONNECT = "connect"
    UNTRUSTED = "untrusted"
    PROXY = "proxy"
    SEND = "send"
    RECEIVE = "receive"
    TIMEOUT = "timeout"
    CLOSED = "closed"
    GARBAGE = "garbage"


class Outcome(NamedTuple):
    """How one attempt ended: with a response (`status`, and `code` if its body has one) or with a failure."""

    operation: str
    status: int | None
    code: str | None
    failure: Failure | None


class Decision(NamedTuple):
    """The verdict and, for RETRY, the pause before the next attempt in seconds."""

    verdict: Verdict
    delay: float


# Temporary: overload, a gateway without a back end, a client that was too slow to send. Unregistered ones come from
# load balancers and content networks in front of the store.
_PASSING_STATUSES = frozenset({408, 429, 500, 502, 503, 504, 509, 520, 521, 522, 523, 524, 529, 530, 598})
# Throttling: too many requests, bandwidth limit exceeded, site overloaded.
THROTTLE_STATUSES = frozenset({429, 509, 529})

# Codes count with any status: S3 sends RequestTimeout with 400, and a Complete or copy that
# failed late is an InternalError inside a 200. SlowDownRead and SlowDownWrite are MinIO's.
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
THROTTLE_CODES = frozenset({
    "BandwidthLimitExceeded",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "SlowDownRead",
    "SlowDownWrite",
    "Throttling",
    "ThrottledException",
    "ThrottlingException",
    "TooManyRequests",
    "TooManyRequestsException",
})  # fmt: skip
_PASSING_CODES = THROTTLE_CODES | {
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
}

# What the client can correct itself, once: its clock, its credentials, the region it signs for.
CLOCK_CODES = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
TOKEN_CODES = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
LOCATION_CODE = "IllegalLocationConstraintException"
REGION_CODES = frozenset({"AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", LOCATION_CODE})
_REDIRECTS = frozenset({301, 302, 307, 308})

# Upper bound on Retry-After, in seconds. Callers with less time set a deadline.
LONGEST_WISH = 60.0


def classify(
    outcome: Outcome, attempt: int, elapsed: float, policy: RetryPolicy, random: float, retry_after: float = 0.0
) -> Decision:
    """What to do after attempt number `attempt`.

    Args:
        outcome: how the attempt ended.
        attempt: how many have been made, this one included; from 1.
        elapsed: seconds since the first began. It is compared with the caller's deadline only: all other limits are on
            steps without progress, so that a slow transfer that advances is never given up.
        policy: how often and how patiently.
        random: a number in [0, 1) drawn for this decision; the pause is that share of its bound (full jitter).
        retry_after: the store's Retry-After in seconds (RFC 9110, section 10.2.3).

    Source: https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
    """
    verdict = _verdict(outcome)
    if verdict not in (Verdict.RETRY, Verdict.CORRECT):
        return Decision(verdict, 0.0)
    pause = max(random * pause_bound(attempt, policy), min(retry_after, LONGEST_WISH))
    if verdict is Verdict.CORRECT:
        pause = 0.0
    late = policy.deadline is not None and elapsed + pause >= policy.deadline
    if attempt >= policy.max_attempts or late:
        return Decision(Verdict.RAISE, 0.0)
    return Decision(verdict, pause)


def pause_bound(attempt: int, policy: RetryPolicy) -> float:
    """Upper bound of the pause after attempt number `attempt` (from 1), in seconds."""
    return min(policy.max_delay, policy.base_delay * 2.0**attempt)


def _verdict(outcome: Outcome) -> Verdict:
    """Whether another attempt could end differently, and whether the response is a success."""
    operation, status, code, failure = outcome
    if failure in (Failure.UNTRUSTED, Failure.PROXY):
        return Verdict.RAISE  # a certificate or password that was refused stays refused
    if failure is not None or status is None:
        # Every request may be retried: parts and objects are replaced by the same bytes, and the caller interprets
        # the response to a repeated Complete.
        return Verdict.RETRY
    if code == LOCATION_CODE and operation == "CreateBucket":
        return Verdict.RAISE  # it is about the region that was given for the bucket
    if status in _REDIRECTS or code in CLOCK_CODES | TOKEN_CODES | REGION_CODES:
        return Verdict.CORRECT
    if code in _PASSING_CODES or status in _PASSING_STATUSES:
        return Verdict.RETRY
    if code is None and (status == 403 or (status == 400 and operation.startswith("Head"))):
        return Verdict.CORRECT  # the response to a HEAD has no code; the client reads its headers
    if code == "ConditionalRequestConflict" and operation == "PutObject":
        # At Complete the same conflict has ended the upload: a new one would be needed.
        return Verdict.RETRY
    if operation == "AbortMultipartUpload" and status == 404 and code in (None, "NoSuchUpload"):
        return Verdict.RETURN
    if 200 <= status < 300 and code is None:
        return Verdict.RETURN
    return Verdict.RAISE
