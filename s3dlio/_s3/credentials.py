"""Credentials, region and endpoint: as given, from the environment, or through botocore's chain.

The chain (files, profiles, programs, containers, instances) needs a session of botocore's, and making one takes tens of
milliseconds. So a client has at most one, and none where arguments and variables say everything and no profile counts.
The S3 service model is never loaded. No secret leaves this module except in a `Credentials`, whose repr hides it.
`service` and `attempts` call it.
"""

from __future__ import annotations

import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from .._runtime.forking import no_fork
from .._runtime.kept_errors import without_traceback
from .._values.checks import check_region
from .._values.environment import (
    NonEmptyEnvironment,
    ca_bundle_from_environment,
    credentials_from_environment,
    endpoint_from_environment,
    endpoints_from_environment,
    environment_text,
    environment_value,
    has_empty_variables,
    profiles_may_matter,
    region_from_environment,
)
from ..config import ClientSettings
from ..errors import ConfigurationError, CredentialsError, S3dlioError
from ..errors import TimeoutError as OurTimeoutError

DEFAULT_REGION = "us-east-1"

_NONE_FOUND = (
    "no credentials were found in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), the shared files, "
    "the profile, or the container's or instance's provider; give Client(credentials=(access key, secret key)), "
    "or credentials='anonymous'"
)
# Seconds between two checks of the caller's scope and deadline while credentials are fetched.
WAIT_SLICE = 0.05
# After a failed refresh of credentials that are still valid: seconds until the next one.
NEXT_TRY = 10.0
# Characters that a header may contain. A line feed at the end of a variable would split the request.
_PRINTABLE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Credentials:
    """The credentials of one request, under botocore's names.

    Attributes:
        expires_at: when they end, aware; None for never, or if nobody knows.
        generation: counts the renewals.
    """

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = field(default=None, repr=False, compare=False)
    generation: int = field(default=0, repr=False, compare=False)


class _Fetch:
    """One search through botocore's chain, or one refresh, on a thread of its own. All callers wait for it here.

    It reads files, runs programs and sends requests, which neither Ctrl-C nor a cancel nor a deadline can end. The wait
    for it ends at each of them.

    Args:
        found: the chain's object to refresh; None to search the chain.
        session: the session whose chain is searched.
        generation: how often credentials were renewed before.
    """

    def __init__(self, found: Any, session: Any, generation: int) -> None:
        self.found = found
        self.credentials: Credentials | None = None
        self.error: Exception | None = None
        self.abandoned = False
        self.done = threading.Event()
        self._session = session
        self._generation = generation

    def run(self) -> None:
        """Fetches. The caller sets `done`."""
        try:
            if self.found is None:
                self.found = self._session.get_credentials()
            self.credentials = _frozen(self.found, self._generation)
        except Exception as error:  # files, programs and networks are involved, and botocore wraps only some errors
            self.error = without_traceback(error)

    def wait(self, check: Callable[[], None] | None, until: float | None) -> None:
        """Waits for the end.

        Raises:
            TimeoutError: it has not ended by `until` (monotonic clock). It continues, for the next caller.
        """
        while not self.done.wait(WAIT_SLICE if until is None else max(0.0, min(WAIT_SLICE, until - time.monotonic()))):
            if check is not None:
                check()
            if until is not None and time.monotonic() >= until:
                raise OurTimeoutError("credentials were not found in time")

    def outcome(self) -> Credentials:
        """The credentials, or an error. Each caller gets an error object of its own."""
        if isinstance(self.error, S3dlioError):
            raise type(self.error)(*self.error.args) from self.error.__cause__
        if self.error is not None:
            raise CredentialsError(f"credentials could not be found: {self.error}") from self.error
        if self.credentials is None:
            raise CredentialsError(_NONE_FOUND)
        return self.credentials


