"""Deletes an object, what lies below a prefix, or what a glob selects."""

from collections.abc import Iterator, Sequence

from ._net.addresses import Location, format_uri
from ._runtime.ahead import Ahead
from ._s3 import delete_operations
from ._s3.default import ClientLike, service_of
from ._s3.delete_operations import Entry
from ._s3.listing_documents import ObjectsPage
from ._s3.object_listings import list_objects
from ._s3.requests import operation_scope
from ._s3.selection import Selection, select, select_one
from ._s3.service import Service
from ._transfer.deletion import Deletion
from ._values.checks import check_boolean, check_version_id
from ._values.redaction import shown
from .errors import ConfigurationError, ManyFailedError, OptionTypeError, S3dlioError
from .options import checks_names


@checks_names()
def delete(
    uri: str | Sequence[str],
    *,
    recursive: bool = False,
    version_id: str | None = None,
    client: ClientLike | None = None,
) -> int:
    """Deletes an object, or all objects that a URI selects. That an object is missing is success.

    In a bucket with versions this adds delete markers, and the versions stay.

    Args:
        uri: ``s3://bucket/key`` for that one object, never for others whose keys begin alike; a glob; or
            ``s3://bucket/folder/`` for what lies below it, with ``recursive=True``. Or a sequence of URIs of single
            objects, in which ``*``, ``?`` and ``[`` are characters of their keys; all are checked before any request.
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
    check_boolean("recursive", recursive)
    if not isinstance(uri, str):
        return _delete_each(service_of(client), _keys_by_bucket(uri, recursive, version_id))
    selection = select(uri)
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


def _keys_by_bucket(uris: Sequence[str], recursive: bool, version_id: str | None) -> dict[str, dict[str, None]]:
    """The keys of each bucket, each key once, in the order given."""
    if not isinstance(uris, Sequence) or isinstance(uris, bytes | bytearray | memoryview):
        raise OptionTypeError(f"uri={shown(uris)} is neither a URI nor a sequence of URIs")
    if recursive or version_id is not None:
        name = "recursive=True" if recursive else "version_id"
        raise ConfigurationError(f"{name} with several URIs, which name one object each; leave it out")
    keys: dict[str, dict[str, None]] = {}
    for location in map(select_one, uris):
        keys.setdefault(location.bucket, {})[location.key] = None
    return keys


def _delete_each(service: Service, keys: dict[str, dict[str, None]]) -> int:
    deleted, succeeded, failed = 0, list[str](), dict[str, Exception]()
    for bucket, wanted in keys.items():
        entries = [Entry(key) for key in wanted]
        batches = (entries[start : start + 1000] for start in range(0, len(entries), 1000))
        try:
            deleted += Deletion(service, bucket, f"s3://{bucket}").run(batches)
            succeeded += [format_uri(bucket, key) for key in wanted] if len(keys) > 1 else []
        except ManyFailedError as error:
            succeeded += error.succeeded
            failed |= error.failed
        except S3dlioError as error:
            if len(keys) == 1:
                raise
            failed |= dict.fromkeys([format_uri(bucket, key) for key in wanted], error)
    if failed:
        of = len(failed) + len(succeeded)
        raise ManyFailedError(f"{len(failed)} of {of} objects could not be deleted", succeeded, failed)
    return deleted


def _delete_selected(service: Service, selection: Selection, uri: str) -> int:
    scope = operation_scope()
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
