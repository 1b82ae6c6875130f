"""Our signatures against those of botocore's own class, unmodified."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from hypothesis import example, given
from hypothesis import strategies as st

from s3dlio._net.addresses import encode_key, encode_query
from s3dlio._s3.credentials import Credentials
from s3dlio._s3.signing import Signer

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
CREDENTIALS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")


def signed_by_botocore(
    method: str,
    host: str,
    path: str,
    query_string: str,
    headers: Mapping[str, str],
    credentials: Credentials,
    region: str,
    now: datetime,
) -> str:
    """The Authorization header by `S3SigV4Auth` as it is; its own settings turn the payload's hash off."""
    url = f"http://{host}{path}" + (f"?{query_string}" if query_string else "")
    request = AWSRequest(method=method, url=url, headers=dict(headers))
    request.context["client_config"] = Config(s3={"payload_signing_enabled": False})
    request.context["payload_signing_enabled"] = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: now.replace(tzinfo=None))
        botocore.auth.S3SigV4Auth(credentials, "s3", region).add_auth(request)
    authorization: str = request.headers["Authorization"]
    return authorization


def sign(
    signer: Signer | None = None, path: str = "/bucket/key", query_string: str = "", **changed: Any
) -> dict[str, str]:
    """The headers of one request, its signature among them."""
    arguments: dict[str, Any] = {
        "method": "GET",
        "host": "localhost:9000",
        "headers": {},
        "varying": (),
        "credentials": CREDENTIALS,
        "region": "eu-central-1",
        "now": NOW,
        **changed,
    }
    prepared = (signer or Signer()).prepare(**arguments)
    return {**prepared.fixed, "authorization": prepared.authorization(path, query_string)}


VISIBLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
KEYS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30) | st.text(" +%/.~*'()é世𝄞", max_size=20)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
HEADER_NAMES = st.sampled_from(
    [
        *("Content-Type", "content-length", "Range", "If-Match", "Cache-Control", "User-Agent", "Expect", "Connection"),
        *("x-amz-meta-a", "X-Amz-Meta-B", "x-amz-tagging", "x-amz-checksum-crc64nvme", "X-Amz-Security-Token"),
    ]
)
HEADER_VALUES = st.text(VISIBLE | st.sampled_from("  \t"), max_size=20)
SECRETS = st.text(VISIBLE, min_size=1, max_size=40)
ALL_CREDENTIALS = st.builds(Credentials, SECRETS, SECRETS, st.none() | SECRETS)
INSTANTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
SHARED = Signer()


@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"]),
    host=st.sampled_from(["localhost:9000", "s3.eu-central-1.amazonaws.com", "[::1]:9000", "b.example"]),
    key=KEYS,
    query=st.lists(st.tuples(WORDS, WORDS), max_size=4),
    headers=st.dictionaries(HEADER_NAMES, HEADER_VALUES, max_size=6),
    credentials=ALL_CREDENTIALS,
    region=st.sampled_from(["us-east-1", "eu-central-1", "x"]),
    now=INSTANTS,
)
@example("GET", "localhost:9000", "a b+c%41//./../é", [("b", ""), ("a", "=&+ /"), ("a", "")], {}, CREDENTIALS, "r", NOW)
def test_every_signature_equals_botocores(
    method: str,
    host: str,
    key: str,
    query: list[tuple[str, str]],
    headers: dict[str, str],
    credentials: Credentials,
    region: str,
    now: datetime,
) -> None:
    path, query_string = f"/bucket/{encode_key(key)}", encode_query(query)
    ours = sign(
        SHARED,
        method=method,
        host=host,
        path=path,
        query_string=query_string,
        headers={"Host": host, **headers},
        credentials=credentials,
        region=region,
        now=now,
    )
    theirs = signed_by_botocore(method, host, path, query_string, {"Host": host, **headers}, credentials, region, now)
    assert ours["authorization"] == theirs


VARYING = ["x-amz-meta-a", "content-length", "x-amz-checksum-crc64nvme", "if-match"]
PERCENT = st.text("%s%%d(){}", max_size=8)


@given(
    host=st.sampled_from(["localhost:9000", "[::1]:9000"]),
    headers=st.dictionaries(HEADER_NAMES, HEADER_VALUES | PERCENT, max_size=5),
    varying=st.lists(st.sampled_from(VARYING), unique=True),
    credentials=ALL_CREDENTIALS,
    region=st.sampled_from(["us-east-1", "%s"]),
    now=INSTANTS,
    data=st.data(),
)
def test_requests_that_are_alike_are_signed_as_botocore_signs_each(
    host: str,
    headers: dict[str, str],
    varying: list[str],
    credentials: Credentials,
    region: str,
    now: datetime,
    data: st.DataObject,
) -> None:
    same = {"Host": host, **headers}
    prepared = SHARED.prepare(
        method="PUT", host=host, headers=same, varying=varying, credentials=credentials, region=region, now=now
    )
    assert not set(prepared.fixed) & {*varying, "authorization"}
    kept = {name: value for name, value in same.items() if name.lower() not in varying}
    for _ in range(data.draw(st.integers(1, 3))):
        path = f"/bucket/{encode_key(data.draw(KEYS | PERCENT))}"
        query_string = encode_query(data.draw(st.lists(st.tuples(WORDS | PERCENT, WORDS), max_size=2)))
        values = [data.draw(HEADER_VALUES | PERCENT) for _ in varying]
        sent = {**kept, **dict(zip(varying, values, strict=True))}
        theirs = signed_by_botocore("PUT", host, path, query_string, sent, credentials, region, now)
        assert prepared.authorization(path, query_string, values) == theirs


