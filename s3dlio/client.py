"""The public `Client`: explicit settings, and every function of the package as a method.

It adds no behaviour of its own; each method passes itself on as `client`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from . import objects, reader, uploads
from ._memory.bytes_view import BytesView
from ._s3.service import Service
from ._values.redaction import redacted
from .config import ClientSettings, MultipartUploadConfig, RetryPolicy, Timeouts
from .results import UploadInfo
from .writer import MultipartUploadSink, MultipartUploadWriter


class Client:
    """Settings of one store. What is None comes from the environment and botocore's chain.

    It pickles and copies by what it was told, without connections and what it has learned. So credentials that were
    given as a tuple travel with it; those that the environment, the shared files or a provider gave never do, and are
    looked up where it arrives.

    Args:
        endpoint_url: ``https://host[:port]``; None for ``AWS_ENDPOINT_URL_S3``, ``AWS_ENDPOINT_URL``, the profile, AWS.
        region: region to sign for.
        profile: profile of the shared files.
        credentials: (access key, secret key[, session token]), ``"anonymous"``, or None.
        addressing_style: ``"path"``, ``"virtual"``, or ``"auto"``: the profile's, else virtual at Amazon's endpoints.
        verify: False accepts any TLS certificate, with a warning.
        ca_bundle: path of a PEM file, or of a directory of them, with the authorities to trust; ``~`` is one's home.
        max_connections: a cap on connections to one host; None for no cap.
        checksum_fallback: where the store clearly refuses a checksum algorithm, use the next of crc64nvme, crc32c,
            crc32, none; False raises the refusal instead.
        timeouts: `Timeouts`, seconds without progress.
        retries: `RetryPolicy`; None for the default with as many attempts as ``AWS_MAX_ATTEMPTS`` or the profile says.

    Raises:
        ConfigurationError: a value cannot be used.
    """

    def __init__(
        self,
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        credentials: Any = None,
        addressing_style: str = "auto",
        verify: bool = True,
        ca_bundle: str | None = None,
        max_connections: int | None = None,
        checksum_fallback: bool = True,
        timeouts: Timeouts | None = None,
        retries: RetryPolicy | None = None,
    ) -> None:
        self._settings = ClientSettings(
            endpoint_url=endpoint_url,
            region=region,
            profile=profile,
            credentials=credentials,
            addressing_style=addressing_style,
            verify=verify,
            ca_bundle=ca_bundle,
            max_connections=max_connections,
            checksum_fallback=checksum_fallback,
            timeouts=timeouts or Timeouts(),
            retries=retries,
        )
        self._service = Service(self._settings)

    def __getstate__(self) -> ClientSettings:
        return self._settings

    def __setstate__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._service = Service(settings)

    @property
    def service(self) -> Service:
        """What runs this client's requests (internal)."""
        return self._service

    def close(self) -> None:
        """Closes idle connections; the client stays usable."""
        self._service.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return redacted(f"Client(endpoint_url={self._settings.endpoint_url!r}, region={self._settings.region!r})")

    def writer(self, uri: str, **options: Any) -> MultipartUploadWriter:
        """A `MultipartUploadWriter` of the object `uri`."""
        return MultipartUploadWriter.from_uri(uri, client=self, **options)

    def sink(self, bucket: str, key: str, config: MultipartUploadConfig | None = None) -> MultipartUploadSink:
        """A `MultipartUploadSink`."""
        return MultipartUploadSink(bucket, key, config, client=self)

    def get(self, uri: str, **options: Any) -> BytesView:
        """See `s3dlio.get`."""
        return reader.get(uri, client=self, **options)

    def get_range(self, uri: str, offset: int, length: int | None = None, **options: Any) -> BytesView:
        """See `s3dlio.get_range`."""
        return reader.get_range(uri, offset, length, client=self, **options)

    def get_into(self, uri: str, buffer: Any, **options: Any) -> int:
        """See `s3dlio.get_into`."""
        return reader.get_into(uri, buffer, client=self, **options)

    def get_many(self, uris: Sequence[str], **options: Any) -> list[tuple[str, Any]]:
        """See `s3dlio.get_many`."""
        return reader.get_many(uris, client=self, **options)

    def put_bytes(self, uri: str, data: Any, **options: Any) -> UploadInfo:
        """See `s3dlio.put_bytes`."""
        return objects.put_bytes(uri, data, client=self, **options)

    def put_many(self, items: Sequence[tuple[str, Any]], **options: Any) -> list[Any]:
        """See `s3dlio.put_many`."""
        return objects.put_many(items, client=self, **options)

    def resume(self, uri: str, upload_id: str, **options: Any) -> MultipartUploadWriter:
        """See `MultipartUploadWriter.resume`."""
        return MultipartUploadWriter.resume(uri, upload_id, client=self, **options)

    def list_uploads(self, uri: str) -> list[uploads.UploadSummary]:
        """See `s3dlio.list_uploads`."""
        return uploads.list_uploads(uri, client=self)

    def abort_uploads(self, uri: str, *, older_than: timedelta | float) -> list[uploads.UploadSummary]:
        """See `s3dlio.abort_uploads`."""
        return uploads.abort_uploads(uri, older_than=older_than, client=self)

    def stat(self, uri: str, *, version_id: str | None = None) -> objects.ObjectInfo:
        """See `s3dlio.stat`."""
        return objects.stat(uri, version_id=version_id, client=self)
