/* The pieces that the discard server's files share: request.c reads heads, catalogue.c knows sizes and the pattern,
 * answer.c decides what to say, discard_server.c moves the bytes. */
#ifndef DISCARD_SERVER_H
#define DISCARD_SERVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PERIOD = 16385 * 4096,    /* 64 MiB and one page */
    HEAD_LIMIT = 16 << 10,
    RESPONSE_LIMIT = 8 << 10,
    PATH_LIMIT = 1100,        /* a bucket and a key of 1024 bytes */
    MAX_PARTS = 10000,
    CHUNK_LINE = 64,          /* the most that is read to find a chunk's size; more of it is payload */
};

enum phase { READING_HEAD, DROPPING_BODY, DROPPING_CHUNKS, SENDING };

struct request {
    char method[8];
    char path[PATH_LIMIT];
    char query[2048];
    const char *headers, *headers_end; /* into the connection's head buffer */
    uint64_t length;                   /* Content-Length */
    bool chunked;
};

struct connection {
    int fd, epoll;
    uint32_t waiting_for;
    enum phase phase;
    _Atomic int *worker_load;
    struct request request;
    char head[HEAD_LIMIT];
    size_t filled, consumed;
    uint64_t body_left;    /* of the body, or of a chunk with the line end behind it */
    size_t head_length;
    bool in_trailers;      /* the last chunk has come */
    char response[RESPONSE_LIMIT];
    size_t response_length, response_sent;
    uint64_t file_offset, file_left;
    bool close_after;
};

struct object {
    char path[PATH_LIMIT];
    uint64_t size;
    unsigned parts; /* 0: written by one PutObject, or made up from its name */
    char crc64nvme[32];
};

struct counters {
    atomic_ullong connections, requests, partial, parts, bytes_in, bytes_out;
};
extern struct counters counters;

void die(const char *what); /* prints it with errno, and exits */

/* catalogue.c: what is stored, safe to call from any thread */
int make_pattern(void); /* a descriptor of PERIOD bytes */
void store_object(const char *path, uint64_t size, const char *crc64nvme);
void remove_object(const char *path);
bool find_object(const char *path, struct object *found);
uint64_t create_upload(const char *path);
bool store_part(uint64_t id, unsigned number, uint64_t size);                /* false: no such upload */
bool complete_upload(uint64_t id, const char *crc64nvme, unsigned *parts);   /* the same */
bool abort_upload(uint64_t id);                                              /* the same */

/* request.c */
int parse_request(struct connection *c); /* 0, or the status to refuse with */
bool parse_number(const char *text, uint64_t *number);
bool header(const struct request *request, const char *name, char *value, size_t capacity);
const char *parameter(const struct request *request, const char *name);
int parse_range(const struct request *request, uint64_t size, uint64_t *first, uint64_t *length);
uint64_t payload_length(const struct request *request);

/* answer.c: both fill c->response, and where the answer has a body of an object, its place in the pattern */
void answer(struct connection *c);
void refuse(struct connection *c, int status, const char *code, const char *headers);

#endif
