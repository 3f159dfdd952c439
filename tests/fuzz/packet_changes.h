/* Changes of one packet, its headers or its datagram, that keep the lengths right. */
#ifndef PACKET_CHANGES_H
#define PACKET_CHANGES_H

#include "packet_maker.h"

#ifndef BLIND

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);

static Model model;

static uint16_t link_now(void) { return model.link; }

/* A packet by chance; NULL where there is none. */
static Piece *some_packet(void)
{
    for (int i = 0; model.count && i < 8; i++) {
        Piece *piece = &model.pieces[below(model.count)];
        if (piece->kind)
            return piece;
    }
    return NULL;
}

/* Where the headers of a packet are: its outermost or innermost ones. False if there is no IP. */
static bool look(const Piece *piece, bool innermost, Packet *packet)
{
    Frame frame = {.bytes = piece->bytes.p, .captured = piece->bytes.n, .link = link_now()};
    Pieces pieces = {0};
    return decode_any(&frame, innermost, packet, &pieces) == KEPT;
}

/* The bytes of a packet from its outermost IP header on; empty if there is none. */
static Bytes ip_of(const Piece *piece)
{
    Place place = {0, piece->bytes.n, 0};
    if (find_ip(link_now(), piece->bytes.p, &place) != KEPT || place.at >= place.limit)
        return (Bytes){NULL, 0};
    return (Bytes){piece->bytes.p + place.at, place.limit - place.at};
}

/* Change the datagram of a packet, and keep its link header. */
static void set_ip(Piece *piece, Bytes ip)
{
    uint32_t head = (uint32_t)(ip_of(piece).p - piece->bytes.p);
    piece->bytes = joined(piece->bytes.p, head, ip);
}

static void pass_time(Piece *piece)
{
    static const int32_t steps[] = {0, 1, 5, 6, 59, 60, 61, 119, 120, 121, 299, 301, 1800, -61, -1};
    int32_t seconds = ANY_OF(steps);
    if (!model.sectioned) {
        piece->high += (uint32_t)seconds;
        return;
    }
    uint64_t units = (uint64_t)piece->high << 32 | piece->low;
    units += (uint64_t)(int64_t)seconds * 1000000;
    piece->high = (uint32_t)(units >> 32);
    piece->low = (uint32_t)units;
}

static Piece new_packet(void)
{
    Piece piece = {.bytes = wrap_link(make_datagram(), link_now()), .kind = ENHANCED_PACKET};
    const Piece *other = some_packet();
    if (other)
        piece.high = other->high, piece.low = other->low, piece.interface = other->interface;
    else if (!model.sectioned)
        piece.high = 100000;
    return piece;
}

static void change_bytes(Piece *piece)
{
    Bytes grown = take_bytes(piece->bytes.n + 64);
    if (grown.n < piece->bytes.n + 64)
        return;
    if (piece->bytes.n)
        memcpy(grown.p, piece->bytes.p, piece->bytes.n);
    uint32_t from = one_in(2) && piece->bytes.n ? below(piece->bytes.n) : 0;
    grown.n = from + (uint32_t)LLVMFuzzerMutate(grown.p + from, piece->bytes.n - from,
                                                grown.n - from);
    piece->bytes = grown;
}

/* Swap the endpoints of the packet: an answer. */
static void turn_round(Piece *piece)
{
    Packet packet;
    if (!look(piece, one_in(2), &packet))
        return;
    uint32_t size = packet.family == 4 ? 4 : 16, at = (uint32_t)(packet.source - piece->bytes.p);
    uint8_t kept[16], *p = piece->bytes.p;
    memcpy(kept, p + at, size);
    memcpy(p + at, p + at + size, size);
    memcpy(p + at + size, kept, size);
    if (packet.transport != ABSENT && has_ports(packet.protocol)) {
        memcpy(kept, p + packet.transport, 2);
        memcpy(p + packet.transport, p + packet.transport + 2, 2);
        memcpy(p + packet.transport + 2, kept, 2);
    }
}

/* Another segment of the connection: flags, and a number near the one there. */
static void go_on(Piece *piece)
{
    static const int32_t steps[] = {0, 1, -1, 5, -5, 10, 20, -20, 100, INT32_MAX, INT32_MIN};
    Packet packet;
    if (!look(piece, true, &packet) || packet.protocol != TCP || packet.transport == ABSENT ||
        packet.end - packet.transport < 20)
        return;
    uint8_t *p = piece->bytes.p + packet.transport;
    uint32_t number = packet.sequence + (uint32_t)ANY_OF(steps);
    if (one_in(2))
        number += packet.end - packet.transport - 20;
    big_to(p + 4, number >> 16);
    big_to(p + 6, number & 0xFFFF);
    if (one_in(2))
        p[13] = ANY_OF(tcp_flags);
}

