/* What must hold in a core and of its results, whatever the input. */
#ifndef FUZZ_CHECKS_H
#define FUZZ_CHECKS_H

#include "fuzz_run.h"

/* Between two calls: every packet is in a session, dropped or waits; the structures fit. */
static void check_state(const Core *core)
{
    uint64_t open = 0, waiting = 0, waiting_bytes = 0, datagrams = 0, slots = 0, before = 0;
    HOLDS(core->frames == 0);
    for (uint32_t at = core->oldest, older = 0; at; at = session_at(core, at)->newer) {
        const Session *session = session_at(core, at);
        uint32_t slot = find(core, &session->key, hash(core, &session->key));
        HOLDS(core->slots[slot].session == at);
        HOLDS(session->older == older);
        HOLDS(session->number < core->next_number && session->number + 1 > before);
        HOLDS((int64_t)session->first_time <= (int64_t)session->last_time);
        HOLDS(session->packets >= 1 && session->gaps[0] <= MAX_GAPS + 1 &&
              session->gaps[1] <= MAX_GAPS + 1);
        before = session->number + 1;
        older = at;
        open++;
    }
    HOLDS(open == core->open);
    HOLDS(!core->rules.max_open || open <= core->rules.max_open);
    for (uint64_t slot = 0; slot <= core->slot_mask; slot++)
        slots += core->slots[slot].session != 0;
    HOLDS(slots == open);
    for (uint16_t at = core->oldest_datagram; at; at = core->datagrams[at].newer) {
        const Datagram *datagram = &core->datagrams[at];
        uint16_t count = 0;
        for (const Waiting *held = datagram->waiting; held; held = held->next, count++)
            waiting_bytes += held->frame.captured;
        HOLDS(count == datagram->waiting_count && count <= MAX_WAITING);
        HOLDS(!count || !datagram->resolved);
        waiting += count;
        datagrams++;
    }
    HOLDS(datagrams <= MAX_DATAGRAMS);
    HOLDS(waiting == core->waiting && waiting_bytes == core->waiting_bytes);
    HOLDS(waiting_bytes <= MAX_WAITING_BYTES);
    HOLDS(core->interface_count <= MAX_INTERFACES);
    HOLDS(core->carry.used <= MAX_PACKET_BLOCK + 16);
    HOLDS(core->fault ? core->fault_packet == core->packets + 1 : !core->fault_offset);
}

static uint64_t field(const uint8_t *row, size_t at, size_t size)
{
    uint64_t value = 0;
    while (size--)
        value = value << 8 | row[at + size];
    return value;
}

/* Places of fields in rows, as records.py lays them out. */
enum { P_SESSION = 0, P_FRAME = 8, P_CAPTURED = 24, P_WIRE = 28, P_PACKET = 32, P_START = 34 };
enum { P_LENGTH = 36, P_NETWORK = 38, P_TRANSPORT = 40, P_PAYLOAD = 42, P_DIRECTION = 47 };
enum { P_OUTER = 48, P_FLAGS = 50, P_TUNNEL = 52, P_DEPTH = 53, P_RESERVED = 54 };
enum { S_PACKETS = 24, S_TILES = 84, S_FAMILY = 87, S_END = 88, S_OUTER_FAMILY = 89 };
enum { S_TUNNEL = 90, S_DEPTH = 91, S_RESERVED = 94 };

static void check_packet_row(const Core *core, const uint8_t *row, const uint8_t *tile)
{
    uint64_t start = field(row, P_START, 2), length = field(row, P_LENGTH, 2);
    uint64_t captured = field(row, P_CAPTURED, 4), flags = field(row, P_FLAGS, 2);
    HOLDS(length <= core->rules.width && start + length <= captured);
    for (uint64_t at = length; at < core->rules.width; at++)
        HOLDS(tile[at] == 0);
    for (size_t at = P_NETWORK; at <= P_PAYLOAD; at += 2)
        HOLDS(field(row, at, 2) == NONE || start + field(row, at, 2) <= captured);
    uint64_t outer = field(row, P_OUTER, 2);
    HOLDS(outer == NONE || (row[P_DEPTH] && outer <= field(row, P_NETWORK, 2)));
    HOLDS(flags < 16 && (flags & CUT) == (captured < field(row, P_WIRE, 4)));
    HOLDS((flags & RETRANSMISSION) == 0 || (flags & OUT_OF_ORDER) == 0);
    HOLDS((row[P_TUNNEL] == 0) == (row[P_DEPTH] == 0));
    HOLDS(row[P_TUNNEL] <= TEREDO && row[P_DEPTH] <= MAX_TUNNELS && row[P_DIRECTION] <= 1);
    HOLDS(field(row, P_RESERVED, 2) == 0);
}

