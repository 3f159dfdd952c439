/* What leaves the core: tiles, and rows as records.py lays them out. Part of the capture core. */
#ifndef XAI_TRAFFIC_CORE_ROWS_H
#define XAI_TRAFFIC_CORE_ROWS_H

#include "core_state.h"

/* An offset in the frame as one in the tile, NONE where the tile does not have it. */
static inline uint32_t in_tile(uint32_t offset, uint32_t start)
{
    return least(offset - start, NONE); /* what lies before wraps to far behind */
}

/* Four fields of 16 bits. */
static inline uint64_t words(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    return a | b << 16 | c << 32 | d << 48;
}

/* The caller has reserved the room. */
static inline void emit_packet(Core *core, const Session *session, const Frame *frame,
                               const Packet *packet, bool direction, unsigned flags)
{
    uint32_t start = 0, end = packet->end, width = core->rules.width;
    uint32_t network = packet->network, transport = packet->transport, payload = packet->payload;
    uint32_t outer = packet->depth ? packet->outer : ABSENT;
    if (core->rules.layers == ALL)
        end = frame->captured; /* with the trailer of the link layer */
    else if (core->rules.layers == NETWORK)
        start = network;
    else if (core->rules.layers == TRANSPORT && transport != ABSENT)
        start = transport;
    else if (payload != ABSENT)
        start = payload; /* also for fragments without a transport header */
    else
        end = 0, network = transport = outer = ABSENT;
    uint32_t length = least(end - start, width);

    uint8_t *tile = core->tiles.data + core->tiles.used;
    memcpy(tile, frame->bytes + start, length);
    memset(tile + length, 0, width - length);
    core->tiles.used += width;

    uint8_t *row = core->packet_rows.data + core->packet_rows.used;
    row = put64(row, session->number);
    row = put64(row, frame->number);
    row = put64(row, frame->time);
    row = put64(row, frame->captured | (uint64_t)frame->wire << 32);
    row = put64(row, words(session->packets, start, length, in_tile(network, start)));
    row = put64(row, words(in_tile(transport, start), in_tile(payload, start), frame->link,
                           packet->protocol | (uint64_t)direction << 8));
    if (frame->captured < frame->wire)
        flags |= CUT;
    put64(row, words(in_tile(outer, start), flags, packet->tunnel | (uint64_t)packet->depth << 8, 0));
    core->packet_rows.used += PACKET_ROW;
}

/* Write the address of the key's endpoint 0 or 1, as it stands in a packet. */
static inline uint8_t *put_endpoint(uint8_t *p, const Key *key, int endpoint)
{
    return put64(put64(p, key->words[2 * endpoint]), key->words[2 * endpoint + 1]);
}

static void emit_session(Core *core, Session *session, End end)
{
    if (session->state & REPORTED || !reserve(core, &core->session_rows, SESSION_ROW))
        return;
    if (core->rules.early || end == QUIET)
        session->state |= REPORTED;
    uint64_t ports = session->key.words[4], limit = core->rules.limit;
    bool swapped = session->state & SWAPPED;
    uint8_t *row = core->session_rows.data + core->session_rows.used;
    core->session_rows.used += SESSION_ROW;
    row = put64(row, session->number);
    row = put64(row, session->first_time);
    row = put64(row, session->last_time);
    row = put64(row, session->packets);
    row = put64(row, session->bytes);
    row = put64(row, session->payload_bytes);
    row = put_endpoint(row, &session->key, swapped);
    row = put_endpoint(row, &session->key, !swapped);
    uint64_t first = ports & 0xFFFF, second = ports >> 16 & 0xFFFF;
    row = put64(row, words(swapped ? second : first, swapped ? first : second,
                           session->packets < limit ? session->packets : limit,
                           ports >> 32)); /* protocol and family */
    row[0] = (uint8_t)end;
    row[1] = session->outer_family;
    row[2] = session->tunnel;
    row[3] = session->depth;
    row[4] = session->icmp_type;
    row[5] = session->icmp_code;
    row[6] = row[7] = 0;
    row += 8;
    if (session->outer)
        memcpy(row, item(&core->outers, session->outer, sizeof(Outer)), sizeof(Outer));
    else
        memset(row, 0, sizeof(Outer));
}

#endif
