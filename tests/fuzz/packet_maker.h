/* Packets from nothing: transports, IP headers, tunnels, shims and link layers. */
#ifndef PACKET_MAKER_H
#define PACKET_MAKER_H

#include "capture_model.h"

static const uint16_t known_links[] = {0,   1,   9,   12,  14,  50,  51,  101, 104, 105, 108,
                                       109, 113, 119, 127, 166, 192, 228, 229, 239, 276, 1};
static const uint16_t known_ports[] = {80, 80, 1000, 1000, 53, 4789, 6081, 2152, 3544, 443, 67};
static const uint16_t known_types[] = {0x0800, 0x86DD, 0x8100, 0x88A8, 0x9100, 0x9200, 0x8847,
                                       0x8848, 0x8864, 0x0806, 0x05DC, 0x6558, 0x88BE, 0x22EB,
                                       0x880B, 4,      1,      0x0281, 0x0283, 0x0021, 0x0057};
static const uint8_t known_protocols[] = {6,  6,  6,   17,  17,  132, 1,  58, 4,
                                          41, 47, 0,   43,  44,  51,  59, 60, 135,
                                          139, 140, 2, 50};
static const uint8_t tcp_flags[] = {2, 2, 16, 16, 16, 18, 17, 4, 20, 1, 0, 24};

