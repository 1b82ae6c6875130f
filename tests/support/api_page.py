"""Makes ``docs/reference/api.md`` from the docstrings and signatures of the public names.

``python tests/support/api_page.py`` writes the page; a test compares it with what is committed.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import s3dlio

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "reference" / "api.md"
GROUPS = {
    "Reading": ["get", "get_range", "get_into", "get_many", "BytesView"],
    "Writing": ["put_bytes", "put_many", "MultipartUploadWriter", "MultipartUploadSink", "MultipartUploadConfig"],
    "Objects and uploads": [
        "stat", "exists", "copy", "delete", "presign", "PresignedUrl", "list_uploads", "abort_uploads",
    ],
    "Files": [
        "upload", "download", "sync", "TransferResult", "TransferredFile", "SkippedFile", "SyncResult", "SyncAction",
    ],
    "Listing": ["list", "iter_objects", "ObjectIterator", "ObjectPage", "ObjectColumns"],
    "Versions": ["list_versions", "delete_all_versions", "VersionInfo", "VersionIterator"],
    "Buckets": ["create_bucket", "delete_bucket", "list_buckets", "BucketInfo"],
    "Streams": ["open", "ObjectReader", "ObjectWriter", "get_iter", "ObjectChunks"],
    "Asynchronous": [
        "AsyncMultipartUploadWriter", "open_async", "AsyncOpening", "AsyncObjectReader", "AsyncObjectWriter",
        "AsyncObjectChunks", "AsyncObjectIterator", "AsyncVersionIterator", "AsyncBatches",
    ],
    "Data sets": ["PyDataset", "PyBytesAsyncDataLoader", "PyObjectItems", "PyObjectItem"],
    "The original's further names": [
        "init_logging", "configure_s3", "configure_tokio_threads", "list_keys", "list_full_uris", "mkdir",
        "get_many_stats", "mp_get",
    ],
    "Clients": ["Client", "Timeouts", "RetryPolicy", "stats", "ClientStats", "OperationStats"],
    "What calls return and report": ["UploadInfo", "ObjectInfo", "UploadSummary", "Progress", "ProgressEvent"],
    "Options": ["UploadOptions", "PutManyOptions", "GetOptions"],
    "Errors": [
        "S3dlioError", "ConfigurationError", "CredentialsError", "UnsupportedUriError", "ReservationError",
        "WriterClosedError", "S3Error", "NotFoundError", "AccessDeniedError", "PreconditionFailedError",
        "InvalidRangeError", "ThrottledError", "TransportError", "TimeoutError", "ChecksumMismatchError",
        "ObjectChangedError", "ObjectExistsError", "FileChangedError", "UnsafePathError", "DeletionRefusedError",
        "ManyFailedError", "ForkedError",
    ],
}  # fmt: skip
# Described by their functions; the page tells their names only.
TWINS = sorted(name for name in s3dlio.__all__ if hasattr(getattr(s3dlio, name), "twin_of"))
TYPES = ("Buffer", "Path", "Checksum", "AddressingStyle", "Credentials", "OnError")
HEAD = """# API

Every public name of `s3dlio`: what it takes, returns and raises, with an example that runs in the tests.
The page is made from the docstrings by `make api`; edit those. In the examples `s3dlio` is imported, the bucket
`my-bucket` exists, and the environment names a store.

