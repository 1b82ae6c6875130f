/* What the floor programs share: options, connections, reading a response, and measuring. A floor does what any client
 * has to do for one kind of transfer and nothing else: no signature, no retry, no Python. */
#ifndef FLOOR_H
#define FLOOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FLOOR_HEAD = 8 << 10, FLOOR_THREADS = 256 };

struct options {
    int port, threads, connections, warmups, repeats;
    uint64_t size, part_size, count; /* bytes of an object, bytes of a part or range, objects of a transfer */
    bool crc, fill, put;
    const char *memory; /* fresh, huge, warm or discard */
};

struct response {
    char head[FLOOR_HEAD];
    size_t beside; /* bytes of the body that came with the head */
    const char *body;
    int status;
    uint64_t length;
};

struct options read_options(int argc, char **argv);
void fail(const char *what); /* prints it, with errno where that says something, and exits */
int connect_to(int port);
void send_all(int fd, const void *head, size_t head_length, const void *body, size_t body_length);
bool parse_head(struct response *response, size_t filled); /* false: not complete yet */
void read_response(int fd, struct response *response);     /* reads until the head is there; fails unless it is 2xx */
unsigned char *map_memory(uint64_t length, bool huge, bool touched);
void in_threads(int threads, void *(*work)(void *));       /* work gets the thread's number */

/* Runs `prepare` (may be NULL) and then `transfer` for each warm-up and repeat, and prints the numbers as JSON. */
void measure(const struct options *options, void (*prepare)(void), void (*transfer)(void), uint64_t moved);

#endif
