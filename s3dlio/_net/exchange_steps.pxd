"""The three calls that `exchange_loop` makes to advance an exchange; `exchange_steps.pyx` holds the program."""

from libc.stdint cimport int64_t

from s3dlio._net.exchange_state cimport State

cdef void start(State* s) noexcept nogil
cdef void step(State* s, int events) noexcept nogil
cdef void check_deadline(State* s, int64_t now) noexcept nogil
