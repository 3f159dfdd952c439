/* Which packets make a session, and when one ends before the next. Part of the capture core.
 *
 * Open sessions lie in a pool, linked in the order of their numbers, and are found by a hash table
 * with linear probing.
 *
 * Sources of the timed rules: Zeek's scripts/base/init-bare.zeek (tcp_inactivity_timeout,
 * udp_inactivity_timeout, icmp_inactivity_timeout, tcp_attempt_delay, tcp_close_delay); NFStream 6's
 * defaults (idle_timeout 120 s, active_timeout 1800 s, its clock of milliseconds).
 */
#ifndef XAI_TRAFFIC_CORE_SESSIONS_H
#define XAI_TRAFFIC_CORE_SESSIONS_H

#include "core_ip.h"
#include "core_order.h"
#include "core_rows.h"

#define SECOND UINT64_C(1000000000)
#define MILLISECOND UINT64_C(1000000)

enum { ZEEK_IDLE_TCP = 300, ZEEK_IDLE_OTHER = 60, ZEEK_ATTEMPT = 5, ZEEK_CLOSED = 5 };
enum { NFSTREAM_IDLE = 120000, NFSTREAM_ACTIVE = 1800000 };

/* ---- Keys ---------------------------------------------------------------------------------- */

/* Build the key, the same for both directions; true if the sender is its second endpoint. */
static inline bool make_key(const Core *core, Key *key, const Packet *packet)
{
    uint64_t sender = packet->source_port, receiver = packet->destination_port;
    uint64_t protocol = packet->protocol;
    bool swapped;
    if (core->rules.rule == HOST_PAIR)
        sender = receiver = 0, protocol = ANY;
    if (packet->family == 4) {
        uint64_t source = big32(packet->source), destination = big32(packet->destination);
        swapped = (source << 16 | sender) > (destination << 16 | receiver);
    } else {
        int order = memcmp(packet->source, packet->destination, 16);
        swapped = order ? order > 0 : sender > receiver;
    }
    if (core->rules.rule == UNIDIRECTIONAL)
        swapped = false;
    const uint8_t *first = swapped ? packet->destination : packet->source;
    const uint8_t *second = swapped ? packet->source : packet->destination;
    put_address(&key->words[0], first, packet->family);
    put_address(&key->words[2], second, packet->family);
    uint64_t ports = swapped ? receiver | sender << 16 : sender | receiver << 16;
    key->words[4] = ports | protocol << 32 | (uint64_t)packet->family << 40;
    return swapped;
}

static inline bool equal(const Key *a, const Key *b)
{
    return !((a->words[0] ^ b->words[0]) | (a->words[1] ^ b->words[1]) |
             (a->words[2] ^ b->words[2]) | (a->words[3] ^ b->words[3]) |
             (a->words[4] ^ b->words[4]));
}

/* Hash under a secret, so that nobody can choose addresses that all meet in one slot. */
static inline uint32_t hash(const Core *core, const Key *key)
{
    const uint64_t *k = key->words, *s = core->secret;
    uint64_t h = mix(k[0] ^ s[0], k[2] ^ s[1]);
    if (k[1] | k[3]) /* IPv6 */
        h ^= mix(k[1] ^ s[2], k[3] ^ s[3]);
    return (uint32_t)mix(h ^ s[2], k[4] ^ s[0]);
}

/* ---- The table ----------------------------------------------------------------------------- */

/* Return the slot of the key, or the empty one where it would go. */
static inline uint32_t find(const Core *core, const Key *key, uint32_t tag)
{
    uint32_t at = tag & core->slot_mask;
    for (; core->slots[at].session; at = (at + 1) & core->slot_mask)
        if (core->slots[at].tag == tag &&
            equal(&session_at(core, core->slots[at].session)->key, key))
            break;
    return at;
}

/* Empty a slot, and move up those behind it that it kept from their place. */
static void vacate(Core *core, uint32_t hole)
{
    uint32_t mask = core->slot_mask;
    for (uint32_t at = (hole + 1) & mask; core->slots[at].session; at = (at + 1) & mask) {
        uint32_t home = core->slots[at].tag & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            core->slots[hole] = core->slots[at];
            hole = at;
        }
    }
    core->slots[hole].session = 0;
}

static bool grow_slots(Core *core)
{
    uint64_t size = core->slots ? 2 * ((uint64_t)core->slot_mask + 1) : 1024;
    Slot *slots = NULL;
    if (size <= UINT32_MAX)
        slots = allocate_lines((size_t)size * sizeof *slots, size * sizeof *slots >= LARGE_PAGE);
    if (!slots) {
        core->failed = true;
        return false;
    }
    memset(slots, 0, (size_t)size * sizeof *slots);
    uint32_t mask = (uint32_t)size - 1;
    for (uint64_t i = 0; core->slots && i <= core->slot_mask; i++) {
        if (!core->slots[i].session)
            continue;
        uint32_t at = core->slots[i].tag & mask;
        while (slots[at].session)
            at = (at + 1) & mask;
        slots[at] = core->slots[i];
    }
    free(core->slots);
    core->slots = slots;
    core->slot_mask = mask;
    return true;
}

