"""Finds buffers whose bytes are not their value, because they contain addresses or lack a mask.

`FlatView` reads the format of a buffer, which shows most of these. Here are those that a format does not show: packed
structures and unions of ctypes, and NumPy's masks. Only `pool` calls it. It must not import NumPy or ctypes: if neither
is loaded, no object is one of theirs.
"""

from __future__ import annotations

import sys
from typing import Any


def check_owner(owner: Any, name: str, writable: bool) -> None:
    """Checks the exporter of a buffer, beneath a memoryview of it.

    Raises:
        TypeError: its bytes are not its value.
    """
    masked = getattr(sys.modules.get("numpy.ma"), "MaskedArray", None)
    if masked is not None and isinstance(owner, masked):
        remedy = (
            f"give {name}.data" if writable else f"give {name}.filled(value), or {name}.data and the mask separately"
        )
        raise TypeError(f"{name} is a masked array, whose mask is not in its bytes; {remedy}")
    types = sys.modules.get("_ctypes")
    if types is not None and isinstance(owner, _types_of(types)) and _points(types, type(owner)):
        raise TypeError(addresses(owner, name, writable))


def addresses(owner: Any, name: str, writable: bool) -> str:
    """A message about a buffer that contains addresses, with the remedy."""
    dtype = getattr(owner, "dtype", None)
    what = f"has dtype {dtype}" if dtype is not None else f"is a {type(owner).__name__}"
    problem = f"{name} {what}: its bytes are addresses, which mean nothing outside this process"
    if writable:
        return f"{problem}; give memory for bytes or numbers, for example numpy.empty(n, 'uint8')"
    if dtype is None:
        return f"{problem}; copy what it points to into bytes or an array of numbers first"
    return f"{problem}; convert it first, for example with {name}.astype('float64' or 'S20'), numpy.save or pickle"


def _types_of(types: Any) -> tuple[type, ...]:
    return types.Structure, types.Union, types.Array, types._SimpleCData


def _points(types: Any, kind: Any) -> bool:
    """Whether a ctypes type holds an address, at any depth."""
    if issubclass(kind, types.Array):
        return _points(types, kind._type_)
    if issubclass(kind, types.Structure | types.Union):
        fields = [field for base in kind.__mro__ for field in base.__dict__.get("_fields_", ())]
        return any(_points(types, field[1]) for field in fields)
    if issubclass(kind, types._SimpleCData):
        return kind._type_ in "OPXzZ"
    return issubclass(kind, types._Pointer | types.CFuncPtr)
