/* What the discard server has stored: sizes and checksums, never contents. One lock guards it all; a request of many MiB
 * takes it a few times. An object whose name ends in size-NNN exists without being stored. */
#define _GNU_SOURCE
#include "catalogue.h"

#include "failing.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { KEPT_OBJECTS = 1024 }; /* beyond that the oldest is removed */

struct upload {
    struct upload *next;
    uint64_t id;
    char path[PATH_LIMIT];
    uint64_t sizes[MAX_PARTS + 1];
    bool stored[MAX_PARTS + 1];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the five below */
static struct upload *uploads;
static uint64_t last_upload_id;
static struct object objects[KEPT_OBJECTS];
static uint64_t hashes[KEPT_OBJECTS]; /* of their paths, close together: small objects are looked up often */
static unsigned oldest_object;

static uint64_t splitmix64(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

int make_pattern(void)
{
    int fd = memfd_create("pattern", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, PERIOD) < 0)
        die("memfd");
    uint64_t *words = mmap(NULL, PERIOD, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (words == MAP_FAILED)
        die("mmap");
    for (uint64_t i = 0; i < PERIOD / 8; i++)
        words[i] = splitmix64(i);
    munmap(words, PERIOD);
    return fd;
}

static uint64_t hash_of(const char *path)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    while (*path)
        hash = (hash ^ (unsigned char)*path++) * 0x100000001b3u;
    return hash;
}

static struct object *kept_object(const char *path)
{
    uint64_t hash = hash_of(path);
    for (unsigned i = 0; i < KEPT_OBJECTS; i++)
        if (hashes[i] == hash && strcmp(objects[i].path, path) == 0)
            return &objects[i];
    return NULL;
}

static void keep_object(const char *path, uint64_t size, unsigned parts, const char *crc64nvme)
{
    struct object *object = kept_object(path);
    if (!object) {
        object = &objects[oldest_object];
        oldest_object = (oldest_object + 1) % KEPT_OBJECTS;
    }
    snprintf(object->path, sizeof object->path, "%s", path);
    hashes[object - objects] = hash_of(path);
    snprintf(object->crc64nvme, sizeof object->crc64nvme, "%s", crc64nvme);
    object->size = size;
    object->parts = parts;
}

bool find_object(const char *path, struct object *found)
{
    pthread_mutex_lock(&lock);
    const struct object *object = kept_object(path);
    if (object)
        *found = *object;
    pthread_mutex_unlock(&lock);
    if (object)
        return true;
    const char *name = strrchr(path, '/');
    char *end;
    if (!name || strncmp(name, "/size-", 6) != 0 || name[6] < '0' || name[6] > '9')
        return false;
    errno = 0;
    *found = (struct object){.size = strtoull(name + 6, &end, 10)};
    return *end == 0 && errno == 0 && found->size <= INT64_MAX;
}

static struct upload **find_upload(uint64_t id)
{
    struct upload **at = &uploads;
    while (*at && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

void store_object(const char *path, uint64_t size, const char *crc64nvme)
{
    pthread_mutex_lock(&lock);
    keep_object(path, size, 0, crc64nvme);
    pthread_mutex_unlock(&lock);
}

void remove_object(const char *path)
{
    pthread_mutex_lock(&lock);
    struct object *object = kept_object(path);
    if (object)
        object->path[0] = 0;
    pthread_mutex_unlock(&lock);
}

uint64_t create_upload(const char *path)
{
    struct upload *upload = calloc(1, sizeof *upload);
    if (!upload)
        die("calloc");
    snprintf(upload->path, sizeof upload->path, "%s", path);
    pthread_mutex_lock(&lock);
    uint64_t id = upload->id = ++last_upload_id;
    upload->next = uploads;
    uploads = upload;
    pthread_mutex_unlock(&lock);
    return id;
}

bool store_part(uint64_t id, unsigned number, uint64_t size)
{
    pthread_mutex_lock(&lock);
    struct upload *upload = *find_upload(id);
    if (upload) {
        upload->sizes[number] = size;
        upload->stored[number] = true;
    }
    pthread_mutex_unlock(&lock);
    return upload != NULL;
}

bool complete_upload(uint64_t id, const char *crc64nvme, unsigned *parts)
{
    pthread_mutex_lock(&lock);
    struct upload **at = find_upload(id), *upload = *at;
    *parts = 0;
    if (upload) {
        uint64_t size = 0;
        for (int number = 1; number <= MAX_PARTS; number++) {
            *parts += upload->stored[number];
            size += upload->sizes[number];
        }
        keep_object(upload->path, size, *parts, crc64nvme);
        *at = upload->next;
    }
    pthread_mutex_unlock(&lock);
    free(upload);
    return upload != NULL;
}

bool abort_upload(uint64_t id)
{
    pthread_mutex_lock(&lock);
    struct upload **at = find_upload(id), *upload = *at;
    if (upload)
        *at = upload->next;
    pthread_mutex_unlock(&lock);
    free(upload);
    return upload != NULL;
}
