"""System calls of an exchange: the clock, gathered sends, receives, unacknowledged bytes, wake-ups.

Each is one call that never waits and needs no GIL, with sizes that every system accepts.
"""

from libc.stdint cimport int64_t

cdef extern from *:
    """
    #include <poll.h>
    #include <string.h>
    #include <sys/ioctl.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    #include <time.h>
    #include <unistd.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    /* Largest size of one call: macOS refuses more than INT_MAX, and Linux truncates there. */
    #define MOST_AT_ONCE ((size_t)1 << 30)

    static inline int64_t now_ns(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    }

    static inline void sleep_ns(long nanoseconds) {
        const struct timespec t = {0, nanoseconds};
        nanosleep(&t, NULL);
    }

    static inline ssize_t send_gathered(int fd, struct iovec *iov, int count) {
        struct msghdr message;
        struct iovec first;
        size_t total = 0;
        int taken = 0;
        while (taken < count && iov[taken].iov_len <= MOST_AT_ONCE - total) total += iov[taken++].iov_len;
        if (!taken) {
            first = *iov;
            first.iov_len = MOST_AT_ONCE;
            iov = &first;
            taken = 1;
        }
        memset(&message, 0, sizeof message);
        message.msg_iov = iov;
        message.msg_iovlen = taken;
        return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    }

    static inline ssize_t receive(int fd, void *to, size_t length) {
        return recv(fd, to, length < MOST_AT_ONCE ? length : MOST_AT_ONCE, MSG_DONTWAIT);
    }

    /* Sent bytes that the peer's kernel has not acknowledged; 0 where our kernel does not report it. */
    static inline int unacknowledged(int fd) {
        int bytes = 0;
    #if defined(__linux__)
        if (ioctl(fd, TIOCOUTQ, &bytes) != 0) return 0;
    #elif defined(SO_NWRITE)
        socklen_t size = sizeof bytes;
        if (getsockopt(fd, SOL_SOCKET, SO_NWRITE, &bytes, &size) != 0) return 0;
    #endif
        return bytes;
    }

    /* Makes poll report a socket readable only once so many bytes are there, or at its end. Linux only: other systems
     * may wait for more than the receive buffer holds. */
    static inline void set_low_water(int fd, int bytes) {
    #ifdef __linux__
        setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes);
    #endif
    }

    static inline void notify(int fd) {
        const long long one = 1;
        if (write(fd, &one, sizeof one) < 0) {}  /* full: a wake-up is already pending */
    }

    /* Reads all pending wake-ups of an eventfd or a pipe. */
    static inline void drain(int fd) {
        char bytes[64];
        while (read(fd, bytes, sizeof bytes) == (ssize_t)sizeof bytes) {}
    }

    /* Dissolves a TCP connection: unsent bytes are dropped and the peer receives a reset (connect(2), AF_UNSPEC). */
    static inline int dissolve(int fd) {
        struct sockaddr nowhere;
        memset(&nowhere, 0, sizeof nowhere);
        nowhere.sa_family = AF_UNSPEC;
        return connect(fd, &nowhere, sizeof nowhere);
    }
    """
    ctypedef struct iovec "struct iovec":
        void* iov_base
        size_t iov_len
    ctypedef struct pollfd "struct pollfd":
        int fd
        short events
        short revents
    int POLLIN
    int POLLOUT
    size_t MOST_AT_ONCE
    int poll(pollfd* fds, unsigned long count, int timeout) noexcept nogil
    int getpid() noexcept nogil
    int close(int fd) noexcept nogil
    int64_t now_ns() noexcept nogil
    void sleep_ns(long nanoseconds) noexcept nogil
    ssize_t send_gathered(int fd, iovec* iov, int count) noexcept nogil
    ssize_t receive(int fd, void* to, size_t length) noexcept nogil
    int unacknowledged(int fd) noexcept nogil
    void set_low_water(int fd, int bytes) noexcept nogil
    void notify(int fd) noexcept nogil
    void drain(int fd) noexcept nogil
    int dissolve(int fd) noexcept nogil
