"""Presigned URLs, used by a plain client that has no credentials."""

from __future__ import annotations

import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import s3dlio
from s3dlio._net.addresses import Location
from s3dlio._s3.default import service_of
from s3dlio._s3.presigned import presign


def send(presigned: s3dlio.PresignedUrl, data: bytes | None = None, **headers: str) -> Any:
    request = urllib.request.Request(
        presigned.url, data=data, method=presigned.method, headers={**presigned.headers, **headers}
    )
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request)


@pytest.mark.parametrize("key", ["plain", "a b+c/%41&<>~\u00e9.txt"])
def test_anybody_with_the_url_can_do_what_it_is_for_and_nothing_else(minio: Any, key: str) -> None:
    uri = minio.uri(key)
    with send(s3dlio.presign(uri, method="PUT"), b"content"):
        assert minio.read(key) == b"content"
    with send(s3dlio.presign(uri, response_headers={"content-disposition": "attachment; filename=x"})) as response:
        assert (response.read(), response.headers["content-disposition"]) == (b"content", "attachment; filename=x")
    with send(s3dlio.presign(uri, method="HEAD")) as response:
        assert response.headers["content-length"] == "7"
    other = s3dlio.presign(uri, method="DELETE")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        send(s3dlio.PresignedUrl(other.url, "GET", {}, other.expires_at))
    with send(other) as response:
        assert response.status == 204
    assert not s3dlio.exists(uri)


def test_a_signed_header_has_to_be_sent(minio: Any) -> None:
    presigned = s3dlio.presign(minio.uri("k"), method="PUT", headers={"content-type": "image/png"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        send(s3dlio.PresignedUrl(presigned.url, "PUT", {"content-type": "text/plain"}, presigned.expires_at), b"x")
    with send(presigned, b"x"):
        assert minio.head("k")["ContentType"] == "image/png"


def test_a_version_can_be_named(minio: Any) -> None:
    minio.boto3.put_bucket_versioning(Bucket=minio.bucket, VersioningConfiguration={"Status": "Enabled"})
    first = minio.boto3.put_object(Bucket=minio.bucket, Key="k", Body=b"1")["VersionId"]
    minio.boto3.put_object(Bucket=minio.bucket, Key="k", Body=b"2")
    with send(s3dlio.presign(minio.uri("k"), version_id=first)) as response:
        assert response.read() == b"1"


def test_an_expired_url_is_refused(minio: Any) -> None:
    s3dlio.put_bytes(minio.uri("k"), b"x")
    past = datetime.now(UTC) - timedelta(seconds=120)
    url, end = presign(
        service_of(None), Location(minio.bucket, "k"), method="GET", seconds=60, query=[], headers={}, now=past
    )
    assert end < datetime.now(UTC)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        send(s3dlio.PresignedUrl(url, "GET", {}, end))


def test_a_url_of_the_embedded_server_works_too(embedded: Any) -> None:
    s3dlio.put_bytes(embedded.uri("k"), b"x")
    with send(s3dlio.presign(embedded.uri("k"))) as response:
        assert response.read() == b"x"
