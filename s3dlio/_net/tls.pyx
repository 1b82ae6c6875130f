# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Moves the bytes of an exchange over a connected `ssl.SSLSocket`, without the GIL where possible.

An SSLSocket returns one record per call and takes the GIL around each, which costs as much as the decryption. So this
calls OpenSSL on the SSL object beneath it, if that object is identified for certain, else the socket's own methods.
Handshake, verification and closing stay with Python. Only `exchange` uses this module.
"""

import _ssl
import logging
import os
import ssl
import weakref

from cpython.buffer cimport PyBUF_READ, PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.errno cimport ECONNRESET, EPIPE, errno
from libc.string cimport memcpy

from s3dlio._net.exchange_state cimport FAILED, SENDING, WAIT, State
from s3dlio._net.socket_calls cimport POLLIN, POLLOUT, iovec

cdef extern from *:
    """
    #include <dlfcn.h>
    #include <errno.h>
    #include <stddef.h>

    /* OpenSSL 1.1.1 and later; the build machine does not need its headers. */
    static struct {
        int (*read)(void *, void *, size_t, size_t *);
        int (*write)(void *, const void *, size_t, size_t *);
        int (*get_error)(const void *, int);
        int (*get_fd)(const void *);
        long (*ctrl)(void *, int, long, void *);
        int (*get_read_ahead)(const void *);
        void (*set_read_ahead)(void *, int);
        void (*set_buffer_length)(void *, size_t);
        int (*free_buffers)(void *);
        int (*has_pending)(const void *);
        void (*clear_error)(void);
        unsigned long (*peek_error)(void);
        void (*error_string)(unsigned long, char *, size_t);
        unsigned long (*version)(void);
        void (*thread_stop)(void);
    } openssl;

    /* Finds the functions in the library that the module `path` is linked to; false if one is missing. */
    static int load_openssl(const char *path) {
        void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!module) return 0;
        struct { void **place; const char *name; } wanted[] = {
            {(void **)&openssl.read, "SSL_read_ex"}, {(void **)&openssl.write, "SSL_write_ex"},
            {(void **)&openssl.get_error, "SSL_get_error"}, {(void **)&openssl.get_fd, "SSL_get_fd"},
            {(void **)&openssl.ctrl, "SSL_ctrl"}, {(void **)&openssl.get_read_ahead, "SSL_get_read_ahead"},
            {(void **)&openssl.set_read_ahead, "SSL_set_read_ahead"},
            {(void **)&openssl.set_buffer_length, "SSL_set_default_read_buffer_len"},
            {(void **)&openssl.free_buffers, "SSL_free_buffers"}, {(void **)&openssl.has_pending, "SSL_has_pending"},
            {(void **)&openssl.clear_error, "ERR_clear_error"}, {(void **)&openssl.peek_error, "ERR_peek_error"},
            {(void **)&openssl.error_string, "ERR_error_string_n"},
            {(void **)&openssl.version, "OpenSSL_version_num"},
            {(void **)&openssl.thread_stop, "OPENSSL_thread_stop"},
        };
        for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
            if (!(*wanted[i].place = dlsym(module, wanted[i].name))) return 0;
        return 1;
    }
    static unsigned long ssl_version(void) { return openssl.version(); }
    static void ssl_leave(void) { openssl.thread_stop(); }
    static int ssl_read(void *s, void *to, size_t n, size_t *done) {
        errno = 0;
        openssl.clear_error();
        return openssl.read(s, to, n, done);
    }
    static int ssl_write(void *s, const void *from, size_t n, size_t *done) {
        errno = 0;
        openssl.clear_error();
        return openssl.write(s, from, n, done);
    }
    static int ssl_error(void *s, int result) { return openssl.get_error(s, result); }
    static int ssl_fd(void *s) { return openssl.get_fd(s); }
    static int ssl_has_pending(void *s) { return openssl.has_pending(s); }
    /* The first error of this thread. Clears the queue, which CPython's own calls read too. */
    static unsigned long ssl_take_reason(void) {
        unsigned long code = openssl.peek_error();
        openssl.clear_error();
        return code;
    }
    static void ssl_text(unsigned long code, char *to, size_t n) { openssl.error_string(code, to, n); }

    /* Lets writes end after each record, and reads from the kernel in larger pieces than a record. From OpenSSL 3.2 on
       the latter must be set before the handshake creates the record layer for application data. */
    static void ssl_prepare(void *s, size_t buffer_length) {
        if (openssl.get_read_ahead(s)) return;
        openssl.ctrl(s, 33 /* SSL_CTRL_MODE */, 1 | 2 /* PARTIAL_WRITE, MOVING_WRITE_BUFFER */, NULL);
        openssl.set_read_ahead(s, 1);
        openssl.set_buffer_length(s, buffer_length);
        openssl.free_buffers(s); /* the next read allocates one of the new length */
    }
    """
    bint load_openssl(const char* path) noexcept
    unsigned long ssl_version() noexcept
    void ssl_leave() noexcept
    int ssl_read(void* s, void* to, size_t n, size_t* done) noexcept nogil
    int ssl_write(void* s, const void* data, size_t n, size_t* done) noexcept nogil
    int ssl_error(void* s, int result) noexcept nogil
    int ssl_fd(void* s) noexcept nogil
    int ssl_has_pending(void* s) noexcept nogil
    unsigned long ssl_take_reason() noexcept nogil
    void ssl_text(unsigned long code, char* to, size_t n) noexcept nogil
    void ssl_prepare(void* s, size_t buffer_length) noexcept nogil

cdef enum:
    # Results of SSL_get_error, and a reason of SSL_ERROR_SSL (OpenSSL 3).
    ERROR_SSL = 1
    ERROR_WANT_READ = 2
    ERROR_WANT_WRITE = 3
    ERROR_SYSCALL = 5
    ERROR_ZERO_RETURN = 6
    REASON_UNEXPECTED_EOF = 294
    REASON_MASK = 0x7FFFFF

# Measured over one connection on loopback, 256 MiB per GET: 0.9 to 1.3 times the CPU time of the native path.
FALL_BACK = (
    "TLS uses the methods of Python's sockets, which take the GIL for each record of 16 KiB, at up to 1.3 times the "
    "CPU time: OpenSSL's own functions are not called, because %s"
)
# The socket's methods never write partially: larger slices add latency, smaller ones add calls (256 KiB is within
# 10 % of C over OpenSSL).
cdef size_t SLICE = 256 << 10
# Read from the kernel at once: eight records.
cdef size_t READ_AHEAD = 128 << 10
cdef enum:
    # Most plaintext of one record.
    RECORD = 16 << 10

log = logging.getLogger("s3dlio")


def fallback_reason(path, version):
    """Why OpenSSL's functions cannot be called for the module `path` of this OpenSSL version; "" if they can.

    A library of another version may lay out its objects differently, and its functions would corrupt memory.
    """
    if path is None:
        return "Python's _ssl is built into the interpreter, with an OpenSSL of its own"
    if not load_openssl(os.fsencode(path)):
        return f"{os.path.basename(path)} is linked to no OpenSSL whose functions can be found"
    if ssl_version() != version:
        return f"Python uses OpenSSL {version:#x}, and the library that was found is {ssl_version():#x}"
    return ""


cdef str _fallback_reason = fallback_reason(getattr(_ssl, "__file__", None), _ssl.OPENSSL_VERSION_NUMBER)
cdef bint _fall_back_logged = False


def without_gil(bint wanted=True):
    """Whether the OpenSSL functions were found; False makes new exchanges use the socket's methods."""
    global _fallback_reason, _fall_back_logged
    _fall_back_logged = False
    if wanted:
        _fallback_reason = fallback_reason(getattr(_ssl, "__file__", None), _ssl.OPENSSL_VERSION_NUMBER)
    else:
        _fallback_reason = "they are switched off"
    return not _fallback_reason


