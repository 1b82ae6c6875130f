"""Runs one sync: transfers while both sides are being listed, and deletions at the end, if nothing has failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .._s3.failures import Failed
from .._s3.requests import CancelScope
from ..errors import DeletionRefusedError, ManyFailedError, S3dlioError
from ..progress import ProgressEvent
from ..results import SyncAction, SyncResult
from .deleting import Spool
from .filters import Filters
from .running import Failure, Run, Tally
from .sending import Same
from .sides import Entry, Pair
from .walking import Unreadable


class Planned(NamedTuple):
    """What a rehearsal would have transferred."""

    size: int | None


class Rehearsal:
    """Compares like the work that it stands for, and transfers nothing."""

    def __init__(self, work: Any) -> None:
        self._work = work
        self._items: list[Any] = []

    @property
    def count(self) -> int:
        return len(self._items)

    def add(self, item: Any) -> None:
        self._items.append(item)

    def finished(self, index: int) -> Any:
        item, self._items[index] = self._items[index], None
        return item

    def path_of(self, item: Any) -> str:
        path: str = self._work.path_of(item)
        return path

    def batch_size(self, first: int, most: int) -> int:
        return 0

    def run_batch(self, first: int, last: int, scope: CancelScope) -> tuple[list[Any], Failed | None]:
        raise AssertionError("each is compared alone")

    def run_alone(self, index: int, before: Failed | None, scope: CancelScope) -> Any:
        item = self._items[index]
        return Same(item.size or 0) if item.is_there is not None and item.is_there(scope) else Planned(item.size)

    def size_of(self, index: int, result: Any) -> int:
        return 0

    def event(self, index: int, bytes_done: int, objects_done: int) -> ProgressEvent:
        raise AssertionError("a rehearsal reports nothing")


class Direction(NamedTuple):
    """From where to where.

    Attributes:
        operation: ``"upload"``, ``"download"`` or ``"copy"``.
        source, target: paths or URIs, for errors.
        item: makes the item of the work from the source's entry, and the target's of the same size; None for none.
        target_of: path or URI of a name at the target.
        delete: deletes names; returns which are gone, and the errors, by path or URI.
    """

    operation: str
    source: str
    target: str
    item: Callable[[Entry, Entry | None], Any]
    target_of: Callable[[str], str]
    delete: Callable[[Iterator[str]], tuple[list[str], dict[str, Exception]]]


class Rules(NamedTuple):
    """What a sync may do."""

    filters: Filters
    delete: bool
    max_delete: int | None
    allow_empty: bool
    dry_run: bool


class Synchronisation(Run):
    """One sync."""

    def __init__(self, work: Any, limit: int, tally: Tally, direction: Direction, rules: Rules) -> None:
        super().__init__(Rehearsal(work) if rules.dry_run else work, limit, tally)
        self._direction = direction
        self._rules = rules
        self._actions: list[tuple[int, SyncAction]] = []
        self._unchanged = 0
        self._found = 0

    def synchronise(self, pairs: Iterator[Any]) -> SyncResult:
        """Transfers what differs, then deletes what is too much.

        Raises:
            ManyFailedError: something failed; all else was done, but nothing deleted.
            DeletionRefusedError: the deletions are too many, or the source is empty; nothing was deleted.
        """
        with Spool() as extra:
            self._move(self._items(pairs, extra))
            actions = [action for _, action in sorted(self._actions, key=lambda one: one[0])]
            if not self._failed and extra.count:
                actions += self._delete(extra)
        if self._failed:
            raise self._many(actions)
        return SyncResult(actions, self._unchanged)

    def _items(self, pairs: Iterator[Any], extra: Spool) -> Iterator[Any]:
        for pair in pairs:
            if not isinstance(pair, Pair):
                failure = self._failure(pair)
                if failure is not None:
                    yield failure
                continue
            name = (pair.source or pair.target or Entry("", "", None, None)).name
            if not self._rules.filters.allow(name):
                continue
            self._found += pair.source is not None
            if pair.source is None:
                if self._rules.delete:
                    extra.add(name)
                continue
            try:
                item = self._direction.item(pair.source, _comparable(pair))
            except ValueError as error:  # a key that cannot be a path, or no key at all
                yield Failure(self._direction.target_of(name), pair.source.place, error)
                continue
            if item is None:
                self._unchanged += 1
            else:
                yield item

    def _failure(self, told: Unreadable | Failure) -> Failure | None:
        """The failure to report of what could not be listed; None where it is excluded."""
        if isinstance(told, Failure):
            return told
        if not self._rules.filters.allow(told.name.rstrip("/")):
            return None
        return Failure(self._direction.target_of(told.name), told.path, told.error)

    def _result(self, index: int, item: Any, result: Any) -> None:
        path, uri = self._path(item), item.uri
        source, target = (uri, path) if self._direction.operation == "download" else (path, uri)
        moved: int | None = 0
        if isinstance(result, Exception):
            self._failed[target] = result
        elif isinstance(result, Same):
            self._unchanged += 1
        else:
            moved = result.size if isinstance(result, Planned) else self._size_of(result)
            self._actions.append((index, SyncAction(self._direction.operation, source, target, moved)))
        self._tally.file(uri, moved or 0)

    def _delete(self, extra: Spool) -> list[SyncAction]:
        source, target = self._direction.source, self._direction.target
        if not self._found and not self._rules.allow_empty:
            raise DeletionRefusedError(
                f"{source!r} is empty, so everything in {target!r} would be deleted; pass allow_empty=True to do that"
            )
        limit = self._rules.max_delete
        if limit is not None and extra.count > limit:
            raise DeletionRefusedError(
                f"{target!r} has {extra.count} files that {source!r} has not, more than max_delete={limit}; "
                "none was deleted"
            )
        if self._rules.dry_run:
            return [SyncAction("delete", None, self._direction.target_of(name), None) for name in extra]
        gone, failed = self._direction.delete(iter(extra))
        self._failed.update(failed)
        return [SyncAction("delete", None, one, None) for one in gone]

    def _many(self, actions: list[SyncAction]) -> Exception:
        only = next(iter(self._failed.values()))
        if len(self._failed) == 1 and not actions and not self._unchanged and isinstance(only, S3dlioError):
            return only
        return ManyFailedError(
            f"{len(self._failed)} files of {self._direction.target} could not be synchronised",
            [one.target for one in actions],
            self._failed,
        )


def _comparable(pair: Pair) -> Entry | None:
    """The target's entry, if it may have the bytes of the source's."""
    source, target = pair
    if source is None or target is None or source.size != target.size or source.size is None:
        return None
    return target
