# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""One HTTP/1.1 exchange, or a series of them on one connection, as Python sees it: memory, transport, waiting.

Its bytes move in `exchange_loop` by the rules of `exchange_steps`. It never resolves, connects or retries, and holds
the memory of its requests and bodies only while a loop may touch it. `attempts` and `series` make exchanges.
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

from s3dlio._net.atomics cimport published, tell, told
from s3dlio._net.exchange_steps cimport (
    CANCELLED,
    COMPLETE,
    ENDED,
    HEAD_READY,
    NEW,
    OUT_OF_STEP,
    PENDING,
    QUEUED,
    RECEIVE_ERROR,
    SEND_ERROR,
    UNUSUAL,
    Answer,
    go_on,
    plain_receive,
    plain_send,
)
from s3dlio._net.response_head cimport Head, find_field, scan
from s3dlio._net.socket_calls cimport (
    POLLIN,
    POLLOUT,
    dissolve,
    getpid,
    iovec,
    now_ns,
    ring,
)
from s3dlio._net.tls cimport TlsTransport

from s3dlio.errors import ForkedError

cdef extern from *:
    int PyThread_acquire_lock_timed(PyThread_type_lock, long long microseconds, int interruptible) nogil

# How long the main thread sleeps between two looks at pending signals, in seconds.
cdef double SIGNAL_SLICE = 0.1
# Timeouts beyond this (30 years) are no limit, and would not fit the arithmetic.
cdef double LONGEST_TIMEOUT = 1e9
# A lock takes no longer timeouts than 292 years; a day is as good.
cdef double LONGEST_WAIT = 86400
# A loop lets a cancelled exchange go within one round. Where it has not after so many microseconds something is broken,
# and signals count again.
cdef int64_t LONGEST_END = 10_000_000
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
    EARLY_SUCCESS = 14
    OUT_OF_STEP = 15


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


