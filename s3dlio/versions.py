"""Versions of objects: list them, and delete all of them."""

import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from ._net.addresses import format_uri
from ._runtime.ahead import Ahead
from ._s3 import object_listings
from ._s3.default import ClientLike, service_of
from ._s3.delete_operations import Entry
from ._s3.listing_documents import ListedVersion, VersionsPage
from ._s3.requests import operation_scope
from ._s3.selection import Selection, select
from ._s3.service import Service
from ._transfer.deletion import Deletion
from ._values.entity_tags import parse_entity_tag
from ._values.timestamps import parse_timestamp
from .errors import ConfigurationError
from .options import checks_names


@dataclass(frozen=True)
class VersionInfo:
    """A version of an object, or a delete marker.

    Attributes:
        uri: of the object.
        version_id: its id; ``"null"`` for an object that was written before the bucket had versions.
        is_latest: the current version; a current delete marker hides the object.
        is_delete_marker: it has neither bytes nor an ETag.
        size: bytes; None for a delete marker.
        etag: without quotes; None for a delete marker.
        last_modified: an aware datetime in UTC, or None where the store reports none.
        storage_class: as the store writes it; None where it does not.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/thing", b"content")
        >>> for version in s3dlio.list_versions("s3://my-bucket/thing"):
        ...     version.version_id, version.is_latest, version.size
        ('null', True, 7)
    """

    uri: str
    version_id: str
    is_latest: bool
    is_delete_marker: bool
    size: int | None
    etag: str | None
    last_modified: datetime | None
    storage_class: str | None


class VersionIterator(Iterator[VersionInfo]):
    """The versions of a listing, in the order of the store; see `list_versions`.

    A page of up to 1,000 is fetched while the one before it is consumed. Dropping the iterator ends that request.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/thing", b"content")
        >>> versions = s3dlio.list_versions("s3://my-bucket/thing")
        >>> next(versions).size
        7
        >>> versions.close()
    """

    def __init__(self, service: Service, selection: Selection) -> None:
        self._selection = selection
        self._pages = _pages(service, selection)
        self._versions: Iterator[VersionInfo] = iter(())

    def __next__(self) -> VersionInfo:
        while True:
            for one in self._versions:
                return one
            self._versions = iter(self._batch(next(self._pages)))

    def pages(self) -> Iterator[builtins.list[VersionInfo]]:
        """The versions that were not consumed yet, in batches of up to 1,000."""
        for page in self._pages:
            yield self._batch(page)

    def _cancel(self) -> None:
        """Ends what a thread waits for here."""
        self._pages.cancel()

    def close(self) -> None:
        """Ends the listing, and the request for its next page; there are no more versions."""
        self._versions = iter(())
        self._pages.close()

    def _batch(self, page: VersionsPage) -> builtins.list[VersionInfo]:
        bucket = self._selection.bucket
        return [_info(bucket, one) for one in page.versions if self._selection.matches(one.key)]


@checks_names()
def list_versions(uri: str, *, client: ClientLike | None = None) -> VersionIterator:
    """Goes through the versions and delete markers of the objects that a URI selects, newest first for each object.

    Args:
        uri: as for `iter_objects`: one object, never others whose keys begin alike; what lies below a ``/``; a glob.
        client: a `Client`; None for the default one, built from the environment.

    Returns:
        An iterator of `VersionInfo`, with ``pages()`` for batches. No request is made before it is first asked.

    Raises:
        UnsupportedUriError: the URI cannot be used.
        NotFoundError: while iterating: there is no such bucket.
        S3Error: while iterating: the store refused, or its pages do not lead on.
        TransportError: while iterating: the store could not be reached.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/thing", b"content")
        >>> [version.size for version in s3dlio.list_versions("s3://my-bucket/thing")]
        [7]

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html
    """
    return VersionIterator(service_of(client), select(uri))


@checks_names()
def delete_all_versions(uri: str, *, client: ClientLike | None = None) -> int:
    """Deletes all versions and delete markers of the objects that a URI selects: nothing of them can be restored.

    Args:
        uri: as for `list_versions`; a bucket as ``s3://bucket/``.
        client: a `Client`; None for the default one, built from the environment.

    Returns:
        How many versions and delete markers were deleted.

    Raises:
        UnsupportedUriError, ConfigurationError: the URI cannot be used.
        NotFoundError: there is no such bucket.
        ManyFailedError: some could not be deleted; all others are.
        S3Error, TransportError: the store refused, or could not be reached.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/thing", b"content")
        >>> s3dlio.delete_all_versions("s3://my-bucket/thing")
        1

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
    """
    selection = select(uri)
    if not selection.prefix and not selection.glob and not uri.endswith("/"):
        raise ConfigurationError(f"{uri!r} names a bucket; write {uri + '/'!r} to delete all that it holds")
    service = service_of(client)
    pages = _pages(service, selection)
    try:
        return Deletion(service, selection.bucket, uri).run(_batches(pages, selection))
    finally:
        pages.close()


def _pages(service: Service, selection: Selection) -> Ahead[VersionsPage]:
    scope = operation_scope()
    pages = object_listings.list_versions(service, selection.bucket, selection.prefix, scope=scope)
    return Ahead(_until_past(pages, selection), scope.cancel)


def _until_past(pages: Iterator[VersionsPage], selection: Selection) -> Iterator[VersionsPage]:
    """Of one object, only its own: a listing of its key goes on with keys that begin alike."""
    for page in pages:
        yield page
        if selection.single and page.versions and page.versions[-1].key != selection.prefix:
            return


def _batches(pages: Iterator[VersionsPage], selection: Selection) -> Iterator[builtins.list[Entry]]:
    for page in pages:
        batch = [Entry(one.key, one.version_id) for one in page.versions if selection.matches(one.key)]
        for start in range(0, len(batch), 1000):
            yield batch[start : start + 1000]


def _info(bucket: str, one: ListedVersion) -> VersionInfo:
    tag = parse_entity_tag(one.etag)
    return VersionInfo(
        uri=format_uri(bucket, one.key),
        version_id=one.version_id,
        is_latest=one.is_latest,
        is_delete_marker=one.is_delete_marker,
        size=one.size,
        etag=None if tag is None else str(tag),
        last_modified=parse_timestamp(one.modified),
        storage_class=one.storage_class,
    )
