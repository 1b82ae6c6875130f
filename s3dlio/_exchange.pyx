# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""One HTTP/1.1 exchange, or a series of them on one connection, as Python sees it: memory, transport, waiting.

Its bytes move in `_exchange_loop` by the rules of `_exchange_steps`. It never resolves, connects or retries, and holds
the memory of its requests and bodies only while a loop may touch it. `_attempts` and `_series` make exchanges.
"""

import enum
import os
import ssl
import threading

cimport cython
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport (
    NOWAIT_LOCK,
    PY_LOCK_ACQUIRED,
    WAIT_LOCK,
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_free_lock,
    PyThread_release_lock,
    PyThread_type_lock,
)
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from s3dlio._exchange_steps cimport (
    CANCELLED,
    COMPLETE,
    HEAD_READY,
    PENDING,
    POLLIN,
    POLLOUT,
    RECEIVE_ERROR,
    SEND_ERROR,
    UNUSUAL,
    Answer,
    go_on,
    iovec,
    now_ns,
    plain_receive,
    plain_send,
    ring,
)
from s3dlio._response_head cimport Head, find_field, scan
from s3dlio._tls cimport TlsTransport

cdef extern from *:
    """
    #include <string.h>
    #include <sys/socket.h>
    #include <unistd.h>

    static size_t published(const size_t *count) { return __atomic_load_n(count, __ATOMIC_ACQUIRE); }

    /* Dissolves a TCP association: what waits is dropped and the peer is sent a reset (connect(2), AF_UNSPEC). */
    static int dissolve(int fd) {
        struct sockaddr nowhere;
        memset(&nowhere, 0, sizeof nowhere);
        nowhere.sa_family = AF_UNSPEC;
        return connect(fd, &nowhere, sizeof nowhere);
    }
    """
    int PyThread_acquire_lock_timed(PyThread_type_lock, long long microseconds, int interruptible) nogil
    int getpid() noexcept nogil
    int dissolve(int fd) noexcept nogil
    size_t published(const size_t* count) noexcept nogil

# How long the main thread sleeps between two looks at pending signals, in seconds.
cdef double SIGNAL_SLICE = 0.1
# Timeouts beyond this (30 years) are no limit, and would not fit the arithmetic.
cdef double LONGEST_TIMEOUT = 1e9
# A lock takes no longer timeouts than 292 years; a day is as good.
cdef double LONGEST_WAIT = 86400
# More segments than this no request can have.
cdef Py_ssize_t MOST_SEGMENTS = 1 << 20


class Outcome(enum.IntEnum):
    """How an exchange stands, or ended."""

    PENDING = 0
    COMPLETE = 1
    HEAD_READY = 2
    UNUSUAL = 3
    CLOSED_BEFORE_RESPONSE = 4
    CLOSED_IN_RESPONSE = 5
    SEND_ERROR = 6
    RECEIVE_ERROR = 7
    SEND_TIMEOUT = 8
    FIRST_BYTE_TIMEOUT = 9
    IDLE_TIMEOUT = 10
    CANCELLED = 11
    HEAD_TOO_LARGE = 12
    GARBAGE = 13


def scan_head(data):
    """(end, status, content_length, unusual, closes) of a response head, as the loop sees it.

    `end` is 0 while the head is incomplete and -1 when it is none; `content_length` is -1 where there is none.
    """
    cdef const unsigned char[::1] view = data
    cdef Head head
    if view.shape[0] == 0:
        return 0, 0, -1, False, False
    scan(<const char*>&view[0], view.shape[0], &head)
    return head.end, head.status, head.content_length, bool(head.unusual), bool(head.closes)


def head_field(bytes head not None, bytes name not None):
    """The value of a field of a usual head, those of several of one name joined by commas; None where there is none.

    Args:
        head: with its blank line, as an exchange received it and called it not unusual.
        name: in any case.
    """
    cdef const char* data = head
    cdef const char* wanted = name
    cdef Py_ssize_t at = 0, value, length
    cdef str found = None
    while True:
        at = find_field(data, len(head), at, wanted, len(name), &value, &length)
        if at == 0:
            return found
        text = data[value:value + length].decode("latin-1")
        found = text if found is None else f"{found}, {text}"


def reset_connection(int fd):
    """Drops what a TCP socket has not sent yet and resets the connection; False where the system cannot.

    Unlike closing with a linger time of zero it works while a forked child holds the descriptor.
    """
    return fd >= 0 and dissolve(fd) == 0


cdef int64_t _nanoseconds(object seconds) except -1:
    if seconds is None or seconds > LONGEST_TIMEOUT:
        return 0
    if not seconds > 0:
        raise ValueError(f"a timeout of {seconds!r} seconds is not positive; None means no limit")
    return max(1, int(seconds * 1e9))


@cython.no_gc_clear  # the held buffers have to be released, not cleared
cdef class Exchange:
    """One HTTP/1.1 request and its response on one leased socket, or a series of such.

    Args:
        sock: a connected `socket.socket` or `ssl.SSLSocket`; it is made non-blocking.
        head: the request head with its blank line.
        body: C-contiguous buffers that are sent one after the other, without a copy.
        into: writable buffer for the body of a 2xx answer; None to have it as `body_bytes`. The bodies of a series lie
            in it one after the other, each from a multiple of 64 bytes on; before one that does not fit the exchange
            pauses at its head.
        followed_by: makes it a series: (head, body) of further requests, each sent once the answer before it was a
            whole 2xx that left the connection in step; any other ends the series. What was answered is in `answers`.
        no_body: the answer has no body whatever its head says (HEAD).
        pause_at_head: end with HEAD_READY once the head is there; `continue_into` goes on.
        send_timeout, first_byte_timeout, idle_timeout: seconds without progress; None for no limit.

    Raises:
        BufferError, TypeError: a segment is no contiguous buffer, or `into` is not writable.
        ValueError: the socket is closed, or a timeout is not positive.
        MemoryError: there is no memory for the list of segments.
    """

    def __cinit__(self, sock, bytes head not None, body, *, into=None, followed_by=None, bint no_body=False,
                  bint pause_at_head=False, send_timeout=None, first_byte_timeout=None, idle_timeout=None):
        self.s.bell = -1
        self.s.fd = sock.fileno()
        if self.s.fd < 0:
            raise ValueError("the socket is closed")
        self.s.owner = <void*>self
        self.s.send = plain_send
        self.s.receive = plain_receive
        if isinstance(sock, ssl.SSLSocket):
            self._tls = TlsTransport(sock)
            self._tls.attach(&self.s)
        self.s.wants = POLLIN | POLLOUT
        self.s.no_body = no_body
        self.s.pause = pause_at_head
        self.s.send_timeout = _nanoseconds(send_timeout)
        self.s.first_byte_timeout = _nanoseconds(first_byte_timeout)
        self.s.idle_timeout = _nanoseconds(idle_timeout)
        self._hold(head, body, followed_by)
        self._head_length = len(head)
        self._aim(into)
        sock.setblocking(False)
        self._sock = sock
        self.s.done = PyThread_allocate_lock()
        if self.s.done == NULL:
            raise MemoryError("no memory for a lock")
        PyThread_acquire_lock(self.s.done, WAIT_LOCK)
        self.s.open = self._submittable = True

    def __dealloc__(self):
        # Nobody else knows the exchange any more; the GIL is held, and no lock is needed.
        if self.s.done != NULL:
            PyThread_free_lock(self.s.done)
        self._let_go_of_sources()
        self._let_go_of_target()
        free(self._sources)
        free(self.s.iov)
        free(self.s.scratch)
        free(self.s.spill)
        free(self.s.ends)
        free(self.s.answers)
        free(self.s.heads)

    cdef int _hold(self, bytes head, body, followed_by) except -1:
        """Exports the requests' memory, which must not move or go before the exchange has ended."""
        cdef bint series = followed_by is not None
        cdef Py_ssize_t requests = 1 + len(followed_by) if series else 1
        cdef Py_ssize_t count = requests + len(body)
        cdef Py_ssize_t i = 0
        for _, further in followed_by or ():
            count += len(further)
        if count > MOST_SEGMENTS:
            raise ValueError(f"{count} segments are more than one request can have")
        self._sources = <Py_buffer*>malloc(count * sizeof(Py_buffer))
        self.s.iov = <iovec*>malloc(count * sizeof(iovec))
        if series:
            self.s.ends = <int*>malloc(requests * sizeof(int))
            self.s.answers = <Answer*>malloc(requests * sizeof(Answer))
        if self._sources == NULL or self.s.iov == NULL or (
            series and (self.s.ends == NULL or self.s.answers == NULL)
        ):
            raise MemoryError("no memory for the segments of a request")
        self._hold_request(head, body)
        self.s.iov_count = self._source_count
        self.s.requests = <int>requests
        if series:
            self.s.ends[0] = self._source_count
            for one, further in followed_by:
                i += 1
                self._hold_request(one, further)
                self.s.ends[i] = self._source_count
        return 0

    cdef int _hold_request(self, bytes head, body) except -1:
        self._hold_segment(head)
        for segment in body:
            self._hold_segment(segment)
        return 0

    cdef int _hold_segment(self, segment) except -1:
        cdef int i = self._source_count
        PyObject_GetBuffer(segment, &self._sources[i], PyBUF_C_CONTIGUOUS)
        self._source_count += 1
        self.s.iov[i].iov_base = self._sources[i].buf
        self.s.iov[i].iov_len = self._sources[i].len
        return 0

    cdef int _aim(self, into) except -1:
        self._let_go_of_target()
        if into is None:
            return 0
        PyObject_GetBuffer(into, &self._target, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
        self._has_target = True
        self.s.into = <char*>self._target.buf
        self.s.into_size = self._target.len
        return 0

    cdef void _let_go_of_sources(self) noexcept:
        while self._source_count:
            self._source_count -= 1
            PyBuffer_Release(&self._sources[self._source_count])

    cdef void _let_go_of_target(self) noexcept:
        self.s.into = NULL
        self.s.into_size = self.s.used = 0
        if self._has_target:
            self._has_target = False
            PyBuffer_Release(&self._target)

    cdef void _settle(self) noexcept:
        """No loop uses it any more: lets its memory go, but for what a paused one needs. Nothing can fail or wait."""
        if self.s.open:
            return
        if self.s.outcome != HEAD_READY or self.s.ends == NULL:
            self._let_go_of_sources()
        if self.s.outcome != HEAD_READY:
            self._let_go_of_target()

    @property
    def outcome(self):
        """An `Outcome`; PENDING until the exchange has ended."""
        return Outcome(PENDING) if self.s.open else Outcome(self.s.outcome)

    @property
    def submittable(self):
        """Whether no loop has it, and one may take it."""
        return bool(self._submittable)

    @property
    def error(self):
        """What is behind SEND_ERROR and RECEIVE_ERROR: an `OSError`, which may be an `ssl.SSLError`; else None."""
        if self.s.open or self.s.outcome not in (SEND_ERROR, RECEIVE_ERROR):
            return None
        return OSError(self.s.error, os.strerror(self.s.error)) if self._tls is None else self._tls.failure(&self.s)

    # While a loop has the exchange it may move the memory behind these: they are empty until it has ended.

    @property
    def status(self):
        """Status of the answer; 0 where no head came."""
        return 0 if self.s.open or self.s.head.end <= 0 else self.s.head.status

    @property
    def head_bytes(self):
        """The answer's head with its blank line; empty where none came."""
        if self.s.open or self.s.head.end <= 0:
            return b""
        return PyBytes_FromStringAndSize(self.s.scratch, self.s.head.end)

    @property
    def content_length(self):
        """Bytes of the body as announced; -1 where nothing was."""
        return -1 if self.s.open or self.s.head.end <= 0 else self.s.head.content_length

    @property
    def body_bytes(self):
        """The body, where it did not go to `into`."""
        if self.s.open or self.s.spill == NULL:
            return b""
        return PyBytes_FromStringAndSize(self.s.spill, self.s.received)

    @property
    def answered(self):
        """Requests of a series that were answered by a whole 2xx; it grows while the exchange runs."""
        return self.s.answered

    @property
    def answers(self):
        """(status, head, offset in `into`, length) of each answered request of a series; empty while it runs."""
        if self.s.open:
            return []
        return [self._answer(self.s.answers + i) for i in range(self.s.answered)]

    cdef tuple _answer(self, Answer* answer):
        head = PyBytes_FromStringAndSize(self.s.heads + answer.head_at, answer.head_length)
        return answer.status, head, answer.body_at, answer.body_length

    @property
    def leftover(self):
        """What was read after the head of an UNUSUAL answer, or after the end of a COMPLETE one."""
        if self.s.open or self.s.outcome not in (UNUSUAL, COMPLETE):
            return b""
        return PyBytes_FromStringAndSize(
            self.s.scratch + self.s.leftover_at, self.s.scratch_length - self.s.leftover_at
        )

    @property
    def body_received(self):
        """Bytes of the body that are in its place; it grows while the exchange runs."""
        return published(&self.s.received)

    @property
    def sent(self):
        """Bytes of the request's body that have gone out; it grows while the exchange runs."""
        return max(0, <Py_ssize_t>self.s.sent - self._head_length)

    @property
    def request_sent(self):
        """Whether the whole request went out."""
        return bool(self.s.request_sent)

    @property
    def early(self):
        """Whether the answer came before the request was out."""
        return bool(self.s.early)

    @property
    def reusable(self):
        """Whether the exchange left the connection open and in step. What came later is for the lease to see."""
        if self.s.open or self.s.outcome != COMPLETE or not self.s.request_sent:
            return False
        if self._tls is not None and self._tls.holds_more():
            return False
        if self.s.most and self.s.received < <size_t>max(0, self.s.head.content_length):
            return False  # cut short
        return not (self.s.head.closes or self.s.head.unusual or self.s.leftover_at < self.s.scratch_length)

    def wait(self, timeout=None):
        """Sleeps until the exchange has ended and has let go of the caller's memory; signals interrupt the main thread.

        Args:
            timeout: seconds; None to wait as long as it takes.

        Returns:
            False if the time was up first.
        """
        cdef double until = LONGEST_TIMEOUT if timeout is None else timeout
        cdef double started = now_ns() / 1e9
        cdef double left = until
        # Workers are not sent signals; the main thread must look for them.
        cdef double slice = SIGNAL_SLICE if threading.current_thread() is threading.main_thread() else LONGEST_WAIT
        cdef int64_t microseconds
        cdef int acquired = PyThread_acquire_lock(self.s.done, NOWAIT_LOCK)
        while not acquired:
            microseconds = <int64_t>(1e6 * max(0, min(left, slice)))
            with nogil:
                acquired = PyThread_acquire_lock_timed(self.s.done, microseconds, 1) == PY_LOCK_ACQUIRED
            if acquired:
                break
            PyErr_CheckSignals()
            left = until - (now_ns() / 1e9 - started)
            if left <= 0:
                return False
        PyThread_release_lock(self.s.done)
        self._settle()
        return True

    def continue_into(self, into, *, bint cut=False):
        """After HEAD_READY: where the body goes (a writable buffer, or None for `body_bytes`). Submit it again then.

        Args:
            into: the destination.
            cut: end once `into` is full, however much of the body there still is; the connection is of no use then.

        Raises:
            ValueError: the exchange does not stand at its head. One that was cancelled meanwhile stays CANCELLED.
        """
        if self.s.open or self.s.outcome not in (HEAD_READY, CANCELLED):
            raise ValueError("only an exchange that paused at its head can be continued")
        if self.s.outcome == CANCELLED:
            return
        self._aim(into)
        self.s.most = self.s.into_size if cut else 0
        PyThread_acquire_lock(self.s.done, NOWAIT_LOCK)
        self.s.open = self._submittable = True
        self.s.outcome = PENDING
        go_on(&self.s)

    def cancel(self):
        """Ends the exchange, from any thread: at once where no loop has it, else as soon as its loop has let go.

        Neither depends on the peer. One that has ended stays as it is.
        """
        self.s.cancelled = True
        if self.s.bell >= 0 and self._bell_process == getpid():
            ring(self.s.bell)
        elif self.s.bell >= 0 or self._submittable:
            # Never handed over, or handed over to a thread that a fork has left behind.
            self._submittable = False
            self.s.outcome = CANCELLED
            self.s.open = False
            self.s.bell = -1
            self._settle()
            PyThread_release_lock(self.s.done)
        elif not self.s.open and self.s.outcome == HEAD_READY:
            self.s.outcome = CANCELLED
            self._settle()
