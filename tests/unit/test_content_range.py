"""`content_range`: reading Content-Range."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3dlio._s3.content_range import parse_content_range


@settings(deadline=None)
@given(st.integers(0, 1 << 62), st.integers(0, 1 << 62), st.integers(1, 1 << 62) | st.none())
def test_a_written_content_range_is_read_back(first: int, more: int, after: int | None) -> None:
    last = first + more
    total = None if after is None or last + after >= 10**19 else last + after
    written = f"bytes {first}-{last}/{'*' if total is None else total}"
    assert parse_content_range(written) == (first, last, total)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes 0-0/1", (0, 0, 1)),
        ("bytes 5-9/*", (5, 9, None)),
        (" Bytes 0-499/1234 ", (0, 499, 1234)),
    ],
)
def test_content_range_in_the_forms_stores_write(text: str, expected: tuple[int, int, int | None]) -> None:
    assert parse_content_range(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bytes",
        "bytes */100",
        "bytes 0-9",
        "bytes=0-9/10",
        "items 0-9/10",
        "bytes -9/10",
        "bytes 0-/10",
        "bytes 0 - 9/10",
        "bytes 0-9/10, bytes 0-9/10",
        "bytes +0-9/10",
        "bytes 0x0-9/10",
        "bytes 0_0-9/10",
        "bytes \u0660-\u0669/10",
        f"bytes 0-{'9' * 5000}/*",
    ],
)
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not of the form"):
        parse_content_range(text)


@pytest.mark.parametrize("text", ["bytes 9-0/10", "bytes 0-10/10", "bytes 0-0/0"])
def test_a_content_range_that_contradicts_itself_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="contradicts itself"):
        parse_content_range(text)
