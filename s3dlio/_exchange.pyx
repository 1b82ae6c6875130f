# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""One native loop that drives a batch of HTTP/1.1 exchanges over connected sockets, without the GIL.

It sends heads and bodies as they lie, receives heads, and receives bodies straight into their place; the rules are
in `_exchange_steps`. It never resolves, connects, sleeps or retries. `_drivers` sits in it; `_client` makes exchanges.
"""

import enum
import os
import ssl
import threading
from collections import deque

cimport cython
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_READ,
    PyBUF_WRITABLE,
    PyBUF_WRITE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.errno cimport ECONNRESET, EPIPE
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc, realloc

from s3dlio._exchange_steps cimport (
    CANCELLED,
    COMPLETE,
    FAILED,
    HEAD_READY,
    PENDING,
    POLLIN,
    POLLOUT,
    RECEIVE_ERROR,
    SEND_ERROR,
    SENDING,
    UNUSUAL,
    WAIT,
    State,
    begin_body,
    check_deadline,
    iovec,
    now_ns,
    plain_receive,
    plain_send,
    progress,
    step,
)
from s3dlio._response_head cimport Head, scan

cdef extern from *:
    """
    #include <poll.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <unistd.h>

    /* Empties the bell, be it an eventfd or a pipe. */
    static void drain(int fd) {
        char bytes[64];
        while (read(fd, bytes, sizeof bytes) == (ssize_t)sizeof bytes) {}
    }

    static void ring(int fd) {
        const long long one = 1;
        if (write(fd, &one, sizeof one) < 0) {}  /* a full pipe or counter rings already */
    }

    /* Dissolves a TCP association: what waits is dropped and the peer is sent a reset (connect(2), AF_UNSPEC). */
    static int dissolve(int fd) {
        struct sockaddr nowhere;
        memset(&nowhere, 0, sizeof nowhere);
        nowhere.sa_family = AF_UNSPEC;
        return connect(fd, &nowhere, sizeof nowhere);
    }
    """
    ctypedef struct pollfd "struct pollfd":
        int fd
        short events
        short revents
    int poll(pollfd* fds, unsigned long count, int timeout) noexcept nogil
    int getpid() noexcept nogil
    void drain(int fd) noexcept nogil
    void ring(int fd) noexcept nogil
    int dissolve(int fd) noexcept nogil

# CPython's ssl never writes partially: larger slices only add latency, smaller ones calls (256 KiB is within
# 10 % of C over OpenSSL).
cdef size_t TLS_SLICE = 256 << 10
# How long the main thread sleeps between two looks at pending signals, in seconds.
cdef double SIGNAL_SLICE = 0.1
# Timeouts beyond this (30 years) are no limit, and would not fit the arithmetic.
cdef double LONGEST_TIMEOUT = 1e9
# A lock takes no longer timeouts than 292 years; a day is as good.
cdef double LONGEST_WAIT = 86400
cdef int LONGEST_POLL = 1 << 30
# A batch always has room for this many without asking for memory again.
cdef Py_ssize_t FIRST_BATCH = 64


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


# --- the TLS transport: the same steps over a non-blocking SSLSocket, which releases the GIL itself --------

cdef ssize_t _tls_send(State* s) noexcept nogil:
    with gil:
        return (<Exchange>s.owner)._tls_send()


cdef ssize_t _tls_receive(State* s, char* to, size_t length) noexcept nogil:
    with gil:
        return (<Exchange>s.owner)._tls_receive(to, length)


@cython.no_gc_clear  # the held buffers have to be released, not cleared
cdef class Exchange:
    """One HTTP/1.1 request and its response on one leased socket.

    Args:
        sock: a connected `socket.socket` or `ssl.SSLSocket`; it is made non-blocking.
        head: the request head with its blank line.
        body: C-contiguous buffers that are sent one after the other, without a copy.
        into: writable buffer for the body of a 2xx answer; None to have it as `body_bytes`.
        no_body: the answer has no body whatever its head says (HEAD).
        pause_at_head: end with HEAD_READY once the head is there; `continue_into` goes on.
        send_timeout, first_byte_timeout, idle_timeout: seconds without progress; None for no limit.

    Raises:
        BufferError, TypeError: a segment is no contiguous buffer, or `into` is not writable.
        ValueError: the socket is closed, or a timeout is not positive.
        MemoryError: there is no memory for the list of segments.
    """

    cdef State s
    cdef object _sock              # keeps the descriptor open while the loop uses it
    cdef object _done              # a lock that is free when the exchange has ended
    cdef bint _open                # what `_done` says, for those who only look
    cdef bint _submittable         # no loop has it, and one may
    cdef ExchangeLoop _loop        # who has it
    cdef Py_buffer* _sources       # the request's memory, held until the exchange has ended
    cdef int _source_count
    cdef Py_buffer _target         # the body's place, likewise
    cdef bint _has_target
    cdef Py_ssize_t _head_length
    cdef object _tls_error

    def __cinit__(self, sock, bytes head not None, body, *, into=None, bint no_body=False, bint pause_at_head=False,
                  send_timeout=None, first_byte_timeout=None, idle_timeout=None):
        cdef Py_ssize_t count = len(body) + 1
        if count > (1 << 20):
            raise ValueError(f"{count} segments are more than one request can have")
        self.s.fd = sock.fileno()
        if self.s.fd < 0:
            raise ValueError("the socket is closed")
        self.s.owner = <void*>self
        self.s.buffered = isinstance(sock, ssl.SSLSocket)
        self.s.send = _tls_send if self.s.buffered else plain_send
        self.s.receive = _tls_receive if self.s.buffered else plain_receive
        self.s.wants = POLLIN | POLLOUT
        self.s.no_body = no_body
        self.s.pause = pause_at_head
        self.s.send_timeout = _nanoseconds(send_timeout)
        self.s.first_byte_timeout = _nanoseconds(first_byte_timeout)
        self.s.idle_timeout = _nanoseconds(idle_timeout)
        self._hold(head, body, count)
        self._head_length = len(head)
        self._aim(into)
        sock.setblocking(False)
        self._sock = sock
        self._done = threading.Lock()
        self._done.acquire()
        self._open = self._submittable = True

    def __dealloc__(self):
        # Nobody else knows the exchange any more; the GIL is held, and no lock is needed.
        self._let_go_of_sources()
        self._let_go_of_target()
        free(self._sources)
        free(self.s.iov)
        free(self.s.scratch)
        free(self.s.spill)

    cdef int _hold(self, bytes head, body, Py_ssize_t count) except -1:
        """Exports the request's memory, which must not move or go before the exchange has ended."""
        cdef Py_ssize_t i
        self._sources = <Py_buffer*>malloc(count * sizeof(Py_buffer))
        self.s.iov = <iovec*>malloc(count * sizeof(iovec))
        if self._sources == NULL or self.s.iov == NULL:
            raise MemoryError("no memory for the segments of a request")
        for i in range(count):
            PyObject_GetBuffer(head if i == 0 else body[i - 1], &self._sources[i], PyBUF_C_CONTIGUOUS)
            self._source_count += 1
            self.s.iov[i].iov_base = self._sources[i].buf
            self.s.iov[i].iov_len = self._sources[i].len
        self.s.iov_count = <int>count
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
        if self._has_target:
            self._has_target = False
            PyBuffer_Release(&self._target)

    cdef void _end(self) noexcept:
        """No loop uses it any more: memory first, then the waiter. Nothing here can fail or wait."""
        self._loop = None
        self._let_go_of_sources()
        if self.s.outcome != HEAD_READY:
            self._let_go_of_target()
        self._open = False
        self._done.release()

    cdef void _start(self) noexcept:
        """A loop begins with it, or goes on after a pause."""
        if self.s.phase == SENDING and self.s.outcome == PENDING:
            self.s.more = True
            progress(&self.s, self.s.send_timeout)

    cdef ssize_t _tls_failed(self, error) noexcept:
        self._tls_error = error
        if isinstance(error, ssl.SSLEOFError):
            self.s.error = EPIPE if self.s.phase == SENDING else ECONNRESET
        elif isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
            self.s.error = error.errno or 0
        else:
            self.s.error = 0
        return FAILED

    cdef ssize_t _tls_send(self) noexcept:
        # A slice that did not go out whole is repeated with the same address and length: OpenSSL has begun to
        # encrypt it, and takes another one without a word.
        cdef iovec* first = self.s.iov + self.s.iov_next
        if self.s.slice == 0:
            self.s.slice = first.iov_len if first.iov_len < TLS_SLICE else TLS_SLICE
        try:
            sent = self._sock.send(PyMemoryView_FromMemory(<char*>first.iov_base, self.s.slice, PyBUF_READ))
        except ssl.SSLWantReadError:
            self.s.wants = POLLIN
            return WAIT
        except (ssl.SSLWantWriteError, BlockingIOError):
            self.s.wants = POLLIN | POLLOUT
            return WAIT
        except BaseException as error:
            return self._tls_failed(error)
        self.s.slice = 0
        return sent

    cdef ssize_t _tls_receive(self, char* to, size_t length) noexcept:
        try:
            return self._sock.recv_into(PyMemoryView_FromMemory(to, length, PyBUF_WRITE))
        except (ssl.SSLWantReadError, BlockingIOError):
            self.s.wants = POLLIN | POLLOUT if self.s.phase == SENDING else POLLIN
            return WAIT
        except ssl.SSLWantWriteError:
            self.s.wants = POLLIN | POLLOUT
            return WAIT
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return 0
        except BaseException as error:
            return self._tls_failed(error)

    @property
    def outcome(self):
        """An `Outcome`; PENDING until the exchange has ended."""
        return Outcome(PENDING) if self._open else Outcome(self.s.outcome)

    @property
    def submittable(self):
        """Whether no loop has it, and one may take it."""
        return bool(self._submittable)

    @property
    def error(self):
        """What is behind SEND_ERROR and RECEIVE_ERROR: an `OSError`, which may be an `ssl.SSLError`; else None."""
        if self._open or self.s.outcome not in (SEND_ERROR, RECEIVE_ERROR):
            return None
        return self._tls_error or OSError(self.s.error, os.strerror(self.s.error))

    # While a loop has the exchange it may move the memory behind these: they are empty until it has ended.

    @property
    def status(self):
        """Status of the answer; 0 where no head came."""
        return 0 if self._open or self.s.head.end <= 0 else self.s.head.status

    @property
    def head_bytes(self):
        """The answer's head with its blank line; empty where none came."""
        if self._open or self.s.head.end <= 0:
            return b""
        return PyBytes_FromStringAndSize(self.s.scratch, self.s.head.end)

    @property
    def content_length(self):
        """Bytes of the body as announced; -1 where nothing was."""
        return -1 if self._open or self.s.head.end <= 0 else self.s.head.content_length

    @property
    def body_bytes(self):
        """The body, where it did not go to `into`."""
        if self._open or self.s.spill == NULL:
            return b""
        return PyBytes_FromStringAndSize(self.s.spill, self.s.received)

    @property
    def leftover(self):
        """What was read after the head of an UNUSUAL answer, or after the end of a COMPLETE one."""
        if self._open or self.s.outcome not in (UNUSUAL, COMPLETE):
            return b""
        return PyBytes_FromStringAndSize(
            self.s.scratch + self.s.leftover_at, self.s.scratch_length - self.s.leftover_at
        )

    @property
    def body_received(self):
        """Bytes of the body that have come; it grows while the exchange runs."""
        return self.s.received

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
        if self._open or self.s.outcome != COMPLETE or not self.s.request_sent:
            return False
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
        while not self._done.acquire(timeout=max(0, min(left, slice))):
            PyErr_CheckSignals()
            left = until - (now_ns() / 1e9 - started)
            if left <= 0:
                return False
        self._done.release()
        return True

    def continue_into(self, into):
        """After HEAD_READY: where the body goes (a writable buffer, or None for `body_bytes`). Submit it again then.

        Raises:
            ValueError: the exchange does not stand at its head. One that was cancelled meanwhile stays CANCELLED.
        """
        if self._open or self.s.outcome not in (HEAD_READY, CANCELLED):
            raise ValueError("only an exchange that paused at its head can be continued")
        if self.s.outcome == CANCELLED:
            return
        self._aim(into)
        self._done.acquire(False)
        self._open = self._submittable = True
        self.s.outcome = PENDING
        begin_body(&self.s)

    def cancel(self):
        """Ends the exchange, from any thread: at once where no loop has it, else as soon as its loop has let go.

        Neither depends on the peer. One that has ended stays as it is.
        """
        self.s.cancelled = True
        if self._loop is not None and self._loop._pid == getpid():
            ring(self._loop._wake_write)
        elif self._loop is not None or self._submittable:
            # Never handed over, or handed over to a thread that a fork has left behind.
            self._submittable = False
            self.s.outcome = CANCELLED
            self._end()
        elif not self._open and self.s.outcome == HEAD_READY:
            self.s.outcome = CANCELLED
            self._let_go_of_target()


