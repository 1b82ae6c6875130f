/* CRC64NVME: polynomial 0xad93d23594c93659, reflected, initial value and final xor all ones.
 *
 * Sixteen 128-bit lanes are folded over 256 bytes at a time, four in one register where the processor has such
 * registers. In the reflected domain a product of two 64-bit factors is shifted by one bit, so a lane moves by n bits with the constants x^(n+63) and x^(n-1) modulo the polynomial.
 * The 16 bytes that remain, and the tail, go through a table. */
#include "crc64nvme.h"

#include <stdbool.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define REFLECTED 0x9a6c9329ac4bc9b5u

enum { LANES = 16, LANE = 16, BLOCK = LANES * LANE };

static uint64_t table[256];
static uint64_t fold_block[2], fold_lane[2];
/* Except on x86-64, the table does all the work, and the floor with a CRC is not a floor. */
static bool can_multiply, can_multiply_wide;

/* x^exponent modulo the polynomial, reflected: bit 63 is the coefficient of x^0. */
static uint64_t power(unsigned exponent)
{
    uint64_t value = 1ull << 63;
    while (exponent--)
        value = value >> 1 ^ (value & 1 ? REFLECTED : 0);
    return value;
}

void crc64nvme_prepare(bool narrow)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        uint64_t value = byte;
        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? REFLECTED : 0);
        table[byte] = value;
    }
    fold_block[0] = power(8 * BLOCK + 63);
    fold_block[1] = power(8 * BLOCK - 1);
    fold_lane[0] = power(8 * LANE + 63);
    fold_lane[1] = power(8 * LANE - 1);
#if defined(__x86_64__)
    can_multiply = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
    can_multiply_wide = can_multiply && !narrow && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("vpclmulqdq");
#endif
}

static uint64_t by_table(uint64_t crc, const unsigned char *data, size_t length)
{
    while (length--)
        crc = crc >> 8 ^ table[(unsigned char)crc ^ *data++];
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("pclmul,sse4.1"))) static inline __m128i folded(__m128i lane, __m128i constants, __m128i next)
{
    __m128i low = _mm_clmulepi64_si128(lane, constants, 0x00), high = _mm_clmulepi64_si128(lane, constants, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

/* The lanes after all whole blocks of `data`; `length` is at least BLOCK. */
__attribute__((target("pclmul,sse4.1"))) static void fold_blocks(__m128i lanes[LANES], const unsigned char *data, size_t length)
{
    const __m128i constants = _mm_set_epi64x(fold_block[1], fold_block[0]);
    for (data += BLOCK, length -= BLOCK; length >= BLOCK; data += BLOCK, length -= BLOCK)
        for (int i = 0; i < LANES; i++)
            lanes[i] = folded(lanes[i], constants, _mm_loadu_si128((const __m128i *)(data + i * LANE)));
}

/* The same, four lanes at a time. */
__attribute__((target("avx512f,vpclmulqdq"))) static void fold_wide(__m128i lanes[LANES], const unsigned char *data, size_t length)
{
    const __m512i constants = _mm512_broadcast_i32x4(_mm_set_epi64x(fold_block[1], fold_block[0]));
    __m512i wide[LANES / 4];
    for (int i = 0; i < LANES / 4; i++)
        wide[i] = _mm512_loadu_si512(lanes + 4 * i);
    for (data += BLOCK, length -= BLOCK; length >= BLOCK; data += BLOCK, length -= BLOCK)
        for (int i = 0; i < LANES / 4; i++) {
            __m512i low = _mm512_clmulepi64_epi128(wide[i], constants, 0x00);
            __m512i high = _mm512_clmulepi64_epi128(wide[i], constants, 0x11);
            __m512i next = _mm512_loadu_si512(data + i * 4 * LANE);
            wide[i] = _mm512_ternarylogic_epi64(low, high, next, 0x96); /* their xor */
        }
    for (int i = 0; i < LANES / 4; i++)
        _mm512_storeu_si512(lanes + 4 * i, wide[i]);
}

/* `length` is at least BLOCK. */
__attribute__((target("pclmul,sse4.1"))) static uint64_t by_folding(uint64_t crc, const unsigned char *data, size_t length)
{
    const __m128i over_lane = _mm_set_epi64x(fold_lane[1], fold_lane[0]);
    __m128i lanes[LANES];
    for (int i = 0; i < LANES; i++)
        lanes[i] = _mm_loadu_si128((const __m128i *)(data + i * LANE));
    lanes[0] = _mm_xor_si128(lanes[0], _mm_set_epi64x(0, crc));
    (can_multiply_wide ? fold_wide : fold_blocks)(lanes, data, length);
    data += length / BLOCK * BLOCK;
    length %= BLOCK;
    __m128i last = lanes[0];
    for (int i = 1; i < LANES; i++)
        last = folded(last, over_lane, lanes[i]);
    for (; length >= LANE; data += LANE, length -= LANE)
        last = folded(last, over_lane, _mm_loadu_si128((const __m128i *)data));
    unsigned char rest[LANE];
    _mm_storeu_si128((__m128i *)rest, last);
    return by_table(by_table(0, rest, LANE), data, length);
}
#else
static uint64_t by_folding(uint64_t crc, const unsigned char *data, size_t length)
{
    return by_table(crc, data, length);
}
#endif

uint64_t crc64nvme(const void *data, size_t length)
{
    return ~(can_multiply && length >= BLOCK ? by_folding(~0ull, data, length) : by_table(~0ull, data, length));
}

void crc64nvme_base64(uint64_t crc, char text[13])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int i = 0; i < 11; i++) {
        int shift = 58 - 6 * i; /* the last digit holds 4 bits and two zeros */
        text[i] = digits[(shift >= 0 ? crc >> shift : crc << -shift) & 63];
    }
    memcpy(text + 11, "=", 2);
}
