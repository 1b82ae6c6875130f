"""Points in time as stores and proxies write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dlio._values.timestamps import parse_timestamp

MOMENT = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 06 Nov 1994 08:49:37 -0000",
        "Sun, 06 Nov 1994 09:49:37 +0100",
        "1994-11-06T08:49:37Z",
        "1994-11-06T08:49:37.000Z",
        "1994-11-06T08:49:37",
        "1994-11-06 08:49:37+00:00",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        " 1994-11-06T08:49:37Z ",
    ],
)
def test_every_form_is_one_aware_moment(text: str) -> None:
    moment = parse_timestamp(text)
    assert moment == MOMENT
    assert moment is not None
    assert moment.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        None, "", " ", "undefined", "null", "0", "yesterday", "99999999999", "1994-13-40T00:00:00Z",
        "Sun, 06 Nov 99999999999 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 +9999", "99999999999-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z", "Mon, 01 Jan 0001 00:00:00 GMT", "Mon Jan  1 00:00:00 0001",
        "1970-01-01T00:00:00Z", "Thu, 01 Jan 1970 00:00:00 GMT",
        "0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00", "Sun, 06 Nov 1994 88:49:37 GMT",
    ],
)  # fmt: skip
def test_what_is_no_moment_is_unknown(text: str | None) -> None:
    assert parse_timestamp(text) is None


@given(st.text(max_size=60) | st.text(st.sampled_from("0123456789-+:TZ. ,GMTSunNov"), max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    moment = parse_timestamp(text)
    assert moment is None or moment.utcoffset() is not None
