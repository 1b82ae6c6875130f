"""Moves NumPy-sized data to and from S3-compatible object stores, without copies and without losses."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._face import *

__version__ = "0.1.0"

__all__ = [
    "AccessDeniedError",
    "AsyncBatches",
    "AsyncMultipartUploadWriter",
    "AsyncObjectChunks",
    "AsyncObjectIterator",
    "AsyncObjectReader",
    "AsyncObjectWriter",
    "AsyncOpening",
    "AsyncVersionIterator",
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
    "abort_uploads_async",
    "configure_s3",
    "configure_tokio_threads",
    "copy",
    "copy_async",
    "create_bucket",
    "create_bucket_async",
    "delete",
    "delete_all_versions",
    "delete_all_versions_async",
    "delete_async",
    "delete_bucket",
    "delete_bucket_async",
    "download",
    "download_async",
    "exists",
    "exists_async",
    "get",
    "get_async",
    "get_into",
    "get_into_async",
    "get_iter",
    "get_iter_async",
    "get_many",
    "get_many_async",
    "get_many_stats",
    "get_many_stats_async",
    "get_range",
    "get_range_async",
    "init_logging",
    "iter_objects",
    "iter_objects_async",
    "list",
    "list_async",
    "list_buckets",
    "list_buckets_async",
    "list_full_uris",
    "list_full_uris_async",
    "list_keys",
    "list_keys_async",
    "list_uploads",
    "list_uploads_async",
    "list_versions",
    "list_versions_async",
    "mkdir",
    "mkdir_async",
    "mp_get",
    "open",
    "open_async",
    "presign",
    "presign_async",
    "put_bytes",
    "put_bytes_async",
    "put_many",
    "put_many_async",
    "stat",
    "stat_async",
    "sync",
    "sync_async",
    "upload",
    "upload_async",
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
