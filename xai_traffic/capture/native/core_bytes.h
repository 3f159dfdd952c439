/* Bytes of hostile input: loads, stores, and hashes under a secret. Part of the capture core. */
#ifndef XAI_TRAFFIC_CORE_BYTES_H
#define XAI_TRAFFIC_CORE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static inline uint16_t big16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }

static inline uint16_t little16(const uint8_t *p) { return (uint16_t)(p[1] << 8 | p[0]); }

static inline uint32_t big32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint32_t little32(const uint8_t *p)
{
    return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

/* A value whose bytes in memory are in little-endian order. */
static inline uint64_t ordered64(uint64_t value)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap64(value);
#else
    return value;
#endif
}

static inline uint64_t little64(const uint8_t *p)
{
    uint64_t value;
    memcpy(&value, p, sizeof value);
    return ordered64(value);
}

static inline uint8_t *put64(uint8_t *p, uint64_t value)
{
    value = ordered64(value);
    memcpy(p, &value, sizeof value);
    return p + sizeof value;
}

static inline uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* How far a TCP sequence number lies after another: they are compared modulo 2^32 (RFC 9293). */
static inline int32_t after(uint32_t a, uint32_t b) { return (int32_t)(a - b); }

static inline uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Hash bytes under a secret: whoever does not know it cannot choose bytes that meet. */
static inline uint64_t hash_bytes(const uint64_t secret[4], const uint8_t *p, size_t n, uint64_t seed)
{
    uint64_t h = mix(seed ^ secret[0], n ^ secret[1]);
    for (; n > 16; p += 16, n -= 16)
        h = mix(little64(p) ^ secret[2] ^ h, little64(p + 8) ^ secret[3]);
    uint8_t last[16] = {0};
    if (n)
        memcpy(last, p, n);
    h = mix(little64(last) ^ secret[2] ^ h, little64(last + 8) ^ secret[3]);
    return mix(h ^ secret[1], secret[0]);
}

#endif
