/* The core as a whole: begin, feed, finish, expire, end. It knows nothing of Python.
 *
 * Frames are decoded BATCH at a time: while the table's slots and then the sessions of some are on
 * their way from memory, the others are worked on.
 */
#ifndef XAI_TRAFFIC_CORE_ENGINE_H
#define XAI_TRAFFIC_CORE_ENGINE_H

#include "core_filter.h"
#include "core_formats.h"
#include "core_fragments.h"

/* Ask the filter, and make the key; false if the packet is filtered. */
static inline bool board(Core *core, Passenger *passenger, const Frame *frame)
{
    if (!passes(&core->filter, frame->wire, &passenger->packet)) {
        core->dropped[FILTERED]++;
        return false;
    }
    passenger->frame = frame;
    passenger->swapped = make_key(core, &passenger->key, &passenger->packet);
    passenger->tag = hash(core, &passenger->key);
    return true;
}

/* Let the first passengers join their sessions. */
static void ride(Core *core, unsigned count)
{
    if (!reserve(core, &core->tiles, (size_t)count * core->rules.width) ||
        !reserve(core, &core->packet_rows, (size_t)count * PACKET_ROW))
        return;
    bool timed = core->rules.rule == ZEEK || core->rules.rule == NFSTREAM; /* they ask its age */
    for (unsigned i = 0; i < count; i++) {
        uint32_t tag = core->passengers[i].tag, at = tag & core->slot_mask;
        while (core->slots[at].session && core->slots[at].tag != tag)
            at = (at + 1) & core->slot_mask;
        if (core->slots[at].session) {
            const char *session = (const char *)session_at(core, core->slots[at].session);
            PREFETCH(session);
            PREFETCH(session + 64);
            if (timed)
                PREFETCH(session + 128);
        }
    }
    for (unsigned i = 0; i < count && !core->failed; i++)
        join(core, &core->passengers[i]);
}

static void take_alone(Core *core, const Frame *frame, const Packet *packet)
{
    Passenger *passenger = &core->passengers[0];
    passenger->packet = *packet;
    if (board(core, passenger, frame))
        ride(core, 1);
}

/* Take the frames that were found, in their order. */
static void settle(Core *core)
{
    bool inner = !core->rules.outer_only;
    unsigned boarded = 0;
    for (unsigned i = 0; i < core->frames && !core->failed; i++) {
        const Frame *frame = &core->batch[i];
        Passenger *passenger = &core->passengers[boarded];
        Pieces pieces;
        Drop drop = decode(frame, inner, &passenger->packet, &pieces);
        if (drop != KEPT) {
            core->dropped[drop]++;
        } else if (pieces.waits || pieces.begun) {
            Packet packet = passenger->packet;
            ride(core, boarded);
            boarded = 0;
            take_pieces(core, frame, &packet, &pieces);
        } else if (board(core, passenger, frame)) {
            PREFETCH(&core->slots[passenger->tag & core->slot_mask]);
            boarded++;
        }
    }
    ride(core, boarded);
    core->frames = 0;
}

/* Begin with a core that is all zero; false if the program is none, or without memory (`failed`). */
static bool core_begin(Core *core, const Rules *rules, const uint8_t *program, size_t size,
                       const uint64_t secret[4])
{
    core->rules = *rules;
    memcpy(core->secret, secret, sizeof core->secret);
    return grow_slots(core) && load_program(&core->filter, program, size);
}

static void core_feed(Core *core, const uint8_t *bytes, size_t size)
{
    if (!core->finished)
        walk(core, bytes, size);
}

/* Free what is needed only as long as packets come. */
static void free_tables(Core *core)
{
    discard_datagrams(core);
    free(core->datagrams);
    free(core->buckets);
    free(core->slots);
    free(core->interfaces);
    core->datagrams = NULL;
    core->buckets = NULL;
    core->slots = NULL;
    core->interfaces = NULL;
    free_pool(&core->sessions);
    free_pool(&core->outers);
    free_pool(&core->histories);
}

static void core_finish(Core *core)
{
    if (core->finished || core->failed)
        return;
    core->finished = true;
    end_of_stream(core);
    for (uint32_t at = core->oldest; at; at = session_at(core, at)->newer)
        emit_session(core, session_at(core, at), CAPTURE_END);
    free_tables(core);
}

/* Report the open sessions without a packet since then; they stay open. */
static void core_expire(Core *core, int64_t time)
{
    if (core->finished)
        return;
    for (uint32_t at = core->oldest; at && !core->failed; at = session_at(core, at)->newer)
        if ((int64_t)session_at(core, at)->last_time < time)
            emit_session(core, session_at(core, at), QUIET);
}

/* Free all that the core holds. */
static void core_end(Core *core)
{
    Buffer *buffers[] = {&core->carry, &core->tiles, &core->packet_rows, &core->session_rows};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        free(buffers[i]->data);
    free_tables(core);
    free(core->filter.program);
    memset(core, 0, sizeof *core);
}

#endif
