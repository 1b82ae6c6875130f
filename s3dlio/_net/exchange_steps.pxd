"""One HTTP/1.1 exchange as a state machine without the GIL: what to do when its socket is ready or its time is up.

It moves bytes through two function pointers (plain or TLS; nothing here knows which but for what poll cannot see),
touches no Python object and never waits. `exchange` owns the states; `exchange_loop` polls, and calls `step` and
`check_deadline`.
"""

from cpython.pythread cimport PyThread_type_lock
from libc.errno cimport EAGAIN, ECONNRESET, EINTR, EPIPE, errno
from libc.stdint cimport int64_t
from libc.stdlib cimport malloc, realloc
from libc.string cimport memcmp, memcpy, memmove

from s3dlio._net.atomics cimport publish, tell
from s3dlio._net.response_head cimport Head, find_field, scan
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

# `exchange.Outcome` repeats these for Python.
cdef enum:
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

cdef enum Stage:
    # Where an exchange is: with nobody, and a loop may take it; with a loop; or over or paused, as its outcome says. A
    # loop alone ends what is queued; all else is done by holders of the GIL.
    NEW
    QUEUED
    ENDED

cdef enum:
    FIRST_SCRATCH = 8 << 10
    MAX_HEAD = 64 << 10          # with the interim ones before it
    MAX_SPILL = 16 << 20
    # One connection's share of a round, so that a fast peer does not starve the others.
    STEP_BUDGET = 4 << 20
    # Far below every system's IOV_MAX.
    IOV_BATCH = 64
    # A request from this many bytes on may not fit what the kernels between take in before the peer has read a byte:
    # whether it has reached the peer is asked for when an answer comes.
    OUTGROWS_KERNELS = 64 << 10
    # Instead of events of poll, where that says nothing: the step has to try.
    LOOK = 1 << 14
    # A large body is received when so much of it is there: a download from MinIO takes a fifth less CPU time of the
    # client, for 1,300 instead of 4,000 wake-ups a GiB. A TLS transport may hold so much that poll will never see.
    LARGE_BODY = 1 << 20
    LOW_WATER = 512 << 10
    MOST_HELD = 256 << 10
    # What is there of one that comes slowly is received after so many milliseconds all the same.
    LONGEST_SPARING = 100
    # The bodies of a series lie apart by whole cache lines, so that every element type finds them aligned.
    PLACE_ALIGNMENT = 64

cdef enum:
    # What a transport returns instead of a count of bytes; 0 is the end of the stream.
    WAIT = -1                  # for what it put into `wants`
    FAILED = -2                # with `error` set, where an errno is known

cdef enum Phase:
    SENDING
    AWAITING_HEAD
    RECEIVING_BODY

cdef struct Answer:
    # One answered request of a series.
    int status
    size_t head_at             # in `heads`
    size_t head_length
    size_t body_at             # in the place that the body went to
    size_t body_length


cdef struct State:
    int fd
    void* owner                # the Exchange; a loop that has it holds a reference
    void* next                 # on the loop's stack of submitted ones
    PyThread_type_lock done    # free when no loop has it and it has ended or paused
    int stage                  # a `Stage`, by `tell` and `told`
    int bell                   # of the loop that has it, while it is QUEUED
    ssize_t (*send)(State* s) noexcept nogil
    ssize_t (*receive)(State* s, char* to, size_t length) noexcept nogil
    void* transport            # what `send` and `receive` of a TLS connection work on
    unsigned long transport_error  # OpenSSL's code behind SEND_ERROR and RECEIVE_ERROR
    bint buffered              # the transport may hold bytes, or a send in progress, that poll cannot see
    Phase phase
    int outcome
    int error                  # errno behind SEND_ERROR and RECEIVE_ERROR
    int wants                  # poll events
    bint more                  # the last step ended by its budget, or unseen bytes may be there: do not sleep
    iovec* iov                 # the request; entries before `iov_next` have gone out
    int iov_count              # the present request ends before this one
    int iov_next
    int* ends                  # of a series: where each request ends in `iov`; else NULL
    int requests
    int answered               # of them (told), each by a whole 2xx that left the connection in step
    Answer* answers
    char* heads                # of the answers, one after the other
    size_t heads_length
    size_t heads_size
    size_t used                # of a series: bytes of `into` that bodies have taken
    size_t sent                # head and body (published)
    size_t sent_before         # the same when the present request began
    size_t slice               # TLS: length of the send that has to be repeated; 0 for none
    char* scratch              # response head, and what followed it in the same packet
    size_t scratch_length
    size_t scratch_size
    size_t interim             # bytes of the interim answers that were dropped
    size_t leftover_at         # in `scratch`: where the bytes begin that the body did not take
    Head head
    char* into                 # the caller's place for a 2xx body
    size_t into_size
    size_t most                # bytes of the body after which the exchange is cut short; 0 to take all of it
    char* spill                # ours for any other
    char* place                # the one of the two that is used
    size_t received
    int64_t send_timeout       # nanoseconds without progress; 0 for no limit, here and below
    int64_t first_byte_timeout
    int64_t idle_timeout
    int64_t deadline
    int low_water              # bytes without which poll does not call the socket readable; 0 for the usual one
    int64_t look               # when to receive what is there all the same; 0 for never
    const char* previous       # head of the answer before on this connection; NULL where there is none
    size_t previous_length
    bint answers_are_named     # no two answers have the same name
    bint reused                # the connection has served other requests
    bint unasked               # bytes came before the first one of the request had gone out
    bint no_body
    bint pause
    bint early
    bint broken_send
    int request_sent           # told
    int cancelled              # told


