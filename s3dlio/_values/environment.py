"""The only reader of environment variables: ``S3DLIO_*``, ``AWS_*`` and those of proxies and certificates.

It validates what it reads, opens no file and no connection, and never imports botocore. botocore reads the variables of
its credential providers itself (`credentials` says when it is asked). Variables are read at each call: they may change.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ..errors import ConfigurationError
from .checks import expanded, is_region, parse_boolean
from .limits import MIB


class Variable(NamedTuple):
    """One environment variable: what the reference page says about it, and what `read` enforces."""

    name: str
    default: str
    unit: str
    bounds: str
    meaning: str


VARIABLES = (
    Variable("S3DLIO_ENABLE_RANGE_OPTIMIZATION", "0", "boolean", "0, 1, true, false, yes, no, on, off",
             "Download large objects by parallel ranged GETs."),
    Variable("S3DLIO_RANGE_THRESHOLD_MB", "64", "MiB (2^20 bytes)", "0 to 5242880",
             "Objects of at least this size are downloaded by parallel ranges."),
    Variable("S3DLIO_RANGE_CONCURRENCY", "auto (8 to 32, by object size)", "requests", "1 to 1024",
             "Ranged GETs in flight for one object."),
    Variable("S3DLIO_CHUNK_SIZE", "auto (1 to 8 MiB, by object size)", "bytes", "65536 to 5368709120",
             "Size of one range."),
    Variable("S3DLIO_POOL_IDLE_MB", "auto (an eighth of the memory limit)", "MiB (2^20 bytes)", "0 to 16777216",
             "Payload memory that the process-wide pool keeps warm while nobody uses it."),
    Variable("S3DLIO_ENDPOINTS", "none", "URLs", "separated by commas or blanks; {1...8} stands for each number",
             "Several endpoints of one store, between which requests are spread; wins over AWS_ENDPOINT_URL_S3."),
    Variable("S3DLIO_OPLOG", "none", "path", "a file that can be written, ~ allowed",
             "File to which a line is appended for each request."),
    Variable("S3DLIO_STATE_DIR", "s3dlio in XDG_STATE_HOME or ~/.local/state", "path", "a folder, ~ allowed",
             "Where `upload` with `resume` notes unfinished uploads."),
    Variable("AWS_REGION", "botocore's chain, then us-east-1", "region name", "letters, digits and hyphens",
             "Region to sign for; wins over AWS_DEFAULT_REGION."),
    Variable("AWS_CA_BUNDLE", "the profile's ca_bundle, then REQUESTS_CA_BUNDLE", "path",
             "a readable PEM file or directory, ~ allowed", "Certificate authorities to trust for TLS."),
    Variable("REQUESTS_CA_BUNDLE", "the platform's (SSL_CERT_FILE, SSL_CERT_DIR)", "path",
             "a readable PEM file or directory, ~ allowed", "Certificate authorities to trust for TLS."),
    Variable("AWS_USE_FIPS_ENDPOINT", "the profile's use_fips_endpoint, then false", "boolean", "true, false",
             "Use Amazon S3's FIPS endpoints; refused together with an endpoint that is none."),
    Variable("AWS_USE_DUALSTACK_ENDPOINT", "the profile's use_dualstack_endpoint, then false", "boolean", "true, false",
             "Use Amazon S3's endpoints for IPv4 and IPv6; refused together with an endpoint that is none."),
    Variable("AWS_S3_US_EAST_1_REGIONAL_ENDPOINT", "regional", "choice", "regional, legacy",
             "Whether us-east-1 is asked at its own host or at s3.amazonaws.com."),
    Variable("AWS_MAX_ATTEMPTS", "the profile's max_attempts, then 6", "attempts", "1 to 100",
             "Attempts of one request in all, where no `retries` are given."),
    Variable("AWS_RETRY_MODE", "the profile's retry_mode, then standard", "choice", "standard",
             "Refused unless standard, which is how requests are retried; give `retries` instead."),
    Variable("AWS_REQUEST_CHECKSUM_CALCULATION", "the profile's request_checksum_calculation, then when_supported",
             "choice", "when_supported, when_required", "With when_required only a `checksum` that is given is sent."),
    Variable("AWS_RESPONSE_CHECKSUM_VALIDATION", "the profile's response_checksum_validation, then when_supported",
             "choice", "when_supported, when_required", "With when_required nothing is verified unless `verify=True`."),
)  # fmt: skip


def _refusal(name: str, value: str) -> ConfigurationError:
    variable = next(v for v in VARIABLES if v.name == name)
    return ConfigurationError(
        f"environment variable {name}={value!r} cannot be used: expected {variable.bounds} ({variable.unit})"
    )


def environment_text(name: str) -> str | None:
    """The variable's text without surrounding blanks; None when unset or empty."""
    value = os.environ.get(name, "").strip()
    return value or None


def environment_value(name: str) -> str | None:
    """The variable as it is, with blanks; None when unset or empty."""
    value = os.environ.get(name, "")
    return value if value.strip() else None


def environment_integer(name: str, low: int, high: int) -> int | None:
    """The variable as a whole number from `low` to `high`; None when unset or empty."""
    text = environment_text(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,15}", text) or not low <= int(text) <= high:
        raise _refusal(name, text)
    return int(text)


def environment_boolean(name: str, default: bool) -> bool:
    """The variable as True or False; `default` when unset or empty."""
    text = environment_text(name)
    if text is None:
        return default
    value = parse_boolean(text)
    if value is None:
        raise _refusal(name, text)
    return value


def set_variables(values: Mapping[str, str | None]) -> None:
    """Sets the variables that have a value here."""
    os.environ.update({name: value for name, value in values.items() if value is not None})


