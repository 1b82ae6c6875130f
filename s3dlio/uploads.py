"""Multipart uploads that are under way, or were left behind: list them, abort the old ones.

To go on with one, see `MultipartUploadWriter.resume`.
"""

from datetime import datetime, timedelta

from ._net.addresses import Location, format_uri, parse_uri
from ._runtime.kept_errors import without_traceback
from ._s3 import multipart_operations
from ._s3.default import ClientLike, service_of
from ._s3.listings import list_uploads as list_pages
from ._s3.service import Service
from ._s3.xml import ListedUpload
from ._values.checks import check_seconds
from .errors import S3dlioError, S3Error
from .options import checks_names
from .results import UploadSummary


@checks_names()
def list_uploads(uri: str, *, client: ClientLike | None = None) -> list[UploadSummary]:
    """The uploads under way in a bucket (``s3://bucket``), or whose keys begin as `uri` says.

    Raises:
        NotFoundError: there is no such bucket.
        S3Error: the store refused, or its listing does not come to an end.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html
    """
    location = parse_uri(uri, require_key=False)
    return [_summary(location, one) for one in _listed(service_of(client), location)[0]]


@checks_names()
def abort_uploads(uri: str, *, older_than: timedelta | float, client: ClientLike | None = None) -> list[UploadSummary]:
    """Aborts the uploads `list_uploads` shows that were created more than `older_than` ago; returns those.

    Ages go by the store's clock. An upload whose time of creation the store does not tell is left alone. One that the
    store refuses to abort does not keep the others from being aborted.

    Args:
        uri: ``s3://bucket`` or ``s3://bucket/prefix``.
        older_than: a `timedelta` or seconds, above 0, so that writers at work are not hit.

    Raises:
        ConfigurationError: `older_than` is not a positive time.
        S3Error: the store refused to list, or to abort some; then it is the first refusal, its `__notes__` name the
            others, and all others have been aborted.
        TransportError: the store could not be reached any more; its `__notes__` tell how many were aborted before.
    """
    location = parse_uri(uri, require_key=False)
    seconds = older_than.total_seconds() if isinstance(older_than, timedelta) else older_than
    age = check_seconds("older_than", seconds)
    service = service_of(client)
    listed, now = _listed(service, location)
    aborted: list[UploadSummary] = []
    refusals: list[S3Error] = []
    for one in listed:
        if one.initiated is None or (now - one.initiated).total_seconds() <= age:
            continue
        try:
            multipart_operations.abort_upload(service, Location(location.bucket, one.key), one.upload_id)
        except S3Error as error:
            refusals.append(without_traceback(error))
        except S3dlioError as error:
            error.add_note(f"uploads aborted before: {len(aborted)}; refused: {len(refusals)}")
            raise
        else:
            aborted.append(_summary(location, one))
    if refusals:
        first, *others = refusals
        first.add_note(f"uploads aborted: {len(aborted)}; refused: {len(refusals)}")
        for other in others:
            first.add_note(f"{other} (upload {other.upload_id})")
        raise first
    return aborted


def _summary(location: Location, one: ListedUpload) -> UploadSummary:
    return UploadSummary(format_uri(location.bucket, one.key), one.upload_id, one.initiated)


def _listed(service: Service, location: Location) -> tuple[list[ListedUpload], datetime]:
    """What the store lists with the key as its prefix, what of a whole listing begins with it, and the store's time.

    MinIO takes a prefix only where it is a whole key, and lists without one only uploads begun since it was started.
    Of the store's times the earliest counts, and of two clocks the one behind: nothing is older by both.
    """
    found: dict[tuple[str, str], ListedUpload] = {}
    dates: list[datetime] = []
    for prefix in dict.fromkeys((location.key, "")):
        for page in list_pages(service, location.bucket, prefix):
            dates += [] if page.date is None else [page.date]
            found.update(((one.key, one.upload_id), one) for one in page.uploads if one.key.startswith(location.key))
    return list(found.values()), min([service.now, *dates])
