"""What `exchange_loop` uses of an exchange: its state, and how its memory is released after the end."""

from s3dlio._net.exchange_state cimport State
from s3dlio._net.tls cimport TlsTransport

cdef class Exchange:
    cdef State s
    cdef object _sock              # keeps the descriptor open while the loop uses it
    cdef bytes _previous_head      # the state points into it
    cdef int _wakeup_process       # process of the loop that drives it, and of `s.wakeup_fd`
    cdef Py_buffer* _sources       # the requests' memory, held until the exchange has ended
    cdef int _source_count
    cdef Py_buffer _destination    # where the body goes, held likewise
    cdef Py_ssize_t _head_length
    cdef TlsTransport _tls         # None for a plain connection
    cdef Exchange _leader          # the exchange that this one is beside: its lock must live as long

    cdef int _hold(self, list requests) except -1
    cdef int _hold_segment(self, segment) except -1
    cdef int _set_destination(self, into) except -1
    cdef void _release_sources(self) noexcept
    cdef void _release_destination(self) noexcept
    cdef void _release_memory(self) noexcept
    cdef bint _has_ended(self) noexcept
    cdef bint _belongs_to_parent(self) noexcept
    cdef bint _sleep(self, Exchange other, double timeout) except -1
    cdef bint _is_completed(self) noexcept
    cdef bint _is_cut(self) noexcept
