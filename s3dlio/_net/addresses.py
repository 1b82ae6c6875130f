"""Turns ``s3://bucket/key`` into (bucket, key) and back, and both into the request target of an endpoint.

Pure functions of text. They never normalise a key: S3 keys are exact byte strings, in which ``//``, ``.`` and ``%41``
are ordinary characters. Callers are the public functions (URIs) and `service` (targets).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import SplitResult, quote, urlsplit

from .._values.redaction import redacted, shown
from ..errors import ConfigurationError, UnsupportedUriError

SCHEME = "s3://"
_NO_ARN = (
    "access points, Outposts and Object Lambda are not supported; name the bucket, or the access point's alias, "
    "as in 's3://bucket/key'"
)
# Directory buckets (S3 Express One Zone): they need sessions and zonal hosts. Other stores have no such names.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/directory-bucket-naming-rules.html
_DIRECTORY_BUCKET = "--x-s3"

# Buckets of today have 3 to 63 lower-case characters, but those made in us-east-1 before 2018 may have up to
# 255, upper-case letters and underscores: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
# Names that are one label of a host name, which a wildcard certificate covers, and names of several labels.
_DNS_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9-]{1,61})[a-z0-9]")
_DNS_BUCKET_WITH_DOTS = re.compile(
    r"(?=.{3,63}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9._-]{0,252}[a-z0-9_.])?")
# `checks.is_region` says what a region is; in the name of an Amazon host, it is one label (RFC 1123, section 2.1).
_HOST_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")

# Domain of each partition by the prefix of its regions; the first match counts and the last line matches all.
_PARTITIONS = (
    ("cn-", "amazonaws.com.cn"),
    ("eusc-", "amazonaws.eu"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("", "amazonaws.com"),
)
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Location(NamedTuple):
    """A bucket, and a key or prefix in it (empty for the bucket itself)."""

    bucket: str
    key: str


class Origin(NamedTuple):
    """Where to connect: `host` is a name or a bare address, an IPv6 one without brackets."""

    scheme: str
    host: str
    port: int


class Target(NamedTuple):
    """Where one request goes and how it names its resource; `path` and `query_string` are percent-encoded."""

    origin: Origin
    host_header: str
    path: str
    query_string: str


def parse_uri(uri: str, *, require_key: bool = True) -> Location:
    """Bucket and key of ``s3://bucket/key``; what follows the first slash is the key, as it stands.

    Args:
        uri: the URI, not percent-encoded: ``%41``, ``?`` and ``#`` are characters of the key.
        require_key: False also accepts ``s3://bucket`` and ``s3://bucket/``, with an empty key.

    Raises:
        UnsupportedUriError: naming the URI and what to write instead.
    """
    if not isinstance(uri, str):
        raise UnsupportedUriError(
            f"{shown(uri)} is a {type(uri).__name__}; give a str like 's3://bucket/key' (path objects merge slashes)"
        )
    if uri[: len(SCHEME)].lower() != SCHEME:  # schemes are case-insensitive: RFC 3986, section 3.1
        if uri[:4].lower() == "arn:":
            raise UnsupportedUriError(f"{shown(uri)} is an ARN, and {_NO_ARN}")
        raise UnsupportedUriError(f"{shown(uri)} is not an S3 URI; write it as 's3://bucket/key'")
    bucket, _, key = uri[len(SCHEME) :].partition("/")
    return _checked(bucket, key, repr(redacted(uri)), require_key)


def check_location(bucket: str, key: str, *, require_key: bool = True) -> Location:
    """Bucket and key that were given separately, by the rules of `parse_uri`.

    Raises:
        UnsupportedUriError: naming both and what is wrong.
    """
    if not isinstance(bucket, str) or not isinstance(key, str):
        raise UnsupportedUriError(f"bucket {shown(bucket)} with key {key!r}: both must be str")
    return _checked(bucket, key, f"bucket {shown(bucket)} with key {key!r}", require_key)


def _checked(bucket: str, key: str, described: str, require_key: bool) -> Location:
    if not bucket:
        raise UnsupportedUriError(f"{described} has no bucket; write it as 's3://bucket/key'")
    if bucket[:4].lower() == "arn:":
        raise UnsupportedUriError(f"{described} is an ARN, and {_NO_ARN}")
    if ":" in bucket or "@" in bucket or "%40" in bucket:  # it may be a secret, so it is not repeated
        raise UnsupportedUriError(
            "a user, password or port stands before the bucket's name; write the URI as 's3://bucket/key', and give "
            "Client(credentials=..., endpoint_url=...)"
        )
    if not _BUCKET.fullmatch(bucket):
        raise UnsupportedUriError(
            f"{described}: {bucket!r} is not a bucket name; use letters, digits, '-', '.' and '_', "
            "with a letter or digit first"
        )
    if require_key and not key:
        raise UnsupportedUriError(f"{described} names no object; add its key, as in 's3://{bucket}/key'")
    control = _CONTROL.search(key)
    if control:
        raise UnsupportedUriError(
            f"{described}: the key contains the control character {control.group()!r} "
            f"at position {control.start()}; remove it"
        )
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise UnsupportedUriError(
            f"{described}: the key contains a lone surrogate at position {error.start}, which UTF-8 "
            "cannot express; decode the name with its real encoding first"
        ) from None
    return Location(bucket, key)


def format_uri(bucket: str, key: str) -> str:
    """``s3://bucket/key``; the inverse of `parse_uri`. It accepts every key that a store may list."""
    return f"{SCHEME}{bucket}/{key}"


