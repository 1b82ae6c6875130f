/* What is stored: sizes and checksums of objects and parts. Safe to call from any thread. */
#ifndef CATALOGUE_H
#define CATALOGUE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    PERIOD = 16385 * 4096, /* 64 MiB and one page */
    PATH_LIMIT = 1100,     /* a bucket and a key of 1024 bytes */
    MAX_PARTS = 10000,
};

struct object {
    char path[PATH_LIMIT];
    uint64_t size;
    unsigned parts; /* 0: written by one PutObject, or made up from its name */
    char crc64nvme[32];
};

int make_pattern(void); /* a descriptor of PERIOD bytes */
void store_object(const char *path, uint64_t size, const char *crc64nvme);
void remove_object(const char *path);
bool find_object(const char *path, struct object *found);

uint64_t create_upload(const char *path);

/* Each of these returns false when there is no such upload. */
bool store_part(uint64_t id, unsigned number, uint64_t size);
bool complete_upload(uint64_t id, const char *crc64nvme, unsigned *parts);
bool abort_upload(uint64_t id);

#endif