class CredentialSource:
    """Finds one client's credentials, region and endpoint. Any thread may call it."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._given: Credentials | None = None
        self._reset_after_fork()
        _living.add(self)

    def _reset_after_fork(self) -> None:
        self._lock = threading.Lock()
        self._session: Any = None
        self._reads_profile: bool | None = None
        self._chain_credentials: Any = None
        self._latest: Credentials | None = None
        self._generation = 0
        self._fetch: _Fetch | None = None
        self._not_before = 0.0
        self._region: str | None = None

    def load(self) -> None:
        """Makes the session, if it will be needed, in the caller's thread, because workers import nothing.

        Raises:
            ConfigurationError: the profile does not exist, or a shared file is malformed.
        """
        given = self._settings
        explicit = given.credentials is not None and given.endpoint_url is not None and given.profile is None
        with self._lock:
            if given.credentials is None and self._in_variables() is None:
                self._made_session()
            elif not explicit or not (given.region or region_from_environment()):
                self._session_for_profile()

    def frozen(self, check: Callable[[], None] | None = None, within: float | None = None) -> Credentials | None:
        """Credentials for one attempt, refreshed if they are due; None for anonymous access.

        The chain is searched once for all threads that wait.

        Args:
            check: called about twenty times a second during a wait; an exception that it raises ends the wait.
            within: most seconds to wait; None for no limit.

        Raises:
            CredentialsError: none were found, they cannot be used, or the refresh failed.
            ConfigurationError: the profile does not exist, or a shared file is malformed.
            TimeoutError: they were not found within that time.
        """
        given = self._settings.credentials
        if given == "anonymous":
            return None
        if given is not None:
            if self._given is None:
                self._given = _checked(*given)
            return self._given
        until = None if within is None else time.monotonic() + within
        while True:
            ready, fetch = self._ready_or_fetch()
            if ready is not None:
                return ready
            assert fetch is not None
            fetch.wait(check, until)
            if not fetch.abandoned:
                return fetch.outcome()

    def _ready_or_fetch(self) -> tuple[Credentials | None, _Fetch | None]:
        """Credentials that can be used now, or else the running fetch to wait for."""
        fetch = None
        try:
            with self._lock:
                found, latest = self._chain_credentials, self._latest
                if latest is not None and not _is_due(found):
                    return latest, None  # not through botocore: it might refresh them now, under the lock
                usable = None if latest is None or _is_due(found, mandatory=True) else latest
                if self._fetch is not None:
                    return usable, self._fetch
                if usable is not None and time.monotonic() < self._not_before:
                    return usable, None
                in_variables = self._in_variables() if found is None else None
                if in_variables is not None:
                    self._latest = replace(_checked(*in_variables), generation=self._generation)
                    return self._latest, None
                session = self._made_session() if found is None else None
                fetch = self._fetch = _Fetch(found, session, self._generation)
            try:
                threading.Thread(target=self._run, args=(fetch,), name="s3dlio-credentials", daemon=True).start()
            except RuntimeError:  # no thread can be started; from Python 3.12 on none can at exit
                self._run(fetch)
            return usable, fetch
        except BaseException:
            if fetch is not None:  # an interrupt; the threads that wait for it start another
                with self._lock:
                    if self._fetch is fetch:
                        self._fetch = None
                fetch.abandoned = True
                fetch.done.set()
            raise

    def _run(self, fetch: _Fetch) -> None:
        try:
            fetch.run()
        except BaseException as error:
            fetch.error = CredentialsError(f"credentials could not be found: {error!r}")
            raise
        finally:
            self._end(fetch)

    def _end(self, fetch: _Fetch) -> None:
        with self._lock:
            if self._fetch is fetch:
                self._fetch = None
                if fetch.error is None and fetch.found is not None:
                    self._chain_credentials, self._latest = fetch.found, fetch.credentials
                    # In its advisory period botocore does not report a failed refresh.
                    self._not_before = time.monotonic() + NEXT_TRY if _is_due(fetch.found) else 0.0
        fetch.done.set()

    def renew(self, expired: Credentials | None) -> bool:
        """Drops credentials that the store reported as expired, so that the chain is searched again.

        Returns:
            False where there are no others: they were given, or access is anonymous. True also where another thread has
            renewed them already: many requests fail together, and one renewal serves all.
        """
        if self._settings.credentials is not None or expired is None:
            return False
        with self._lock:
            superseded = self._latest is not None and self._latest != expired
            if expired.generation != self._generation or superseded:
                return True
            self._latest = None
            if self._fetch is None:
                self._generation += 1
                self._chain_credentials = None
                self._session = self._reads_profile = None  # the session keeps the shared files in memory
        return True

    @property
    def region(self) -> str:
        """The argument, AWS_REGION, AWS_DEFAULT_REGION, the profile's, or us-east-1.

        Raises:
            ConfigurationError: what was found is no region name, or the profile cannot be read.
        """
        with self._lock:
            if self._region is None:
                found = self._settings.region or region_from_environment() or environment_value("AWS_DEFAULT_REGION")
                session = None if found else self._session_for_profile()
                if session is not None:
                    found = session.get_config_variable("region")
                self._region = check_region(found or DEFAULT_REGION)
            return self._region

    def profile_section(self) -> Mapping[str, Any]:
        """The profile's settings; empty for a client that was given both credentials and endpoint, but no profile.

        Raises:
            ConfigurationError: the profile does not exist, or a shared file is malformed.
        """
        given = self._settings
        if given.credentials is not None and given.endpoint_url is not None and given.profile is None:
            return {}
        with self._lock:
            session = self._session_for_profile()
            return {} if session is None else session.get_scoped_config()

    def ca_bundle(self) -> str | None:
        """The profile's ``ca_bundle``, for clients whose credentials come from the chain; else None."""
        if self._settings.credentials is not None and self._settings.profile is None:
            return None
        with self._lock:
            session = self._session_for_profile()
            path = environment_value("AWS_CA_BUNDLE") if session is None else session.get_config_variable("ca_bundle")
        return os.path.expanduser(path) if path else None

    def endpoint_urls(self) -> tuple[str, ...]:
        """The argument's, those of S3DLIO_ENDPOINTS, or the one of `_configured_url`; none for AWS itself.

        Raises:
            ConfigurationError: the profile does not exist, or a shared file is malformed.
        """
        given = self._settings.endpoint_url
        if given is not None:
            return (given,) if isinstance(given, str) else tuple(given)
        several = endpoints_from_environment()
        if several:
            return several
        configured = self._configured_url()
        return () if configured is None else (configured,)

    def _configured_url(self) -> str | None:
        """AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile's, or None for AWS itself.

        Raises:
            ConfigurationError: the profile does not exist, or a shared file is malformed.

        Source: https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
        """
        with self._lock:
            session = self._session_for_profile()
            if session is None:
                return endpoint_from_environment()
            with no_fork():
                from botocore.configprovider import ConfiguredEndpointProvider
                from botocore.exceptions import BotoCoreError
                from botocore.utils import ensure_boolean

            try:
                ignored = session.get_config_variable("ignore_configured_endpoint_urls")
                if ignored is not None and ensure_boolean(ignored):
                    return None
                provider = ConfiguredEndpointProvider(
                    full_config=session.full_config,
                    scoped_config=session.get_scoped_config(),
                    client_name="s3",
                    environ=NonEmptyEnvironment(),
                )
                url: str | None = provider.provide()
            except BotoCoreError as error:
                raise ConfigurationError(f"the AWS configuration cannot be used: {error}") from error
            return url

    def origin(self) -> str:
        """Where the credentials come from that `frozen` has found: botocore's word where its chain was asked."""
        if self._settings.credentials is not None:
            return "argument"
        with self._lock:
            method = getattr(self._chain_credentials, "method", None)
        return "environment" if method is None else str(method)

    def _in_variables(self) -> tuple[str, str, str | None] | None:
        """Credentials of the environment, which count where no profile was given; None leaves it to the chain."""
        return None if self._settings.profile is not None else credentials_from_environment()

    def _session_for_profile(self) -> Any:
        """The session, where a profile may say something; else None, for botocore reads nothing but variables then.

        Call with the lock held.
        """
        if self._session is None:
            if self._reads_profile is None:
                self._reads_profile = self._settings.profile is not None or profiles_may_matter()
            if not self._reads_profile:
                return None
        return self._made_session()

    def _made_session(self) -> Any:
        """botocore's session. Call with the lock held."""
        if self._session is None:
            with no_fork():
                from botocore.exceptions import BotoCoreError
                from botocore.session import Session

            session = Session(profile=self._settings.profile)
            try:
                if has_empty_variables():
                    _ignore_empty_variables(session)
                session.get_scoped_config()
                self._tell_session(session)
            except BotoCoreError as error:
                raise ConfigurationError(f"the AWS configuration cannot be used: {error}") from error
            if self._settings.credentials is None:
                with no_fork():  # it makes a TLS context for the provider of instances
                    resolver = session.get_component("credential_provider")
                if has_empty_variables():
                    _replace_providers(resolver)
            self._session = session
        return self._session

    def _tell_session(self, session: Any) -> None:
        """Sets what the providers that call a service (STS, SSO) need and botocore does not know by itself."""
        region = self._settings.region or region_from_environment()
        if not region and not session.get_config_variable("region"):
            region = DEFAULT_REGION
        if region:
            session.set_config_variable("region", region)
        text = environment_text("AWS_CA_BUNDLE")
        if text is not None and text.startswith("~"):
            session.set_config_variable("ca_bundle", ca_bundle_from_environment())


