# cython: language_level=3, cdivision=True
"""Flat views of the bytes of any exporter, and the copy between two of them.

Nothing here owns memory beyond the buffer it holds. A view of elements that are addresses is refused: outside this
process they mean nothing. Callers are `pool`, `bytes_view` and the writer.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_FORMAT,
    PyBUF_WRITABLE,
    PyBuffer_FillInfo,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.ref cimport Py_DECREF
from libc.string cimport memmove

cdef extern from "Python.h":
    # Without an exception type, an int beyond the C range is clipped, so that a size check refuses it.
    Py_ssize_t _clipped "PyNumber_AsSsize_t"(object number, void* no_exception) except? -1

cdef extern from *:
    """
    /* Sizes of 5 TiB go through Py_ssize_t and size_t. */
    _Static_assert(sizeof(void *) >= 8, "s3dlio needs a 64-bit build of Python");

    /* Whether a format of PEP 3118, as NumPy and ctypes extend it, holds an address: of an object (O), pointer (&, P),
       text (z and Z of ctypes; NumPy's Zf, Zd and Zg are complex numbers) or a function (X). Names of fields stand
       between colons. A lone "P" is accepted: `memoryview.cast` uses it for numbers. */
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


class HoldsAddresses(TypeError):
    """The elements of a buffer are addresses or contain addresses."""


def copy_span(destination, offset, source, source_offset, length):
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
                with nogil:  # the spans may overlap
                    memmove(<char*>to.buf + to_offset, <char*>origin.buf + from_offset, count)
        finally:
            PyBuffer_Release(&origin)
    finally:
        PyBuffer_Release(&to)


cdef int _check_span(str name, Py_ssize_t offset, Py_ssize_t length, Py_ssize_t size) except -1:
    if offset < 0 or length < 0 or offset > size or length > size - offset:
        raise ValueError(f"{length} bytes from offset {offset} on lie outside the {size} bytes of the {name}")
    return 0


@cython.no_gc_clear  # the held buffer must be released, not cleared, or its exporter stays locked
cdef class FlatView:
    """Read-only bytes [offset, offset + length) of any C-contiguous buffer, whatever its format and shape.

    Args:
        source: the exporter; its buffer is held until the last export of this view is released.
        offset: first byte.
        length: number of bytes; None for the rest.
        readonly: False makes the view writable if the source is.

    Raises:
        HoldsAddresses: the source's elements are addresses or contain addresses.
        ValueError: the range lies outside the source, or the view was released.
        BufferError: `release` while an export lives.
    """

    cdef Py_buffer _held           # keeps the source's memory alive and in place
    cdef bint _holds
    cdef readonly object source    # slices are cut from it, so that they do not depend on this view
    cdef readonly Py_ssize_t offset
    cdef char* _start
    cdef Py_ssize_t _length
    cdef Py_ssize_t _exports
    cdef bint _readonly

    def __cinit__(self, source, offset=0, length=None, *, bint readonly=True):
        cdef int flags = PyBUF_C_CONTIGUOUS if readonly else (PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
        try:
            PyObject_GetBuffer(source, &self._held, flags | PyBUF_FORMAT)
        except (ValueError, BufferError):
            # NumPy has no format for datetime64 and some others; their dtype says what they hold.
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
        # An offset outside the source leaves no bytes; the check below reports it.
        cdef Py_ssize_t count = max(self._held.len - max(first, 0), 0) if length is None else _clipped(length, NULL)
        _check_span("source", first, count, self._held.len)
        self.source = source
        self.offset = first
        self._start = <char*>self._held.buf + first
        self._length = count
        self._readonly = readonly
        self._exports = 0

    def __dealloc__(self):
        # Exports hold a reference to this view, so none is left.
        if self._holds:
            PyBuffer_Release(&self._held)

    def __len__(self):
        self._check()
        return self._length

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        self._check()
        PyBuffer_FillInfo(buffer, self, self._start, self._length, self._readonly, flags)
        Py_DECREF(None)  # Cython's preset for `buffer.obj`, which the call overwrote
        self._exports += 1

    def __releasebuffer__(self, Py_buffer* buffer):
        self._exports -= 1

    def release(self):
        """Releases the source; the view is unusable afterwards."""
        if not self._holds:
            return
        if self._exports:
            raise BufferError(f"{self._exports} exports of this view are alive; release them first")
        self._holds = False
        self.source = None
        PyBuffer_Release(&self._held)

    cdef int _check(self) except -1:
        if not self._holds:
            raise ValueError("this view was released")
        return 0
