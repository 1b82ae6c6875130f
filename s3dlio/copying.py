"""Copies an object within a store, without its bytes coming here."""

from ._net.addresses import Location, parse_uri
from ._s3.default import ClientLike, service_of
from ._s3.selection import select_one
from ._transfer.copying import Copying
from ._values.checks import check_version_id
from .errors import UnsupportedUriError
from .options import checks_names
from .results import UploadInfo


@checks_names()
def copy(src: str, dst: str, *, source_version_id: str | None = None, client: ClientLike | None = None) -> UploadInfo:
    """Copies an object within a store; the store moves the bytes.

    Content headers, metadata, tags and storage class are those of the source, at any size. Above 5 GiB the copy is a
    multipart upload whose parts the store copies in parallel; one that fails is aborted. All bytes are of one version,
    which every request names by its ETag. Access rules (ACL) are not copied.

    Args:
        src: ``s3://bucket/key``.
        dst: ``s3://bucket/key``, of the same store. An object there is replaced.
        source_version_id: a version other than the current one.
        client: a `Client`; None for the default one, built from the environment.

    Returns:
        What the store reports. `UploadInfo.checksum_confirmed` says that it reported the source's checksum for the
        copy; without that, `UploadInfo.checksum` is None.

    Raises:
        UnsupportedUriError: a URI does not name one object.
        NotFoundError: there is no such object, version or bucket.
        ObjectChangedError: the source was replaced meanwhile.
        S3Error, TransportError: the store refused, or could not be reached. An archived source has to be restored first
            (code ``InvalidObjectState``).

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/first", b"content", metadata={"made-by": "me"})
        >>> s3dlio.copy("s3://my-bucket/first", "s3://my-bucket/second").total_bytes
        7
        >>> s3dlio.stat("s3://my-bucket/second").metadata
        {'made-by': 'me'}

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
    """
    source, destination = select_one(src), _destination(src, dst)
    if source_version_id is not None:
        check_version_id(source_version_id)
    return UploadInfo(**Copying(service_of(client), source, source_version_id, destination).run())


def _destination(src: str, dst: str) -> Location:
    location = parse_uri(dst, require_key=False)
    if not location.key or location.key.endswith("/"):
        name = src.rpartition("/")[2]
        raise UnsupportedUriError(f"{dst!r} names no object; add its key, as in {dst.rstrip('/') + '/' + name!r}")
    return location
