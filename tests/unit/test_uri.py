"""`addresses`: URIs to locations and back, and locations to the request targets that SigV4 signs."""

import pathlib
from urllib.parse import unquote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from s3dlio._net.addresses import (
    Endpoint,
    Location,
    Origin,
    aws_endpoint,
    check_location,
    encode_key,
    encode_query,
    format_uri,
    parse_uri,
)
from s3dlio.errors import ConfigurationError, UnsupportedUriError

patient = settings(deadline=None)
buckets = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60)
keys = texts.filter(bool)
ODD_KEYS = [
    "/leading",
    "trailing/",
    "a//b",
    "./a/../b",
    "..",
    "%41 is not A",
    "a?b#c&d=e",
    "a+b c",
    "~tilde-._",
    "snow ☃ and 😀",
    "e\u0301 is not \u00e9",
    "s3://nested/uri",
    " ",
    "\\back\\slash",
    "quo\"te's",
    ":@!$(),;=*",
]


@patient
@given(buckets, keys)
def test_a_formatted_uri_parses_to_the_same_location(bucket: str, key: str) -> None:
    assert parse_uri(format_uri(bucket, key)) == Location(bucket, key)


@pytest.mark.parametrize("key", ODD_KEYS)
def test_a_key_is_kept_exactly(key: str) -> None:
    assert parse_uri(f"s3://bucket/{key}") == ("bucket", key)


@pytest.mark.parametrize("uri", ["s3://bucket", "s3://bucket/"])
def test_a_bucket_alone_is_a_location_where_no_key_is_required(uri: str) -> None:
    assert parse_uri(uri, require_key=False) == ("bucket", "")


@pytest.mark.parametrize("uri", ["s3://bucket", "s3://bucket/"])
def test_a_missing_key_is_refused_with_its_remedy(uri: str) -> None:
    with pytest.raises(UnsupportedUriError, match="add its key, as in 's3://bucket/key'") as caught:
        parse_uri(uri)
    assert repr(uri) in str(caught.value)


def test_the_scheme_may_be_in_capitals() -> None:
    assert parse_uri("S3://Bucket/Key") == ("Bucket", "Key")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "bucket/key",
        "/bucket/key",
        "s3:/bucket/key",
        "s3:bucket/key",
        "s3a://bucket/key",
        "https://bucket.s3.amazonaws.com/key",
        "file:///tmp/x",
        " s3://bucket/key",
    ],
)
def test_another_scheme_is_refused_with_its_remedy(uri: str) -> None:
    with pytest.raises(UnsupportedUriError, match="write it as 's3://bucket/key'") as caught:
        parse_uri(uri)
    assert repr(uri) in str(caught.value)


@pytest.mark.parametrize("bucket", ["", "-a", ".", "..", "a b", "user:pw@host", "a?b", "ü", "a" * 256, "a\n"])
def test_an_impossible_bucket_is_refused(bucket: str) -> None:
    with pytest.raises(UnsupportedUriError):
        parse_uri(f"s3://{bucket}/key")


def test_an_access_point_arn_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedUriError, match="is an ARN"):
        parse_uri("s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/mine/key")


@pytest.mark.parametrize("character", ["\0", "\t", "\n", "\r", "\x1f", "\x7f", "\x85"])
def test_a_control_character_is_refused_and_shown_escaped(character: str) -> None:
    with pytest.raises(UnsupportedUriError, match=r"control character .* at position 1; remove it") as caught:
        parse_uri(f"s3://bucket/a{character}b")
    assert character not in str(caught.value)


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(UnsupportedUriError, match="lone surrogate at position 1"):
        parse_uri("s3://bucket/a\udc80")


@pytest.mark.parametrize("uri", [None, b"s3://bucket/key", pathlib.PurePosixPath("s3://bucket/key"), 7])
def test_only_a_str_is_a_uri(uri: object) -> None:
    with pytest.raises(UnsupportedUriError, match="give a str"):
        parse_uri(uri)  # type: ignore[arg-type]


def test_a_refused_uri_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="not an S3 URI"):
        parse_uri("gs://bucket/key")


