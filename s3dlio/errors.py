"""Every exception that s3dlio raises on its own account, and nothing else.

This module imports nothing of ours but what takes secrets out of a message, so that any floor may raise from it.
What goes into a message is an operation, a place and what the store answered.

::

    S3dlioError
    ├── ConfigurationError (ValueError)
    │   └── OptionTypeError (TypeError), not exported
    ├── CredentialsError
    ├── UnsupportedUriError (ValueError)
    ├── ReservationError
    ├── WriterClosedError
    ├── S3Error
    │   ├── NotFoundError (FileNotFoundError)
    │   ├── AccessDeniedError (PermissionError)
    │   ├── PreconditionFailedError
    │   ├── InvalidRangeError
    │   └── ThrottledError
    ├── TransportError (ConnectionError)
    │   └── TimeoutError (builtins.TimeoutError)
    ├── ChecksumMismatchError
    ├── ObjectChangedError
    └── ForkedError
"""

from __future__ import annotations

import builtins
import pickle
from typing import Any

from ._values.redaction import redacted


class S3dlioError(Exception):
    """Base class of every error of this library.

    Attributes:
        uncertain: how many attempts ended without an answer that tells whether they took effect; 0 where none did.
        attempts: how many times the request was sent or tried; 0 for what is no request's failure.
        elapsed: seconds from the first attempt to the end of the last; None where nothing was sent.
    """

    uncertain: int = 0
    attempts: int = 0
    elapsed: float | None = None

    def __init__(self, *args: Any) -> None:
        super().__init__(*(redacted(one) if isinstance(one, str) else one for one in args))

    def __reduce__(self) -> tuple[Any, ...]:
        """By what it was made from; every attribute goes with it, and its cause where that can be pickled."""
        return type(self), self._made_from(), self._state()

    def _made_from(self) -> tuple[Any, ...]:
        return self.args

    def _state(self) -> dict[str, Any]:
        """What `BaseException.__setstate__` sets on the error made anew."""
        state = dict(self.__dict__)
        cause = _that_travels(self.__cause__)
        if cause is not None:
            state["__cause__"] = cause
        return state


def _that_travels(cause: BaseException | None) -> BaseException | None:
    """A cause that another process can be given: ours and Python's own are, and of others nobody knows."""
    seen, one = set(), cause
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        one = one.__cause__
    if one is not None:  # a circle
        return None
    if cause is None or isinstance(cause, S3dlioError):
        return cause
    try:
        pickle.dumps(cause)
    except Exception:  # whatever its arguments are
        return None
    return cause if type(cause).__module__ in ("builtins", "ssl") else None


class ConfigurationError(S3dlioError, ValueError):
    """A setting, environment variable or configuration file holds a value that cannot be used."""


class OptionTypeError(ConfigurationError, TypeError):
    """An option has a value of the wrong type."""


class CredentialsError(S3dlioError):
    """No usable credentials were found, or they could not be refreshed."""


class UnsupportedUriError(S3dlioError, ValueError):
    """A URI is not of the form ``s3://bucket/key``."""


class ReservationError(S3dlioError):
    """`reserve`, `commit`, `write`, `flush` or `close` was called in the wrong order."""


class WriterClosedError(S3dlioError):
    """The writer was closed or aborted before this call, or while it waited."""


class ChecksumMismatchError(S3dlioError):
    """Bytes that arrived, or that the store says it has, differ from those that were sent."""


class ObjectChangedError(S3dlioError):
    """The object was replaced while it was being read; no mixture of versions is returned."""


class ForkedError(S3dlioError):
    """An object that belongs to the parent process was used in a forked child."""


class TransportError(S3dlioError, ConnectionError):
    """The connection could not be made, or broke, and retries did not cure it."""


class TimeoutError(TransportError, builtins.TimeoutError):
    """No progress was made within a deadline, and retries did not cure it."""


class S3Error(S3dlioError):
    """The store refused a request.

    Attributes:
        operation: S3 operation, for example ``"UploadPart"``.
        bucket: bucket name, or None for operations on the service.
        key: object key, or None for operations on a bucket.
        status: HTTP status of the answer.
        code: S3 error code, for example ``"NoSuchKey"``; None where the answer had none.
        message: the store's own words; None where the answer had none.
        request_id: the store's request id (``x-amz-request-id``).
        host_id: the store's host id (``x-amz-id-2``).
        upload_id: multipart upload the request belonged to.
        part_number: part the request carried, counted from 1.
        attempts: how many times the request was sent.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    """

    def __init__(
        self,
        operation: str,
        bucket: str | None = None,
        key: str | None = None,
        status: int | None = None,
        code: str | None = None,
        message: str | None = None,
        request_id: str | None = None,
        host_id: str | None = None,
        upload_id: str | None = None,
        part_number: int | None = None,
        attempts: int = 1,
    ) -> None:
        self.operation = operation
        self.bucket = bucket
        self.key = key
        self.status = status
        self.code = code
        self.message = None if message is None else redacted(message)
        self.request_id = request_id
        self.host_id = host_id
        self.upload_id = upload_id
        self.part_number = part_number
        self.attempts = attempts
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        place = "" if self.bucket is None else f" of s3://{self.bucket}" + (f"/{self.key}" if self.key else "")
        part = "" if self.part_number is None else f", part {self.part_number}"
        status = "" if self.status is None else f" with status {self.status}"
        code = f" ({self.code})" if self.code else ""
        message = f": {self.message.rstrip('.')}" if self.message else ""
        request = f", request id {self.request_id}" if self.request_id else ""
        tries = "" if self.attempts == 1 else f", after {self.attempts} attempts"
        if tries and self.elapsed is not None:
            tries += f" in {self.elapsed:.1f} s"
        return redacted(f"{self.operation}{place}{part} was refused{status}{code}{message}{request}{tries}")

    def __str__(self) -> str:
        # FileNotFoundError and PermissionError bring an OSError.__str__ that would print the bare arguments.
        return self._sentence()

    def _made_from(self) -> tuple[Any, ...]:
        return (
            self.operation, self.bucket, self.key, self.status, self.code, self.message, self.request_id, self.host_id,
            self.upload_id, self.part_number, self.attempts,
        )  # fmt: skip


class NotFoundError(S3Error, FileNotFoundError):
    """The bucket, object or upload does not exist (404)."""


class AccessDeniedError(S3Error, PermissionError):
    """The credentials do not allow the request (401 or 403)."""


class PreconditionFailedError(S3Error):
    """`if_match` or `if_none_match` did not hold (412), or a concurrent write conflicted (409)."""


class InvalidRangeError(S3Error):
    """The range begins at or past the end of the object (416).

    Attributes:
        object_size: bytes of the object, where the store told; else None.
    """

    object_size: int | None = None


class ThrottledError(S3Error):
    """The store asked for a slower pace (503 SlowDown, 429) until the attempts were used up."""