Every function is also a method of `Client`, without its argument `client`. An argument after `*` is passed by name. An
unknown name is a `TypeError` that suggests the one that was meant; a value of the wrong type is a `ConfigurationError`
that is a `TypeError` too. `**options: Unpack[UploadOptions]` stands for the keywords listed under [Options](#options).

Types in the signatures:

"""


def page() -> str:
    parts = [HEAD + "\n".join(_types())]
    for title, names in GROUPS.items():
        parts.append(f"## {title}")
        if title == "Asynchronous":
            parts.append(_twins())
        parts += [_entry(name) for name in names]
    return "\n\n".join(parts) + "\n"


def _twins() -> str:
    text = (
        "These are the functions without `_async`, to be awaited, or where the function returns an iterator, to be "
        "iterated over by `async for`: the parameters, the results and the errors are the same. `Client` has them too: "
    )
    return textwrap.fill(text + ", ".join(f"`{name}`" for name in TWINS) + ".", 120, break_on_hyphens=False)


def documented(name: str) -> Iterator[tuple[str, Any]]:
    """A public name and what it has of its own that carries a docstring: (heading, object)."""
    public = getattr(s3dlio, name)
    yield name, public
    if inspect.isclass(public):
        for member, one in vars(public).items():
            one = getattr(one, "__func__", one)
            described = inspect.isfunction(one) or isinstance(one, property)
            if described and not member.startswith("_") and (one.__doc__ or "").strip():
                yield f"{name}.{member}", one


def _types() -> Iterator[str]:
    tree = ast.parse((ROOT / "s3dlio" / "options.py").read_text(encoding="utf-8"))
    assigned = {
        node.targets[0].id: ast.unparse(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    for name in TYPES:
        if name == "Buffer":
            yield "- `Buffer`: any object with the buffer protocol, such as `bytes`, `mmap` or a NumPy array."
        else:
            yield f"- `{name}`: `{assigned[name].replace(chr(39), chr(34))}`"


def _entry(name: str) -> str:
    parts: list[str] = []
    told = {f"Client.{one}" for one in s3dlio.__all__} | {"Client.service"}  # and the twins among them
    own = [pair for pair in documented(name) if pair[0] not in told]
    properties = [pair for pair in own if isinstance(pair[1], property)]
    for heading, one in [pair for pair in own if pair not in properties] + properties[:1]:
        if isinstance(one, property):
            parts.append("#### Properties")
            parts.append("\n".join(f"- `{_signature(h, p)}`: {_plain(inspect.getdoc(p) or '')}" for h, p in properties))
            continue
        parts.append(f"{'####' if '.' in heading else '###'} `{heading}`")
        signature = _signature(heading, one)
        if signature:
            parts.append(f"```text\n{signature}\n```")
        parts.append(_markdown(inspect.getdoc(one) or ""))
    return "\n\n".join(parts)


def _signature(heading: str, one: Any) -> str:
    """As the source has it, so that types keep their short names."""
    if isinstance(one, property):
        return f"{heading.rpartition('.')[2]}: {_function(one.fget).returns}"
    if inspect.isfunction(one):
        prefix = "async " if inspect.iscoroutinefunction(inspect.unwrap(one)) else ""
        return prefix + _call(heading, _function(one))
    body = _classes()[heading]
    bases = [ast.unparse(base) for base in body.bases if ast.unparse(base) not in ("Mapping[str, Any]", "Protocol")]
    for node in body.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__" and not issubclass(one, BaseException):
            shown = _Shown(node)
            return "" if shown.parameters == ["**values: Any"] else _call(heading, shown)
    if issubclass(one, BaseException):
        return f"class {heading}({', '.join(bases)})"
    fields = [node for node in body.body if isinstance(node, ast.AnnAssign) and not ast.unparse(node).startswith("_")]
    if not fields:
        return ""
    if typing.is_typeddict(one):
        base = "" if bases == ["TypedDict"] else f"    # and what {bases[0]} has\n"
        return f"{heading}:\n" + base + "\n".join(f"    {ast.unparse(node)}" for node in fields)
    lines = [f"    {ast.unparse(node.target)}: {ast.unparse(node.annotation)}{_default(one, node)}," for node in fields]
    return "\n".join([f"{heading}(", *lines, ")"])


@functools.cache
def _classes() -> dict[str, ast.ClassDef]:
    """The classes of the package by name: public ones say that they are of ``s3dlio``, where no source is found."""
    package = ROOT / "s3dlio"
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in package.rglob("*.py")]
    return {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}


def _default(owner: Any, field: ast.AnnAssign) -> str:
    if field.value is None:
        return ""
    named = isinstance(field.value, ast.Name)
    return f" = {str(getattr(owner, ast.unparse(field.target)))!r}" if named else f" = {ast.unparse(field.value)}"


class _Shown:
    """The parameters of a function and its result, as its source has them."""

    def __init__(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        node.args.args = [one for one in node.args.args if one.arg not in ("self", "cls")]
        self.parameters = _listed(ast.unparse(node.args).replace("ClientLike", "Client").replace("'", '"'))
        self.returns = "None" if node.returns is None else ast.unparse(node.returns)


def _function(one: Any) -> _Shown:
    node = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(one)))).body[0]
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return _Shown(node)


def _listed(parameters: str) -> list[str]:
    """The parameters of a list, split at the commas between them."""
    found, depth, start = [], 0, 0
    for position, letter in enumerate(parameters + ","):
        depth += letter in "([{"
        depth -= letter in ")]}"
        if letter == "," and depth == 0 and parameters[start:position].strip():
            found.append(re.sub(r"^(\w+: .*?)=", r"\1 = ", parameters[start:position].strip()))
            start = position + 1
    return found


def _call(heading: str, shown: _Shown) -> str:
    result = "" if shown.returns == "None" else f" -> {shown.returns}"
    line = f"{heading}({', '.join(shown.parameters)}){result}"
    if len(line) <= 100:
        return line
    return "\n".join([f"{heading}(", *(f"    {one}," for one in shown.parameters), f"){result}"])


SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Example|Memory|Source):(.*)$")
ENTRY = re.compile(r"^ {4}(\S[^:`]*): (.*)$")


def _markdown(docstring: str) -> str:
    """A docstring's paragraphs as they are, its sections as lists, its example as a block."""
    parts: list[str] = []
    for block in re.split(r"\n\n(?=\S)", docstring):
        section = SECTION.match(block.split("\n")[0])
        if section is None:
            parts.append(_plain(block))
            continue
        title, rest = section[1], block.split("\n")[1:]
        body = textwrap.dedent("\n".join(rest)).strip("\n")
        if title == "Example":
            parts.append(f"Example:\n\n```pycon\n{body}\n```")
        elif title in ("Args", "Attributes", "Raises"):
            parts.append(f"{'Arguments' if title == 'Args' else title}:\n\n" + "\n".join(_items(rest)))
        else:
            parts.append(_plain(f"{title}: " + " ".join([section[2].strip(), *body.split("\n")]).strip()))
    return "\n\n".join(parts)


def _items(lines: list[str]) -> Iterator[str]:
    item = ""
    for line in lines:
        entry = ENTRY.match(line)
        if entry is None:
            item += "\n  " + _plain(line.strip())
            continue
        if item:
            yield item
        names = ", ".join(f"`{name}`" for name in entry[1].split(", "))
        item = f"- {names}: {_plain(entry[2])}"
    yield item


def _plain(text: str) -> str:
    return text.replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {sum(len(names) for names in GROUPS.values())} names")
