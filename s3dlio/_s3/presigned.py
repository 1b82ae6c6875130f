"""Signs a URL with Signature Version 4 in its query. It sends nothing; the public `presign` calls it.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from .._net.addresses import Location, format_uri
from ..errors import ConfigurationError
from .service import Service

log = logging.getLogger("s3dlio")


def presign(
    service: Service,
    location: Location,
    *,
    method: str,
    seconds: int,
    query: Sequence[tuple[str, str]],
    headers: Mapping[str, str],
    now: datetime | None = None,
) -> tuple[str, datetime]:
    """The URL and the time at which it expires.

    Args:
        query: further parameters, not encoded.
        headers: signed besides ``host``; lower-case names.
        now: the instant to sign for; None for the store's present time.

    Raises:
        ConfigurationError: access is anonymous, or the bucket cannot be named at the endpoint.
        CredentialsError: there are no credentials.
    """
    instant = service.now if now is None else now
    signed, endpoint = service.presigns_with(location.bucket)
    credentials = signed.credentials
    if credentials is None:
        raise ConfigurationError("an anonymous client cannot sign a URL; give credentials")
    expires_at = (instant + timedelta(seconds=seconds)).astimezone(UTC).replace(microsecond=0)
    if credentials.expires_at is not None and credentials.expires_at < expires_at:
        expires_at = credentials.expires_at
        log.warning("the URL for %s ends with its credentials, at %s", format_uri(*location), expires_at)
    target = endpoint.target(location.bucket, location.key)
    query_string = service.signer.sign_query(
        method=method,
        host=target.host_header,
        path=target.path,
        query=query,
        headers=headers,
        credentials=credentials,
        region=signed.region,
        seconds=seconds,
        now=instant,
    )
    return f"{target.origin.scheme}://{target.host_header}{target.path}?{query_string}", expires_at
