/* Which endpoints the later fragments of a datagram have. Part of the capture core.
 *
 * Only the first fragment of a datagram holds the transport header. It resolves the datagram: its
 * endpoints are those of all fragments. Later fragments that came before it wait until it comes.
 * Nothing is put together, tiles stay as captured, so fragments that overlap need no policy but one:
 * the latest first fragment decides. Memory is bounded, whatever comes.
 *
 * Sources: RFC 791 and RFC 815 (IPv4), RFC 8200 section 4.5 (IPv6; also the 60 seconds).
 */
#ifndef XAI_TRAFFIC_CORE_FRAGMENTS_H
#define XAI_TRAFFIC_CORE_FRAGMENTS_H

#include "core_decode.h"
#include "core_sessions.h"

enum { LIFETIME = 60, BUCKETS = 4096 };

/* Take a packet whose endpoints are known to its session; in core_engine.h. */
static void take_alone(Core *core, const Frame *frame, const Packet *packet);

static inline uint16_t *bucket_of(const Core *core, const Key *key)
{
    return &core->buckets[hash(core, key) % BUCKETS];
}

static bool make_datagrams(Core *core)
{
    if (!core->datagrams) {
        core->datagrams = calloc(MAX_DATAGRAMS + 1, sizeof *core->datagrams);
        core->buckets = calloc(BUCKETS, sizeof *core->buckets);
        core->failed |= !core->datagrams || !core->buckets;
    }
    return !core->failed;
}

/* Take the fragments that wait out of an entry. */
static Waiting *take_waiting(Core *core, Datagram *datagram)
{
    Waiting *first = datagram->waiting;
    datagram->waiting = datagram->last_waiting = NULL;
    core->waiting -= datagram->waiting_count;
    datagram->waiting_count = 0;
    for (Waiting *waiting = first; waiting; waiting = waiting->next)
        core->waiting_bytes -= waiting->frame.captured;
    return first;
}

static void discard_datagram(Core *core, uint16_t index)
{
    Datagram *entries = core->datagrams, *datagram = &entries[index];
    core->dropped[FRAGMENT] += datagram->waiting_count;
    for (Waiting *next, *waiting = take_waiting(core, datagram); waiting; waiting = next) {
        next = waiting->next;
        free(waiting);
    }
    uint16_t *link = bucket_of(core, &datagram->key);
    while (*link != index)
        link = &entries[*link].next;
    *link = datagram->next;
    *(datagram->older ? &entries[datagram->older].newer : &core->oldest_datagram) = datagram->newer;
    *(datagram->newer ? &entries[datagram->newer].older : &core->newest_datagram) = datagram->older;
    datagram->next = core->free_datagram;
    core->free_datagram = index;
}

/* Return the entry of a datagram, a new one where there is none or it is too old. */
static Datagram *meet_datagram(Core *core, const Key *key, uint64_t time)
{
    if (!make_datagrams(core))
        return NULL;
    Datagram *entries = core->datagrams;
    uint16_t index = *bucket_of(core, key);
    while (index && !equal(&entries[index].key, key))
        index = entries[index].next;
    if (index) {
        uint64_t made = entries[index].made;
        if (!is_later(time, made, LIFETIME * SECOND) && !is_later(made, time, LIFETIME * SECOND))
            return &entries[index];
        discard_datagram(core, index);
    }
    if (!core->free_datagram && core->datagram_count == MAX_DATAGRAMS)
        discard_datagram(core, core->oldest_datagram);
    if ((index = core->free_datagram))
        core->free_datagram = entries[index].next;
    else
        index = ++core->datagram_count;
    uint16_t *bucket = bucket_of(core, key);
    entries[index] = (Datagram){
        .key = *key,
        .made = time,
        .next = *bucket,
        .older = core->newest_datagram,
    };
    *bucket = index;
    *(core->newest_datagram ? &entries[core->newest_datagram].newer : &core->oldest_datagram) = index;
    core->newest_datagram = index;
    return &entries[index];
}

