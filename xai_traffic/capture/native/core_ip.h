/* Through an IP header to the transport behind it. Part of the capture core.
 *
 * Sources: RFC 791 (IPv4), RFC 8200 (IPv6), RFC 4302 (authentication), RFC 6946 (atomic fragments),
 * RFC 9293 (TCP), RFC 768 (UDP), RFC 9260 (SCTP), RFC 792 and RFC 4443 (ICMP).
 */
#ifndef XAI_TRAFFIC_CORE_IP_H
#define XAI_TRAFFIC_CORE_IP_H

#include "core_shims.h"

/* Offsets of rows have 16 bits: nothing is decoded that begins behind this one. */
enum { FARTHEST_TRANSPORT = 65000, MAX_EXTENSIONS = 16 };

/* Bytes of a transport header that a first fragment must hold: those with the ports. */
enum { LEAST_OF_FRAGMENT = 8 };

enum { NOT_A_PIECE, FIRST_PIECE, LATER_PIECE };

static inline bool has_ports(uint8_t protocol)
{
    return protocol == TCP || protocol == UDP || protocol == SCTP;
}

/* An address as words of a key, its bytes from the lowest up; whole words are written, since the hash
 * reads them at once and would have to wait for bytes. */
static inline void put_address(uint64_t words[2], const uint8_t *address, uint8_t family)
{
    if (family == 4) {
        words[0] = little32(address);
        words[1] = 0;
    } else {
        words[0] = little64(address);
        words[1] = little64(address + 8);
    }
}

static inline Key datagram_key(const Packet *packet, uint32_t identification)
{
    Key key;
    put_address(&key.words[0], packet->source, packet->family);
    put_address(&key.words[2], packet->destination, packet->family);
    uint64_t protocol = packet->family == 4 ? packet->protocol : 0;
    key.words[4] = identification | protocol << 32 | (uint64_t)packet->family << 40;
    return key;
}

/* `*piece` becomes what this is of its datagram, and `*key` the datagram if it is looked up: of an
 * IPv4 datagram without ports, and that is no tunnel to go into, every fragment says all. */
static inline Drop pass_ipv4(const uint8_t *bytes, const Place *place, bool inner, Packet *packet,
                             int *piece, bool *looked_up, Key *key)
{
    if (!need(place, 20))
        return TRUNCATED;
    const uint8_t *ip = bytes + place->at;
    uint32_t header = (ip[0] & 15) * 4, total = big16(ip + 2);
    if (ip[0] >> 4 != 4 || header < 20)
        return MALFORMED;
    if (!need(place, header))
        return TRUNCATED;
    if (total && total < header)
        return MALFORMED;
    packet->family = 4;
    packet->network = place->at;
    packet->transport = place->at + header;
    /* Segmentation offload leaves a total length of 0: the datagram is all there is. */
    packet->declared = total ? place->at + total : place->limit;
    packet->end = least(packet->declared, place->limit);
    packet->protocol = ip[9];
    packet->source = ip + 12;
    packet->destination = ip + 16;
    uint32_t fragment = big16(ip + 6) & 0x3FFF;
    if (fragment) { /* more fragments, or not the first */
        *piece = fragment & 0x1FFF ? LATER_PIECE : FIRST_PIECE;
        bool tunnel = packet->protocol == 4 || packet->protocol == 41 || packet->protocol == 47;
        *looked_up = has_ports(packet->protocol) || (inner && tunnel);
        *key = datagram_key(packet, big16(ip + 4));
    }
    return KEPT;
}

static inline bool is_extension(uint8_t protocol)
{
    switch (protocol) {
    case 0:   /* hop by hop */
    case 43:  /* routing */
    case 44:  /* fragment */
    case 51:  /* authentication */
    case 60:  /* destination options */
    case 135: /* mobility */
    case 139: /* host identity */
    case 140: /* shim6 */
        return true;
    }
    return false;
}