def encode_key(key: str) -> str:
    """The key as in a request path: UTF-8, all but RFC 3986 unreserved characters and ``/`` encoded.

    Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    return quote(key, safe="/")


def encode_query(pairs: Sequence[tuple[str, str]]) -> str:
    """The query string in SigV4's canonical form: encoded, sorted by name, then value, always with ``=``."""
    encoded = sorted((quote(name, safe=""), quote(value, safe="")) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


def aws_endpoint(region: str, *, fips: bool = False, dualstack: bool = False, global_host: bool = False) -> str:
    """The HTTPS endpoint of Amazon S3 in `region`, by the region's partition.

    Args:
        fips: the endpoint whose cryptography is validated by FIPS 140.
        dualstack: the endpoint for both IPv4 and IPv6.
        global_host: for us-east-1 only, the endpoint without a region in its name; it has no other variant.

    Raises:
        ConfigurationError: `region` cannot be part of a host name, or its partition has no such endpoint.

    Source: https://docs.aws.amazon.com/general/latest/gr/s3.html
    """
    if not _HOST_LABEL.fullmatch(region):
        raise ConfigurationError(f"region {region!r} is not a region name; use one like 'eu-central-1'")
    domain = next(domain for prefix, domain in _PARTITIONS if region.startswith(prefix))
    if fips and region.startswith("cn-"):
        raise ConfigurationError(f"region {region!r} has no FIPS endpoints; set AWS_USE_FIPS_ENDPOINT to false")
    if global_host and region == "us-east-1" and not fips and not dualstack:
        return f"https://s3.{domain}"
    host = "s3-fips" if fips else "s3"
    return f"https://{host}.dualstack.{region}.{domain}" if dualstack else f"https://{host}.{region}.{domain}"


@dataclass(frozen=True)
class Endpoint:
    """A store's address and the way buckets are named there.

    Attributes:
        scheme: ``http`` or ``https``.
        host: in lower case, an IPv6 address without brackets.
        port: always a number.
        base_path: encoded prefix of every path, empty or like ``/s3``.
        addressing_style: ``path``, ``virtual`` or ``auto``: virtual for Amazon's endpoints where the bucket
            is one DNS label (which its wildcard certificate covers), else path.
    """

    scheme: str
    host: str
    port: int
    base_path: str = ""
    addressing_style: str = "auto"

    @classmethod
    def from_url(cls, url: str, addressing_style: str = "auto") -> Endpoint:
        """Reads ``http[s]://host[:port][/base]``.

        Raises:
            ConfigurationError: the URL or style cannot be used; credentials in the URL are not repeated.
        """
        if addressing_style not in ("auto", "path", "virtual"):
            raise ConfigurationError(f"addressing_style={addressing_style!r}: expected auto, path or virtual")
        parts, port = _split_endpoint(url)
        host = (parts.hostname or "").lower()
        if not _is_address(host) and not _HOST.fullmatch(host):
            raise ConfigurationError(f"endpoint {url!r} has no usable host; write it as 'https://host:port'")
        if addressing_style == "virtual" and _is_address(host):
            raise ConfigurationError(
                f"endpoint {url!r} is an IP address, and a bucket name cannot be put before one; "
                "use a host name or addressing_style='path'"
            )
        base_path = quote(parts.path.rstrip("/"), safe="/%")
        return cls(parts.scheme, host, port, base_path, addressing_style)

    def target(self, bucket: str | None, key: str = "", query: Sequence[tuple[str, str]] = ()) -> Target:
        """The target of a request for the object; an empty key means the bucket, no bucket the service.

        Raises:
            ConfigurationError: the style is ``virtual`` and the bucket's name cannot be part of a host name.
            UnsupportedUriError: it is one of Amazon's directory buckets.
        """
        host, path = self.host, self.base_path
        if bucket is not None:
            if bucket.endswith(_DIRECTORY_BUCKET) and self.is_amazon:
                raise UnsupportedUriError(
                    f"{bucket!r} is a directory bucket (S3 Express One Zone), which is not supported; "
                    "use a general purpose bucket"
                )
            if self._virtual(bucket):
                host = f"{bucket}.{host}"
                path = f"{path}/{encode_key(key)}"
            else:
                path = f"{path}/{bucket}/{encode_key(key)}" if key else f"{path}/{bucket}"
        origin = Origin(self.scheme, host, self.port)
        return Target(origin, _host_header(origin), path or "/", encode_query(query))

    def targets(self, bucket: str | None, keys: Sequence[str]) -> list[Target]:
        """The targets of several objects of one bucket, as `target` returns them, but with one look-up for all.

        Raises:
            ConfigurationError: as for `target`.
        """
        of_bucket = self.target(bucket)
        path = of_bucket.path.removesuffix("/")
        return [Target(of_bucket.origin, of_bucket.host_header, f"{path}/{encode_key(key)}", "") for key in keys]

    def _virtual(self, bucket: str) -> bool:
        if self.addressing_style == "path":
            return False
        if self.addressing_style == "virtual":
            if not _DNS_BUCKET_WITH_DOTS.fullmatch(bucket):
                raise ConfigurationError(
                    f"bucket {bucket!r} cannot be part of a host name; use addressing_style='path'"
                )
            return True
        return self.is_amazon and _DNS_BUCKET.fullmatch(bucket) is not None

    @property
    def is_amazon(self) -> bool:
        """Whether the host is one of Amazon's."""
        return any(self.host.endswith(f".{domain}") for _, domain in _PARTITIONS)

    def check_variant(self, *, fips: bool, dualstack: bool) -> None:
        """Refuses an endpoint that is not of the kind that environment or profile require.

        Raises:
            ConfigurationError: naming the setting and what to do.
        """
        for wanted, label, variable in (
            (fips, "fips", "AWS_USE_FIPS_ENDPOINT (use_fips_endpoint in the profile)"),
            (dualstack, "dualstack", "AWS_USE_DUALSTACK_ENDPOINT (use_dualstack_endpoint in the profile)"),
        ):
            if wanted and label not in re.split("[.-]", self.host):
                raise ConfigurationError(
                    f"{variable} is true, but the endpoint {self.host} is not a {label} endpoint: unset one of the two"
                )


def _split_endpoint(url: str) -> tuple[SplitResult, int]:
    """The URL's parts and port; refuses everything that is not an address."""
    if _CONTROL.search(url) or " " in url or not url.isascii():
        raise ConfigurationError(f"endpoint {shown(url)} contains blanks, control or non-ASCII characters; remove them")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigurationError("the endpoint URL is malformed; write it as 'https://host:port'") from None
    if "@" in parts.netloc or "%40" in parts.netloc:  # the URL contains a password, so it is not repeated
        raise ConfigurationError("the endpoint URL contains a user name; give credentials separately")
    if parts.scheme not in _DEFAULT_PORTS or not parts.netloc:
        raise ConfigurationError(f"endpoint {shown(url)} is not an HTTP URL; write it as 'https://host:port'")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"endpoint {url!r} has a query or fragment; remove it")
    if port == 0:
        raise ConfigurationError(f"endpoint {url!r} has port 0; give the port the store listens on")
    return parts, _DEFAULT_PORTS[parts.scheme] if port is None else port


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _host_header(origin: Origin) -> str:
    """Host and port, the scheme's default port left out: RFC 9110, section 7.2."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return host if origin.port == _DEFAULT_PORTS[origin.scheme] else f"{host}:{origin.port}"
