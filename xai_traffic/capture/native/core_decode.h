/* From a frame to the headers that make its session. Part of the capture core.
 *
 * Nothing here changes the core: which datagrams the frame holds pieces of is told apart.
 */
#ifndef XAI_TRAFFIC_CORE_DECODE_H
#define XAI_TRAFFIC_CORE_DECODE_H

#include "core_tunnels.h"

/* Go into the tunnel that the packet is, if it is one, and there is IP in it. */
static bool go_deeper(const uint8_t *bytes, Packet *packet, Pieces *pieces)
{
    Tunnel tunnel = tunnel_of(packet);
    if (tunnel == NO_TUNNEL)
        return false;
    Place place = {packet->payload, packet->end, 0};
    if (!enter(tunnel, bytes, &place))
        return false;
    unsigned begun = pieces->begun;
    Packet deeper = {0};
    if (decode_ip(bytes, &place, true, &deeper, pieces) != KEPT) {
        pieces->begun = begun;
        return false;
    }
    deeper.fragmented |= packet->fragmented;
    deeper.tunnel = (uint8_t)tunnel;
    deeper.depth = packet->depth + 1;
    deeper.outer = packet->outer;
    deeper.outer_family = packet->depth ? packet->outer_family : packet->family;
    deeper.outer_source = packet->depth ? packet->outer_source : packet->source;
    deeper.outer_destination = packet->depth ? packet->outer_destination : packet->destination;
    *packet = deeper;
    return true;
}

static Drop decode_any(const Frame *frame, bool inner, Packet *packet, Pieces *pieces)
{
    Place place = {0, frame->captured, 0};
    *packet = (Packet){0};
    Drop drop = find_ip(frame->link, frame->bytes, &place);
    if (drop == KEPT)
        drop = decode_ip(frame->bytes, &place, inner, packet, pieces);
    packet->outer = packet->network;
    if (drop == KEPT && inner)
        while (packet->transport != ABSENT && packet->depth < MAX_TUNNELS &&
               go_deeper(frame->bytes, packet, pieces))
            continue;
    return drop;
}

/* Decode the commonest frames at once: TCP or UDP in whole IPv4 datagrams without options on
 * Ethernet. False means that the long way must be gone, not that anything is wrong. */
static inline bool decode_plain(const Frame *frame, bool inner, Packet *packet)
{
    const uint8_t *p = frame->bytes;
    uint32_t captured = frame->captured;
    if (frame->link != 1 || captured < 14 + 20 + 8 || big16(p + 12) != TYPE_IPV4 || p[14] != 0x45)
        return false;
    uint32_t total = big16(p + 16), end = least(14 + total, captured), header = 8;
    if (total < 20 + 8 || big16(p + 20) & 0x3FFF)
        return false;
    uint16_t source_port = big16(p + 34), destination_port = big16(p + 36);
    uint8_t flags = 0;
    uint32_t sequence = 0;
    if (p[23] == TCP) {
        if (end < 34 + 20 || p[46] >> 4 < 5)
            return false;
        header = (p[46] >> 4) * 4u;
        flags = p[47];
        sequence = big32(p + 38);
    } else if (p[23] != UDP || (inner && tunnel_by_ports(source_port, destination_port)))
        return false;
    *packet = (Packet){
        .network = 14,
        .transport = 34,
        .payload = 34 + header <= end ? 34 + header : ABSENT,
        .end = end,
        .declared = 14 + total,
        .outer = 14,
        .source = p + 26,
        .destination = p + 30,
        .source_port = source_port,
        .destination_port = destination_port,
        .family = 4,
        .protocol = p[23],
        .flags = flags,
        .sequence = sequence,
    };
    return true;
}

static inline Drop decode(const Frame *frame, bool inner, Packet *packet, Pieces *pieces)
{
    pieces->begun = 0;
    pieces->waits = false;
    return decode_plain(frame, inner, packet) ? KEPT : decode_any(frame, inner, packet, pieces);
}

#endif
