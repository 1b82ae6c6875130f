"""Notes of uploads that may have to be resumed: which file, as it was, goes where under which upload id.

One small file for each, in a folder of the user's. It is locked while its upload runs, so that no two processes resume
the same one. A note is believed only if the file, the store and the options are the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from typing import Any


class UnfinishedUpload:
    """The note of one upload. Make it with `claim`.

    Attributes:
        upload_id: of the upload to resume; None for none.
    """

    def __init__(self, path: str, descriptor: int, identity: dict[str, Any]) -> None:
        self._path = path
        self._file = descriptor
        self._identity = identity
        self.upload_id = self._noted()

    @classmethod
    def claim(cls, folder: str, uri: str, endpoint: str, source: str, status: os.stat_result, **options: Any) -> Any:
        """The note for a file and its object, locked; None where another process has it."""
        name = hashlib.sha256("\0".join((uri, endpoint, os.path.abspath(source))).encode("utf-8", "surrogateescape"))
        os.makedirs(folder, mode=0o700, exist_ok=True)
        path = os.path.join(folder, f"upload-{name.hexdigest()[:32]}.json")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        identity = {
            "uri": uri,
            "endpoint": endpoint,
            "file": [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns],
            **options,
        }
        return cls(path, descriptor, identity)

    def _noted(self) -> str | None:
        text = os.pread(self._file, 1 << 16, 0)
        try:
            noted = json.loads(text)
        except ValueError:  # a new file, or one that a crash cut short
            return None
        if not isinstance(noted, dict):
            return None
        upload_id = noted.pop("upload_id", None)
        return upload_id if noted == self._identity and isinstance(upload_id, str) and upload_id else None

    def note(self, upload_id: str) -> None:
        """Notes the id of the upload."""
        if upload_id == self.upload_id:
            return
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps({**self._identity, "upload_id": upload_id}).encode(), 0)
        self.upload_id = upload_id

    def forget(self) -> None:
        """There is nothing to resume."""
        self.upload_id = None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def close(self) -> None:
        """Unlocks the note; one without an upload is removed."""
        if self.upload_id is None:
            self.forget()
        os.close(self._file)