static void big_to(uint8_t *p, uint32_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static void little_to(uint8_t *p, uint32_t value)
{
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
}

static Bytes make_transport(uint8_t protocol)
{
    static const uint8_t lengths[] = {0, 0, 1, 5, 5, 10, 35, 100};
    static const uint32_t numbers[] = {0, 1, 2, 5, 6, 10, 15, 20, 0xFFFFFFFB, 0x80000005};
    uint32_t header = protocol == TCP ? 20 : protocol == SCTP ? 12 : 8;
    Bytes made = take_bytes(header + ANY_OF(lengths));
    if (made.n < header)
        return made;
    if (protocol == ICMP || protocol == ICMP6) {
        made.p[0] = (uint8_t)(one_in(2) ? 8 : 128 + below(2));
        return made;
    }
    big_to(made.p, ANY_OF(known_ports));
    big_to(made.p + 2, ANY_OF(known_ports));
    if (protocol == TCP) {
        uint32_t number = ANY_OF(numbers);
        big_to(made.p + 4, number >> 16);
        big_to(made.p + 6, number & 0xFFFF);
        made.p[12] = (uint8_t)(one_in(10) ? below(256) : 0x50);
        made.p[13] = ANY_OF(tcp_flags);
    } else if (protocol == UDP)
        big_to(made.p + 4, made.n);
    return made;
}

static Bytes wrap_ip(Bytes inside, uint8_t protocol, bool six)
{
    uint8_t head[40] = {0};
    unsigned sender = below(3);
    if (six) {
        head[0] = 0x60;
        big_to(head + 4, inside.n);
        head[6] = protocol;
        head[8] = head[24] = 0xFD;
        head[23] = (uint8_t)(1 + sender);
        head[39] = (uint8_t)(1 + (sender + 1 + below(2)) % 3);
        return joined(head, 40, inside);
    }
    head[0] = 0x45;
    big_to(head + 2, 20 + inside.n);
    head[5] = (uint8_t)below(3);
    head[8] = 64;
    head[9] = protocol;
    head[12] = head[16] = 10;
    head[15] = (uint8_t)(1 + sender);
    head[19] = (uint8_t)(1 + (sender + 1 + below(2)) % 3);
    return joined(head, 20, inside);
}

static bool is_six(Bytes ip) { return ip.n && ip.p[0] >> 4 == 6; }

static uint16_t type_of(Bytes ip) { return is_six(ip) ? TYPE_IPV6 : TYPE_IPV4; }

static Bytes wrap_ethernet(Bytes inside, uint16_t type)
{
    uint8_t head[14] = {2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4};
    big_to(head + 12, type);
    return joined(head, 14, inside);
}

/* Put something between an Ethernet type and what it announces; returns the new type. */
static Bytes wrap_shim(Bytes inside, uint16_t *type)
{
    uint8_t head[16] = {0};
    switch (below(6)) {
    case 0: /* VLAN */
        big_to(head + 2, *type);
        *type = (uint16_t)(one_in(2) ? 0x8100 : 0x88A8);
        return joined(head, 4, inside);
    case 1: /* LLC with SNAP */
        memcpy(head, "\xAA\xAA\x03\0\0", 5);
        head[5] = one_in(4) ? 0xF8 : 0;
        big_to(head + 6, *type);
        inside = joined(head, 8, inside);
        *type = (uint16_t)least(inside.n, 1500);
        return inside;
    case 2: /* LLC alone */
        *type = (uint16_t)least(inside.n, 1500);
        return joined("\x06\x06\x03", 3, inside);
    case 3: { /* PPPoE, the protocol compressed or not */
        bool six = *type == TYPE_IPV6, mpls = *type == TYPE_MPLS;
        head[0] = 0x11;
        uint32_t at = 6;
        if (mpls || one_in(2))
            head[at++] = mpls ? 2 : 0;
        head[at++] = mpls ? 0x81 : six ? 0x57 : 0x21;
        *type = TYPE_PPPOE;
        return joined(head, at, inside);
    }
    case 4: /* MPLS around IP */
        head[2] = 1;
        *type = TYPE_MPLS;
        return joined(head, 4, inside);
    default: /* MPLS around Ethernet, behind a control word */
        inside = wrap_ethernet(inside, *type);
        head[2] = 1;
        *type = TYPE_MPLS;
        return joined(head, 8, inside);
    }
}

static Bytes wrap_frame(Bytes ip)
{
    uint16_t type = type_of(ip);
    while (one_in(5))
        ip = wrap_shim(ip, &type);
    return wrap_ethernet(ip, type);
}

static Bytes wrap_gre(Bytes ip)
{
    static const uint8_t flags[] = {0, 0, 0x10, 0x20, 0x80, 0xB0, 0x40};
    uint8_t head[40] = {ANY_OF(flags)};
    uint32_t size = 4 + 4u * (uint32_t)__builtin_popcount(head[0] & 0xB0), type = type_of(ip);
    switch (below(6)) {
    case 0:
        type = TYPE_BRIDGED;
        ip = wrap_frame(ip);
        break;
    case 1:
        type = TYPE_ERSPAN;
        size += head[0] & 0x10 ? 8 : 0;
        ip = wrap_frame(ip);
        break;
    case 2:
        type = TYPE_ERSPAN_3;
        head[size + 11] = (uint8_t)below(2);
        size += head[size + 11] ? 20 : 12;
        ip = wrap_frame(ip);
        break;
    case 3: /* PPTP */
        type = TYPE_PPTP;
        head[0] = one_in(2) ? 0x20 : 0x30;
        head[1] = one_in(2) ? 1 : 0x81;
        size = 8 + (head[0] & 0x10 ? 4 : 0) + (head[1] & 0x80 ? 4 : 0);
        if (one_in(2))
            head[size++] = 0xFF, head[size++] = 3;
        head[size++] = is_six(ip) ? 0x57 : 0x21;
        break;
    }
    big_to(head + 2, type);
    return joined(head, size, ip);
}

/* Put an IP datagram into a tunnel; what comes out is IP again. */
static Bytes wrap_tunnel(Bytes ip)
{
    uint8_t head[64] = {0};
    uint32_t size = 8, port = 4789;
    switch (below(7)) {
    case 0:
        return wrap_ip(ip, is_six(ip) ? 41 : 4, one_in(3));
    case 1:
        return wrap_ip(wrap_gre(ip), 47, one_in(3));
    case 2:
        head[8] = 8;
        size += 8;
        ip = wrap_frame(ip);
        break;
    case 3:
        port = 6081;
        head[8] = (uint8_t)below(3);
        big_to(head + 10, one_in(2) ? type_of(ip) : TYPE_BRIDGED);
        if (head[10] == 0x65)
            ip = wrap_frame(ip);
        size += 8 + head[8] * 4u;
        break;
    case 4:
    case 5:
        port = 2152;
        head[8] = 0x30;
        head[9] = 255;
        size += 8;
        if (one_in(2)) {
            head[8] |= 4;
            head[size + 3] = (uint8_t)below(3);
            head[size + 4] = 1;
            size += head[size + 3] ? 8 : 4;
        }
        break;
    default:
        port = 3544;
        if (one_in(2)) {
            head[size + 1] = 1;
            head[size + 2] = (uint8_t)below(5);
            head[size + 3] = (uint8_t)below(5);
            size += 13u + head[size + 2] + head[size + 3];
        }
        if (one_in(2))
            size += 8;
    }
    big_to(head, ANY_OF(known_ports));
    big_to(head + 2, port);
    big_to(head + 4, size + ip.n);
    return wrap_ip(joined(head, size, ip), UDP, one_in(3));
}

static Bytes wrap_wireless(Bytes ip, bool padded)
{
    static const uint16_t controls[] = {0x0008, 0x0108, 0x0308, 0x0088, 0x0388, 0x8088, 0x4008};
    uint8_t head[60] = {0};
    uint32_t control = ANY_OF(controls), size = (control & 0x300) == 0x300 ? 30 : 24;
    little_to(head, control);
    if (control & 0x80)
        size += control & 0x8000 ? 6 : 2;
    if (padded)
        size = (size + 3) & ~3u;
    memcpy(head + size, "\xAA\xAA\x03\0\0\0", 6);
    big_to(head + size + 6, type_of(ip));
    return joined(head, size + 8, ip);
}

static Bytes wrap_link(Bytes ip, uint16_t link)
{
    uint8_t head[160] = {0};
    uint32_t type = type_of(ip);
    switch (link) {
    case 0:
    case 108:
    case 109:
        head[below(2) * 3] = is_six(ip) ? 30 : 2;
        return joined(head, link == 109 ? 12 : 4, ip);
    case 1:
        return wrap_frame(ip);
    case 9:
    case 50:
    case 166:
        memcpy(head, "\xFF\x03\0", 3);
        head[3] = is_six(ip) ? 0x57 : 0x21;
        return joined(head, 4, ip);
    case 51:
        head[0] = 0x11;
        head[7] = is_six(ip) ? 0x57 : 0x21;
        return joined(head, 8, ip);
    case 104:
        head[0] = 0x0F;
        big_to(head + 2, type);
        return joined(head, 4, ip);
    case 105:
        return wrap_wireless(ip, false);
    case 113:
        big_to(head + 14, type);
        return joined(head, 16, ip);
    case 119:
        return joined(head, 144, wrap_wireless(ip, false));
    case 127:
        head[4] = (uint8_t)below(4);
        head[2] = (uint8_t)(head[4] & 1 ? 17 : 9);
        head[head[2] - 1] = head[4] & 2 ? 0x20 : 0;
        return joined(head, head[2], wrap_wireless(ip, head[4] & 2));
    case 192: {
        uint16_t within = ANY_OF(known_links);
        head[2] = 8;
        little_to(head + 4, within);
        return joined(head, 8, within == 192 ? ip : wrap_link(ip, within));
    }
    case 239:
        head[0] = is_six(ip) ? 10 : 2;
        little_to(head + 4, 5);
        little_to(head + 6, 1);
        little_to(head + 12, ip.n + 4);
        little_to(head + 14, 9);
        return joined(head, 16, ip);
    case 276:
        big_to(head, type);
        return joined(head, 20, ip);
    }
    return ip;
}

static Bytes make_datagram(void)
{
    static const uint8_t transports[] = {TCP, TCP, TCP, UDP, UDP, SCTP, ICMP, ICMP6, 59};
    uint8_t protocol = ANY_OF(transports);
    Bytes ip = wrap_ip(make_transport(protocol), protocol, one_in(3));
    while (one_in(4))
        ip = wrap_tunnel(ip);
    return ip;
}

#endif