def test_a_bucket_given_apart_cannot_smuggle_a_slash() -> None:
    with pytest.raises(UnsupportedUriError, match="'a/b' is not a bucket name"):
        check_location("a/b", "key")


@pytest.mark.parametrize(("bucket", "key"), [(b"bucket", "key"), ("bucket", None)])
def test_bucket_and_key_given_apart_must_be_str(bucket: object, key: object) -> None:
    with pytest.raises(UnsupportedUriError, match="both must be str"):
        check_location(bucket, key)  # type: ignore[arg-type]


@patient
@given(buckets, keys)
def test_a_location_given_apart_is_kept(bucket: str, key: str) -> None:
    assert check_location(bucket, key) == (bucket, key)


@pytest.mark.parametrize(
    ("key", "encoded"),
    [
        ("a/b c", "a/b%20c"),
        ("a+b", "a%2Bb"),
        ("%41", "%2541"),
        ("~-._", "~-._"),
        ("!*'();:@&=$,?#[]", "%21%2A%27%28%29%3B%3A%40%26%3D%24%2C%3F%23%5B%5D"),
        ("ü☃", "%C3%BC%E2%98%83"),
        ("//./../", "//./../"),
    ],
)
def test_a_key_is_encoded_as_sigv4_wants_it(key: str, encoded: str) -> None:
    assert encode_key(key) == encoded


@patient
@given(texts)
def test_an_encoded_key_decodes_to_the_key(key: str) -> None:
    encoded = encode_key(key)
    assert unquote(encoded, errors="strict") == key
    assert encoded.isascii()
    assert not set(encoded) & set(" ?#\"<>\\^`{|}+&=:'")


def test_a_query_is_sorted_by_its_encoded_form_and_keeps_empty_values() -> None:
    pairs = [
        ("uploadId", "a/b+c="),
        ("partNumber", "2"),
        ("uploads", ""),
        ("é", "1"),
        ("a", "2"),
        ("a", "10"),
    ]
    assert encode_query(pairs) == "%C3%A9=1&a=10&a=2&partNumber=2&uploadId=a%2Fb%2Bc%3D&uploads="


def test_no_pairs_are_an_empty_query() -> None:
    assert encode_query([]) == ""


@patient
@given(keys, st.lists(st.tuples(keys, texts), max_size=5))
def test_a_target_is_already_what_botocore_would_sign(key: str, query: list[tuple[str, str]]) -> None:
    target = Endpoint.from_url("http://127.0.0.1:9000").target("bucket", key, query)
    auth = S3SigV4Auth(Credentials("id", "secret"), "s3", "us-east-1")
    request = AWSRequest("GET", f"http://127.0.0.1:9000{target.path}?{target.query_string}")
    canonical = auth.canonical_request(request).split("\n")
    assert canonical[1:3] == [target.path, target.query_string]


AWS = "https://s3.eu-west-1.amazonaws.com"


@pytest.mark.parametrize(
    ("url", "style", "bucket", "host_header", "path"),
    [
        (AWS, "auto", "bucket", "bucket.s3.eu-west-1.amazonaws.com", "/k/y"),
        (AWS, "auto", "my.bucket", "s3.eu-west-1.amazonaws.com", "/my.bucket/k/y"),
        (AWS, "auto", "Bucket", "s3.eu-west-1.amazonaws.com", "/Bucket/k/y"),
        (AWS, "auto", "under_score", "s3.eu-west-1.amazonaws.com", "/under_score/k/y"),
        (AWS, "auto", "a" * 64, "s3.eu-west-1.amazonaws.com", f"/{'a' * 64}/k/y"),
        (AWS, "auto", "ends-", "s3.eu-west-1.amazonaws.com", "/ends-/k/y"),
        (AWS, "path", "bucket", "s3.eu-west-1.amazonaws.com", "/bucket/k/y"),
        (AWS, "virtual", "my.bucket", "my.bucket.s3.eu-west-1.amazonaws.com", "/k/y"),
        (
            "https://s3.cn-north-1.amazonaws.com.cn",
            "auto",
            "bucket",
            "bucket.s3.cn-north-1.amazonaws.com.cn",
            "/k/y",
        ),
        ("https://notamazonaws.com", "auto", "bucket", "notamazonaws.com", "/bucket/k/y"),
        ("https://amazonaws.com.example.org", "auto", "bucket", "amazonaws.com.example.org", "/bucket/k/y"),
        ("http://127.0.0.1:9000", "auto", "bucket", "127.0.0.1:9000", "/bucket/k/y"),
        ("http://MinIO:9000/", "auto", "bucket", "minio:9000", "/bucket/k/y"),
        ("http://[::1]:9000", "auto", "bucket", "[::1]:9000", "/bucket/k/y"),
        ("https://store.example", "virtual", "bucket", "bucket.store.example", "/k/y"),
        ("https://store.example/base/", "auto", "bucket", "store.example", "/base/bucket/k/y"),
        ("https://store.example/base", "virtual", "bucket", "bucket.store.example", "/base/k/y"),
    ],
)
def test_the_style_decides_where_the_bucket_stands(
    url: str, style: str, bucket: str, host_header: str, path: str
) -> None:
    target = Endpoint.from_url(url, style).target(bucket, "k/y")
    assert (target.host_header, target.path) == (host_header, path)