cdef void _log_fall_back() noexcept:
    """Logs, once, why TLS is slower than it could be."""
    global _fall_back_logged
    if not _fall_back_logged:
        _fall_back_logged = True
        try:
            log.info(FALL_BACK, _fallback_reason or "the SSL object beneath a socket could not be identified")
        except Exception:  # raised by a log handler
            pass


def prepare(sock):
    """Makes a connected SSLSocket read larger pieces than a record. Call it before the handshake."""
    cdef void* beneath = NULL if _fallback_reason else _beneath(sock)
    if beneath != NULL:
        ssl_prepare(beneath, READ_AHEAD)


def leave():
    """Frees what OpenSSL keeps for this thread, at a time that we choose.

    Otherwise OpenSSL does so when the thread ends, without the GIL: a child forked in that moment would find a lock of
    OpenSSL locked forever. The thread's next call of OpenSSL allocates it again.
    """
    if not _fallback_reason:
        ssl_leave()


cdef void* _beneath(sock) noexcept:
    """The OpenSSL object of a connected SSLSocket; NULL if it cannot be identified for certain.

    CPython stores it between two references whose values Python knows. If both are where we expect them, the pointer
    between them is the SSL object; it must also have the socket's descriptor.
    """
    cdef void* words[5]
    cdef void* found
    try:
        inner = sock._sslobj
        if inner is None or type(inner).__basicsize__ < <Py_ssize_t>sizeof(words):
            return NULL
        owner, context = weakref.ref(sock), inner.context
        memcpy(words, <void*>inner, sizeof(words))
        if words[2] != <void*>owner or words[4] != <void*>context:
            return NULL
        found = words[3]
        return found if found != NULL and ssl_fd(found) == <int>sock.fileno() else NULL
    except Exception:
        return NULL


