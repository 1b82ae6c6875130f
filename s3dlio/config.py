"""Settings as frozen, validated values, and the only reader of ``S3DLIO_*`` and ``AWS_*`` variables.

It never opens a connection and never imports botocore (which reads its own variables and files in
`credentials`). Every floor above takes its numbers from here.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Self

from ._values.entity_tags import parse_entity_tag
from ._values.redaction import redacted
from .errors import ConfigurationError, OptionTypeError
from .options import AddressingStyle, Checksum, Credentials, checks_fields

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MIN_PART_SIZE = 5 * MIB
MAX_PART_SIZE = 5 * GIB
MAX_PARTS = 10_000
MAX_OBJECT_SIZE = 5 << 40

CHECKSUM_ALGORITHMS = ("crc64nvme", "crc32c", "crc32", "sha256")


class DefaultChecksum(str):
    """The algorithm that is used where nobody named one: by its type it can be told from the same one given.

    It gives way to ``AWS_REQUEST_CHECKSUM_CALCULATION=when_required``.
    """

    __slots__ = ()


DEFAULT_CHECKSUM: Any = DefaultChecksum("crc64nvme")


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


def _refuse_variable(name: str, value: str) -> ConfigurationError:
    variable = next(v for v in VARIABLES if v.name == name)
    return ConfigurationError(
        f"environment variable {name}={value!r} cannot be used: expected {variable.bounds} ({variable.unit})"
    )


def environment_text(name: str) -> str | None:
    """The variable's text without surrounding blanks; None when unset or empty."""
    value = os.environ.get(name, "").strip()
    return value or None


class NonEmptyEnvironment(Mapping[str, str]):
    """The environment as it is now without variables that are empty, which botocore would take for values."""

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
    """Whether a variable of Amazon's is set and empty."""
    return any(name.startswith("AWS_") and not value.strip() for name, value in os.environ.items())


def _read_integer(name: str, low: int, high: int) -> int | None:
    text = environment_text(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,15}", text) or not low <= int(text) <= high:
        raise _refuse_variable(name, text)
    return int(text)


def _read_boolean(name: str, default: bool) -> bool:
    text = environment_text(name)
    if text is None:
        return default
    value = parse_boolean(text)
    if value is None:
        raise _refuse_variable(name, text)
    return value


def parse_boolean(text: str) -> bool | None:
    """True or False in their usual forms; None for anything else."""
    lowered = text.strip().lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    return False if lowered in ("0", "false", "no", "off") else None


def region_from_environment() -> str | None:
    """``AWS_REGION``, or None; botocore reads ``AWS_DEFAULT_REGION`` and the profile itself."""
    region = environment_text("AWS_REGION")
    if region is not None and not _REGION.fullmatch(region):
        raise _refuse_variable("AWS_REGION", region)
    return region


_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def check_region(region: str) -> str:
    """`region`, if it can be one: it stands in the signature of every request."""
    if not _REGION.fullmatch(region):
        raise ConfigurationError(f"region={region!r} is not a region name; use letters, digits and hyphens")
    return region


def ca_bundle_from_environment(name: str = "AWS_CA_BUNDLE") -> str | None:
    """``AWS_CA_BUNDLE``, or another variable of its kind, as the path of a readable file or directory; or None."""
    text = environment_text(name)
    if text is None:
        return None
    path = os.path.expanduser(text)
    if not os.access(path, os.R_OK):
        raise _refuse_variable(name, text)
    return path


# What decides, here or in botocore, which store the default client talks to, and as whom.
_CLIENT_VARIABLES = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE",
    "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3",
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
    # Each call by the default client asks, and `os.environ` raises and catches an error for each variable not set.
    return tuple(map(raw.get, _RAW_CLIENT_VARIABLES))


def pool_idle_limit() -> int | None:
    """Bytes of payload memory the pool may keep while nobody uses them (``S3DLIO_POOL_IDLE_MB``); None where unset."""
    configured = _read_integer("S3DLIO_POOL_IDLE_MB", 0, 16 * MIB)
    return None if configured is None else configured * MIB


# ---------------------------------------------------------------------------------------------- values


def check_integer(name: str, value: Any, low: int, high: int, unit: str, remedy: str = "") -> int:
    """`value` as int, or a `ConfigurationError` that names argument, value and range."""
    hint = f"; {remedy}" if remedy else ""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise OptionTypeError(f"{name}={value!r} is not a whole number of {unit}{hint}")
    number: int = value.__index__()
    if not low <= number <= high:
        raise ConfigurationError(f"{name}={number} is outside {low} to {high} {unit}{hint}")
    return number


