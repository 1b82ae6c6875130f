/* The shared part of the floor programs; floor.h describes each function. */
#define _GNU_SOURCE
#include "floor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

void fail(const char *what)
{
    if (errno)
        perror(what);
    else
        fprintf(stderr, "%s\n", what);
    exit(1);
}

struct options read_options(int argc, char **argv)
{
    struct options options = {.threads = 2, .connections = 16, .warmups = 1, .repeats = 3, .size = 1 << 30,
                              .part_size = 16 << 20, .count = 1, .memory = "warm"};
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        bool *flag = strcmp(name, "--crc") == 0 ? &options.crc : strcmp(name, "--fill") == 0 ? &options.fill
                   : strcmp(name, "--put") == 0 ? &options.put : NULL;
        if (flag) {
            *flag = true;
            continue;
        }
        const char *value = ++i < argc ? argv[i] : "";
        uint64_t number = strtoull(value, NULL, 10);
        if (strcmp(name, "--port") == 0) options.port = number;
        else if (strcmp(name, "--threads") == 0) options.threads = number;
        else if (strcmp(name, "--connections") == 0) options.connections = number;
        else if (strcmp(name, "--warmups") == 0) options.warmups = number;
        else if (strcmp(name, "--repeats") == 0) options.repeats = number;
        else if (strcmp(name, "--size") == 0) options.size = number;
        else if (strcmp(name, "--part-size") == 0) options.part_size = number;
        else if (strcmp(name, "--count") == 0) options.count = number;
        else if (strcmp(name, "--memory") == 0) options.memory = value;
        else fail("usage: --port N [--threads N] [--connections N] [--warmups N] [--repeats N] [--size BYTES]\n"
                  "       [--part-size BYTES] [--count N] [--memory fresh|huge|warm|discard] [--crc] [--fill] [--put]");
    }
    if (options.port < 1 || options.threads < 1 || options.threads > FLOOR_THREADS || options.repeats < 1 ||
        options.size < 1 || options.part_size < 1 || options.count < 1 || options.connections < 1)
        fail("an option is out of bounds");
    return options;
}

int connect_to(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

void send_all(int fd, const void *head, size_t head_length, const void *body, size_t body_length)
{
    struct iovec pieces[] = {{(void *)head, head_length}, {(void *)body, body_length}};
    while (pieces[0].iov_len + pieces[1].iov_len) {
        struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
        ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
        if (sent < 0)
            fail("sendmsg");
        for (int i = 0; i < 2; i++) {
            size_t taken = (size_t)sent < pieces[i].iov_len ? (size_t)sent : pieces[i].iov_len;
            pieces[i].iov_base = (char *)pieces[i].iov_base + taken;
            pieces[i].iov_len -= taken;
            sent -= taken;
        }
    }
}

bool parse_head(struct response *response, size_t filled)
{
    char *end = memmem(response->head, filled, "\r\n\r\n", 4);
    if (!end) {
        if (filled == FLOOR_HEAD)
            fail("a response head is too long");
        return false;
    }
    response->body = end + 4;
    response->beside = filled - (end + 4 - response->head);
    *end = 0;
    response->status = filled > 12 ? atoi(response->head + 9) : 0;
    const char *length = strcasestr(response->head, "\r\nContent-Length:");
    response->length = length ? strtoull(length + 17, NULL, 10) : 0;
    if (response->status / 100 != 2) {
        errno = 0;
        fail(response->head);
    }
    return true;
}

void read_response(int fd, struct response *response)
{
    for (size_t filled = 0;;) {
        ssize_t got = recv(fd, response->head + filled, FLOOR_HEAD - filled, 0);
        if (got <= 0)
            fail("the server closed the connection");
        if (parse_head(response, filled += got))
            return;
    }
}

unsigned char *map_memory(uint64_t length, bool huge, bool touched)
{
    const uint64_t huge_page = 2 << 20; /* only aligned memory gets huge pages from its first byte on */
    length = (length + huge_page - 1) & ~(huge_page - 1);
    unsigned char *raw = mmap(NULL, length + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED)
        fail("mmap");
    unsigned char *memory = (unsigned char *)(((uintptr_t)raw + huge_page - 1) & ~(huge_page - 1));
    if (memory > raw)
        munmap(raw, memory - raw);
    if (raw + huge_page > memory)
        munmap(memory + length, raw + huge_page - memory);
    madvise(memory, length, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    for (uint64_t i = 0; touched && i < length / 8; i++)
        ((uint64_t *)memory)[i] = i * 0x9e3779b97f4a7c15u;
    return memory;
}

void in_threads(int threads, void *(*work)(void *))
{
    pthread_t started[FLOOR_THREADS];
    for (intptr_t i = 1; i < threads; i++)
        if (pthread_create(&started[i], NULL, work, (void *)i) != 0)
            fail("pthread_create");
    work((void *)0);
    for (int i = 1; i < threads; i++)
        pthread_join(started[i], NULL);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + 1e-9 * time.tv_nsec;
}

static double seconds(struct timeval after, struct timeval before)
{
    return after.tv_sec - before.tv_sec + 1e-6 * (after.tv_usec - before.tv_usec);
}

/* MiB of VmRSS or VmHWM. */
static double resident(const char *field)
{
    char line[256];
    double kib = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (strncmp(line, field, strlen(field)) == 0)
            kib = atof(line + strlen(field) + 1);
    if (status)
        fclose(status);
    return kib / 1024;
}

void measure(const struct options *options, void (*prepare)(void), void (*transfer)(void), uint64_t moved)
{
    double base = resident("VmRSS"), total = 0, gib = (double)moved * options->repeats / (1 << 30);
    FILE *references = fopen("/proc/self/clear_refs", "w");
    if (references) {
        fputs("5", references); /* resets VmHWM */
        fclose(references);
    }
    struct rusage before, after;
    char each[4096] = "";
    for (int i = 0; i < options->warmups + options->repeats; i++) {
        if (i == options->warmups)
            getrusage(RUSAGE_SELF, &before);
        if (prepare)
            prepare();
        double started = now();
        transfer();
        double took = now() - started;
        if (i < options->warmups)
            continue;
        total += took;
        size_t used = strlen(each);
        snprintf(each + used, sizeof each - used, "%s%.6f", used ? ", " : "", took);
    }
    getrusage(RUSAGE_SELF, &after);
    double user = seconds(after.ru_utime, before.ru_utime), system = seconds(after.ru_stime, before.ru_stime);
    long switches = after.ru_nvcsw - before.ru_nvcsw + after.ru_nivcsw - before.ru_nivcsw;
    double objects = (double)options->count * options->repeats;
    printf("{\"gib_per_s\": %.6f, \"objects_per_s\": %.3f, \"cpu_s_per_gib\": %.6f, \"user_s_per_gib\": %.6f, "
           "\"sys_s_per_gib\": %.6f, \"switches_per_gib\": %.1f, \"cpu_us_per_object\": %.3f, \"peak_rss_mib\": %.1f, "
           "\"peak_added_mib\": %.1f, \"seconds\": [%s]}\n",
           gib / total, objects / total, (user + system) / gib, user / gib, system / gib, switches / gib,
           1e6 * (user + system) / objects, resident("VmHWM"), resident("VmHWM") - base, each);
}
