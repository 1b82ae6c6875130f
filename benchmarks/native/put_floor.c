/* The floor of uploads: threads that send parts from memory that has been touched, one gathered sendmsg for head and
 * body, and wait for each response. With --crc each part's CRC64NVME is computed first and sent with it. With --fill each
 * thread copies a part into memory of its own before that, as a caller fills what it has reserved. The parts go to an
 * upload id that the discard server has given; the object is completed within the measured time. */
#define _GNU_SOURCE
#include "floor.h"

#include "crc64nvme.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OBJECT "/benchmarks/put-floor"

/* contender.py fills from a source of this length and one part, and reads it repeatedly: a longer source would cost
 * more, because that one stays in the processor's caches. */
enum { FILL_PERIOD = 16385 * 4096 };

static struct options options;
static unsigned char *source;
static unsigned char *filled[FLOOR_THREADS]; /* one part for each thread, with --fill */
static int sockets[FLOOR_THREADS];
static atomic_ullong next_part;
static char upload_id[64];

/* A request with a short response, whose body is left in `response->body`. */
static void ask(int fd, struct response *response, const char *method, const char *target)
{
    char head[512];
    size_t length = snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", method, target);
    send_all(fd, head, length, NULL, 0);
    read_response(fd, response);
    if (response->beside < response->length)
        fail("a response came in pieces");
    ((char *)response->body)[response->length] = 0;
}

/* Where a part is sent from. What was filled begins with the part's number, which occurs nowhere in the source: so a
 * receiver can tell them apart. */
static const unsigned char *memory_of(uint64_t number, uint64_t length, intptr_t thread)
{
    uint64_t offset = number * options.part_size;
    if (!options.fill)
        return source + offset;
    memcpy(filled[thread], source + offset % FILL_PERIOD, length);
    number++;
    return memcpy(filled[thread], &number, length < sizeof number ? length : sizeof number);
}

static void send_part(uint64_t number, intptr_t thread)
{
    struct response response;
    uint64_t left = options.size - number * options.part_size;
    uint64_t length = left < options.part_size ? left : options.part_size;
    const unsigned char *part = memory_of(number, length, thread);
    char head[512], checksum[64] = "", text[13];
    if (options.crc) {
        crc64nvme_base64(crc64nvme(part, length), text);
        snprintf(checksum, sizeof checksum, "x-amz-checksum-crc64nvme: %s\r\n", text);
    }
    size_t head_length = snprintf(head, sizeof head, "PUT " OBJECT "?partNumber=%llu&uploadId=%s HTTP/1.1\r\n"
                                  "Host: localhost\r\nContent-Length: %llu\r\n%s\r\n", (unsigned long long)number + 1,
                                  upload_id, (unsigned long long)length, checksum);
    send_all(sockets[thread], head, head_length, part, length);
    read_response(sockets[thread], &response);
}

static void *work(void *thread)
{
    uint64_t parts = (options.size + options.part_size - 1) / options.part_size;
    for (uint64_t part; (part = atomic_fetch_add(&next_part, 1)) < parts;)
        send_part(part, (intptr_t)thread);
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
    source = map_memory(options.fill ? FILL_PERIOD + options.part_size : options.size, true, true);
    for (int i = 0; i < options.threads; i++) {
        sockets[i] = connect_to(options.port);
        filled[i] = options.fill ? map_memory(options.part_size, true, true) : NULL;
    }
    measure(&options, NULL, upload, options.size);
    return 0;
}
