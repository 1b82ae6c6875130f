# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""One or more HTTP/1.1 requests on one connection, as Python sees them: memory, transport, waiting.

`exchange_loop` moves the bytes. An exchange never resolves names, connects or retries, and holds the memory of its
requests and bodies only while a loop may use it. `attempts` and `series` make exchanges.
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

from s3dlio._net.atomics cimport load, load_size, store
from s3dlio._net.exchange_state cimport (
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
    Request,
)
from s3dlio._net.response_head cimport Head, find_field, scan
from s3dlio._net.socket_calls cimport (
    POLLIN,
    POLLOUT,
    dissolve,
    getpid,
    iovec,
    notify,
    now_ns,
)
from s3dlio._net.tls cimport TlsTransport

from s3dlio.errors import ForkedError

cdef extern from *:
    int PyThread_acquire_lock_timed(PyThread_type_lock, long long microseconds, int interruptible) nogil

# The main thread checks for pending signals this often, in seconds.
cdef double SIGNAL_SLICE = 0.1
# Longer timeouts (30 years) mean no limit; they would overflow the arithmetic.
cdef double LONGEST_TIMEOUT = 1e9
# Lock timeouts are limited to 292 years; a day is enough here.
cdef double LONGEST_WAIT = 86400
# A loop ends a cancelled exchange within one round. If it has not after so many microseconds, something is broken, and
# signals interrupt the wait again.
cdef int64_t LONGEST_END = 10_000_000
# Most segments of one request.
cdef Py_ssize_t MOST_SEGMENTS = 1 << 20


class Outcome(enum.IntEnum):
    """How an exchange ended, or PENDING."""

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
    """(end, status, content_length, unusual, closes) of a response head, as the loop reads it.

    `end` is 0 while the head is incomplete and -1 if it is not HTTP/1.x; `content_length` is -1 where there is none.
    """
    cdef const unsigned char[::1] view = data
    cdef Head head
    if view.shape[0] == 0:
        return 0, 0, -1, False, False
    scan(<const char*>&view[0], view.shape[0], &head)
    return head.end, head.status, head.content_length, bool(head.unusual), bool(head.closes)


def head_field(bytes head not None, bytes name not None):
    """The value of a field of a usual head, or None; repeated fields are joined by commas.

    Args:
        head: with its blank line, as received by an exchange that did not end UNUSUAL.
        name: of the field, in any case.
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
    """Drops the unsent bytes of a TCP socket and resets the connection; False where the system cannot.

    Unlike closing with a linger time of zero, this works while a forked child holds the descriptor.
    """
    return fd >= 0 and dissolve(fd) == 0


def unbroken(action):
    """Calls `action` until it returns, however often an interrupt stops it, then raises the last interrupt.

    No interrupt can come between two calls, nor before the first one where a handler calls this by its global name.

    Args:
        action: may be restarted at any point, and never waits for a peer.
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


