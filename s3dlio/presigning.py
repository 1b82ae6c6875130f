"""Presigned URLs: a request that anybody who has the URL may send until it expires."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from ._s3 import presigned
from ._s3.default import ClientLike, service_of
from ._s3.selection import select_one
from ._values.checks import check_header_text, check_version_id
from ._values.redaction import redacted
from .errors import ConfigurationError, OptionTypeError
from .options import checks_names

Method = Literal["GET", "HEAD", "PUT", "DELETE"]
_METHODS = ("GET", "HEAD", "PUT", "DELETE")
_LONGEST = 7 * 24 * 3600
# Headers of a GET's response that the URL can set.
_RESPONSE_HEADERS = frozenset(
    ("cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires")
)


@dataclass(frozen=True)
class PresignedUrl:
    """A request and its signature. Its `repr` does not show the signature; `url` is a secret until it expires.

    Attributes:
        url: with everything that the store needs in its query.
        method: ``GET``, ``HEAD``, ``PUT`` or ``DELETE``; no other works.
        headers: have to be sent as they are, because they are signed; usually none.
        expires_at: an aware datetime in UTC.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/key", b"content")
        >>> presigned = s3dlio.presign("s3://my-bucket/key", expires=60)
        >>> presigned.method, presigned.headers, "X-Amz-Expires=60" in presigned.url
        ('GET', {}, True)
        >>> import urllib.request
        >>> with urllib.request.urlopen(presigned.url) as response:
        ...     response.read()
        b'content'
    """

    url: str = field(repr=False)
    method: str
    headers: dict[str, str]
    expires_at: datetime

    def __str__(self) -> str:
        return redacted(self.url)


@checks_names()
def presign(
    uri: str,
    *,
    method: Method = "GET",
    expires: float | timedelta = 3600,
    version_id: str | None = None,
    headers: Mapping[str, str] | None = None,
    response_headers: Mapping[str, str] | None = None,
    client: ClientLike | None = None,
) -> PresignedUrl:
    """Signs a request for one object, for callers without credentials. No request is sent.

    The URL names the endpoint and region that this client uses for the bucket; where the bucket is in another region,
    a request of this client has to have learned that before.

    Args:
        uri: ``s3://bucket/key``.
        method: what the URL is for.
        expires: seconds, or a `timedelta`, from now on: 1 s to 7 days. If the credentials end earlier, so does the URL.
        version_id: a version other than the current one.
        headers: signed, so that they have to be sent as they are, such as ``{"content-type": "image/png"}`` of a PUT.
            None signs no header but the host's name, so that any client can use the URL.
        response_headers: of a GET: headers that the response is to have, such as ``{"content-disposition":
            "attachment; filename=x"}``.
        client: a `Client`; None for the default one, built from the environment.

    Raises:
        UnsupportedUriError: the URI does not name one object.
        ConfigurationError: a value cannot be used, or the client is anonymous.
        CredentialsError: there are no credentials.

    Example:
        >>> s3dlio.presign("s3://my-bucket/upload", method="PUT", headers={"content-type": "text/plain"}).headers
        {'content-type': 'text/plain'}

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
    """
    location = select_one(uri)
    if method not in _METHODS:
        raise ConfigurationError(f"method={method!r}: expected {', '.join(_METHODS)}")
    if version_id is not None and method == "PUT":
        raise ConfigurationError("version_id with method='PUT': a PUT makes a new version; leave it out")
    query = [] if version_id is None else [("versionId", check_version_id(version_id))]
    query += [(f"response-{name}", text) for name, text in _response_headers(method, response_headers).items()]
    signed = _checked_headers("headers", headers)
    url, expires_at = presigned.presign(
        service_of(client), location, method=method, seconds=_seconds(expires), query=query, headers=signed
    )
    return PresignedUrl(url, method, signed, expires_at)


def _seconds(expires: float | timedelta) -> int:
    seconds = expires.total_seconds() if isinstance(expires, timedelta) else expires
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise OptionTypeError(f"expires={expires!r} is neither a number of seconds nor a timedelta")
    if not 1 <= seconds <= _LONGEST or seconds != int(seconds):
        raise ConfigurationError(f"expires={expires!r}: expected whole seconds from 1 to {_LONGEST} (7 days)")
    return int(seconds)


def _response_headers(method: str, given: Mapping[str, str] | None) -> dict[str, str]:
    checked = _checked_headers("response_headers", given)
    if checked and method not in ("GET", "HEAD"):
        raise ConfigurationError(f"response_headers with method={method!r}: only GET and HEAD have them")
    for name in checked:
        if name not in _RESPONSE_HEADERS:
            raise ConfigurationError(
                f"response_headers names {name!r}; S3 can set {', '.join(sorted(_RESPONSE_HEADERS))}"
            )
    return checked


def _checked_headers(option: str, given: Mapping[str, str] | None) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise OptionTypeError(f"{option}={given!r} is not a mapping of str to str")
    checked = {name.lower(): check_header_text(f"{option}[{name!r}]", text) for name, text in given.items()}
    for name in checked:
        if not name or not all(one.isascii() and (one.isalnum() or one == "-") for one in name):
            raise ConfigurationError(f"{option} names {name!r}, which is not a header name")
        if name in ("host", "authorization", "x-amz-date"):
            raise ConfigurationError(f"{option} names {name!r}, which belongs to the signature; leave it out")
    return checked
