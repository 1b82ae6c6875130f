"""What the requests of one client share and learn from responses: retry quota, the store's clock, buckets' regions.

It sends nothing; `service` calls it after a failed attempt and before the next. Any thread may call it.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable

from .._net.addresses import aws_endpoint
from .._net.exchange import head_field
from ..config import RetryPolicy
from ..errors import ConfigurationError, S3Error
from . import retry
from .checksums import LADDER
from .credentials import Credentials
from .failures import Failed, SignedWith

log = logging.getLogger("s3dlio")

# What a retry takes from the quota (as in the AWS SDKs' standard mode).
RETRY_COST = 5
TIMEOUT_COST = 10
# S3 refuses signatures that are further from its clock than 15 minutes; a smaller difference is not the cause.
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html (RequestTimeTooSkewed)
TOLERATED_SKEW = 600.0


class RetryQuota:
    """A bucket of tokens that all retries of a client draw from."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._lock = threading.Lock()
        self._capacity = policy.quota
        self._left = policy.quota

    def take(self, failure: retry.Failure | None) -> int:
        """Takes the tokens for a retry after `failure`, and returns their number; 0 if too few are left."""
        cost = TIMEOUT_COST if failure is retry.Failure.TIMEOUT else RETRY_COST
        with self._lock:
            if cost > self._left:
                return 0
            self._left -= cost
            return cost

    def give_back(self, taken: int) -> None:
        """After a success: returns the tokens of its last retry, or one if there was no retry."""
        with self._lock:
            self._left = min(self._capacity, self._left + (taken or 1))


# Codes with which stores refuse an unknown header or value, and what the message must mention.
_UNKNOWN_CODES = frozenset({"InvalidArgument", "InvalidRequest", "NotImplemented", "UnsupportedArgument"})
_OF_CHECKSUMS = re.compile("checksum|crc", re.IGNORECASE)


def refuses_checksum(error: S3Error | Failed) -> bool:
    """Whether the store says that it does not know this checksum algorithm, and nothing else is wrong.

    Amazon S3, Cloudflare R2 and Google's S3 interface respond with 400 or 501 and name the header or the algorithm.
    """
    return error.status in (400, 501) and error.code in _UNKNOWN_CODES and names_checksum(error)


def names_checksum(error: S3Error | Failed) -> bool:
    """Whether the store's message is about a checksum."""
    return _OF_CHECKSUMS.search(error.message or "") is not None


class EndpointState:
    """The clock's offset and the regions of buckets, learned from responses and kept for all later requests.

    Attributes:
        clock_offset: seconds that the store's clock is ahead of ours.
        request_ids_differ: no two responses had the same ``x-amz-request-id``: equal ids mean the same response.
    """

    def __init__(self, renew_credentials: Callable[[Credentials | None], bool]) -> None:
        self._renew_credentials = renew_credentials
        self._regions: dict[str | None, str] = {}
        self._refused: set[str] = set()
        self._heard: tuple[str, bytes] = ("", b"")
        self.clock_offset = 0.0
        self.request_ids_differ = True

    def note_request_id(self, head: bytes, fresh: bool) -> None:
        """Looks at the request id in a response's head; `fresh`: it is the first response on its connection."""
        if not self.request_ids_differ:
            return
        name, (known, before) = head_field(head, b"x-amz-request-id"), self._heard
        if name and name == known and (fresh or head != before):
            self.request_ids_differ = False
        elif name:
            self._heard = (name, head)

    def algorithm_after(self, name: str | None) -> str | None:
        """The algorithm itself, or the first one after it that the store has not refused; None: no checksum."""
        if name is None or name not in self._refused:
            return name
        later = LADDER[LADDER.index(name) + 1 :] if name in LADDER else LADDER
        return next((one for one in later if one not in self._refused), None)

    def refuse_algorithm(self, name: str) -> str | None:
        """Remembers that the store does not know an algorithm; returns what to use instead."""
        known = name in self._refused
        self._refused.add(name)
        instead = self.algorithm_after(name)
        if not known:
            log.warning("the store does not know the checksum %s; using %s from now on", name, instead or "none")
        return instead

    def region_of(self, bucket: str | None) -> str | None:
        """The region the store named for this bucket, or None."""
        return self._regions.get(bucket)

    def correct(self, failed: Failed, bucket: str | None, done: dict[str, float]) -> bool:
        """Corrects what the response shows to be wrong; False if nothing can be corrected, or it has been tried.

        It compares with what the attempt was signed with. Of many attempts that fail together, the first one corrects;
        the others find the correction made, and are retried.

        Args:
            done: what this call has corrected itself, each thing once; empty at first.
        """
        signed = failed.signed
        if signed is None:
            return False
        named = _named_region(failed)
        known = self.region_of(bucket)
        if named and named != signed.region:
            return named == known or self._correct_region(bucket, named, done)
        if known and known != signed.region:
            return True
        # The response to a HEAD has no code, and S3 uses the same status for an expired token.
        token = signed.credentials.token if signed.credentials is not None else None
        if failed.code in retry.TOKEN_CODES or (failed.status == 400 and failed.code is None and token):
            return self._correct_credentials(signed, done)
        if failed.code in retry.CLOCK_CODES or (failed.status == 403 and failed.code is None):
            return self._correct_clock(failed, signed, done)
        return False

    def _correct_region(self, bucket: str | None, named: str, done: dict[str, float]) -> bool:
        try:
            aws_endpoint(named)  # an invalid region must not become part of a host name
        except ConfigurationError:
            return False
        if "region" in done:
            return False
        done["region"] = 0.0
        log.info("bucket %s is in region %s; requests for it are signed for that from now on", bucket, named)
        self._regions[bucket] = named
        return True

    def _correct_credentials(self, signed: SignedWith, done: dict[str, float]) -> bool:
        if "credentials" in done:
            return False
        done["credentials"] = 0.0
        return self._renew_credentials(signed.credentials)

    def _correct_clock(self, failed: Failed, signed: SignedWith, done: dict[str, float]) -> bool:
        if "clock" in done:
            # It did not help: the date may be a proxy's, or something else may be the cause.
            if self.clock_offset == signed.clock_offset:
                self.clock_offset = done["clock"]
            return False
        if abs(self.clock_offset - signed.clock_offset) >= TOLERATED_SKEW:
            return True
        if failed.date is None:
            return False
        offset = failed.date - failed.at
        if abs(offset - signed.clock_offset) < TOLERATED_SKEW:
            return False
        done["clock"] = signed.clock_offset
        log.warning("the store's clock is %.0f s ahead of ours; requests are signed by its clock from now on", offset)
        self.clock_offset = offset
        return True


# S3's message when a bucket in an opt-in region is requested at another region's host.
_LOCATION = re.compile("The ([a-z0-9-]+) location constraint is incompatible")


def _named_region(failed: Failed) -> str | None:
    """The bucket's region by the response: in a header, which the response to a HEAD has too, or in its text."""
    named = failed.headers.get("x-amz-bucket-region") or failed.region
    if not named and failed.code == retry.LOCATION_CODE:
        said = _LOCATION.search(failed.message or "")
        named = said[1] if said is not None and said[1] != "unspecified" else None
    return named
