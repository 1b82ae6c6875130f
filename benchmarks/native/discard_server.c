/* An S3 server that costs as little as a server can: bodies that it receives are dropped inside the kernel
 * (recv with MSG_TRUNC copies nothing), and bodies that it sends come from a memfd by sendfile. What a client
 * reaches against it is what the client itself can do. It keeps sizes, never contents, checks no signature,
 * and listens on 127.0.0.1 only. The benchmark harness starts it and reads its port from standard output.
 *
 * Any key whose last component is size-NNN is an object of NNN bytes; keys that were written have the size that was
 * written. The content of every object is the same endless pattern: the 64-bit little-endian word at offset 8 i is
 * splitmix64(i mod (PERIOD / 8)). PERIOD divides by no usual chunk size, so a chunk in the wrong place shows.
 *
 * usage: discard_server [--port N] [--threads N]        GET /_stats reports what was served so far, as JSON
 */
#define _GNU_SOURCE
#include "failing.h"
#include "response.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SINK_SIZE = 4 << 20, /* the most one recv() may drop */
    TURN_LIMIT = 8,      /* transfers on one connection before the others get their turn */
    MAX_THREADS = 64,
};

struct worker {
    pthread_t thread;
    int epoll;
    _Atomic int load;
};

static int pattern_fd;
static char sink[SINK_SIZE]; /* never written: MSG_TRUNC only takes its address */
static struct worker workers[MAX_THREADS];

/* ---- moving bytes: each step returns 1 to continue, 0 to wait for the socket, -1 to close ---- */

static int would_block(void)
{
    return errno == EAGAIN || errno == EINTR ? 0 : -1;
}

static void start_sending(struct connection *c)
{
    c->response_sent = 0;
    c->phase = SENDING;
}

static int begin_request(struct connection *c, size_t head_length)
{
    c->consumed = head_length;
    int status = parse_request(c);
    if (status) {
        c->close_after = true;
        refuse(c, status, status == 411 ? "MissingContentLength" : "BadRequest", "");
        start_sending(c);
        return 1;
    }
    c->head_length = head_length;
    c->in_trailers = false;
    size_t beside = c->filled - c->consumed;
    if (beside > c->request.length)
        beside = c->request.length;
    c->consumed += beside;
    c->body_left = c->request.length - beside;
    counters.bytes_in += beside;
    char expected[32];
    if ((c->body_left || c->request.chunked) && header(&c->request, "Expect", expected, sizeof expected) &&
        strcasecmp(expected, "100-continue") == 0) {
        static const char more[] = "HTTP/1.1 100 Continue\r\n\r\n";
        /* Nothing else is under way to the client, so these 25 bytes always fit into the socket's buffer. */
        if (send(c->fd, more, sizeof more - 1, MSG_NOSIGNAL) != sizeof more - 1)
            return -1;
    }
    c->phase = c->request.chunked ? DROPPING_CHUNKS : DROPPING_BODY;
    return 1;
}

static int read_head(struct connection *c)
{
    char *end = c->filled ? memmem(c->head, c->filled, "\r\n\r\n", 4) : NULL;
    if (end)
        return begin_request(c, end + 4 - c->head);
    if (c->filled == HEAD_LIMIT) {
        c->close_after = true;
        c->request.method[0] = 0;
        refuse(c, 431, "RequestHeaderSectionTooLarge", "");
        start_sending(c);
        return 1;
    }
    ssize_t got = recv(c->fd, c->head + c->filled, HEAD_LIMIT - c->filled, 0);
    if (got <= 0)
        return got < 0 ? would_block() : -1;
    c->filled += got;
    return 1;
}

/* What is between the chunks: reads a little of it behind the head, whose headers the response still needs. */
static int read_chunk_line(struct connection *c)
{
    size_t unread = c->filled - c->consumed;
    if (unread >= CHUNK_LINE)
        return -1; /* no line of a chunk is so long */
    memmove(c->head + c->head_length, c->head + c->consumed, unread);
    c->consumed = c->head_length;
    c->filled = c->consumed + unread;
    size_t room = HEAD_LIMIT - c->filled;
    ssize_t got = recv(c->fd, c->head + c->filled, room < CHUNK_LINE ? room : CHUNK_LINE, 0);
    if (got <= 0)
        return got < 0 ? would_block() : -1;
    c->filled += got;
    return 1;
}

static int drop_chunks(struct connection *c)
{
    size_t unread = c->filled - c->consumed;
    if (c->body_left && unread) {
        size_t taken = unread < c->body_left ? unread : c->body_left;
        c->consumed += taken;
        c->body_left -= taken;
        return 1;
    }
    if (c->body_left) {
        ssize_t got = recv(c->fd, sink, c->body_left < SINK_SIZE ? c->body_left : SINK_SIZE, MSG_TRUNC);
        if (got <= 0)
            return got < 0 ? would_block() : -1;
        c->body_left -= got;
        counters.bytes_in += got;
        return 1;
    }
    char *line = c->head + c->consumed, *end = memmem(line, unread, "\r\n", 2), *digits_end;
    if (!end)
        return read_chunk_line(c);
    c->consumed += end + 2 - line;
    if (c->in_trailers) {
        if (end == line) {
            respond(c);
            start_sending(c);
        }
        return 1;
    }
    uint64_t size = strtoull(line, &digits_end, 16);
    if (digits_end == line || size > INT64_MAX)
        return -1;
    c->in_trailers = size == 0;
    c->body_left = size ? size + 2 : 0;
    return 1;
}