def test_the_connection_goes_to_the_host_that_the_header_names() -> None:
    target = Endpoint.from_url(AWS).target("bucket", "key")
    assert target.origin == Origin("https", "bucket.s3.eu-west-1.amazonaws.com", 443)


def test_an_ipv6_origin_has_no_brackets() -> None:
    assert Endpoint.from_url("http://[::1]:9000").target("bucket").origin == Origin("http", "::1", 9000)


@pytest.mark.parametrize(
    ("url", "host_header"),
    [
        ("https://h", "h"),
        ("https://h:443", "h"),
        ("http://h:80", "h"),
        ("http://h:443", "h:443"),
        ("https://h:80", "h:80"),
    ],
)
def test_only_the_default_port_is_left_out_of_the_host_header(url: str, host_header: str) -> None:
    assert Endpoint.from_url(url).target(None).host_header == host_header


@pytest.mark.parametrize(
    ("url", "style", "bucket", "path"),
    [
        (AWS, "auto", None, "/"),
        (AWS, "auto", "bucket", "/"),
        (AWS, "path", "bucket", "/bucket"),
        ("https://h/base", "path", None, "/base"),
        ("https://h/base", "path", "bucket", "/base/bucket"),
        ("https://h/base", "virtual", "bucket", "/base/"),
    ],
)
def test_a_target_without_a_key_names_the_bucket_or_the_service(
    url: str, style: str, bucket: str | None, path: str
) -> None:
    assert Endpoint.from_url(url, style).target(bucket).path == path


@pytest.mark.parametrize(("url", "style"), [(AWS, "auto"), (AWS, "path"), ("https://h/base", "virtual")])
@pytest.mark.parametrize("bucket", ["bucket", "my.bucket"])
def test_targets_of_many_keys_are_those_of_each(url: str, style: str, bucket: str) -> None:
    endpoint, keys = Endpoint.from_url(url, style), ["k", "a b/é", "/leading", "a//b", "?#%", "."]
    assert endpoint.targets(bucket, keys) == [endpoint.target(bucket, key) for key in keys]


@pytest.mark.parametrize("key", ["/leading", "a//b", "../../other/secret", "."])
def test_a_path_is_never_normalised(key: str) -> None:
    assert Endpoint.from_url("http://h").target("bucket", key).path == f"/bucket/{key}"


def test_a_bucket_that_no_host_name_can_hold_is_refused_in_virtual_style() -> None:
    with pytest.raises(ConfigurationError, match="addressing_style='path'"):
        Endpoint.from_url("https://store.example", "virtual").target("Under_score", "key")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000", "http://[::1]:9000"])