cdef inline void progress(State* s, int64_t timeout) noexcept nogil:
    s.deadline = now_ns() + timeout if timeout > 0 else 0


# --- plain transport ------------------------------------------------------------------------------------

cdef inline ssize_t _failed(State* s, int wants) noexcept nogil:
    if errno == EAGAIN:
        s.wants = wants
        return WAIT
    s.error = errno
    return FAILED


cdef inline ssize_t plain_send(State* s) noexcept nogil:
    """Offers the socket all that is left, gathered."""
    cdef int count = s.iov_count - s.iov_next
    cdef ssize_t n
    while True:
        n = send_gathered(s.fd, s.iov + s.iov_next, count if count < IOV_BATCH else IOV_BATCH)
        if n >= 0:
            return n
        if errno != EINTR:
            return _failed(s, POLLIN | POLLOUT)


cdef inline ssize_t plain_receive(State* s, char* to, size_t length) noexcept nogil:
    cdef ssize_t n
    while True:
        n = receive(s.fd, to, length)
        if n >= 0:
            return n
        if errno != EINTR:
            return _failed(s, POLLIN | POLLOUT if s.phase == SENDING else POLLIN)


# --- sending --------------------------------------------------------------------------------------------

cdef inline void _advance(State* s, size_t n) noexcept nogil:
    """Takes `n` sent bytes off what is still to be sent."""
    cdef iovec* first
    publish(&s.sent, s.sent + n)
    while n:
        first = s.iov + s.iov_next
        if n < first.iov_len:
            first.iov_base = <char*>first.iov_base + n
            first.iov_len -= n
            return
        n -= first.iov_len
        s.iov_next += 1


cdef inline void _send_failed(State* s) noexcept nogil:
    if s.error != EPIPE and s.error != ECONNRESET:
        s.outcome = SEND_ERROR
        return
    # The peer may have answered before it closed: that answer says more than the broken pipe does.
    s.broken_send = True
    s.phase = AWAITING_HEAD
    s.wants = POLLIN
    s.more = True
    progress(s, s.first_byte_timeout)


cdef inline void _step_send(State* s, int events) noexcept nogil:
    cdef size_t moved = 0
    cdef ssize_t n
    while s.iov_next < s.iov_count:
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
    # A socket that had room took bytes of a TLS slice, even where the whole slice is not out yet.
    if moved or (s.buffered and events & POLLOUT):
        progress(s, s.send_timeout)
    if s.iov_next == s.iov_count:
        tell(&s.request_sent, True)
        s.phase = AWAITING_HEAD
        s.wants = POLLIN
        s.more = s.buffered
        progress(s, s.first_byte_timeout)


# --- the head -------------------------------------------------------------------------------------------

cdef inline bint _has_begun(State* s) noexcept nogil:
    """Whether a byte of the present request may have gone out."""
    return s.sent > s.sent_before or s.slice != 0


cdef inline bint _room_in_scratch(State* s) noexcept nogil:
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


cdef inline void _step_head(State* s, int events) noexcept nogil:
    """Receives towards the end of the head."""
    cdef ssize_t n
    while s.outcome == PENDING and s.phase != RECEIVING_BODY:
        if not _room_in_scratch(s):
            s.outcome = HEAD_TOO_LARGE
            return
        n = s.receive(s, s.scratch + s.scratch_length, s.scratch_size - s.scratch_length)
        if n == WAIT:
            # Part of a TLS record is progress too.
            if s.buffered and s.scratch_length and s.phase == AWAITING_HEAD and events & POLLIN:
                progress(s, s.idle_timeout)
            return
        if n <= 0:
            _ended_without_head(s, n)
            return
        s.scratch_length += n
        progress(s, s.send_timeout if s.phase == SENDING else s.idle_timeout)
        if not _has_begun(s):
            # It belongs to an earlier request of this connection; on a fresh one it may be a refusal to serve at all.
            if s.reused:
                s.outcome = OUT_OF_STEP
                return
            s.unasked = True
        _scan_scratch(s)


