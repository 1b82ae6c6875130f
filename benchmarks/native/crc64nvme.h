/* CRC64NVME of memory, by carry-less multiplication where the processor has it. */
#ifndef CRC64NVME_H
#define CRC64NVME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint64_t crc64nvme(const void *data, size_t length);
void crc64nvme_prepare(bool narrow);                /* once, before crc64nvme is called; narrow: without AVX-512 */
void crc64nvme_base64(uint64_t crc, char text[13]); /* as S3's header has it: big-endian, base64, terminated */

#endif
