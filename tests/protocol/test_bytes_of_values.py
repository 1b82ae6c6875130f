"""What exports addresses, or bytes that lack a part of its value, is refused in every call; any other buffer is not."""

from __future__ import annotations

import array
import ctypes
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from programs import run
from small_store import Peer

import s3dlio
from s3dlio._memory.views import FlatView


class Packed(ctypes.Structure):
    """ctypes calls the format of a packed structure 'B', whatever is in it."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("number", ctypes.c_int), ("object", ctypes.py_object))


class Either(ctypes.Union):
    """That of a union too."""

    _fields_ = (("number", ctypes.c_int), ("text", ctypes.c_char_p))


class Pointing(ctypes.Structure):
    _fields_ = (("number", ctypes.c_int), ("there", ctypes.POINTER(ctypes.c_int)))


class Nested(Pointing):
    """The pointer is in the part that it inherits."""

    _fields_ = (("more", ctypes.c_int * 2),)


class Outer(ctypes.Structure):
    _fields_ = (("inner", Either * 3),)


class Numbers(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("O", ctypes.c_byte), ("P", ctypes.c_double * 3))


class Words(ctypes.Union):
    _fields_ = (("bytes", ctypes.c_char * 8), ("number", ctypes.c_uint64))


RECORDS = [("a", "i4"), ("nested", [("x", "f8"), ("object", "O", (2, 3))])]
UNNAMEABLE = [("at", "M8[s]"), ("object", "O")]  # NumPy has no format for this one
STRINGS = np.dtypes.StringDType()

# What holds addresses, and what the refusal must name.
ADDRESSES: dict[str, tuple[Any, str]] = {
    "objects": (np.array([1, "two"], dtype=object), "dtype object"),
    "matrix": (np.array([[1, 2]], dtype=object).view(np.matrix), "dtype object"),
    "0-d": (np.array(None, dtype=object), "dtype object"),
    "empty": (np.empty((0, 3), dtype=object), "dtype object"),
    "records": (np.zeros(2, dtype=RECORDS), r"dtype \[.*'object', 'O', \(2, 3\)"),
    "record": (np.zeros(2, dtype=RECORDS)[0], "'object', 'O'"),
    "recarray": (np.zeros(2, dtype=RECORDS).view(np.recarray), "'object', 'O'"),
    "no-format": (np.zeros(2, dtype=UNNAMEABLE), "'object', 'O'"),
    "colon-in-name": (np.zeros(2, dtype=[("a:b", "O")]), "'a:b', 'O'"),
    "strings": (np.array(["a", "b" * 100], dtype=STRINGS), "StringDType"),
    "no-strings": (np.empty(0, dtype=STRINGS), "StringDType"),
    "py_object": ((ctypes.py_object * 2)(1, 2), "py_object_Array_2"),
    "one-py_object": (ctypes.py_object(1), "py_object"),
    "no-py_object": ((ctypes.py_object * 0)(), "py_object"),
    "char_p": ((ctypes.c_char_p * 2)(b"a", b"b"), "c_char_p"),
    "wchar_p": ((ctypes.c_wchar_p * 2)("a", "b"), "c_wchar_p"),
    "void_p": ((ctypes.c_void_p * 2)(), "c_void_p"),
    "pointers": ((ctypes.POINTER(ctypes.c_int) * 2)(), "LP_c_int"),
    "function": (ctypes.CFUNCTYPE(None)(), "CFunctionType"),
    "structure": (Pointing(), "Pointing"),
    "inherited": ((Nested * 2)(), "Nested"),
    "packed": ((Packed * 2)(), "Packed"),
    "union": (Either(), "Either"),
    "unions-within": (Outer(), "Outer"),
}
CASES = {
    **ADDRESSES,
    **{f"memoryview-{name}": (memoryview(ADDRESSES[name][0]), "addresses") for name in ("objects", "empty", "packed")},
    "memoryview-cast": (memoryview((Packed * 2)()).cast("B"), "addresses"),
    "memoryview-slice": (memoryview(np.array([1, 2, 3], dtype=object))[1:], "addresses"),
    "masked": (np.ma.array([1, 2], mask=[True, False]), "masked"),
    "unmasked": (np.ma.array([1, 2]), "masked"),
    "masked-records": (np.ma.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]), "masked"),
    "memoryview-masked": (memoryview(np.ma.array([1, 2])), "masked"),
    "empty-masked": (np.ma.array([], dtype="f8"), "masked"),
}
every_case = pytest.mark.parametrize(("data", "named"), CASES.values(), ids=CASES)


def calls(client: s3dlio.Client) -> dict[str, Callable[[Any], object]]:
    """Every call that takes a buffer."""
    writer = client.writer("s3://b/k")
    sink = s3dlio.MultipartUploadSink("b", "k", client=client)
    return {
        "write": writer.write,
        "write-borrowed": lambda data: writer.write(data, copy=False),
        "write_blocking": sink.write_blocking,
        "write_owned_blocking": sink.write_owned_blocking,
        "put_bytes": lambda data: client.put_bytes("s3://b/k", data),
        "put_many": lambda data: client.put_many([("s3://b/other", b"x"), ("s3://b/k", data)]),
        "put_many-returning": lambda data: client.put_many([("s3://b/k", data)], on_error="return"),
        "get_into": lambda data: client.get_into("s3://b/k", data),
        "get_into-nothing": lambda data: client.get_into("s3://b/k", data, length=0),
    }


@every_case
def test_what_is_no_value_is_refused_by_every_call_before_a_byte_moves(
    peer: Peer, client: s3dlio.Client, data: Any, named: str
) -> None:
    for name, call in calls(client).items():
        into = name.startswith("get_into")
        with pytest.raises(TypeError, match=named) as raised:
            call(data)
        assert str(raised.value).startswith("buffer " if into else "items[" if name.startswith("put_many") else "data ")
        remedy = r"numpy\.empty|buffer\.data" if into else r"astype|numpy\.save|copy what it points to|\.filled"
        assert re.search(f"; .*({remedy})", str(raised.value)), name
    assert peer.requests == []


def test_a_refusal_leaves_the_writer_usable(peer: Peer, client: s3dlio.Client) -> None:
    with client.writer("s3://b/k") as writer:
        writer.write(b"before ")
        with pytest.raises(TypeError, match="addresses"):
            writer.write(np.array([1], dtype=object))
        writer.write(b"after")
    assert peer.objects["/b/k"] == b"before after"


def test_a_flat_view_is_never_made_of_addresses() -> None:
    for data, _ in ADDRESSES.values():
        if not isinstance(data, Packed | Either | Outer | ctypes.Array):  # ctypes itself hides those of its formats
            with pytest.raises(TypeError, match="addresses"):
                FlatView(data)


# The destinations that crashed whoever used them afterwards.
INTO = """
import ctypes, numpy as np
made = {"objects": lambda: np.array([1.5, 2.5], dtype=object), "strings": lambda: np.array(["a" * 50], dtype="T"),
        "records": lambda: np.ones(2, dtype=[("a", "O")]), "py_object": lambda: (ctypes.py_object * 2)(1.5, 2.5)}