cdef inline void _ended_without_head(State* s, ssize_t n) noexcept nogil:
    if s.scratch_length and n == 0:
        s.outcome = CLOSED_IN_RESPONSE
    elif s.broken_send:
        s.outcome = SEND_ERROR
    else:
        s.outcome = RECEIVE_ERROR if n == FAILED else CLOSED_BEFORE_RESPONSE


cdef inline void _scan_scratch(State* s) noexcept nogil:
    """Looks for a final answer; interim ones (1xx, but no change of protocol) are dropped."""
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


cdef inline bint _is_early(State* s) noexcept nogil:
    """Whether the peer answered before it had the whole request.

    A segment that carries a later answer acknowledges all that it had come by then.
    """
    if not s.request_sent or s.unasked:
        return True
    return s.sent - s.sent_before >= OUTGROWS_KERNELS and unacknowledged(s.fd) > 0


cdef inline bint _is_repeated(State* s) noexcept nogil:
    """Whether this is the answer before once more: the same head, by a peer that names its answers."""
    cdef const char* before = s.previous
    cdef size_t length = s.previous_length
    cdef Answer* answer
    cdef Py_ssize_t at, named
    if s.answered:
        answer = s.answers + s.answered - 1
        before = s.heads + answer.head_at
        length = answer.head_length
    if not s.answers_are_named or length == 0 or length != <size_t>s.head.end or memcmp(before, s.scratch, length) != 0:
        return False
    return find_field(before, length, 0, b"x-amz-request-id", 16, &at, &named) > 0 and named > 0


cdef inline void _head_complete(State* s) noexcept nogil:
    s.early = _is_early(s)
    s.leftover_at = s.head.end
    if _is_repeated(s):
        s.outcome = OUT_OF_STEP
    elif s.early and s.head.status < 300:
        # It cannot be the word of a store that has the request: whether it will is not known.
        s.outcome = EARLY_SUCCESS
    elif s.no_body or s.head.status == 204 or s.head.status == 304:
        s.outcome = COMPLETE
    elif s.head.unusual or s.head.content_length < 0:
        s.outcome = UNUSUAL
    elif s.pause:
        s.outcome = HEAD_READY
    else:
        begin_body(s)


# --- the body -------------------------------------------------------------------------------------------

cdef inline size_t _wanted(State* s) noexcept nogil:
    """Bytes of the body that are received."""
    cdef size_t length = <size_t>s.head.content_length
    return s.most if s.most and s.most < length else length


cdef inline bint _find_place(State* s, size_t length) noexcept nogil:
    if (s.into != NULL or s.ends != NULL) and 200 <= s.head.status < 300:
        s.place = s.into + s.used if length else NULL
        return length <= s.into_size - s.used
    if length == 0:
        return True
    if length <= MAX_SPILL:
        s.spill = <char*>malloc(length)
    s.place = s.spill
    return s.spill != NULL


cdef inline void begin_body(State* s) noexcept nogil:
    """Finds the body its place, moves there what came with the head, and stops a sending under way."""
    cdef size_t length = _wanted(s)
    cdef size_t came = s.scratch_length - s.head.end
    if not _find_place(s, length):
        # Between the answers of a series there is time to give the next one another place.
        s.outcome = HEAD_READY if s.ends != NULL and s.head.status < 300 else UNUSUAL
        return
    if came > length:
        came = length
    if came:
        memcpy(s.place, s.scratch + s.head.end, came)
    s.leftover_at = s.head.end + came
    publish(&s.received, came)
    if came == length:
        s.outcome = COMPLETE
        return
    s.phase = RECEIVING_BODY
    s.wants = POLLIN
    s.more = s.buffered
    progress(s, s.idle_timeout)
    _spare(s, length - came)


cdef inline void _spare(State* s, size_t left) noexcept nogil:
    """Asks for fewer, larger pieces of a large body; `left` bytes of it are still to come."""
    cdef int wanted = 0
    if <size_t>s.head.content_length < LARGE_BODY:
        return
    if not s.buffered:
        wanted = <int>left if left < LOW_WATER else LOW_WATER
    elif left >= LOW_WATER + MOST_HELD:
        wanted = LOW_WATER
    if wanted != s.low_water:
        set_low_water(s.fd, wanted if wanted else 1)
        s.low_water = wanted
    s.look = now_ns() + LONGEST_SPARING * <int64_t>1000000 if wanted else 0
    if wanted and s.deadline and s.look > s.deadline:
        s.look = s.deadline


