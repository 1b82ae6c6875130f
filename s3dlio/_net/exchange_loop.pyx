# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""One native loop that drives a batch of HTTP/1.1 exchanges over connected sockets, without the GIL.

It takes exchanges over, polls their sockets, advances each by the program in `exchange_steps`, and wakes the waiting
threads, all without the GIL: no byte waits for a busy interpreter. It never resolves names, connects or retries.
The threads of `drivers` run it.
"""

import os

from cpython.pythread cimport (
    PY_LOCK_ACQUIRED,
    WAIT_LOCK,
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_free_lock,
    PyThread_release_lock,
    PyThread_type_lock,
)
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc

from s3dlio._net.atomics cimport add, load, push, store, swap, take_all
from s3dlio._net.exchange cimport Exchange
from s3dlio._net.exchange_state cimport (
    CANCELLED,
    ENDED,
    HEAD_READY,
    NEW,
    PENDING,
    QUEUED,
    State,
)
from s3dlio._net.exchange_steps cimport check_deadline, start, step
from s3dlio._net.socket_calls cimport (
    POLLIN,
    close,
    drain,
    getpid,
    notify,
    now_ns,
    poll,
    pollfd,
    sleep_ns,
)

cdef extern from *:
    int PyThread_acquire_lock_timed(PyThread_type_lock, long long microseconds, int interruptible) nogil

cdef int LONGEST_POLL = 1 << 30
# Room for this many exchanges is allocated at once.
cdef Py_ssize_t FIRST_BATCH = 64
# References to ended exchanges are released this many at a time, or after this long without events: releasing needs
# the GIL, and the other exchanges would wait for it.
cdef Py_ssize_t MOST_ENDED = 64
cdef int IDLE_MILLISECONDS = 100
# They are also released once their heads and spilled bodies, which no memory account covers, hold this many bytes.
cdef size_t MOST_KEPT = 1 << 20
# Where poll fails (too many descriptors, no memory), every socket is tried at this interval.
cdef int BLIND_MILLISECONDS = 5
# Stands for poll's events where poll failed: the step has to try the socket.
cdef int TRY_ANYWAY = 1 << 14


cdef class ExchangeLoop:
    """A batch of exchanges driven by one thread in `run`; every other method may be called from any thread."""

    cdef object __weakref__
    cdef PyThread_type_lock _round  # held while exchanges move, not while they wait; a fork takes it
    cdef int _holds                 # how often the forking thread has it
    cdef int _pid                   # a forked child must not wake the parent's loop
    cdef int _wake_read
    cdef int _wake_write
    cdef void* _submitted           # stack of states; each holds a reference to its exchange, as do those below
    cdef State* _waiting            # taken off that stack, in order, waiting for room
    cdef State** _active
    cdef Py_ssize_t _active_count
    cdef State** _ended             # waiters are woken, references not yet released
    cdef Py_ssize_t _ended_count
    cdef size_t _kept               # bytes that the ended ones hold
    cdef pollfd* _polls             # the wake-up descriptor, then one for each active state
    cdef Py_ssize_t _room           # capacity of each array
    cdef int _load
    cdef int _returning             # atomic, and the two below
    cdef int _running
    cdef int _closing

    def __cinit__(self):
        self._pid = getpid()
        self._wake_read = self._wake_write = -1
        self._round = PyThread_allocate_lock()
        if self._round == NULL or not self._grow(FIRST_BATCH):
            raise MemoryError("no memory for a batch of exchanges")
        if hasattr(os, "eventfd"):
            self._wake_read = self._wake_write = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._wake_read, self._wake_write = os.pipe()
            os.set_blocking(self._wake_read, False)
            os.set_blocking(self._wake_write, False)

    def __dealloc__(self):
        # `run` holds a reference, so no thread is in it. What is left was never driven, or belongs to a parent process.
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
        if self._round != NULL:
            PyThread_free_lock(self._round)
        if own and self._wake_read >= 0:
            close(self._wake_read)
            if self._wake_write != self._wake_read:
                close(self._wake_write)

    cdef void _abandon(self, State* one, bint own) noexcept:
        if own:
            one.outcome = CANCELLED
            _notify_waiters(one)
        Py_DECREF(<Exchange>one.owner)

    @property
    def load(self):
        """Number of exchanges here, those not yet begun included."""
        return load(&self._load)

    @property
    def closed(self):
        """Whether `close` has taken effect, so that `run` returns at once."""
        return load(&self._closing) != 0 and self._wake_read < 0

    def submit(self, Exchange exchange not None):
        """Takes an exchange over. One that is already cancelled stays CANCELLED.

        Raises:
            ValueError: it was submitted already.
            RuntimeError: the loop is closed, or belongs to the parent process of a fork.
        """
        cdef int stage = load(&exchange.s.stage)
        if load(&self._closing) or self._pid != getpid():
            raise RuntimeError("this exchange loop is closed")
        if stage != NEW:
            if stage == ENDED and exchange.s.outcome == CANCELLED:
                return
            raise ValueError("the exchange was submitted already")
        exchange.s.wakeup_fd, exchange._wakeup_process = self._wake_write, self._pid
        Py_INCREF(exchange)
        add(&self._load, 1)
        store(&exchange.s.stage, QUEUED)
        push(&self._submitted, &exchange.s, &exchange.s.next)
        notify(self._wake_write)

    def wake(self):
        """Makes `run` return."""
        if self._pid == getpid():
            store(&self._returning, 1)
            notify(self._wake_write)

    def close(self):
        """Accepts no more exchanges; the thread in `run`, or the next one to enter it, cancels those that are here.

        That thread also closes the wake-up descriptor. A loop that is never driven closes it in its destructor.
        """
        if self._pid == getpid() and not swap(&self._closing, 1):
            self.wake()

    def acquire(self, double timeout):
        """Holds the exchanges between two rounds, in which they call OpenSSL, until `release`; only for a fork.

        The thread that holds them may do so again, as when a signal handler forks.

        Returns:
            Whether they are held; False after `timeout` seconds.
        """
        cdef long long microseconds = <long long>(timeout * 1e6)
        cdef bint acquired = self._holds > 0
        if not acquired:
            with nogil:
                acquired = PyThread_acquire_lock_timed(self._round, microseconds, 0) == PY_LOCK_ACQUIRED
        self._holds += acquired
        return acquired

    def release(self):
        """Lets the exchanges move again.

        Raises:
            RuntimeError: they are not held.
        """
        if self._holds == 0:
            raise RuntimeError("the exchanges of this loop are not held")
        self._holds -= 1
        if self._holds == 0:
            PyThread_release_lock(self._round)

    def run(self):
        """Drives until `wake` or `close` is called or ended exchanges can be released, and returns those.

        Raises:
            RuntimeError: another thread drives this loop.
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
            if load(&self._closing):
                ended += self._shut()
            return ended
        finally:
            store(&self._running, 0)

    cdef list _collect(self):
        """Releases the ended exchanges, and the memory of those that no thread has waited for."""
        cdef list ended = []
        cdef Exchange exchange
        while self._ended_count:
            exchange = <Exchange>self._ended[self._ended_count - 1].owner
            ended.append(exchange)  # first: it may raise MemoryError
            self._ended_count -= 1
            exchange._release_memory()
            Py_DECREF(exchange)
        self._kept = 0
        return ended

    cdef list _shut(self):
        cdef Py_ssize_t i
        cdef list ended = []
        while True:
            self._accept()
            for i in range(self._active_count):
                store(&self._active[i].cancelled, True)
            self._finish_ended()
            ended += self._collect()
            if self._active_count == 0 and self._waiting == NULL:
                break
        descriptors = {self._wake_read, self._wake_write}
        self._wake_read = self._wake_write = -1  # first: a late `wake` must not write to a reused descriptor
        for fd in descriptors:
            os.close(fd)
        return ended

    # --- without the GIL ----------------------------------------------------------------------------------

    cdef void _drive(self) noexcept nogil:
        """Rounds of poll and steps.

        A thread's first call of OpenSSL, and a session ticket that arrives, take locks of OpenSSL, which would stay
        locked forever in a child forked at that moment. So a fork waits for the end of a round.
        """
        cdef Py_ssize_t i
        cdef State* one
        cdef int64_t now
        cdef bint idle
        PyThread_acquire_lock(self._round, WAIT_LOCK)
        while True:
            self._accept()
            self._finish_ended()
            if swap(&self._returning, 0) or self._ended_count >= MOST_ENDED or self._kept >= MOST_KEPT:
                break
            PyThread_release_lock(self._round)
            idle = self._sleep()
            PyThread_acquire_lock(self._round, WAIT_LOCK)
            if idle and self._ended_count:
                break
            now = now_ns()
            for i in range(self._active_count):
                one = self._active[i]
                if self._polls[i + 1].revents or one.more or (one.recheck_at and one.recheck_at <= now):
                    step(one, self._polls[i + 1].revents)
            self._check_deadlines(now)
            if self._polls[0].revents:
                drain(self._wake_read)  # before the flags are read: they are set before the wake-up is sent
        PyThread_release_lock(self._round)

    cdef void _take_submitted(self) noexcept nogil:
        """Appends the submitted exchanges to the waiting ones, in order of submission."""
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
        """Moves submitted exchanges into the batch while there is room; the others wait until some have ended."""
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
        """Removes ended and cancelled exchanges from the batch and wakes their waiters."""
        cdef Py_ssize_t i, kept = 0
        cdef State* one
        for i in range(self._active_count):
            one = self._active[i]
            if load(&one.cancelled) and (one.outcome == PENDING or one.outcome == HEAD_READY):
                one.outcome = CANCELLED
            if one.outcome == PENDING:
                self._active[kept] = one
                kept += 1
                continue
            self._ended[self._ended_count] = one
            self._ended_count += 1
            self._kept += one.scratch_size + one.heads_size + (one.received if one.spill != NULL else 0)
            add(&self._load, -1)
            _notify_waiters(one)
        self._active_count = kept

    cdef void _check_deadlines(self, int64_t now) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self._active_count):
            if self._active[i].outcome == PENDING:
                check_deadline(self._active[i], now)

    cdef bint _sleep(self) noexcept nogil:
        """Polls until a socket is ready or the first deadline has passed; True after a long time without events."""
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
            due = one.recheck_at if one.recheck_at else one.deadline  # a recheck is never later than the deadline
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
        """Ignores an interrupt; where poll does not work (EINVAL, ENOMEM), every socket is tried after a pause."""
        cdef Py_ssize_t i
        cdef short events = 0 if error == EINTR else <short>TRY_ANYWAY
        for i in range(self._active_count + 1):
            self._polls[i].revents = events
        if error != EINTR and timeout != 0:
            sleep_ns(BLIND_MILLISECONDS * <long>1000000)


cdef void _notify_waiters(State* one) noexcept nogil:
    """Gives the exchange back to its owner: from here on the loop changes nothing of it."""
    cdef PyThread_type_lock leader_lock = one.leader_lock
    store(&one.stage, ENDED)
    PyThread_release_lock(one.ended_lock)
    if leader_lock != NULL:
        PyThread_release_lock(leader_lock)


cdef int _milliseconds_until(int64_t deadline) noexcept nogil:
    """Timeout for poll, rounded up so that it does not wake before the deadline; -1 for no deadline."""
    cdef int64_t left
    if deadline == 0:
        return -1
    left = (deadline - now_ns() + 999999) // 1000000
    if left < 0:
        return 0
    return <int>left if left < LONGEST_POLL else LONGEST_POLL