cdef class TlsTransport:
    """The transport of one exchange over a non-blocking `ssl.SSLSocket`."""

    def __cinit__(self, sock):
        self._sock = sock
        self._ssl = NULL if _fallback_reason else _beneath(sock)
        if self._ssl != NULL:
            self._owner = sock._sslobj
            ssl_prepare(self._ssl, READ_AHEAD)
        else:
            _log_fall_back()

    @property
    def native(self):
        """Whether it needs no GIL."""
        return self._ssl != NULL

    cdef void attach(self, State* s) noexcept:
        """Makes a state use this transport; the state's owner keeps it alive."""
        s.buffered = True
        s.transport = self._ssl if self._ssl != NULL else <void*>self
        s.send = _send if self._ssl != NULL else _send_by_methods
        s.receive = _receive if self._ssl != NULL else _receive_by_methods
        s.has_pending = _has_pending if self._ssl != NULL else _may_have_pending

    cdef object failure(self, State* s):
        """The error behind SEND_ERROR or RECEIVE_ERROR."""
        cdef char text[256]
        if self._error is not None:
            return self._error
        if not s.transport_error:
            return OSError(s.error, os.strerror(s.error))
        ssl_text(s.transport_error, text, sizeof(text))
        return ssl.SSLError(ssl.SSL_ERROR_SSL, (<bytes>text).decode("ascii", "replace"))

    cdef bint holds_more(self) noexcept:
        """Whether OpenSSL holds received bytes, which neither poll nor `pending()` sees."""
        return self._ssl != NULL and ssl_has_pending(self._ssl) != 0

    # --- by the socket's methods --------------------------------------------------------------------------

    cdef ssize_t _failed(self, State* s, error) noexcept:
        self._error = error
        if isinstance(error, ssl.SSLEOFError):
            s.error = EPIPE if s.phase == SENDING else ECONNRESET
        elif isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
            s.error = error.errno or 0
        else:
            s.error = 0
        return FAILED

    cdef ssize_t send(self, State* s) noexcept:
        # A slice that was not sent whole is repeated with the same address and length: OpenSSL has begun to encrypt
        # it, and would accept a different one without an error.
        cdef iovec* first = s.iov + s.iov_next
        if s.slice == 0:
            s.slice = first.iov_len if first.iov_len < SLICE else SLICE
        try:
            sent = self._sock.send(PyMemoryView_FromMemory(<char*>first.iov_base, s.slice, PyBUF_READ))
        except ssl.SSLWantReadError:
            s.wants = POLLIN
            return WAIT
        except (ssl.SSLWantWriteError, BlockingIOError):
            s.wants = POLLIN | POLLOUT
            return WAIT
        except BaseException as error:
            return self._failed(s, error)
        s.slice = 0
        return sent

    cdef ssize_t receive(self, State* s, char* to, size_t length) noexcept:
        try:
            return self._sock.recv_into(PyMemoryView_FromMemory(to, length, PyBUF_WRITE))
        except (ssl.SSLWantReadError, BlockingIOError):
            s.wants = POLLIN | POLLOUT if s.phase == SENDING else POLLIN
            return WAIT
        except ssl.SSLWantWriteError:
            s.wants = POLLIN | POLLOUT
            return WAIT
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError, BrokenPipeError):
            return 0  # broken pipe: OpenSSL could not send its alert because the peer has closed
        except BaseException as error:
            return self._failed(s, error)


