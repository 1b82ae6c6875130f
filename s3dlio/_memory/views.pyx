# cython: language_level=3, cdivision=True
"""Flat views of the bytes of any exporter, and the copy between two of them.

Nothing here owns memory beyond the buffer it holds, and no view is made of what its exporter calls addresses: outside
this process they mean nothing. Callers are `pool`, `bytes_view` and the writer.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_FORMAT,
    PyBUF_ND,
    PyBUF_STRIDES,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from libc.string cimport memmove

cdef extern from "Python.h":
    # With no exception type an int beyond the C range is clipped to it, so that a size check refuses it.
    Py_ssize_t _clipped "PyNumber_AsSsize_t"(object number, void* no_exception) except? -1

cdef extern from *:
    """
    /* Sizes of 5 TiB go through Py_ssize_t and size_t. */
    _Static_assert(sizeof(void *) >= 8, "s3dlio needs a 64-bit build of Python");

    /* Whether a format of PEP 3118, with what NumPy and ctypes made of it, holds an address: of an object (O), of
       something else (&, P), of text (z, Z of ctypes; before f, d and g NumPy's Z is a complex number) or of a function
       (X). Between colons are the names of fields. A lone "P" is what `memoryview.cast` makes numbers of. */
    static int holds_addresses(const char *format) {
        if (!format || (format[0] && !format[1])) return format && format[0] == 'O';
        for (const char *at = format; *at; at++) {
            if (*at == ':') {
                do at++; while (*at && *at != ':');
                if (!*at) return 0;
            } else if (*at == 'O' || *at == '&' || *at == 'P' || *at == 'z' || *at == 'X') {
                return 1;
            } else if (*at == 'Z' && at[1] != 'f' && at[1] != 'd' && at[1] != 'g') {
                return 1;
            }
        }
        return 0;
    }
    """
    bint holds_addresses(const char* format) noexcept

cdef char* BYTE_FORMAT = "B"


class HoldsAddresses(TypeError):
    """The elements of a buffer are addresses, or hold some."""


def gather_copy(destination, offset, source, source_offset, length):
    """Copies `length` bytes between two C-contiguous buffers of any format, with the GIL released.

    Raises:
        ValueError: the bytes lie outside one of the buffers.
        BufferError: `destination` is read-only.
    """
    cdef Py_ssize_t to_offset = _clipped(offset, NULL)
    cdef Py_ssize_t from_offset = _clipped(source_offset, NULL)
    cdef Py_ssize_t count = _clipped(length, NULL)
    cdef Py_buffer to
    cdef Py_buffer origin
    PyObject_GetBuffer(destination, &to, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
    try:
        PyObject_GetBuffer(source, &origin, PyBUF_C_CONTIGUOUS)
        try:
            _check_span("destination", to_offset, count, to.len)
            _check_span("source", from_offset, count, origin.len)
            if count:  # the address of an empty buffer may be NULL
                with nogil:  # both may be the same memory, so the spans may overlap
                    memmove(<char*>to.buf + to_offset, <char*>origin.buf + from_offset, count)
        finally:
            PyBuffer_Release(&origin)
    finally:
        PyBuffer_Release(&to)


cdef int _check_span(str name, Py_ssize_t offset, Py_ssize_t length, Py_ssize_t size) except -1:
    if offset < 0 or length < 0 or offset > size or length > size - offset:
        raise ValueError(f"{length} bytes from offset {offset} on lie outside the {size} bytes of the {name}")
    return 0


@cython.no_gc_clear  # the held buffer has to be released, not cleared, or its exporter stays locked
cdef class FlatView:
    """Read-only bytes [offset, offset + length) of any C-contiguous buffer, whatever its format and shape.

    Args:
        source: the exporter; its buffer is held until the last export of this view is gone.
        offset: first byte.
        length: number of bytes; None for the rest.
        readonly: False passes writability on where the source has it.

    Raises:
        HoldsAddresses: the source's elements are addresses, or hold some.
        ValueError: the range lies outside the source, or the view was released.
        BufferError: `release` while an export lives.
    """

    cdef Py_buffer _held           # keeps the source's memory alive and in place
    cdef bint _holds
    cdef readonly object source    # what slices are cut from, so that they do not depend on this view
    cdef readonly Py_ssize_t offset
    cdef char* _start
    cdef Py_ssize_t _length
    cdef Py_ssize_t _exports
    cdef bint _readonly
    # Exports of one view at a time share these; they live as long as the view does.
    cdef Py_ssize_t _shape[1]
    cdef Py_ssize_t _strides[1]

    def __cinit__(self, source, offset=0, length=None, *, bint readonly=True):
        cdef int flags = PyBUF_C_CONTIGUOUS if readonly else (PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
        try:
            PyObject_GetBuffer(source, &self._held, flags | PyBUF_FORMAT)
        except (ValueError, BufferError):
            # NumPy has no format for a datetime64 and others; then the dtype says what is in it.
            held = getattr(getattr(source, "dtype", None), "hasobject", None)
            if held:
                raise HoldsAddresses(f"elements of {source.dtype!r} hold addresses") from None
            if held is None:
                raise
            PyObject_GetBuffer(source, &self._held, flags)
        self._holds = True
        if holds_addresses(self._held.format):
            raise HoldsAddresses(f"elements of the format {self._held.format.decode()!r} hold addresses")
        cdef Py_ssize_t first = _clipped(offset, NULL)
        # An offset outside makes no rest; the check names it.
        cdef Py_ssize_t count = max(self._held.len - max(first, 0), 0) if length is None else _clipped(length, NULL)
        _check_span("source", first, count, self._held.len)
        self.source = source
        self.offset = first
        self._start = <char*>self._held.buf + first
        self._length = count
        self._readonly = readonly
        self._exports = 0
        self._strides[0] = 1

    def __dealloc__(self):
        # Exports hold a reference to this view, so none is left here.
        if self._holds:
            PyBuffer_Release(&self._held)

    def __len__(self):
        self._check()
        return self._length

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        self._check()
        if (flags & PyBUF_WRITABLE) == PyBUF_WRITABLE and self._readonly:
            raise BufferError("these bytes are read-only")
        self._shape[0] = self._length
        buffer.buf = self._start
        buffer.obj = self
        buffer.len = self._length
        buffer.itemsize = 1
        buffer.readonly = self._readonly
        buffer.ndim = 1
        buffer.format = BYTE_FORMAT if (flags & PyBUF_FORMAT) == PyBUF_FORMAT else NULL
        buffer.shape = self._shape if (flags & PyBUF_ND) == PyBUF_ND else NULL
        buffer.strides = self._strides if (flags & PyBUF_STRIDES) == PyBUF_STRIDES else NULL
        buffer.suboffsets = NULL
        buffer.internal = NULL
        self._exports += 1

    def __releasebuffer__(self, Py_buffer* buffer):
        self._exports -= 1

    def release(self):
        """Lets go of the source; the view is unusable afterwards."""
        if not self._holds:
            return
        if self._exports:
            raise BufferError(f"{self._exports} exports of this view are alive; let go of them first")
        self._holds = False
        self.source = None
        PyBuffer_Release(&self._held)

    cdef int _check(self) except -1:
        if not self._holds:
            raise ValueError("this view was released")
        return 0
