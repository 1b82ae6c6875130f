"""What a client uses and meets: its settings with their sources, the way to its store, and what the store supports.

The command `s3dlio doctor` calls it. No secret leaves it. It only reports; the command gives advice.
"""

from __future__ import annotations

import os
import resource
import socket
import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from . import objects, reader
from ._net.addresses import Location, format_uri
from ._net.proxies import proxy_for
from ._runtime.machine_memory import memory_limit
from ._runtime.processors import usable_processors
from ._s3 import delete_operations
from ._s3.requests import Request
from ._s3.service import Service
from ._values.environment import (
    ca_bundle_from_environment,
    credentials_from_environment,
    endpoint_from_environment,
    endpoints_from_environment,
    environment_text,
    environment_value,
    region_from_environment,
)
from ._values.redaction import redacted
from .client import Client
from .errors import PreconditionFailedError, S3Error

ARGUMENT = "argument"
DEFAULT = "default"


@dataclass(frozen=True)
class Setting:
    """A setting in use: what it is called, what it is, and where that was found."""

    name: str
    value: str
    source: str


def settings_in_use(client: Client) -> Iterator[Callable[[], Setting]]:
    """What finds each setting. Each may raise what the client itself would raise for it."""
    service = client.service
    for find in (_profile, _endpoint, _addressing, _region, _credentials, _certificates, _attempts):
        yield lambda find=find: find(service)  # type: ignore[misc]


def _profile_source(service: Service) -> str:
    name, source = _profile_name(service)
    return f"profile {name} ({source})"


def _profile_name(service: Service) -> tuple[str, str]:
    if service.settings.profile is not None:
        return service.settings.profile, ARGUMENT
    for variable in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        name = environment_text(variable)
        if name is not None:
            return name, variable
    return "default", DEFAULT


def _profile(service: Service) -> Setting:
    section = service.credentials.profile_section()
    name, source = _profile_name(service)
    return Setting("profile", name if section else f"{name} (no settings)", source)


def _endpoint(service: Service) -> Setting:
    url = redacted(", ".join(f"{one.scheme}://{one.host}:{one.port}{one.base_path}" for one in service.endpoints))
    if service.settings.endpoint_url is not None:
        return Setting("endpoint", url, ARGUMENT)
    if endpoints_from_environment():
        return Setting("endpoint", url, "S3DLIO_ENDPOINTS")
    if not service.credentials.endpoint_urls():
        return Setting("endpoint", url, DEFAULT)
    if endpoint_from_environment() is None:
        return Setting("endpoint", url, _profile_source(service))
    named = environment_value("AWS_ENDPOINT_URL_S3")
    return Setting("endpoint", url, "AWS_ENDPOINT_URL" if named is None else "AWS_ENDPOINT_URL_S3")


def _addressing(service: Service) -> Setting:
    style = service.shared.addressing_style
    if service.settings.addressing_style != "auto":
        source = ARGUMENT
    else:
        source = DEFAULT if style == "auto" else _profile_source(service)
    return Setting("addressing", style, source)


def _region(service: Service) -> Setting:
    region = service.region
    if service.settings.region:
        return Setting("region", region, ARGUMENT)
    if region_from_environment():
        return Setting("region", region, "AWS_REGION")
    if environment_value("AWS_DEFAULT_REGION"):
        return Setting("region", region, "AWS_DEFAULT_REGION")
    named = service.credentials.profile_section().get("region")
    return Setting("region", region, _profile_source(service) if named else DEFAULT)


def _credentials(service: Service) -> Setting:
    found = service.credentials.frozen()
    if found is None:
        return Setting("credentials", "anonymous", ARGUMENT)
    key = found.access_key
    shown = f"access key ...{key[-4:]}" if len(key) >= 12 else "access key"
    shown += ", session token" if found.token else ""
    shown += f", until {found.expires_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if found.expires_at else ""
    source = service.credentials.origin()
    if source == "environment" and credentials_from_environment() is not None:
        source = "AWS_ACCESS_KEY_ID"
    return Setting("credentials", shown, source)


def _certificates(service: Service) -> Setting:
    settings = service.settings
    if not settings.verify:
        return Setting("certificates", "any is accepted", ARGUMENT)
    if settings.ca_bundle:
        return Setting("certificates", settings.ca_bundle, ARGUMENT)
    for variable in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        bundle = ca_bundle_from_environment(variable)
        if bundle:
            return Setting("certificates", bundle, variable)
    profile = service.credentials.ca_bundle()
    return Setting("certificates", profile or "the platform's", _profile_source(service) if profile else DEFAULT)


def _attempts(service: Service) -> Setting:
    policy = service.shared.retries
    if service.settings.retries is not None:
        source = ARGUMENT
    elif environment_text("AWS_MAX_ATTEMPTS"):
        source = "AWS_MAX_ATTEMPTS"
    else:
        source = _profile_source(service) if service.credentials.profile_section().get("max_attempts") else DEFAULT
    return Setting("attempts", str(policy.max_attempts), source)


# ------------------------------------------------------------------------------------------ the way to the store


@dataclass(frozen=True)
class Way:
    """A connection to the store as it was made.

    Attributes:
        host: what was looked up and connected to; of a proxy, the store's name.
        address: the peer's address and port.
        proxy: the proxy's URL without its user; None for a direct connection.
        tls: version and cipher; None for a plain connection.
        certificate_ends: when the store's certificate ends; None where it is not known.
        seconds: look-up, connection and handshake together.
    """

    host: str
    address: str
    proxy: str | None
    tls: str | None
    certificate_ends: datetime | None
    seconds: float


