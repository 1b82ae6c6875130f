"""The page of the API is what the docstrings and signatures make it."""

from __future__ import annotations

import typing

import api_page
import pytest

import s3dlio


def test_the_page_has_every_public_name_once() -> None:
    named = [name for names in api_page.GROUPS.values() for name in names] + api_page.TWINS
    assert sorted(named) == sorted(s3dlio.__all__)


def test_the_page_is_up_to_date() -> None:
    assert api_page.PAGE.read_text(encoding="utf-8") == api_page.page(), "run `make api`"


@pytest.mark.parametrize("name", s3dlio.__all__)
def test_everything_public_is_described(name: str) -> None:
    public = getattr(s3dlio, name)
    described = {heading for heading, _ in api_page.documented(name)}
    assert (public.__doc__ or "").strip()
    if isinstance(public, type):
        own = {member for member in vars(public) if not member.startswith("_")} - set(typing.get_type_hints(public))
        assert {f"{name}.{member}" for member in own} <= described
