"""The installed command on real stores, with boto3 as the independent writer and reader."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from shell import Ended, only_full, s3dlio

Here = Callable[..., Ended]
KEYS = ["a b+c.txt", "d.bak", "d/e/f.npy", "d/x.npy", "d/y.txt"]


@pytest.fixture
def filled(store: Any) -> Any:
    for key in KEYS:
        store.boto3.put_object(Bucket=store.bucket, Key=key, Body=key.encode())
    return store


@pytest.fixture
def shelf(embedded: Any) -> Any:
    for key in KEYS:
        embedded.boto3.put_object(Bucket=embedded.bucket, Key=key, Body=key.encode())
    return embedded


def keys_of(store: Any) -> list[str]:
    return [one["Key"] for one in store.boto3.list_objects_v2(Bucket=store.bucket).get("Contents", [])]


# ------------------------------------------------------------------------------------------------- ls and du


def test_a_bucket_is_listed_with_sizes_times_and_prefixes(filled: Any) -> None:
    ended = s3dlio("ls", f"s3://{filled.bucket}")
    assert (ended.code, ended.err) == (0, "")
    rows = [line.split(maxsplit=2) for line in ended.lines]
    head = filled.head("a b+c.txt")
    assert rows[0] == [head["LastModified"].strftime("%Y-%m-%dT%H:%M:%SZ"), "9", filled.uri("a b+c.txt")]
    assert rows[2] == ["PREFIX", filled.uri("d/")]
    assert [row[-1] for row in rows] == [filled.uri(one) for one in ("a b+c.txt", "d.bak", "d/")]


def test_every_key_is_listed_for_xargs(filled: Any) -> None:
    ended = s3dlio("ls", "-r", "-0", f"s3://{filled.bucket}")
    assert ended.out == "".join(filled.uri(key) + "\0" for key in KEYS)


def test_buckets_are_listed(here: Any, shelf: Any) -> None:
    assert f"s3://{shelf.bucket}" in [line.split()[-1] for line in here("ls").lines]


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        (["d/", "-r"], ["d/e/f.npy", "d/x.npy", "d/y.txt"]),
        (["d/", "-r", "--exclude", "*.npy"], ["d/y.txt"]),
        (["", "-r", "--exclude", "*", "--include", "d/", "--exclude", "*.txt"], ["d/e/f.npy", "d/x.npy"]),
        (["d/", "-r", "--include", "x*", "--exclude", "*"], []),
        (["**/*.npy"], ["d/e/f.npy", "d/x.npy"]),
        (["d/*.npy"], ["d/x.npy"]),
        (["d/x.npy"], ["d/x.npy"]),
    ],
)
def test_the_last_filter_that_matches_decides(here: Any, shelf: Any, arguments: list[str], chosen: list[str]) -> None:
    uri, *options = arguments
    ended = here("ls", "-1", shelf.uri(uri), *options)
    assert (ended.lines, ended.code) == ([shelf.uri(one) for one in chosen], 0 if chosen else 1)


def test_an_empty_bucket_nothing_found_no_such_bucket_and_no_access_differ(here: Any, shelf: Any) -> None:
    shelf.boto3.create_bucket(Bucket=f"{shelf.bucket}-empty")
    empty = here("ls", f"s3://{shelf.bucket}-empty")
    assert (empty.code, empty.out, empty.err) == (0, "", "")
    nothing = here("ls", shelf.uri("none/"))
    assert (nothing.code, nothing.err) == (1, f"s3dlio ls: {shelf.uri('none/')}: nothing found\n")
    missing = here("ls", "s3://no-such-bucket-here")
    assert missing.code == 254
    assert "NoSuchBucket" in missing.err
    hint = here("ls", shelf.uri("d"))
    assert (hint.code, hint.err.split("; ")[1]) == (1, f"for what lies below it write {shelf.uri('d/')}\n")


def test_json_has_a_line_for_each_object_and_a_summary(filled: Any) -> None:
    *found, summary = s3dlio("ls", "-r", "--json", filled.uri("d/")).objects
    assert [(one["uri"], one["size"], one["success"]) for one in found] == [
        (filled.uri(key), len(key), True) for key in KEYS[2:]
    ]
    assert (summary["summary"], summary["succeeded"], summary["exit_code"]) == (True, 3, 0)


def test_an_error_in_json_says_what_the_store_said(here: Any, shelf: Any) -> None:
    error, summary = here("stat", "--json", shelf.uri("none")).objects
    assert (error["success"], error["error"], error["status"]) == (False, "NotFoundError", 404)
    assert (error["uri"], summary["failed"], summary["exit_code"]) == (shelf.uri("none"), 1, 254)


def test_sizes_add_up(here: Any, shelf: Any) -> None:
    rows = [line.split() for line in here("du", "-d", "2", f"s3://{shelf.bucket}").lines]
    assert rows == [
        [str(sum(map(len, KEYS[2:]))), "3", shelf.uri("d/")],
        [str(len(KEYS[2])), "1", shelf.uri("d/e/")],
        [str(sum(map(len, KEYS))), "5", f"s3://{shelf.bucket}"],
    ]
    assert here("du", "-h", shelf.uri("d.bak")).lines[0].split()[:2] == ["5", "B"]


# ------------------------------------------------------------------------------------------------- single objects


def test_what_is_piped_in_comes_out_of_cat(minio: Any) -> None:
    data = bytes(range(256)) * 70_000  # two parts
    piped = s3dlio("pipe", minio.uri("k"), "--metadata", "a:b", "--content-type", "text/x", stdin=data)
    assert (piped.code, piped.out) == (0, f"upload: - to {minio.uri('k')}\n")
    assert minio.read("k") == data
    head = minio.head("k")
    assert (head["Metadata"], head["ContentType"]) == ({"a": "b"}, "text/x")
    back = s3dlio("cat", minio.uri("k"))
    assert (back.out.encode("utf-8", "surrogateescape"), back.err, back.code) == (data, "", 0)


def test_an_empty_stdin_is_an_empty_object(minio: Any) -> None:
    assert s3dlio("pipe", minio.uri("empty"), stdin=b"").code == 0
    assert minio.read("empty") == b""


def test_an_object_that_exists_is_kept_where_that_is_asked_for(filled: Any) -> None:
    ended = s3dlio("pipe", filled.uri("d.bak"), "--no-overwrite", stdin=b"new")
    assert ended.code == 1
    assert "412" in ended.err
    assert filled.read("d.bak") == b"d.bak"


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["d.bak", "d/x.npy"], "d.bakd/x.npy"),
        (["d/*.npy", "d.bak"], "d/x.npyd.bak"),
        (["d/"], "d/e/f.npyd/x.npyd/y.txt"),
        (["d.bak", "--range", "1-2"], ".b"),
        (["d.bak", "--range", "2-"], "bak"),
        (["d.bak", "--range=-2"], "ak"),
        (["d.bak", "--range=-99"], "d.bak"),
        (["d.bak", "--range", "1-999999999"], ".bak"),
    ],
)
def test_cat_writes_objects_and_ranges_one_after_the_other(
    here: Any, shelf: Any, arguments: list[str], shown: str
) -> None:
    uris = [shelf.uri(one) if not one.startswith("-") and "-" not in one else one for one in arguments]
    assert here("cat", *uris) == Ended(0, shown, "")


def test_a_range_past_the_end_is_refused(here: Here, shelf: Any) -> None:
    for byte_range in ("99-", "99-100"):
        ended = here("cat", shelf.uri("d.bak"), "--range", byte_range)
        assert (ended.code, ended.out, "416" in ended.err or "InvalidRange" in ended.err) == (1, "", True)


@only_full
def test_a_large_object_is_written_in_bounded_memory(minio: Any) -> None:
    data = bytes(range(256)) * (300 << 12)  # 300 MiB
    minio.boto3.put_object(Bucket=minio.bucket, Key="large", Body=data)
    program = (
        "import sys; from s3dlio.cli import main; code = main(sys.argv[1:]); "
        "peak = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')); "
        "print(code, peak, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, "cat", minio.uri("large")], capture_output=True, check=True)
    code, peak = map(int, done.stderr.split())
    assert (code, done.stdout == data) == (0, True)
    assert peak < (250 << 10), "KiB"


def test_cat_goes_on_after_an_object_that_is_missing(here: Any, shelf: Any) -> None:
    ended = here("cat", shelf.uri("none"), shelf.uri("d.bak"))
    assert (ended.code, ended.out) == (1, "d.bak")
    assert "NoSuchKey" in ended.err


def test_stat_shows_what_the_store_reports(here: Any, shelf: Any) -> None:
    shelf.boto3.put_object(Bucket=shelf.bucket, Key="m", Body=b"x", Metadata={"made-by": "me"}, ContentType="a/b")
    rows = dict(line.split(maxsplit=1) for line in here("stat", shelf.uri("m")).lines)
    assert (rows["size"], rows["content_type"], rows["metadata.made-by"]) == ("1", "a/b", "me")
    (found, _) = here("stat", "--json", shelf.uri("m")).objects
    assert (found["metadata"], found["etag"]) == ({"made-by": "me"}, shelf.head("m")["ETag"].strip('"'))


def test_a_presigned_url_works_without_credentials(here: Any, shelf: Any) -> None:
    url = here("presign", shelf.uri("d.bak"), "--expires", "90s").out.strip()
    with urllib.request.urlopen(url) as response:
        assert response.read() == b"d.bak"
    assert "X-Amz-Expires=90" in url


# ------------------------------------------------------------------------------------------------- deleting


def test_deleting_says_the_same_lines_as_its_dry_run(filled: Any) -> None:
    uri = filled.uri("d/")
    rehearsed = s3dlio("rm", "-r", uri, "--exclude", "e/*", "--dry-run")
    assert keys_of(filled) == KEYS
    done = s3dlio("rm", "-r", uri, "--exclude", "e/*")
    assert done.lines == rehearsed.lines == [f"delete: {filled.uri(one)}" for one in ("d/x.npy", "d/y.txt")]
    assert (done.code, keys_of(filled)) == (0, KEYS[:3])
    assert "2 deleted" in done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["d", "-r"], "write .*/d/ with --recursive"),
        (["d/"], "delete that with --recursive"),
        (["", "-r"], "say so with --yes"),
        (["d/", "-r", "--version-id", "v"], "name one object"),
        (["d/", "-r", "--max-delete", "2"], "more than --max-delete 2; nothing was deleted"),
    ],
)
def test_a_deletion_that_may_be_meant_otherwise_is_wrong_usage(
    here: Any, shelf: Any, arguments: list[str], words: str
) -> None:
    uri, *options = arguments
    ended = here("rm", shelf.uri(uri), *options)
    assert (ended.code, keys_of(shelf)) == (252, KEYS)
    assert re.search(words, ended.err)


def test_one_object_is_deleted_and_not_its_siblings(here: Any, shelf: Any) -> None:
    assert here("rm", shelf.uri("d"), shelf.uri("d.bak"), "--json").objects[-1]["succeeded"] == 2
    assert keys_of(shelf) == ["a b+c.txt", *KEYS[2:]]


def test_a_bucket_is_made_emptied_and_deleted(here: Any, minio: Any) -> None:
    uri = f"s3://{minio.bucket}-more"
    assert here("mb", uri).lines == [f"create: {uri}"]
    minio.boto3.put_object(Bucket=f"{minio.bucket}-more", Key="k", Body=b"x")
    refused = here("rb", uri)
    assert (refused.code, "BucketNotEmpty" in refused.err) == (254, True)
    assert here("rb", "--force", uri).code == 252
    assert here("rb", "--force", "--yes", uri).lines == [f"delete: {uri}"]


def test_versions_are_listed_deleted_and_brought_back(here: Any, minio: Any) -> None:
    minio.boto3.put_bucket_versioning(Bucket=minio.bucket, VersioningConfiguration={"Status": "Enabled"})
    for body in (b"1", b"22"):
        minio.boto3.put_object(Bucket=minio.bucket, Key="k", Body=body)
    here("rm", minio.uri("k"))
    *found, _ = here("versions", "--json", minio.uri("k")).objects
    assert [(one["size"], one["is_delete_marker"], one["is_latest"]) for one in found] == [
        (None, True, True), (2, False, False), (1, False, False),
    ]  # fmt: skip
    assert here("versions", "--undelete", minio.uri("k")).lines == [f"undelete: {minio.uri('k')}"]
    assert minio.read("k") == b"22"
    assert here("cat", minio.uri("k"), "--version-id", found[2]["version_id"]).out == "1"
    lines = here("rm", "--all-versions", minio.uri("k"), "--dry-run").lines
    assert here("rm", "--all-versions", minio.uri("k")).lines == lines
    assert len(lines) == 2
    assert here("versions", minio.uri("k")).code == 1


def test_uploads_left_behind_are_listed_and_aborted(here: Any, minio: Any) -> None:
    upload = minio.boto3.create_multipart_upload(Bucket=minio.bucket, Key="k")["UploadId"]
    assert here("uploads", minio.uri("k")).lines[0].split()[1:] == [upload, minio.uri("k")]
    assert here("uploads", minio.uri("k"), "--abort").code == 252
    assert here("uploads", minio.uri("k"), "--abort", "--older-than", "1h").lines == []
    assert [one["UploadId"] for one in minio.uploads()] == [upload]


# ------------------------------------------------------------------------------------------------- wrong usage


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: COMMAND"),
        (["frob"], "invalid choice: 'frob'"),
        (["ls", "--frob"], "unrecognized arguments: --frob"),
        (["ls", "bucket"], "'bucket' is not an S3 URI"),
        (["ls", "s3://bucket/[a"], "has a '\\[' without a '\\]'"),
        (["presign", "s3://bucket/k", "--expires", "soon"], "'soon' is no time"),
        (["presign", "s3://bucket/k", "--expires", "8d"], "1 to 604800"),
        (["cat", "s3://bucket/k", "--range", "9-1"], "'9-1' is no range"),
        (["pipe", "s3://bucket/k", "--part-size", "many"], "'many' is no size"),
        (["ls", "--max-attempts", "0"], "not from 1 to 100"),
    ],
)
def test_a_line_that_cannot_be_used_is_one_sentence_and_252(here: Any, arguments: list[str], words: str) -> None:
    ended = here(*arguments)
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (252, "", 1)
    assert re.search(words, ended.err)


def test_options_of_the_store_may_stand_before_and_after_the_command(here: Any, shelf: Any, monkeypatch: Any) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    for arguments in (["--endpoint-url", shelf.endpoint_url, "ls"], ["ls", "--endpoint-url", shelf.endpoint_url]):
        assert here(*arguments, shelf.uri("d.bak")).code == 0


def test_no_credentials_and_no_such_profile_are_253(here: Any, shelf: Any, monkeypatch: Any) -> None:
    ended = here("ls", "s3://bucket", "--profile", "nobody")
    assert (ended.code, "nobody" in ended.err) == (253, True)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for command in (["ls", f"s3://{shelf.bucket}"], ["rm", shelf.uri("k")]):
        ended = here(*command)
        assert (ended.code, "credentials" in ended.err.lower()) == (253, True)


def test_requests_without_credentials_are_possible(here: Any, shelf: Any, monkeypatch: Any) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert here("ls", "--no-sign-request", f"s3://{shelf.bucket}").code == 0


def test_a_store_that_is_not_there_is_255(here: Any, shelf: Any) -> None:
    ended = here("ls", "s3://bucket", "--endpoint-url", "http://127.0.0.1:9", "--max-attempts", "1")
    assert (ended.code, "127.0.0.1" in ended.err) == (255, True)