destination = made[sys.argv[1]]()
try:
    client.get_into("s3://b/k", destination)
except TypeError as error:
    print(repr(destination[0]), "refused")
gc.collect()
"""


@pytest.mark.parametrize("kind", ["objects", "strings", "records", "py_object"])
def test_a_destination_of_addresses_is_not_written_into(peer: Peer, kind: str) -> None:
    peer.objects["/b/k"] = bytes(range(16, 32))
    out, _ = run(peer, INTO.replace("sys.argv[1]", repr(kind)))
    assert out.endswith("refused\n")


VALUES: dict[str, Any] = {
    "datetime64": np.arange(3).astype("datetime64[s]"),
    "timedelta64": np.arange(3).astype("timedelta64[ms]"),
    "dates-in-records": np.zeros(3, dtype=[("at", "M8[s]"), ("n", "i4")]),
    "colon-in-name": np.ones(3, dtype=[("a:b", "i4")]),
    "letters-in-names": np.ones(3, dtype=[("O", "i4"), ("P&", [("X{}", "f8", (2,))])]),
    "void": np.frombuffer(bytes(range(21)), dtype="V7"),
    "overlapping": np.frombuffer(
        bytes(range(24)), dtype={"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [0, 2], "itemsize": 8}
    ),
    "big-endian": np.arange(3, dtype=">f8"),
    "complex": np.ones(3, dtype="c8"),
    "big-endian-complex": np.ones(3, dtype=">c16"),
    "long-complex": np.ones(3, dtype="G"),
    "bool": np.array([True, False]),
    "float16": np.ones(3, dtype="f2"),
    "bytes-fixed": np.array([b"a", b"bc"]),
    "text-fixed": np.array(["a", "bc"]),
    "matrix": np.array([[1, 2], [3, 4]]).view(np.matrix),
    "0-d": np.array(5.0),
    "scalar": np.float32(1.5),
    "date": np.datetime64("2020-01-01"),
    "record": np.ones(3, dtype=[("a", "i4"), ("b", "f8")])[0],
    "empty": np.empty((0, 3)),
    "uintp": np.arange(3, dtype=np.uintp),
    "numbers": (ctypes.c_double * 3)(1, 2, 3),
    "wide-characters": ctypes.create_unicode_buffer("abc"),
    "structure": (Numbers * 2)(),
    "union": (Words * 2)(),
    "big-endian-structure": type("Big", (ctypes.BigEndianStructure,), {"_fields_": [("O", ctypes.c_int)]})(7),
    "array": array.array("d", [1.0, 2.0]),
    "text-array": array.array("w" if sys.version_info >= (3, 13) else "u", "abc"),
    **{f"memoryview-{code}": memoryview(bytes(range(16))).cast(code) for code in "cbB?hHiIlLqQfdnNP"},
    "memoryview-records": memoryview(np.ones(3, dtype=[("O", "i4")])),
}


@pytest.mark.parametrize("data", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("copy", [True, False])
def test_bytes_that_are_the_value_are_stored(peer: Peer, client: s3dlio.Client, data: Any, copy: bool) -> None:
    content = data.tobytes() if hasattr(data, "tobytes") else bytes(data)
    with client.writer("s3://b/k") as writer:
        assert writer.write(data, copy=copy) == len(content)
    assert peer.objects["/b/k"] == content


def test_memory_of_a_masked_array_is_taken_by_its_data(peer: Peer, client: s3dlio.Client) -> None:
    masked = np.ma.array(np.zeros(3), mask=[True, False, False])
    peer.objects["/b/k"] = np.arange(3.0).tobytes()
    assert client.get_into("s3://b/k", masked.data) == 24
    client.put_bytes("s3://b/filled", masked.filled(-1.0))
    assert np.frombuffer(peer.objects["/b/filled"]).tolist() == [-1.0, 1.0, 2.0]


def test_a_memory_mapped_file_is_a_source_and_a_destination(peer: Peer, client: s3dlio.Client, tmp_path: Any) -> None:
    mapped = np.memmap(tmp_path / "file", dtype="i4", mode="w+", shape=(2, 2))
    peer.objects["/b/k"] = np.arange(4, dtype="i4").tobytes()
    assert client.get_into("s3://b/k", mapped) == 16
    client.put_bytes("s3://b/back", mapped)
    assert peer.objects["/b/back"] == peer.objects["/b/k"]
    unwritable = np.memmap(tmp_path / "file", dtype="i4", mode="r", shape=(2, 2))
    with pytest.raises(ValueError, match="read-only"):
        client.get_into("s3://b/k", unwritable)


class Elsewhere:
    """Like a table's column or a sparse array: it can be made an array, and is no buffer."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.zeros(3)


def test_what_has_its_data_elsewhere_is_told_how_to_give_them(peer: Peer, client: s3dlio.Client) -> None:
    with pytest.raises(TypeError, match=r"numpy\.asarray"):
        client.put_bytes("s3://b/k", Elsewhere())
    assert peer.requests == []


def test_a_view_equals_no_array_of_addresses_and_any_array_of_its_bytes() -> None:
    dates = np.arange(2).astype("datetime64[s]")
    view = s3dlio.BytesView(dates.tobytes())
    assert view == memoryview(dates.tobytes())
    assert view.__eq__(dates) is True
    assert view.__eq__((ctypes.py_object * 2)(1, 2)) is NotImplemented


def test_numpy_stays_unloaded_where_no_array_comes(peer: Peer) -> None:
    script = """
client.put_bytes("s3://b/k", (b"x" * 100))
client.put_bytes("s3://b/k", memoryview(bytearray(100)))
client.get_into("s3://b/k", bytearray(100))
print("numpy" in sys.modules, "ctypes" in sys.modules)
"""
    out, _ = run(peer, script)
    assert out.split()[0] == "False"
