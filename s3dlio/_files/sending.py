"""Sends local files as a batch: small ones in series, large ones alone, all within the budget of one call.

`Sends` is the work of a `Flow`; files are added while it runs. A large file is sent by the caller's function, because
only the public face has a writer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from .._memory.pool import pool
from .._net.addresses import Location, format_uri
from .._runtime.kept_errors import without_traceback
from .._s3.failures import Failed
from .._s3.requests import CancelScope
from .._s3.service import Service
from .._transfer.batch import SERIES_BYTES, Puts, aligned, in_same_bucket
from .._transfer.budget import Budget
from ..config import MultipartUploadConfig
from ..results import UploadInfo
from . import times
from .sources import Source


class Send(NamedTuple):
    """A file and the object that it becomes.

    Attributes:
        size: bytes, as far as it is known; None where only reading it will show.
        is_there: asked before it is sent, whether the object has the same bytes already; None for no.
    """

    path: str
    location: Location
    size: int | None
    is_there: IsThere | None = None

    @property
    def uri(self) -> str:
        return format_uri(*self.location)


class Same(NamedTuple):
    """Both sides have the same bytes already."""

    size: int


# Whether both sides have the same bytes; raises if that cannot be found out.
IsThere = Callable[[CancelScope], bool]


class Settings(NamedTuple):
    """How the files of one call are sent."""

    config: MultipartUploadConfig
    follow_symlinks: bool = True
    preserve_times: bool = False


# Sends a file of more than one part, or of unknown size, with these headers.
SendLarge = Callable[[Send, Source, MultipartUploadConfig, CancelScope], UploadInfo]


class Sends(Puts):
    """Uploads of files.

    Args:
        send_large: sends a file that does not fit one part.
    """

    def __init__(self, service: Service, settings: Settings, budget: Budget, send_large: SendLarge) -> None:
        super().__init__(service, [], [], settings.config, _never)
        self._settings = settings
        self._budget = budget
        self._send_large = send_large
        self._sends: list[Send | None] = []
        self._added: list[Location] = []
        self._locations = self._added
        self._memory: dict[int, memoryview] = {}
        self._views = self._memory  # type: ignore[assignment]
        self._configs: dict[int, MultipartUploadConfig] = {}

    def add(self, send: Send) -> None:
        """One more file."""
        self._sends.append(send)
        self._added.append(send.location)  # this counts

    def finished(self, index: int) -> Send:
        """The file whose result was consumed; nothing is kept of it."""
        send = self._send(index)
        self._sends[index] = None
        self._configs.pop(index, None)
        return send

    def _send(self, index: int) -> Send:
        send = self._sends[index]
        assert send is not None
        return send

    def batch_size(self, first: int, most: int) -> int:
        total, last = 0, first + in_same_bucket(self._locations, first, most)
        for index in range(first, last):
            size = self._send(index).size
            if size is None or size > self._config.part_size or self._send(index).is_there is not None:
                return index - first
            total += aligned(size)
            if total > SERIES_BYTES and index > first:
                return index - first
        return last - first

    def run_batch(self, first: int, last: int, scope: CancelScope) -> tuple[list[Any], Failed | None]:
        total = sum(aligned(self._send(index).size or 0) for index in range(first, last))
        self._budget.take(total, scope.check)
        try:
            memory = _memory(total)
            at, end, unreadable = 0, first, None
            while end < last and unreadable is None:
                size = self._send(end).size or 0
                try:
                    self._read(end, memory[at : at + size])
                except Exception as error:
                    unreadable = without_traceback(error)
                    break
                at += aligned(size)
                end += 1
            done, failed = super().run_batch(first, end, scope) if end > first else ([], None)
            if unreadable is not None and failed is None and len(done) == end - first:
                done.append(unreadable)
            return done, failed
        finally:
            self._release(first, last)
            self._budget.give(total)

    def _read(self, index: int, view: memoryview) -> None:
        send = self._send(index)
        with Source(send.path, follow_symlinks=self._settings.follow_symlinks) as source:
            self._configs[index] = self._config_for(source)
            length = source.read_into(view, 0)
            source.check_unchanged(length)
        self._memory[index] = view

    def _release(self, first: int, last: int) -> None:
        for index in range(first, last):
            view = self._memory.pop(index, None)
            if view is not None:
                with contextlib.suppress(BufferError):  # an error's frames may outlive the call
                    view.release()

    def run_alone(self, index: int, before: Failed | None, scope: CancelScope) -> Any:
        if index in self._memory:  # in a series, which has a share of the budget
            return super().run_alone(index, before, scope)
        send = self._send(index)
        with Source(send.path, follow_symlinks=self._settings.follow_symlinks) as source:
            config = self._configs[index] = self._config_for(source)
            if send.is_there is not None and send.is_there(scope):
                return Same(source.size or 0)
            if source.size is None or source.size > self._config.part_size:
                return self._send_large(send, source, config, scope)
            return self._send_small(index, source, before, scope)

    def _send_small(self, index: int, source: Source, before: Failed | None, scope: CancelScope) -> UploadInfo:
        size = source.size or 0
        self._budget.take(size, scope.check)
        try:
            view = _memory(size)
            source.check_unchanged(source.read_into(view, 0))
            self._memory[index] = view
            return super().run_alone(index, before, scope)
        finally:
            self._release(index, index + 1)
            self._budget.give(size)

    def _config_for(self, source: Source) -> MultipartUploadConfig:
        if not self._settings.preserve_times:
            return self._config
        metadata: Mapping[str, str] = self._config.metadata or {}
        return replace(self._config, metadata={times.NAME: times.as_metadata(source.status.st_mtime_ns), **metadata})

    def _config_of(self, index: int) -> MultipartUploadConfig:
        return self._configs[index]


def _memory(size: int) -> memoryview:
    return memoryview(pool().acquire(size)) if size else memoryview(bytearray())


def _never(index: int, scope: CancelScope) -> UploadInfo:
    raise AssertionError("large files are sent by send_large")
