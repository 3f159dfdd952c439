/* What no reader of a little-endian pcap file can beat, over read() calls of 512 KiB.
 *
 *     limits read FILE     nothing but read()
 *     limits walk FILE     and a step from record to record, whose lengths are summed
 *     limits copy FILE     and 256 bytes of each packet copied, as tiles would be
 *
 * Prints a line of JSON: seconds by the clock, records, bytes.
 */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 512 * 1024, MOST = 262144 + 16, HEADER = 24, RECORD = 16, TILE = 256 };

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

int main(int argc, char **argv)
{
    int file = argc == 3 ? open(argv[2], O_RDONLY) : -1;
    uint8_t *room = malloc(MOST + CHUNK + TILE), *tiles = malloc(CHUNK / RECORD * TILE);
    if (file < 0 || !room || !tiles)
        return 1;
    memset(room, 0, MOST + CHUNK + TILE);
    memset(tiles, 0, CHUNK / RECORD * TILE);
    int walk = strcmp(argv[1], "read") != 0, copy = strcmp(argv[1], "copy") == 0;
    uint64_t records = 0, sum = 0, bytes = 0, kept = 0;
    size_t skip = HEADER;
    double began = now();
    for (ssize_t got; (got = read(file, room + kept, CHUNK)) > 0;) {
        bytes += (uint64_t)got;
        if (!walk)
            continue;
        const uint8_t *at = room + skip, *end = room + kept + got;
        uint8_t *tile = tiles;
        skip = 0;
        while (end - at >= RECORD) {
            uint32_t length;
            memcpy(&length, at + 8, sizeof length);
            if (length > MOST - RECORD)
                return 1;
            if ((size_t)(end - at) < RECORD + (size_t)length)
                break;
            if (copy) {
                memcpy(tile, at + RECORD, TILE); /* room for it lies behind the last packet */
                tile += TILE;
            }
            sum += length;
            records++;
            at += RECORD + length;
        }
        kept = (uint64_t)(end - at);
        memmove(room, at, kept);
    }
    printf("{\"seconds\": %.6f, \"packets\": %llu, \"bytes\": %llu, \"sum\": %llu}\n", now() - began,
           (unsigned long long)records, (unsigned long long)bytes, (unsigned long long)sum);
    return 0;
}
