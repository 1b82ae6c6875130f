# cython: language_level=3, cdivision=True
"""The open buffer of a writer: pooled memory into which small and waiting bytes are copied, one after the other.

A small write is one call of `put`. It keeps the GIL from its first step to its last, so no other thread, signal handler
or fork sees it half done. It works only while it is armed, as it is after a call that left nothing to do but plain
copies; everything else takes the writer's slow path. The bytes that `put` took join the open part when the next call on
the slow path settles them. Callers are `intake` and `writer`.
"""

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_CheckExact, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.string cimport memmove

cdef extern from "<unistd.h>" nogil:
    int getpid()


cdef class OpenBuffer:
    """The first `used` bytes of `owner.view` are filled; those from `_settled` on are in no segment yet.

    Args:
        upload: has a `state`.
        open_state: that state while the writer accepts data.
        plain: types whose buffer format describes their content completely.
        most: `put` takes fewer bytes than this at a time.

    Attributes:
        owner: has the memory as `view`; None while there is none.
        written: bytes that the writer has accepted so far.
    """

    cdef readonly object owner
    cdef readonly Py_ssize_t size
    cdef readonly Py_ssize_t used
    cdef public Py_ssize_t written
    cdef Py_ssize_t _settled
    cdef Py_ssize_t _limit         # `put` fills up to here; 0 while it is not armed
    cdef Py_ssize_t _most
    cdef Py_ssize_t _calls         # on the slow path, waiting ones included
    cdef object _upload
    cdef object _open_state
    cdef set _plain
    cdef int _process

    def __init__(self, upload, open_state, set plain, Py_ssize_t most):
        self.size = self.used = self.written = self._settled = self._limit = self._calls = 0
        self._most = most
        self._upload = upload
        self._open_state = open_state
        self._plain = plain
        self._process = getpid()

    def attach(self, owner):
        """Fills the memory of `owner` from now on; the caller counts its use."""
        self.owner = owner
        self.size = len(owner.view)
        self.used = self._settled = self._limit = 0

    def detach(self):
        """Gives up the memory; returns its owner, whose use the caller ends."""
        owner, self.owner = self.owner, None
        self.size = self.used = self._settled = self._limit = 0
        return owner

    def enter(self):
        """A call enters the slow path: `put` takes nothing more, because a later call must not overtake this one."""
        self._calls += 1
        self._limit = 0

    def leave(self):
        """A call leaves the slow path."""
        self._calls -= 1

    def arm(self, Py_ssize_t most):
        """Lets `put` take up to `most` bytes in all, if only the caller's own call is on the slow path."""
        if self._calls == 1:
            self._limit = self.used + max(min(most, self.size - self.used), 0)

    @property
    def unsettled(self):
        """Bytes that `put` has taken since the last `settle`."""
        return self.used - self._settled

    def settle(self):
        """Returns the offset and number of the bytes that `put` took; the caller adds them to the open part."""
        begin, self._settled = self._settled, self.used
        return begin, self.used - begin

    def advance(self, Py_ssize_t length):
        """Counts `length` bytes that the caller has copied in and adds to a part itself."""
        self.used += length
        self._settled = self.used

    def put(self, data):
        """Copies a small buffer and returns its length; returns -1, with nothing done, if it cannot."""
        cdef Py_buffer source
        cdef Py_ssize_t taken = -1
        if self._limit == 0 or self._upload.state is not self._open_state or getpid() != self._process:
            return -1
        if PyBytes_CheckExact(data):
            return self._copy(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        if PyByteArray_CheckExact(data):
            return self._copy(PyByteArray_AS_STRING(data), PyByteArray_GET_SIZE(data))
        try:
            if type(data.obj if type(data) is memoryview else data) not in self._plain:
                return -1
            PyObject_GetBuffer(data, &source, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        except Exception:  # the slow path raises the proper error
            return -1
        # A single format code, of a number.
        if source.format == NULL or (source.format[0] not in (0, c"O") and source.format[1] == 0):
            taken = self._copy(<const char*>source.buf, source.len)
        PyBuffer_Release(&source)
        return taken

    cdef Py_ssize_t _copy(self, const char* data, Py_ssize_t length) except -2:
        cdef Py_buffer destination
        if length >= self._most or length > self._limit - self.used:
            return -1
        if length:
            PyObject_GetBuffer(self.owner.view, &destination, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
            memmove(<char*>destination.buf + self.used, data, length)
            PyBuffer_Release(&destination)
            self.used += length
            self.written += length
        return length
