"""Makes one attempt at a request, or at a series of small ones: target, signature, lease, exchange, result.

It never retries: `service` decides what follows a failure. It knows no S3 operation by name.
"""

from __future__ import annotations

import builtins
import errno
import functools
import ssl
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .._net import http
from .._net.addresses import Endpoint, Target, aws_endpoint
from .._net.exchange import Exchange, Outcome
from .._net.proxies import ProxyRefusedError
from ..config import ClientSettings
from ..errors import TimeoutError, TransportError
from . import retry, xml
from .attempt import Attempt
from .call import Call
from .credentials import CredentialSource
from .endpoint_state import EndpointState
from .endpoints import Endpoints, is_of_endpoint
from .failures import Failed, Result, SignedWith
from .hedging import Pace
from .observing import Observer
from .race import Race
from .request_heads import write_heads
from .requests import Cancelled, CancelScope, Request, Response
from .running import receive, run
from .series import Limit, Room, Series
from .shared_settings import SharedSettings
from .signing import Signer

if TYPE_CHECKING:
    from .._net.connections import Connections, Lease


class Attempts:
    """Makes the attempts of one client's requests."""

    def __init__(
        self,
        settings: ClientSettings,
        shared: SharedSettings,
        credentials: CredentialSource,
        signer: Signer,
        connections: Connections,
        state: EndpointState,
        observer: Observer,
    ) -> None:
        self.settings = settings
        self._observer = observer
        self._shared = shared
        self._credentials = credentials
        self._signer = signer
        self._connections = connections
        self._state = state
        self._endpoints: Endpoints | None = None
        self._is_aws = False
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Also in a forked child: a thread of the parent may have held any of these locks."""
        self._pace = Pace(self.settings.policy.hedge)
        self._lock = threading.Lock()
        self._endpoints = None

    @property
    def endpoints(self) -> Endpoints:
        """The endpoints of the store, of Amazon's the one for the client's region."""
        with self._lock:
            if self._endpoints is None:
                urls = self._credentials.endpoint_urls()
                self._is_aws = not urls
                found = [Endpoint.from_url(url, self._shared.addressing_style) for url in urls]
                for one in found:
                    one.check_variant(fips=self._shared.use_fips, dualstack=self._shared.use_dualstack)
                self._endpoints = Endpoints(found or [self._amazon(self._credentials.region)])
            return self._endpoints

    def _amazon(self, region: str) -> Endpoint:
        shared = self._shared
        url = aws_endpoint(
            region, fips=shared.use_fips, dualstack=shared.use_dualstack, global_host=shared.use_global_host
        )
        return Endpoint.from_url(url, shared.addressing_style)

    def _endpoints_for(self, region: str) -> Endpoints:
        """The endpoints for requests that are signed for `region`; always the given ones, if the user gave URLs."""
        endpoints = self.endpoints
        other = self._is_aws and region != self._credentials.region
        return Endpoints([self._amazon(region)]) if other else endpoints

    def presigns_with(self, bucket: str) -> tuple[SignedWith, Endpoint]:
        """What to sign a URL with, and the endpoint that it names: of Amazon's, the one of the bucket's region.

        Amazon's global host would redirect to another region, where the signature is wrong.
        """
        signed = self._sign_with(bucket, CancelScope(), None)
        endpoint = self.endpoints.first
        if self._is_aws:
            url = aws_endpoint(signed.region, fips=self._shared.use_fips, dualstack=self._shared.use_dualstack)
            endpoint = Endpoint.from_url(url, self._shared.addressing_style)
        return signed, endpoint

    def _sign_with(self, bucket: str | None, scope: CancelScope, within: float | None) -> SignedWith:
        """What to sign the next attempt with. Credentials are looked up each time, so that a refresh takes effect.

        Raises:
            CredentialsError: there are none.
            TimeoutError: they were not found in time.
            Cancelled: `scope` was raised meanwhile.
        """
        credentials = self._credentials.frozen(scope.check, within)
        region = self._state.region_of(bucket) or self._credentials.region
        return SignedWith(region, credentials, self._state.clock_offset)

    def attempt(self, call: Call, scope: CancelScope) -> Result:
        """One attempt. If the server had closed the pooled connection, the request is sent again over a new one."""
        try:
            signed = self._sign_with(call.request.bucket, scope, call.left)
        except TransportError as error:
            return Failed(_connect_failure(error), error)
        result = self._attempt(call, signed, scope)
        if isinstance(result, Failed):
            result.signed = signed
        return result

    def _attempt(self, call: Call, signed: SignedWith, scope: CancelScope) -> Result:
        call.signed = signed
        endpoints = self._endpoints_for(signed.region)
        taken = endpoints.take(call.tried)
        result: Result | None = None
        try:
            result = self._attempt_at(taken.endpoint, call, scope)
        finally:
            endpoints.give(taken, result)
        if isinstance(result, Failed) and is_of_endpoint(result):
            call.tried.add(taken.endpoint)
            result.others_serve = endpoints.has_other(call.tried)
        return result

    def _attempt_at(self, endpoint: Endpoint, call: Call, scope: CancelScope) -> Result:
        request = call.request
        target = endpoint.target(request.bucket, request.key, request.query)
        call.origin, call.attempt_began = target.origin, time.monotonic()
        try:
            for fresh in (False, True):
                with self._connections.lease(target.origin, fresh=fresh, check=scope.check, within=call.left) as lease:
                    result = self._exchange(call, target, lease, scope)
                    if fresh or not isinstance(result, Failed) or not result.stale_connection:
                        return result
                    # The peer may have processed the request before it closed the connection or fell out of step.
                    call.uncertain += result.request_sent
        except TransportError as error:
            return Failed(_connect_failure(error), error)
        except http.BadResponse as error:  # the native loop accepted it as a response head
            return Failed(retry.Failure.GARBAGE, error, sent=True)
        raise AssertionError("a fresh connection is never stale")

    def begin(self, call: Call, target: Target, lease: Lease, *, aside: bool = False) -> Attempt:
        """An attempt that has not begun. A GetObject pauses at the head of its response, which is judged first."""
        request, timeouts = call.request, self.settings.timeouts
        exchange = Exchange(
            lease.sock,
            write_heads([request], [target], lease, self._signer, call.signed)[0],
            request.body,
            reused=lease.reused,
            previous_head=lease.previous_head if self._state.request_ids_differ else None,
            no_body=request.method == "HEAD",
            pause_at_head=request.asked is not None,
            send_timeout=timeouts.send,
            first_byte_timeout=timeouts.first_byte,
            idle_timeout=timeouts.idle,
        )
        return Attempt(exchange, request, aside=aside)

    def _exchange(self, call: Call, target: Target, lease: Lease, scope: CancelScope) -> Result:
        """One exchange over `lease`, or a race of two if it lags; returns the result."""
        attempt = self.begin(call, target, lease)
        exchange = attempt.exchange
        started = time.monotonic()
        scope.enter(exchange)
        try:
            beside = functools.partial(self._target_beside, call, target)
            result = Race(self, self._connections, self._pace, call, beside, attempt, scope).run()
            if result is not None:
                return result
            in_time, first_byte = run(exchange, call.left), time.monotonic() - started
            if exchange.outcome == Outcome.HEAD_READY:
                in_time = receive(call, attempt)
            self._record(attempt, first_byte, time.monotonic() - started)
        except BaseException:
            exchange.end()  # its connection is about to be closed, and its memory returns to the caller
            raise
        finally:
            scope.leave(exchange)
        if not in_time and not scope.cancelled:
            return call.out_of_time()
        result = self.conclude(call, attempt, lease, scope)
        if isinstance(result, Failed) and lease.reused and _is_stale(exchange):
            result.stale_connection, result.request_sent = True, exchange.request_sent
        return result

    def _target_beside(self, call: Call, target: Target) -> Target:
        """Where a second attempt goes: to another endpoint, if there is one."""
        other = self._endpoints_for(call.signed.region).beside(target.origin)
        return target if other is None else other.target(call.request.bucket, call.request.key, call.request.query)

    def _record(self, attempt: Attempt, first_byte: float, seconds: float) -> None:
        """Records how long it took: up to its end if its size was known before, else up to its head."""
        exchange, request = attempt.exchange, attempt.request
        if exchange.outcome != Outcome.COMPLETE or not 200 <= exchange.status < 300:
            return
        if request.payload:
            self._pace.record(request.operation, request.payload, seconds, request.payload)
        elif request.on_head is not None:
            self._pace.record(request.operation, 0, first_byte, exchange.body_received)

    def conclude(self, call: Call, attempt: Attempt, lease: Lease, scope: CancelScope) -> Result:
        """Turns an ended exchange into a response or a failure, and keeps the connection if it is clean."""
        request, exchange = attempt.request, attempt.exchange
        outcome = exchange.outcome
        if outcome == Outcome.CANCELLED:
            raise Cancelled("the request was cancelled")
        if outcome not in (Outcome.COMPLETE, Outcome.UNUSUAL):
            return Failed.of_exchange(exchange, self.settings)
        try:
            response = attempt.finish(
                lease.sock, self.settings.timeouts.idle, lambda: scope.cancelled or call.left == 0
            )
            if outcome == Outcome.COMPLETE and exchange.reusable:
                lease.keep(exchange.head_bytes)
            lease.ended = True
            self._state.note_request_id(exchange.head_bytes, fresh=not lease.reused)
        except http.BadResponse as error:
            return Failed(retry.Failure.GARBAGE, error, sent=exchange.request_sent)
        except OSError as error:
            scope.check()
            if call.left == 0:
                return call.out_of_time()
            timed_out = isinstance(error, builtins.TimeoutError)
            kind = retry.Failure.TIMEOUT if timed_out else retry.Failure.RECEIVE
            return Failed(kind, error, sent=exchange.request_sent)
        if response.status == 407:
            return Failed(retry.Failure.PROXY, ProxyRefusedError.of_status(407, lease.proxy))
        refused = request.error_in_body and xml.parse_error(response.body) is not None
        if response.status < 300 and not refused:
            return response
        return Failed.of_response(response, exchange.request_sent)

    def series(
        self, requests: Sequence[Request], scope: CancelScope, room: Room, expected: int = 0
    ) -> tuple[list[Response], Result | None]:
        """Sends small requests one after the other on one connection, without retries.

        Args:
            requests: of one method and bucket, with the same header names.
            room: provides memory for bodies; see `series.Room`.
            expected: expected length of the first body; 0 if unknown.

        Returns:
            The responses of the first requests, and the result of the next one: a response whose body is in memory of
            its own, a failure for `call` to continue from, or None if it was not sent.

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
    ) -> tuple[list[Response], Result | None]:
        endpoints = self._endpoints_for(signed.region)
        taken = endpoints.take((), len(requests))
        ended: object = None
        try:
            done, result = self._run_series_at(taken.endpoint, requests, signed, scope, room, expected, began)
            ended = result or done
        finally:
            endpoints.give(taken, ended)
        if isinstance(result, Failed) and is_of_endpoint(result):
            result.failed_at, result.others_serve = taken.endpoint, endpoints.has_other((taken.endpoint,))
        return done, result

    def _run_series_at(
        self,
        endpoint: Endpoint,
        requests: Sequence[Request],
        signed: SignedWith,
        scope: CancelScope,
        room: Room,
        expected: int,
        began: float,
    ) -> tuple[list[Response], Result | None]:
        first, deadline = requests[0], self.settings.policy.deadline
        targets = endpoint.targets(first.bucket, [request.key for request in requests])
        # Only reads are sent twice: a PUT that arrives late could replace a newer object.
        patience = self._pace.patience(first.operation, expected) if first.method == "GET" else None
        try:
            left = None if deadline is None else max(0.0, began + deadline - time.monotonic())
            with self._connections.lease(targets[0].origin, check=scope.check, within=left) as lease:
                written = write_heads(requests, targets, lease, self._signer, signed)
                series = Series(
                    lease, written, requests, room, expected, self.settings.timeouts, self._state.request_ids_differ
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
                    self._state.note_request_id(series.last_head, fresh=False)
                    sent = [one.body_length for one in requests[: len(done)]] if first.method == "PUT" else []
                    self._record_series(requests, done, sent, time.monotonic() - started)
                    self._observer.note_series(requests, series, sent, started, targets[0].origin)
                return done, self._after_series(requests, series, lease, scope)
        except TransportError as error:
            return [], _failed_before(error, began)

    def _record_series(
        self, requests: Sequence[Request], done: Sequence[Response], sent: Sequence[int], seconds: float
    ) -> None:
        moved = sum([one.received for one in done]) + sum(sent)
        self._pace.record(requests[0].operation, moved // len(done), seconds / len(done), moved)

    def _after_series(
        self, requests: Sequence[Request], series: Series, lease: Lease, scope: CancelScope
    ) -> Result | None:
        """The result of the request after the completed ones. The connection is kept if it is clean."""
        exchange = series.exchange
        if series.cut:
            failed = Failed(retry.Failure.TIMEOUT, TimeoutError("no response came in time"), sent=True)
            deadline, failed.took = self.settings.policy.deadline, series.took
            failed.unseen = deadline is None or series.took < deadline
            return failed
        if exchange.outcome == Outcome.COMPLETE and exchange.status < 300:
            lease.ended = True
            if exchange.reusable:
                lease.keep(exchange.head_bytes)
            return None
        request = requests[len(series.responses)]
        call = Call(request, self.settings.policy)
        call.attempt, call.origin = 1, lease.origin
        result = self.conclude(call, Attempt(exchange, request), lease, scope)
        if isinstance(result, Failed):
            result.unseen = _is_stale(exchange) and (lease.reused or bool(series.responses))
        else:
            self._observer.note(call, result)
        return result


def _failed_before(error: TransportError, began: float) -> Failed:
    """The result of a series that got no credentials or no connection."""
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


def _is_stale(exchange: Exchange) -> bool:
    """Whether it failed because of the connection's history.

    The peer closed it without sending a byte, as it does after an idle timeout, or sent something that does not belong
    to this request.
    """
    if exchange.outcome in (Outcome.CLOSED_BEFORE_RESPONSE, Outcome.OUT_OF_STEP):
        return True
    broken = exchange.outcome in (Outcome.SEND_ERROR, Outcome.RECEIVE_ERROR)
    reset = isinstance(exchange.error, OSError) and exchange.error.errno in (errno.EPIPE, errno.ECONNRESET)
    return broken and reset and not exchange.head_bytes