static Drop pass_ipv6(const uint8_t *bytes, const Place *place, Packet *packet, int *piece,
                      bool *looked_up, Key *key)
{
    if (!need(place, 40))
        return TRUNCATED;
    const uint8_t *ip = bytes + place->at;
    if (ip[0] >> 4 != 6)
        return MALFORMED;
    uint32_t at = place->at + 40, payload = big16(ip + 4);
    uint8_t next = ip[6];
    /* A payload length of 0 means a jumbogram or segmentation offload, but behind 59 nothing. */
    packet->declared = payload || next == 59 ? at + payload : place->limit;
    packet->end = least(packet->declared, place->limit);
    packet->family = 6;
    packet->network = place->at;
    packet->source = ip + 8;
    packet->destination = ip + 24;
    for (int extensions = 0; is_extension(next) && *piece != LATER_PIECE; extensions++) {
        if (extensions == MAX_EXTENSIONS)
            return MALFORMED;
        if (packet->end - at < 8)
            return TRUNCATED;
        const uint8_t *p = bytes + at;
        uint32_t length = next == 44 ? 8 : next == 51 ? (p[1] + 2u) * 4 : (p[1] + 1u) * 8;
        if (packet->end - at < length)
            return TRUNCATED;
        uint32_t fragment = next == 44 ? big16(p + 2) & 0xFFF9u : 0;
        if (fragment) { /* not 0: more fragments, or not the first; else it is atomic */
            *piece = fragment & 0xFFF8 ? LATER_PIECE : FIRST_PIECE;
            *looked_up = true;
            *key = datagram_key(packet, big32(p + 4));
        }
        next = p[0];
        at += length;
    }
    packet->protocol = next;
    packet->transport = at;
    return KEPT;
}

static inline Drop pass_transport(const uint8_t *bytes, Packet *packet, bool whole)
{
    const uint8_t *p = bytes + packet->transport;
    uint32_t room = packet->end - packet->transport, header = 0;
    switch (packet->protocol) {
    case TCP:
        if (room < (whole ? 20 : LEAST_OF_FRAGMENT))
            return TRUNCATED;
        packet->sequence = big32(p + 4);
        header = 20;
        if (room >= 20) {
            header = (p[12] >> 4) * 4;
            if (header < 20)
                return MALFORMED;
            packet->flags = p[13];
        }
        break;
    case UDP:
        if (room < 8)
            return TRUNCATED;
        header = 8;
        break;
    case SCTP:
        if (room < (whole ? 12 : LEAST_OF_FRAGMENT))
            return TRUNCATED;
        header = 12;
        break;
    case ICMP:
    case ICMP6:
        if (room >= 2) {
            packet->icmp_type = p[0];
            packet->icmp_code = p[1];
        }
        break;
    }
    if (header) {
        packet->source_port = big16(p);
        packet->destination_port = big16(p + 2);
    }
    packet->payload = header <= room ? packet->transport + header : ABSENT;
    return KEPT;
}

/* Decode the IP header at a place and what is behind it. The packet must be all zero. */
static Drop decode_ip(const uint8_t *bytes, const Place *place, bool inner, Packet *packet,
                      Pieces *pieces)
{
    int piece = NOT_A_PIECE;
    bool looked_up = false;
    Key *key = &pieces->later;
    Drop drop = place->family == 4
                    ? pass_ipv4(bytes, place, inner, packet, &piece, &looked_up, key)
                    : pass_ipv6(bytes, place, packet, &piece, &looked_up, key);
    if (drop != KEPT)
        return drop;
    if (packet->transport > FARTHEST_TRANSPORT)
        return TRUNCATED;
    packet->fragmented = piece != NOT_A_PIECE;
    if (piece == LATER_PIECE) {
        packet->payload = packet->transport;
        packet->transport = ABSENT;
        pieces->waits = looked_up;
        return KEPT;
    }
    drop = pass_transport(bytes, packet, piece == NOT_A_PIECE);
    if (drop == KEPT && looked_up)
        pieces->first[pieces->begun++] = *key;
    return drop;
}

#endif
