"""Settings that Amazon's SDKs share: each is honoured or refused by name, and what was given is never looked up."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import s3dlio
from s3dlio import ConfigurationError, MultipartUploadConfig, RetryPolicy
from s3dlio._s3.shared_settings import SharedSettings
from s3dlio._values.environment import VARIABLES, environment_fingerprint
from s3dlio.config import DEFAULT_CHECKSUM, ClientSettings


def shared(profile: Mapping[str, Any] | None = None, **given: Any) -> SharedSettings:
    return SharedSettings(ClientSettings(**given), lambda: profile or {})


READS = {
    "AWS_MAX_ATTEMPTS": lambda one: one.retries,
    "AWS_RETRY_MODE": lambda one: one.retries,
    "AWS_USE_FIPS_ENDPOINT": lambda one: one.use_fips,
    "AWS_USE_DUALSTACK_ENDPOINT": lambda one: one.use_dualstack,
    "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": lambda one: one.use_global_host,
    "AWS_REQUEST_CHECKSUM_CALCULATION": lambda one: one.checksum(DEFAULT_CHECKSUM),
    "AWS_RESPONSE_CHECKSUM_VALIDATION": lambda one: one.verify(None),
}
DEFAULTS = {
    "AWS_MAX_ATTEMPTS": RetryPolicy(),
    "AWS_RETRY_MODE": RetryPolicy(),
    "AWS_USE_FIPS_ENDPOINT": False,
    "AWS_USE_DUALSTACK_ENDPOINT": False,
    "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": False,
    "AWS_REQUEST_CHECKSUM_CALCULATION": "crc64nvme",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": True,
}
SAID = [
    ("AWS_MAX_ATTEMPTS", "max_attempts", "3", RetryPolicy(max_attempts=3)),
    ("AWS_RETRY_MODE", "retry_mode", "standard", RetryPolicy()),
    ("AWS_RETRY_MODE", "retry_mode", "STANDARD", RetryPolicy()),
    ("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint", "true", True),
    ("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint", "False", False),
    ("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint", "true", True),
    ("AWS_S3_US_EAST_1_REGIONAL_ENDPOINT", "s3_us_east_1_regional_endpoint", "legacy", True),
    ("AWS_S3_US_EAST_1_REGIONAL_ENDPOINT", "s3_us_east_1_regional_endpoint", "regional", False),
    ("AWS_REQUEST_CHECKSUM_CALCULATION", "request_checksum_calculation", "WHEN_REQUIRED", None),
    ("AWS_REQUEST_CHECKSUM_CALCULATION", "request_checksum_calculation", "when_supported", "crc64nvme"),
    ("AWS_RESPONSE_CHECKSUM_VALIDATION", "response_checksum_validation", "when_required", False),
    ("AWS_RESPONSE_CHECKSUM_VALIDATION", "response_checksum_validation", "WHEN_SUPPORTED", True),
]
BAD = [
    ("AWS_MAX_ATTEMPTS", "max_attempts", "0"),
    ("AWS_MAX_ATTEMPTS", "max_attempts", "101"),
    ("AWS_MAX_ATTEMPTS", "max_attempts", "-1"),
    ("AWS_MAX_ATTEMPTS", "max_attempts", "many"),
    ("AWS_MAX_ATTEMPTS", "max_attempts", "\u0663"),
    ("AWS_MAX_ATTEMPTS", "max_attempts", "9" * 5000),
    ("AWS_RETRY_MODE", "retry_mode", "adaptive"),
    ("AWS_RETRY_MODE", "retry_mode", "legacy"),
    ("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint", "maybe"),
    ("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint", "2"),
    ("AWS_S3_US_EAST_1_REGIONAL_ENDPOINT", "s3_us_east_1_regional_endpoint", "global"),
    ("AWS_REQUEST_CHECKSUM_CALCULATION", "request_checksum_calculation", "never"),
    ("AWS_RESPONSE_CHECKSUM_VALIDATION", "response_checksum_validation", "never"),
]


@pytest.mark.parametrize("variable", READS)
def test_without_a_word_there_is_the_default(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert READS[variable](shared()) == DEFAULTS[variable]
    monkeypatch.setenv(variable, "  ")
    assert READS[variable](shared()) == DEFAULTS[variable]
    assert READS[variable](shared({"max_attempts": "", "s3": "no section"})) == DEFAULTS[variable]


@pytest.mark.parametrize(("variable", "name", "text", "value"), SAID)
def test_the_environment_and_the_profile_are_honoured(
    variable: str, name: str, text: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert READS[variable](shared({name: text})) == value
    monkeypatch.setenv(variable, text)
    assert READS[variable](shared()) == value
    assert READS[variable](shared({name: "nonsense"})) == value


@pytest.mark.parametrize(("variable", "name", "text"), BAD)
def test_what_cannot_be_honoured_is_refused_by_name(
    variable: str, name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match=f"the profile's {name}={re.escape(repr(text))}.*expected"):
        READS[variable](shared({name: text}))
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigurationError, match=f"variable {variable}={re.escape(repr(text))}.*expected"):
        READS[variable](shared())


def test_a_retry_mode_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_RETRY_MODE", "adaptive")
    with pytest.raises(ConfigurationError, match="retries=RetryPolicy"):
        _ = shared().retries


def test_what_is_given_wins_and_its_variable_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, _, text in BAD:
        monkeypatch.setenv(variable, text)
    policy = RetryPolicy(max_attempts=9)
    assert shared(retries=policy).retries is policy
    assert shared().checksum("crc64nvme") == "crc64nvme"
    assert shared().checksum("crc32") == "crc32"
    assert shared().checksum(None) is None
    assert shared().verify(True) is True
    assert shared().verify(False) is False


def test_other_settings_of_retries_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert shared().retries == dataclasses.replace(RetryPolicy(), max_attempts=1)


# --------------------------------------------------------------------------------------- the profile's s3 section


def test_the_s3_section_is_honoured() -> None:
    section = {"addressing_style": "path", "use_dualstack_endpoint": "true", "us_east_1_regional_endpoint": "legacy"}
    one = shared({"s3": section})
    assert (one.addressing_style, one.use_dualstack, one.use_global_host) == ("path", True, True)
    assert shared({"s3": section}, addressing_style="virtual").addressing_style == "virtual"
    assert shared().addressing_style == "auto"


def test_a_style_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="the profile's s3 addressing_style='subdomain'"):
        _ = shared({"s3": {"addressing_style": "subdomain"}}).addressing_style


@pytest.mark.parametrize("name", ["use_accelerate_endpoint", "payload_signing_enabled"])
def test_what_is_not_supported_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"the profile's s3 {name} = true"):
        shared({"s3": {name: "true"}}).check()
    shared({"s3": {name: "false", "max_concurrent_requests": "20"}}).check()


# ------------------------------------------------------------------------------------- what nobody chose, and what was


def test_a_default_checksum_is_told_from_the_same_one_given() -> None:
    default, given = MultipartUploadConfig(), MultipartUploadConfig(checksum="crc64nvme")
    assert default == given
    assert default.checksum == "crc64nvme"
    required = shared({"request_checksum_calculation": "when_required"})
    assert required.checksum(given.checksum) == "crc64nvme"
    for same in (
        default, copy.copy(default), copy.deepcopy(default), pickle.loads(pickle.dumps(default)),
        dataclasses.replace(default, part_size=32 << 20),
    ):  # fmt: skip
        assert required.checksum(same.checksum) is None


def test_the_fingerprint_of_the_environment_has_every_variable_that_a_client_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in VARIABLES:
        if not variable.name.startswith("S3DLIO_"):
            before = environment_fingerprint()
            monkeypatch.setenv(variable.name, "another")
            assert environment_fingerprint() != before, variable.name


def test_no_module_holds_a_lock_of_functools_while_it_reads_a_setting() -> None:
    """`cached_property` locks before Python 3.12, and a child forked meanwhile would wait for it forever."""
    package = Path(s3dlio.__file__).parent
    read = {path.name: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    assert len(read) > 50
    assert [name for name, text in read.items() if re.search(r"import.*cached_property|@cached_property", text)] == []


def test_a_setting_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sections: list[int] = []

    def section() -> dict[str, str]:
        sections.append(1)
        return {"use_fips_endpoint": "true"}

    monkeypatch.delenv("AWS_USE_FIPS_ENDPOINT", raising=False)
    shared = SharedSettings(ClientSettings(), section)
    assert shared.use_fips
    assert shared.use_fips
    assert len(sections) == 1
