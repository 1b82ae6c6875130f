/* Prints the base64 CRC64NVME of standard input, so that the harness can compare it with a library's.
 *
 * usage: crc_check [SKIP [narrow]]        SKIP bytes are left out in front, so that unaligned memory is tried too */
#include "crc64nvme.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    size_t skip = argc > 1 ? strtoul(argv[1], NULL, 10) : 0, capacity = 1 << 16, length = 0, got;
    unsigned char *data = malloc(capacity);
    while (data && (got = fread(data + length, 1, capacity - length, stdin)) > 0) {
        length += got;
        if (length == capacity)
            data = realloc(data, capacity *= 2);
    }
    if (!data || skip > length)
        return 1;
    char text[13];
    crc64nvme_prepare(argc > 2);
    crc64nvme_base64(crc64nvme(data + skip, length - skip), text);
    puts(text);
    return 0;
}
