"""The state of one HTTP/1.1 exchange, and the constants that describe it. Declarations only.

`exchange` owns the states, `exchange_loop` drives them by the program in `exchange_steps`, and `tls` moves their bytes.
"""

from cpython.pythread cimport PyThread_type_lock
from libc.stdint cimport int64_t

from s3dlio._net.response_head cimport Head
from s3dlio._net.socket_calls cimport iovec

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
    # NEW: not submitted. QUEUED: owned by a loop, and only that loop may end it. ENDED: over, or paused at the head.
    # NEW and ENDED exchanges are changed by holders of the GIL only.
    NEW
    QUEUED
    ENDED

cdef enum:
    # What a transport returns instead of a byte count; 0 is the end of the stream.
    WAIT = -1                  # until poll reports one of `wants`
    FAILED = -2                # `error` is set where an errno is known

cdef enum Phase:
    SENDING
    AWAITING_HEAD
    RECEIVING_BODY

cdef struct Request:
    # One request, and its response once the exchange has gone on to the next one.
    int end                    # of its segments in `iov`
    int status
    size_t head_at             # in `heads`
    size_t head_length
    size_t body_at             # in `into`
    size_t body_length
    int64_t head_came          # nanoseconds of the monotonic clock, here and below
    int64_t ended


cdef struct State:
    int fd
    void* owner                # the Exchange; the loop that drives it holds a reference
    void* next                 # in the loop's stack of submitted exchanges
    PyThread_type_lock ended_lock  # a waiter sleeps on it: released when this exchange, or one beside it, has ended
    PyThread_type_lock leader_lock  # `ended_lock` of the exchange that this one is beside; NULL for none
    int stage                  # a `Stage`; atomic
    int wakeup_fd              # wakes the loop, while the exchange is QUEUED
    ssize_t (*send)(State* s) noexcept nogil       # NULL: a plain socket, here and below
    ssize_t (*receive)(State* s, char* to, size_t length) noexcept nogil
    bint (*has_pending)(State* s) noexcept nogil   # whether the transport holds received bytes that poll cannot see
    void* transport            # argument of a TLS connection's `send` and `receive`
    unsigned long transport_error  # OpenSSL's code behind SEND_ERROR and RECEIVE_ERROR
    bint buffered              # the transport may hold bytes, or an unfinished send, that poll cannot see
    Phase phase
    int outcome
    int error                  # errno behind SEND_ERROR and RECEIVE_ERROR
    int wants                  # poll events
    bint more                  # step again without sleeping: the budget ran out, or poll cannot see what is there
    bint resuming              # the loop has to resume it: it was paused at its head
    iovec* iov                 # segments of all requests; those before `iov_next` are sent
    int iov_next
    Request* requests
    int request_count
    int current                # number of the request that is sent or awaits its response; atomic
    char* heads                # of the responses before the current one, one after the other
    size_t heads_length
    size_t heads_size
    size_t used                # bytes of `into` that the bodies before the current one occupy
    size_t sent                # head and body; atomic
    size_t sent_before         # `sent` when the current request began
    size_t slice               # TLS by the socket's methods: length of the send to repeat; 0 for none
    char* scratch              # head of the current response, and what followed it in the same packet
    size_t scratch_length
    size_t scratch_size
    size_t interim             # bytes of dropped interim responses
    size_t leftover_at         # in `scratch`: first byte that belongs to no response
    Head head
    int64_t head_came          # when the head of the current response was there; 0 before
    bint has_into
    char* into                 # the caller's memory for the bodies of 2xx responses
    size_t into_size
    size_t most                # stop after this many bytes of the body; 0 for all of it
    char* spill                # our memory for any other body
    char* destination          # of the current body: in one of these two
    size_t received            # bytes of the current body; atomic
    int64_t send_timeout       # nanoseconds without progress; 0 for no limit, here and below
    int64_t first_byte_timeout
    int64_t idle_timeout
    int64_t deadline
    int low_water              # fewer bytes than this do not wake poll; 0 for the system's default
    int64_t recheck_at         # receive whatever is there at this time; 0 for never
    const char* previous       # head of the previous response on this connection; NULL for none
    size_t previous_length
    bint responses_are_named   # the peer never repeats a request id
    bint reused                # the connection has served other requests
    bint unsolicited           # bytes came before the first byte of the request was sent
    bint no_body
    bint pause
    bint early
    bint broken_send
    int request_sent           # atomic
    int cancelled              # atomic
