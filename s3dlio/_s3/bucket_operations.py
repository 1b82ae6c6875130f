"""CreateBucket and DeleteBucket.

Sources: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html and
https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucket.html
"""

from __future__ import annotations

from ..errors import S3Error
from . import xml
from .requests import Request
from .service import Service

# The region whose buckets name none.
_FIRST_REGION = "us-east-1"


def create_bucket(service: Service, bucket: str) -> bool:
    """Creates a bucket in the client's region; False if it is the caller's already.

    Raises:
        S3Error: somebody else owns it, or its name is not allowed.
    """
    region = service.region
    body = () if region == _FIRST_REGION else (xml.bucket_document(region),)
    try:
        service.call(Request("CreateBucket", "PUT", bucket, body=body))
    except S3Error as error:
        if error.code == "BucketAlreadyOwnedByYou":
            return False
        raise
    return True


def delete_bucket(service: Service, bucket: str) -> None:
    """Deletes an empty bucket.

    Raises:
        NotFoundError: there is none.
        S3Error: it is not empty (code ``BucketNotEmpty``).
    """
    service.call(Request("DeleteBucket", "DELETE", bucket))
