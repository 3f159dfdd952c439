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

static inline uint64_t little64(const uint8_t *p)
{
    return (uint64_t)little32(p + 4) << 32 | little32(p);
}

static inline uint8_t *put16(uint8_t *p, uint32_t value)
{
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
    return p + 2;
}

static inline uint8_t *put32(uint8_t *p, uint32_t value)
{
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
    p[2] = (uint8_t)(value >> 16);
    p[3] = (uint8_t)(value >> 24);
    return p + 4;
}

static inline uint8_t *put64(uint8_t *p, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(value >> 8 * i);
    return p + 8;
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
