"""Multipart uploads in progress or left behind: list them, abort the old ones.

To continue one, see `MultipartUploadWriter.resume`.
"""

from datetime import datetime, timedelta

from ._net.addresses import Location, format_uri
from ._runtime.kept_errors import without_traceback
from ._s3 import multipart_operations
from ._s3.default import ClientLike, service_of
from ._s3.listings import list_uploads as list_pages
from ._s3.selection import Selection, select
from ._s3.service import Service
from ._s3.xml import ListedUpload
from ._values.checks import check_seconds
from .errors import S3dlioError, S3Error
from .options import checks_names
from .results import UploadSummary


@checks_names()
def list_uploads(uri: str, *, client: ClientLike | None = None) -> list[UploadSummary]:
    """Lists the multipart uploads in progress of an object, below a prefix, or in a bucket.

    Args:
        uri: ``s3://bucket/key`` for that one object, never for others whose keys begin alike;
            ``s3://bucket/folder/`` for what lies below it; a glob; or ``s3://bucket``.
        client: a `Client`; None for the default one, built from the environment.

    Returns:
        An `UploadSummary` for each.

    Raises:
        NotFoundError: there is no such bucket.
        S3Error: the store refused, or its listing does not end.
        TransportError: the store could not be reached.

    Example:
        >>> writer = s3dlio.MultipartUploadWriter.from_uri("s3://my-bucket/under-way")
        >>> count = writer.write(bytes(100))
        >>> writer.flush()
        >>> [found.upload_id == writer.upload_id for found in s3dlio.list_uploads("s3://my-bucket/under-way")]
        [True]
        >>> writer.abort()

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html
    """
    selection = select(uri)
    return [_summary(selection, one) for one in _listed(service_of(client), selection)[0]]


@checks_names()
def abort_uploads(uri: str, *, older_than: timedelta | float, client: ClientLike | None = None) -> list[UploadSummary]:
    """Aborts the multipart uploads that were created more than `older_than` ago.

    Ages are measured by the store's clock. An upload without a reported time of creation is left alone. If the store
    refuses to abort one, the others are still aborted.

    Args:
        uri: ``s3://bucket/key`` for that one object, never for others whose keys begin alike;
            ``s3://bucket/folder/`` for what lies below it; a glob; or ``s3://bucket``.
        older_than: a `timedelta` or seconds, above 0, so that active writers are spared.
        client: a `Client`; None for the default one, built from the environment.

    Returns:
        An `UploadSummary` for each aborted upload.

    Raises:
        ConfigurationError: `older_than` is not a positive time.
        S3Error: the store refused to list, or refused to abort some uploads; then it is the first refusal, its
            ``__notes__`` name the others, and all other uploads have been aborted.
        TransportError: the store could not be reached any more; its ``__notes__`` say how many were aborted before.

    Example:
        >>> from datetime import timedelta
        >>> s3dlio.abort_uploads("s3://my-bucket/under-way", older_than=timedelta(days=7))
        []

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html
    """
    selection = select(uri)
    seconds = older_than.total_seconds() if isinstance(older_than, timedelta) else older_than
    age = check_seconds("older_than", seconds)
    service = service_of(client)
    listed, now = _listed(service, selection)
    aborted: list[UploadSummary] = []
    refusals: list[S3Error] = []
    for one in listed:
        if one.initiated is None or (now - one.initiated).total_seconds() <= age:
            continue
        try:
            multipart_operations.abort_upload(service, Location(selection.bucket, one.key), one.upload_id)
        except S3Error as error:
            refusals.append(without_traceback(error))
        except S3dlioError as error:
            error.add_note(f"uploads aborted before: {len(aborted)}; refused: {len(refusals)}")
            raise
        else:
            aborted.append(_summary(selection, one))
    if refusals:
        first, *others = refusals
        first.add_note(f"uploads aborted: {len(aborted)}; refused: {len(refusals)}")
        for other in others:
            first.add_note(f"{other} (upload {other.upload_id})")
        raise first
    return aborted


def _summary(selection: Selection, one: ListedUpload) -> UploadSummary:
    return UploadSummary(format_uri(selection.bucket, one.key), one.upload_id, one.initiated)


def _listed(service: Service, selection: Selection) -> tuple[list[ListedUpload], datetime]:
    """The uploads of the selected keys, and the store's time. A glob selects the key of the same characters too.

    MinIO finds a prefix only if it is a whole key, and without a prefix lists only uploads created since it started: so
    both listings are made. The earliest of several clocks counts, so that no upload seems older than it is.
    """
    found: dict[tuple[str, str], ListedUpload] = {}
    dates: list[datetime] = []
    for prefix in dict.fromkeys((selection.glob or selection.prefix, "")):
        for page in list_pages(service, selection.bucket, prefix):
            dates += [] if page.date is None else [page.date]
            found.update(((one.key, one.upload_id), one) for one in page.uploads if _selects(selection, one.key))
    return list(found.values()), min([service.now, *dates])


def _selects(selection: Selection, key: str) -> bool:
    return key == selection.glob or (key.startswith(selection.prefix) and selection.matches(key))
