"""What a bucket holds: `list` and `iter_objects` go through its objects, `exists` asks for one.

Pages come from `object_listings`, one ahead of their consumer. Nothing is kept of a page that was handed out.
"""

import builtins
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ._net.addresses import format_uri, parse_uri
from ._runtime.ahead import Ahead
from ._s3 import object_operations
from ._s3.default import ClientLike, service_of
from ._s3.listing_documents import ObjectsPage
from ._s3.object_listings import list_objects
from ._s3.requests import operation_scope
from ._s3.selection import Selection, compile_pattern, select, select_one
from ._s3.service import Service
from ._values.entity_tags import parse_entity_tag
from ._values.timestamps import parse_timestamp
from .errors import ConfigurationError, NotFoundError, OptionTypeError
from .options import checks_names
from .results import ObjectInfo

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]
else:
    Array = Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class ObjectPage:
    """A page of a listing, up to 1,000 entries, in the order of the store.

    Attributes:
        objects: an `ObjectInfo` each. A listing reports neither content type, metadata nor checksum.
        prefixes: URIs, ending in ``/``, below which more lies; only of a listing with ``recursive=False``.

    Example:
        >>> infos = s3dlio.put_many([("s3://my-bucket/y/a", b"first"), ("s3://my-bucket/y/more/b", b"second")])
        >>> for page in s3dlio.iter_objects("s3://my-bucket/y/", recursive=False).pages():
        ...     [found.size for found in page.objects], page.prefixes
        ([5], ['s3://my-bucket/y/more/'])
    """

    objects: builtins.list[ObjectInfo]
    prefixes: builtins.list[str]


@dataclass(frozen=True)
class ObjectColumns:
    """The objects of a listing in NumPy arrays, for millions of them: about 50 bytes an object, and its key.

    Attributes:
        bucket: their bucket.
        keys: the UTF-8 bytes of all keys, one after the other; uint8.
        offsets: where each key begins in `keys`, and where the last one ends; int64, one longer than the others.
        sizes: bytes; int64.
        modified: times in UTC; datetime64[ms], NaT where the store reports none.

    Example:
        >>> infos = s3dlio.put_many([("s3://my-bucket/x/a", b"first"), ("s3://my-bucket/x/b", b"second")])
        >>> columns = s3dlio.iter_objects("s3://my-bucket/x/").columns()
        >>> len(columns), int(columns.sizes.sum()), columns.uri(1)
        (2, 11, 's3://my-bucket/x/b')
    """

    bucket: str
    keys: Array
    offsets: Array
    sizes: Array
    modified: Array

    def __len__(self) -> int:
        return len(self.sizes)

    def uri(self, index: int) -> str:
        """The URI of one object."""
        index = range(len(self))[index]
        key = self.keys[self.offsets[index] : self.offsets[index + 1]].tobytes()
        return format_uri(self.bucket, key.decode("utf-8", "surrogateescape"))


