"""The ways through the package, as `docs/explanation/architecture.md` tells them, are the ways that calls take."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
# Function and whether it is native, by the name of the way.
WAYS = {
    name: [(line.split()[0], line.split()[1:2] == ["*"]) for line in block.splitlines()]
    for name, block in re.findall(r"^```way (\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
}


def resolve(function: str) -> object:
    """The function, by the longest prefix that is a module."""
    names = function.split(".")
    for end in range(len(names) - 1, 0, -1):
        try:
            found: object = importlib.import_module(".".join(["s3dlio", *names[:end]]))
        except ModuleNotFoundError:
            continue
        for name in names[end:]:
            found = getattr(found, name)
        return found
    raise AssertionError(f"{function} is in no module")


def test_the_page_tells_three_ways() -> None:
    assert sorted(WAYS) == ["ranged_get", "reservation", "small_object"]
    assert all(len(steps) > 10 for steps in WAYS.values())


@pytest.mark.parametrize("function", sorted({function for steps in WAYS.values() for function, _ in steps}))
def test_every_function_of_a_way_exists(function: str) -> None:
    assert callable(resolve(function)), f"the page names {function}, which is no function"


@pytest.mark.parametrize("way", WAYS)
def test_a_transfer_calls_the_functions_of_its_way_in_their_order(way: str) -> None:
    support = ROOT / "tests" / "support"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(support)])}
    command = [sys.executable, str(support / "walk.py"), way]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    calls: list[str] = json.loads(shown.stdout)
    at = -1
    for function, native in WAYS[way]:
        if native:
            continue
        assert function in calls, f"the page says that this way calls {function}, and it does not"
        assert function in calls[at + 1 :], f"{function} is called, but not after {calls[at]}"
        at = calls.index(function, at + 1)
