"""All exceptions of s3dlio.

Any floor may raise them, so this module imports only `redaction`, which removes secrets from messages. A message names
the operation, the object and what the store reported.

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
    ├── ObjectExistsError (FileExistsError)
    ├── FileChangedError
    ├── UnsafePathError (ValueError)
    ├── DeletionRefusedError
    ├── ManyFailedError (ExceptionGroup)
    └── ForkedError
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

from ._values.redaction import redacted


class S3dlioError(Exception):
    """Base class of every error of this library.

    Attributes:
        uncertain: how many attempts ended without a response that says whether they took effect; 0 where none did.
        attempts: how many attempts were made; 0 for an error that is not about a request.
        elapsed: seconds from the first attempt to the end of the last; None where nothing was sent.

    Example:
        >>> try:
        ...     s3dlio.get("s3://my-bucket/nothing")
        ... except s3dlio.S3dlioError as error:
        ...     type(error).__name__, error.attempts, error.uncertain
        ('NotFoundError', 1, 0)
    """

    uncertain: int = 0
    attempts: int = 0
    elapsed: float | None = None

    def __init__(self, *args: Any) -> None:
        super().__init__(*(redacted(one) if isinstance(one, str) else one for one in args))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the constructor's arguments, every attribute, and the cause if another process can load it."""
        return type(self), self._constructor_arguments(), self._state()

    def _constructor_arguments(self) -> tuple[Any, ...]:
        return self.args

    def _state(self) -> dict[str, Any]:
        """The attributes that `BaseException.__setstate__` sets on the copy."""
        state = dict(self.__dict__)
        cause = _picklable_cause(self.__cause__)
        if cause is not None:
            state["__cause__"] = cause
        return state


def _picklable_cause(cause: BaseException | None) -> BaseException | None:
    """A cause that another process can unpickle: one of ours or of Python's own. Others may not be importable there."""
    seen, one = set(), cause
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        one = one.__cause__
    if one is not None:  # a cycle
        return None
    if cause is None or isinstance(cause, S3dlioError):
        return cause
    import pickle  # already loaded: the caller is pickling

    try:
        pickle.dumps(cause)
    except Exception:  # whatever its arguments are
        return None
    return cause if type(cause).__module__ in ("builtins", "ssl") else None


class ConfigurationError(S3dlioError, ValueError):
    """A setting, environment variable or configuration file has a value that cannot be used.

    Example:
        >>> s3dlio.put_bytes("s3://my-bucket/key", b"", max_in_flight=0)
        Traceback (most recent call last):
            ...
        s3dlio.ConfigurationError: max_in_flight=0 is outside 1 to 1024 parts
    """


class OptionTypeError(ConfigurationError, TypeError):
    """An option has a value of the wrong type."""


class CredentialsError(S3dlioError):
    """No usable credentials were found, or they could not be refreshed."""


class UnsupportedUriError(S3dlioError, ValueError):
    """A URI is not of the form ``s3://bucket/key``.

    Example:
        >>> try:
        ...     s3dlio.get("file:///etc/hosts")
        ... except s3dlio.UnsupportedUriError as error:
        ...     print(isinstance(error, ValueError))
        True
    """


class ReservationError(S3dlioError):
    """`reserve`, `commit`, `write`, `flush` or `close` was called in the wrong order.

    Example:
        >>> writer = s3dlio.MultipartUploadWriter.from_uri("s3://my-bucket/key")
        >>> view = writer.reserve(100)
        >>> writer.write(b"too early")
        Traceback (most recent call last):
            ...
        s3dlio.ReservationError: write() while a reservation is open; call commit(n) for it first (0 gives it back)
        >>> writer.abort()
    """


class WriterClosedError(S3dlioError):
    """The writer was closed or aborted before this call, or while it waited.

    Example:
        >>> writer = s3dlio.MultipartUploadWriter.from_uri("s3://my-bucket/key")
        >>> info = writer.close()
        >>> try:
        ...     writer.write(b"too late")
        ... except s3dlio.WriterClosedError as error:
        ...     print(writer.closed)
        True
    """


class ChecksumMismatchError(S3dlioError):
    """The bytes received, or those that the store reports, differ from the bytes that were sent."""


class ObjectChangedError(S3dlioError):
    """The object was replaced while it was being read; no mixture of versions is returned."""


class ObjectExistsError(S3dlioError, FileExistsError):
    """A file was opened with ``"xb"``, and there is an object under its URI.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/here", b"first")
        >>> try:
        ...     s3dlio.open("s3://my-bucket/here", "xb")
        ... except FileExistsError as error:
        ...     print(type(error).__name__)
        ObjectExistsError
    """


class FileChangedError(S3dlioError):
    """A local file was changed while it was being read; nothing of it was stored."""


class UnsafePathError(S3dlioError, ValueError):
    """A key cannot become a file below the target folder: it would leave it, or something is in its way.

    Example:
        >>> try:
        ...     s3dlio.download("s3://my-bucket/odd/..", "target/")
        ... except s3dlio.UnsafePathError as error:
        ...     print(str(error)[:55])
        's3://my-bucket/odd/..' is not stored: its name '..' ha
    """


class DeletionRefusedError(S3dlioError):
    """A sync would have deleted what it may not; it deleted nothing.

    Example:
        >>> infos = s3dlio.put_many([("s3://my-bucket/kept/a", b"1"), ("s3://my-bucket/kept/b", b"2")])
        >>> try:
        ...     s3dlio.sync("s3://my-bucket/no-source/", "s3://my-bucket/kept/", delete=True)
        ... except s3dlio.DeletionRefusedError as error:
        ...     print(str(error)[:60])
        's3://my-bucket/no-source/' is empty, so everything in 's3:/
    """