static int drop_body(struct connection *c)
{
    if (c->body_left == 0) {
        respond(c);
        start_sending(c);
        return 1;
    }
    ssize_t got = recv(c->fd, sink, c->body_left < SINK_SIZE ? c->body_left : SINK_SIZE, MSG_TRUNC);
    if (got <= 0)
        return got < 0 ? would_block() : -1;
    c->body_left -= got;
    counters.bytes_in += got;
    return 1;
}

static int send_response(struct connection *c)
{
    if (c->response_sent < c->response_length) {
        ssize_t sent = send(c->fd, c->response + c->response_sent, c->response_length - c->response_sent,
                            MSG_NOSIGNAL | (c->file_left ? MSG_MORE : 0));
        if (sent < 0)
            return would_block();
        c->response_sent += sent;
        return 1;
    }
    if (c->file_left) {
        off_t offset = c->file_offset % PERIOD;
        uint64_t until_period = PERIOD - offset;
        ssize_t sent = sendfile(c->fd, pattern_fd, &offset, c->file_left < until_period ? c->file_left : until_period);
        if (sent <= 0)
            return sent < 0 ? would_block() : -1;
        c->file_offset += sent;
        c->file_left -= sent;
        counters.bytes_out += sent;
        return 1;
    }
    if (c->close_after)
        return -1;
    memmove(c->head, c->head + c->consumed, c->filled - c->consumed);
    c->filled -= c->consumed;
    c->phase = READING_HEAD;
    return 1;
}

static void close_connection(struct connection *c)
{
    if (c->close_after && c->phase == SENDING) {
        /* Closing with unread input would reset the connection and lose the response. */
        shutdown(c->fd, SHUT_WR);
        for (int turn = 0; turn < TURN_LIMIT && recv(c->fd, sink, SINK_SIZE, MSG_TRUNC) > 0;)
            turn++;
    }
    close(c->fd);
    --*c->worker_load;
    free(c);
}

static void serve(struct connection *c)
{
    int more = 1;
    for (int turn = 0; more > 0 && turn < TURN_LIMIT; turn++) {
        switch (c->phase) {
        case READING_HEAD: more = read_head(c); break;
        case DROPPING_BODY: more = drop_body(c); break;
        case DROPPING_CHUNKS: more = drop_chunks(c); break;
        case SENDING: more = send_response(c); break;
        }
    }
    if (more < 0) {
        close_connection(c);
        return;
    }
    /* Level-triggered. A connection whose turn ended, or that holds a pipelined request, must be woken at once:
     * the socket is writable then, unless it is blocked. */
    bool unread = c->phase == DROPPING_BODY ? c->body_left == 0 : c->phase != SENDING && c->filled && more;
    uint32_t wanted = c->phase == SENDING || unread ? EPOLLOUT : EPOLLIN;
    if (wanted != c->waiting_for) {
        struct epoll_event event = {.events = wanted, .data.ptr = c};
        if (epoll_ctl(c->epoll, EPOLL_CTL_MOD, c->fd, &event) < 0)
            die("epoll_ctl");
        c->waiting_for = wanted;
    }
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct epoll_event events[64];
    for (;;) {
        int ready = epoll_wait(worker->epoll, events, 64, -1);
        if (ready < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < ready; i++)
            serve(events[i].data.ptr);
    }
    return NULL;
}

/* ---- listening ---- */

static int listen_on(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0)
        die("socket");
    if (bind(fd, (struct sockaddr *)&address, length) < 0 || listen(fd, 512) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        die("listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void admit(int fd, int threads)
{
    struct worker *least = &workers[0];
    for (int i = 1; i < threads; i++)
        if (workers[i].load < least->load)
            least = &workers[i];
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct connection *c = calloc(1, sizeof *c);
    if (!c)
        die("calloc");
    c->fd = fd;
    c->epoll = least->epoll;
    c->waiting_for = EPOLLIN;
    c->worker_load = &least->load;
    least->load++;
    counters.connections++;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(least->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll_ctl");
}

int main(int argc, char **argv)
{
    int port = 0, threads = sysconf(_SC_NPROCESSORS_ONLN);
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--port") == 0)
            port = atoi(argv[i + 1]);
        else if (i + 1 < argc && strcmp(argv[i], "--threads") == 0)
            threads = atoi(argv[i + 1]);
        else {
            fprintf(stderr, "usage: %s [--port N] [--threads N]\n", argv[0]);
            return 2;
        }
    }
    threads = threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads;
    signal(SIGPIPE, SIG_IGN); /* sendfile has no MSG_NOSIGNAL */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pattern_fd = make_pattern();
    for (int i = 0; i < threads; i++) {
        workers[i].epoll = epoll_create1(EPOLL_CLOEXEC);
        if (workers[i].epoll < 0 || pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            die("worker");
    }
    int listener = listen_on(port);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            admit(fd, threads);
        else if (errno != EINTR && errno != ECONNABORTED)
            die("accept");
    }
}