cdef ssize_t _send_by_methods(State* s) noexcept nogil:
    with gil:
        return (<TlsTransport>s.transport).send(s)


cdef bint _may_have_pending(State* s) noexcept nogil:
    return True  # the check needs the GIL, as a receive does


cdef ssize_t _receive_by_methods(State* s, char* to, size_t length) noexcept nogil:
    with gil:
        return (<TlsTransport>s.transport).receive(s, to, length)


# --- by OpenSSL's functions -------------------------------------------------------------------------------

cdef bint _has_pending(State* s) noexcept nogil:
    return ssl_has_pending(s.transport) != 0


cdef size_t _join(State* s, char* to) noexcept nogil:
    """Copies the next bytes of the request, at most one record of them."""
    cdef size_t length = 0, n
    cdef int i
    for i in range(s.iov_next, s.requests[s.current].end):
        n = s.iov[i].iov_len if s.iov[i].iov_len < RECORD - length else RECORD - length
        if n:
            memcpy(to + length, s.iov[i].iov_base, n)
            length += n
        if length == RECORD:
            break
    return length


cdef ssize_t _send(State* s) noexcept nogil:
    # A record that was not sent whole must be repeated with the same bytes. It is: nothing was marked as sent.
    cdef iovec* first = s.iov + s.iov_next
    cdef char joined[RECORD]
    cdef size_t sent = 0
    cdef int result
    if first.iov_len < RECORD and s.iov_next + 1 < s.requests[s.current].end:
        # The head and the first bytes of the body: one record and one system call instead of two.
        result = ssl_write(s.transport, joined, _join(s, joined), &sent)
    else:
        result = ssl_write(s.transport, first.iov_base, first.iov_len, &sent)
    if result == 1:
        return sent
    return _stopped(s, result, True)


cdef ssize_t _receive(State* s, char* to, size_t length) noexcept nogil:
    cdef size_t received = 0
    cdef int result
    result = ssl_read(s.transport, to, length, &received)
    if result == 1:
        return received
    return _stopped(s, result, False)


cdef ssize_t _stopped(State* s, int result, bint sending) noexcept nogil:
    """Interprets a call that moved no bytes; 0 is the end of the stream."""
    cdef int failure = errno
    cdef int kind = ssl_error(s.transport, result)
    cdef unsigned long reason = ssl_take_reason()
    if kind == ERROR_WANT_READ:
        s.wants = POLLIN | POLLOUT if s.phase == SENDING and not sending else POLLIN
        return WAIT
    if kind == ERROR_WANT_WRITE:
        s.wants = POLLIN | POLLOUT
        return WAIT
    if kind == ERROR_SSL and reason & REASON_MASK != REASON_UNEXPECTED_EOF:
        s.error = 0
        s.transport_error = reason
        return FAILED
    if kind == ERROR_SYSCALL and failure != 0 and (sending or failure != EPIPE):
        s.error = failure
        return FAILED
    s.error = EPIPE
    return FAILED if sending else 0
