"""Server-side copies on real stores: boto3 writes the source and reads the copy."""

from __future__ import annotations

import os
from typing import Any

import pytest

import s3dlio
from s3dlio._transfer import copying

MIB = 1 << 20
SMALL, LARGE = 1000, 12 * MIB + 5
DESCRIBED = {
    "ContentType": "image/png", "CacheControl": "no-cache", "ContentEncoding": "identity",
    "ContentDisposition": 'attachment; filename="a b.png"', "ContentLanguage": "en", "Metadata": {"made-by": "me"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _copies_in_parts_above_6_mib(monkeypatch: pytest.MonkeyPatch) -> None:
    """5 GiB would not fit the machine. The smallest part that stores take is 5 MiB."""
    monkeypatch.setattr(copying, "LARGEST_COPY", 6 * MIB)
    monkeypatch.setattr(copying, "PART_SIZE", 5 * MIB)


@pytest.mark.parametrize("size", [0, SMALL, LARGE])
def test_a_copy_is_described_as_its_source_whatever_its_size(store: Any, size: int) -> None:
    data = os.urandom(size)
    store.boto3.put_object(Bucket=store.bucket, Key="source", Body=data, Tagging="t%201=v+2&u=", **DESCRIBED)
    info = s3dlio.copy(store.uri("source"), store.uri("copy"))
    assert (info.total_bytes, info.parts) == (size, 3 if size == LARGE else 1)
    found = store.boto3.get_object(Bucket=store.bucket, Key="copy")
    assert found["Body"].read() == data
    assert {name: found[name] for name in DESCRIBED} == DESCRIBED
    assert info.etag == found["ETag"].strip('"')
    tags = store.boto3.get_object_tagging(Bucket=store.bucket, Key="copy")["TagSet"]
    assert sorted((one["Key"], one["Value"]) for one in tags) == [("t 1", "v 2"), ("u", "")]
    assert store.boto3.list_multipart_uploads(Bucket=store.bucket, Prefix="copy").get("Uploads", []) == []


@pytest.mark.parametrize(
    "key", ["a b", "a+b", "100%", "%41", "[x]", "é/日本", "a?b", "a#b", "dots.and..more/x", "'\"&<>"]
)
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_any_key_is_copied(store: Any, key: str, size: int) -> None:
    data = os.urandom(size)
    store.boto3.put_object(Bucket=store.bucket, Key=key, Body=data)
    s3dlio.copy(store.uri(key), store.uri("copy of " + key))
    assert store.boto3.get_object(Bucket=store.bucket, Key="copy of " + key)["Body"].read() == data


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_an_older_version_is_copied(store: Any, size: int) -> None:
    store.boto3.put_bucket_versioning(Bucket=store.bucket, VersioningConfiguration={"Status": "Enabled"})
    old = os.urandom(size)
    version = store.boto3.put_object(Bucket=store.bucket, Key="source", Body=old)["VersionId"]
    store.boto3.put_object(Bucket=store.bucket, Key="source", Body=b"newer")
    info = s3dlio.copy(store.uri("source"), store.uri("copy"), source_version_id=version)
    found = store.boto3.get_object(Bucket=store.bucket, Key="copy")
    assert found["Body"].read() == old
    assert info.version_id == found["VersionId"]


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_an_object_of_parts_is_copied(store: Any, size: int) -> None:
    data = os.urandom(11 * MIB)
    with s3dlio.MultipartUploadWriter.from_uri(store.uri("source"), part_size=5 * MIB, metadata={"a": "b"}) as writer:
        writer.write(data)
    s3dlio.copy(store.uri("source"), store.uri("copy"))
    found = store.boto3.get_object(Bucket=store.bucket, Key="copy")
    assert found["Body"].read() == data
    assert found["Metadata"] == {"a": "b"}


def test_what_is_missing_is_named(store: Any) -> None:
    with pytest.raises(s3dlio.NotFoundError, match="missing"):
        s3dlio.copy(store.uri("missing"), store.uri("copy"))
    store.boto3.put_object(Bucket=store.bucket, Key="source", Body=b"x")
    with pytest.raises(s3dlio.NotFoundError, match="no-such-bucket-of-ours"):
        s3dlio.copy(store.uri("source"), "s3://no-such-bucket-of-ours/copy")


@pytest.mark.parametrize(
    ("src", "dst", "fix"),
    [
        ("s3://b", "s3://b/k", "name one object"),
        ("s3://b/d/", "s3://b/k", "what lies below"),
        ("s3://b/k", "s3://b", "add its key, as in 's3://b/k'"),
        ("s3://b/d/k", "s3://b/e/", "add its key, as in 's3://b/e/k'"),
        ("s3://b/k", "file:///tmp/k", "s3://"),
    ],
)
def test_what_names_no_object_is_refused_with_the_fix(src: str, dst: str, fix: str) -> None:
    with pytest.raises(s3dlio.UnsupportedUriError, match=fix):
        s3dlio.copy(src, dst)