cdef class ExchangeLoop:
    """A batch of exchanges, and the one thread that sits in `run`; everything else may be called from any thread."""

    cdef int _pid                   # a forked child must not ring the parent's bell
    cdef int _wake_read
    cdef int _wake_write
    cdef object _submitted          # a deque: its ends are atomic under the GIL
    cdef list _active
    cdef State** _states            # of `_active`, for the native part
    cdef pollfd* _polls             # the bell, then one for each state
    cdef Py_ssize_t _room
    cdef bint _running
    cdef bint _closing

    def __cinit__(self):
        self._pid = getpid()
        self._wake_read = self._wake_write = -1
        self._submitted = deque()
        self._active = []
        if not self._grow(FIRST_BATCH):
            raise MemoryError("no memory for a batch of exchanges")
        if hasattr(os, "eventfd"):
            self._wake_read = self._wake_write = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._wake_read, self._wake_write = os.pipe()
            os.set_blocking(self._wake_read, False)
            os.set_blocking(self._wake_write, False)

    def __dealloc__(self):
        free(self._states)
        free(self._polls)

    @property
    def load(self):
        """Exchanges here, those not yet begun included."""
        return len(self._active) + len(self._submitted)

    @property
    def closed(self):
        """Whether `close` has taken effect: `run` returns at once from now on."""
        return bool(self._closing and self._wake_read < 0)

    def submit(self, Exchange exchange not None):
        """Takes an exchange over. One that was cancelled before stays CANCELLED.

        Raises:
            ValueError: it was handed over already.
            RuntimeError: the loop is closed, or belongs to the process that this one was forked from.
        """
        if self._closing or self._pid != getpid():
            raise RuntimeError("this exchange loop is closed")
        if not exchange._submittable:
            if exchange.s.outcome == CANCELLED:
                return
            raise ValueError("the exchange was handed over already")
        self._submitted.append(exchange)
        exchange._submittable = False
        exchange._loop = self
        ring(self._wake_write)

    def wake(self):
        """Makes `run` return."""
        if self._pid == getpid():
            ring(self._wake_write)

    def close(self):
        """Cancels every exchange here and frees the bell; the thread in `run`, if any, does it on its way out."""
        if self._pid != getpid() or self._closing:
            return
        self._closing = True
        if self._running:
            ring(self._wake_write)
        else:
            self._shut()

    def run(self):
        """Drives until exchanges have ended, and returns them; none when `submit`, `wake` or a cancel rang."""
        cdef list ended
        cdef Py_ssize_t count
        if self.closed:
            return []
        self._running = True
        try:
            self._accept()
            count = len(self._active)
            with nogil:
                self._drive(count)
            ended = self._collect()
        finally:
            self._running = False
        if self._closing:
            ended += self._shut()
        return ended

    cdef list _collect(self):
        """Takes the ended exchanges out of the batch, and lets their waiters go."""
        cdef list ended = [one for one in self._active if (<Exchange>one).s.outcome != PENDING]
        if ended:
            self._active = [one for one in self._active if (<Exchange>one).s.outcome == PENDING]
        for one in ended:
            (<Exchange>one)._end()
        return ended

    cdef list _shut(self):
        self._active.extend(self._submitted)
        self._submitted.clear()
        for one in self._active:
            if (<Exchange>one).s.outcome == PENDING:
                (<Exchange>one).s.outcome = CANCELLED
        cdef list ended = self._collect()
        for fd in {self._wake_read, self._wake_write}:
            os.close(fd)
        self._wake_read = self._wake_write = -1
        return ended

    cdef int _accept(self) except -1:
        """Moves submitted exchanges into the batch as far as there is room; the others wait until some have ended."""
        cdef Exchange exchange
        cdef Py_ssize_t i
        while self._submitted:
            if len(self._active) == self._room and not self._grow(2 * self._room):
                break
            exchange = self._submitted.popleft()
            exchange._start()
            self._active.append(exchange)
        for i in range(len(self._active)):
            self._states[i] = &(<Exchange>self._active[i]).s
        return 0

    cdef bint _grow(self, Py_ssize_t room) noexcept:
        cdef State** states = <State**>realloc(self._states, room * sizeof(State*))
        if states == NULL:
            return False
        self._states = states
        cdef pollfd* polls = <pollfd*>realloc(self._polls, (room + 1) * sizeof(pollfd))
        if polls == NULL:
            return False
        self._polls = polls
        self._room = room
        return True

    cdef void _drive(self, Py_ssize_t count) noexcept nogil:
        """Rounds of poll and steps, until an exchange has ended or the bell rings."""
        cdef Py_ssize_t i
        while not self._any_ended(count):
            self._sleep(count)
            for i in range(count):
                if self._polls[i + 1].revents or self._states[i].more:
                    step(self._states[i], self._polls[i + 1].revents)
            self._check_deadlines(count)
            if self._polls[0].revents:
                # Flags are raised before the bell is rung: drained first, none is missed.
                drain(self._wake_read)
                self._any_ended(count)
                return

    cdef bint _any_ended(self, Py_ssize_t count) noexcept nogil:
        """Whether any has, those included whose cancel flag this finds raised."""
        cdef Py_ssize_t i
        cdef bint ended = False
        for i in range(count):
            if self._states[i].cancelled and self._states[i].outcome == PENDING:
                self._states[i].outcome = CANCELLED
            ended = ended or self._states[i].outcome != PENDING
        return ended

    cdef void _check_deadlines(self, Py_ssize_t count) noexcept nogil:
        cdef int64_t now = now_ns()
        cdef Py_ssize_t i
        for i in range(count):
            if self._states[i].outcome == PENDING:
                check_deadline(self._states[i], now)

    cdef void _sleep(self, Py_ssize_t count) noexcept nogil:
        """Polls until something is ready or the first deadline has passed."""
        cdef int64_t first = 0
        cdef bint more = False
        cdef Py_ssize_t i
        cdef State* s
        self._polls[0].fd = self._wake_read
        self._polls[0].events = <short>POLLIN
        for i in range(count):
            s = self._states[i]
            self._polls[i + 1].fd = s.fd
            self._polls[i + 1].events = <short>s.wants
            more = more or s.more
            if s.deadline and (first == 0 or s.deadline < first):
                first = s.deadline
        if poll(self._polls, count + 1, 0 if more else _milliseconds_until(first)) < 0:
            for i in range(count + 1):
                self._polls[i].revents = 0


cdef int _milliseconds_until(int64_t deadline) noexcept nogil:
    """For poll: -1 where there is no deadline, and never so short that it wakes before it."""
    cdef int64_t left
    if deadline == 0:
        return -1
    left = (deadline - now_ns() + 999999) // 1000000
    if left < 0:
        return 0
    return <int>left if left < LONGEST_POLL else LONGEST_POLL
