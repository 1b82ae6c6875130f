"""Asynchronous iterators over listings: the pages come by awaits, the entries of a page without one."""

from __future__ import annotations

import builtins

from .awaiting import AsyncBatches, call
from .listing import ObjectColumns, ObjectIterator, ObjectPage
from .results import ObjectInfo
from .versions import VersionInfo, VersionIterator


class AsyncObjectIterator(AsyncBatches[ObjectInfo]):
    """The objects of a listing, in the order of the store; `iter_objects_async` makes it.

    Where an await is cancelled, the iteration has ended: another one goes on with ``start_after``.

    Example:
        >>> infos = s3dlio.put_many([("s3://my-bucket/aio/a", b"first"), ("s3://my-bucket/aio/b", b"second")])
        >>> async def sizes():
        ...     return [found.size async for found in s3dlio.iter_objects_async("s3://my-bucket/aio/")]
        >>> import asyncio
        >>> asyncio.run(sizes())
        [5, 6]
    """

    def __init__(self, objects: ObjectIterator) -> None:
        self._objects = objects
        self._pages = objects.pages()
        super().__init__(self._next_objects, objects._cancel)

    def _next_objects(self) -> builtins.list[ObjectInfo] | None:
        page = next(self._pages, None)
        return None if page is None else page.objects

    def _next_page(self) -> builtins.list[ObjectPage] | None:
        page = next(self._pages, None)
        return None if page is None else [page]

    def pages(self) -> AsyncBatches[ObjectPage]:
        """The pages that were not consumed yet: batches of objects, with the common prefixes."""
        return AsyncBatches(self._next_page, self._objects._cancel)

    async def columns(self) -> ObjectColumns:
        """The objects that were not consumed yet, in NumPy arrays."""
        return await call(self._objects.columns, self._objects._cancel, self._line)

    async def aclose(self) -> None:
        """Ends the listing, and the request for its next page; there are no more objects."""
        self._ready.clear()
        await call(self._objects.close)


class AsyncVersionIterator(AsyncBatches[VersionInfo]):
    """The versions of a listing, in the order of the store; `list_versions_async` makes it.

    Where an await is cancelled, the iteration has ended.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/aio-thing", b"content")
        >>> async def sizes():
        ...     return [one.size async for one in s3dlio.list_versions_async("s3://my-bucket/aio-thing")]
        >>> import asyncio
        >>> asyncio.run(sizes())
        [7]
    """

    def __init__(self, versions: VersionIterator) -> None:
        self._versions = versions
        self._pages = versions.pages()
        super().__init__(self._next_versions, versions._cancel)

    def _next_versions(self) -> builtins.list[VersionInfo] | None:
        return next(self._pages, None)

    def pages(self) -> AsyncBatches[builtins.list[VersionInfo]]:
        """The versions that were not consumed yet, in batches of up to 1,000."""
        return AsyncBatches(self._next_page, self._versions._cancel)

    def _next_page(self) -> builtins.list[builtins.list[VersionInfo]] | None:
        page = next(self._pages, None)
        return None if page is None else [page]

    async def aclose(self) -> None:
        """Ends the listing, and the request for its next page; there are no more versions."""
        self._ready.clear()
        await call(self._versions.close)