class ForkedError(S3dlioError):
    """An object that belongs to the parent process was used in a forked child."""


class ManyFailedError(ExceptionGroup[Exception], S3dlioError):
    """Some of many objects failed; ``except*`` takes the errors apart by their classes.

    Attributes:
        exceptions: the errors, in the order of `failed`, each once.
        succeeded: URIs of the objects with which all went well.
        failed: the error of each other object, by its URI.

    Example:
        >>> try:
        ...     s3dlio.delete("s3://my-bucket/run/", recursive=True)
        ... except s3dlio.ManyFailedError as error:
        ...     print(sorted(error.failed))
        0
    """

    def __new__(cls, message: str, succeeded: list[str], failed: dict[str, Exception]) -> ManyFailedError:
        return super().__new__(cls, redacted(message), list({id(one): one for one in failed.values()}.values()))

    def __init__(self, message: str, succeeded: list[str], failed: dict[str, Exception]) -> None:
        self.succeeded = succeeded
        self.failed = failed

    def derive(self, excs: Sequence[Exception]) -> ExceptionGroup[Exception]:  # type: ignore[override]
        """What ``except*`` makes of a part of it."""
        wanted = {id(one) for one in excs}
        failed = {uri: one for uri, one in self.failed.items() if id(one) in wanted}
        return ManyFailedError(self.message, self.succeeded, failed) if failed else ExceptionGroup(self.message, excs)

    def _constructor_arguments(self) -> tuple[Any, ...]:
        return self.message, self.succeeded, self.failed


class TransportError(S3dlioError, ConnectionError):
    """The connection could not be made, or broke, and retries did not help.

    Example:
        >>> client = s3dlio.Client(endpoint_url="http://127.0.0.1:1", retries=s3dlio.RetryPolicy(max_attempts=1))
        >>> try:
        ...     client.stat("s3://my-bucket/key")
        ... except s3dlio.TransportError as error:
        ...     isinstance(error, ConnectionError), error.attempts
        (True, 1)
    """


class TimeoutError(TransportError, builtins.TimeoutError):
    """No progress was made within a deadline, and retries did not help."""


class S3Error(S3dlioError):
    """The store refused a request.

    Attributes:
        operation: S3 operation, for example ``"UploadPart"``.
        bucket: bucket name, or None for operations on the service.
        key: object key, or None for operations on a bucket.
        status: HTTP status of the response.
        code: S3 error code, for example ``"NoSuchKey"``; None where the response had none.
        message: the store's own message; None where the response had none.
        request_id: the store's request id (``x-amz-request-id``).
        host_id: the store's host id (``x-amz-id-2``).
        upload_id: multipart upload the request belonged to.
        part_number: part the request carried, counted from 1.
        attempts: how many attempts were made.

    Example:
        >>> try:
        ...     s3dlio.get("s3://my-bucket/nothing")
        ... except s3dlio.S3Error as error:
        ...     error.operation, error.bucket, error.key, error.status, error.code
        ('GetObject', 'my-bucket', 'nothing', 404, 'NoSuchKey')

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
        target = "" if self.bucket is None else f" of s3://{self.bucket}" + (f"/{self.key}" if self.key else "")
        part = "" if self.part_number is None else f", part {self.part_number}"
        status = "" if self.status is None else f" with status {self.status}"
        code = f" ({self.code})" if self.code else ""
        message = f": {self.message.rstrip('.')}" if self.message else ""
        request = f", request id {self.request_id}" if self.request_id else ""
        tries = "" if self.attempts == 1 else f", after {self.attempts} attempts"
        if tries and self.elapsed is not None:
            tries += f" in {self.elapsed:.1f} s"
        return redacted(f"{self.operation}{target}{part} was refused{status}{code}{message}{request}{tries}")

    def __str__(self) -> str:
        # FileNotFoundError and PermissionError inherit OSError.__str__, which would print the bare arguments.
        return self._sentence()

    def _constructor_arguments(self) -> tuple[Any, ...]:
        return (
            self.operation, self.bucket, self.key, self.status, self.code, self.message, self.request_id, self.host_id,
            self.upload_id, self.part_number, self.attempts,
        )  # fmt: skip


class NotFoundError(S3Error, FileNotFoundError):
    """The bucket, object or upload does not exist (404).

    Example:
        >>> try:
        ...     s3dlio.stat("s3://my-bucket/nothing")
        ... except FileNotFoundError as error:
        ...     type(error).__name__
        'NotFoundError'
    """


class AccessDeniedError(S3Error, PermissionError):
    """The credentials do not allow the request (401 or 403)."""


class PreconditionFailedError(S3Error):
    """`if_match` or `if_none_match` did not hold (412), or a concurrent write conflicted (409).

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/key", b"first")
        >>> try:
        ...     s3dlio.put_bytes("s3://my-bucket/key", b"second", if_none_match="*")
        ... except s3dlio.PreconditionFailedError as error:
        ...     error.status
        412
    """


class InvalidRangeError(S3Error):
    """The range begins at or past the end of the object (416).

    Attributes:
        object_size: bytes of the object, where the store reported it; else None.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/key", b"content")
        >>> try:
        ...     s3dlio.get_range("s3://my-bucket/key", 100)
        ... except s3dlio.InvalidRangeError as error:
        ...     error.status
        416
    """

    object_size: int | None = None


class ThrottledError(S3Error):
    """The store asked for fewer requests (503 SlowDown, 429) until no attempts were left."""
