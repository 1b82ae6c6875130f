/* The floor of small objects: threads that each keep their share of the connections busy with one request at a time
 * (keep-alive, no pipelining) until --count objects of --size bytes were read, or written with --put. */
#define _GNU_SOURCE
#include "floor.h"

#include "crc64nvme.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

struct connection {
    int fd;
    bool in_body;
    uint64_t object, filled; /* of the head, then of the body */
    struct response response;
};

static struct options options;
static unsigned char *memory; /* of all objects */
static struct connection *connections;
static int epolls[FLOOR_THREADS];
static atomic_ullong next_object;

static void send_request(struct connection *c)
{
    char head[512], checksum[64] = "", text[13];
    const unsigned char *body = memory + c->object * options.size;
    if (options.put && options.crc) {
        crc64nvme_base64(crc64nvme(body, options.size), text);
        snprintf(checksum, sizeof checksum, "x-amz-checksum-crc64nvme: %s\r\n", text);
    }
    size_t length = options.put
        ? snprintf(head, sizeof head, "PUT /benchmarks/small-floor/%llu HTTP/1.1\r\nHost: localhost\r\n"
                   "Content-Length: %llu\r\n%s\r\n", (unsigned long long)c->object, (unsigned long long)options.size, checksum)
        : snprintf(head, sizeof head, "GET /benchmarks/small-floor/%llu/size-%llu HTTP/1.1\r\nHost: localhost\r\n\r\n",
                   (unsigned long long)c->object, (unsigned long long)options.size);
    c->in_body = false;
    c->filled = 0;
    send_all(c->fd, head, length, body, options.put ? options.size : 0);
}

/* True when the response is complete. */
static bool take(struct connection *c)
{
    void *place = c->in_body ? (void *)(memory + c->object * options.size + c->filled) : c->response.head + c->filled;
    ssize_t got = recv(c->fd, place, (c->in_body ? options.size : FLOOR_HEAD) - c->filled, MSG_DONTWAIT);
    if (got <= 0) {
        if (got < 0 && errno == EAGAIN)
            return false;
        fail("the server closed the connection");
    }
    c->filled += got;
    if (!c->in_body) {
        if (!parse_head(&c->response, c->filled))
            return false;
        if (c->response.length != (options.put ? 0 : options.size) || c->response.beside > c->response.length) {
            errno = 0;
            fail("the response is not the requested object");
        }
        memcpy(memory + c->object * options.size, c->response.body, c->response.beside);
        c->in_body = true;
        c->filled = c->response.beside;
    }
    return c->filled == c->response.length;
}

static bool begin_next(struct connection *c)
{
    c->object = atomic_fetch_add(&next_object, 1);
    if (c->object >= options.count)
        return false;
    send_request(c);
    return true;
}

static void *work(void *number)
{
    int thread = (intptr_t)number, busy = 0;
    struct epoll_event events[64];
    for (int i = thread; i < options.connections; i += options.threads)
        busy += begin_next(&connections[i]);
    while (busy) {
        int ready = epoll_wait(epolls[thread], events, 64, -1);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (take(c))
                busy -= !begin_next(c);
        }
    }
    return NULL;
}

static void transfer(void)
{
    next_object = 0;
    in_threads(options.threads, work);
}

int main(int argc, char **argv)
{
    options = read_options(argc, argv);
    crc64nvme_prepare(false);
    memory = map_memory(options.size * options.count, true, true);
    connections = calloc(options.connections, sizeof *connections);
    if (!connections)
        fail("calloc");
    for (int i = 0; i < options.threads; i++)
        if ((epolls[i] = epoll_create1(EPOLL_CLOEXEC)) < 0)
            fail("epoll_create1");
    for (int i = 0; i < options.connections; i++) {
        connections[i].fd = connect_to(options.port);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &connections[i]};
        if (epoll_ctl(epolls[i % options.threads], EPOLL_CTL_ADD, connections[i].fd, &event) < 0)
            fail("epoll_ctl");
    }
    measure(&options, NULL, transfer, options.size * options.count);
    return 0;
}
