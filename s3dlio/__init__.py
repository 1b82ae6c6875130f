"""Moves NumPy-sized data to and from S3-compatible object stores, without copies and without losses."""

from ._memory.bytes_view import BytesView
from .client import Client
from .config import MultipartUploadConfig, RetryPolicy, Timeouts
from .errors import (
    AccessDeniedError,
    ChecksumMismatchError,
    ConfigurationError,
    CredentialsError,
    ForkedError,
    InvalidRangeError,
    NotFoundError,
    ObjectChangedError,
    PreconditionFailedError,
    ReservationError,
    S3dlioError,
    S3Error,
    ThrottledError,
    TimeoutError,
    TransportError,
    UnsupportedUriError,
    WriterClosedError,
)
from .objects import put_bytes, put_many, stat
from .options import GetOptions, PutManyOptions, UploadOptions
from .progress import Progress, ProgressEvent
from .reader import get, get_into, get_many, get_range
from .results import ObjectInfo, UploadInfo, UploadSummary
from .sink import MultipartUploadSink
from .uploads import abort_uploads, list_uploads
from .writer import MultipartUploadWriter

__version__ = "0.1.0"

__all__ = [
    "AccessDeniedError",
    "BytesView",
    "ChecksumMismatchError",
    "Client",
    "ConfigurationError",
    "CredentialsError",
    "ForkedError",
    "GetOptions",
    "InvalidRangeError",
    "MultipartUploadConfig",
    "MultipartUploadSink",
    "MultipartUploadWriter",
    "NotFoundError",
    "ObjectChangedError",
    "ObjectInfo",
    "PreconditionFailedError",
    "Progress",
    "ProgressEvent",
    "PutManyOptions",
    "ReservationError",
    "RetryPolicy",
    "S3Error",
    "S3dlioError",
    "ThrottledError",
    "TimeoutError",
    "Timeouts",
    "TransportError",
    "UnsupportedUriError",
    "UploadInfo",
    "UploadOptions",
    "UploadSummary",
    "WriterClosedError",
    "abort_uploads",
    "get",
    "get_into",
    "get_many",
    "get_range",
    "list_uploads",
    "put_bytes",
    "put_many",
    "stat",
]

# Callers import these names from here, so tracebacks, documentation and pickles name this module too.
for _name in __all__:
    _public = globals()[_name]
    if _public.__module__ != __name__:
        _public.__module__ = __name__
del _name, _public
