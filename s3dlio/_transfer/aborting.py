"""Aborts one multipart upload on the store: once, whoever asks, and again for as long as parts arrive late.

It never stops a part in flight: `upload`, which calls it, has done so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from .._net.addresses import Location, format_uri
from .._runtime.waiting import Changed
from .._s3 import listings, multipart_operations
from .._s3.service import Service
from ..errors import NotFoundError, S3Error

log = logging.getLogger("s3dlio")

# After an abort a cancelled part may still be stored by the server; this bounds how long that is looked for.
ABORT_CHECKS = 5
ABORT_CHECK_PAUSE = 0.2


class Aborting:
    """The end of one upload on the store.

    Args:
        lock: the upload's.
        changed: what waits for it.
    """

    def __init__(self, service: Service, location: Location, lock: Any, changed: Changed) -> None:
        self._service = service
        self._location = location
        self._lock = lock
        self._changed = changed
        self._at_work = False
        self._done = False

    def run(self, upload_id: Callable[[], str | None], cancelled: Callable[[], bool]) -> None:
        """Returns when the upload has been aborted, by this call or another, or there is none.

        Args:
            upload_id: asked, with the lock held, once nobody else is at it.
            cancelled: whether a part was cut short, which the store may take late.
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
            except S3Error as error:  # it does not say: the upload is aborted again
                log.info("the parts of %s cannot be listed: %s", format_uri(*self._location), error)
            time.sleep(ABORT_CHECK_PAUSE)
            multipart_operations.abort_upload(self._service, self._location, upload_id)
