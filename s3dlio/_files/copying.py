"""Copies objects within a store as a batch; the work of a `Flow`."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._net.addresses import Location, format_uri
from .._s3.failures import Failed
from .._s3.requests import CancelScope
from .._s3.service import Service
from .._transfer.copying import Copying
from ..progress import ProgressEvent
from ..results import UploadInfo
from .sending import IsThere, Same


class Copy(NamedTuple):
    """An object and its copy."""

    source: Location
    location: Location
    size: int | None
    is_there: IsThere | None = None

    @property
    def uri(self) -> str:
        return format_uri(*self.location)

    @property
    def path(self) -> str:
        """Where it comes from."""
        return format_uri(*self.source)


class Copies:
    """Server-side copies."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._copies: list[Copy | None] = []

    @property
    def count(self) -> int:
        return len(self._copies)

    def add(self, copy: Copy) -> None:
        """One more object."""
        self._copies.append(copy)

    def finished(self, index: int) -> Copy:
        """The copy whose result was consumed; nothing is kept of it."""
        copy = self._copies[index]
        assert copy is not None
        self._copies[index] = None
        return copy

    def batch_size(self, first: int, most: int) -> int:
        return 0

    def run_batch(self, first: int, last: int, scope: CancelScope) -> tuple[list[Any], Failed | None]:
        raise AssertionError("objects are copied one by one")

    def run_alone(self, index: int, before: Failed | None, scope: CancelScope) -> Any:
        copy = self._copies[index]
        assert copy is not None
        if copy.is_there is not None and copy.is_there(scope):
            return Same(copy.size or 0)
        return UploadInfo(**Copying(self._service, copy.source, None, copy.location, scope).run())

    def size_of(self, index: int, result: Any) -> int:
        return result.total_bytes if isinstance(result, UploadInfo) else 0

    def event(self, index: int, bytes_done: int, objects_done: int) -> ProgressEvent:
        raise AssertionError("the call reports for itself")
