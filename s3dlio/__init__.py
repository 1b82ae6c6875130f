"""Moves NumPy-sized data to and from S3-compatible object stores, without copies and without losses."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._face import *

__version__ = "0.1.0"

__all__ = [
    "AccessDeniedError",
    "BucketInfo",
    "BytesView",
    "ChecksumMismatchError",
    "Client",
    "ConfigurationError",
    "CredentialsError",
    "DeletionRefusedError",
    "FileChangedError",
    "ForkedError",
    "GetOptions",
    "InvalidRangeError",
    "ManyFailedError",
    "MultipartUploadConfig",
    "MultipartUploadSink",
    "MultipartUploadWriter",
    "NotFoundError",
    "ObjectChangedError",
    "ObjectChunks",
    "ObjectColumns",
    "ObjectExistsError",
    "ObjectInfo",
    "ObjectIterator",
    "ObjectPage",
    "ObjectReader",
    "ObjectWriter",
    "PreconditionFailedError",
    "PresignedUrl",
    "Progress",
    "ProgressEvent",
    "PutManyOptions",
    "PyBytesAsyncDataLoader",
    "PyDataset",
    "PyObjectItem",
    "PyObjectItems",
    "ReservationError",
    "RetryPolicy",
    "S3Error",
    "S3dlioError",
    "SkippedFile",
    "SyncAction",
    "SyncResult",
    "ThrottledError",
    "TimeoutError",
    "Timeouts",
    "TransferResult",
    "TransferredFile",
    "TransportError",
    "UnsafePathError",
    "UnsupportedUriError",
    "UploadInfo",
    "UploadOptions",
    "UploadSummary",
    "VersionInfo",
    "VersionIterator",
    "WriterClosedError",
    "abort_uploads",
    "configure_s3",
    "configure_tokio_threads",
    "copy",
    "create_bucket",
    "delete",
    "delete_all_versions",
    "delete_bucket",
    "download",
    "exists",
    "get",
    "get_into",
    "get_iter",
    "get_many",
    "get_many_stats",
    "get_range",
    "init_logging",
    "iter_objects",
    "list",
    "list_buckets",
    "list_full_uris",
    "list_keys",
    "list_uploads",
    "list_versions",
    "mkdir",
    "mp_get",
    "open",
    "presign",
    "put_bytes",
    "put_many",
    "stat",
    "sync",
    "upload",
]

if not TYPE_CHECKING:  # a type checker would take any name for one of the package

    def __getattr__(name: str) -> Any:
        """Loads all public names when one is first used, so that the command can answer ``--help`` without them."""
        if name.startswith("_"):  # the import below asks for `_face`, too
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import _face

        for public in __all__:
            # Callers import these names from here, so tracebacks, documentation and pickles name this module too.
            one = globals()[public] = getattr(_face, public)
            if one.__module__ != __name__:
                one.__module__ = __name__
        if name not in globals():
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals()[name]

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
