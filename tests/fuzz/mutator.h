/* A mutator that knows captures: it changes records and headers, and keeps the lengths right.
 *
 * Blind mutations mostly break the format, and what lies behind is never read. The core's own
 * decoder tells where the headers are. Once in a while the bytes are changed blindly all the same.
 */
#ifndef MUTATOR_H
#define MUTATOR_H

#include "packet_changes.h"

#ifndef BLIND

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *data, size_t size, const uint8_t *other,
                                 size_t other_size, uint8_t *out, size_t most, unsigned seed);

/* A filter program that makes sense, mostly. */
static void make_program(uint8_t *p, size_t size)
{
    static const uint32_t values[] = {80 | 80u << 16, 1000 | 2000u << 16, 0xFFFF0000, 6, 17, 90};
    size_t depth = 0;
    for (size_t left = size / INSTRUCTION_SIZE; left; left--, p += INSTRUCTION_SIZE) {
        uint32_t value = ANY_OF(values);
        memset(p, 0, INSTRUCTION_SIZE);
        p[0] = (uint8_t)(depth > 1 && depth >= left ? OP_AND + below(2) : OP_PROTOCOL + below(6));
        if (depth && one_in(5))
            p[0] = OP_NOT;
        p[1] = (uint8_t)below(4);
        p[2] = one_in(2) ? 4 : 6;
        p[3] = (uint8_t)(p[0] == OP_NET ? below(34) : 0);
        memcpy(p + 4, &value, 4);
        p[8] = one_in(2) ? 10 : 0xFD;
        depth += p[0] >= OP_PROTOCOL;
        depth -= p[0] <= OP_OR;
        if (one_in(40))
            p[below(8)] = (uint8_t)below(256);
    }
}

/* A block that is none of a packet, with something wrong perhaps. */
static Piece odd_block(void)
{
    static const uint32_t lengths[] = {0, 8, 12, 16, 20, 24, 28, 30, 0xFFFFFFFC};
    Piece piece = one_in(4) ? section_piece(&model)
                            : interface_piece(&model, ANY_OF(known_links), (int)below(256));
    if (one_in(2) && piece.bytes.n == 28 && piece.bytes.p[20]) { /* seconds to add to all times */
        Bytes block = joined(piece.bytes.p, 16, take_bytes(24));
        put_word(&model, block.p + 4, 40);
        put_word(&model, block.p + 16, model.big ? 14u << 16 | 8 : 14 | 8u << 16);
        put_word(&model, block.p + 20, below(2) ? below(9) : (uint32_t)-1);
        put_word(&model, block.p + 24, below(2) ? below(9) : (uint32_t)-1);
        put_word(&model, block.p + 36, 40);
        piece.bytes = block;
    }
    if (one_in(6)) /* of a kind that is passed over, or cut of its options */
        put_word(&model, piece.bytes.p, below(12));
    if (one_in(6))
        put_word(&model, piece.bytes.p + 4 + 4 * below(4), ANY_OF(lengths));
    if (one_in(6))
        change_bytes(&piece);
    return piece;
}

static void change_model(uint8_t *options)
{
    Piece *piece = some_packet();
    unsigned at = piece ? (unsigned)(piece - model.pieces) : 0;
    if (!piece) {
        if (model.sectioned && model.count < 2)
            insert_piece(&model, model.count, interface_piece(&model, 1, -1));
        insert_piece(&model, model.count, new_packet());
        return;
    }
    switch (below(16)) {
    case 0: { /* again, perhaps with a difference */
        Piece copy = *piece;
        copy.bytes = copy_of(piece->bytes.p, piece->bytes.n);
        if (one_in(2))
            change_packet(&copy);
        insert_piece(&model, one_in(2) ? at + 1 : below(model.count + 1), copy);
        break;
    }
    case 1: {
        Piece *other = &model.pieces[below(model.count)], kept = *piece;
        *piece = *other;
        *other = kept;
        break;
    }
    case 2:
        memmove(piece, piece + 1, (--model.count - at) * sizeof *piece);
        break;
    case 3:
        insert_piece(&model, below(model.count + 1), new_packet());
        break;
    case 4:
        fragment(at);
        break;
    case 5:
        if (one_in(4))
            change_link();
        break;
    case 6:
        if (one_in(8))
            change_format(&model);
        else if (model.sectioned && one_in(2))
            piece->kind = one_in(2) ? OLD_PACKET : one_in(3) ? SIMPLE_PACKET : ENHANCED_PACKET;
        else if (model.sectioned)
            insert_piece(&model, below(model.count + 1), odd_block());
        break;
    case 7: { /* ask for quiet sessions around this time */
        uint64_t time = piece->high * UINT64_C(1000000000) + piece->low * UINT64_C(1000);
        if (model.sectioned)
            time = ((uint64_t)piece->high << 32 | piece->low) * 1000;
        time += below(3) - 1;
        memcpy(options + 8, &time, 8); /* on a little-endian machine */
        options[6] = (uint8_t)!one_in(3);
        break;
    }
    case 8:
        options[below(7)] = (uint8_t)below(256);
        if (one_in(16))
            options[7] = (uint8_t)below(256);
        break;
    default:
        change_packet(piece);
    }
}

/* Bytes before the capture: options and the input's own program. */
static size_t head_of(const uint8_t *data, size_t size)
{
    Input input;
    return take_apart(data, size, &input) ? size - input.size : size;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    static uint8_t out[1 << 20];
    chance = (seed + UINT64_C(1)) * UINT64_C(0x9E3779B97F4A7C15);
    arena_used = 0;
    if (most < 256 || one_in(10))
        return LLVMFuzzerMutate(data, size, most);
    if (size < OPTIONS) {
        memset(data + size, 0, OPTIONS - size);
        size = OPTIONS;
    }
    size_t head = head_of(data, size);
    read_model(&model, data + head, size - head);
    for (uint32_t changes = 1 + below(4); changes; changes--)
        change_model(data);
    size_t own = data[2] < OWN_PROGRAM ? 0 : (size_t)((data[2] - OWN_PROGRAM) % 13 * INSTRUCTION_SIZE);
    if (own > most - OPTIONS - 32)
        own = 0;
    if (own != head - OPTIONS || one_in(20))
        make_program(data + OPTIONS, own);
    most = most < sizeof out ? most : sizeof out;
    size_t written = write_model(&model, out, most - OPTIONS - own);
    memcpy(data + OPTIONS + own, out, written);
    return OPTIONS + own + written;
}

/* Packets of the other capture among those of the first. */
size_t LLVMFuzzerCustomCrossOver(const uint8_t *data, size_t size, const uint8_t *other,
                                 size_t other_size, uint8_t *out, size_t most, unsigned seed)
{
    static Model from;
    chance = (seed + UINT64_C(1)) * UINT64_C(0x9E3779B97F4A7C15);
    arena_used = 0;
    size_t head = head_of(data, size), other_head = head_of(other, other_size);
    if (most < head + 256 || size < OPTIONS || other_size < OPTIONS)
        return 0;
    read_model(&model, data + head, size - head);
    read_model(&from, other + other_head, other_size - other_head);
    for (unsigned i = 0, wanted = 1 + below(8); from.count && i < wanted; i++) {
        Piece piece = from.pieces[below(from.count)];
        if (piece.kind || (model.sectioned && from.sectioned && model.big == from.big))
            insert_piece(&model, below(model.count + 1), piece);
    }
    memcpy(out, data, head);
    return head + write_model(&model, out + head, most - head);
}

#endif
#endif
