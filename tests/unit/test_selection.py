"""The one rule of prefixes: which keys a URI selects."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import s3dlio
from s3dlio._s3.selection import compile_glob, compile_pattern, select, select_one


@pytest.mark.parametrize(
    ("uri", "bucket", "prefix", "glob", "single"),
    [
        ("s3://b", "b", "", "", False),
        ("s3://b/", "b", "", "", False),
        ("s3://b/k", "b", "k", "", True),
        ("s3://b/d/", "b", "d/", "", False),
        ("s3://b//", "b", "/", "", False),
        ("s3://b/d/*.npy", "b", "d/", "d/*.npy", False),
        ("s3://b/d/run-?/**", "b", "d/run-", "d/run-?/**", False),
        ("s3://b/[ab]/", "b", "", "[ab]/", False),
        ("S3://b/k", "b", "k", "", True),
    ],
)
def test_a_uri_names_one_object_or_what_lies_below_it_or_a_glob(
    uri: str, bucket: str, prefix: str, glob: str, single: bool
) -> None:
    assert select(uri) == (bucket, prefix, glob, single)


KEYS = ["a", "a.npy", "b.npy", "d/a.npy", "d/b.npy", "d/e/a.npy", "d/.npy", "d/", "da.npy", "d[1]", "d*", "d?"]


@pytest.mark.parametrize(
    ("glob", "chosen"),
    [
        ("*.npy", ["a.npy", "b.npy", "da.npy"]),
        ("**.npy", ["a.npy", "b.npy", "d/a.npy", "d/b.npy", "d/e/a.npy", "d/.npy", "da.npy"]),
        ("**/a.npy", ["a.npy", "d/a.npy", "d/e/a.npy"]),
        ("d/*", ["d/a.npy", "d/b.npy", "d/.npy", "d/"]),
        ("d/**", ["d/a.npy", "d/b.npy", "d/e/a.npy", "d/.npy", "d/"]),
        ("d/?.npy", ["d/a.npy", "d/b.npy"]),
        ("d/[!b].npy", ["d/a.npy"]),
        ("[a-b].npy", ["a.npy", "b.npy"]),
        ("d[[]1]", ["d[1]"]),
        ("d[*]", ["d*"]),
        ("d[?]", ["d?"]),
        ("d?a.npy", []),
        ("d[!x]a.npy", []),
    ],
)
def test_a_glob_selects_what_it_matches_as_a_whole(glob: str, chosen: list[str]) -> None:
    selection = select(f"s3://b/{glob}")
    assert [key for key in KEYS if key.startswith(selection.prefix) and selection.matches(key)] == chosen


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="*?["), min_size=1))
def test_text_without_wildcards_matches_itself_alone(key: str) -> None:
    assert compile_glob(key).fullmatch(key)
    assert not compile_glob(key).fullmatch(key + "x")


@given(st.text("ab/*?[]!-^\\.", max_size=8), st.text("ab/-^\\.", max_size=8))
def test_every_glob_is_compiled_or_refused(glob: str, key: str) -> None:
    try:
        pattern = compile_glob(glob)
    except s3dlio.UnsupportedUriError:
        assert "[" in glob
        return
    if pattern.fullmatch(key) and "**" not in glob:
        assert key.count("/") == re.sub(r"\[[!^]?\]?[^\]]*\]", "x", glob).count("/")


@pytest.mark.parametrize("uri", ["s3://b/[", "s3://b/d/[ab", "s3://b/[]", "s3://b/[z-a]"])
def test_a_class_that_cannot_be_is_refused_with_a_remedy(uri: str) -> None:
    with pytest.raises(s3dlio.UnsupportedUriError, match=r"'\[' without a '\]'|cannot be used"):
        select(uri)


@pytest.mark.parametrize("uri", ["s3://b", "s3://b/", "s3://b/d/"])
def test_a_prefix_is_refused_where_one_object_is_needed(uri: str) -> None:
    with pytest.raises(s3dlio.UnsupportedUriError, match="what lies below it; name one object"):
        select_one(uri)


@pytest.mark.parametrize("key", ["a", "file[1].txt", "a*", "why?"])
def test_where_one_object_is_needed_wildcards_are_characters(key: str) -> None:
    assert select_one(f"s3://b/{key}") == ("b", key)


@pytest.mark.parametrize("pattern", ["(", 7])
def test_a_pattern_that_is_none_is_refused(pattern: object) -> None:
    with pytest.raises(s3dlio.ConfigurationError, match="is not a regular expression"):
        compile_pattern(pattern)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("glob", "level"),
    [("d/*", True), ("d/a*b", True), ("*", True), ("d/**", False), ("*/a", False), ("d*/a", False), ("**/a", False)],
)
def test_a_glob_of_one_level_is_known(glob: str, level: bool) -> None:
    assert select(f"s3://b/{glob}").one_level is level