/* Set one of the fields that decide how an IP header is read. */
static void change_ip(Piece *piece)
{
    static const uint16_t lengths[] = {0, 19, 20, 27, 28, 39, 40, 60, 9999, 65535};
    Packet packet;
    if (!look(piece, one_in(2), &packet))
        return;
    uint8_t *p = piece->bytes.p + packet.network;
    bool six = packet.family == 6;
    switch (below(7)) {
    case 0:
        big_to(p + (six ? 4 : 2), ANY_OF(lengths));
        break;
    case 1:
        p[six ? 6 : 9] = ANY_OF(known_protocols);
        break;
    case 2:
        if (!six)
            big_to(p + 6, below(4) << 13 | (one_in(2) ? below(4) : 0));
        break;
    case 3:
        if (!six)
            p[5] ^= 1;
        break;
    case 4:
        p[0] = (uint8_t)(p[0] ^ 1u << below(8));
        break;
    case 5:
        p[(six ? 39 : 19)] ^= 1;
        break;
    default:
        if (packet.transport != ABSENT && has_ports(packet.protocol))
            big_to(p + packet.transport - packet.network + 2 * below(2), ANY_OF(known_ports));
    }
}

/* Put an extension header behind the outermost IPv6 header. */
static void extend(Piece *piece)
{
    Bytes ip = ip_of(piece);
    if (ip.n < 40 || !is_six(ip))
        return;
    static const uint8_t kinds[] = {0, 43, 44, 44, 51, 60, 135, 139, 140};
    uint8_t head[40 + 24] = {0}, kind = ANY_OF(kinds);
    uint32_t units = below(2), size = kind == 44 ? 8 : kind == 51 ? units * 4 + 8 : units * 8 + 8;
    memcpy(head, ip.p, 40);
    head[40] = head[6];
    head[41] = (uint8_t)units;
    head[6] = kind;
    if (kind == 44) {
        big_to(head + 42, below(4) << 3 | below(2));
        head[47] = (uint8_t)below(3);
    }
    big_to(head + 4, big16(head + 4) + size);
    set_ip(piece, joined(head, 40 + size, (Bytes){ip.p + 40, ip.n - 40}));
}

/* Cut a packet's datagram into fragments, and mix them among the packets. */
static void fragment(unsigned at)
{
    Piece *piece = &model.pieces[at];
    Bytes ip = ip_of(piece);
    bool six = is_six(ip);
    uint32_t header = six ? 40 : ip.n ? (ip.p[0] & 15) * 4u : 0;
    if (header < 20 || ip.n < header + 9)
        return;
    uint32_t step = 8 * (1 + below(3)), body = ip.n - header;
    Piece parts[8];
    unsigned count = 0;
    for (uint32_t from = 0; from < body && count < 8; from += step) {
        uint8_t head[80] = {0};
        uint32_t size = least(step, body - from), more = from + size < body, used = header;
        memcpy(head, ip.p, header);
        if (six) {
            head[40] = head[6];
            head[6] = 44;
            big_to(head + 42, from | more);
            used = 48;
            big_to(head + 4, 8 + size);
        } else {
            big_to(head + 2, header + size);
            big_to(head + 6, from / 8 | more << 13);
        }
        parts[count] = *piece;
        set_ip(&parts[count++], joined(head, used, (Bytes){ip.p + header + from, size}));
    }
    *piece = parts[--count];
    while (count)
        insert_piece(&model, one_in(2) ? at : below(model.count + 1), parts[--count]);
}

static void change_link(void)
{
    uint16_t before = model.link, now = ANY_OF(known_links);
    if (model.sectioned) {
        insert_piece(&model, model.count ? 1 : 0, interface_piece(&model, now, -1));
        if (model.count > 2 && one_in(2)) /* in the place of the one that was there */
            memmove(&model.pieces[2], &model.pieces[3], (--model.count - 2) * sizeof(Piece));
    }
    for (unsigned i = 0; i < model.count; i++) {
        model.link = before;
        Bytes ip = model.pieces[i].kind ? ip_of(&model.pieces[i]) : (Bytes){NULL, 0};
        model.link = now;
        if (ip.n)
            model.pieces[i].bytes = wrap_link(ip, now);
    }
    model.link = now;
}

/* Put bytes before the network layer that only a large number can jump over. */
static void inflate(Piece *piece)
{
    Bytes room = take_bytes(below(8) ? 40 + below(2000) : 60000 + below(6000));
    if (one_in(2)) {
        piece->bytes = joined(piece->bytes.p, piece->bytes.n, room);
        return;
    }
    uint8_t head[8] = {0};
    Bytes ip = ip_of(piece);
    little_to(head + 2, 8 + room.n);
    little_to(head + 4, 101);
    model.link = 192;
    piece->bytes = joined(head, 8, joined(room.p, room.n, ip));
}

static void change_packet(Piece *piece)
{
    Bytes ip = ip_of(piece);
    switch (below(13)) {
    case 0:
    case 1:
        change_bytes(piece);
        break;
    case 2: /* cut it */
        piece->missing = one_in(2) ? below(100) : 0;
        piece->bytes.n = piece->bytes.n ? below(piece->bytes.n) : 0;
        break;
    case 3:
        piece->missing = one_in(2) ? below(100) : (uint32_t)-1 - below(100);
        break;
    case 4:
        pass_time(piece);
        break;
    case 5:
        turn_round(piece);
        break;
    case 6:
    case 7:
        go_on(piece);
        break;
    case 8:
        change_ip(piece);
        break;
    case 9:
        extend(piece);
        break;
    case 10:
        if (ip.n)
            set_ip(piece, wrap_tunnel(ip));
        break;
    case 11:
        if (ip.n && link_now() == 1)
            piece->bytes = wrap_frame(ip);
        break;
    default:
        if (one_in(20))
            inflate(piece);
    }
}

#endif
#endif
