"""`failures`: what is read from an answer that says no, however odd its headers and its body are."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from s3dlio import S3Error, ThrottledError
from s3dlio._s3.failures import Failed
from s3dlio._s3.requests import Request, Response

REQUEST = Request("GetObject", "GET", "b", "k")
DATE = "Wed, 25 Nov 2026 12:00:00 GMT"
NOON = 1795608000.0

# Neither a number of seconds nor a date that there can be.
ODD = [
    "", " ", "undefined", "null", "Thu, 01 Jan 99999999999 00:00:00 GMT", "-5", "+5", "1e3", "0x10", "1_000", "nan",
    "inf", "-inf", "\u0663", "\u00b2", "5;", "5, 7", "Wed, 31 Feb 2026 12:00:00 GMT",
    "Wed, 25 Nov 2026 25:61:61 GMT", "\x00", "0001-01-01T00:00:00Z", "Mon, 01 Jan 0001 00:00:00 GMT", ",", "soon",
]  # fmt: skip


def failed(headers: dict[str, str] | None = None, body: bytes = b"", status: int = 503) -> Failed:
    return Failed.of_response(Response(status, headers or {}, body, len(body), 1, 0), True)


def error_of(headers: dict[str, str] | None = None, body: bytes = b"", status: int = 403) -> S3Error:
    error = failed(headers, body, status).as_error(REQUEST, 1, 0.0, 0)
    assert isinstance(error, S3Error)
    return error


@pytest.mark.parametrize("text", ODD)
def test_an_odd_date_is_unknown(text: str) -> None:
    assert failed({"date": text}).date is None


@pytest.mark.parametrize("text", ODD)
def test_an_odd_retry_after_asks_for_nothing(text: str) -> None:
    assert failed({"date": DATE, "retry-after": text}).retry_after == 0.0


@pytest.mark.parametrize(
    "text",
    [
        DATE,
        f"{DATE}, {DATE}",
        "Wed, 25 Nov 2026 12:00:00 -0000",
        "Wednesday, 25-Nov-26 12:00:00 GMT",
        "Wed Nov 25 12:00:00 2026",
        "2026-11-25T12:00:00Z",
        "2026-11-25T12:00:00",
        "2026-11-25T13:00:00+01:00",
    ],
)
def test_a_date_in_any_form_is_one_instant(text: str) -> None:
    assert failed({"date": text}).date == NOON


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5.0),
        (" 5 ", 5.0),
        ("2.5", 2.5),
        ("7, 7", 7.0),
        ("0", 0.0),
        ("Wed, 25 Nov 2026 12:00:09 GMT", 9.0),
        ("2026-11-25T12:00:09Z", 9.0),
        ("Wed, 25 Nov 2026 11:00:00 GMT", 0.0),
    ],
)
def test_a_retry_after_is_read_in_every_form(text: str, seconds: float) -> None:
    assert failed({"date": DATE, "retry-after": text}).retry_after == seconds


def test_a_number_of_seconds_without_end_is_read_as_a_long_time() -> None:
    assert failed({"retry-after": "9" * 400}).retry_after > 1e6


@pytest.mark.parametrize("date", [{}, {"date": "undefined"}], ids=["none", "odd"])
def test_a_date_to_retry_after_counts_from_now_where_the_store_tells_no_time(date: dict[str, str]) -> None:
    later = formatdate(time.time() + 1000, usegmt=True)
    assert 900 < failed({**date, "retry-after": later}).retry_after <= 1000


# ------------------------------------------------------------------------------------------- what is not S3's XML

PAGE = b"<!DOCTYPE html>\n<html><head><title>403 Forbidden</title></head>\n<body>Blocked by the firewall</body></html>"


def test_a_page_is_told_by_its_kind_and_first_printable_bytes() -> None:
    text = str(error_of({"content-type": "text/html; charset=utf-8"}, PAGE))
    assert "text/html" in text
    assert "<!DOCTYPE html> <html><head><title>403 Forbidden</title>" in text
    assert "firewall" not in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"message": "Missing Authentication Token"}', '{"message": "Missing Authentication Token"}'),
        (b"upstream connect error\r\n\x00\x1b[31mreset", "upstream connect error"),
        (b"\xff\xfe\x00binary\x01", "binary"),
        ("kein Zugriff f\u00fcr Sie".encode(), "kein Zugriff f"),
        (b"<Error><Code>Broken", "<Error><Code>Broken"),
    ],
)
def test_any_other_body_is_told_too(body: bytes, shown: str) -> None:
    error = error_of({}, body)
    assert shown in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 300
    assert error.message is not None
    assert error.code is None


def test_without_a_body_nothing_is_made_up() -> None:
    assert error_of({}, b"").message is None
    assert error_of({}, b" \r\n ").message is None


def test_a_redirect_tells_where_it_points() -> None:
    page = "http://login.example/portal"
    assert page in str(error_of({"location": page}, PAGE, 302))
    assert page in str(error_of({"location": page}, b"", 302))


def test_the_endpoint_that_the_store_names_is_told() -> None:
    body = (
        b"<Error><Code>PermanentRedirect</Code><Message>Use another endpoint.</Message>"
        b"<Endpoint>b.s3.eu-west-1.amazonaws.com</Endpoint></Error>"
    )
    error = error_of({}, body, 301)
    assert "b.s3.eu-west-1.amazonaws.com" in str(error)
    assert error.code == "PermanentRedirect"
    assert error.message is not None
    assert error.message.startswith("Use another endpoint")


@pytest.mark.parametrize("lead", [0, 40, 70, 76])
def test_a_secret_in_such_a_body_or_place_is_redacted_wherever_it_is_cut(lead: int) -> None:
    url = "http://proxy:hunter2@host/?X-Amz-Signature=abc123def"
    text = str(error_of({"location": url}, b"x" * lead + b" " + url.encode() + b" denied", 302))
    for end in range(4, 9):
        assert "abc123def"[:end] not in text
    assert "hunt" not in text


def test_a_very_large_page_costs_no_more() -> None:
    text = str(error_of({}, b"<html>" + b"x" * (8 << 20)))
    assert len(text) < 300


# ------------------------------------------------------------------------------------------------------ throttles


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (503, "SlowDown"),
        (503, "SlowDownRead"),
        (503, "SlowDownWrite"),
        (400, "ThrottlingException"),
        (400, "RequestThrottled"),
        (400, "BandwidthLimitExceeded"),
        (429, None),
        (509, None),
        (529, None),
    ],
)
def test_a_wish_for_a_slower_pace_is_a_throttled_error(status: int, code: str | None) -> None:
    body = b"" if code is None else f"<Error><Code>{code}</Code></Error>".encode()
    assert isinstance(error_of({}, body, status), ThrottledError)


@pytest.mark.parametrize("status", [500, 503, 520, 598])
def test_other_trouble_is_not(status: int) -> None:
    assert not isinstance(error_of({}, b"", status), ThrottledError)
