"""Settings that Amazon's SDKs share, of requests and endpoints: from the environment, else from the profile.

Each is honoured, or refused by its name with what to do instead; none is passed over in silence. What a caller has
given is never looked up, so that a bad value breaks only what it is needed for. `service` and `attempts` ask; the
profile's section comes from `credentials`.

Source: https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from .._values.checks import parse_boolean
from .._values.environment import environment_text
from ..config import ClientSettings, DefaultChecksum, RetryPolicy
from ..errors import ConfigurationError


class SharedSettings:
    """What environment and profile say for one client; read when first needed, and then kept.

    Args:
        given: what the client was told, which wins.
        profile: the profile's section, with the one named ``s3`` in it; empty where the client needs no profile.
    """

    def __init__(self, given: ClientSettings, profile: Callable[[], Mapping[str, Any]]) -> None:
        self._given = given
        self._profile = profile

    @cached_property
    def retries(self) -> RetryPolicy:
        """The policy given, or the default with as many attempts as AWS_MAX_ATTEMPTS says.

        Raises:
            ConfigurationError: the number is none from 1 to 100, or AWS_RETRY_MODE is another than ``standard``.
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

    @cached_property
    def use_fips(self) -> bool:
        """Whether only FIPS endpoints may be used."""
        return self._is_true("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint")

    @cached_property
    def use_dualstack(self) -> bool:
        """Whether Amazon's endpoints for IPv4 and IPv6 are to be used."""
        return self._is_true("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint") or self._is_true(
            None, "use_dualstack_endpoint", in_s3=True
        )

    @cached_property
    def use_global_host(self) -> bool:
        """Whether us-east-1 is asked at ``s3.amazonaws.com``."""
        name, allowed = "us_east_1_regional_endpoint", ("regional", "legacy")
        told = self._choice("AWS_S3_US_EAST_1_REGIONAL_ENDPOINT", f"s3_{name}", allowed)
        return (told or self._choice(None, name, allowed, in_s3=True)) == "legacy"

    @cached_property
    def addressing_style(self) -> str:
        """The style given unless that is ``auto``, else the profile's."""
        if self._given.addressing_style != "auto":
            return self._given.addressing_style
        return self._choice(None, "addressing_style", ("auto", "path", "virtual"), in_s3=True) or "auto"

    def checksum(self, wanted: str | None) -> str | None:
        """The algorithm wanted, unless nobody chose it and AWS_REQUEST_CHECKSUM_CALCULATION says none."""
        return None if isinstance(wanted, DefaultChecksum) and self._no_checksums else wanted

    def verify(self, wanted: bool | None) -> bool:
        """Whether a download is verified: as wanted, else unless AWS_RESPONSE_CHECKSUM_VALIDATION says no."""
        return not self._no_verifying if wanted is None else wanted

    def check(self) -> None:
        """Refuses what the profile asks for and this library cannot do."""
        for name, instead in (
            ("use_accelerate_endpoint", "give endpoint_url='https://s3-accelerate.amazonaws.com'"),
            ("payload_signing_enabled", "a body is covered by its checksum, which is signed, and by TLS"),
        ):
            if self._is_true(None, name, in_s3=True):
                raise ConfigurationError(
                    f"the profile's s3 {name} = true is not supported; set it to false ({instead})"
                )

    @cached_property
    def _no_checksums(self) -> bool:
        return self._only_when_required("AWS_REQUEST_CHECKSUM_CALCULATION", "request_checksum_calculation")

    @cached_property
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
        """Where a setting stands and what it is; None where nobody said anything."""
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
