"""Runs every S3 request of one client: sign, exchange, classify, then return, retry or raise.

Retries live here and nowhere else. It knows no S3 operation by name, except to pass it to `retry`;
`object_operations` and `multipart_operations` build the requests and read the responses.
"""

from __future__ import annotations

import logging
import os
import random
import weakref
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from .._net.addresses import Endpoint
from .._net.drivers import drivers
from .._runtime.forking import no_fork
from .._runtime.patches import refuse_patches
from ..config import ClientSettings
from ..errors import S3Error
from . import retry, xml
from .attempts import Attempts
from .call import Call
from .checksums import ALGORITHMS, Algorithm
from .credentials import CredentialSource
from .endpoint_state import EndpointState, RetryQuota, refuses_checksum
from .failures import Failed, Result, SignedWith
from .observing import Observer
from .requests import CancelScope, Request, Response, operation_scope
from .series import Room
from .shared_settings import SharedSettings
from .signing import Signer

if TYPE_CHECKING:
    from .._net.connections import Connections

log = logging.getLogger("s3dlio")


class Service:
    """What one client needs to talk to its endpoint: settings, credentials, signer, connections.

    Attributes:
        observer: counts its requests.
    """

    def __init__(self, settings: ClientSettings) -> None:
        refuse_patches()
        with no_fork():
            import email.utils  # noqa: F401 - what workers need is loaded in the caller's thread, as in `load`

            from .._net.connections import Connections  # with urllib3: 40 ms that `import s3dlio` is spared

        self.settings = settings
        self._loaded = False
        self._credentials = CredentialSource(settings)
        self._signer = Signer()
        self._connections = Connections(settings=settings, profile_bundle=self._credentials.ca_bundle)
        self._state = EndpointState(self._credentials.renew)
        self._shared = SharedSettings(settings, self._credentials.profile_section)
        self.observer = Observer()
        self._attempts = Attempts(
            settings, self._shared, self._credentials, self._signer, self._connections, self._state, self.observer
        )
        self._quota = RetryQuota(settings.policy)
        # Learned: the store sends the whole object instead of a range; it computes no checksum of a copied part.
        self.ignores_ranges = self.copies_without_checksums = False
        _living.add(self)

    def _reset_after_fork(self) -> None:
        """In a forked child: a thread of the parent may have held any of these locks."""
        self._quota = RetryQuota(self.settings.policy)
        self.observer.reset_after_fork()
        self._attempts.reset_after_fork()

    def load(self) -> None:
        """Imports what requests need in the caller's thread; workers import nothing."""
        refuse_patches()
        drivers().make_ready()
        self.observer.follow_environment()
        if self._loaded:
            return
        xml.load()
        self._credentials.load()
        self._shared.check()
        _ = self._shared.retries
        self._loaded = True

    @property
    def endpoint(self) -> Endpoint:
        """The store's endpoint, of several the first."""
        return self._attempts.endpoints.first

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All endpoints of the store."""
        return self._attempts.endpoints.all

    @property
    def region(self) -> str:
        """The region that requests are signed for, where a bucket's own one is not known."""
        return self._credentials.region

    @property
    def credentials(self) -> CredentialSource:
        """Finds this client's credentials and profile."""
        return self._credentials

    @property
    def connections(self) -> Connections:
        """This client's connections."""
        return self._connections

    @property
    def shared(self) -> SharedSettings:
        """The settings that all of Amazon's SDKs read."""
        return self._shared

    @property
    def signer(self) -> Signer:
        """Signs this client's requests."""
        return self._signer

    def presigns_with(self, bucket: str) -> tuple[SignedWith, Endpoint]:
        """What to sign a URL with, and the endpoint that it names."""
        self.load()
        return self._attempts.presigns_with(bucket)

    def checksum_algorithm(self, wanted: str | None) -> Algorithm | None:
        """The algorithm wanted, or the one used instead at this store; None for no checksum."""
        name = self._state.algorithm_after(self._shared.checksum(wanted))
        return None if name is None else ALGORITHMS[name]

    def verifies(self, wanted: bool | None) -> bool:
        """Whether a download is verified: as wanted, or where that is None as the environment says."""
        return self._shared.verify(wanted)

    def without_algorithm(self, algorithm: Algorithm | None, error: S3Error | Failed) -> bool:
        """Whether `error` refuses this algorithm and another is to be tried; remembered for all later uploads."""
        if algorithm is None or not self.settings.checksum_fallback or not refuses_checksum(error):
            return False
        self._state.refuse_algorithm(algorithm.name)
        return True

    @property
    def now(self) -> datetime:
        """The store's time, where its clock is known to differ from ours."""
        return datetime.now(UTC) + timedelta(seconds=self._state.clock_offset)

    def close(self) -> None:
        """Closes idle connections; requests in progress continue."""
        self._connections.close()

    def call(self, request: Request, cancel: CancelScope | None = None, *, before: Failed | None = None) -> Response:
        """The response to `request`, with retries.

        Args:
            before: the result of an attempt that was made in a series.

        Raises:
            S3Error: the store refused (a subclass says how).
            TransportError, TimeoutError: no attempt got a response.
            Cancelled: `cancel` was raised.
        """
        refuse_patches()
        scope = cancel or operation_scope()
        call = Call(request, self.settings.policy)
        try:
            response = self._call(call, scope, before)
        except BaseException as error:
            self.observer.note(call, call.failed, error)
            raise
        self.observer.note(call, response)
        return response

    def _call(self, call: Call, scope: CancelScope, before: Failed | None) -> Response:
        request = call.request
        if before is not None:
            call.took_before(before)
            before = None if before.unseen else before
        while True:
            call.attempt += 1
            scope.check()
            result, before = before or self._attempts.attempt(call, scope), None
            if isinstance(result, Response) and request.doubt is not None:
                doubt = request.doubt(result)
                result = result if doubt is None else Failed.of_doubt(result, doubt)
            if isinstance(result, Response):
                self._quota.give_back(call.taken)
                result.attempts, result.uncertain = call.attempt, call.uncertain
                return result
            call.failed = result
            call.uncertain += result.may_have_taken_effect
            pause = self._pause_before_next(call, result)
            if call.uncertain and request.check_applied is not None and request.check_applied(result):
                return Response.found_applied(call.attempt)
            if pause is None:
                raise result.as_error(request, call.attempt, call.elapsed, call.uncertain) from result.error
            log.info("%s attempt %d: %s; again in %.2f s", request.operation, call.attempt, result, pause)
            scope.pause(pause)

    def call_series(
        self, requests: Sequence[Request], scope: CancelScope, room: Room, expected: int = 0
    ) -> tuple[list[Response], Result | None]:
        """Sends small requests one after the other on one connection, without retries; see `Attempts.series`."""
        done, rest = self._attempts.series(requests, scope, room, expected)
        if done:
            self._quota.give_back(0)
        return done, rest

    def _pause_before_next(self, call: Call, failed: Failed) -> float | None:
        """Seconds until the next attempt; None for no further attempt."""
        request = call.request
        outcome = retry.Outcome(request.operation, failed.status, failed.code, failed.failure)
        decision = retry.classify(
            outcome, call.attempt, call.elapsed, self._shared.retries, random.random(), failed.retry_after
        )
        if decision.verdict is retry.Verdict.CORRECT:
            return 0.0 if self._state.correct(failed, request.bucket, call.corrected) else None
        if decision.verdict is not retry.Verdict.RETRY:
            return None
        if failed.others_serve:  # they have no part in what went wrong
            call.taken = 0
            return 0.0
        call.taken = self._quota.take(failed.failure)
        if not call.taken:
            log.warning("%s is not sent again: the retry quota of this client is used up", request.operation)
            return None
        return decision.delay


_living: weakref.WeakSet[Service] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for service in list(_living):
        service._reset_after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
