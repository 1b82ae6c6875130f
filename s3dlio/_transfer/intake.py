"""Turns the data of a writer's calls into segments, and submits the parts that they complete.

It owns the open buffer and the bytes that wait for the next part, and keeps the packing rule: waiting bytes never pin
more than twice their size. Called by the writer, one call at a time; two calls must never run at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from .._buffers import page_round
from .._memory.pool import PLAIN_TYPES, pool
from .._memory.views import copy_span
from ..config import KIB, MAX_PARTS, MultipartUploadConfig
from .assembler import Assembler, Owner, Segment
from .lifecycle import State
from .open_buffer import OpenBuffer
from .upload import Upload

# Below this size, a separate segment (one iovec, one owner) costs more than copying the bytes.
SMALLEST_SEGMENT = 64 * KIB


class Intake:
    """The bytes that a writer accepted and that are in no part yet.

    Attributes:
        assembler: cuts parts.
        open_buffer: small and waiting bytes are copied into it; it counts all bytes that were accepted.
        flushed: bytes of the open part that a flush has stored.
    """

    def __init__(self, upload: Upload, config: MultipartUploadConfig) -> None:
        self._upload = upload
        self.open_buffer = OpenBuffer(upload, State.OPEN, PLAIN_TYPES, SMALLEST_SEGMENT)
        self._next_size = SMALLEST_SEGMENT
        self.assembler = Assembler(config.part_size, config.grow_part_size)
        self.flushed = 0

    def start_after(self, parts: int) -> None:
        """Continues after the first `parts` parts, which the store has in full."""
        self.assembler.start_after(parts)
        self.open_buffer.written = self.assembler.offset

    def arm(self) -> None:
        """Lets the open buffer take small writes, as many as leave room in the open part, until the next call."""
        if self.open_buffer.owner is not None and self.assembler.number <= MAX_PARTS:
            self.open_buffer.arm(self.assembler.room - 1)

    def settle(self) -> None:
        """Adds what the open buffer took while armed to the open part. Every call on the slow path starts with this."""
        if self.open_buffer.unsettled:
            with self.failing_on_error():
                begin, length = self.open_buffer.settle()
                assert self.open_buffer.owner is not None
                self._add(self.open_buffer.owner, begin, length, counted=True)

    def acquire(self, size: int, pack: Callable[[], None] | None, *, open_buffer: bool = False) -> Owner:
        """Pooled memory of `size` bytes, charged to the account; the caller holds one use of it.

        `pack` is called when nothing in flight can make room; with None it does not wait.
        """
        pinned = page_round(size)
        self._upload.take(pinned, self.assembler.part_size, pack)
        try:
            buffer = pool().acquire(size, page_aligned=True)
            owner = Owner(memoryview(buffer), pinned, open_buffer=open_buffer)
        except BaseException:
            self._upload.refund(pinned)
            raise
        owner.uses = 1
        return owner

    def hand_over(self, owner: Owner, length: int) -> None:
        """Turns committed or borrowed bytes into a segment, or copies them where that costs less."""
        assert owner.view is not None
        if length < SMALLEST_SEGMENT:
            self.copy_in(owner.view[:length])
            return
        self._add(owner, 0, length)
        self.pack(self.assembler.oversized())

    def borrow(self, view: memoryview) -> None:
        owner = Owner(view, len(view), borrowed=True)
        owner.uses = 1
        self._upload.take(len(view), self.assembler.part_size, self.pack_everything)
        try:
            with self.failing_on_error():
                self.hand_over(owner, len(view))
        finally:
            self._upload.drop(owner)

    def copy_in(self, view: memoryview) -> None:
        """Copies into open buffers, one after the other, and submits parts as they fill."""
        done = 0
        try:
            while done < len(view):
                buffer = self._current_buffer(self.pack_everything)
                room = self.assembler.room or self.assembler.part_size
                length = min(len(view) - done, buffer.size - buffer.used, room)
                owner = self._fill(view, done, length)
                done += length  # counted as taken before an interrupt can arrive
                self._add(owner, buffer.used - length, length)
        except BaseException as error:
            if done:
                self._upload.fail(error)
            raise
        finally:
            self._retire_full_buffer()

    def _fill(self, source: memoryview, offset: int, length: int) -> Owner:
        owner = self.open_buffer.owner
        assert owner is not None
        copy_span(owner.view, self.open_buffer.used, source, offset, length)
        self.open_buffer.advance(length)
        return owner

    def _current_buffer(self, pack: Callable[[], None] | None) -> OpenBuffer:
        """The open buffer, with room for at least one byte."""
        self._retire_full_buffer()
        while self.open_buffer.owner is None:
            owner = self.acquire(self._open_buffer_size(), pack, open_buffer=True)
            if self.open_buffer.owner is None:
                self.open_buffer.attach(owner)
            else:  # packing has attached one meanwhile
                self._upload.drop(owner)
            self._retire_full_buffer()
        return self.open_buffer

    def _open_buffer_size(self) -> int:
        """One part; in the first part each buffer is four times the last, because many objects are small.

        The last growing buffer ends with the part, so that no later part spans two buffers.
        """
        if self.assembler.number > 1 or self._next_size >= self.assembler.part_size:
            return self.assembler.part_size
        size = min(self._next_size, max(self.assembler.room, SMALLEST_SEGMENT))
        self._next_size *= 4
        return size

    def _retire_full_buffer(self) -> None:
        if self.open_buffer.owner is not None and self.open_buffer.used == self.open_buffer.size:
            self._drop_open_buffer()

    def _drop_open_buffer(self) -> None:
        owner = self.open_buffer.detach()
        if owner is not None:
            self._upload.drop(owner)

    def _add(self, owner: Owner, offset: int, length: int, *, counted: bool = False) -> None:
        with self._upload.lock:
            before = self.assembler.number
            parts = list(self.assembler.add(owner, offset, length))
            if self.assembler.number != before:
                self.flushed = 0
        if not counted:
            self.open_buffer.written += length
        if parts:
            self._upload.submit(parts)

    def pack(self, indices: list[int], pack: Callable[[], None] | None = lambda: None) -> None:
        """Copies the waiting segments at `indices` into the open buffer and releases their owners.

        It may wait for parts in flight, but never packs other segments to make room.
        """
        added = 0  # segments, by the replacements so far
        for index in indices:
            segment = self.assembler.segment(index + added)
            source, packed, done = segment.view, [], 0
            while done < segment.length:
                buffer = self._current_buffer(pack)
                length = min(segment.length - done, buffer.size - buffer.used)
                owner = self._fill(source, done, length)
                packed.append(Segment(owner, buffer.used - length, length))
                with self._upload.lock:
                    owner.uses += 1
                done += length
            with self._upload.lock:
                self.assembler.replace(index + added, packed)
            added += len(packed) - 1
            self._upload.drop(segment.owner)

    def pack_everything(self) -> None:
        """Packs the waiting segments if they pin more than one part. Called when nothing in flight can make room."""
        if self.assembler.pinned() > self.assembler.part_size:
            self.pack(self.assembler.where(lambda owner: not owner.open_buffer), None)

    def release(self) -> None:
        """Releases all memory; called after the upload has ended."""
        for segment in self.assembler.clear():
            self._upload.drop(segment.owner)
        self._drop_open_buffer()

    @contextlib.contextmanager
    def failing_on_error(self) -> Iterator[None]:
        """Fails the upload on an exception: bytes were taken, so the object would be incomplete."""
        try:
            yield
        except BaseException as error:
            self._upload.fail(error)
            raise
