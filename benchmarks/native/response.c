/* What the discard server sends back to each request: just enough S3 for clients. Every bucket exists, no signature is
 * checked, and ETags are constants. */
#define _GNU_SOURCE
#include "response.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct counters counters;

#define OBJECT_ETAG "d15ca4dd15ca4dd15ca4dd15ca4dd15c"
#define LAST_MODIFIED "Thu, 01 Jan 2026 00:00:00 GMT"

static const char *reason(int status)
{
    switch (status) {
    case 200: return "OK";
    case 204: return "No Content";
    case 206: return "Partial Content";
    case 400: return "Bad Request";
    case 404: return "Not Found";
    case 411: return "Length Required";
    case 412: return "Precondition Failed";
    case 416: return "Range Not Satisfiable";
    case 431: return "Request Header Fields Too Large";
    default: return "Not Implemented";
    }
}

/* Each line of `headers` ends with CRLF. `length` is the Content-Length; for HEAD and sendfile `body` is empty. */
static void write_response(struct connection *c, int status, const char *headers, const char *body,
                           uint64_t length)
{
    char content_length[48] = "";
    if (status != 204)
        snprintf(content_length, sizeof content_length, "Content-Length: %llu\r\n", (unsigned long long)length);
    c->response_length = snprintf(c->response, sizeof c->response,
                                  "HTTP/1.1 %d %s\r\nServer: discard\r\nx-amz-request-id: discard\r\n%s%s%s\r\n%s",
                                  status, reason(status), c->close_after ? "Connection: close\r\n" : "", content_length,
                                  headers, body);
    if (c->response_length >= sizeof c->response) {
        fprintf(stderr, "discard_server: a response of %zu bytes does not fit\n", c->response_length);
        abort();
    }
}

static void write_xml(struct connection *c, int status, const char *body)
{
    write_response(c, status, "Content-Type: application/xml\r\n", body, strlen(body));
}

void refuse(struct connection *c, int status, const char *code, const char *headers)
{
    char body[512] = "";
    if (strcmp(c->request.method, "HEAD") != 0)
        snprintf(body, sizeof body, "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>%s</Code><Message>%s</Message>"
                 "<RequestId>discard</RequestId></Error>", code, reason(status));
    write_response(c, status, headers, body, strlen(body));
}

/* The checksum header that came with the payload, as a header line; empty when there was none. */
static void echoed_checksum(const struct request *request, char *line, size_t capacity)
{
    static const char *names[] = {"x-amz-checksum-crc64nvme", "x-amz-checksum-crc32c", "x-amz-checksum-crc32",
                                  "x-amz-checksum-sha1", "x-amz-checksum-sha256"};
    char value[128];
    line[0] = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (header(request, names[i], value, sizeof value)) {
            snprintf(line, capacity, "%s: %s\r\n", names[i], value);
            return;
        }
}

static void start_upload(struct connection *c)
{
    char body[4096];
    const char *key = strchr(c->request.path + 1, '/');
    snprintf(body, sizeof body, "<?xml version=\"1.0\" encoding=\"UTF-8\"?><InitiateMultipartUploadResult>"
             "<Bucket>%.*s</Bucket><Key>%s</Key><UploadId>%llu</UploadId></InitiateMultipartUploadResult>",
             (int)(key - c->request.path - 1), c->request.path + 1, key + 1,
             (unsigned long long)create_upload(c->request.path));
    write_xml(c, 200, body);
}

static void put_part(struct connection *c, uint64_t id)
{
    const char *text = parameter(&c->request, "partNumber");
    uint64_t number;
    if (!text || !parse_number(text, &number) || number < 1 || number > MAX_PARTS) {
        refuse(c, 400, "InvalidArgument", "");
        return;
    }
    if (!store_part(id, number, payload_length(&c->request))) {
        refuse(c, 404, "NoSuchUpload", "");
        return;
    }
    counters.parts++;
    char checksum[256], headers[512];
    echoed_checksum(&c->request, checksum, sizeof checksum);
    snprintf(headers, sizeof headers, "ETag: \"%032llx\"\r\n%s", (unsigned long long)number, checksum);
    write_response(c, 200, headers, "", 0);
}

static void finish_upload(struct connection *c, uint64_t id)
{
    char crc[32], type[32], checksum[256] = "", body[4096];
    unsigned parts;
    header(&c->request, "x-amz-checksum-crc64nvme", crc, sizeof crc);
    if (!complete_upload(id, crc, &parts)) {
        refuse(c, 404, "NoSuchUpload", "");
        return;
    }
    header(&c->request, "x-amz-checksum-type", type, sizeof type);
    if (crc[0])
        snprintf(checksum, sizeof checksum, "<ChecksumCRC64NVME>%s</ChecksumCRC64NVME><ChecksumType>%s</ChecksumType>",
                 crc, type[0] ? type : "FULL_OBJECT");
    const char *key = strchr(c->request.path + 1, '/');
    snprintf(body, sizeof body, "<?xml version=\"1.0\" encoding=\"UTF-8\"?><CompleteMultipartUploadResult>"
             "<Location>http://127.0.0.1%s</Location><Bucket>%.*s</Bucket><Key>%s</Key>"
             "<ETag>&quot;" OBJECT_ETAG "-%u&quot;</ETag>%s</CompleteMultipartUploadResult>",
             c->request.path, (int)(key - c->request.path - 1), c->request.path + 1, key + 1, parts, checksum);
    write_xml(c, 200, body);
}

