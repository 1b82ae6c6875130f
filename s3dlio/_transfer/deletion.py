"""Deletes many objects of one bucket: batches on several connections, fewer at a time while the store is overloaded.

`delete_operations` sends a batch. Entries that fail for a temporary reason are retried; the others are collected, and
raised at the end together with what succeeded. Callers are the public `delete` and `delete_all_versions`.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator, Sequence

from .._net.addresses import Location, format_uri
from .._runtime.kept_errors import without_traceback
from .._runtime.waiting import Changed
from .._runtime.workers import Crew
from .._s3 import retry
from .._s3.delete_operations import Entry, delete_object, delete_objects
from .._s3.requests import operation_scope
from .._s3.service import Service
from ..errors import ManyFailedError, S3dlioError, S3Error, ThrottledError, UnsupportedUriError

log = logging.getLogger("s3dlio")

# Most batches in flight. A store takes about as long for one of 1,000 keys as for 1,000 small requests.
MOST_BATCHES = 16
# Codes of stores that do not support DeleteObjects.
_UNSUPPORTED = frozenset({"NotImplemented", "MethodNotAllowed"})


class Deletion:
    """One deletion.

    Args:
        what: URI of what is deleted, for errors of the listing.

    Attributes:
        deleted: number of objects that are deleted, or were missing.
    """

    def __init__(self, service: Service, bucket: str, what: str) -> None:
        self._service = service
        self._bucket = bucket
        self._what = what
        self._lock = threading.Lock()
        self._changed = Changed(self._lock)
        self._crew = Crew(self._lock, self._changed)
        self._scope = operation_scope()
        self._running = 0
        self._limit = MOST_BATCHES
        self._one_by_one = False
        self._stopped = False
        self._succeeded: list[bytes] = []
        self._failed: dict[str, Exception] = {}
        self.deleted = 0

    def run(self, batches: Iterator[Sequence[Entry]]) -> int:
        """Deletes all entries of all batches, of up to 1,000 each; returns their number.

        Raises:
            ManyFailedError: some could not be deleted, or listed; the others are deleted.
            S3dlioError: nothing was deleted, and there is one reason.
        """
        try:
            self._start_all(batches)
            self._crew.join()
        except BaseException:
            self._scope.cancel()
            self._crew.call_off()
            raise
        if self._failed:
            raise self._error()
        return self.deleted

    def _start_all(self, batches: Iterator[Sequence[Entry]]) -> None:
        while not self._stopped:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except S3dlioError as error:
                with self._lock:
                    self._failed[self._what] = without_traceback(error)
                return
            self._changed.wait_for(self._admit)
            if not self._crew.start(lambda batch=batch: self._delete(batch)):  # type: ignore[misc]
                self._delete(batch)

    def _admit(self) -> bool:
        if self._running >= self._limit:
            return False
        self._running += 1
        return True

    def _delete(self, batch: Sequence[Entry]) -> None:
        failed: dict[Entry, S3dlioError] = {}
        try:
            self._delete_patiently(batch, failed)
        finally:
            done = [entry.key for entry in batch if entry not in failed]
            with self._lock:
                self.deleted += len(done)
                if done:
                    self._succeeded.append("\0".join(done).encode())
                for entry, error in failed.items():
                    self._failed[_name(self._bucket, entry)] = without_traceback(error)
                self._running -= 1
                self._changed.notify_all()

    def _delete_patiently(self, batch: Sequence[Entry], failed: dict[Entry, S3dlioError]) -> None:
        """Retries entries that failed for a temporary reason; adds the others to `failed`."""
        policy, begun = self._service.settings.policy, time.monotonic()
        failed.update((entry, refusal) for entry in batch if (refusal := _refusal(self._bucket, entry)) is not None)
        left, attempt = [entry for entry in batch if entry not in failed], 0
        while left:
            attempt += 1
            again: list[Entry] = []
            pause = 0.0
            for entry, error in self._delete_once(left):
                failed[entry] = error
                if not isinstance(error, S3Error):
                    continue
                outcome = retry.Outcome("DeleteObjects", error.status, error.code, None)
                decision = retry.classify(outcome, attempt, time.monotonic() - begun, policy, random.random())
                if decision.verdict is retry.Verdict.RETRY:
                    again.append(entry)
                    pause = max(pause, decision.delay)
                    self._slow_down(error)
            left = again
            if left:
                log.info("%d of %d objects are deleted again in %.2f s", len(left), len(batch), pause)
                self._scope.pause(pause)
                for entry in left:
                    del failed[entry]

    def _delete_once(self, entries: Sequence[Entry]) -> list[tuple[Entry, S3dlioError]]:
        """Returns those that were not deleted."""
        if len(entries) == 1 or self._one_by_one:
            return [failure for entry in entries for failure in self._delete_alone(entry)]
        try:
            return list(delete_objects(self._service, self._bucket, entries, self._scope))
        except ValueError:  # a key that XML cannot express
            return self._delete_halves(entries)
        except S3Error as error:
            if error.code in _UNSUPPORTED or error.status == 501:
                log.info("the store does not support DeleteObjects; objects are deleted one by one")
                self._one_by_one = True
                return self._delete_once(entries)
            if _is_overloaded(error):
                self._slow_down(error)
                return self._delete_halves(entries)
            return self._give_up(entries, error)
        except S3dlioError as error:
            return self._give_up(entries, error)

    def _delete_halves(self, entries: Sequence[Entry]) -> list[tuple[Entry, S3dlioError]]:
        half = len(entries) // 2
        return self._delete_once(entries[:half]) + self._delete_once(entries[half:])

    def _delete_alone(self, entry: Entry) -> list[tuple[Entry, S3dlioError]]:
        if self._stopped:
            return [(entry, S3dlioError("not deleted, because an earlier request failed"))]
        try:
            delete_object(self._service, Location(self._bucket, entry.key), entry.version_id, self._scope)
        except S3Error as error:
            self._stopped = self._stopped or error.code == "NoSuchBucket"
            return [(entry, error)]
        except S3dlioError as error:
            return self._give_up([entry], error)
        return []

    def _give_up(self, entries: Sequence[Entry], error: S3dlioError) -> list[tuple[Entry, S3dlioError]]:
        """The error of a whole request, which the next one would get as well: no further batch begins."""
        self._stopped = True
        return [(entry, error) for entry in entries]

    def _slow_down(self, error: S3Error) -> None:
        if _is_overloaded(error):
            with self._lock:
                self._limit = max(1, self._limit // 2)

    def _error(self) -> S3dlioError:
        reasons = {id(one): one for one in self._failed.values()}
        if self.deleted == 0 and len(reasons) == 1:
            only = next(iter(reasons.values()))
            if isinstance(only, S3dlioError):
                return only
        return ManyFailedError(
            f"{len(self._failed)} of {len(self._failed) + self.deleted} objects could not be deleted"
            f"{', and others were not tried' if self._stopped else ''}; the first is {next(iter(self._failed))}",
            self._succeeded_uris(),
            self._failed,
        )

    def _succeeded_uris(self) -> list[str]:
        """URIs of the deleted objects, sorted. Their keys are kept as bytes, because only an error needs them."""
        keys = b"\0".join(self._succeeded).split(b"\0") if self._succeeded else []
        return [format_uri(self._bucket, key.decode()) for key in sorted(keys)]


def _refusal(bucket: str, entry: Entry) -> UnsupportedUriError | None:
    """Why a listed key cannot be deleted."""
    try:
        entry.key.encode()
    except UnicodeEncodeError:
        uri = format_uri(bucket, entry.key)
        return UnsupportedUriError(f"the key of {uri!r} is not valid UTF-8, so no request can contain it")
    return None


def _is_overloaded(error: S3Error) -> bool:
    return isinstance(error, ThrottledError) or error.status == 503


def _name(bucket: str, entry: Entry) -> str:
    uri = format_uri(bucket, entry.key)
    return uri if entry.version_id is None else f"{uri} (version {entry.version_id})"