cdef inline void _step_body(State* s, int events) noexcept nogil:
    cdef size_t length = _wanted(s)
    cdef size_t moved = 0, wanted
    cdef ssize_t n
    while s.received < length:
        if moved >= STEP_BUDGET:
            s.more = True
            break
        wanted = length - s.received
        n = s.receive(s, s.place + s.received, wanted if wanted < MOST_AT_ONCE else MOST_AT_ONCE)
        if n == WAIT:
            break
        if n <= 0:
            s.outcome = RECEIVE_ERROR if n == FAILED else CLOSED_IN_RESPONSE
            return
        publish(&s.received, s.received + n)
        moved += n
    if moved or (s.buffered and events & POLLIN):
        progress(s, s.idle_timeout)
    _spare(s, length - s.received)
    if s.received == length:
        s.outcome = COMPLETE


# --- a series -------------------------------------------------------------------------------------------

cdef inline bint _keep_head(State* s) noexcept nogil:
    cdef size_t size = s.heads_size
    cdef char* larger
    if s.heads_length + s.head.end > size:
        # What the other answers will need too, if they are like this one.
        size = 2 * size if size else <size_t>s.head.end * s.requests
        if size < s.heads_length + s.head.end:
            size = s.heads_length + s.head.end
        larger = <char*>realloc(s.heads, size)
        if larger == NULL:
            return False
        s.heads = larger
        s.heads_size = size
    memcpy(s.heads + s.heads_length, s.scratch, s.head.end)
    return True


cdef inline bint _is_in_step(State* s) noexcept nogil:
    """Whether nothing came after an answer; the next request's answer would be taken for it, or it for that."""
    cdef ssize_t n
    if s.leftover_at < s.scratch_length:
        return False
    if not s.buffered and s.phase != RECEIVING_BODY and s.scratch_length < s.scratch_size:
        return True  # the last receive took all that was there
    n = s.receive(s, s.scratch, s.scratch_size)
    if n == WAIT:
        return True
    s.leftover_at = 0
    s.scratch_length = n if n > 0 else 0
    s.head.closes = s.head.closes or n <= 0
    return False


cdef inline void _next_of_series(State* s) noexcept nogil:
    """Begins the next request where the answer to the one before was a whole 2xx that left the connection in step."""
    cdef Answer* answer
    if s.head.status >= 300 or s.spill != NULL or not _keep_head(s):
        return
    answer = s.answers + s.answered
    answer.status = s.head.status
    answer.head_at = s.heads_length
    answer.head_length = s.head.end
    answer.body_at = s.used
    answer.body_length = s.received
    s.heads_length += s.head.end
    s.used += (s.received + PLACE_ALIGNMENT - 1) // PLACE_ALIGNMENT * PLACE_ALIGNMENT
    if s.used > s.into_size:
        s.used = s.into_size
    tell(&s.answered, s.answered + 1)
    s.head.end = 0  # what counts as an answer of the series is no answer of the exchange
    if s.answered == s.requests or s.head.closes or not _is_in_step(s):
        return
    s.iov_count = s.ends[s.answered]
    s.scratch_length = s.leftover_at = s.interim = 0
    publish(&s.received, 0)
    s.sent_before = s.sent
    s.reused = True
    s.early = False
    tell(&s.request_sent, False)
    s.outcome = PENDING
    s.phase = SENDING
    s.wants = POLLIN | POLLOUT
    progress(s, s.send_timeout)
    _step_send(s, POLLOUT)


# --- what the loop calls --------------------------------------------------------------------------------

cdef inline void _step(State* s, int events) noexcept nogil:
    s.more = False
    if s.phase == SENDING:
        # Reading first: an early refusal has to stop the sending.
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


cdef inline void step(State* s, int events) noexcept nogil:
    """Goes as far as the socket allows, within the budget. `events` is what poll said of it."""
    _step(s, events)
    if s.outcome == COMPLETE and s.ends != NULL:
        _next_of_series(s)


cdef inline void start(State* s) noexcept nogil:
    """A loop begins with it, or goes on after a pause."""
    if s.phase == SENDING and s.outcome == PENDING:
        s.more = True
        progress(s, s.send_timeout)


cdef inline void go_on(State* s) noexcept nogil:
    """After a pause at the head, with the body's place known."""
    begin_body(s)
    if s.outcome == COMPLETE and s.ends != NULL:
        _next_of_series(s)


cdef inline void check_deadline(State* s, int64_t now) noexcept nogil:
    """Ends an exchange that made no progress in time."""
    if s.deadline == 0 or now < s.deadline:
        return
    if s.phase == SENDING:
        s.outcome = SEND_TIMEOUT
    elif s.phase == AWAITING_HEAD and s.scratch_length == 0:
        s.outcome = SEND_ERROR if s.broken_send else FIRST_BYTE_TIMEOUT
    else:
        s.outcome = IDLE_TIMEOUT
