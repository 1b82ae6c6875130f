"""Multipart uploads that are under way, or were left behind: list them, abort the old ones.

To go on with one, see `MultipartUploadWriter.resume`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from . import _operations
from ._client import Service
from ._default_service import ClientLike, service_of
from ._uri import Location, format_uri, parse_uri
from .config import check_seconds


@dataclass(frozen=True)
class UploadSummary:
    """A multipart upload that is neither completed nor aborted.

    Attributes:
        uri: the object it would become.
        upload_id: names it, for `MultipartUploadWriter.resume`.
        initiated: when it was created, aware; None where the store does not say.
    """

    uri: str
    upload_id: str
    initiated: datetime | None


def list_uploads(uri: str, *, client: ClientLike | None = None) -> list[UploadSummary]:
    """The uploads under way in a bucket (``s3://bucket``), or whose keys begin as `uri` says.

    Raises:
        NotFoundError: there is no such bucket.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html
    """
    return _summaries(service_of(client), parse_uri(uri, require_key=False))


def abort_uploads(uri: str, *, older_than: timedelta | float, client: ClientLike | None = None) -> list[UploadSummary]:
    """Aborts the uploads `list_uploads` shows that were created more than `older_than` ago; returns those.

    An upload whose time of creation the store does not tell is left alone.

    Args:
        uri: ``s3://bucket`` or ``s3://bucket/prefix``.
        older_than: a `timedelta` or seconds, above 0, so that writers at work are not hit.

    Raises:
        ConfigurationError: `older_than` is not a positive time.
        S3Error: the store refused; uploads before that one have been aborted.
    """
    location = parse_uri(uri, require_key=False)
    seconds = older_than.total_seconds() if isinstance(older_than, timedelta) else older_than
    limit = datetime.now(UTC) - timedelta(seconds=check_seconds("older_than", seconds))
    service = service_of(client)
    old = [one for one in _summaries(service, location) if one.initiated is not None and one.initiated < limit]
    for one in old:
        _operations.abort_upload(service, parse_uri(one.uri), one.upload_id)
    return old


def _summaries(service: Service, location: Location) -> list[UploadSummary]:
    """What the store lists with the key as its prefix, and what of a whole listing begins with it.

    MinIO takes a prefix only where it is a whole key, and lists without one only uploads begun since it was started.
    """
    listed = list(_operations.list_uploads(service, location.bucket, location.key))
    if location.key:
        listed += _operations.list_uploads(service, location.bucket)
    found = {(one.key, one.upload_id): one for one in listed if one.key.startswith(location.key)}
    return [UploadSummary(format_uri(location.bucket, one.key), one.upload_id, one.initiated) for one in found.values()]