def test_a_header_that_varies_takes_the_place_of_one_of_that_name() -> None:
    arguments: dict[str, Any] = {"method": "PUT", "host": "h", "credentials": CREDENTIALS, "region": "r", "now": NOW}
    prepared = Signer().prepare(headers={"Range": "bytes=0-1", "X-A": "old"}, varying=["x-a", "range"], **arguments)
    expected = sign(Signer(), path="/p", headers={"Range": "bytes=7-8", "X-A": "new"}, **arguments)
    assert prepared.authorization("/p", "", ["new", "bytes=7-8"]) == expected["authorization"]


@pytest.mark.parametrize("path", ["/", "//", "/bucket//key", "/bucket/./a/../b", "/bucket/%2541"])
def test_paths_are_signed_as_they_are(path: str) -> None:
    expected = signed_by_botocore("GET", "localhost:9000", path, "", {}, CREDENTIALS, "eu-central-1", NOW)
    assert sign(path=path)["authorization"] == expected


@pytest.mark.parametrize("query_string", ["uploads", "b=2&a=1", "a=2&a=1", "uploads="])
def test_a_query_that_is_not_canonical_is_signed_as_botocore_does(query_string: str) -> None:
    expected = signed_by_botocore("GET", "localhost:9000", "/b", query_string, {}, CREDENTIALS, "eu-central-1", NOW)
    assert sign(path="/b", query_string=query_string)["authorization"] == expected


def test_the_published_example_of_amazon_is_reproduced() -> None:
    """GET Object of https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html."""
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    headers = sign(
        host="examplebucket.s3.amazonaws.com",
        path="/test.txt",
        headers={"Range": "bytes=0-9"},
        credentials=Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        region="us-east-1",
        now=datetime(2013, 5, 24, tzinfo=UTC),
        payload_hash=empty,
    )
    assert headers["authorization"].endswith(
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )
    assert headers["x-amz-content-sha256"] == empty


def test_everything_to_send_comes_back_in_lower_case() -> None:
    headers = sign(headers={"Content-Length": "3", "User-Agent": "me"})
    assert headers["content-length"] == "3"
    assert headers["user-agent"] == "me"
    assert headers["host"] == "localhost:9000"
    assert headers["x-amz-date"] == "20260304T050607Z"
    assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    assert "x-amz-security-token" not in headers


def test_the_headers_given_are_left_alone() -> None:
    given = {"Range": "bytes=0-9"}
    sign(headers=given)
    assert given == {"Range": "bytes=0-9"}


def test_a_session_token_is_sent_and_signed() -> None:
    headers = sign(credentials=Credentials("AK", "SK", "token"))
    assert headers["x-amz-security-token"] == "token"
    assert "x-amz-security-token" in headers["authorization"]


def test_what_proxies_change_is_not_signed() -> None:
    headers = sign(headers={"User-Agent": "me", "Expect": "100-continue", "Range": "bytes=0-1"})
    assert "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date," in headers["authorization"]


def test_headers_of_an_earlier_signature_are_replaced() -> None:
    first = sign()
    assert sign(headers=first, now=NOW + timedelta(days=2)) == sign(now=NOW + timedelta(days=2))


def test_an_instant_of_another_time_zone_is_the_same_instant() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=9)))
    assert sign(now=elsewhere) == sign()


def test_without_an_instant_the_present_is_signed() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    date = sign(now=None)["x-amz-date"]
    assert before <= datetime.strptime(date, "%Y%m%dT%H%M%S%z") <= datetime.now(UTC)


def test_a_derived_key_is_kept_for_the_day() -> None:
    signer = Signer()
    sign(signer, path="/a")
    kept = dict(signer._keys)
    sign(signer, path="/b", now=NOW + timedelta(hours=3))
    assert len(kept) == 1
    assert signer._keys == kept


@pytest.mark.parametrize(
    "changed",
    [
        {"credentials": Credentials("OTHER", CREDENTIALS.secret_key)},
        {"credentials": Credentials(CREDENTIALS.access_key, "other")},
        {"region": "us-west-2"},
        {"now": NOW + timedelta(days=1)},
    ],
    ids=["access key", "secret key", "region", "day"],
)
def test_a_kept_key_serves_nothing_else(changed: dict[str, Any]) -> None:
    signer = Signer()
    sign(signer)
    assert sign(signer, **changed) == sign(**changed)
    assert len(signer._keys) == 2


def test_kept_keys_are_bounded() -> None:
    signer = Signer()
    for day in range(200):
        sign(signer, now=NOW + timedelta(days=day))
    assert len(signer._keys) <= 64