class ObjectIterator(Iterator[ObjectInfo]):
    """The objects of a listing, in the order of the store; see `iter_objects`.

    A page of up to 1,000 is fetched while the one before it is consumed. Dropping the iterator ends that request.

    Example:
        >>> infos = s3dlio.put_many([("s3://my-bucket/x/a", b"first"), ("s3://my-bucket/x/b", b"second")])
        >>> objects = s3dlio.iter_objects("s3://my-bucket/x/")
        >>> next(objects).size
        5
        >>> objects.close()
    """

    def __init__(
        self,
        service: Service,
        selection: Selection,
        recursive: bool,
        pattern: re.Pattern[str] | None,
        start_after: str,
    ) -> None:
        self._selection = selection
        self._pattern = pattern
        scope = operation_scope()
        pages = list_objects(
            service,
            selection.bucket,
            selection.prefix,
            delimiter="" if recursive and not selection.one_level else "/",
            start_after=start_after,
            page_size=1 if selection.single else 1000,
            scope=scope,
        )
        self._with_prefixes = not recursive and not selection.single  # a name is no prefix of others
        self._pages = Ahead(pages, scope.cancel)
        self._objects: Iterator[ObjectInfo] = iter(())

    def __next__(self) -> ObjectInfo:
        while True:
            for one in self._objects:
                return one
            self._objects = self._described(next(self._raw_pages()))

    def pages(self) -> Iterator[ObjectPage]:
        """The pages that were not consumed yet: batches of objects, with the common prefixes."""
        for page in self._raw_pages():
            yield ObjectPage(
                builtins.list(self._described(page)),
                [format_uri(self._selection.bucket, one) for one in page.prefixes] if self._with_prefixes else [],
            )

    def columns(self) -> ObjectColumns:
        """The objects that were not consumed yet, in NumPy arrays.

        Raises:
            ImportError: NumPy is not installed.
        """
        try:
            import numpy as np
        except ImportError as error:
            raise ImportError("columns() needs NumPy: pip install 's3dlio[numpy]'") from error
        keys, ends, sizes, modified = bytearray(), array("q", [0]), array("q"), array("q")
        missing = int(np.datetime64("NaT", "ms").astype("int64"))
        for page in self._raw_pages():
            for index in self._chosen(page):
                keys += page.keys[index].encode("utf-8", "surrogateescape")
                ends.append(len(keys))
                sizes.append(page.sizes[index])
                time = parse_timestamp(page.modified[index])
                modified.append(missing if time is None else int((time - _EPOCH).total_seconds() * 1000))
        return ObjectColumns(
            self._selection.bucket,
            np.frombuffer(keys, np.uint8),
            np.frombuffer(ends, np.int64),
            np.frombuffer(sizes, np.int64),
            np.frombuffer(modified, np.int64).view("datetime64[ms]"),
        )

    def _cancel(self) -> None:
        """Ends what a thread waits for here."""
        self._pages.cancel()

    def close(self) -> None:
        """Ends the listing, and the request for its next page; there are no more objects."""
        self._objects = iter(())
        self._pages.close()

    def _raw_pages(self) -> Iterator[ObjectsPage]:
        # No `yield from`: it would close the pages with the generator.
        for page in self._pages:
            if self._selection.single:  # the first key with the prefix is the key itself, or there is no such object
                self._pages.close()
            yield page

    def _chosen(self, page: ObjectsPage) -> Iterator[int]:
        matches, pattern = self._selection.matches, self._pattern
        if not self._selection.single and not self._selection.glob and pattern is None:
            yield from range(len(page.keys))
            return
        for index, key in enumerate(page.keys):
            if matches(key) and (pattern is None or pattern.search(key) is not None):
                yield index

    def _described(self, page: ObjectsPage) -> Iterator[ObjectInfo]:
        bucket = self._selection.bucket
        for index in self._chosen(page):
            tag = parse_entity_tag(page.etags[index])
            yield ObjectInfo(
                uri=format_uri(bucket, page.keys[index]),
                size=page.sizes[index],
                etag=None if tag is None else str(tag),
                last_modified=parse_timestamp(page.modified[index]),
                content_type=None,
                metadata={},
                checksum=None,
                checksum_algorithm=None,
                storage_class=page.storage_classes[index],
                version_id=None,
            )


