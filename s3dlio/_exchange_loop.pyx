# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""One native loop that drives a batch of HTTP/1.1 exchanges over connected sockets, without the GIL.

It polls, and goes as far with each exchange as its socket allows; the rules are in `_exchange_steps`. It never
resolves, connects, sleeps or retries. `_drivers` sits in it.
"""

import os
from collections import deque

from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc

from s3dlio._exchange cimport Exchange
from s3dlio._exchange_steps cimport CANCELLED, PENDING, POLLIN, State, check_deadline, now_ns, ring, step

cdef extern from *:
    """
    #include <poll.h>
    #include <unistd.h>

    /* Empties the bell, be it an eventfd or a pipe. */
    static void drain(int fd) {
        char bytes[64];
        while (read(fd, bytes, sizeof bytes) == (ssize_t)sizeof bytes) {}
    }
    """
    ctypedef struct pollfd "struct pollfd":
        int fd
        short events
        short revents
    int poll(pollfd* fds, unsigned long count, int timeout) noexcept nogil
    int getpid() noexcept nogil
    void drain(int fd) noexcept nogil

cdef int LONGEST_POLL = 1 << 30
# A batch always has room for this many without asking for memory again.
cdef Py_ssize_t FIRST_BATCH = 64


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
        exchange._bell, exchange._bell_process = self._wake_write, self._pid
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
