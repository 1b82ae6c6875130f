"""One attempt of a request, or of a series of small ones: where it goes, what signs it, which connection it gets.

`exchanges` makes the exchange and `race` a second one of what lags. Nothing here retries: `service` decides what comes
after a failure. It knows no S3 operation by name.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from .._net import http
from .._net.addresses import Endpoint, Target, aws_endpoint
from .._net.exchange import Outcome
from .._net.proxies import ProxyRefusedError
from ..config import ClientSettings
from ..errors import TimeoutError, TransportError
from . import retry
from .call import Call
from .credentials import CredentialSource
from .endpoint_state import EndpointState
from .exchanges import Exchanges, is_stale, receive, run
from .failures import Failed, SignedWith
from .heads import write_heads
from .hedging import Pace
from .race import Race
from .requests import CancelScope, Request, Response
from .sending import Sending
from .series import Limit, Room, Series
from .shared_settings import SharedSettings
from .signing import Signer

if TYPE_CHECKING:
    from .._net.connections import Connections, Lease


class Stale(NamedTuple):
    """A kept connection was no good for what came next: the peer had closed it, or it was out of step.

    Attributes:
        request_sent: whether the request may have been taken in before that.
    """

    request_sent: bool


class Attempts:
    """What makes the attempts of one client's requests."""

    def __init__(
        self,
        settings: ClientSettings,
        shared: SharedSettings,
        credentials: CredentialSource,
        signer: Signer,
        connections: Connections,
        state: EndpointState,
    ) -> None:
        self.settings = settings
        self._shared = shared
        self._credentials = credentials
        self._signer = signer
        self._connections = connections
        self._state = state
        self._exchanges = Exchanges(settings, signer, state)
        self._endpoint: Endpoint | None = None
        self._is_aws = False
        self.start_afresh()

    def start_afresh(self) -> None:
        """Also in a forked child: a thread of the parent may have held any of these locks."""
        self._pace = Pace(self.settings.policy.hedge)
        self._race = Race(self._exchanges, self._pace, self._connections)
        self._lock = threading.Lock()

    @property
    def endpoint(self) -> Endpoint:
        with self._lock:
            if self._endpoint is None:
                url = self._credentials.endpoint_url()
                self._is_aws = url is None
                if url is None:
                    self._endpoint = self._amazon(self._credentials.region)
                else:
                    self._endpoint = Endpoint.from_url(url, self._shared.addressing_style)
                    self._endpoint.check_variant(fips=self._shared.use_fips, dualstack=self._shared.use_dualstack)
            return self._endpoint

    def _amazon(self, region: str) -> Endpoint:
        shared = self._shared
        url = aws_endpoint(
            region, fips=shared.use_fips, dualstack=shared.use_dualstack, global_host=shared.use_global_host
        )
        return Endpoint.from_url(url, shared.addressing_style)

    def _endpoint_for(self, region: str) -> Endpoint:
        """Where a request goes that is signed for `region`; a store that was named by its URL is never left."""
        endpoint = self.endpoint
        return self._amazon(region) if self._is_aws and region != self._credentials.region else endpoint

    def _sign_with(self, bucket: str | None, scope: CancelScope, within: float | None) -> SignedWith:
        """What an attempt that begins now is signed with; credentials are taken anew so that a refresh takes effect.

        Raises:
            CredentialsError: there are none.
            TimeoutError: they did not come in time.
            Cancelled: `scope` was raised meanwhile.
        """
        credentials = self._credentials.frozen(scope.check, within)
        region = self._state.region_of(bucket) or self._credentials.region
        return SignedWith(region, credentials, self._state.clock_offset)

    def attempt(self, call: Call, scope: CancelScope) -> Response | Failed:
        """One attempt; a pooled connection that the server had closed costs a second sending, not an attempt."""
        try:
            signed = self._sign_with(call.request.bucket, scope, call.left)
        except TransportError as error:
            return Failed(_connect_failure(error), error)
        result = self._attempt(call, signed, scope)
        if isinstance(result, Failed):
            result.signed = signed
        return result

    def _attempt(self, call: Call, signed: SignedWith, scope: CancelScope) -> Response | Failed:
        request, call.signed = call.request, signed
        target = self._endpoint_for(signed.region).target(request.bucket, request.key, request.query)
        try:
            for fresh in (False, True):
                with self._connections.lease(target.origin, fresh=fresh, check=scope.check, within=call.left) as lease:
                    result = self._exchange(call, target, lease, scope)
                    if not isinstance(result, Stale):
                        return result
                    # It may have been taken in before the connection was closed, or found to be out of step.
                    call.uncertain += result.request_sent
        except TransportError as error:
            return Failed(_connect_failure(error), error)
        except http.BadResponse as error:  # a head that the loop took for one
            return Failed(retry.Failure.GARBAGE, error, sent=True)
        raise AssertionError("a fresh connection is never stale")

    def _exchange(self, call: Call, target: Target, lease: Lease, scope: CancelScope) -> Response | Failed | Stale:
        """One exchange, to its end; where it lags behind its like, another one beside it may end it."""
        sending = self._exchanges.begin(call, target, lease)
        exchange = sending.exchange
        started = time.monotonic()
        scope.enter(exchange)
        try:
            result = self._race.run(call, target, sending, scope)
            if result is not None:
                return result
            in_time, first_byte = run(exchange, call.left), time.monotonic() - started
            if exchange.outcome == Outcome.HEAD_READY:
                in_time = receive(call, sending)
            self._record(sending, first_byte, time.monotonic() - started)
        except BaseException:
            exchange.end()  # its connection is about to be closed, and its memory to be the caller's again
            raise
        finally:
            scope.leave(exchange)
        if not in_time and not scope.cancelled:
            return call.out_of_time()
        if lease.reused and is_stale(exchange):
            return Stale(exchange.request_sent)
        return self._exchanges.conclude(call, sending, lease, scope)

    def _record(self, sending: Sending, first_byte: float, seconds: float) -> None:
        """Remembers how long it took: up to its end where it moved a known amount, else up to its head."""
        exchange, request = sending.exchange, sending.request
        if exchange.outcome != Outcome.COMPLETE or not 200 <= exchange.status < 300:
            return
        if request.payload:
            self._pace.record(request.operation, request.payload, seconds, request.payload)
        elif request.on_head is not None:
            self._pace.record(request.operation, 0, first_byte, exchange.body_received)

    def series(
        self, requests: Sequence[Request], scope: CancelScope, room: Room, expected: int = 0
    ) -> tuple[list[Response], Response | Failed | None]:
        """Sends small requests one after the other on one connection, without retries.

        Args:
            requests: of one method and bucket, with the same header names.
            room: gives memory for bodies, from their length and the number of those that may follow.
            expected: bytes that the first body is thought to have; 0 where nobody knows.

        Returns:
            The answers of the first requests, and what came of the one after them: an answer whose body was collected
            aside, a failure for `call` to go on from, or None where it was not sent.

        Raises:
            Cancelled: `scope` was raised.
        """
        first, deadline, began = requests[0], self.settings.policy.deadline, time.monotonic()
        try:
            signed = self._sign_with(first.bucket, scope, deadline)
        except TransportError as error:
            return [], _failed_before(error, began)
        done, rest = self._run_series(requests, signed, scope, room, expected, began)
        if isinstance(rest, Failed):
            rest.signed = signed
        return done, rest

    def _run_series(
        self,
        requests: Sequence[Request],
        signed: SignedWith,
        scope: CancelScope,
        room: Room,
        expected: int,
        began: float,
    ) -> tuple[list[Response], Response | Failed | None]:
        first, deadline = requests[0], self.settings.policy.deadline
        endpoint = self._endpoint_for(signed.region)
        targets = endpoint.targets(first.bucket, [request.key for request in requests])
        # An object that arrives late could replace a later one's, so that only what is read is asked for twice.
        patience = self._pace.patience(first.operation, expected) if first.method == "GET" else None
        try:
            left = None if deadline is None else max(0.0, began + deadline - time.monotonic())
            with self._connections.lease(targets[0].origin, check=scope.check, within=left) as lease:
                written = write_heads(requests, targets, lease, self._signer, signed)
                series = Series(
                    lease, written, requests, room, expected, self.settings.timeouts, self._state.names_answers
                )
                started = time.monotonic()
                limits: list[Limit] = []
                if deadline is not None:
                    limits.append(Limit(deadline, lambda: True, spent=started - began))
                if patience is not None and (deadline is None or patience < deadline):
                    may_cut = lambda: self._pace.may_send_twice(first.operation, expected)  # noqa: E731
                    limits.insert(0, Limit(patience, may_cut))
                series.run(scope, limits)
                done = series.responses
                if done:
                    self._state.heard(series.exchange.last_head, fresh=False)
                    self._record_series(requests, done, time.monotonic() - started)
                return done, self._after_series(requests, series, lease, scope)
        except TransportError as error:
            return [], _failed_before(error, began)

    def _record_series(self, requests: Sequence[Request], done: Sequence[Response], seconds: float) -> None:
        moved = sum(one.received for one in done) + sum(one.body_length for one in requests[: len(done)])
        self._pace.record(requests[0].operation, moved // len(done), seconds / len(done), moved)

    def _after_series(
        self, requests: Sequence[Request], series: Series, lease: Lease, scope: CancelScope
    ) -> Response | Failed | None:
        """What came of the request after those that were answered; the connection is kept if it is clean."""
        exchange = series.exchange
        if series.cut:
            failed = Failed(retry.Failure.TIMEOUT, TimeoutError("no answer came in time"), sent=True)
            deadline, failed.took = self.settings.policy.deadline, series.took
            failed.unseen = deadline is None or series.took < deadline
            return failed
        if exchange.outcome == Outcome.COMPLETE and 200 <= exchange.status < 300:
            # The native series did not count it as one: its head could not be kept. No body of it is to be had here.
            return Failed(retry.Failure.GARBAGE, TransportError("there is no memory for an answer"), sent=True)
        if exchange.outcome == Outcome.COMPLETE and not exchange.status:
            lease.ended = True
            if exchange.reusable:
                lease.keep(exchange.last_head)
            return None
        request = requests[len(series.responses)]
        result = self._exchanges.conclude(Call(request, self.settings.policy), Sending(exchange, request), lease, scope)
        if isinstance(result, Failed) and is_stale(exchange) and (lease.reused or series.responses):
            result.unseen = True
        return result


def _failed_before(error: TransportError, began: float) -> Failed:
    """A series for which there were no credentials or no connection."""
    failed = Failed(_connect_failure(error), error)
    failed.took = time.monotonic() - began
    return failed


def _connect_failure(error: TransportError) -> retry.Failure:
    if isinstance(error, ProxyRefusedError):
        return retry.Failure.PROXY
    if isinstance(error, TimeoutError):
        return retry.Failure.TIMEOUT
    if isinstance(error.__cause__, ssl.SSLCertVerificationError):
        return retry.Failure.UNTRUSTED
    return retry.Failure.CONNECT
