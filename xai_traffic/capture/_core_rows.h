/* What leaves the core: tiles, and rows as records.py lays them out. Part of the capture core. */
#ifndef XAI_TRAFFIC_CORE_ROWS_H
#define XAI_TRAFFIC_CORE_ROWS_H

#include "_core_state.h"

/* An offset in the frame as one in the tile, NONE where the tile does not have it. */
static inline uint32_t in_tile(uint32_t offset, uint32_t start)
{
    return offset >= start && offset - start < NONE ? offset - start : NONE;
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
    row = put32(row, frame->captured);
    row = put32(row, frame->wire);
    row = put16(row, (uint32_t)session->packets);
    row = put16(row, start);
    row = put16(row, length);
    row = put16(row, in_tile(network, start));
    row = put16(row, in_tile(transport, start));
    row = put16(row, in_tile(payload, start));
    row = put16(row, frame->link);
    row[0] = packet->protocol;
    row[1] = direction;
    row = put16(row + 2, in_tile(outer, start));
    if (frame->captured < frame->wire)
        flags |= CUT;
    row = put16(row, flags);
    row[0] = packet->tunnel;
    row[1] = packet->depth;
    put16(row + 2, 0);
    core->packet_rows.used += PACKET_ROW;
}

/* Write the address of the key's endpoint 0 or 1, as it stands in a packet. */
static uint8_t *put_endpoint(uint8_t *p, const Key *key, int endpoint)
{
    return put64(put64(p, key->words[2 * endpoint]), key->words[2 * endpoint + 1]);
}

static void emit_session(Core *core, Session *session, End end)
{
    if (session->reported || !reserve(core, &core->session_rows, SESSION_ROW))
        return;
    session->reported = core->rules.early || end == QUIET;
    uint64_t ports = session->key.words[4], limit = core->rules.limit;
    bool swapped = session->swapped;
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
    row = put16(row, (uint32_t)(swapped ? ports >> 16 : ports));
    row = put16(row, (uint32_t)(swapped ? ports : ports >> 16));
    row = put16(row, (uint32_t)(session->packets < limit ? session->packets : limit));
    row[0] = (uint8_t)(ports >> 32); /* protocol */
    row[1] = (uint8_t)(ports >> 40); /* family */
    row[2] = (uint8_t)end;
    row[3] = session->outer_family;
    row[4] = session->tunnel;
    row[5] = session->depth;
    row[6] = session->icmp_type;
    row[7] = session->icmp_code;
    row = put16(row + 8, 0);
    if (session->outer)
        memcpy(row, item(&core->outers, session->outer, sizeof(Outer)), sizeof(Outer));
    else
        memset(row, 0, sizeof(Outer));
}

#endif
