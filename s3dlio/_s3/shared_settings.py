"""Settings for requests and endpoints that all of Amazon's SDKs read: from the environment, else from the profile.

Each is honoured, or refused by name with what to do instead; none is ignored silently. A setting is not read where the
caller has given a value, so that a bad one affects only what needs it. Callers are `service` and `attempts`; the
profile's section comes from `credentials`.

Source: https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Generic, TypeVar, overload

from .._values.checks import parse_boolean
from .._values.environment import environment_text
from ..config import ClientSettings, DefaultChecksum, RetryPolicy
from ..errors import ConfigurationError

T = TypeVar("T")


class _read_once(Generic[T]):
    """A property that is computed once. `functools.cached_property` holds a lock before Python 3.12.

    A child that was forked meanwhile would wait for that lock forever.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> _read_once[T]: ...

    @overload
    def __get__(self, owner: object, kind: type) -> T: ...

    def __get__(self, owner: object | None, kind: type) -> T | _read_once[T]:
        if owner is None:
            return self
        value = owner.__dict__[self._compute.__name__] = self._compute(owner)
        return value


class SharedSettings:
    """The settings of environment and profile for one client; each is read when first needed, and then kept.

    Args:
        given: the client's own settings, which take precedence.
        profile: returns the profile's section, with its subsection ``s3``; empty where the client needs no profile.
    """

    def __init__(self, given: ClientSettings, profile: Callable[[], Mapping[str, Any]]) -> None:
        self._given = given
        self._profile = profile

    @_read_once
    def retries(self) -> RetryPolicy:
        """The policy given, or the default with as many attempts as AWS_MAX_ATTEMPTS says.

        Raises:
            ConfigurationError: the number is not from 1 to 100, or AWS_RETRY_MODE is not ``standard``.
        """
        if self._given.retries is not None:
            return self._given.retries
        remedy = "or give retries=RetryPolicy(...)"
        self._choice("AWS_RETRY_MODE", "retry_mode", ("standard",), remedy)
        found = self._found("AWS_MAX_ATTEMPTS", "max_attempts")
        if found is None:
            return self._given.policy
        source, text = found
        if not (text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= 100):
            raise ConfigurationError(f"{source}={text!r} cannot be used: expected 1 to 100 attempts, {remedy}")
        return replace(self._given.policy, max_attempts=int(text))

    @_read_once
    def use_fips(self) -> bool:
        """Whether only FIPS endpoints may be used."""
        return self._is_true("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint")

    @_read_once
    def use_dualstack(self) -> bool:
        """Whether to use Amazon's endpoints for both IPv4 and IPv6."""
        return self._is_true("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint") or self._is_true(
            None, "use_dualstack_endpoint", in_s3=True
        )

    @_read_once
    def use_global_host(self) -> bool:
        """Whether requests for us-east-1 go to ``s3.amazonaws.com``."""
        name, allowed = "us_east_1_regional_endpoint", ("regional", "legacy")
        found = self._choice("AWS_S3_US_EAST_1_REGIONAL_ENDPOINT", f"s3_{name}", allowed)
        return (found or self._choice(None, name, allowed, in_s3=True)) == "legacy"

    @_read_once
    def addressing_style(self) -> str:
        """The style given; where that is ``auto``, the profile's."""
        if self._given.addressing_style != "auto":
            return self._given.addressing_style
        return self._choice(None, "addressing_style", ("auto", "path", "virtual"), in_s3=True) or "auto"

    def checksum(self, wanted: str | None) -> str | None:
        """The algorithm `wanted`; None where it is the default and AWS_REQUEST_CHECKSUM_CALCULATION asks for none."""
        return None if isinstance(wanted, DefaultChecksum) and self._no_checksums else wanted

    def verify(self, wanted: bool | None) -> bool:
        """Whether a download is verified: as `wanted`, else by AWS_RESPONSE_CHECKSUM_VALIDATION."""
        return not self._no_verifying if wanted is None else wanted

    def check(self) -> None:
        """Refuses settings of the profile that this library does not support."""
        for name, instead in (
            ("use_accelerate_endpoint", "give endpoint_url='https://s3-accelerate.amazonaws.com'"),
            ("payload_signing_enabled", "a body is covered by its checksum, which is signed, and by TLS"),
        ):
            if self._is_true(None, name, in_s3=True):
                raise ConfigurationError(
                    f"the profile's s3 {name} = true is not supported; set it to false ({instead})"
                )

    @_read_once
    def _no_checksums(self) -> bool:
        return self._only_when_required("AWS_REQUEST_CHECKSUM_CALCULATION", "request_checksum_calculation")

    @_read_once
    def _no_verifying(self) -> bool:
        return self._only_when_required("AWS_RESPONSE_CHECKSUM_VALIDATION", "response_checksum_validation")

    def _only_when_required(self, variable: str, name: str) -> bool:
        return self._choice(variable, name, ("when_supported", "when_required")) == "when_required"

    def _is_true(self, variable: str | None, name: str, in_s3: bool = False) -> bool:
        found = self._found(variable, name, in_s3)
        if found is None:
            return False
        value = parse_boolean(found[1])
        if value is None:
            raise ConfigurationError(f"{found[0]}={found[1]!r} cannot be used: expected true or false")
        return value

    def _choice(
        self, variable: str | None, name: str, allowed: tuple[str, ...], remedy: str = "", in_s3: bool = False
    ) -> str | None:
        found = self._found(variable, name, in_s3)
        if found is None:
            return None
        value = found[1].lower()
        if value not in allowed:
            expected = " or ".join(allowed) + (f", {remedy}" if remedy else "")
            raise ConfigurationError(f"{found[0]}={found[1]!r} cannot be used: expected {expected}")
        return value

    def _found(self, variable: str | None, name: str, in_s3: bool = False) -> tuple[str, str] | None:
        """The place of a setting, for messages, and its value; None where it is not set."""
        text = None if variable is None else environment_text(variable)
        if text is not None:
            return f"environment variable {variable}", text
        section = self._profile()
        if in_s3:
            inner = section.get("s3")
            section = inner if isinstance(inner, Mapping) else {}
        value = section.get(name)
        where = "the profile's s3 " if in_s3 else "the profile's "
        return (where + name, value.strip()) if isinstance(value, str) and value.strip() else None