static void close_session(Core *core, uint32_t slot, End end)
{
    uint32_t index = core->slots[slot].session;
    Session *session = session_at(core, index);
    emit_session(core, session, end);
    vacate(core, slot);
    *(session->older ? &session_at(core, session->older)->newer : &core->oldest) = session->newer;
    *(session->newer ? &session_at(core, session->newer)->older : &core->newest) = session->older;
    if (session->outer)
        give_item(&core->outers, session->outer, sizeof(Outer));
    for (int direction = 0; direction < 2; direction++)
        if (session->history[direction])
            give_item(&core->histories, session->history[direction], sizeof(History));
    give_item(&core->sessions, index, sizeof(Session));
    core->open--;
}

/* Close the oldest session, and ask for the slot of the one that is next. */
static void evict(Core *core)
{
    const Session *eldest = session_at(core, core->oldest);
    close_session(core, find(core, &eldest->key, eldest->tag), EVICTED);
    if (core->oldest)
        PREFETCH(&core->slots[session_at(core, core->oldest)->tag & core->slot_mask]);
}

/* Keep the addresses of the first IP header of a session in a tunnel. */
static uint32_t keep_outer(Core *core, const Packet *packet)
{
    uint32_t index = take_item(core, &core->outers, sizeof(Outer));
    if (index) {
        Outer *outer = item(&core->outers, index, sizeof *outer);
        *outer = (Outer){{0}, {0}};
        size_t size = packet->outer_family == 4 ? 4 : 16;
        memcpy(outer->source, packet->outer_source, size);
        memcpy(outer->destination, packet->outer_destination, size);
    }
    return index;
}

static Session *open_session(Core *core, const Passenger *passenger)
{
    const Packet *packet = &passenger->packet;
    if (core->rules.max_open && core->open >= core->rules.max_open)
        evict(core);
    if (core->open >= core->slot_mask / 2 && !grow_slots(core))
        return NULL;
    uint32_t outer = packet->depth ? keep_outer(core, packet) : 0;
    uint32_t index = take_item(core, &core->sessions, sizeof(Session));
    if (!index)
        return NULL;
    core->slots[find(core, &passenger->key, passenger->tag)] = (Slot){passenger->tag, index};
    Session *session = session_at(core, index);
    *session = (Session){
        .key = passenger->key,
        .number = core->next_number++,
        .first_time = passenger->frame->time,
        .last_time = passenger->frame->time,
        .first_clock = core->clock,
        .older = core->newest,
        .tag = passenger->tag,
        .state = (uint16_t)((passenger->swapped ? SWAPPED : 0) |
                            (opens(packet) ? BEGAN_WITH_SYN : 0)),
        .outer = outer,
        .outer_family = packet->outer_family,
        .tunnel = packet->tunnel,
        .depth = packet->depth,
        .icmp_type = packet->icmp_type,
        .icmp_code = packet->icmp_code,
    };
    *(core->newest ? &session_at(core, core->newest)->newer : &core->oldest) = index;
    core->newest = index;
    core->open++;
    return session;
}

/* ---- Rules --------------------------------------------------------------------------------- */

/* Whether a time lies more than so many nanoseconds behind another. */
static inline bool is_later(uint64_t time, uint64_t than, uint64_t by)
{
    return (int64_t)time > (int64_t)than && time - than > by;
}

static inline bool opens_another(const Session *session, const Packet *packet)
{
    return opens(packet) && session->state & HAS_SYN &&
           session->first_syn != packet->sequence;
}

static End end_by_zeek(const Session *session, const Frame *frame, const Packet *packet)
{
    bool tcp = packet->protocol == TCP;
    if (is_later(frame->time, session->last_time, (tcp ? ZEEK_IDLE_TCP : ZEEK_IDLE_OTHER) * SECOND))
        return IDLE_TIMEOUT;
    if (!tcp)
        return GOES_ON;
    if ((session->state & (BEGAN_WITH_SYN | ANSWERED)) == BEGAN_WITH_SYN &&
        is_later(frame->time, session->first_time, ZEEK_ATTEMPT * SECOND))
        return IDLE_TIMEOUT;
    bool finished = (session->state & FINISHED_BOTH) == FINISHED_BOTH;
    if ((finished || session->state & RESET) &&
        (opens(packet) || is_later(frame->time, session->last_time, ZEEK_CLOSED * SECOND)))
        return CLOSED;
    return opens_another(session, packet) ? NEW_CONNECTION : GOES_ON;
}

