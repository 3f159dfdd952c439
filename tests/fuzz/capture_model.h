/* A capture as records that can be moved, changed and written again with lengths that are right. */
#ifndef CAPTURE_MODEL_H
#define CAPTURE_MODEL_H

#include "fuzz_run.h"

/* ---- Chance and memory of one mutation ----------------------------------------------------- */

static uint64_t chance = 1;

static uint32_t below(uint32_t n) /* n > 0 */
{
    chance ^= chance << 13, chance ^= chance >> 7, chance ^= chance << 17;
    return (uint32_t)((chance >> 32) * n >> 32);
}

static bool one_in(uint32_t n) { return below(n) == 0; }

#define ANY_OF(array) ((array)[below(sizeof(array) / sizeof *(array))])

enum { ARENA = 8 << 20, MOST_PIECES = 2000, LONGEST_PIECE = 80000 };
static uint8_t arena[ARENA];
static size_t arena_used;

/* Never fails: what does not fit is made short. */
typedef struct {
    uint8_t *p;
    uint32_t n;
} Bytes;

static Bytes take_bytes(size_t n)
{
    if (n > ARENA - arena_used)
        n = ARENA - arena_used;
    Bytes taken = {arena + arena_used, (uint32_t)n};
    arena_used += n;
    memset(taken.p, 0, n);
    return taken;
}

static Bytes copy_of(const uint8_t *p, size_t n)
{
    Bytes copy = take_bytes(n);
    if (copy.n)
        memcpy(copy.p, p, copy.n);
    return copy;
}

static Bytes joined(const void *head, size_t n, Bytes tail)
{
    if (n + tail.n > LONGEST_PIECE)
        return tail;
    Bytes whole = take_bytes(n + tail.n);
    size_t first = n < whole.n ? n : whole.n;
    if (first)
        memcpy(whole.p, head, first);
    if (whole.n > first)
        memcpy(whole.p + first, tail.p, whole.n - first);
    return whole;
}

/* ---- The model ----------------------------------------------------------------------------- */

/* A packet, or bytes of a block that is none (`kind` is RAW). */
enum { RAW = 0 };
typedef struct {
    Bytes bytes;
    uint32_t high, low; /* time as it stands: seconds and their fraction, or halves of units */
    uint32_t interface, missing; /* bytes on the wire that were not captured */
    uint32_t kind;
} Piece;

typedef struct {
    bool sectioned, big; /* pcapng; byte order */
    uint8_t header[24];  /* of pcap */
    uint16_t link;       /* of pcap, or of the latest interface */
    Piece pieces[MOST_PIECES];
    unsigned count;
} Model;

static uint8_t *put_word(const Model *model, uint8_t *p, uint32_t value)
{
    uint32_t swapped = model->big ? __builtin_bswap32(value) : value;
    memcpy(p, &swapped, 4);
    return p + 4;
}

static uint32_t get_word(const Model *model, const uint8_t *p)
{
    return model->big ? big32(p) : little32(p);
}

static void insert_piece(Model *model, unsigned at, Piece piece)
{
    if (model->count == MOST_PIECES || arena_used > ARENA / 2)
        return;
    memmove(&model->pieces[at + 1], &model->pieces[at], (model->count - at) * sizeof piece);
    model->pieces[at] = piece;
    model->count++;
}

static Piece raw_piece(const uint8_t *p, size_t n) { return (Piece){.bytes = copy_of(p, n)}; }

/* Take a capture apart; what makes no sense, and all behind it, stays a raw piece. */
static void read_model(Model *model, const uint8_t *p, size_t n)
{
    model->count = 0;
    model->sectioned = n >= 12 && big32(p) == SECTION_HEADER;
    model->big = model->sectioned && big32(p + 8) == 0x1A2B3C4D;
    model->link = 1;
    if (!model->sectioned) {
        uint32_t magic = n >= 24 ? big32(p) : 0;
        model->big = magic == 0xA1B2C3D4 || magic == 0xA1B23C4D;
        if (!model->big && magic != 0xD4C3B2A1 && magic != 0x4D3CB2A1) {
            static const uint8_t plain[24] = {0xD4, 0xC3, 0xB2, 0xA1, 2, 0, 4, 0, [20] = 1};
            memcpy(model->header, plain, 24);
            return;
        }
        memcpy(model->header, p, 24);
        model->link = (uint16_t)get_word(model, p + 20);
        p += 24, n -= 24;
    }
    while (n && model->count < MOST_PIECES) {
        uint32_t fixed = 16, length = n >= 16 ? get_word(model, p + (model->sectioned ? 4 : 8)) : 0;
        uint64_t size = model->sectioned ? length : 16 + (uint64_t)length;
        if (n < 16 || size < 12 || size > n || size > LONGEST_PIECE) {
            insert_piece(model, model->count, raw_piece(p, n < LONGEST_PIECE ? n : LONGEST_PIECE));
            return;
        }
        Piece piece = raw_piece(p, size);
        uint32_t type = get_word(model, p);
        if (!model->sectioned) {
            piece = (Piece){.bytes = copy_of(p + 16, length),
                            .high = get_word(model, p),
                            .low = get_word(model, p + 4),
                            .missing = get_word(model, p + 12) - length,
                            .kind = ENHANCED_PACKET};
        } else if (type == INTERFACE && size >= 20) {
            model->link = model->big ? big16(p + 8) : little16(p + 8);
        } else if (type == SIMPLE_PACKET && size >= 16) {
            length = least(get_word(model, p + 8), (uint32_t)size - 16);
            piece.bytes = copy_of(p + 12, length);
            piece.missing = get_word(model, p + 8) - length;
            piece.kind = type;
        } else if ((type == ENHANCED_PACKET || type == OLD_PACKET) && size >= 32) {
            fixed = 28;
            length = least(get_word(model, p + 20), (uint32_t)size - 32);
            piece = (Piece){.bytes = copy_of(p + fixed, length),
                            .high = get_word(model, p + 12),
                            .low = get_word(model, p + 16),
                            .interface = get_word(model, p + 8),
                            .missing = get_word(model, p + 24) - length,
                            .kind = type};
        }
        insert_piece(model, model->count, piece);
        p += size, n -= size;
    }
}

