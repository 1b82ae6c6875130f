"""The page of promises names tests that exist, and leaves out no file of those that prove them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
PAGE = (TESTS.parent / "docs" / "explanation" / "reliability.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([a-z_/]+\.py)::([\w:]+)`", PAGE)))
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "`" in line and ".py::" in line]


def names_of(path: Path) -> set[str]:
    """Functions and variables that a module defines."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_every_test_that_the_page_names_exists(file: str, test: str) -> None:
    assert test.partition("::")[0] in names_of(TESTS / file)


def test_every_row_has_a_test_and_its_result() -> None:
    assert len(ROWS) > 60
    for row in ROWS:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 4, row
        assert all(cells), row
        assert re.fullmatch(r"\d+ passed|every run", cells[3]), row


@pytest.fixture(scope="module")
def cases() -> Counter[str]:
    """How many cases each test that the page names has, by pytest's own count."""
    files = sorted({str(TESTS / file) for file, _ in NAMED if not file.endswith("conftest.py")})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    shown = subprocess.run([*command, *files], cwd=TESTS.parent, capture_output=True, text=True, check=True)
    found = [line.removeprefix("tests/").partition("[")[0] for line in shown.stdout.splitlines() if "::" in line]
    return Counter(found)


def test_every_row_counts_the_cases_of_its_tests(cases: Counter[str]) -> None:
    """A test that failed would have ended the run, so that a row has as many passed as its tests have cases."""
    wrong = []
    for row in ROWS:
        claimed = re.search(r"(\d+) passed \|$", row)
        names = re.findall(r"`([a-z_/]+\.py::[\w:]+)`", row)
        if claimed is not None and int(claimed[1]) != sum(cases[name] for name in names):
            wrong.append(f"{sum(cases[name] for name in names)} instead of {claimed[1]}: {row}")
    assert not wrong


@pytest.mark.parametrize("folder", ["faults", "lifecycle", "models"])
def test_every_file_that_proves_promises_is_named(folder: str) -> None:
    files = {f"{folder}/{path.name}" for path in (TESTS / folder).glob("test_*.py")}
    memory = {"lifecycle/test_buffer_memory.py", "lifecycle/test_writer_memory.py"}  # how much, and not whether
    assert files - memory <= {file for file, _ in NAMED}