@checks_names()
def iter_objects(
    uri: str,
    *,
    recursive: bool = True,
    pattern: str | None = None,
    start_after: str | None = None,
    client: ClientLike | None = None,
) -> ObjectIterator:
    """Goes through the objects that a URI selects, in the order of the store (of their UTF-8 bytes), page by page.

    Args:
        uri: ``s3://bucket`` or ``s3://bucket/folder/`` for what lies below it, a glob such as
            ``s3://bucket/run-*/**/*.npy``, or ``s3://bucket/key`` for that one object.
        recursive: False leaves out what lies below another ``/``; `ObjectIterator.pages` tells its common prefixes.
        pattern: a regular expression that has to be found in the key.
        start_after: a key, or a URI of the same bucket: objects after it only.
        client: a `Client`; None for the default one, built from the environment.

    Returns:
        An iterator of `ObjectInfo`, with ``pages()`` for batches and ``columns()`` for NumPy arrays. No request is made
        before it is first asked.

    Raises:
        UnsupportedUriError: the URI cannot be used.
        ConfigurationError: `pattern` is no regular expression, or `start_after` names another bucket.
        NotFoundError: while iterating: there is no such bucket.
        S3Error: while iterating: the store refused, or its pages do not lead on.
        TransportError: while iterating: the store could not be reached.

    Example:
        >>> infos = s3dlio.put_many([("s3://my-bucket/run/a.npy", b"first"), ("s3://my-bucket/run/b.txt", b"second")])
        >>> [(found.uri, found.size) for found in s3dlio.iter_objects("s3://my-bucket/run/*.npy")]
        [('s3://my-bucket/run/a.npy', 5)]
        >>> s3dlio.iter_objects("s3://my-bucket/run/").columns().sizes
        array([5, 6])

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
    """
    selection = select(uri)
    if not isinstance(recursive, bool):
        raise OptionTypeError(f"recursive={recursive!r} is not True or False")
    return ObjectIterator(
        service_of(client), selection, recursive, compile_pattern(pattern), _after(selection.bucket, start_after)
    )


@checks_names()
def list(
    uri: str, recursive: bool = False, pattern: str | None = None, *, client: ClientLike | None = None
) -> builtins.list[str]:
    """Lists the URIs of the objects that a URI selects, in the order of the store.

    Args:
        uri: as for `iter_objects`, which is better for a great many.
        recursive: True also lists what lies below another ``/``; False shows its common prefix, which ends in ``/``.
        pattern: a regular expression that has to be found in the key, or in the common prefix.
        client: a `Client`; None for the default one, built from the environment.

    Raises:
        UnsupportedUriError, ConfigurationError, NotFoundError, S3Error, TransportError: as for `iter_objects`.

    Example:
        >>> infos = s3dlio.put_many([("s3://my-bucket/set/a", b"first"), ("s3://my-bucket/set/more/b", b"second")])
        >>> s3dlio.list("s3://my-bucket/set/")
        ['s3://my-bucket/set/a', 's3://my-bucket/set/more/']
        >>> s3dlio.list("s3://my-bucket/set/", recursive=True)
        ['s3://my-bucket/set/a', 's3://my-bucket/set/more/b']

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
    """
    selection, expression = select(uri), compile_pattern(pattern)
    deep = recursive or bool(selection.glob)
    found: builtins.list[str] = []
    objects = iter_objects(uri, recursive=deep, pattern=pattern, client=client)
    start = len(format_uri(selection.bucket, ""))
    for page in objects.pages():
        uris = [one.uri for one in page.objects]
        uris += [one for one in page.prefixes if expression is None or expression.search(one, start)]
        found += sorted(uris) if page.prefixes else uris
    return found


@checks_names()
def exists(uri: str, *, version_id: str | None = None, client: ClientLike | None = None) -> bool:
    """Whether there is an object under a URI. False means that the store said so, and nothing else.

    Args:
        uri: ``s3://bucket/key``.
        version_id: a version other than the current one.
        client: a `Client`; None for the default one, built from the environment.

    Raises:
        UnsupportedUriError: it selects several objects; `list` finds those.
        AccessDeniedError: the store does not say. It refuses like this also where an object is missing and the
            credentials may not list the bucket.
        S3Error, TransportError: the store did not respond, or with another error.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/there", b"1")
        >>> s3dlio.exists("s3://my-bucket/there"), s3dlio.exists("s3://my-bucket/not-there")
        (True, False)

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
    """
    location = select_one(uri)
    try:
        object_operations.head_object(service_of(client), location, version_id=version_id)
    except NotFoundError:
        return False
    return True


def _after(bucket: str, start_after: str | None) -> str:
    if start_after is None:
        return ""
    if not isinstance(start_after, str):
        raise OptionTypeError(f"start_after={start_after!r} is not a str")
    if start_after[:5].lower() != "s3://":
        return start_after
    location = parse_uri(start_after)
    if location.bucket != bucket:
        raise ConfigurationError(f"start_after={start_after!r} names another bucket than {bucket!r}")
    return location.key