/* Return the bytes written; pieces that do not fit are left out. */
static size_t write_model(const Model *model, uint8_t *out, size_t room)
{
    uint8_t *p = out;
    if (!model->sectioned) {
        if (room < 24)
            return 0;
        memcpy(p, model->header, 24);
        put_word(model, p + 20, model->link);
        p += 24;
    }
    for (unsigned i = 0; i < model->count; i++) {
        const Piece *piece = &model->pieces[i];
        uint32_t n = piece->bytes.n, padded = (n + 3) & ~3u;
        if (room - (size_t)(p - out) < (size_t)padded + 32)
            break;
        if (piece->kind && !model->sectioned) {
            p = put_word(model, put_word(model, p, piece->high), piece->low);
            p = put_word(model, put_word(model, p, n), n + piece->missing);
        } else if (piece->kind) {
            uint32_t size = padded + (piece->kind == SIMPLE_PACKET ? 16 : 32);
            p = put_word(model, put_word(model, p, piece->kind), size);
            if (piece->kind == SIMPLE_PACKET) {
                p = put_word(model, p, n + piece->missing);
            } else {
                p = put_word(model, put_word(model, p, piece->interface), piece->high);
                p = put_word(model, put_word(model, p, piece->low), n);
                p = put_word(model, p, n + piece->missing);
            }
            if (n)
                memcpy(p, piece->bytes.p, n);
            memset(p + n, 0, padded - n);
            p = put_word(model, p + padded, size);
            continue;
        }
        if (n)
            memcpy(p, piece->bytes.p, n);
        p += n;
    }
    return (size_t)(p - out);
}

/* ---- What the mutator does to whole captures ----------------------------------------------- */

static Piece section_piece(const Model *model)
{
    Bytes block = take_bytes(28);
    static const uint8_t head[4] = {0x0A, 0x0D, 0x0D, 0x0A};
    if (block.n < 28)
        return (Piece){.bytes = block};
    memcpy(block.p, head, 4);
    put_word(model, put_word(model, block.p + 4, 28), 0x1A2B3C4D);
    memset(block.p + 16, 0xFF, 8);
    put_word(model, block.p + 24, 28);
    return (Piece){.bytes = block};
}

static Piece interface_piece(const Model *model, uint16_t link, int resolution)
{
    uint32_t size = resolution < 0 ? 20 : 28;
    Bytes block = take_bytes(size);
    if (block.n < size)
        return (Piece){.bytes = block};
    put_word(model, put_word(model, block.p, INTERFACE), size);
    put_word(model, block.p + 8, model->big ? (uint32_t)link << 16 : link);
    if (resolution >= 0) {
        put_word(model, block.p + 16, model->big ? 9u << 16 | 1 : 9 | 1u << 16);
        block.p[20] = (uint8_t)resolution;
    }
    put_word(model, block.p + size - 4, size);
    return (Piece){.bytes = block};
}

/* Write the same packets in the other format. */
static void change_format(Model *model)
{
    for (unsigned i = 0; i < model->count; i++) {
        Piece *piece = &model->pieces[i];
        uint64_t units = model->sectioned ? (uint64_t)piece->high << 32 | piece->low
                                          : piece->high * UINT64_C(1000000) + piece->low;
        piece->high = (uint32_t)(model->sectioned ? units / 1000000 : units >> 32);
        piece->low = (uint32_t)(model->sectioned ? units % 1000000 : units);
        piece->interface = 0;
    }
    if (model->sectioned) {
        static const uint8_t magics[4][4] = {{0xD4, 0xC3, 0xB2, 0xA1},
                                             {0x4D, 0x3C, 0xB2, 0xA1},
                                             {0xA1, 0xB2, 0xC3, 0xD4},
                                             {0xA1, 0xB2, 0x3C, 0x4D}};
        memset(model->header, 0, 24);
        memcpy(model->header, magics[below(2) + 2 * model->big], 4);
        unsigned kept = 0;
        for (unsigned i = 0; i < model->count; i++)
            if (model->pieces[i].kind)
                model->pieces[kept++] = model->pieces[i];
        model->count = kept;
        for (unsigned i = 0; i < kept; i++)
            model->pieces[i].kind = ENHANCED_PACKET;
    } else {
        insert_piece(model, 0, interface_piece(model, model->link, -1));
        insert_piece(model, 0, section_piece(model));
    }
    model->sectioned = !model->sectioned;
}

#endif