def check_seconds(name: str, value: Any) -> float:
    """`value` as a positive, finite number of seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionTypeError(f"{name}={value!r} is not a number of seconds")
    if not math.isfinite(value) or value <= 0:
        raise ConfigurationError(f"{name}={value!r} is not a positive number of seconds")
    return float(value)


def check_header_text(name: str, value: Any) -> str:
    """`value` as text that may stand in an HTTP header (RFC 9110, section 5.5), or an error before any byte moves."""
    if not isinstance(value, str):
        raise OptionTypeError(f"{name}={value!r} is not a str")
    if any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise ConfigurationError(f"{name}={value!r} holds a control character; remove CR, LF and the like")
    try:
        value.encode("ascii")
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"{name}={value!r} holds characters outside ASCII; encode them (for example with urllib.parse.quote)"
        ) from None
    return value.strip()


def _check_mapping(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise OptionTypeError(f"{name}={value!r} is not a mapping of str to str")
    return {str(k): v for k, v in value.items()}


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def check_metadata(value: Any) -> dict[str, str]:
    """User metadata: header-token names, ASCII values, at most 2 KiB together (S3 user guide, object metadata)."""
    metadata = _check_mapping("metadata", value)
    for key, text in metadata.items():
        if not _TOKEN.fullmatch(key):
            raise ConfigurationError(f"metadata key {key!r} is not a valid header name; use letters, digits and -")
        check_header_text(f"metadata[{key!r}]", text)
    size = sum(len(k) + len(v) for k, v in metadata.items())
    if size > 2 * KIB:
        raise ConfigurationError(f"metadata holds {size} bytes; S3 stores at most {2 * KIB}")
    return metadata


def check_tags(value: Any) -> dict[str, str]:
    """Object tags: at most 10, keys to 128 and values to 256 characters (S3 user guide, object tagging)."""
    tags = _check_mapping("tags", value)
    if len(tags) > 10:
        raise ConfigurationError(f"tags holds {len(tags)} entries; S3 stores at most 10")
    for key, text in tags.items():
        if not 1 <= len(key) <= 128 or not isinstance(text, str) or len(text) > 256:
            raise ConfigurationError(f"tag {key!r}={text!r}: keys have 1 to 128, values up to 256 characters")
    return tags


@checks_fields
@dataclass(frozen=True)
class Timeouts:
    """Deadlines in seconds, each for one step without progress and none for a whole transfer.

    Attributes:
        connect: to make a connection, TLS handshake included.
        send: between two bytes that the peer accepts.
        first_byte: from the end of the request to the first byte of the answer.
        idle: between two bytes of the answer.
    """

    connect: float = 10.0
    send: float = 60.0
    first_byte: float = 60.0
    idle: float = 60.0

    def __post_init__(self) -> None:
        for one in fields(self):
            object.__setattr__(self, one.name, check_seconds(f"timeouts.{one.name}", getattr(self, one.name)))


@checks_fields
@dataclass(frozen=True)
class RetryPolicy:
    """How often and how patiently a request is sent again.

    Attributes:
        max_attempts: attempts in all, the first included (1 to 100).
        base_delay: seconds; attempt n is preceded by a random pause below ``base_delay * 2**(n-1)``.
        max_delay: seconds; the longest pause, unless the store asks for a longer one (Retry-After, up to 60 s).
        deadline: seconds that one request may take with all its attempts and pauses; None for no limit. A part
            or range is one request.
        quota: what all requests of a client share for sending again: each retry takes 5, after a timeout 10; a
            success gives back what its last retry took, or else 1 (1 to 1,000,000). So a store in trouble is not
            held down by its clients' retries.
        hedge: a part or range that lags far behind its like is sent a second time on another connection, and the
            first good answer counts; this is the share of all bytes that may be moved twice so (0 to 1; 0: never).
    """

    max_attempts: int = 6
    base_delay: float = 0.1
    max_delay: float = 10.0
    deadline: float | None = None
    quota: int = 500
    hedge: float = 0.05

    def __post_init__(self) -> None:
        check_integer("retries.max_attempts", self.max_attempts, 1, 100, "attempts")
        object.__setattr__(self, "base_delay", check_seconds("retries.base_delay", self.base_delay))
        object.__setattr__(self, "max_delay", check_seconds("retries.max_delay", self.max_delay))
        if self.deadline is not None:
            object.__setattr__(self, "deadline", check_seconds("retries.deadline", self.deadline))
        if isinstance(self.hedge, bool) or not isinstance(self.hedge, int | float):
            raise OptionTypeError(f"retries.hedge={self.hedge!r} is not a number from 0 to 1")
        if not 0 <= self.hedge <= 1:
            raise ConfigurationError(f"retries.hedge={self.hedge!r} is outside 0 to 1")
        check_integer("retries.quota", self.quota, 1, 1_000_000, "tokens")


_DEFAULT_POLICY = RetryPolicy()  # each call asks for it


@dataclass(frozen=True)
class ClientSettings:
    """Everything a client was told explicitly; None means "look in the environment and profile"."""

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    credentials: Credentials | None = field(default=None, repr=False)
    addressing_style: AddressingStyle = "auto"
    verify: bool = True
    ca_bundle: str | None = None
    max_connections: int | None = None
    checksum_fallback: bool = True
    timeouts: Timeouts = field(default_factory=Timeouts)
    retries: RetryPolicy | None = None

    @property
    def policy(self) -> RetryPolicy:
        """The retries given, or the defaults; their number may be another in environment or profile."""
        return self.retries or _DEFAULT_POLICY

    def __repr__(self) -> str:
        told = [(one.name, getattr(self, one.name)) for one in fields(self) if one.repr]
        return redacted(f"ClientSettings({', '.join(f'{name}={value!r}' for name, value in told)})")

    def __post_init__(self) -> None:
        if self.addressing_style not in ("auto", "path", "virtual"):
            kind = ConfigurationError if isinstance(self.addressing_style, str) else OptionTypeError
            raise kind(f"addressing_style={self.addressing_style!r}: expected 'auto', 'path' or 'virtual'")
        if not isinstance(self.verify, bool):
            raise OptionTypeError(f"verify={self.verify!r} is not True or False; give a CA file as ca_bundle")
        if not isinstance(self.checksum_fallback, bool):
            raise OptionTypeError(f"checksum_fallback={self.checksum_fallback!r} is not True or False")
        if not isinstance(self.timeouts, Timeouts):
            raise OptionTypeError(f"timeouts={self.timeouts!r} is not a Timeouts; give for example Timeouts(idle=30)")
        if self.retries is not None and not isinstance(self.retries, RetryPolicy):
            raise OptionTypeError(
                f"retries={self.retries!r} is not a RetryPolicy; give for example RetryPolicy(max_attempts=3)"
            )
        for name in ("endpoint_url", "region", "profile", "ca_bundle"):
            value = getattr(self, name)
            if value is not None:
                check_header_text(name, value)
        if self.region is not None:
            check_region(self.region)
        if self.max_connections is not None:
            check_integer("max_connections", self.max_connections, 1, 65536, "connections")
        given = self.credentials
        if given is None or given == "anonymous":
            return
        if not (isinstance(given, tuple) and len(given) in (2, 3) and all(isinstance(c, str | None) for c in given)):
            raise OptionTypeError(
                "credentials: expected None, 'anonymous' or a tuple (access key, secret key[, session token])"
            )


@dataclass(frozen=True)
class DownloadSettings:
    """How one download is cut. Sizes in bytes; None for concurrency and chunk means "by object size"."""

    range_optimization: bool
    range_threshold: int
    range_concurrency: int | None
    chunk_size: int | None

    @classmethod
    def resolve(
        cls,
        range_optimization: bool | None = None,
        range_threshold: int | None = None,
        range_concurrency: int | None = None,
        chunk_size: int | None = None,
    ) -> Self:
        """Keywords first, then the four ``S3DLIO_*`` variables as they are now, then the defaults.

        A variable whose keyword is given is not even looked at.
        """
        if range_optimization is None:
            optimization = _read_boolean("S3DLIO_ENABLE_RANGE_OPTIMIZATION", False)
        elif isinstance(range_optimization, bool):
            optimization = range_optimization
        else:
            raise OptionTypeError(f"range_optimization={range_optimization!r} is not True or False")
        if range_threshold is None:
            threshold_mb = _read_integer("S3DLIO_RANGE_THRESHOLD_MB", 0, MAX_OBJECT_SIZE // MIB)
            threshold = 64 * MIB if threshold_mb is None else threshold_mb * MIB
        else:
            threshold = check_integer("range_threshold", range_threshold, 0, MAX_OBJECT_SIZE, "bytes")
        if range_concurrency is None:
            concurrency = _read_integer("S3DLIO_RANGE_CONCURRENCY", 1, 1024)
        else:
            concurrency = check_integer("range_concurrency", range_concurrency, 1, 1024, "requests")
        if chunk_size is None:
            chunk = _read_integer("S3DLIO_CHUNK_SIZE", 64 * KIB, MAX_PART_SIZE)
        else:
            chunk = check_integer("chunk_size", chunk_size, 64 * KIB, MAX_PART_SIZE, "bytes")
        return cls(optimization, threshold, concurrency, chunk)


@checks_fields
@dataclass(frozen=True)
class MultipartUploadConfig:
    """Settings of one multipart upload, validated when made.

    Attributes:
        part_size: bytes of every part but the last (5 MiB to 5 GiB).
        max_in_flight: parts being uploaded at once (1 to 1024).
        abort_on_drop: abort the upload when the writer is garbage collected unfinished.
        content_type, cache_control, content_encoding, content_disposition: stored headers.
        metadata: user metadata, ``x-amz-meta-*``.
        storage_class, acl, server_side_encryption, sse_kms_key_id: S3's own values.
        tags: object tags.
        if_none_match: ``"*"`` writes only where no object exists.
        if_match: ETag (with or without quotes) the object to replace must have. A weak one (``W/``) is refused: stores
            compare strongly here, and it would never match.
        checksum: ``"crc64nvme"``, ``"crc32c"``, ``"crc32"``, ``"sha256"`` or None. ``"sha256"`` costs the most by far,
            and S3 has it only of objects sent whole: of a multipart one it is of the parts' digests, ending in ``-N``.
        grow_part_size: let part sizes grow so that 5 TiB fits into 10,000 parts; False raises instead.
        expected_size: hint in bytes; part_size is raised at once so that it fits 10,000 equal parts.
        abort_on_failure: abort the upload on the store as soon as the writer has failed.

    Raises:
        ConfigurationError: naming the field, its value and what is allowed.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
    """

    part_size: int = 16 * MIB
    max_in_flight: int = 16
    abort_on_drop: bool = True
    content_type: str | None = None
    metadata: Mapping[str, str] | None = None
    storage_class: str | None = None
    tags: Mapping[str, str] | None = None
    server_side_encryption: str | None = None
    sse_kms_key_id: str | None = None
    cache_control: str | None = None
    content_encoding: str | None = None
    content_disposition: str | None = None
    acl: str | None = None
    if_none_match: str | None = None
    if_match: str | None = None
    checksum: Checksum | None = DEFAULT_CHECKSUM
    grow_part_size: bool = True
    expected_size: int | None = None
    abort_on_failure: bool = True

    def __post_init__(self) -> None:
        part_size = check_integer(
            "part_size", self.part_size, MIN_PART_SIZE, MAX_PART_SIZE, "bytes", "S3 parts are 5 MiB to 5 GiB"
        )
        check_integer("max_in_flight", self.max_in_flight, 1, 1024, "parts")
        for name in ("abort_on_drop", "grow_part_size", "abort_on_failure"):
            if not isinstance(getattr(self, name), bool):
                raise OptionTypeError(f"{name}={getattr(self, name)!r} is not True or False")
        if self.expected_size is not None:
            expected = check_integer("expected_size", self.expected_size, 0, MAX_OBJECT_SIZE, "bytes")
            needed = -(-expected // MAX_PARTS)
            # Whole MiB keep parts page-aligned within the caller's reservations.
            part_size = max(part_size, -(-needed // MIB) * MIB)
        object.__setattr__(self, "part_size", part_size)
        object.__setattr__(self, "max_in_flight", self.max_in_flight.__index__())
        check_object_headers(self)
        if self.checksum is not None and self.checksum not in CHECKSUM_ALGORITHMS:
            allowed = ", ".join(CHECKSUM_ALGORITHMS)
            kind = ConfigurationError if isinstance(self.checksum, str) else OptionTypeError
            raise kind(f"checksum={self.checksum!r}: expected one of {allowed}, or None")


HEADER_FIELDS = {
    "content_type": "content-type",
    "cache_control": "cache-control",
    "content_encoding": "content-encoding",
    "content_disposition": "content-disposition",
    "storage_class": "x-amz-storage-class",
    "server_side_encryption": "x-amz-server-side-encryption",
    "sse_kms_key_id": "x-amz-server-side-encryption-aws-kms-key-id",
    "acl": "x-amz-acl",
}


def check_object_headers(config: MultipartUploadConfig) -> None:
    """Refuse whatever could not stand in a request's headers."""
    for name in HEADER_FIELDS:
        value = getattr(config, name)
        if value is not None:
            check_header_text(name, value)
    if config.metadata is not None:
        object.__setattr__(config, "metadata", check_metadata(config.metadata))
    if config.tags is not None:
        object.__setattr__(config, "tags", check_tags(config.tags))
    if config.if_none_match is not None and check_header_text("if_none_match", config.if_none_match) != "*":
        raise ConfigurationError(f'if_none_match={config.if_none_match!r}: S3 knows only "*"')
    if config.if_match is not None:
        tag = parse_entity_tag(check_header_text("if_match", config.if_match))
        if tag is None:
            raise ConfigurationError(f"if_match={config.if_match!r} is not an ETag")
        if tag.weak:
            raise ConfigurationError(
                f"if_match={config.if_match!r} is a weak ETag, which no object matches; use one without W/, or none"
            )
        object.__setattr__(config, "if_match", tag.opaque)
    if config.if_match is not None and config.if_none_match is not None:
        raise ConfigurationError("if_match and if_none_match exclude each other; give one")
