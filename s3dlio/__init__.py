"""Moves NumPy-sized data to and from S3-compatible object stores, without copies and without losses."""

from ._memory.bytes_view import BytesView
from .buckets import BucketInfo, create_bucket, delete_bucket, list_buckets
from .client import Client
from .config import MultipartUploadConfig, RetryPolicy, Timeouts
from .copying import copy
from .deletion import delete
from .errors import (
    AccessDeniedError,
    ChecksumMismatchError,
    ConfigurationError,
    CredentialsError,
    ForkedError,
    InvalidRangeError,
    ManyFailedError,
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
from .listing import ObjectColumns, ObjectIterator, ObjectPage, exists, iter_objects, list
from .objects import put_bytes, put_many, stat
from .options import GetOptions, PutManyOptions, UploadOptions
from .presigning import PresignedUrl, presign
from .progress import Progress, ProgressEvent
from .reader import get, get_into, get_many, get_range
from .results import ObjectInfo, UploadInfo, UploadSummary
from .sink import MultipartUploadSink
from .uploads import abort_uploads, list_uploads
from .versions import VersionInfo, VersionIterator, delete_all_versions, list_versions
from .writer import MultipartUploadWriter

__version__ = "0.1.0"

__all__ = [
    "AccessDeniedError",
    "BucketInfo",
    "BytesView",
    "ChecksumMismatchError",
    "Client",
    "ConfigurationError",
    "CredentialsError",
    "ForkedError",
    "GetOptions",
    "InvalidRangeError",
    "ManyFailedError",
    "MultipartUploadConfig",
    "MultipartUploadSink",
    "MultipartUploadWriter",
    "NotFoundError",
    "ObjectChangedError",
    "ObjectColumns",
    "ObjectInfo",
    "ObjectIterator",
    "ObjectPage",
    "PreconditionFailedError",
    "PresignedUrl",
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
    "VersionInfo",
    "VersionIterator",
    "WriterClosedError",
    "abort_uploads",
    "copy",
    "create_bucket",
    "delete",
    "delete_all_versions",
    "delete_bucket",
    "exists",
    "get",
    "get_into",
    "get_many",
    "get_range",
    "iter_objects",
    "list",
    "list_buckets",
    "list_uploads",
    "list_versions",
    "presign",
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