def addresses_of(client: Client, bucket: str | None) -> list[str]:
    """The addresses of the host that requests for a bucket go to.

    Raises:
        OSError: its name has none.
    """
    origin = client.service.endpoint.target(bucket).origin
    found = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    return sorted({str(entry[4][0]) for entry in found})


def host_of(client: Client, bucket: str | None) -> str:
    """The host that requests for a bucket go to."""
    return client.service.endpoint.target(bucket).origin.host


def proxy_of(client: Client, bucket: str | None) -> str | None:
    """The proxy on the way there, without its user; None for a direct connection."""
    proxy = proxy_for(client.service.endpoint.target(bucket).origin)
    return None if proxy is None else redacted(proxy)


def connect(client: Client, bucket: str | None) -> Way:
    """Makes a connection as requests do, through the same proxy and with the same trust.

    Raises:
        TransportError, ConfigurationError: as requests would.
    """
    origin = client.service.endpoint.target(bucket).origin
    begun = time.monotonic()
    with client.service.connections.lease(origin, fresh=True) as lease:
        seconds = time.monotonic() - begun
        sock = lease.sock
        host, port = sock.getpeername()[:2]
        tls, ends = None, None
        if isinstance(sock, ssl.SSLSocket):
            tls = " ".join(filter(None, (sock.version(), (sock.cipher() or ("",))[0])))
            told: Any = (sock.getpeercert() or {}).get("notAfter")
            ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(told), UTC) if told else None
    return Way(origin.host, f"{host}:{port}", proxy_of(client, bucket), tls, ends, seconds)


@dataclass(frozen=True)
class Answer:
    """The store's response to a signed request.

    Attributes:
        region: of the bucket, where the store reports one.
        server: what the store calls itself.
        skew: how far its clock is ahead of ours, to a second; None where it reports no time.
        seconds: the request took, with its attempts.
    """

    region: str | None
    server: str | None
    skew: timedelta | None
    seconds: float


def ask(client: Client, bucket: str | None) -> Answer:
    """Sends HeadBucket, or ListBuckets where no bucket is given.

    Raises:
        S3Error, TransportError, CredentialsError: as for any request.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html
    """
    client.service.load()
    operation, method = ("ListBuckets", "GET") if bucket is None else ("HeadBucket", "HEAD")
    begun = time.monotonic()
    response = client.service.call(Request(operation, method, bucket))
    seconds = time.monotonic() - begun
    date = response.headers.get("date")
    skew = None if not date else parsedate_to_datetime(date) - datetime.now(UTC).replace(microsecond=0)
    return Answer(response.headers.get("x-amz-bucket-region"), response.headers.get("server"), skew, seconds)


# ------------------------------------------------------------------------------------------ what the store supports

PROBE = b"s3dlio doctor probes with this object, and deletes it"


class Probe:
    """A small object below a prefix, with which the store is tried; `close` deletes it."""

    def __init__(self, client: Client, bucket: str, prefix: str) -> None:
        self._client = client
        self._location = Location(bucket, f"{prefix}s3dlio-doctor-{uuid.uuid4().hex}")
        self.uri = format_uri(*self._location)

    def checksum(self) -> str | None:
        """Stores the object; the checksum algorithm whose value the store reported, or None."""
        info = objects.put_bytes(self.uri, PROBE, client=self._client)
        return info.checksum_algorithm if info.checksum_confirmed else None

    def ranges(self) -> bool:
        """Whether the store sends a range alone."""
        try:
            view = reader.get_range(self.uri, 7, 6, client=self._client)
        except S3Error as error:
            if error.code != "RangeIgnored":
                raise
            return False
        return bytes(view) == PROBE[7:13]

    def conditions(self) -> bool | None:
        """Whether a write with If-None-Match is refused where the object exists; None where the store knows none."""
        try:
            objects.put_bytes(self.uri, PROBE, if_none_match="*", client=self._client)
        except PreconditionFailedError:
            return True
        except S3Error as error:
            if error.status not in (400, 501):
                raise
            return None
        return False

    def close(self) -> None:
        """Deletes the object; that it is missing is success."""
        delete_operations.delete_object(self._client.service, self._location, None)


# ------------------------------------------------------------------------------------------ the machine


@dataclass(frozen=True)
class Machine:
    """What this process may use.

    Attributes:
        huge_pages: the kernel's setting: always, madvise or never; None where it has none.
        descriptors: how many this process may open.
        copy_speed: bytes a second that one thread copies from memory to memory.
    """

    processors: int
    memory: int
    huge_pages: str | None
    descriptors: int
    copy_speed: float


def machine() -> Machine:
    """Looks at this machine; the copy takes about a tenth of a second."""
    return Machine(
        usable_processors(), memory_limit(), _huge_pages(), resource.getrlimit(resource.RLIMIT_NOFILE)[0], _copy_speed()
    )


def _huge_pages() -> str | None:
    try:
        text = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text(encoding="ascii")
    except OSError:
        return None
    return next((word.strip("[]") for word in text.split() if word.startswith("[")), None)


def _copy_speed(size: int = 64 << 20) -> float:
    source, target = memoryview(bytearray(os.urandom(1 << 16) * (size >> 16))), memoryview(bytearray(size))
    best = 0.0
    for _ in range(4):
        begun = time.perf_counter()
        target[:] = source
        best = max(best, size / (time.perf_counter() - begun))
    return best
