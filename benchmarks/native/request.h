/* A connection and the request that it carries, and how a request is read. */
#ifndef REQUEST_H
#define REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "catalogue.h"

enum {
    HEAD_LIMIT = 16 << 10,
    RESPONSE_LIMIT = 8 << 10,
    CHUNK_LINE = 64, /* the most that is read to find a chunk's size; more of it is payload */
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
    bool in_trailers;      /* the last chunk has arrived */
    char response[RESPONSE_LIMIT];
    size_t response_length, response_sent;
    uint64_t file_offset, file_left;
    bool close_after;
};

int parse_request(struct connection *c); /* 0, or the status to refuse with */
bool parse_number(const char *text, uint64_t *number);
bool header(const struct request *request, const char *name, char *value, size_t capacity);
const char *parameter(const struct request *request, const char *name);
int parse_range(const struct request *request, uint64_t size, uint64_t *first, uint64_t *length);
uint64_t payload_length(const struct request *request);

#endif
