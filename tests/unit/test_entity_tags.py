"""Entity tags as stores and proxies write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dlio._values.entity_tags import EntityTag, parse_entity_tag

OPAQUE = st.text(st.sampled_from([chr(c) for c in range(0x21, 0x100) if c not in (0x22, 0x7F)]), min_size=1)


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ('"abc"', EntityTag("abc")),
        ('  "abc-2"\t', EntityTag("abc-2")),
        ('W/"abc"', EntityTag("abc", weak=True)),
        ('"a,b"', EntityTag("a,b")),
        ('"W/abc"', EntityTag("W/abc")),
        ("abc", EntityTag("abc")),
        ("W/abc", EntityTag("abc", weak=True)),
        ('"abc", "abc"', EntityTag("abc")),
        ('W/"abc" ,W/"abc"', EntityTag("abc", weak=True)),
        ("abc, abc", EntityTag("abc")),
        ('"abc",', EntityTag("abc")),
    ],
)
def test_a_tag_is_read_in_every_form_that_stores_write(text: str, tag: EntityTag) -> None:
    assert parse_entity_tag(text) == tag


@pytest.mark.parametrize(
    "text",
    [None, "", " ", '""', 'W/""', '"', '"abc', 'abc"', '"a"b', '"a" "a"', '"abc", "def"', '"abc", W/"abc"', "a, b",
     '"abc", abc', 'w/"abc"', '"a\x7f"'],
)  # fmt: skip
def test_what_is_no_tag_is_unknown(text: str | None) -> None:
    assert parse_entity_tag(text) is None


def test_a_strong_tag_may_stand_in_if_match_and_no_other() -> None:
    assert EntityTag("abc").if_match == '"abc"'
    assert EntityTag("abc", quoted=False).if_match == '"abc"'
    assert EntityTag("abc", weak=True).if_match is None
    assert EntityTag("\xe4").if_match is None


def test_a_weak_tag_never_equals_a_strong_one() -> None:
    assert EntityTag("abc", weak=True) != EntityTag("abc")


@pytest.mark.parametrize(("text", "shown"), [('"abc"', "abc"), ('W/"abc"', "W/abc"), ("abc", "abc")])
def test_a_tag_is_shown_without_quotes(text: str, shown: str) -> None:
    assert str(parse_entity_tag(text)) == shown


@given(OPAQUE, st.booleans())
def test_a_quoted_tag_is_given_back_as_it_came(opaque: str, weak: bool) -> None:
    text = f'W/"{opaque}"' if weak else f'"{opaque}"'
    tag = parse_entity_tag(text)
    assert tag is not None
    assert (tag.as_given, tag.opaque, tag.weak) == (text, opaque, weak)


def test_a_tag_without_quotes_is_given_back_without() -> None:
    tag = parse_entity_tag("abc-2")
    assert tag is not None
    assert tag.as_given == "abc-2"
