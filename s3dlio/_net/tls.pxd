"""What `exchange` uses of a TLS connection: attaching it to a state, and the error behind a failure."""

from s3dlio._net.exchange_state cimport State

cdef class TlsTransport:
    cdef object _sock              # its methods move the bytes where OpenSSL's functions cannot be called
    cdef object _owner             # owns and frees the object below; a closed socket drops its own reference
    cdef void* _ssl                # OpenSSL's object; NULL where only the socket's methods can be used
    cdef object _error

    cdef void attach(self, State* s) noexcept
    cdef object failure(self, State* s)
    cdef bint holds_more(self) noexcept
    cdef ssize_t send(self, State* s) noexcept
    cdef ssize_t receive(self, State* s, char* to, size_t length) noexcept
    cdef ssize_t _failed(self, State* s, error) noexcept
