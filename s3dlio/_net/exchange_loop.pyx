# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""One native loop that drives a batch of HTTP/1.1 exchanges over connected sockets, without the GIL.

It takes exchanges over, polls, goes as far with each as its socket allows, and wakes who waits for one, all without the
GIL: however busy Python is, no byte waits for it. The rules are in `exchange_steps`. It never resolves, connects,
sleeps or retries. `drivers` sits in it.
"""

import os

from cpython.pythread cimport PyThread_release_lock
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc

from s3dlio._net.atomics cimport add, push, swap, take_all, tell, told
from s3dlio._net.exchange cimport Exchange
from s3dlio._net.exchange_steps cimport (
    CANCELLED,
    ENDED,
    HEAD_READY,
    LOOK,
    NEW,
    PENDING,
    QUEUED,
    State,
    check_deadline,
    start,
    step,
)
from s3dlio._net.socket_calls cimport (
    POLLIN,
    close,
    drain,
    getpid,
    now_ns,
    poll,
    pollfd,
    ring,
    sleep_ns,
)

cdef int LONGEST_POLL = 1 << 30
# A batch always has room for this many without asking for memory again.
cdef Py_ssize_t FIRST_BATCH = 64
# The references to ended exchanges are let go of when there are so many, or nothing has happened for so long: that
# needs the GIL, for which the others would wait.
cdef Py_ssize_t MOST_ENDED = 64
cdef int IDLE_MILLISECONDS = 100
# So are they as soon as they keep so many bytes of heads and of bodies that had no place, which no account knows of.
cdef size_t MOST_KEPT = 1 << 20
# Where poll fails, as for more descriptors than the limit allows, all are tried so often.
cdef int BLIND_MILLISECONDS = 5


cdef class ExchangeLoop:
    """A batch of exchanges, and the one thread that sits in `run`; everything else may be called from any thread."""

    cdef int _pid                   # a forked child must not ring the parent's bell
    cdef int _wake_read
    cdef int _wake_write
    cdef void* _submitted           # a stack of states, each with a reference to its exchange, as those below have
    cdef State* _waiting            # taken off that stack, in order, but without room yet
    cdef State** _active
    cdef Py_ssize_t _active_count
    cdef State** _ended             # their waiters know; the references are still to be let go of
    cdef Py_ssize_t _ended_count
    cdef size_t _kept               # bytes of theirs
    cdef pollfd* _polls             # the bell, then one for each active state
    cdef Py_ssize_t _room           # of each array
    cdef int _load
    cdef int _returning             # these are told
    cdef int _running
    cdef int _closing

    def __cinit__(self):
        self._pid = getpid()
        self._wake_read = self._wake_write = -1
        if not self._grow(FIRST_BATCH):
            raise MemoryError("no memory for a batch of exchanges")
        if hasattr(os, "eventfd"):
            self._wake_read = self._wake_write = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._wake_read, self._wake_write = os.pipe()
            os.set_blocking(self._wake_read, False)
            os.set_blocking(self._wake_write, False)

    def __dealloc__(self):
        # No thread is in `run`, which holds a reference. What is left here was never driven, or is a parent's.
        cdef Py_ssize_t i
        cdef bint own = self._pid == getpid()
        self._take_submitted()
        while self._waiting != NULL:
            self._abandon(self._next_waiting(), own)
        for i in range(self._active_count):
            self._abandon(self._active[i], own)
        for i in range(self._ended_count):
            Py_DECREF(<Exchange>self._ended[i].owner)
        free(self._active)
        free(self._ended)
        free(self._polls)
        if own and self._wake_read >= 0:
            close(self._wake_read)
            if self._wake_write != self._wake_read:
                close(self._wake_write)

    cdef void _abandon(self, State* one, bint own) noexcept:
        if own:
            one.outcome = CANCELLED
            tell(&one.stage, ENDED)
            PyThread_release_lock(one.done)
        Py_DECREF(<Exchange>one.owner)

    @property
    def load(self):
        """Exchanges here, those not yet begun included."""
        return told(&self._load)

    @property
    def closed(self):
        """Whether `close` has taken effect: `run` returns at once from now on."""
        return told(&self._closing) != 0 and self._wake_read < 0

    def submit(self, Exchange exchange not None):
        """Takes an exchange over. One that was cancelled before stays CANCELLED.

        Raises:
            ValueError: it was handed over already.
            RuntimeError: the loop is closed, or belongs to the process that this one was forked from.
        """
        cdef int stage = told(&exchange.s.stage)
        if told(&self._closing) or self._pid != getpid():
            raise RuntimeError("this exchange loop is closed")
        if stage != NEW:
            if stage == ENDED and exchange.s.outcome == CANCELLED:
                return
            raise ValueError("the exchange was handed over already")
        exchange.s.bell, exchange._bell_process = self._wake_write, self._pid
        Py_INCREF(exchange)
        add(&self._load, 1)
        tell(&exchange.s.stage, QUEUED)
        push(&self._submitted, &exchange.s, &exchange.s.next)
        ring(self._wake_write)

    def wake(self):
        """Makes `run` return."""
        if self._pid == getpid():
            tell(&self._returning, 1)
            ring(self._wake_write)

    def close(self):
        """Has the thread in `run`, or the next to be, cancel every exchange here and free the bell; takes no more.

        A loop that no thread ever drives frees it with its memory.
        """
        if self._pid == getpid() and not swap(&self._closing, 1):
            self.wake()

    def run(self):
        """Drives until `wake` or `close` is called or ended exchanges can be let go of, and returns those.

        Raises:
            RuntimeError: another thread is in here.
        """
        cdef list ended
        if swap(&self._running, 1):
            raise RuntimeError("another thread drives this exchange loop")
        try:
            if self.closed:
                return []
            with nogil:
                self._drive()
            ended = self._collect()
            if told(&self._closing):
                ended += self._shut()
            return ended
        finally:
            tell(&self._running, 0)

    cdef list _collect(self):
        """Lets go of the ended exchanges, and of the memory of those that nobody has waited for."""
        cdef list ended = []
        cdef Exchange exchange
        while self._ended_count:
            exchange = <Exchange>self._ended[self._ended_count - 1].owner
            ended.append(exchange)  # first: it may lack memory
            self._ended_count -= 1
            exchange._settle()
            Py_DECREF(exchange)
        self._kept = 0
        return ended

    cdef list _shut(self):
        cdef Py_ssize_t i
        cdef list ended = []
        while True:
            self._accept()
            for i in range(self._active_count):
                tell(&self._active[i].cancelled, True)
            self._finish_ended()
            ended += self._collect()
            if self._active_count == 0 and self._waiting == NULL:
                break
        bells = {self._wake_read, self._wake_write}
        self._wake_read = self._wake_write = -1  # first: whoever rings meanwhile must not ring another's descriptor
        for fd in bells:
            os.close(fd)
        return ended

    # --- without the GIL ----------------------------------------------------------------------------------

    cdef void _drive(self) noexcept nogil:
        """Rounds of poll and steps."""
        cdef Py_ssize_t i
        cdef State* one
        cdef int64_t now
        cdef bint idle
        while True:
            self._accept()
            self._finish_ended()
            if swap(&self._returning, 0) or self._ended_count >= MOST_ENDED or self._kept >= MOST_KEPT:
                return
            idle = self._sleep()
            if idle and self._ended_count:
                return
            now = now_ns()
            for i in range(self._active_count):
                one = self._active[i]
                if self._polls[i + 1].revents or one.more or (one.look and one.look <= now):
                    step(one, self._polls[i + 1].revents)
            self._check_deadlines(now)
            if self._polls[0].revents:
                drain(self._wake_read)  # before the flags are looked at, which were raised before it rang

    cdef void _take_submitted(self) noexcept nogil:
        """Appends what the stack holds to those that wait, the first submitted first."""
        cdef State* one = <State*>take_all(&self._submitted)
        cdef State* ordered = NULL
        cdef State* following
        cdef void** end = <void**>&self._waiting
        while one != NULL:
            following = <State*>one.next
            one.next = ordered
            ordered = one
            one = following
        while end[0] != NULL:
            end = &(<State*>end[0]).next
        end[0] = ordered

    cdef State* _next_waiting(self) noexcept nogil:
        cdef State* one = self._waiting
        self._waiting = <State*>one.next
        return one

    cdef void _accept(self) noexcept nogil:
        """Moves submitted exchanges into the batch as far as there is room; the others wait until some have ended."""
        cdef State* one
        self._take_submitted()
        while self._waiting != NULL:
            if self._active_count + self._ended_count >= self._room and not self._grow(2 * self._room):
                return
            one = self._next_waiting()
            start(one)
            self._active[self._active_count] = one
            self._active_count += 1

    cdef bint _grow(self, Py_ssize_t room) noexcept nogil:
        cdef State** states = <State**>realloc(self._active, room * sizeof(State*))
        if states == NULL:
            return False
        self._active = states
        states = <State**>realloc(self._ended, room * sizeof(State*))
        if states == NULL:
            return False
        self._ended = states
        cdef pollfd* polls = <pollfd*>realloc(self._polls, (room + 1) * sizeof(pollfd))
        if polls == NULL:
            return False
        self._polls = polls
        self._room = room
        return True

    cdef void _finish_ended(self) noexcept nogil:
        """Takes the ended exchanges out of the batch, those with a raised cancel flag too, and wakes their waiters."""
        cdef Py_ssize_t i, kept = 0
        cdef State* one
        for i in range(self._active_count):
            one = self._active[i]
            if told(&one.cancelled) and (one.outcome == PENDING or one.outcome == HEAD_READY):
                one.outcome = CANCELLED
            if one.outcome == PENDING:
                self._active[kept] = one
                kept += 1
                continue
            self._ended[self._ended_count] = one
            self._ended_count += 1
            self._kept += one.scratch_size + one.heads_size + (one.received if one.spill != NULL else 0)
            add(&self._load, -1)
            tell(&one.stage, ENDED)
            PyThread_release_lock(one.done)
        self._active_count = kept

    cdef void _check_deadlines(self, int64_t now) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self._active_count):
            if self._active[i].outcome == PENDING:
                check_deadline(self._active[i], now)

    cdef bint _sleep(self) noexcept nogil:
        """Polls until something is ready or the first deadline has passed; True where nothing happened for long."""
        cdef int64_t due, first = 0
        cdef bint more = False
        cdef Py_ssize_t i
        cdef State* one
        cdef int ready, timeout
        self._polls[0].fd = self._wake_read
        self._polls[0].events = <short>POLLIN
        for i in range(self._active_count):
            one = self._active[i]
            self._polls[i + 1].fd = one.fd
            self._polls[i + 1].events = <short>one.wants
            more = more or one.more
            due = one.look if one.look else one.deadline  # a look is never later
            if due and (first == 0 or due < first):
                first = due
        timeout = 0 if more else _milliseconds_until(first)
        if self._ended_count and (timeout < 0 or timeout > IDLE_MILLISECONDS):
            timeout = IDLE_MILLISECONDS
        ready = poll(self._polls, self._active_count + 1, timeout)
        if ready < 0:
            self._poll_failed(errno, timeout)
        return ready == 0 and timeout == IDLE_MILLISECONDS

    cdef void _poll_failed(self, int error, int timeout) noexcept nogil:
        """An interrupt says nothing; where poll itself cannot be had (EINVAL, ENOMEM), all are tried after a pause."""
        cdef Py_ssize_t i
        cdef short events = 0 if error == EINTR else <short>LOOK
        for i in range(self._active_count + 1):
            self._polls[i].revents = events
        if error != EINTR and timeout != 0:
            sleep_ns(BLIND_MILLISECONDS * <long>1000000)


cdef int _milliseconds_until(int64_t deadline) noexcept nogil:
    """For poll: -1 where there is no deadline, and never so short that it wakes before it."""
    cdef int64_t left
    if deadline == 0:
        return -1
    left = (deadline - now_ns() + 999999) // 1000000
    if left < 0:
        return 0
    return <int>left if left < LONGEST_POLL else LONGEST_POLL