@cython.no_gc_clear  # the held buffers must be released, not cleared
cdef class Exchange:
    """One HTTP/1.1 request and its response on one leased socket, or several, one after the other.

    Each request is sent once the previous response was a whole 2xx that left the connection in step; any other response
    ends the exchange. What the properties say about "the response" is said of the last one.

    Args:
        sock: a connected `socket.socket` or `ssl.SSLSocket`; it is made non-blocking.
        head: the request head with its blank line.
        body: C-contiguous buffers that are sent one after the other, without a copy.
        into: writable buffer for the bodies of 2xx responses, each at the next multiple of 64 bytes. If one does not
            fit, the exchange pauses at its head. None: `body_bytes` takes the body, and no request is sent after it.
        followed_by: (head, body) of further requests; see `responses`.
        reused: the connection has served other requests; bytes that arrive before this request begins belong to them.
        previous_head: head of the last response to those, or empty. A repetition, ``x-amz-request-id`` included, is not
            accepted as a response. None if the peer's request ids are not unique.
        no_body: the response has no body whatever its head says (HEAD).
        pause_at_head: end with HEAD_READY once the head is there; `continue_into` resumes.
        send_timeout, first_byte_timeout, idle_timeout: seconds without progress; None for no limit.

    Raises:
        BufferError, TypeError: a segment is not a contiguous buffer, or `into` is not writable.
        ValueError: the socket is closed, or a timeout is not positive.
        MemoryError: there is no memory for the list of segments.
    """

    def __cinit__(self, sock, bytes head not None, body, *, into=None, followed_by=(), bint reused=False,
                  bytes previous_head=None, bint no_body=False, bint pause_at_head=False, send_timeout=None,
                  first_byte_timeout=None, idle_timeout=None):
        self.s.wakeup_fd = -1
        self.s.fd = sock.fileno()
        if self.s.fd < 0:
            raise ValueError("the socket is closed")
        self.s.owner = <void*>self
        if isinstance(sock, ssl.SSLSocket):
            self._tls = TlsTransport(sock)
            self._tls.attach(&self.s)
            self.s.unsolicited = sock.pending() > 0  # poll cannot see it
        self.s.wants = POLLIN | POLLOUT
        self.s.reused = reused
        if reused and self.s.unsolicited:
            self.s.outcome = OUT_OF_STEP
        self.s.responses_are_named = previous_head is not None
        if previous_head is not None:
            self._previous_head = previous_head
            self.s.previous = previous_head
            self.s.previous_length = len(previous_head)
        self.s.no_body = no_body
        self.s.pause = pause_at_head
        self.s.send_timeout = _nanoseconds(send_timeout)
        self.s.first_byte_timeout = _nanoseconds(first_byte_timeout)
        self.s.idle_timeout = _nanoseconds(idle_timeout)
        # Copied first: what is counted is what is held, even if the caller's list changes meanwhile.
        self._hold([(head, tuple(body)), *((one, tuple(more)) for one, more in followed_by)])
        self._head_length = len(head)
        self._set_destination(into)
        sock.setblocking(False)
        self._sock = sock
        self.s.ended_lock = PyThread_allocate_lock()
        if self.s.ended_lock == NULL:
            raise MemoryError("no memory for a lock")
        PyThread_acquire_lock(self.s.ended_lock, WAIT_LOCK)
        store(&self.s.stage, NEW)

    def __dealloc__(self):
        # No other reference is left and the GIL is held, so no lock is needed.
        if self.s.ended_lock != NULL:
            PyThread_free_lock(self.s.ended_lock)
        self._release_sources()
        self._release_destination()
        free(self._sources)
        free(self.s.iov)
        free(self.s.scratch)
        free(self.s.spill)
        free(self.s.requests)
        free(self.s.heads)

    cdef int _hold(self, list requests) except -1:
        """Holds the requests' memory, which must not move or be freed before the exchange has ended."""
        cdef Py_ssize_t count = 0
        cdef Py_ssize_t i
        for _, body in requests:
            count += 1 + len(body)
        if count > MOST_SEGMENTS:
            raise ValueError(f"an exchange has {count} segments, more than the limit of {MOST_SEGMENTS}")
        self._sources = <Py_buffer*>malloc(count * sizeof(Py_buffer))
        self.s.iov = <iovec*>malloc(count * sizeof(iovec))
        self.s.requests = <Request*>malloc(len(requests) * sizeof(Request))
        if self._sources == NULL or self.s.iov == NULL or self.s.requests == NULL:
            raise MemoryError("no memory for the segments of a request")
        self.s.request_count = <int>len(requests)
        for i in range(self.s.request_count):
            head, body = requests[i]
            self._hold_segment(head)
            for segment in body:
                self._hold_segment(segment)
            self.s.requests[i].end = self._source_count
        return 0

    cdef int _hold_segment(self, segment) except -1:
        cdef int i = self._source_count
        PyObject_GetBuffer(segment, &self._sources[i], PyBUF_C_CONTIGUOUS)
        self._source_count += 1
        self.s.iov[i].iov_base = self._sources[i].buf
        self.s.iov[i].iov_len = self._sources[i].len
        return 0

    cdef int _set_destination(self, into) except -1:
        self._release_destination()
        self.s.used = 0
        if into is None:
            return 0
        PyObject_GetBuffer(into, &self._destination, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
        self.s.has_into = True
        self.s.into = <char*>self._destination.buf
        self.s.into_size = self._destination.len
        return 0

    cdef void _release_sources(self) noexcept:
        while self._source_count:
            self._source_count -= 1
            PyBuffer_Release(&self._sources[self._source_count])

    cdef void _release_destination(self) noexcept:
        self.s.into = NULL
        self.s.into_size = 0
        if self.s.has_into:
            self.s.has_into = False
            PyBuffer_Release(&self._destination)

    cdef void _release_memory(self) noexcept:
        """Releases the memory after the end, except what a paused exchange still needs. Cannot fail or wait."""
        if load(&self.s.stage) != ENDED:
            return
        if self.s.outcome != HEAD_READY or self.s.current + 1 == self.s.request_count:
            self._release_sources()
        if self.s.outcome != HEAD_READY:
            self._release_destination()

    cdef bint _has_ended(self) noexcept:
        """Whether it has ended or paused, so that no loop drives it."""
        return load(&self.s.stage) == ENDED

    cdef bint _belongs_to_parent(self) noexcept:
        """Whether a loop of the parent process drives it: this process was forked meanwhile."""
        return load(&self.s.stage) == QUEUED and self._wakeup_process != getpid()

    @property
    def outcome(self):
        """An `Outcome`; PENDING until the exchange has ended."""
        return Outcome(self.s.outcome) if self._has_ended() else Outcome(PENDING)

    @property
    def submittable(self):
        """Whether it can be submitted to a loop."""
        return load(&self.s.stage) == NEW

    @property
    def error(self):
        """The `OSError` behind SEND_ERROR and RECEIVE_ERROR, which may be an `ssl.SSLError`; else None."""
        if not self._has_ended() or self.s.outcome not in (SEND_ERROR, RECEIVE_ERROR):
            return None
        return OSError(self.s.error, os.strerror(self.s.error)) if self._tls is None else self._tls.failure(&self.s)

    # A loop may move the memory behind these, so they are empty until the exchange has ended.

    @property
    def status(self):
        """Status of the response; 0 if no head came."""
        return 0 if not self._has_ended() or self.s.head.end <= 0 else self.s.head.status

    @property
    def head_bytes(self):
        """The response head with its blank line; empty if none came."""
        if not self._has_ended() or self.s.head.end <= 0:
            return b""
        return PyBytes_FromStringAndSize(self.s.scratch, self.s.head.end)

    @property
    def head_is_ordinary(self):
        """Whether the native scanner understands every line of the head, so that `head_field` finds its fields."""
        return bool(self._has_ended() and self.s.head.end > 0 and not self.s.head.unusual)

    @property
    def content_length(self):
        """The announced length of the body; -1 if none was announced."""
        return self.s.head.content_length if self._has_ended() and self.s.head.end > 0 else -1

    @property
    def body_bytes(self):
        """The body, if it did not go to `into`."""
        if not self._has_ended() or self.s.spill == NULL:
            return b""
        return PyBytes_FromStringAndSize(self.s.spill, self.s.received)

    @property
    def completed(self):
        """Number of requests whose response was a whole 2xx with its body in `into`; grows while the exchange runs."""
        return load(&self.s.current) + self._is_completed()

    @property
    def responses(self):
        """(status, head, offset in `into`, length) of each completed request; empty while the exchange runs."""
        cdef list responses
        cdef Request* one
        cdef int i
        if not self._has_ended():
            return []
        responses = []
        for i in range(self.s.current):
            one = self.s.requests + i
            head = PyBytes_FromStringAndSize(self.s.heads + one.head_at, one.head_length)
            responses.append((one.status, head, one.body_at, one.body_length))
        if self._is_completed():
            responses.append((self.s.head.status, self.head_bytes, self.s.used, self.s.received))
        return responses

    @property
    def head_came(self):
        """When the head of the response was there, by `time.monotonic_ns`; 0 where it did not come, or not yet."""
        return self.s.head_came if self._has_ended() else 0

    @property
    def times(self):
        """(when the head was there, when the response ended) for all but the last of `responses`, likewise."""
        if not self._has_ended():
            return []
        return [(self.s.requests[i].head_came, self.s.requests[i].ended) for i in range(self.s.current)]

    cdef bint _is_completed(self) noexcept:
        """Whether the last response was a whole 2xx with its body in `into`."""
        return (
            self._has_ended() and self.s.outcome == COMPLETE and self.s.head.status < 300 and self.s.spill == NULL
            and not self._is_cut()
        )

    cdef bint _is_cut(self) noexcept:
        """Whether its body was not received to the end, because the caller wanted no more of it."""
        return self.s.most and self.s.received < <size_t>max(0, self.s.head.content_length)

    @property
    def leftover(self):
        """What was read after the head of an UNUSUAL response, or after the end of a COMPLETE one."""
        if not self._has_ended() or self.s.outcome not in (UNUSUAL, COMPLETE):
            return b""
        return PyBytes_FromStringAndSize(
            self.s.scratch + self.s.leftover_at, self.s.scratch_length - self.s.leftover_at
        )

    @property
    def body_received(self):
        """Bytes of the body received so far; grows while the exchange runs."""
        return load_size(&self.s.received)

    @property
    def sent(self):
        """Bytes of the request's body sent so far; grows while the exchange runs."""
        return max(0, <Py_ssize_t>load_size(&self.s.sent) - self._head_length)

    @property
    def request_sent(self):
        """Whether the whole request was sent."""
        return bool(load(&self.s.request_sent))

    @property
    def early(self):
        """Whether the response came before the peer had the request; False until the exchange has ended."""
        return bool(self._has_ended() and self.s.early)

    @property
    def reusable(self):
        """Whether the exchange left the connection open and in step. The next lease looks for later bytes."""
        if not self._has_ended() or self.s.outcome != COMPLETE or not self.s.request_sent:
            return False
        if self._tls is not None and self._tls.holds_more():
            return False
        return not (
            self._is_cut() or self.s.early or self.s.head.closes or self.s.head.unusual
            or self.s.leftover_at < self.s.scratch_length
        )

    def wait(self, timeout=None):
        """Sleeps until the exchange has ended and released the caller's memory; signals interrupt the main thread.

        Args:
            timeout: seconds; None for no limit.

        Returns:
            False if the timeout passed first.

        Raises:
            ForkedError: this process was forked (by a signal handler, say) while a loop drove the exchange: that loop
                runs in the parent.
        """
        if not self._sleep(None, LONGEST_TIMEOUT if timeout is None else timeout):
            return False
        self._release_memory()
        return True

    def put_beside(self, Exchange leader not None):
        """Makes the end of this exchange wake `leader.wait_beside`, too. Call it before `submit`.

        Raises:
            ValueError: this exchange was submitted already.
        """
        if load(&self.s.stage) != NEW:
            raise ValueError("an exchange is put beside another one before it is submitted")
        self._leader, self.s.leader_lock = leader, leader.s.ended_lock

    def wait_beside(self, Exchange other not None, timeout=None):
        """Sleeps until this exchange, or `other`, which was put beside it, has ended; `wait(0)` says which.

        Timeout, result and errors are those of `wait`. Only one thread may wait here at a time.
        """
        return self._sleep(other, LONGEST_TIMEOUT if timeout is None else timeout)

    cdef bint _sleep(self, Exchange other, double timeout) except -1:
        cdef double started = now_ns() / 1e9
        cdef double left = timeout
        # Python handles signals in the main thread only, so only that one must check for them.
        cdef double slice = SIGNAL_SLICE if threading.current_thread() is threading.main_thread() else LONGEST_WAIT
        cdef int64_t microseconds
        cdef int acquired = PyThread_acquire_lock(self.s.ended_lock, NOWAIT_LOCK)
        while True:
            # The lock is released for an exchange beside this one as well, and the stages say which has ended.
            if acquired and self._has_ended():
                PyThread_release_lock(self.s.ended_lock)
                return True
            if other is not None and other._has_ended():
                return True
            if self._belongs_to_parent():
                raise ForkedError("the request belongs to the process that this one was forked from")
            microseconds = <int64_t>(1e6 * max(0, min(left, slice)))
            with nogil:
                acquired = PyThread_acquire_lock_timed(self.s.ended_lock, microseconds, 1) == PY_LOCK_ACQUIRED
            if acquired:
                continue
            PyErr_CheckSignals()
            left = timeout - (now_ns() / 1e9 - started)
            if left <= 0:
                return False

    def continue_into(self, into, *, bint cut=False):
        """After HEAD_READY: sets the destination of the body. The exchange has to be submitted again.

        Args:
            into: a writable buffer, or None for `body_bytes`.
            cut: end once `into` is full, even if more of the body follows; the connection cannot be reused then.

        Raises:
            ValueError: the exchange is not paused at its head. One that was cancelled meanwhile stays CANCELLED.
        """
        if not self._has_ended() or self.s.outcome not in (HEAD_READY, CANCELLED):
            raise ValueError("only an exchange that paused at its head can be continued")
        if self.s.outcome == CANCELLED:
            return
        self._set_destination(into)
        self.s.most = self.s.into_size if cut else 0
        PyThread_acquire_lock(self.s.ended_lock, WAIT_LOCK)  # its loop releases it right after storing the stage
        self.s.outcome = PENDING
        self.s.resuming = True
        store(&self.s.stage, NEW)

    def cancel(self):
        """Ends the exchange, from any thread: at once if no loop drives it, else in the next round of its loop.

        Neither depends on the peer. An exchange that has ended stays as it is.
        """
        cdef int stage = load(&self.s.stage)
        store(&self.s.cancelled, True)
        if stage == QUEUED and self._wakeup_process == getpid():
            notify(self.s.wakeup_fd)
        elif stage != ENDED:
            # Never submitted, or submitted to a loop of the parent process.
            self.s.outcome = CANCELLED
            store(&self.s.stage, ENDED)
            self._release_memory()
            PyThread_release_lock(self.s.ended_lock)
            if self.s.leader_lock != NULL:
                PyThread_release_lock(self.s.leader_lock)
        elif self.s.outcome == HEAD_READY:
            self.s.outcome = CANCELLED
            self._release_memory()

    def end(self):
        """Cancels the exchange, and returns once its loop no longer uses the caller's memory and connection.

        Unlike `wait`, no signal interrupts this: an interrupt is raised right after it, when the caller may reuse both.
        In a handler or a `finally`, no interrupt comes between the call and the cancelling either.

        Returns:
            False if the exchange had ended with COMPLETE, else True.
        """
        cdef int acquired
        self.cancel()
        while True:
            with nogil:
                acquired = PyThread_acquire_lock_timed(self.s.ended_lock, LONGEST_END, 0) == PY_LOCK_ACQUIRED
            if not acquired or self._has_ended():
                break  # else it was released for an exchange beside this one
        if acquired:
            PyThread_release_lock(self.s.ended_lock)
            self._release_memory()
        else:
            self.wait(None)
        return bool(self.s.outcome != COMPLETE)
