"""Presigned URLs: every signature against botocore's own class, and what is refused."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from hypothesis import given, settings
from hypothesis import strategies as st

import s3dlio
from s3dlio._net.addresses import encode_key, encode_query
from s3dlio._s3.credentials import Credentials
from s3dlio._s3.signing import Signer

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
ASCII = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=12)
QUERIES = st.lists(
    st.tuples(st.sampled_from(["versionId", "response-content-type", "a b"]), TEXT),
    max_size=3,
    unique_by=lambda one: one[0],
)
HEADERS = st.dictionaries(st.sampled_from(["content-type", "x-amz-meta-a", "x-amz-tagging"]), ASCII, max_size=3)


def signed_by_botocore(
    method: str, host: str, path: str, query: str, headers: Mapping[str, str], credentials: Credentials, seconds: int
) -> str:
    url = f"http://{host}{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method=method, url=url, headers=dict(headers))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: NOW.replace(tzinfo=None))
        botocore.auth.S3SigV4QueryAuth(credentials, "s3", "eu-central-1", expires=seconds).add_auth(request)
    signed: str = request.url
    return signed


@given(
    st.sampled_from(["GET", "PUT", "HEAD", "DELETE"]), TEXT, QUERIES, HEADERS, st.none() | ASCII, st.integers(1, 604800)
)
@settings(deadline=None)
def test_every_signature_equals_botocores(
    method: str, key: str, query: list[tuple[str, str]], headers: dict[str, str], token: str | None, seconds: int
) -> None:
    credentials, path, host = Credentials("AKID", "secret", token), f"/b/{encode_key(key)}", "localhost:9000"
    ours = Signer().sign_query(
        method=method, host=host, path=path, query=query, headers=headers, credentials=credentials,
        region="eu-central-1", seconds=seconds, now=NOW,
    )  # fmt: skip
    theirs = signed_by_botocore(method, host, path, encode_query(query), headers, credentials, seconds)
    assert parse_qs(ours) == parse_qs(urlsplit(theirs).query)


def test_the_published_example_of_amazon_is_reproduced() -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html"""
    query = Signer().sign_query(
        method="GET",
        host="examplebucket.s3.amazonaws.com",
        path="/test.txt",
        query=[],
        headers={},
        credentials=Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        region="us-east-1",
        seconds=86400,
        now=datetime(2013, 5, 24, tzinfo=UTC),
    )
    signature = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    assert query.endswith(f"&X-Amz-Signature={signature}")


def client(**options: Any) -> s3dlio.Client:
    given = {"credentials": ("AKID", "not-shown", "token"), "region": "eu-central-1", **options}
    return s3dlio.Client(**given)


def test_amazons_host_is_that_of_the_region_and_never_the_global_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_S3_US_EAST_1_REGIONAL_ENDPOINT", "legacy")
    for region in ("us-east-1", "eu-central-1"):
        url = urlsplit(client(region=region).presign("s3://bucket/a b").url)
        assert (url.netloc, url.path) == (f"bucket.s3.{region}.amazonaws.com", "/a%20b")
        assert f"/{region}/s3/aws4_request" in parse_qs(url.query)["X-Amz-Credential"][0]


def test_a_learned_region_is_signed_for() -> None:
    ours = client()
    ours.service._state._regions["bucket"] = "ap-south-1"
    url = urlsplit(ours.presign("s3://bucket/k").url)
    assert url.netloc == "bucket.s3.ap-south-1.amazonaws.com"
    assert "/ap-south-1/" in parse_qs(url.query)["X-Amz-Credential"][0]


def test_host_alone_is_signed_and_the_token_is_in_the_url() -> None:
    query = parse_qs(urlsplit(client().presign("s3://bucket/k").url).query)
    assert (query["X-Amz-SignedHeaders"], query["X-Amz-Security-Token"]) == (["host"], ["token"])
    signed = client().presign("s3://bucket/k", method="PUT", headers={"Content-Type": "image/png"})
    assert signed.headers == {"content-type": "image/png"}
    assert parse_qs(urlsplit(signed.url).query)["X-Amz-SignedHeaders"] == ["content-type;host"]


@pytest.mark.parametrize("expires", [1, 3600, 604800, timedelta(days=7), 60.0])
def test_the_end_is_told(expires: Any) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    presigned = client().presign("s3://bucket/k", expires=expires)
    seconds = expires if isinstance(expires, timedelta) else timedelta(seconds=expires)
    assert before + seconds <= presigned.expires_at <= datetime.now(UTC) + seconds
    assert parse_qs(urlsplit(presigned.url).query)["X-Amz-Expires"] == [str(int(seconds.total_seconds()))]


def test_a_url_ends_with_its_credentials(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    end = (datetime.now(UTC) + timedelta(minutes=50)).replace(microsecond=0)
    for name, value in (("ACCESS_KEY_ID", "AKID"), ("SECRET_ACCESS_KEY", "s"), ("SESSION_TOKEN", "t")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", end.isoformat())
    ours = s3dlio.Client(region="eu-central-1")
    with caplog.at_level(logging.WARNING, "s3dlio"):
        assert ours.presign("s3://bucket/k", expires=7200).expires_at == end
    assert "ends with its credentials" in caplog.text
    assert ours.presign("s3://bucket/k", expires=60).expires_at < end


def test_no_text_of_it_shows_the_signature() -> None:
    presigned = client().presign("s3://bucket/k")
    signature = parse_qs(urlsplit(presigned.url).query)["X-Amz-Signature"][0]
    for text in (repr(presigned), str(presigned)):
        assert signature not in text
        assert "token" not in text.lower().replace("security-token", "")
    assert pickle.loads(pickle.dumps(presigned)) == presigned


@pytest.mark.parametrize(
    ("uri", "options", "words"),
    [
        ("s3://bucket/d/", {}, "what lies below it"),
        ("s3://bucket", {}, "what lies below it"),
        ("s3://bucket/k", {"expires": 0}, "from 1 to 604800"),
        ("s3://bucket/k", {"expires": 604801}, "from 1 to 604800"),
        ("s3://bucket/k", {"expires": 1.5}, "from 1 to 604800"),
        ("s3://bucket/k", {"expires": "60"}, "neither a number of seconds"),
        ("s3://bucket/k", {"expires": True}, "neither a number of seconds"),
        ("s3://bucket/k", {"method": "POST"}, "expected GET, HEAD, PUT, DELETE"),
        ("s3://bucket/k", {"method": "PUT", "version_id": "v"}, "a PUT makes a new version"),
        ("s3://bucket/k", {"method": "PUT", "response_headers": {"expires": "0"}}, "only GET and HEAD"),
        ("s3://bucket/k", {"response_headers": {"server": "x"}}, "S3 can set cache-control"),
        ("s3://bucket/k", {"headers": {"a\r\nb": "x"}}, "not a header name"),
        ("s3://bucket/k", {"headers": {"a": "x\r\nb: c"}}, "control character"),
        ("s3://bucket/k", {"headers": {"Host": "x"}}, "belongs to the signature"),
        ("s3://bucket/k", {"headers": ["a"]}, "not a mapping"),
    ],
)
def test_what_cannot_be_signed_is_refused(uri: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises((s3dlio.ConfigurationError, s3dlio.UnsupportedUriError), match=words):
        client().presign(uri, **options)


def test_an_anonymous_client_cannot_sign() -> None:
    with pytest.raises(s3dlio.ConfigurationError, match="anonymous client cannot sign"):
        client(credentials="anonymous").presign("s3://bucket/k")
