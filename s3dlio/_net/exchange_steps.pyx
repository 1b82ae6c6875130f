# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The program of one HTTP/1.1 exchange, without the GIL: what to do when its socket is ready or its deadline passes.

It moves bytes through two function pointers (plain or TLS), touches no Python object and never waits. Only
`exchange_loop` calls it.
"""

from libc.errno cimport EAGAIN, ECONNRESET, EINTR, EPIPE, errno
from libc.stdint cimport int64_t
from libc.stdlib cimport malloc, realloc
from libc.string cimport memcmp, memcpy, memmove

from s3dlio._net.atomics cimport store, store_size
from s3dlio._net.exchange_state cimport (
    AWAITING_HEAD,
    CLOSED_BEFORE_RESPONSE,
    CLOSED_IN_RESPONSE,
    COMPLETE,
    EARLY_SUCCESS,
    FAILED,
    FIRST_BYTE_TIMEOUT,
    GARBAGE,
    HEAD_READY,
    HEAD_TOO_LARGE,
    IDLE_TIMEOUT,
    OUT_OF_STEP,
    PENDING,
    RECEIVE_ERROR,
    RECEIVING_BODY,
    SEND_ERROR,
    SEND_TIMEOUT,
    SENDING,
    UNUSUAL,
    WAIT,
    Request,
    State,
)
from s3dlio._net.response_head cimport find_field, scan
from s3dlio._net.socket_calls cimport (
    MOST_AT_ONCE,
    POLLIN,
    POLLOUT,
    iovec,
    now_ns,
    receive,
    send_gathered,
    set_low_water,
    unacknowledged,
)

cdef enum:
    FIRST_SCRATCH = 8 << 10
    MAX_HEAD = 64 << 10          # interim responses before it included
    MAX_SPILL = 16 << 20
    # Bytes that one connection may move per round, so that a fast peer does not starve the others.
    STEP_BUDGET = 4 << 20
    # Far below every system's IOV_MAX.
    IOV_BATCH = 64
    # A request of at least this size may not fit into the kernels' socket buffers before the peer has read any of it.
    # When its response comes, we ask the kernel how much the peer has acknowledged.
    BEYOND_KERNEL_BUFFERS = 64 << 10
    # From this body size on, poll wakes us only once a lot has arrived: a download from MinIO takes a fifth less CPU
    # time, with 1,300 instead of 4,000 wake-ups per GiB. A TLS transport may hold MAX_BUFFERED bytes unseen by poll.
    LARGE_BODY = 1 << 20
    LOW_WATER = 512 << 10
    MAX_BUFFERED = 256 << 10
    # Receive what has arrived after this time even if it is little.
    RECHECK_MILLISECONDS = 100
    # Bodies of a series begin on cache lines, which aligns them for every element type.
    BODY_ALIGNMENT = 64
    # TLS reads 128 KiB from the kernel at once: a response of less than half of that cannot have filled a read.
    SHORT_READ = 64 << 10


cdef void progress(State* s, int64_t timeout) noexcept nogil:
    s.deadline = now_ns() + timeout if timeout > 0 else 0


# --- plain transport ------------------------------------------------------------------------------------

cdef ssize_t _failed(State* s, int wants) noexcept nogil:
    if errno == EAGAIN:
        s.wants = wants
        return WAIT
    s.error = errno
    return FAILED


cdef ssize_t plain_send(State* s) noexcept nogil:
    """Sends as much of the rest of the request as the socket takes."""
    cdef int count = s.requests[s.current].end - s.iov_next
    cdef ssize_t n
    while True:
        n = send_gathered(s.fd, s.iov + s.iov_next, count if count < IOV_BATCH else IOV_BATCH)
        if n >= 0:
            return n
        if errno != EINTR:
            return _failed(s, POLLIN | POLLOUT)


cdef ssize_t plain_receive(State* s, char* to, size_t length) noexcept nogil:
    cdef ssize_t n
    while True:
        n = receive(s.fd, to, length)
        if n >= 0:
            return n
        if errno != EINTR:
            return _failed(s, POLLIN | POLLOUT if s.phase == SENDING else POLLIN)


cdef bint _has_pending(State* s) noexcept nogil:
    return s.has_pending != NULL and s.has_pending(s)


# --- sending --------------------------------------------------------------------------------------------

cdef void _advance(State* s, size_t n) noexcept nogil:
    """Marks the next `n` bytes as sent."""
    cdef iovec* first
    store_size(&s.sent, s.sent + n)
    while n:
        first = s.iov + s.iov_next
        if n < first.iov_len:
            first.iov_base = <char*>first.iov_base + n
            first.iov_len -= n
            return
        n -= first.iov_len
        s.iov_next += 1


cdef void _send_failed(State* s) noexcept nogil:
    if s.error != EPIPE and s.error != ECONNRESET:
        s.outcome = SEND_ERROR
        return
    # The peer may have responded before it closed: the response says more than the broken pipe.
    s.broken_send = True
    s.phase = AWAITING_HEAD
    s.wants = POLLIN
    s.more = True
    progress(s, s.first_byte_timeout)


cdef void _step_send(State* s, int events) noexcept nogil:
    cdef int end = s.requests[s.current].end
    cdef size_t moved = 0
    cdef ssize_t n
    while s.iov_next < end:
        if s.iov[s.iov_next].iov_len == 0:
            s.iov_next += 1
            continue
        if moved >= STEP_BUDGET:
            s.more = True
            break
        n = s.send(s)
        if n == WAIT:
            break
        if n == FAILED:
            _send_failed(s)
            return
        _advance(s, n)
        moved += n
    # A writable socket took part of a TLS record, even if the whole record is not sent yet.
    if moved or (s.buffered and events & POLLOUT):
        progress(s, s.send_timeout)
    if s.iov_next == end:
        store(&s.request_sent, True)
        s.phase = AWAITING_HEAD
        s.wants = POLLIN
        s.more = _has_pending(s)
        progress(s, s.first_byte_timeout)


# --- the head -------------------------------------------------------------------------------------------

cdef bint _has_begun(State* s) noexcept nogil:
    """Whether any byte of the current request may have been sent."""
    return s.sent > s.sent_before or s.slice != 0


cdef bint _room_in_scratch(State* s) noexcept nogil:
    cdef size_t size = s.scratch_size * 2 if s.scratch_size else FIRST_SCRATCH
    cdef char* larger
    if s.scratch_length < s.scratch_size:
        return True
    if size > MAX_HEAD:
        return False
    larger = <char*>realloc(s.scratch, size)
    if larger == NULL:
        return False
    s.scratch = larger
    s.scratch_size = size
    return True


cdef void _step_head(State* s, int events) noexcept nogil:
    """Receives until the head is complete."""
    cdef ssize_t n
    while s.outcome == PENDING and s.phase != RECEIVING_BODY:
        if not _room_in_scratch(s):
            s.outcome = HEAD_TOO_LARGE
            return
        n = s.receive(s, s.scratch + s.scratch_length, s.scratch_size - s.scratch_length)
        if n == WAIT:
            # Part of a TLS record counts as progress.
            if s.buffered and s.scratch_length and s.phase == AWAITING_HEAD and events & POLLIN:
                progress(s, s.idle_timeout)
            return
        if n <= 0:
            _ended_without_head(s, n)
            return
        s.scratch_length += n
        progress(s, s.send_timeout if s.phase == SENDING else s.idle_timeout)
        if not _has_begun(s):
            # On a reused connection it belongs to an earlier request. A new connection may refuse service unasked.
            if s.reused:
                s.outcome = OUT_OF_STEP
                return
            s.unsolicited = True
        _scan_scratch(s)


cdef void _ended_without_head(State* s, ssize_t n) noexcept nogil:
    if s.scratch_length and n == 0:
        s.outcome = CLOSED_IN_RESPONSE
    elif s.broken_send:
        s.outcome = SEND_ERROR
    else:
        s.outcome = RECEIVE_ERROR if n == FAILED else CLOSED_BEFORE_RESPONSE


cdef void _scan_scratch(State* s) noexcept nogil:
    """Looks for a final response and drops interim ones; 101 (a change of protocol) is an error."""
    while s.scratch_length:
        scan(s.scratch, s.scratch_length, &s.head)
        if s.head.end == 0:
            return
        if s.head.end < 0 or s.head.status == 101:
            s.outcome = GARBAGE
            return
        if s.head.status >= 200:
            _head_complete(s)
            return
        s.interim += s.head.end
        if s.interim > MAX_HEAD:
            s.outcome = HEAD_TOO_LARGE
            return
        s.scratch_length -= s.head.end
        memmove(s.scratch, s.scratch + s.head.end, s.scratch_length)
        if s.scratch_length == 0 and s.phase == AWAITING_HEAD:
            progress(s, s.first_byte_timeout)


cdef bint _is_early(State* s) noexcept nogil:
    """Whether the peer responded before it had the whole request.

    A TCP segment that carries a later response also acknowledges the request.
    """
    if not s.request_sent or s.unsolicited:
        return True
    return s.sent - s.sent_before >= BEYOND_KERNEL_BUFFERS and unacknowledged(s.fd) > 0


cdef bint _is_repeated(State* s) noexcept nogil:
    """Whether this repeats the previous response: the same head, request id included."""
    cdef const char* before = s.previous
    cdef size_t length = s.previous_length
    cdef Request* last
    cdef Py_ssize_t at, named
    if s.current:
        last = s.requests + s.current - 1
        before = s.heads + last.head_at
        length = last.head_length
    if not s.responses_are_named or length == 0 or length != <size_t>s.head.end:
        return False
    if memcmp(before, s.scratch, length) != 0:
        return False
    return find_field(before, length, 0, b"x-amz-request-id", 16, &at, &named) > 0 and named > 0


cdef void _head_complete(State* s) noexcept nogil:
    s.early = _is_early(s)
    s.leftover_at = s.head.end
    s.head_came = now_ns()
    if _is_repeated(s):
        s.outcome = OUT_OF_STEP
    elif s.early and s.head.status < 300:
        # The store does not have the whole request yet, so a success proves nothing.
        s.outcome = EARLY_SUCCESS
    elif s.head.unusual:
        s.outcome = UNUSUAL
    elif s.no_body or s.head.status == 204 or s.head.status == 304:
        s.outcome = COMPLETE
    elif s.head.content_length < 0:
        s.outcome = UNUSUAL
    elif s.pause:
        s.outcome = HEAD_READY
    else:
        begin_body(s)


# --- the body -------------------------------------------------------------------------------------------

cdef size_t _wanted(State* s) noexcept nogil:
    """Bytes of the body to receive."""
    cdef size_t length = <size_t>s.head.content_length
    return s.most if s.most and s.most < length else length


cdef void _choose_destination(State* s, size_t length) noexcept nogil:
    if s.has_into and s.head.status < 300:
        s.destination = s.into + s.used if length else NULL
        if length > s.into_size - s.used:
            s.outcome = HEAD_READY  # the caller supplies another destination
    elif length:
        if length <= MAX_SPILL:
            s.spill = <char*>malloc(length)
        s.destination = s.spill
        if s.spill == NULL:
            s.outcome = UNUSUAL


cdef void begin_body(State* s) noexcept nogil:
    """Chooses the destination, moves what came with the head there, and stops a send in progress."""
    cdef size_t length = _wanted(s)
    cdef size_t came = s.scratch_length - s.head.end
    _choose_destination(s, length)
    if s.outcome != PENDING:
        return
    if came > length:
        came = length
    if came:
        memcpy(s.destination, s.scratch + s.head.end, came)
    s.leftover_at = s.head.end + came
    store_size(&s.received, came)
    if came == length:
        s.outcome = COMPLETE
        return
    s.phase = RECEIVING_BODY
    s.wants = POLLIN
    s.more = _has_pending(s)
    progress(s, s.idle_timeout)
    _tune_low_water(s, length - came)


cdef void _tune_low_water(State* s, size_t left) noexcept nogil:
    """Makes poll wait for larger pieces of a large body; `left` bytes are still to come."""
    cdef int wanted = 0
    if <size_t>s.head.content_length < LARGE_BODY:
        return
    if not s.buffered:
        wanted = <int>left if left < LOW_WATER else LOW_WATER
    elif left >= LOW_WATER + MAX_BUFFERED:
        wanted = LOW_WATER
    if wanted != s.low_water:
        set_low_water(s.fd, wanted if wanted else 1)
        s.low_water = wanted
    s.recheck_at = now_ns() + RECHECK_MILLISECONDS * <int64_t>1000000 if wanted else 0
    if wanted and s.deadline and s.recheck_at > s.deadline:
        s.recheck_at = s.deadline


cdef void _step_body(State* s, int events) noexcept nogil:
    cdef size_t length = _wanted(s)
    cdef size_t moved = 0, wanted
    cdef ssize_t n
    while s.received < length:
        if moved >= STEP_BUDGET:
            s.more = True
            break
        wanted = length - s.received
        n = s.receive(s, s.destination + s.received, wanted if wanted < MOST_AT_ONCE else MOST_AT_ONCE)
        if n == WAIT:
            break
        if n <= 0:
            s.outcome = RECEIVE_ERROR if n == FAILED else CLOSED_IN_RESPONSE
            return
        store_size(&s.received, s.received + n)
        moved += n
    if moved or (s.buffered and events & POLLIN):
        progress(s, s.idle_timeout)
    _tune_low_water(s, length - s.received)
    if s.received == length:
        s.outcome = COMPLETE


# --- from one request to the next ------------------------------------------------------------------------

cdef bint _keep_head(State* s) noexcept nogil:
    """Copies the head of the current response to `heads`; False where there is no memory."""
    cdef size_t size = s.heads_size
    cdef char* larger
    if s.heads_length + s.head.end > size:
        # Enough for all responses, if the others are like this one.
        size = 2 * size if size else <size_t>s.head.end * (s.request_count - 1)
        if size < s.heads_length + s.head.end:
            size = s.heads_length + s.head.end
        larger = <char*>realloc(s.heads, size)
        if larger == NULL:
            return False
        s.heads = larger
        s.heads_size = size
    memcpy(s.heads + s.heads_length, s.scratch, s.head.end)
    return True


cdef bint _is_in_step(State* s) noexcept nogil:
    """Whether nothing follows the current response: extra bytes would be taken for the next response."""
    cdef ssize_t n
    if s.leftover_at < s.scratch_length:
        return False
    # Did the last receive empty the socket? Then there is no need to ask again.
    if s.buffered:
        if s.scratch_length + s.received < SHORT_READ and not _has_pending(s):
            return True
    elif s.phase != RECEIVING_BODY and s.scratch_length < s.scratch_size:
        return True
    s.leftover_at = s.scratch_length = s.head.end
    if not _room_in_scratch(s):
        return False
    n = s.receive(s, s.scratch + s.scratch_length, s.scratch_size - s.scratch_length)
    if n == WAIT:
        return True
    if n > 0:
        s.scratch_length += n
    else:
        s.head.closes = True
    return False


cdef void _begin_next(State* s) noexcept nogil:
    """Sends the next request if the response was a whole 2xx that left the connection in step."""
    cdef Request* done = s.requests + s.current
    if s.current + 1 == s.request_count or s.head.status >= 300 or s.spill != NULL or s.most:
        return
    if s.head.closes or not _is_in_step(s) or not _keep_head(s):
        return
    done.status = s.head.status
    done.head_at = s.heads_length
    done.head_length = s.head.end
    done.body_at = s.used
    done.body_length = s.received
    done.head_came = s.head_came
    done.ended = now_ns()
    s.heads_length += s.head.end
    s.used += (s.received + BODY_ALIGNMENT - 1) // BODY_ALIGNMENT * BODY_ALIGNMENT
    if s.used > s.into_size:
        s.used = s.into_size
    store(&s.current, s.current + 1)
    s.head.end = 0
    s.head_came = 0
    s.scratch_length = s.leftover_at = s.interim = 0
    store_size(&s.received, 0)
    s.sent_before = s.sent
    s.reused = True
    s.early = False
    store(&s.request_sent, False)
    s.outcome = PENDING
    s.phase = SENDING
    s.wants = POLLIN | POLLOUT
    progress(s, s.send_timeout)
    _step_send(s, POLLOUT)


# --- what the loop calls --------------------------------------------------------------------------------

cdef void _step(State* s, int events) noexcept nogil:
    s.more = False
    if s.phase == SENDING:
        # Read first: an early refusal stops the send.
        if events & ~POLLOUT:
            _step_head(s, events)
        if s.outcome == PENDING and s.phase == SENDING:
            _step_send(s, events)
        return
    if s.phase == AWAITING_HEAD:
        _step_head(s, events)
    if s.outcome == PENDING and s.phase == RECEIVING_BODY:
        s.more = False
        _step_body(s, events)


cdef void step(State* s, int events) noexcept nogil:
    """Moves bytes until the socket blocks or the budget is spent. `events` is what poll reported."""
    _step(s, events)
    if s.outcome == COMPLETE:
        _begin_next(s)


cdef void resume(State* s) noexcept nogil:
    """Continues after a pause at the head; the destination is set."""
    begin_body(s)
    if s.outcome == COMPLETE:
        _begin_next(s)


cdef void start(State* s) noexcept nogil:
    """Begins an exchange that a loop took over, or resumes it after a pause."""
    if s.send == NULL:
        s.send = plain_send
        s.receive = plain_receive
    if s.resuming:
        s.resuming = False
        resume(s)
    if s.phase == SENDING and s.outcome == PENDING:
        s.more = True
        progress(s, s.send_timeout)


cdef void check_deadline(State* s, int64_t now) noexcept nogil:
    """Ends an exchange whose deadline has passed without progress."""
    if s.deadline == 0 or now < s.deadline:
        return
    if s.phase == SENDING:
        s.outcome = SEND_TIMEOUT
    elif s.phase == AWAITING_HEAD and s.scratch_length == 0:
        s.outcome = SEND_ERROR if s.broken_send else FIRST_BYTE_TIMEOUT
    else:
        s.outcome = IDLE_TIMEOUT