def test_virtual_style_is_refused_before_an_address(url: str) -> None:
    with pytest.raises(ConfigurationError, match="addressing_style='path'"):
        Endpoint.from_url(url, "virtual")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:9000",
        "//host",
        "ftp://host",
        "https://",
        "https://:9000",
        "https://host:port",
        "https://host:99999",
        "https://host:0",
        "https://host?x=1",
        "https://host/#f",
        "https://ho st",
        "https://host\n",
        "https://hö.example",
        "https://[::1",
        "https://a<b",
    ],
)
def test_an_unusable_endpoint_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match="endpoint"):
        Endpoint.from_url(url)


@pytest.mark.parametrize("url", ["https://id:hunter2@host", "https://id:hunter2@host:port"])
def test_credentials_in_an_endpoint_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Endpoint.from_url(url)
    assert "hunter2" not in str(caught.value)


def test_an_unknown_style_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="expected auto, path or virtual"):
        Endpoint.from_url(AWS, "dns")


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("us-east-1", "https://s3.us-east-1.amazonaws.com"),
        ("us-gov-west-1", "https://s3.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "https://s3.cn-north-1.amazonaws.com.cn"),
        ("us-iso-east-1", "https://s3.us-iso-east-1.c2s.ic.gov"),
        ("us-isob-east-1", "https://s3.us-isob-east-1.sc2s.sgov.gov"),
        ("us-isof-south-1", "https://s3.us-isof-south-1.csp.hci.ic.gov"),
        ("eu-isoe-west-1", "https://s3.eu-isoe-west-1.cloud.adc-e.uk"),
        ("eusc-de-east-1", "https://s3.eusc-de-east-1.amazonaws.eu"),
    ],
)
def test_a_region_has_the_endpoint_of_its_partition(region: str, url: str) -> None:
    assert aws_endpoint(region) == url


@pytest.mark.parametrize("region", ["", "a.b", "evil/", "x@y", "-a", "eu west", "a\n"])
def test_a_region_that_cannot_be_in_a_host_name_is_refused(region: str) -> None:
    with pytest.raises(ConfigurationError, match="not a region name"):
        aws_endpoint(region)


# ------------------------------------------------------------------------------------- variants, refusals, secrets


@pytest.mark.parametrize(
    ("region", "options", "url"),
    [
        ("eu-west-1", {"fips": True}, "https://s3-fips.eu-west-1.amazonaws.com"),
        ("eu-west-1", {"dualstack": True}, "https://s3.dualstack.eu-west-1.amazonaws.com"),
        ("us-east-1", {"fips": True, "dualstack": True}, "https://s3-fips.dualstack.us-east-1.amazonaws.com"),
        ("us-gov-west-1", {"fips": True}, "https://s3-fips.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", {"dualstack": True}, "https://s3.dualstack.cn-north-1.amazonaws.com.cn"),
        ("us-east-1", {"global_host": True}, "https://s3.amazonaws.com"),
        ("eu-west-1", {"global_host": True}, "https://s3.eu-west-1.amazonaws.com"),
        ("us-east-1", {"global_host": True, "fips": True}, "https://s3-fips.us-east-1.amazonaws.com"),
        ("us-east-1", {"global_host": True, "dualstack": True}, "https://s3.dualstack.us-east-1.amazonaws.com"),
    ],
)
def test_each_variant_of_amazons_endpoint_has_its_host(region: str, options: dict[str, bool], url: str) -> None:
    """https://docs.aws.amazon.com/general/latest/gr/s3.html"""
    assert aws_endpoint(region, **options) == url
    endpoint = Endpoint.from_url(url)
    assert endpoint.target("bucket", "k").host_header == f"bucket.{url.removeprefix('https://')}"
    endpoint.check_variant(fips=options.get("fips", False), dualstack=options.get("dualstack", False))


def test_a_region_without_fips_endpoints_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="'cn-north-1' has no FIPS endpoints; set AWS_USE_FIPS_ENDPOINT"):
        aws_endpoint("cn-north-1", fips=True)


@pytest.mark.parametrize("host", ["minio.example", "s3.eu-west-1.amazonaws.com", "127.0.0.1", "myfips.example"])
@pytest.mark.parametrize(("option", "named"), [("fips", "AWS_USE_FIPS"), ("dualstack", "AWS_USE_DUALSTACK")])
def test_an_endpoint_of_another_kind_than_asked_for_is_refused_by_name(host: str, option: str, named: str) -> None:
    endpoint = Endpoint.from_url(f"https://{host}")
    endpoint.check_variant(fips=False, dualstack=False)
    with pytest.raises(ConfigurationError, match=f"{named}.*{host}"):
        endpoint.check_variant(**{"fips": False, "dualstack": False, option: True})


