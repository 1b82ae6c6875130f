"""Filters, the merge of two sorted sides, and what is kept for the end: functions of values."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dlio._files.deleting import Spool
from s3dlio._files.filters import Filters
from s3dlio._files.sides import Entry, Pair, merged
from s3dlio.errors import ConfigurationError, S3dlioError


@pytest.mark.parametrize(
    ("exclude", "include", "filters", "allowed"),
    [
        ((), (), (), ["a.tmp", "d/a.npy", "d/e/x", "keep/a.tmp"]),
        ("*.tmp", (), (), ["d/a.npy", "d/e/x"]),
        ("*", "*.npy", (), ["d/a.npy"]),
        ("*", ["*.npy", "keep/**"], (), ["d/a.npy", "keep/a.tmp"]),
        ("d/", (), (), ["a.tmp", "keep/a.tmp"]),
        ("d/*", (), (), ["a.tmp", "d/e/x", "keep/a.tmp"]),
        ("**/x", (), (), ["a.tmp", "d/a.npy", "keep/a.tmp"]),
        ((), (), [("exclude", "*"), ("include", "d/**"), ("exclude", "x")], ["d/a.npy"]),
        ((), (), [("include", "*.tmp"), ("exclude", "*.tmp")], ["d/a.npy", "d/e/x"]),
    ],
)
def test_the_last_filter_that_matches_decides(
    exclude: str, include: str, filters: list[tuple[str, str]], allowed: list[str]
) -> None:
    chosen = Filters.of(exclude, include, filters)  # type: ignore[arg-type]
    assert [name for name in ("a.tmp", "d/a.npy", "d/e/x", "keep/a.tmp") if chosen.allow(name)] == allowed


@pytest.mark.parametrize(
    ("exclude", "include", "filters", "text"),
    [
        ((), "*.npy", (), "include without exclude changes nothing"),
        ("[", (), (), r"exclude='\[' is no glob"),
        ((), (), "x", "is a str; give pairs"),
        ((), (), [("omit", "x")], r"filters has \('omit', 'x'\)"),
        ([5], (), (), "neither a glob nor a sequence"),
    ],
)
def test_a_bad_filter_is_named(exclude: str, include: str, filters: list[tuple[str, str]], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        Filters.of(exclude, include, filters)  # type: ignore[arg-type]


def side(names: set[str]) -> Iterator[Entry]:
    ordered = sorted(names, key=lambda one: one.encode("utf-8", "surrogateescape"))
    return (Entry(name, name, 1, None) for name in ordered)


NAMES = st.sets(st.text(st.sampled_from("ab/-\u00e9\U0001f600\udc80"), max_size=5), max_size=30)


@given(NAMES, NAMES)
def test_a_merge_pairs_every_name_once(left: set[str], right: set[str]) -> None:
    pairs = list(merged(side(left), side(right)))
    assert all(isinstance(one, Pair) for one in pairs)
    names = {(one.source or one.target).name: one for one in pairs}  # type: ignore[union-attr]
    assert len(pairs) == len(names)
    assert names.keys() == left | right
    for name, pair in names.items():
        assert (pair.source is not None, pair.target is not None) == (name in left, name in right)


def test_a_side_that_is_not_sorted_is_refused() -> None:
    unsorted = iter([Entry("b", "b", 1, None), Entry("a", "a", 1, None)])
    with pytest.raises(S3dlioError, match="the target lists 'a' out of order"):
        list(merged(side({"c"}), unsorted))


def test_a_merge_of_many_names_needs_no_memory_for_them() -> None:
    def many(step: int) -> Iterator[Entry]:
        return (Entry(f"{number:09}", "", 1, None) for number in range(0, 200_000, step))

    tracemalloc.start()
    count = sum(1 for _ in merged(many(1), many(3)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 200_000
    assert peak < 100_000


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.just("\udc80"))))
def test_names_come_back_from_the_spool(names: list[str]) -> None:
    with Spool() as spool:
        for name in names:
            spool.add(name)
        assert (list(spool), spool.count) == (names, len(names))


def test_a_spool_of_many_names_lies_on_the_disk() -> None:
    tracemalloc.start()
    with Spool() as spool:
        for number in range(300_000):
            spool.add(f"some/folder/name-{number:09}")
        assert sum(1 for _ in spool) == 300_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 << 20
