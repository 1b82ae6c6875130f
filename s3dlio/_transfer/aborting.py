"""Aborts one multipart upload on the store: once, however many threads call it, and again while late parts arrive.

Its caller, `lifecycle`, has already stopped the parts in flight.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from .._net.addresses import Location, format_uri
from .._runtime.waiting import Changed
from .._s3 import listings, multipart_operations
from .._s3.requests import cancelled_with
from .._s3.service import Service
from ..errors import NotFoundError, S3Error

log = logging.getLogger("s3dlio")

# The server may store a cancelled part after the abort. These bound how long we look for one.
ABORT_CHECKS = 5
ABORT_CHECK_PAUSE = 0.2


class Aborting:
    """The abort of one upload on the store.

    Args:
        lock: the upload's lock.
        changed: wakes the threads that wait for the lock's state.
    """

    def __init__(self, service: Service, location: Location, lock: Any, changed: Changed) -> None:
        self._service = service
        self._location = location
        self._lock = lock
        self._changed = changed
        self._at_work = False
        self._done = False

    def run(self, upload_id: Callable[[], str | None], cancelled: Callable[[], bool]) -> None:
        """Returns once the upload has been aborted, by this call or another, or if there is none.

        Args:
            upload_id: called with the lock held, once no other thread is aborting.
            cancelled: whether a part was cut short; the store may still take it.
        """
        chosen: str | None = None

        def decided() -> bool:
            nonlocal chosen
            if self._at_work:
                return False
            chosen = None if self._done else upload_id()
            self._at_work = chosen is not None
            return True

        try:
            self._changed.wait_for(decided)
            if chosen is not None:
                with cancelled_with(None):  # what was cancelled is cleaned up all the same
                    multipart_operations.abort_upload(self._service, self._location, chosen)
                    self._done = True
                    if cancelled():
                        self._abort_late_parts(chosen)
        finally:
            if chosen is not None:
                with self._lock:
                    self._at_work = False
                    self._changed.notify_all()

    def _abort_late_parts(self, upload_id: str) -> None:
        for _ in range(ABORT_CHECKS):
            try:
                listings.upload_exists(self._service, self._location, upload_id)
            except NotFoundError:
                return
            except S3Error as error:  # unknown: abort again
                log.info("the parts of %s cannot be listed: %s", format_uri(*self._location), error)
            time.sleep(ABORT_CHECK_PAUSE)
            multipart_operations.abort_upload(self._service, self._location, upload_id)
