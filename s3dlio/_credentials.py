"""Credentials, region and endpoint through botocore's chain: environment, files, profiles, containers, instances.

One session per client, made when first needed because that takes tens of milliseconds; the S3 service
model is never loaded. No secret leaves this module except in a `Credentials`, whose repr hides it. Only
`_client` calls it.
"""

from __future__ import annotations

import os
import re
import threading
import weakref
from dataclasses import dataclass, field
from typing import Any

from ._forking import forks_wait
from .config import ClientSettings, check_region, region_from_environment
from .errors import ConfigurationError, CredentialsError, S3dlioError

DEFAULT_REGION = "us-east-1"

_NONE_FOUND = (
    "no credentials were found in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), the shared files, "
    "the profile, or the container's or instance's provider; give Client(credentials=(access key, secret key)), "
    "or credentials='anonymous'"
)
# What may stand in a header: a line feed at a variable's end would otherwise split the request.
_PRINTABLE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Credentials:
    """Frozen credentials of one request, under botocore's names."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


class CredentialSource:
    """Where one client's credentials, region and endpoint come from; any thread may ask."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._start_afresh()
        _living.add(self)

    def _start_afresh(self) -> None:
        self._lock = threading.Lock()
        self._session: Any = None
        self._chain_credentials: Any = None
        self._region: str | None = None

    def load(self) -> None:
        """Makes the session, if it will be needed, in the caller's thread; workers import nothing.

        Raises:
            ConfigurationError: the profile does not exist, or a shared file is malformed.
        """
        given = self._settings
        if given.credentials is None or given.endpoint_url is None or not (given.region or region_from_environment()):
            with self._lock:
                self._made_session()

    def frozen(self) -> Credentials | None:
        """Credentials for one attempt, refreshed if their time has come; None for anonymous access.

        Raises:
            CredentialsError: none were found, they cannot be used, or the refresh failed.
            ConfigurationError: the profile does not exist, or a shared file is malformed.
        """
        given = self._settings.credentials
        if given == "anonymous":
            return None
        if given is not None:
            return _checked(*given)
        try:
            with self._lock:
                if self._chain_credentials is None:
                    self._chain_credentials = self._made_session().get_credentials()
                found = self._chain_credentials
            # Outside the lock: botocore lets one thread refresh while the others go on with what is still valid.
            frozen = None if found is None else found.get_frozen_credentials()
        except S3dlioError:
            raise
        except Exception as error:  # the chain reaches files, programs and networks, and wraps only some errors
            raise CredentialsError(f"credentials could not be had: {error}") from error
        if frozen is None:
            raise CredentialsError(_NONE_FOUND)
        return _checked(frozen.access_key, frozen.secret_key, frozen.token)

    def renew(self) -> bool:
        """Forgets credentials that the store calls expired, so that the chain is asked anew; False for given ones."""
        if self._settings.credentials is not None:
            return False
        with self._lock:
            self._chain_credentials = None
            self._session = None  # it has the shared files in memory
        return True

    @property
    def region(self) -> str:
        """The argument, AWS_REGION, botocore's chain (AWS_DEFAULT_REGION, profile), or us-east-1.

        Raises:
            ConfigurationError: what was found is no region name, or the profile cannot be read.
        """
        with self._lock:
            if self._region is None:
                found = self._settings.region or region_from_environment()
                if not found:
                    found = self._made_session().get_config_variable("region") or DEFAULT_REGION
                self._region = check_region(found)
            return self._region

    def ca_bundle(self) -> str | None:
        """The profile's ``ca_bundle``, for clients whose credentials come from the chain; else None."""
        if self._settings.credentials is not None and self._settings.profile is None:
            return None
        with self._lock:
            path: str | None = self._made_session().get_config_variable("ca_bundle")
        return os.path.expanduser(path) if path else None

    def endpoint_url(self) -> str | None:
        """The argument, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile's, or None for AWS itself.

        Raises:
            ConfigurationError: the profile does not exist, or a shared file is malformed.

        Source: https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
        """
        if self._settings.endpoint_url is not None:
            return self._settings.endpoint_url
        with forks_wait:
            from botocore.configprovider import ConfiguredEndpointProvider
            from botocore.exceptions import BotoCoreError
            from botocore.utils import ensure_boolean

        with self._lock:
            session = self._made_session()
            try:
                ignored = session.get_config_variable("ignore_configured_endpoint_urls")
                if ignored is not None and ensure_boolean(ignored):
                    return None
                provider = ConfiguredEndpointProvider(
                    full_config=session.full_config,
                    scoped_config=session.get_scoped_config(),
                    client_name="s3",
                )
                url: str | None = provider.provide()
            except BotoCoreError as error:
                raise ConfigurationError(f"the AWS configuration cannot be used: {error}") from error
            return url

    def _made_session(self) -> Any:
        """botocore's session. Call with the lock held."""
        if self._session is None:
            with forks_wait:
                from botocore.exceptions import BotoCoreError
                from botocore.session import Session

            session = Session(profile=self._settings.profile)
            try:
                session.get_scoped_config()
            except BotoCoreError as error:
                raise ConfigurationError(f"the AWS configuration cannot be used: {error}") from error
            if self._settings.credentials is None:
                with forks_wait:  # it makes a TLS context for the instance's provider
                    session.get_component("credential_provider")
            self._session = session
        return self._session


def _checked(access_key: str | None, secret_key: str | None, token: str | None = None) -> Credentials:
    """The credentials, if they are complete and their public parts may stand in a header; no value is repeated."""
    if not access_key or not secret_key:
        raise CredentialsError("the credentials lack an access key or a secret key")
    for name, value in (("access key", access_key), ("session token", token)):
        if value and not _PRINTABLE.fullmatch(value):
            raise CredentialsError(
                f"the {name} holds a blank, a line break or a character outside ASCII; "
                "remove it from the argument, variable or file it came from"
            )
    return Credentials(access_key, secret_key, token or None)


_living: weakref.WeakSet[CredentialSource] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    """A thread of the parent may have held the lock, ours or botocore's, in the middle of a refresh."""
    for source in list(_living):
        source._start_afresh()


os.register_at_fork(after_in_child=_after_fork_in_child)
