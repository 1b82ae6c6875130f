/* Reading a request: its line, the few headers and parameters that matter, and ranges. Trusts nothing that it reads. */
#define _GNU_SOURCE
#include "request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool header(const struct request *request, const char *name, char *value, size_t capacity)
{
    size_t length = strlen(name);
    for (const char *line = request->headers; line < request->headers_end;) {
        const char *end = memmem(line, request->headers_end - line, "\r\n", 2);
        if (!end)
            break;
        if ((size_t)(end - line) > length && line[length] == ':' && strncasecmp(line, name, length) == 0) {
            const char *from = line + length + 1;
            while (from < end && (*from == ' ' || *from == '\t'))
                from++;
            while (end > from && (end[-1] == ' ' || end[-1] == '\t'))
                end--;
            snprintf(value, capacity, "%.*s", (int)(end - from), from);
            return true;
        }
        line = end + 2;
    }
    value[0] = 0;
    return false;
}

/* A parameter of the query: NULL when absent, "" when it has no value. Valid until the next call on this thread. */
const char *parameter(const struct request *request, const char *name)
{
    static _Thread_local char value[256];
    size_t length = strlen(name);
    for (const char *at = request->query; *at;) {
        size_t field = strcspn(at, "&");
        if (field >= length && strncmp(at, name, length) == 0 && (field == length || at[length] == '=')) {
            size_t start = field == length ? length : length + 1;
            snprintf(value, sizeof value, "%.*s", (int)(field - start), at + start);
            return value;
        }
        at += field + (at[field] == '&');
    }
    return NULL;
}

bool parse_number(const char *text, uint64_t *number)
{
    char *end;
    errno = 0;
    if (*text < '0' || *text > '9')
        return false;
    *number = strtoull(text, &end, 10);
    return *end == 0 && errno == 0 && *number <= INT64_MAX;
}

/* Returns 0, or the status to refuse the request with. */
int parse_request(struct connection *c)
{
    struct request *request = &c->request;
    char *line_end = memmem(c->head, c->consumed, "\r\n", 2);
    char *method_end = memchr(c->head, ' ', line_end - c->head);
    if (!method_end || (size_t)(method_end - c->head) >= sizeof request->method)
        return 400;
    char *target = method_end + 1, *target_end = memchr(target, ' ', line_end - target);
    if (!target_end || line_end - target_end != 9 || memcmp(target_end + 1, "HTTP/1.1", 8) != 0)
        return 400;
    char *question = memchr(target, '?', target_end - target), *path_end = question ? question : target_end;
    if (path_end - target >= PATH_LIMIT)
        return 400;
    snprintf(request->method, sizeof request->method, "%.*s", (int)(method_end - c->head), c->head);
    snprintf(request->path, sizeof request->path, "%.*s", (int)(path_end - target), target);
    request->query[0] = 0;
    if (question) {
        if (target_end - question > (long)sizeof request->query)
            return 400;
        snprintf(request->query, sizeof request->query, "%.*s", (int)(target_end - question - 1), question + 1);
    }
    request->headers = line_end + 2;
    request->headers_end = c->head + c->consumed - 2;
    request->length = 0;
    char value[256];
    request->chunked = header(request, "Transfer-Encoding", value, sizeof value);
    if (request->chunked && strcasecmp(value, "chunked") != 0)
        return 411;
    if (!request->chunked && header(request, "Content-Length", value, sizeof value) && !parse_number(value, &request->length))
        return 400;
    if (header(request, "Connection", value, sizeof value) && strcasecmp(value, "close") == 0)
        c->close_after = true;
    return 0;
}

/* The first byte and the length that `Range` asks for: 1 found, 0 none (or one to ignore), -1 past the end. */
int parse_range(const struct request *request, uint64_t size, uint64_t *first, uint64_t *length)
{
    char value[128], *end;
    if (!header(request, "Range", value, sizeof value) || strncmp(value, "bytes=", 6) != 0 || strchr(value, ','))
        return 0;
    const char *text = value + 6;
    if (*text == '-') {
        uint64_t tail = strtoull(text + 1, &end, 10);
        if (end == text + 1 || *end)
            return 0;
        *length = tail < size ? tail : size;
        *first = size - *length;
        return *length ? 1 : -1;
    }
    *first = strtoull(text, &end, 10);
    if (end == text || *end != '-')
        return 0;
    uint64_t last = end[1] ? strtoull(end + 1, &end, 10) : size - 1;
    if (last < *first && *first < size)
        return 0;
    if (*first >= size)
        return -1;
    *length = (last < size ? last : size - 1) - *first + 1;
    return 1;
}

/* Bytes of payload in the request: aws-chunked framing is larger than what it carries. */
uint64_t payload_length(const struct request *request)
{
    char value[64];
    uint64_t length;
    if (header(request, "x-amz-decoded-content-length", value, sizeof value) && parse_number(value, &length))
        return length;
    return request->length;
}
