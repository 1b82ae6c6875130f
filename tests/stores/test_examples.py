"""The examples of the public docstrings, as doctests against the embedded server."""

from __future__ import annotations

import doctest
import inspect
from pathlib import Path
from typing import Any

import pytest
from api_page import documented

import s3dlio

DOCUMENTED = {heading: one for name in s3dlio.__all__ for heading, one in documented(name)}
EXAMPLES = {heading: one for heading, one in DOCUMENTED.items() if ">>>" in (one.__doc__ or "")}
# Only a store that fails or a process that forks shows these.
NOT_SHOWN = {
    "AccessDeniedError", "ChecksumMismatchError", "CredentialsError", "ForkedError", "ObjectChangedError",
    "FileChangedError", "ThrottledError", "TimeoutError",
}  # fmt: skip


def test_every_public_name_has_an_example() -> None:
    twins = {name for name in s3dlio.__all__ if hasattr(getattr(s3dlio, name), "twin_of")}  # as their functions
    assert {name for name in s3dlio.__all__ if name not in EXAMPLES} == NOT_SHOWN | twins


@pytest.mark.parametrize("heading", EXAMPLES)
def test_the_example_runs(
    embedded: Any, heading: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    embedded.boto3.create_bucket(Bucket="my-bucket")
    text = inspect.getdoc(EXAMPLES[heading]) or ""
    test = doctest.DocTestParser().get_doctest(text, {"s3dlio": s3dlio}, heading, None, None)
    assert test.examples
    failed, _ = doctest.DocTestRunner(verbose=False).run(test)
    assert failed == 0, capsys.readouterr().out
