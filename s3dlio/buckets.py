"""Buckets: create, delete and list them."""

from dataclasses import dataclass
from datetime import datetime

from ._net.addresses import SCHEME, check_location, parse_uri
from ._s3 import bucket_operations, object_listings
from ._s3.default import ClientLike, service_of
from .errors import UnsupportedUriError
from .options import checks_names


@dataclass(frozen=True)
class BucketInfo:
    """A bucket.

    Attributes:
        name: its name.
        created_at: an aware datetime in UTC, or None where the store reports none.

    Example:
        >>> [found.name for found in s3dlio.list_buckets() if found.name == "my-bucket"]
        ['my-bucket']
    """

    name: str
    created_at: datetime | None


@checks_names()
def create_bucket(name_or_uri: str, *, client: ClientLike | None = None) -> bool:
    """Creates a bucket in the client's region.

    Args:
        name_or_uri: ``bucket`` or ``s3://bucket``.
        client: a `Client`; None for the default one, built from the environment.

    Returns:
        False if it was yours already. In us-east-1, S3 reports that as a success: the result is True.

    Raises:
        UnsupportedUriError: this is no name of a bucket.
        S3Error: the store refused; somebody else may own it (code ``BucketAlreadyExists``).
        TransportError: the store could not be reached.

    Example:
        >>> s3dlio.create_bucket("another-bucket")
        True
        >>> s3dlio.delete_bucket("another-bucket")

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html
    """
    return bucket_operations.create_bucket(service_of(client), _bucket(name_or_uri))


@checks_names()
def delete_bucket(name_or_uri: str, *, client: ClientLike | None = None) -> None:
    """Deletes an empty bucket. To empty it, ``delete("s3://bucket/", recursive=True)``.

    Args:
        name_or_uri: ``bucket`` or ``s3://bucket``.
        client: a `Client`; None for the default one, built from the environment.

    Raises:
        UnsupportedUriError: this is no name of a bucket.
        NotFoundError: there is none.
        S3Error: the store refused; it may not be empty (code ``BucketNotEmpty``).
        TransportError: the store could not be reached.

    Example:
        >>> s3dlio.create_bucket("short-lived")
        True
        >>> s3dlio.delete("s3://short-lived/", recursive=True)
        0
        >>> s3dlio.delete_bucket("s3://short-lived")

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucket.html
    """
    bucket_operations.delete_bucket(service_of(client), _bucket(name_or_uri))


@checks_names()
def list_buckets(*, client: ClientLike | None = None) -> list[BucketInfo]:
    """Lists the buckets that the credentials own, in the order of the store.

    Args:
        client: a `Client`; None for the default one, built from the environment.

    Raises:
        S3Error, TransportError: the store refused, or could not be reached.

    Example:
        >>> [found.name for found in s3dlio.list_buckets() if found.name == "my-bucket"]
        ['my-bucket']

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListBuckets.html
    """
    pages = object_listings.list_buckets(service_of(client))
    return [BucketInfo(one.name, one.created) for page in pages for one in page.buckets]


def _bucket(name_or_uri: str) -> str:
    if isinstance(name_or_uri, str) and name_or_uri[: len(SCHEME)].lower() == SCHEME:
        location = parse_uri(name_or_uri, require_key=False)
        if location.key:
            raise UnsupportedUriError(f"{name_or_uri!r} names more than a bucket; write 's3://{location.bucket}'")
        return location.bucket
    return check_location(name_or_uri, "", require_key=False).bucket