/* After the end: rows, tiles and counters fit each other. */
static void check_results(const Core *core, bool early)
{
    const uint8_t *row = core->packet_rows.data, *session = core->session_rows.data;
    uint64_t rows = core->packet_rows.used / PACKET_ROW, limit = core->rules.limit;
    uint64_t sessions = core->session_rows.used / SESSION_ROW;
    HOLDS(rows * PACKET_ROW == core->packet_rows.used);
    HOLDS(sessions * SESSION_ROW == core->session_rows.used && sessions == core->next_number);
    HOLDS(rows * core->rules.width == core->tiles.used);
    uint64_t *packets = calloc(sessions + 1, sizeof *packets); /* rows of each session */
    bool *reported = calloc(sessions + 1, 1), *seen = calloc(core->packets + 2, 1);
    uint64_t latest = 0, accounted = 0, tiles = 0;
    for (uint64_t i = 0; i < rows; i++, row += PACKET_ROW) {
        uint64_t number = field(row, P_SESSION, 8), frame = field(row, P_FRAME, 8);
        check_packet_row(core, row, core->tiles.data + i * core->rules.width);
        HOLDS(number < sessions && packets[number] == field(row, P_PACKET, 2));
        HOLDS(++packets[number] <= limit);
        HOLDS(frame >= 1 && frame <= core->packets && !seen[frame]);
        seen[frame] = true;
        /* Only a fragment that waited for its first one comes behind its place. */
        if (frame < latest)
            HOLDS(field(row, P_FLAGS, 2) & FRAGMENTED && field(row, P_TRANSPORT, 2) == NONE);
        latest = frame > latest ? frame : latest;
    }
    for (uint64_t i = 0; i < sessions; i++, session += SESSION_ROW) {
        uint64_t number = field(session, 0, 8), count = field(session, S_PACKETS, 8);
        uint64_t shown = field(session, S_TILES, 2);
        HOLDS(number < sessions && !reported[number]);
        reported[number] = true;
        HOLDS(count >= 1 && shown == (count < limit ? count : limit));
        HOLDS(early ? shown <= packets[number] : shown == packets[number]);
        HOLDS((int64_t)field(session, 8, 8) <= (int64_t)field(session, 16, 8));
        HOLDS(session[S_END] < (early ? GOES_ON : PACKET_LIMIT));
        HOLDS(session[S_FAMILY] == 4 || session[S_FAMILY] == 6);
        HOLDS((session[S_TUNNEL] == 0) == (session[S_DEPTH] == 0));
        HOLDS((session[S_OUTER_FAMILY] == 0) == (session[S_DEPTH] == 0));
        HOLDS(session[S_DEPTH] <= MAX_TUNNELS && field(session, S_RESERVED, 2) == 0);
        accounted += count;
        tiles += shown;
    }
    for (int drop = 0; drop < DROPS; drop++)
        accounted += core->dropped[drop];
    HOLDS(early ? accounted <= core->packets : accounted == core->packets);
    HOLDS(early ? tiles <= rows : tiles == rows);
    HOLDS(core->waiting == 0 && core->waiting_bytes == 0);
    free(packets);
    free(reported);
    free(seen);
}

static bool same(const Buffer *a, const Buffer *b)
{
    return a->used == b->used && (!a->used || !memcmp(a->data, b->data, a->used));
}

/* Two cores say the same. */
static void check_same(const Core *a, const Core *b)
{
    HOLDS(same(&a->tiles, &b->tiles));
    HOLDS(same(&a->packet_rows, &b->packet_rows));
    HOLDS(same(&a->session_rows, &b->session_rows));
    HOLDS(a->packets == b->packets && !memcmp(a->dropped, b->dropped, sizeof a->dropped));
    HOLDS(a->fault == b->fault && a->fault_offset == b->fault_offset &&
          (!a->fault || a->fault_packet == b->fault_packet));
}

#endif