def unbroken(action):
    """Calls `action` until it comes to its end, however often an interrupt breaks it off, and raises the last of those.

    No interrupt comes between two calls, nor, where this is called by name in a handler, before the first.

    Args:
        action: may be begun again at any point, and waits for nothing that a peer decides.
    """
    cdef object interrupt = None
    while True:
        try:
            action()
            break
        except Exception:
            raise
        except BaseException as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


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
        reused: the connection has served other requests; what came on it before this one began is theirs.
        previous_head: head of the last answer to those, or empty. The same once more is no answer to a further request,
            where an ``x-amz-request-id`` names it; None where names mean nothing.
        no_body: the answer has no body whatever its head says (HEAD).
        pause_at_head: end with HEAD_READY once the head is there; `continue_into` goes on.
        send_timeout, first_byte_timeout, idle_timeout: seconds without progress; None for no limit.

    Raises:
        BufferError, TypeError: a segment is no contiguous buffer, or `into` is not writable.
        ValueError: the socket is closed, or a timeout is not positive.
        MemoryError: there is no memory for the list of segments.
    """

    def __cinit__(self, sock, bytes head not None, body, *, into=None, followed_by=None, bint reused=False,
                  bytes previous_head=None, bint no_body=False, bint pause_at_head=False, send_timeout=None,
                  first_byte_timeout=None, idle_timeout=None):
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
            self.s.unasked = sock.pending() > 0  # poll would not tell
        self.s.wants = POLLIN | POLLOUT
        self.s.reused = reused
        if reused and self.s.unasked:
            self.s.outcome = OUT_OF_STEP
        self.s.answers_are_named = previous_head is not None
        if previous_head is not None:
            self._previous_head = previous_head
            self.s.previous = previous_head
            self.s.previous_length = len(previous_head)
        self.s.no_body = no_body
        self.s.pause = pause_at_head
        self.s.send_timeout = _nanoseconds(send_timeout)
        self.s.first_byte_timeout = _nanoseconds(first_byte_timeout)
        self.s.idle_timeout = _nanoseconds(idle_timeout)
        # Whatever these are, and whatever happens to them meanwhile: what is counted is what is held.
        further = None if followed_by is None else [(one, tuple(more)) for one, more in followed_by]
        self._hold(head, tuple(body), further)
        self._head_length = len(head)
        self._aim(into)
        sock.setblocking(False)
        self._sock = sock
        self.s.done = PyThread_allocate_lock()
        if self.s.done == NULL:
            raise MemoryError("no memory for a lock")
        PyThread_acquire_lock(self.s.done, WAIT_LOCK)
        tell(&self.s.stage, NEW)

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

    cdef int _hold(self, bytes head, tuple body, list followed_by) except -1:
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

    cdef int _hold_request(self, head, tuple body) except -1:
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
        if told(&self.s.stage) != ENDED:
            return
        if self.s.outcome != HEAD_READY or self.s.ends == NULL:
            self._let_go_of_sources()
        if self.s.outcome != HEAD_READY:
            self._let_go_of_target()

    cdef bint _is_over(self) noexcept:
        """Whether no loop has it and its outcome stands, which a pause at the head is too."""
        return told(&self.s.stage) == ENDED

    cdef bint _is_parents(self) noexcept:
        """Whether a loop of the process has it that this one was forked from."""
        return told(&self.s.stage) == QUEUED and self._bell_process != getpid()

    @property
    def outcome(self):
        """An `Outcome`; PENDING until the exchange has ended."""
        return Outcome(self.s.outcome) if self._is_over() else Outcome(PENDING)

    @property
    def submittable(self):
        """Whether no loop has it, and one may take it."""
        return told(&self.s.stage) == NEW

    @property
    def error(self):
        """What is behind SEND_ERROR and RECEIVE_ERROR: an `OSError`, which may be an `ssl.SSLError`; else None."""
        if not self._is_over() or self.s.outcome not in (SEND_ERROR, RECEIVE_ERROR):
            return None
        return OSError(self.s.error, os.strerror(self.s.error)) if self._tls is None else self._tls.failure(&self.s)

    # While a loop has the exchange it may move the memory behind these: they are empty until it has ended.

    @property
    def status(self):
        """Status of the answer; 0 where no head came."""
        return 0 if not self._is_over() or self.s.head.end <= 0 else self.s.head.status

    @property
    def head_bytes(self):
        """The answer's head with its blank line; empty where none came."""
        if not self._is_over() or self.s.head.end <= 0:
            return b""
        return PyBytes_FromStringAndSize(self.s.scratch, self.s.head.end)

    @property
    def content_length(self):
        """Bytes of the body as announced; -1 where nothing was."""
        return self.s.head.content_length if self._is_over() and self.s.head.end > 0 else -1

    @property
    def body_bytes(self):
        """The body, where it did not go to `into`."""
        if not self._is_over() or self.s.spill == NULL:
            return b""
        return PyBytes_FromStringAndSize(self.s.spill, self.s.received)

    @property
    def answered(self):
        """Requests of a series that were answered by a whole 2xx; it grows while the exchange runs."""
        return told(&self.s.answered)

    @property
    def answers(self):
        """(status, head, offset in `into`, length) of each answered request of a series; empty while it runs."""
        if not self._is_over():
            return []
        return [self._answer(self.s.answers + i) for i in range(self.s.answered)]

    cdef tuple _answer(self, Answer* answer):
        head = PyBytes_FromStringAndSize(self.s.heads + answer.head_at, answer.head_length)
        return answer.status, head, answer.body_at, answer.body_length

    @property
    def leftover(self):
        """What was read after the head of an UNUSUAL answer, or after the end of a COMPLETE one."""
        if not self._is_over() or self.s.outcome not in (UNUSUAL, COMPLETE):
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
        return max(0, <Py_ssize_t>published(&self.s.sent) - self._head_length)

    @property
    def request_sent(self):
        """Whether the whole request went out."""
        return bool(told(&self.s.request_sent))

    @property
    def early(self):
        """Whether the answer came before the peer had the request; False until the exchange has ended."""
        return bool(self._is_over() and self.s.early)

    @property
    def reusable(self):
        """Whether the exchange left the connection open and in step. What came later is for the lease to see."""
        if not self._is_over() or self.s.outcome != COMPLETE or not self.s.request_sent:
            return False
        if self._tls is not None and self._tls.holds_more():
            return False
        if self.s.most and self.s.received < <size_t>max(0, self.s.head.content_length):
            return False  # cut short
        return not (
            self.s.early or self.s.head.closes or self.s.head.unusual or self.s.leftover_at < self.s.scratch_length
        )

    @property
    def last_head(self):
        """Head of the answer that came last, the last one of a series included; empty where none came."""
        cdef Answer* last
        if not self._is_over() or self.s.head.end > 0 or self.s.answered == 0:
            return self.head_bytes
        last = self.s.answers + self.s.answered - 1
        return PyBytes_FromStringAndSize(self.s.heads + last.head_at, last.head_length)

    def wait(self, timeout=None):
        """Sleeps until the exchange has ended and has let go of the caller's memory; signals interrupt the main thread.

        Args:
            timeout: seconds; None to wait as long as it takes.

        Returns:
            False if the time was up first.

        Raises:
            ForkedError: this process was forked while a loop had it, as by a signal handler during the wait: that loop
                is the parent's, which goes on with it.
        """
        cdef double until = LONGEST_TIMEOUT if timeout is None else timeout
        cdef double started = now_ns() / 1e9
        cdef double left = until
        # Workers are not sent signals; the main thread must look for them.
        cdef double slice = SIGNAL_SLICE if threading.current_thread() is threading.main_thread() else LONGEST_WAIT
        cdef int64_t microseconds
        cdef int acquired = PyThread_acquire_lock(self.s.done, NOWAIT_LOCK)
        while not acquired:
            if self._is_parents():
                raise ForkedError("the request belongs to the process that this one was forked from")
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
        if not self._is_over() or self.s.outcome not in (HEAD_READY, CANCELLED):
            raise ValueError("only an exchange that paused at its head can be continued")
        if self.s.outcome == CANCELLED:
            return
        self._aim(into)
        self.s.most = self.s.into_size if cut else 0
        PyThread_acquire_lock(self.s.done, WAIT_LOCK)  # its loop lets it go right after it has told the stage
        self.s.outcome = PENDING
        go_on(&self.s)
        tell(&self.s.stage, NEW)

    def cancel(self):
        """Ends the exchange, from any thread: at once where no loop has it, else as soon as its loop has let go.

        Neither depends on the peer. One that has ended stays as it is.
        """
        cdef int stage = told(&self.s.stage)
        tell(&self.s.cancelled, True)
        if stage == QUEUED and self._bell_process == getpid():
            ring(self.s.bell)
        elif stage != ENDED:
            # Never handed over, or handed over to a thread that a fork has left behind.
            self.s.outcome = CANCELLED
            tell(&self.s.stage, ENDED)
            self._settle()
            PyThread_release_lock(self.s.done)
        elif self.s.outcome == HEAD_READY:
            self.s.outcome = CANCELLED
            self._settle()

    def end(self):
        """Cancels the exchange, and returns when its loop has let go of the caller's memory and connection.

        No signal breaks this, unlike `wait`: an interrupt is raised right after it, when the caller may give both to
        others. Called by name in a handler or a `finally`, no interrupt comes between that and the cancelling either.

        Returns:
            Whether it was cut short, or had failed; False where it had ended well.
        """
        cdef int acquired
        self.cancel()
        with nogil:
            acquired = PyThread_acquire_lock_timed(self.s.done, LONGEST_END, 0) == PY_LOCK_ACQUIRED
        if acquired:
            PyThread_release_lock(self.s.done)
            self._settle()
        else:
            self.wait(None)
        return bool(self.s.outcome != COMPLETE)
