"""What `exchange` sees of a TLS connection: how it is told to a state, and what it has to say afterwards."""

from s3dlio._net.exchange_steps cimport State

cdef class TlsTransport:
    cdef object _sock              # by whose methods bytes move where nothing else can be had
    cdef object _owner             # of the object below, which it frees: a socket that is closed lets go of it
    cdef void* _ssl                # OpenSSL's object; NULL where only the socket's methods can be used
    cdef object _error

    cdef void attach(self, State* s) noexcept
    cdef object failure(self, State* s)
    cdef bint holds_more(self) noexcept
    cdef ssize_t send(self, State* s) noexcept
    cdef ssize_t receive(self, State* s, char* to, size_t length) noexcept
    cdef ssize_t _failed(self, State* s, error) noexcept