def test_a_directory_bucket_of_amazons_is_refused_by_name_and_elsewhere_is_a_bucket() -> None:
    bucket = "mine--usw2-az1--x-s3"
    assert Endpoint.from_url("https://minio.example").target(bucket, "k").path == f"/{bucket}/k"
    for style in ("auto", "path", "virtual"):
        endpoint = Endpoint.from_url(aws_endpoint("us-west-2"), style)
        with pytest.raises(UnsupportedUriError, match="directory bucket"):
            endpoint.target(bucket, "k")
        with pytest.raises(UnsupportedUriError, match="directory bucket"):
            endpoint.targets(bucket, ["k"])


@pytest.mark.parametrize(
    "uri",
    [
        "arn:aws:s3:::bucket/key",
        "arn:aws:s3:eu-west-1:123456789012:accesspoint/mine/object/key",
        "s3://arn:aws:s3-outposts:eu-west-1:123456789012:outpost/o/accesspoint/a/key",
        "s3://ARN:aws:s3::123456789012:accesspoint/m.mrap/key",
    ],
)
def test_an_arn_is_refused_by_name_in_every_form(uri: str) -> None:
    with pytest.raises(UnsupportedUriError, match=r"an ARN.*not supported.*s3://bucket/key"):
        parse_uri(uri)


def test_an_arn_as_a_bucket_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedUriError, match=r"an ARN.*not supported"):
        check_location("arn:aws:s3:eu-west-1:123456789012:accesspoint/mine", "key")


USERS = [
    "AKIA:hush", "AKIA:hu/sh+hush=", "AKIA:hush%2Fhush", "hush", "AKIA%3Ahush", "AKIA:hush@hush", "AKIA:12345hush",
]  # fmt: skip


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize(
    "form",
    [
        "s3://{}@bucket/key",
        "S3://{}@bucket/key",
        "s3://{}@bucket",
        "s3:/{}@bucket/key",
        "s3:{}@bucket/key",
        "https://{}@bucket.s3.amazonaws.com/key",
        "{}@bucket/key",
        "s3://{}%40bucket/key",
        " s3://{}@bucket/key",
        "gs://{}@bucket/key\n",
        "s3://{}@/key",
        "s3://{}@b u c k e t/key",
    ],
)
def test_a_refused_uri_is_repeated_without_its_user(form: str, user: str) -> None:
    for uri in (form.format(user), form.format(user).encode(), pathlib.PurePosixPath(form.format(user))):
        with pytest.raises(UnsupportedUriError) as caught:
            parse_uri(uri)  # type: ignore[arg-type]
        assert "hush" not in f"{caught.value} {caught.value!r} {caught.value.args}"


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("given", [("{}@bucket", "key"), ("{}@bucket", None), (b"{}@bucket", "key")])
def test_a_refused_bucket_is_repeated_without_its_user(given: tuple[object, object], user: str) -> None:
    bucket = given[0].format(user) if isinstance(given[0], str) else f"{user}@bucket".encode()
    with pytest.raises(UnsupportedUriError) as caught:
        check_location(bucket, given[1])  # type: ignore[arg-type]
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize(
    "form",
    [
        "https://{}@host",
        "https://{}@host:9000/base?query",
        "https://{}@host/base#fragment",
        "ftp://{}@host",
        "{}@host:9000",
        "http:/{}@host",
        "https://{}@host:port",
        "https://{}@ho st",
        "https://{}@host\n",
        "https://{}@[::1",
        "https://{}%40host",
    ],
)
@pytest.mark.parametrize("style", ["auto", "virtual", "hosted"])
def test_a_refused_endpoint_is_repeated_without_its_user(form: str, user: str, style: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Endpoint.from_url(form.format(user), style)
    assert "hush" not in f"{caught.value} {caught.value!r}"
