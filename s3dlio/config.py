"""Settings of clients, uploads, downloads, retries and deadlines, as frozen, validated values.

Every floor above takes its settings from here. `checks` validates single values, and `environment` reads variables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

from ._values.checks import (
    check_boolean,
    check_endpoints,
    check_header_text,
    check_integer,
    check_metadata,
    check_region,
    check_seconds,
    check_tags,
)
from ._values.entity_tags import parse_entity_tag
from ._values.environment import environment_boolean, environment_integer
from ._values.limits import KIB as KIB
from ._values.limits import MAX_OBJECT_SIZE as MAX_OBJECT_SIZE
from ._values.limits import MAX_PART_SIZE as MAX_PART_SIZE
from ._values.limits import MAX_PARTS as MAX_PARTS
from ._values.limits import MIB as MIB
from ._values.limits import MIN_PART_SIZE as MIN_PART_SIZE
from ._values.redaction import redacted
from .errors import ConfigurationError, OptionTypeError
from .options import AddressingStyle, Checksum, Credentials, checks_fields

CHECKSUM_ALGORITHMS = ("crc64nvme", "crc32c", "crc32", "sha256")


class DefaultChecksum(str):
    """The algorithm used if the caller chose none; its type distinguishes it from the same algorithm chosen.

    ``AWS_REQUEST_CHECKSUM_CALCULATION=when_required`` overrides it.
    """

    __slots__ = ()


DEFAULT_CHECKSUM: Any = DefaultChecksum("crc64nvme")


@checks_fields
@dataclass(frozen=True)
class Timeouts:
    """Deadlines in seconds, each for one step without progress, none for a whole transfer.

    Attributes:
        connect: to make a connection, including the TLS handshake.
        send: between two bytes that the peer accepts.
        first_byte: from the end of the request to the first byte of the response.
        idle: between two bytes of the response.

    Example:
        >>> client = s3dlio.Client(timeouts=s3dlio.Timeouts(connect=2, idle=30))
        >>> s3dlio.Timeouts(idle=0)
        Traceback (most recent call last):
            ...
        s3dlio.ConfigurationError: timeouts.idle=0 is not a positive number of seconds
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
    """How often a request is retried, and how long it waits in between.

    Attributes:
        max_attempts: attempts in all, including the first (1 to 100).
        base_delay: seconds; attempt n is preceded by a random pause below ``base_delay * 2**(n-1)``.
        max_delay: seconds; the longest pause, unless the store asks for a longer one (Retry-After, up to 60 s).
        deadline: seconds for one request with all its attempts and pauses; None for no limit. A part or range is one
            request.
        quota: tokens for retries that all requests of a client share (1 to 1,000,000). A retry takes 5, after a timeout
            10; a success gives back what its last retry took, or else 1. So retries do not overload a store in trouble.
        hedge: a part or range that lags far behind the others is sent a second time on another connection, and the
            first good response counts. This is the share of all bytes that may be sent twice (0 to 1; 0: never).

    Example:
        >>> client = s3dlio.Client(retries=s3dlio.RetryPolicy(max_attempts=3, deadline=30))
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


_DEFAULT_POLICY = RetryPolicy()  # made once, because each call needs it


@dataclass(frozen=True)
class ClientSettings:
    """The settings given to a client; None means "look in the environment and the profile"."""

    endpoint_url: str | Sequence[str] | None = None
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
        """The policy given, or the default, whose number of attempts environment and profile may change."""
        return self.retries or _DEFAULT_POLICY

    def __repr__(self) -> str:
        given = [(one.name, getattr(self, one.name)) for one in fields(self) if one.repr]
        return redacted(f"ClientSettings({', '.join(f'{name}={value!r}' for name, value in given)})")

    def __post_init__(self) -> None:
        if self.addressing_style not in ("auto", "path", "virtual"):
            kind = ConfigurationError if isinstance(self.addressing_style, str) else OptionTypeError
            raise kind(f"addressing_style={self.addressing_style!r}: expected 'auto', 'path' or 'virtual'")
        if not isinstance(self.verify, bool):
            raise OptionTypeError(f"verify={self.verify!r} is not True or False; give a CA file as ca_bundle")
        check_boolean("checksum_fallback", self.checksum_fallback)
        if not isinstance(self.timeouts, Timeouts):
            raise OptionTypeError(f"timeouts={self.timeouts!r} is not a Timeouts; give for example Timeouts(idle=30)")
        if self.retries is not None and not isinstance(self.retries, RetryPolicy):
            raise OptionTypeError(
                f"retries={self.retries!r} is not a RetryPolicy; give for example RetryPolicy(max_attempts=3)"
            )
        if self.endpoint_url is not None:
            object.__setattr__(self, "endpoint_url", check_endpoints(self.endpoint_url))
        for name in ("region", "profile", "ca_bundle"):
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
    """How one download is split into ranges. Sizes in bytes; None for concurrency and chunk means "by object size"."""

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
        """Takes keywords first, then the current values of the four ``S3DLIO_*`` variables, then the defaults.

        A variable is not read where its keyword is given.
        """
        if range_optimization is None:
            optimization = environment_boolean("S3DLIO_ENABLE_RANGE_OPTIMIZATION", False)
        else:
            optimization = check_boolean("range_optimization", range_optimization)
        if range_threshold is None:
            threshold_mb = environment_integer("S3DLIO_RANGE_THRESHOLD_MB", 0, MAX_OBJECT_SIZE // MIB)
            threshold = 64 * MIB if threshold_mb is None else threshold_mb * MIB
        else:
            threshold = check_integer("range_threshold", range_threshold, 0, MAX_OBJECT_SIZE, "bytes")
        if range_concurrency is None:
            concurrency = environment_integer("S3DLIO_RANGE_CONCURRENCY", 1, 1024)
        else:
            concurrency = check_integer("range_concurrency", range_concurrency, 1, 1024, "requests")
        if chunk_size is None:
            chunk = environment_integer("S3DLIO_CHUNK_SIZE", 64 * KIB, MAX_PART_SIZE)
        else:
            chunk = check_integer("chunk_size", chunk_size, 64 * KIB, MAX_PART_SIZE, "bytes")
        return cls(optimization, threshold, concurrency, chunk)


@checks_fields
@dataclass(frozen=True)
class MultipartUploadConfig:
    """Settings of one multipart upload.

    Attributes:
        part_size: bytes of every part but the last (5 MiB to 5 GiB).
        max_in_flight: parts being uploaded at once (1 to 1024).
        abort_on_drop: abort the upload when an unfinished writer is garbage collected.
        content_type, cache_control, content_encoding, content_disposition: stored headers.
        metadata: user metadata, ``x-amz-meta-*``.
        storage_class, acl, server_side_encryption, sse_kms_key_id: S3's own values.
        tags: object tags.
        if_none_match: ``"*"`` writes only if no such object exists.
        if_match: ETag (with or without quotes) that the object to replace must have. A weak one (``W/``) is refused,
            because stores use the strong comparison here, and it would never match.
        checksum: ``"crc64nvme"``, ``"crc32c"``, ``"crc32"``, ``"sha256"`` or None. ``"sha256"`` needs by far
            the most CPU time. For a multipart object, S3 reports the hash of the parts' hashes, ending in ``-N``.
        grow_part_size: let part sizes grow so that 5 TiB fits in 10,000 parts; False raises instead.
        expected_size: hint in bytes; part_size is raised so that the object fits in 10,000 equal parts.
        abort_on_failure: abort the upload on the store as soon as the writer has failed.

    Raises:
        ConfigurationError: a value cannot be used; the error names the field, the value and what is allowed.

    Example:
        >>> s3dlio.MultipartUploadConfig(expected_size=1 << 40).part_size >> 20
        105
        >>> s3dlio.MultipartUploadConfig(part_size=1000)
        Traceback (most recent call last):
            ...
        s3dlio.ConfigurationError: part_size=1000 is outside 5242880 to 5368709120 bytes; S3 parts are 5 MiB to 5 GiB

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
            check_boolean(name, getattr(self, name))
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
    """Refuses values that cannot be sent in a request's headers, and converts the others to their final form."""
    for name in HEADER_FIELDS:
        value = getattr(config, name)
        if value is not None:
            check_header_text(name, value)
    if config.metadata is not None:
        object.__setattr__(config, "metadata", check_metadata(config.metadata))
    if config.tags is not None:
        object.__setattr__(config, "tags", check_tags(config.tags))
    if config.if_none_match is not None and check_header_text("if_none_match", config.if_none_match) != "*":
        raise ConfigurationError(f'if_none_match={config.if_none_match!r}: S3 supports only "*"')
    if config.if_match is not None:
        tag = parse_entity_tag(check_header_text("if_match", config.if_match))
        if tag is None:
            raise ConfigurationError(f"if_match={config.if_match!r} is not an ETag")
        if tag.weak:
            raise ConfigurationError(
                f"if_match={config.if_match!r} is a weak ETag, which matches no object; use one without W/, or none"
            )
        object.__setattr__(config, "if_match", tag.opaque)
    if config.if_match is not None and config.if_none_match is not None:
        raise ConfigurationError("if_match and if_none_match exclude each other; give one of them")
