"""Deletes an object, what lies below a prefix, or what a glob selects."""

from collections.abc import Iterator

from ._net.addresses import Location
from ._runtime.ahead import Ahead
from ._s3 import delete_operations
from ._s3.default import ClientLike, service_of
from ._s3.delete_operations import Entry
from ._s3.listing_documents import ObjectsPage
from ._s3.object_listings import list_objects
from ._s3.requests import CancelScope
from ._s3.selection import Selection, select
from ._s3.service import Service
from ._transfer.deletion import Deletion
from ._values.checks import check_boolean, check_version_id
from .errors import ConfigurationError
from .options import checks_names


@checks_names()
def delete(
    uri: str, *, recursive: bool = False, version_id: str | None = None, client: ClientLike | None = None
) -> int:
    """Deletes an object, or all objects that a URI selects. That an object is missing is success.

    In a bucket with versions this adds delete markers, and the versions stay.

    Args:
        uri: ``s3://bucket/key`` for that one object, never for others whose keys begin alike; a glob; or
            ``s3://bucket/folder/`` for what lies below it, with ``recursive=True``.
        recursive: delete what lies below a URI that ends in ``/``. It does not apply to a single object.
        version_id: the version to delete for good; of a single object only.
        client: a `Client`; None for the default one, built from the environment.

    Returns:
        How many objects were deleted; those that were missing count, where they were named and not listed.

    Raises:
        ConfigurationError: `recursive` and the URI do not fit each other, or a version was named for several objects.
        NotFoundError: there is no such bucket.
        ManyFailedError: some objects could not be deleted; all others are.
        S3Error, TransportError: the store refused, or could not be reached.

    Example:
        >>> infos = s3dlio.put_many([("s3://my-bucket/old/a", b"first"), ("s3://my-bucket/old/b", b"second")])
        >>> s3dlio.delete("s3://my-bucket/old/", recursive=True)
        2
        >>> s3dlio.delete("s3://my-bucket/old/a")
        1

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
    """
    selection = select(uri)
    check_boolean("recursive", recursive)
    if selection.single:
        if recursive:
            raise ConfigurationError(
                f"recursive=True with {uri!r}, which names one object; write {uri + '/'!r} for what lies below it"
            )
        location = Location(selection.bucket, selection.prefix)
        delete_operations.delete_object(service_of(client), location, version_id)
        return 1
    if version_id is not None:
        check_version_id(version_id)
        raise ConfigurationError(f"version_id with {uri!r}, which selects several objects; name one")
    if not recursive and not selection.glob:
        raise ConfigurationError(f"{uri!r} selects all that lies below it; pass recursive=True to delete that")
    if selection.prefix == "" and not uri.endswith("/") and not selection.glob:
        raise ConfigurationError(f"{uri!r} names a bucket; write {uri + '/'!r} to delete all that it holds")
    return _delete_selected(service_of(client), selection, uri)


def _delete_selected(service: Service, selection: Selection, uri: str) -> int:
    scope = CancelScope()
    delimiter = "/" if selection.one_level else ""
    pages = Ahead(
        list_objects(service, selection.bucket, selection.prefix, delimiter=delimiter, scope=scope), scope.cancel
    )
    try:
        return Deletion(service, selection.bucket, uri).run(_batches(pages, selection))
    finally:
        pages.close()


def _batches(pages: Iterator[ObjectsPage], selection: Selection) -> Iterator[list[Entry]]:
    for page in pages:
        batch = [Entry(key) for key in page.keys if selection.matches(key)]
        if batch:
            yield batch
