"""The package's metadata: what it depends on, and its version."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import s3dlio

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def imported(path: Path) -> set[str]:
    """The packages that a module of Python imports by absolute names, other than for type checkers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    nodes = list(ast.walk(tree))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.split(".")[0] for name in names}


def names_of(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w-]+", one)[0] for one in requirements}  # type: ignore[index]


def test_the_dependencies_are_what_the_package_imports() -> None:
    used = set().union(*(imported(path) for path in (ROOT / "s3dlio").rglob("*.py")))
    extras = PROJECT["optional-dependencies"]
    optional = set().union(*(names_of(extras[name]) for name in set(extras) - {"test", "lint", "bench"}))
    assert used - sys.stdlib_module_names - {"s3dlio"} - optional == names_of(PROJECT["dependencies"])


def test_every_module_imports_where_numpy_is_not_installed() -> None:
    program = (
        "import importlib, pkgutil, sys\n"
        "sys.modules['numpy'] = None\n"
        "import s3dlio\n"
        "for module in pkgutil.walk_packages(s3dlio.__path__, 's3dlio.'): importlib.import_module(module.name)\n"
        "print(len([name for name in sys.modules if name.startswith('s3dlio')]))\n"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(shown.stdout) > 50


def test_the_version_is_that_of_the_distribution() -> None:
    assert importlib.metadata.version("s3dlio") == s3dlio.__version__
    assert "version" not in PROJECT
