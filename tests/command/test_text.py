"""Sizes, ages, times and keys as people write and read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dlio.cli.arguments import byte_range, pair
from s3dlio.cli.filters import root_of
from s3dlio.cli.text import duration, human, parse_age, parse_size, shown, stamp


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1048576", 1 << 20), ("16MiB", 16 << 20), ("16M", 16 << 20), ("1.5 GiB", 3 << 29), ("2k", 2048),
     ("5TB", 5 << 40), ("7b", 7)],
)  # fmt: skip
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "many", "-1", "1ZiB", "1 2", "MiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no size; write for example 16MiB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "age"),
    [("90", 90), ("90s", 90), ("15m", 900), ("12h", 43200), ("7d", 604800), ("2w", 1209600), ("1.5h", 5400)],
)
def test_ages_are_read(text: str, age: float) -> None:
    assert parse_age(text) == timedelta(seconds=age)


@pytest.mark.parametrize("text", ["", "0", "0d", "soon", "-1d", "1y"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        parse_age(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB"), (1 << 70, "1024.0 EiB")],
)
def test_sizes_are_shown(size: int, text: str) -> None:
    assert human(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (185, "3 m 05 s"), (7800, "2 h 10 m")]
)
def test_durations_are_shown(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_times_are_shown_in_utc() -> None:
    assert stamp(datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=timezone(timedelta(hours=2)))) == "2026-01-02T01:04:05Z"
    assert stamp(None) == "-"
    assert stamp(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02T00:00:00Z"


@given(st.text())
def test_nothing_that_a_terminal_acts_on_is_shown(text: str) -> None:
    assert shown(text).isprintable()
    assert shown(shown(text)) == shown(text)
    if text.isprintable():
        assert shown(text) == text


def test_bytes_that_are_not_utf8_are_shown_as_they_are() -> None:
    assert shown(b"a\xff\n".decode("utf-8", "surrogateescape")) == r"a\xff\x0a"


@pytest.mark.parametrize(
    ("uri", "root"),
    [("s3://b", "s3://b/"), ("s3://b/", "s3://b/"), ("s3://b/k", "s3://b/"), ("s3://b/d/", "s3://b/d/"),
     ("s3://b/d/k", "s3://b/d/"), ("s3://b/d/*.npy", "s3://b/d/"), ("s3://b/d*/x", "s3://b/"),
     ("s3://b/[ab]/", "s3://b/")],
)  # fmt: skip
def test_relative_names_begin_after_the_root(uri: str, root: str) -> None:
    assert root_of(uri) == root


@pytest.mark.parametrize(("text", "ends"), [("0-99", (0, 99)), ("100-", (100, None)), ("-5", (None, 5))])
def test_ranges_are_read(text: str, ends: tuple[int | None, int | None]) -> None:
    assert byte_range(text) == ends


@pytest.mark.parametrize("text", ["", "-", "5", "a-b", "9-1", "1-2-3", "+1-2"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no range"):
        byte_range(text)


def test_pairs_are_split_at_the_first_colon() -> None:
    assert pair("a: b:c ") == ("a", "b:c")
    for text in ("a", ":b", " :b"):
        with pytest.raises(ValueError, match="name:value"):
            pair(text)
