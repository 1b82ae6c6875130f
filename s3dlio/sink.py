"""`MultipartUploadSink`: the blocking interface of the original library, over a `MultipartUploadWriter`.

It only renames the writer's calls.
"""

from dataclasses import fields

from ._s3.default import ClientLike
from .config import MultipartUploadConfig
from .options import Buffer, checks_names
from .results import UploadInfo
from .writer import MultipartUploadWriter


class MultipartUploadSink:
    """The blocking interface of the original library, over a `MultipartUploadWriter`.

    Args:
        bucket: bucket name.
        key: object key, used exactly as given.
        config: a `MultipartUploadConfig`; None for the defaults.
        client: a `Client`; None for the default one, built from the environment.

    Raises:
        TypeError: `config` is something else.

    Example:
        >>> config = s3dlio.MultipartUploadConfig(part_size=32 << 20, max_in_flight=32)
        >>> sink = s3dlio.MultipartUploadSink("my-bucket", "path/obj.bin", config)
        >>> sink.write_blocking(b"copied, "), sink.write_owned_blocking(bytearray(b"borrowed"))
        (8, 8)
        >>> sink.finish_blocking().total_bytes
        16
    """

    @checks_names()
    def __init__(
        self,
        bucket: str,
        key: str,
        config: MultipartUploadConfig | None = None,
        *,
        client: ClientLike | None = None,
    ) -> None:
        chosen = MultipartUploadConfig() if config is None else config
        if not isinstance(chosen, MultipartUploadConfig):
            raise TypeError(f"config is a {type(chosen).__name__}; give a MultipartUploadConfig")
        options = {field.name: getattr(chosen, field.name) for field in fields(chosen)}
        self._writer = MultipartUploadWriter(bucket, key, client=client, **options)

    def write_blocking(self, chunk: Buffer) -> int:
        """Appends a copy of `chunk`; see `MultipartUploadWriter.write`."""
        return self._writer.write(chunk)

    def write_owned_blocking(self, chunk: Buffer) -> int:
        """Appends `chunk` without a copy; the caller gives the buffer up and must not change it."""
        return self._writer.write(chunk, copy=False)

    def finish_blocking(self) -> UploadInfo:
        """Publishes the object; see `MultipartUploadWriter.close`."""
        return self._writer.close()

    def abort_blocking(self) -> None:
        """Abandons the object; see `MultipartUploadWriter.abort`."""
        self._writer.abort()
