/* The floor of uploads: threads that send parts from memory that has been touched, one gathered sendmsg for head and
 * body, and wait for each answer. With --crc each part's CRC64NVME is computed first and sent with it. The parts go to
 * an upload id that the discard server has given; the object is completed within the measured time. */
#define _GNU_SOURCE
#include "floor.h"

#include "crc64nvme.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OBJECT "/benchmarks/put-floor"

static struct options options;
static unsigned char *source;
static int sockets[FLOOR_THREADS];
static atomic_ullong next_part;
static char upload_id[64];

/* A request with a short answer; the answer's body is left in `response->body`. */
static void ask(int fd, struct response *response, const char *method, const char *target)
{
    char head[512];
    size_t length = snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", method, target);
    send_all(fd, head, length, NULL, 0);
    read_response(fd, response);
    if (response->beside < response->length)
        fail("an answer came in pieces");
    ((char *)response->body)[response->length] = 0;
}

static void send_part(int fd, uint64_t number)
{
    struct response response;
    uint64_t offset = number * options.part_size, left = options.size - offset;
    uint64_t length = left < options.part_size ? left : options.part_size;
    char head[512], checksum[64] = "", text[13];
    if (options.crc) {
        crc64nvme_base64(crc64nvme(source + offset, length), text);
        snprintf(checksum, sizeof checksum, "x-amz-checksum-crc64nvme: %s\r\n", text);
    }
    size_t head_length = snprintf(head, sizeof head, "PUT " OBJECT "?partNumber=%llu&uploadId=%s HTTP/1.1\r\n"
                                  "Host: localhost\r\nContent-Length: %llu\r\n%s\r\n", (unsigned long long)number + 1,
                                  upload_id, (unsigned long long)length, checksum);
    send_all(fd, head, head_length, source + offset, length);
    read_response(fd, &response);
}

static void *work(void *number)
{
    int fd = sockets[(intptr_t)number];
    uint64_t parts = (options.size + options.part_size - 1) / options.part_size;
    for (uint64_t part; (part = atomic_fetch_add(&next_part, 1)) < parts;)
        send_part(fd, part);
    return NULL;
}

static void upload(void)
{
    struct response response;
    char target[256];
    ask(sockets[0], &response, "POST", OBJECT "?uploads=");
    const char *id = strstr(response.body, "<UploadId>");
    if (!id || sscanf(id, "<UploadId>%63[^<]", upload_id) != 1)
        fail("no upload id");
    next_part = 0;
    in_threads(options.threads, work);
    snprintf(target, sizeof target, OBJECT "?uploadId=%s", upload_id);
    ask(sockets[0], &response, "POST", target);
}

int main(int argc, char **argv)
{
    options = read_options(argc, argv);
    crc64nvme_prepare(false);
    source = map_memory(options.size, true, true);
    for (int i = 0; i < options.threads; i++)
        sockets[i] = connect_to(options.port);
    measure(&options, NULL, upload, options.size);
    return 0;
}