/* Tell whether, and why, the session of its key ends before this packet. */
static inline End end_of(const Core *core, const Session *session, const Frame *frame,
                         const Packet *packet)
{
    uint64_t idle = core->rules.idle_timeout;
    if (idle && is_later(frame->time, session->last_time, idle))
        return IDLE_TIMEOUT;
    switch (core->rules.rule) {
    case CONNECTION:
        return opens_another(session, packet) ? NEW_CONNECTION : GOES_ON;
    case PCAPSPLITTER:
        return opens(packet) && !(session->state & AFTER_SYN) ? NEW_CONNECTION : GOES_ON;
    case ZEEK:
        return end_by_zeek(session, frame, packet);
    case NFSTREAM:
        if (core->clock - session->last_clock >= NFSTREAM_IDLE)
            return IDLE_TIMEOUT;
        return core->clock - session->first_clock >= NFSTREAM_ACTIVE ? ACTIVE_TIMEOUT : GOES_ON;
    }
    return GOES_ON;
}

/* ---- A packet joins ------------------------------------------------------------------------ */

/* Follow the order of a TCP segment; false if it is an exact repetition and to be dropped. */
static inline bool follow_order(Core *core, Session *session, const Passenger *passenger,
                                bool direction, unsigned *flag)
{
    const Packet *packet = &passenger->packet;
    uint32_t taken = numbers_taken(packet), start = packet->sequence, end = start + taken;
    if (!taken)
        return true;
    Order *order = &session->order[direction];
    uint8_t *seen = &session->gaps[direction];
    *flag = order_flag(order, *seen, start, end);
    if (core->rules.drop_retransmissions) {
        uint64_t identity = identity_of(core, passenger->frame, packet, taken);
        if (*flag == RETRANSMISSION && after(end, order->next) <= 0 &&
            is_remembered(core, session, direction, identity))
            return false;
        remember(core, session, direction, identity);
    }
    advance(order, seen, start, end);
    return true;
}

/* Remember what the packet says of the connection's state. */
static inline void note(Session *session, const Packet *packet, bool direction)
{
    unsigned state = session->state & ~(unsigned)AFTER_SYN;
    state |= direction ? ANSWERED : 0;
    if (packet->flags & (TCP_FIN | TCP_SYN | TCP_RST)) {
        state |= packet->flags & TCP_RST ? RESET : 0;
        if (packet->flags & TCP_FIN)
            state |= FINISHED << direction;
        if (opens(packet)) {
            if (!(state & HAS_SYN))
                session->first_syn = packet->sequence;
            state |= AFTER_SYN | HAS_SYN;
        }
    }
    session->state = (uint16_t)state;
}

static inline void join(Core *core, const Passenger *passenger)
{
    const Frame *frame = passenger->frame;
    const Packet *packet = &passenger->packet;
    const Rules *rules = &core->rules;
    if (rules->rule == NFSTREAM && (int64_t)frame->time > 0 &&
        frame->time / MILLISECOND > core->clock)
        core->clock = frame->time / MILLISECOND;
    uint32_t slot = find(core, &passenger->key, passenger->tag);
    Session *session = NULL;
    if (core->slots[slot].session) {
        session = session_at(core, core->slots[slot].session);
        End end = end_of(core, session, frame, packet);
        if (end != GOES_ON) {
            close_session(core, slot, end);
            session = NULL;
        }
    }
    if (!session && !(session = open_session(core, passenger)))
        return;
    bool direction = passenger->swapped != (session->state & SWAPPED);
    bool shown = session->packets < rules->limit;
    unsigned flags = 0;
    /* What cannot be seen is not followed; a host pair's connections have nothing in common. */
    if ((shown || rules->drop_retransmissions) && rules->rule != HOST_PAIR &&
        !follow_order(core, session, passenger, direction, &flags)) {
        core->dropped[REPEATED]++;
        return;
    }
    if (shown)
        emit_packet(core, session, frame, packet, direction,
                    flags | (packet->fragmented ? FRAGMENTED : 0));
    session->packets++;
    session->bytes += frame->wire;
    if (packet->payload != ABSENT)
        session->payload_bytes += packet->end - packet->payload;
    if ((int64_t)frame->time > (int64_t)session->last_time)
        session->last_time = frame->time;
    if (rules->rule == NFSTREAM)
        session->last_clock = core->clock;
    note(session, packet, direction);
    if (rules->early && session->packets == rules->limit)
        emit_session(core, session, PACKET_LIMIT);
}

#endif
