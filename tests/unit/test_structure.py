"""The shape of the package: imports go down only, the public face is exact, importing is lean."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import s3dlio

PACKAGE = Path(__file__).parent.parent.parent / "s3dlio"
FLOORS = [
    {
        "_redaction", "errors", "progress", "_memory", "_kept", "_upload_info", "_forking", "_patches",
        "_waiting", "_entity_tags", "_timestamps", "_content_range", "_control_groups", "_processors",
    },
    {
        "config", "_buffers", "_values", "_views", "_tls", "_exchange", "_exchange_loop", "_uri", "_ranges",
        "_assembler", "_xml", "_retry", "_checksums", "_get_response", "_http", "_stragglers", "_proxies",
        "_idle_connections",
    },
    {
        "_bytes_view", "_payload", "_collected", "_credentials", "_shared_settings", "_signing", "_connections",
        "_drivers", "_failures", "_requests",
    },
    {
        "_endpoint_state", "_series", "_sending", "_attempts", "_client", "_default_service", "_operations",
        "_listings",
    },
    {
        "_workers", "_reports", "_completion", "_account", "_aborting", "_upload", "_intake", "_download", "_many",
    },
    {"writer", "reader", "objects", "uploads", "client"},
    {"__init__"},
]  # fmt: skip
MODULES = sorted(path for path in PACKAGE.iterdir() if path.suffix in (".py", ".pyx"))


def floor_of(name: str) -> int:
    return next(number for number, names in enumerate(FLOORS) if name in names)


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    if path.suffix == ".pyx":
        return found
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {node.module} if node.module else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_imports_go_down_only(path: Path) -> None:
    here = path.stem
    for name in imports(path):
        assert floor_of(name) <= floor_of(here), f"{here} imports {name}"


def test_no_imports_go_round() -> None:
    order = list(graphlib.TopologicalSorter({path.stem: imports(path) for path in MODULES}).static_order())
    assert order[-1] == "__init__"


@pytest.mark.parametrize(
    ("library", "importers"), [("botocore", {"_credentials", "_signing"}), ("urllib3", {"_connections"})]
)
def test_each_library_has_one_door(library: str, importers: set[str]) -> None:
    found = set()
    for path in MODULES:
        if path.suffix == ".py":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            names = [
                node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level
            ]
            names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
            found |= {path.stem for name in names if name.split(".")[0] == library}
    assert found == importers


def test_all_is_exactly_what_is_public() -> None:
    assert sorted(s3dlio.__all__) == sorted(set(s3dlio.__all__))
    assert all(hasattr(s3dlio, name) for name in s3dlio.__all__)
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    imported = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported == set(s3dlio.__all__)


def test_importing_does_not_load_what_is_needed_later() -> None:
    program = "import sys, s3dlio; print(sorted({'botocore', 'numpy', 'awscrt', 'boto3'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