class NonEmptyEnvironment(Mapping[str, str]):
    """The environment as it is now without empty variables, which botocore would take for values."""

    def __getitem__(self, name: str) -> str:
        value = os.environ[name]
        if not value.strip():
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return (name for name, value in os.environ.items() if value.strip())

    def __len__(self) -> int:
        return sum(1 for _ in self)


def has_empty_variables() -> bool:
    """Whether one of the ``AWS_*`` variables is set and empty."""
    return any(name.startswith("AWS_") and not value.strip() for name, value in os.environ.items())


# ------------------------------------------------------------------------------------------ one store's settings


def region_from_environment() -> str | None:
    """``AWS_REGION``, or None; ``AWS_DEFAULT_REGION`` is botocore's and comes after it."""
    region = environment_text("AWS_REGION")
    if region is not None and not is_region(region):
        raise _refusal("AWS_REGION", region)
    return region


def ca_bundle_from_environment(name: str = "AWS_CA_BUNDLE") -> str | None:
    """``AWS_CA_BUNDLE``, or another variable of its kind, as the path of a readable file or directory; or None."""
    text = environment_text(name)
    if text is None:
        return None
    path = os.path.expanduser(text)
    if not os.access(path, os.R_OK):
        raise _refusal(name, text)
    return path


def credentials_from_environment() -> tuple[str, str, str | None] | None:
    """Access key, secret key and session token, where botocore's environment provider would find the same.

    None where a key is missing, and where the credentials expire: then botocore has more to do.
    """
    access_key, secret_key = (environment_value(f"AWS_{name}") for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
    if access_key is None or secret_key is None or environment_value("AWS_CREDENTIAL_EXPIRATION") is not None:
        return None
    return access_key, secret_key, environment_value("AWS_SECURITY_TOKEN") or environment_value("AWS_SESSION_TOKEN")


def endpoint_from_environment() -> str | None:
    """The URL that ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL`` names, unless it is to be ignored; or None."""
    if (environment_value("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") or "").lower() == "true":
        return None
    return environment_value("AWS_ENDPOINT_URL_S3") or environment_value("AWS_ENDPOINT_URL")


def endpoints_from_environment() -> tuple[str, ...]:
    """The URLs of ``S3DLIO_ENDPOINTS``, each with its numbers filled in; none where it is unset.

    Raises:
        ConfigurationError: the numbers are no range, or too many.
    """
    text = environment_text("S3DLIO_ENDPOINTS")
    if text is None:
        return ()
    return tuple(url for part in re.split(r"[\s,]+", text) if part for url in expanded(part, "S3DLIO_ENDPOINTS"))


def profiles_may_matter() -> bool:
    """Whether a variable names a profile, or one of the shared files exists. If not, botocore would read no file."""
    if environment_value("AWS_DEFAULT_PROFILE") or environment_value("AWS_PROFILE"):
        return True
    files = (("AWS_CONFIG_FILE", "~/.aws/config"), ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"))
    paths = (os.path.expandvars(environment_value(name) or usual) for name, usual in files)
    return any(os.path.isfile(os.path.expanduser(path)) for path in paths)


def has_proxy_variables() -> bool:
    """Whether a variable names a proxy, in lower or upper case, as `urllib.request` looks for them."""
    return any(name[-6:].lower() == "_proxy" for name in os.environ)


def operation_log_path() -> str | None:
    """The file for the operation log: ``S3DLIO_OPLOG``, or None."""
    raw = getattr(os.environ, "_data", None)
    if raw is not None and b"S3DLIO_OPLOG" not in raw:  # asked at each call
        return None
    path = environment_text("S3DLIO_OPLOG")
    return None if path is None else os.path.expanduser(path)


def state_folder() -> str:
    """Where unfinished uploads are noted: ``S3DLIO_STATE_DIR``, or ``s3dlio`` in the user's folder for such things."""
    own = environment_text("S3DLIO_STATE_DIR")
    if own is not None:
        return os.path.expanduser(own)
    base = environment_text("XDG_STATE_HOME") or os.path.join("~", ".local", "state")
    return os.path.join(os.path.expanduser(base), "s3dlio")


def pool_idle_limit() -> int | None:
    """Bytes of payload memory that the pool may keep while idle (``S3DLIO_POOL_IDLE_MB``); None where unset."""
    configured = environment_integer("S3DLIO_POOL_IDLE_MB", 0, 16 * MIB)
    return None if configured is None else configured * MIB


# ------------------------------------------------------------------------------------------ the default client


# These decide, here or in botocore, which store the default client uses, and with which credentials.
_CLIENT_VARIABLES = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE",
    "AWS_REGION", "AWS_DEFAULT_REGION", "S3DLIO_ENDPOINTS", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_ENDPOINT_URL_STS", "AWS_STS_REGIONAL_ENDPOINTS",
    "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_SECURITY_TOKEN", "AWS_CREDENTIAL_EXPIRATION",
    "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_EC2_METADATA_DISABLED", "AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
    "AWS_EC2_METADATA_V1_DISABLED", "AWS_IMDS_USE_IPV6",
    "AWS_METADATA_SERVICE_TIMEOUT", "AWS_METADATA_SERVICE_NUM_ATTEMPTS",
    "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT",
    "AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE",
    "AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION",
    "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy",
)  # fmt: skip
_RAW_CLIENT_VARIABLES = tuple(map(os.fsencode, _CLIENT_VARIABLES))


def environment_fingerprint() -> tuple[object, ...]:
    """The values that a client built from the environment depends on; equal tuples mean the same client."""
    raw = getattr(os.environ, "_data", None)
    if raw is None:
        return tuple(map(os.environ.get, _CLIENT_VARIABLES))
    # Asked at each call of the default client: `os.environ` raises and catches an error for each variable not set.
    return tuple(map(raw.get, _RAW_CLIENT_VARIABLES))
