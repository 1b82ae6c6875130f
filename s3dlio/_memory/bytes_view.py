"""`BytesView`: the result of a download, a read-only view of memory without a copy.

Releasing the last view, and everything exported from it, returns the memory to the pool for the next read.
"""

from __future__ import annotations

import builtins
from types import TracebackType
from typing import Any, Self, SupportsIndex, overload

from .views import FlatView


class BytesView(FlatView):
    """Read-only bytes with the buffer protocol: ``np.frombuffer(view, dtype)`` and ``memoryview(view)`` copy nothing.

    Slices (of step 1) are views of the same memory. Views compare equal to any bytes-like object with
    the same bytes, are not hashable, and pickle by value. As a context manager a view is released at the end.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/digits", b"0123456789")
        >>> with s3dlio.get("s3://my-bucket/digits") as view:
        ...     view[0], bytes(view[2:5]), view == b"0123456789"
        (48, b'234', True)
    """

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    @overload
    def __getitem__(self, index: SupportsIndex) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: SupportsIndex | slice) -> int | Self:
        """A byte as int, or a view of a slice; slices with another step than 1 are copied."""
        if not isinstance(index, slice):
            return int(memoryview(self)[index])
        start, stop, step = index.indices(len(self))
        if step != 1:
            return type(self)(memoryview(self)[index].tobytes())
        return type(self)(self.source, self.offset + start, max(stop - start, 0))

    def __eq__(self, other: object) -> bool:
        try:
            theirs = FlatView(other)
        except TypeError:
            return NotImplemented
        except (ValueError, BufferError):  # it is not contiguous
            return False
        return len(theirs) == len(self) and memoryview(self) == memoryview(theirs)

    def __bytes__(self) -> bytes:
        return memoryview(self).tobytes()

    def memoryview(self) -> builtins.memoryview:
        """A read-only `memoryview` of the same memory, without a copy."""
        return memoryview(self)

    def to_bytes(self) -> bytes:
        """A copy as `bytes`."""
        return bytes(self)

    def tobytes(self) -> bytes:
        """A copy as `bytes`, under the name that memoryview uses."""
        return bytes(self)

    def __repr__(self) -> str:
        return f"<BytesView of {len(self)} bytes>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (bytes(self),)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
