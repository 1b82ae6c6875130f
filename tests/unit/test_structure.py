"""The shape of the package: imports go down only, the public face is exact, importing is lean.

The floors are those of `docs/explanation/architecture.md`: there is no second list of them.
"""

from __future__ import annotations

import ast
import graphlib
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

import s3dlio

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "s3dlio"
PAGE = ROOT / "docs" / "explanation" / "architecture.md"


def read_floors(page: str) -> list[list[str]]:
    """The modules of each floor, from the top down, by the block of the page that is marked ``floors``.

    Each line begins with the floor's name, or with blanks where it continues one; a word that ends in ``/`` is the
    folder of those after it.
    """
    block = re.search(r"^```floors\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert block is not None, "the page has no block of floors"
    floors: list[list[str]] = []
    folder = ""
    for line in block[1].splitlines():
        words = line.split()
        if not line.startswith(" "):
            floors.append([])
            words, folder = words[1:], ""
        for word in words:
            if word.endswith("/"):
                folder = word[:-1] + "."
            else:
                floors[-1].append(folder + word)
    return floors


FLOORS = read_floors(PAGE.read_text(encoding="utf-8"))
LEVELS = {module: len(FLOORS) - number for number, floor in enumerate(FLOORS) for module in floor}
FILES = sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".pyx", ".pxd"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


MODULES = [path for path in FILES if path.name != "__init__.py" or path.parent == PACKAGE]


def imports(path: Path) -> set[str]:
    """The modules of the package that a file imports or cimports, by the names of the page."""
    found = _cython_imports(path) if path.suffix in (".pyx", ".pxd") else _python_imports(path)
    return {name for name in (_module(name) for name in found) if name != name_of(path)}


def _python_imports(path: Path) -> set[str]:
    package = list(path.relative_to(PACKAGE).parts[:-1])
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
        elif node.module is not None and node.module.split(".")[0] == "s3dlio":
            base = node.module.split(".")[1:]
        else:
            continue
        found |= {".".join([*base, alias.name]) for alias in node.names}
    return found


def _cython_imports(path: Path) -> set[str]:
    text = path.read_text(encoding="utf-8")
    lines = re.findall(r"^\s*from s3dlio\.([\w.]+) c?import (\(.*?\)|.*?)$", text, re.MULTILINE | re.DOTALL)
    return {f"{module}.{name.strip()}" for module, names in lines for name in names.strip("()").split(",")}


def _module(imported: str) -> str:
    """The module that an imported name is, or lies in."""
    parent = imported.rpartition(".")[0]
    found = next((name for name in (imported, parent) if name in LEVELS), None)
    assert found is not None, f"{imported} is of no module that the page knows"
    return found


def test_the_page_knows_every_module_and_no_other() -> None:
    assert sorted(LEVELS) == sorted({name_of(path) for path in MODULES})
    assert len(LEVELS) == sum(map(len, FLOORS)), "a module stands on two floors"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    here = name_of(path)
    for name in imports(path):
        assert LEVELS[name] <= LEVELS[here], f"{here} imports {name}"


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("cli/*.py")), ids=lambda path: path.name)
def test_the_command_uses_nothing_below_the_face(path: Path) -> None:
    if path.name != "__init__.py":
        assert {LEVELS[name] for name in imports(path)} <= {LEVELS["cli.entry"], LEVELS["client"]}


def test_no_floor_has_a_circle_of_imports() -> None:
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        graph.setdefault(name_of(path), set()).update(imports(path))
    assert sum(map(len, graph.values())) > len(MODULES), "hardly an import was found"
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert len(order) == len(LEVELS)


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")))
def test_a_folder_opens_with_its_description_and_nothing_else(folder: str) -> None:
    tree = ast.parse((PACKAGE / folder / "__init__.py").read_text(encoding="utf-8"))
    entries = [ast.unparse(node) for node in tree.body[1:]]
    assert entries == (["from .entry import main as main"] if folder == "cli" else [])
    described = ast.get_docstring(tree) or ""
    assert 3 <= len(re.findall(r"[.!?](?:\s|$)", described)) <= 6


@pytest.mark.parametrize(
    ("library", "importers"),
    [("botocore", {"_s3.credentials"}), ("urllib3", {"_net.connections"})],
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
            found |= {name_of(path) for name in names if name.split(".")[0] == library}
    assert found == importers


def test_all_is_exactly_what_is_public() -> None:
    assert sorted(s3dlio.__all__) == sorted(set(s3dlio.__all__))
    assert all(hasattr(s3dlio, name) for name in s3dlio.__all__)
    tree = ast.parse((PACKAGE / "_face.py").read_text(encoding="utf-8"))
    found = [(alias.name, alias.asname) for node in tree.body for alias in getattr(node, "names", ())]
    assert sorted(found) == sorted((name, name) for name in s3dlio.__all__)
    assert set(s3dlio.__all__) < set(dir(s3dlio))


@pytest.mark.parametrize("name", s3dlio.__all__)
def test_public_names_are_known_by_the_package(name: str) -> None:
    public = getattr(s3dlio, name)
    assert public.__module__ == "s3dlio"
    assert pickle.loads(pickle.dumps(public)) is public
    assert b"s3dlio." not in pickle.dumps(public, protocol=0)


def printed(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_does_not_load_what_is_needed_later() -> None:
    later = {"botocore", "numpy", "awscrt", "boto3", "urllib3", "urllib.request", "http.client", "xml.parsers.expat"}
    assert printed(f"import sys, s3dlio; s3dlio.get; print(sorted({later} & set(sys.modules)))") == "[]"


def test_the_package_itself_loads_nothing_before_a_name_of_it_is_used() -> None:
    loaded = "sorted(name for name in sys.modules if name.startswith('s3dlio.'))"
    assert printed(f"import sys, s3dlio; s3dlio.__version__; print({loaded})") == "[]"


@pytest.mark.parametrize(
    "use",
    [
        "from s3dlio import *; list",
        "from s3dlio import list; list",
        "import s3dlio; s3dlio.list",
        "import s3dlio.listing; s3dlio.list",
        "import s3dlio; s3dlio.listing.list",
    ],
)
def test_every_way_of_using_a_name_finds_it(use: str) -> None:
    *before, last = use.split(";")
    assert printed(";".join([*before, f"print({last.strip()}.__module__)"])) == "s3dlio"


@pytest.mark.parametrize("name", ["lst", "__wrapped__"])
def test_a_name_that_is_not_there_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module 's3dlio' has no attribute '{name}'"):
        getattr(s3dlio, name)


def test_no_module_hides_a_public_name() -> None:
    assert not {path.stem for path in PACKAGE.iterdir()} & set(s3dlio.__all__)