static void cancel_upload(struct connection *c, uint64_t id)
{
    if (abort_upload(id))
        write_response(c, 204, "", "", 0);
    else
        refuse(c, 404, "NoSuchUpload", "");
}

static void put_object(struct connection *c)
{
    char checksum[256], crc[32], headers[512];
    header(&c->request, "x-amz-checksum-crc64nvme", crc, sizeof crc);
    store_object(c->request.path, payload_length(&c->request), crc);
    echoed_checksum(&c->request, checksum, sizeof checksum);
    snprintf(headers, sizeof headers, "ETag: \"" OBJECT_ETAG "\"\r\n%s", checksum);
    write_response(c, 200, headers, "", 0);
}

static void delete_object(struct connection *c)
{
    remove_object(c->request.path);
    write_response(c, 204, "", "", 0);
}

/* GET and HEAD of an object. */
static void get_object(struct connection *c, bool with_body)
{
    struct object object;
    if (!find_object(c->request.path, &object)) {
        refuse(c, 404, "NoSuchKey", "");
        return;
    }
    char etag[64], wanted[128], headers[1024], range[128] = "", checksum[160] = "";
    if (object.parts)
        snprintf(etag, sizeof etag, "\"" OBJECT_ETAG "-%u\"", object.parts);
    else
        snprintf(etag, sizeof etag, "\"" OBJECT_ETAG "\"");
    if (header(&c->request, "If-Match", wanted, sizeof wanted) && strcmp(wanted, etag) != 0 && strcmp(wanted, "*") != 0) {
        refuse(c, 412, "PreconditionFailed", "");
        return;
    }
    uint64_t first = 0, length = object.size;
    int ranged = parse_range(&c->request, object.size, &first, &length);
    if (ranged < 0) {
        snprintf(range, sizeof range, "Content-Range: bytes */%llu\r\n", (unsigned long long)object.size);
        refuse(c, 416, "InvalidRange", range);
        return;
    }
    if (ranged) {
        counters.partial++;
        snprintf(range, sizeof range, "Content-Range: bytes %llu-%llu/%llu\r\n", (unsigned long long)first,
                 (unsigned long long)(first + length - 1), (unsigned long long)object.size);
    } else if (!with_body && object.crc64nvme[0]) {
        /* In HEAD only: GET sends the pattern and not the bytes that were written. */
        snprintf(checksum, sizeof checksum, "x-amz-checksum-crc64nvme: %s\r\nx-amz-checksum-type: FULL_OBJECT\r\n",
                 object.crc64nvme);
    }
    snprintf(headers, sizeof headers, "ETag: %s\r\nLast-Modified: " LAST_MODIFIED "\r\nAccept-Ranges: bytes\r\n"
             "Content-Type: application/octet-stream\r\n%s%s", etag, range, checksum);
    write_response(c, ranged ? 206 : 200, headers, "", length);
    if (with_body) {
        c->file_offset = first;
        c->file_left = length;
    }
}

static void stats(struct connection *c)
{
    char body[512];
    snprintf(body, sizeof body, "{\"connections\": %llu, \"requests\": %llu, \"partial\": %llu, \"parts\": %llu, "
             "\"bytes_in\": %llu, \"bytes_out\": %llu}\n", counters.connections, counters.requests, counters.partial,
             counters.parts, counters.bytes_in, counters.bytes_out);
    write_response(c, 200, "Content-Type: application/json\r\n", body, strlen(body));
}

void respond(struct connection *c)
{
    const struct request *request = &c->request;
    const char *method = request->method, *slash = strchr(request->path + 1, '/'), *text;
    bool key = slash && slash[1];
    uint64_t id = 0;
    counters.requests++;
    if (strcmp(request->path, "/_stats") == 0)
        stats(c);
    else if (!key && (strcmp(method, "PUT") == 0 || strcmp(method, "HEAD") == 0))
        write_response(c, 200, "", "", 0); /* every bucket exists */
    else if (!key)
        refuse(c, 501, "NotImplemented", "");
    else if (strcmp(method, "POST") == 0 && parameter(request, "uploads"))
        start_upload(c);
    else if ((text = parameter(request, "uploadId")) && !parse_number(text, &id))
        refuse(c, 404, "NoSuchUpload", "");
    else if (strcmp(method, "PUT") == 0)
        id ? put_part(c, id) : put_object(c);
    else if (strcmp(method, "POST") == 0 && id)
        finish_upload(c, id);
    else if (strcmp(method, "DELETE") == 0)
        id ? cancel_upload(c, id) : delete_object(c);
    else if (!id && (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0))
        get_object(c, method[0] == 'G');
    else
        refuse(c, 501, "NotImplemented", "");
}
