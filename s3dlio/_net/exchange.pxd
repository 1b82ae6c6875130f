"""What `exchange_loop` sees of an exchange: its state, and what is to be done once a loop has let it go."""

from s3dlio._net.exchange_steps cimport Answer, State
from s3dlio._net.tls cimport TlsTransport

cdef class Exchange:
    cdef State s
    cdef object _sock              # keeps the descriptor open while the loop uses it
    cdef bytes _previous_head      # which the state points into
    cdef int _bell_process         # whose descriptor `s.bell` is, and whose loop has it
    cdef Py_buffer* _sources       # the requests' memory, held until the exchange has ended
    cdef int _source_count
    cdef Py_buffer _target         # the body's place, likewise
    cdef bint _has_target
    cdef Py_ssize_t _head_length
    cdef TlsTransport _tls         # None for a plain connection

    cdef int _hold(self, bytes head, tuple body, list followed_by) except -1
    cdef int _hold_request(self, head, tuple body) except -1
    cdef int _hold_segment(self, segment) except -1
    cdef int _aim(self, into) except -1
    cdef void _let_go_of_sources(self) noexcept
    cdef void _let_go_of_target(self) noexcept
    cdef void _settle(self) noexcept
    cdef bint _is_over(self) noexcept
    cdef bint _is_parents(self) noexcept
    cdef tuple _answer(self, Answer* answer)