static void keep_waiting(Core *core, Datagram *datagram, const Frame *frame)
{
    if (datagram->waiting_count >= MAX_WAITING ||
        core->waiting_bytes + frame->captured > MAX_WAITING_BYTES) {
        core->dropped[FRAGMENT]++;
        return;
    }
    Waiting *waiting = malloc(sizeof *waiting + frame->captured);
    if (!waiting) {
        core->failed = true;
        return;
    }
    memcpy(waiting->bytes, frame->bytes, frame->captured);
    waiting->next = NULL;
    waiting->frame = *frame;
    waiting->frame.bytes = waiting->bytes;
    *(datagram->last_waiting ? &datagram->last_waiting->next : &datagram->waiting) = waiting;
    datagram->last_waiting = waiting;
    datagram->waiting_count++;
    core->waiting++;
    core->waiting_bytes += frame->captured;
}

/* Note the endpoints that a first fragment names. */
static void resolve(Datagram *datagram, const Packet *packet)
{
    size_t size = packet->family == 4 ? 4 : 16, outer = packet->outer_family == 4 ? 4 : 16;
    datagram->resolved = true;
    datagram->family = packet->family;
    datagram->protocol = packet->protocol;
    datagram->tunnel = packet->tunnel;
    datagram->depth = packet->depth;
    datagram->outer_family = packet->outer_family;
    datagram->source_port = packet->source_port;
    datagram->destination_port = packet->destination_port;
    memcpy(datagram->source, packet->source, size);
    memcpy(datagram->destination, packet->destination, size);
    if (packet->outer_family) {
        memcpy(datagram->outer_source, packet->outer_source, outer);
        memcpy(datagram->outer_destination, packet->outer_destination, outer);
    }
}

/* Give a later fragment the endpoints of its datagram. They are pointed at, not copied. */
static void inherit(Packet *packet, const Datagram *datagram)
{
    packet->family = datagram->family;
    packet->protocol = datagram->protocol;
    packet->tunnel = datagram->tunnel;
    packet->depth = datagram->depth;
    packet->outer_family = datagram->outer_family;
    packet->source_port = datagram->source_port;
    packet->destination_port = datagram->destination_port;
    packet->source = datagram->source;
    packet->destination = datagram->destination;
    packet->outer_source = datagram->outer_source;
    packet->outer_destination = datagram->outer_destination;
}

/* Take the fragments that waited for these endpoints. */
static void release(Core *core, Datagram *datagram)
{
    for (Waiting *next, *waiting = take_waiting(core, datagram); waiting; waiting = next) {
        Packet packet;
        Pieces pieces;
        next = waiting->next;
        decode(&waiting->frame, !core->rules.outer_only, &packet, &pieces);
        inherit(&packet, datagram);
        take_alone(core, &waiting->frame, &packet);
        free(waiting);
    }
}

/* Take a packet that holds pieces of datagrams. */
static void take_pieces(Core *core, const Frame *frame, Packet *packet, const Pieces *pieces)
{
    Datagram ends; /* a copy, since entries come and go below */
    if (pieces->waits) {
        Datagram *datagram = meet_datagram(core, &pieces->later, frame->time);
        if (!datagram)
            return;
        if (!datagram->resolved) {
            keep_waiting(core, datagram, frame);
            return;
        }
        ends = *datagram;
        inherit(packet, &ends);
    }
    for (unsigned i = 0; i < pieces->begun; i++) {
        Datagram *datagram = meet_datagram(core, &pieces->first[i], frame->time);
        if (!datagram)
            return;
        resolve(datagram, packet);
        release(core, datagram);
    }
    take_alone(core, frame, packet);
}

/* Give up what waits: the stream has ended. */
static void discard_datagrams(Core *core)
{
    while (core->oldest_datagram)
        discard_datagram(core, core->oldest_datagram);
}

#endif
