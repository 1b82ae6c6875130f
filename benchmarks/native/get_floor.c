/* The floor of downloads: threads that request ranges of one object and receive them at their destination. --memory
 * sets what that is: `fresh` 4 KiB pages or fresh `huge` pages, mapped for each transfer, `warm` memory that earlier
 * transfers have used, or none (`discard`: the kernel drops the bytes), which shows the cost of the network itself. */
#define _GNU_SOURCE
#include "floor.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

static struct options options;
static unsigned char *target;
static bool discards;
static int sockets[FLOOR_THREADS];
static atomic_ullong next_range;

static void receive(int fd, uint64_t offset, uint64_t length)
{
    static unsigned char nowhere; /* MSG_TRUNC only takes its address */
    for (uint64_t done = 0; done < length;) {
        void *place = discards ? &nowhere : target + offset + done;
        ssize_t got = recv(fd, place, length - done, discards ? MSG_TRUNC : 0);
        if (got <= 0)
            fail("the server closed the connection");
        done += got;
    }
}

static void get_range(int fd, uint64_t number)
{
    struct response response;
    uint64_t offset = number * options.part_size, left = options.size - offset;
    uint64_t length = left < options.part_size ? left : options.part_size;
    char head[512];
    size_t head_length = snprintf(head, sizeof head, "GET /benchmarks/floor/size-%llu HTTP/1.1\r\nHost: localhost\r\n"
                                  "Range: bytes=%llu-%llu\r\n\r\n", (unsigned long long)options.size,
                                  (unsigned long long)offset, (unsigned long long)(offset + length - 1));
    send_all(fd, head, head_length, NULL, 0);
    read_response(fd, &response);
    errno = 0;
    if (response.status != 206 || response.length != length || response.beside > length)
        fail("the response is not the requested range");
    if (!discards)
        memcpy(target + offset, response.body, response.beside);
    receive(fd, offset + response.beside, length - response.beside);
}

static void *work(void *number)
{
    int fd = sockets[(intptr_t)number];
    uint64_t ranges = (options.size + options.part_size - 1) / options.part_size;
    for (uint64_t range; (range = atomic_fetch_add(&next_range, 1)) < ranges;)
        get_range(fd, range);
    return NULL;
}

static void map_anew(void)
{
    if (target)
        munmap(target, (options.size + (2 << 20) - 1) & ~(uint64_t)((2 << 20) - 1));
    target = NULL;
}

static void download(void)
{
    if (!target && !discards)
        target = map_memory(options.size, strcmp(options.memory, "fresh") != 0, false);
    next_range = 0;
    in_threads(options.threads, work);
}

/* The content is the discard server's pattern: the words of its first period, which no other place has. */
static void check(void)
{
    for (uint64_t i = 0; !discards && i < options.size / 8; i++) {
        uint64_t x = i % (16385 * 4096 / 8) + 0x9e3779b97f4a7c15u;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        errno = 0;
        if (((uint64_t *)target)[i] != (x ^ (x >> 31)))
            fail("the content is wrong");
    }
}

int main(int argc, char **argv)
{
    options = read_options(argc, argv);
    discards = strcmp(options.memory, "discard") == 0;
    bool warm = strcmp(options.memory, "warm") == 0;
    if (warm)
        target = map_memory(options.size, true, true);
    for (int i = 0; i < options.threads; i++)
        sockets[i] = connect_to(options.port);
    measure(&options, warm || discards ? NULL : map_anew, download, options.size);
    check();
    return 0;
}