def _ignore_empty_variables(session: Any) -> None:
    """Makes a session ignore empty variables, also for the name of the profile."""
    with no_fork():
        from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES, ConfigChainFactory

    factory = ConfigChainFactory(session=session, environ=NonEmptyEnvironment())
    store = session.get_component("config_store")
    for name, (properties, variables, default, conversion) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items():
        chain = factory.create_config_chain(
            instance_name=name,
            env_var_names=variables,
            config_property_names=properties,
            default=default,
            conversion_func=conversion,
        )
        store.set_config_provider(name, chain)


def _replace_providers(resolver: Any) -> None:
    """The same for the providers that read the environment themselves."""
    with no_fork():
        from botocore.credentials import ContainerProvider, EnvProvider

    for number, provider in enumerate(resolver.providers):
        if isinstance(provider, ContainerProvider | EnvProvider):
            resolver.providers[number] = type(provider)(environ=NonEmptyEnvironment())


def _is_due(found: Any, *, mandatory: bool = False) -> bool:
    """Whether botocore would refresh these; `mandatory`: and would fail if it could not."""
    needed = getattr(found, "refresh_needed", None)
    if needed is None:
        return False
    return bool(needed(getattr(found, "_mandatory_refresh_timeout", 600)) if mandatory else needed())


def _frozen(found: Any, generation: int) -> Credentials | None:
    """The chain's credentials as they are now, refreshed if they are due."""
    frozen = None if found is None else found.get_frozen_credentials()
    if frozen is None:
        return None
    checked = _checked(frozen.access_key, frozen.secret_key, frozen.token)
    return replace(checked, expires_at=getattr(found, "_expiry_time", None), generation=generation)


def _checked(access_key: str | None, secret_key: str | None, token: str | None = None) -> Credentials:
    """The credentials, if they are complete and can be sent in headers. No error shows a value."""
    if not access_key or not secret_key:
        raise CredentialsError("the credentials lack an access key or a secret key")
    for name, value in (("access key", access_key), ("session token", token)):
        if value and not _PRINTABLE.fullmatch(value):
            raise CredentialsError(
                f"the {name} contains a blank, a line break or a character outside ASCII; "
                "remove it from the argument, variable or file it came from"
            )
    return Credentials(access_key, secret_key, token or None)


_living: weakref.WeakSet[CredentialSource] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    """A thread of the parent may have held the lock, ours or botocore's, in the middle of a refresh."""
    for source in list(_living):
        source._reset_after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
