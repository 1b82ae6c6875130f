"""Listing, existence, deletion and buckets on real stores, with boto3 as the independent writer and reader."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import s3dlio

KEYS = ["a b+c.txt", "d.bak", "d/e/f.npy", "d/x.npy", "d/y.txt", "e\u0301/%41&<>.npy", "z"]


@pytest.fixture
def filled(store: Any) -> Any:
    for key in KEYS:
        store.boto3.put_object(Bucket=store.bucket, Key=key, Body=key.encode())
    return store


def keys_of(store: Any) -> list[str]:
    return [one["Key"] for one in store.boto3.list_objects_v2(Bucket=store.bucket).get("Contents", [])]


def test_a_listing_is_what_boto3_lists(filled: Any) -> None:
    listed = filled.boto3.list_objects_v2(Bucket=filled.bucket)["Contents"]
    found = list(s3dlio.iter_objects(f"s3://{filled.bucket}"))
    assert [(one.uri, one.size, one.etag) for one in found] == [
        (filled.uri(one["Key"]), one["Size"], one["ETag"].strip('"')) for one in listed
    ]
    for one, theirs in zip(found, listed, strict=True):
        assert one.last_modified is not None
        assert abs((one.last_modified - theirs["LastModified"]).total_seconds()) < 1
    columns = s3dlio.iter_objects(f"s3://{filled.bucket}").columns()
    assert [columns.uri(index) for index in range(len(columns))] == [one.uri for one in found]
    assert columns.sizes.tolist() == [one.size for one in found]
    assert columns.modified.dtype == np.dtype("datetime64[ms]")


def test_one_level_shows_common_prefixes(filled: Any) -> None:
    listed = filled.boto3.list_objects_v2(Bucket=filled.bucket, Delimiter="/")
    expected = [one["Key"] for one in listed["Contents"]] + [one["Prefix"] for one in listed["CommonPrefixes"]]
    assert s3dlio.list(f"s3://{filled.bucket}") == sorted(filled.uri(one) for one in expected)
    assert s3dlio.list(filled.uri("d/")) == [filled.uri(one) for one in ("d/e/", "d/x.npy", "d/y.txt")]
    (page,) = s3dlio.iter_objects(filled.uri("d/"), recursive=False).pages()
    assert ([one.uri for one in page.objects], page.prefixes) == (
        [filled.uri("d/x.npy"), filled.uri("d/y.txt")], [filled.uri("d/e/")],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("uri", "options", "chosen"),
    [
        ("d", {}, []),
        ("z", {}, ["z"]),
        ("d/x.npy", {}, ["d/x.npy"]),
        ("d/*.npy", {}, ["d/x.npy"]),
        ("d/**.npy", {}, ["d/e/f.npy", "d/x.npy"]),
        ("**/*.npy", {"pattern": "f|%"}, ["d/e/f.npy", "e\u0301/%41&<>.npy"]),
        ("", {"start_after": "d/x.npy"}, ["d/y.txt", "e\u0301/%41&<>.npy", "z"]),
        ("none/", {}, []),
    ],
)
def test_a_uri_selects_an_object_a_prefix_or_a_glob(
    filled: Any, uri: str, options: dict[str, str], chosen: list[str]
) -> None:
    assert [one.uri for one in s3dlio.iter_objects(filled.uri(uri), **options)] == [filled.uri(one) for one in chosen]


def test_a_name_is_no_prefix_of_others(store: Any) -> None:
    store.boto3.put_object(Bucket=store.bucket, Key="folder/key", Body=b"x")
    for name in ("f", "fold", "folder"):
        assert s3dlio.list(store.uri(name)) == []
        (page,) = s3dlio.iter_objects(store.uri(name), recursive=False).pages()
        assert (page.objects, page.prefixes) == ([], [])


def test_2500_objects_come_in_pages(store: Any) -> None:
    items = [(store.uri(f"many/{number:05}"), b"x") for number in range(2500)]
    s3dlio.put_many(items)
    pages = list(s3dlio.iter_objects(store.uri("many/")).pages())
    assert [len(page.objects) for page in pages] == [1000, 1000, 500]
    assert [one.uri for page in pages for one in page.objects] == [uri for uri, _ in items]
    assert s3dlio.delete(store.uri("many/"), recursive=True) == 2500
    assert keys_of(store) == []


def test_exists_says_what_boto3_sees(filled: Any) -> None:
    assert [s3dlio.exists(filled.uri(one)) for one in (*KEYS, "d", "d/", "none")[:-2]] == [True] * len(KEYS) + [False]
    assert not s3dlio.exists(filled.uri("none"))
    with pytest.raises(s3dlio.UnsupportedUriError):
        s3dlio.exists(filled.uri("d/"))


def test_deleting_one_object_leaves_its_siblings(filled: Any) -> None:
    assert s3dlio.delete(filled.uri("z")) == 1
    assert s3dlio.delete(filled.uri("d")) == 1  # missing is success, and d.bak and d/x.npy are others
    assert keys_of(filled) == KEYS[:-1]
    assert s3dlio.delete(filled.uri("d/*.npy")) == 1
    assert s3dlio.delete(filled.uri("d/"), recursive=True) == 2
    assert keys_of(filled) == ["a b+c.txt", "d.bak", "e\u0301/%41&<>.npy"]
    assert s3dlio.delete(f"s3://{filled.bucket}/", recursive=True) == 3
    assert keys_of(filled) == []


def test_several_objects_are_deleted_by_their_names(filled: Any) -> None:
    other = f"{filled.bucket}-other"
    filled.boto3.create_bucket(Bucket=other)
    filled.boto3.put_object(Bucket=other, Key="*", Body=b"x")
    uris = [filled.uri("z"), f"s3://{other}/*", filled.uri("d/x.npy"), filled.uri("none"), filled.uri("z")]
    assert s3dlio.delete(uris) == 4  # each once, and missing is success
    assert keys_of(filled) == [key for key in KEYS if key not in ("z", "d/x.npy")]
    assert "Contents" not in filled.boto3.list_objects_v2(Bucket=other)
    assert s3dlio.delete([]) == 0


def test_what_failed_of_several_buckets_comes_back_with_what_succeeded(filled: Any) -> None:
    with pytest.raises(s3dlio.ManyFailedError, match="1 of 2 objects") as caught:
        s3dlio.delete(["s3://no-such-bucket-here/k", filled.uri("z")])
    assert caught.value.succeeded == [filled.uri("z")]
    assert set(caught.value.failed) == {"s3://no-such-bucket-here/k"}
    with pytest.raises(s3dlio.NotFoundError):
        s3dlio.delete(["s3://no-such-bucket-here/k"])


@pytest.mark.parametrize(
    ("uris", "options", "words"),
    [
        (["s3://b/d/"], {}, "stands for what lies below it"),
        (["s3://b"], {}, "stands for what lies below it"),
        (["s3://b/k"], {"recursive": True}, "recursive=True with several URIs"),
        (["s3://b/k"], {"version_id": "v"}, "version_id with several URIs"),
        (b"s3://b/k", {}, "neither a URI nor a sequence"),
        (7, {}, "neither a URI nor a sequence"),
        (["k"], {}, "not an S3 URI"),
    ],
)
def test_a_sequence_that_cannot_be_deleted_is_refused_at_once(uris: Any, options: Any, words: str) -> None:
    with pytest.raises(s3dlio.S3dlioError, match=words):
        s3dlio.delete(uris, **options)


@pytest.mark.parametrize(
    ("uri", "options", "words"),
    [
        ("d/", {}, "pass recursive=True"),
        ("", {}, "pass recursive=True"),
        ("d", {"recursive": True}, "names one object; write .*d/"),
        ("d/*", {"version_id": "v"}, "selects several objects"),
        ("d", {"version_id": ""}, "version_id is empty"),
        ("d/", {"recursive": "yes"}, "recursive='yes'"),
    ],
)
def test_a_deletion_that_may_be_meant_otherwise_is_refused(
    filled: Any, uri: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(s3dlio.ConfigurationError, match=words):
        s3dlio.delete(filled.uri(uri), **options)
    assert keys_of(filled) == KEYS


def test_a_bucket_without_a_slash_is_never_emptied(filled: Any) -> None:
    with pytest.raises(s3dlio.ConfigurationError, match="names a bucket"):
        s3dlio.delete(f"s3://{filled.bucket}", recursive=True)
    assert keys_of(filled) == KEYS


def test_a_version_is_deleted_for_good(store: Any) -> None:
    store.boto3.put_bucket_versioning(Bucket=store.bucket, VersioningConfiguration={"Status": "Enabled"})
    first = store.boto3.put_object(Bucket=store.bucket, Key="k", Body=b"1")["VersionId"]
    second = store.boto3.put_object(Bucket=store.bucket, Key="k", Body=b"2")["VersionId"]
    assert s3dlio.exists(store.uri("k"), version_id=first)
    assert s3dlio.delete(store.uri("k"), version_id=first) == 1
    assert not s3dlio.exists(store.uri("k"), version_id=first)
    assert s3dlio.delete(store.uri("k")) == 1
    assert not s3dlio.exists(store.uri("k"))
    assert s3dlio.exists(store.uri("k"), version_id=second)


def test_versions_are_what_boto3_lists_and_go_all_together(minio: Any) -> None:
    store, boto3 = minio, minio.boto3
    boto3.put_bucket_versioning(Bucket=store.bucket, VersioningConfiguration={"Status": "Enabled"})
    for key in ("a", "a", "a.bak", "d/x+y", "d/x+y"):
        boto3.put_object(Bucket=store.bucket, Key=key, Body=key.encode())
    boto3.delete_object(Bucket=store.bucket, Key="a")

    def theirs(prefix: str = "") -> list[tuple[str, str, bool, int | None]]:
        listed = boto3.list_object_versions(Bucket=store.bucket, Prefix=prefix)
        found = [(one["Key"], one["VersionId"], one["IsLatest"], one["Size"]) for one in listed.get("Versions", [])]
        return sorted(found + [(one["Key"], one["VersionId"], one["IsLatest"], None) for one in
                               listed.get("DeleteMarkers", [])])  # fmt: skip

    def ours(uri: str = "") -> list[tuple[str, str, bool, int | None]]:
        found = list(s3dlio.list_versions(store.uri(uri)))
        assert all(one.is_delete_marker == (one.size is None) for one in found)
        return sorted((one.uri[len(store.uri("")) :], one.version_id, one.is_latest, one.size) for one in found)

    assert ours() == theirs()
    assert len(ours("a")) == 3  # never a.bak
    assert ours("d/") == theirs("d/")
    assert ours("d/*") == theirs("d/")
    assert s3dlio.delete_all_versions(store.uri("a")) == 3
    assert {key for key, *_ in theirs()} == {"a.bak", "d/x+y"}
    with pytest.raises(s3dlio.ConfigurationError, match="names a bucket"):
        s3dlio.delete_all_versions(f"s3://{store.bucket}")
    assert s3dlio.delete_all_versions(f"s3://{store.bucket}/") == 3
    assert theirs() == []
    assert s3dlio.delete_all_versions(f"s3://{store.bucket}/") == 0


def test_2500_versions_come_in_pages_and_go_in_batches(minio: Any) -> None:
    minio.boto3.put_bucket_versioning(Bucket=minio.bucket, VersioningConfiguration={"Status": "Enabled"})
    items = [(minio.uri(f"many/{number:04}"), b"x") for number in range(1250)]
    s3dlio.put_many(items)
    s3dlio.put_many(items)
    pages = list(s3dlio.list_versions(minio.uri("many/")).pages())
    assert sum(map(len, pages)) == 2500
    assert len(pages) >= 3
    assert s3dlio.delete_all_versions(minio.uri("many/")) == 2500
    assert list(s3dlio.list_versions(minio.uri("many/"))) == []


def test_buckets_come_and_go(store: Any) -> None:
    name = f"{store.bucket}-new"
    assert s3dlio.create_bucket(name) is True
    again = s3dlio.create_bucket(f"s3://{name}/")
    assert again is (store.name == "embedded")  # which plays us-east-1
    found = {one.name: one.created_at for one in s3dlio.list_buckets()}
    assert {one["Name"] for one in store.boto3.list_buckets()["Buckets"]} == set(found)
    assert found[name] is not None
    store.boto3.put_object(Bucket=name, Key="k", Body=b"")
    with pytest.raises(s3dlio.S3Error) as caught:
        s3dlio.delete_bucket(name)
    assert caught.value.code == "BucketNotEmpty"
    s3dlio.delete(f"s3://{name}/k")
    s3dlio.delete_bucket(f"s3://{name}")
    with pytest.raises(s3dlio.NotFoundError):
        s3dlio.delete_bucket(name)
    with pytest.raises(s3dlio.NotFoundError):
        s3dlio.list(f"s3://{name}/")


@pytest.mark.parametrize("name", ["", "s3://", "a/b", "s3://b/k", 7, "Not A Name"])
def test_what_is_no_name_of_a_bucket_is_refused(embedded: Any, name: Any) -> None:
    with pytest.raises(s3dlio.UnsupportedUriError):
        s3dlio.create_bucket(name)
