/* TCP segments that come again or late. Part of the capture core.
 *
 * One direction of a session is watched by the sequence number that it should go on with, and by the
 * latest two gaps that it left. A segment from before that number fills a gap, then it is out of
 * order, or it does not, then its bytes were seen before. Numbers are compared modulo 2^32 as in
 * RFC 9293, section 3.4.
 */
#ifndef XAI_TRAFFIC_CORE_ORDER_H
#define XAI_TRAFFIC_CORE_ORDER_H

#include "core_state.h"

/* Sequence numbers that the packet takes of its direction; 0 also where they are not looked at. */
static inline uint32_t numbers_taken(const Packet *packet)
{
    if (packet->protocol != TCP || packet->payload == ABSENT || packet->fragmented ||
        packet->flags & TCP_RST)
        return 0;
    uint32_t data = packet->declared > packet->payload ? packet->declared - packet->payload : 0;
    return data + !!(packet->flags & TCP_SYN) + (packet->flags & TCP_FIN);
}

/* The oldest gap that [start, end) touches, or their number. */
static inline int gap_of(const Order *order, int gaps, uint32_t start, uint32_t end)
{
    int gap = 0;
    while (gap < gaps && (after(order->to[gap], start) <= 0 || after(end, order->from[gap]) <= 0))
        gap++;
    return gap;
}

/* RETRANSMISSION, OUT_OF_ORDER or 0; changes nothing. `seen` is 0 or one more than the gaps. */
static inline unsigned order_flag(const Order *order, unsigned seen, uint32_t start, uint32_t end)
{
    if (!seen || after(start, order->next) >= 0)
        return 0;
    int gaps = (int)seen - 1;
    return gap_of(order, gaps, start, end) == gaps ? RETRANSMISSION : OUT_OF_ORDER;
}

static void fill_gap(Order *order, uint8_t *seen, uint32_t start, uint32_t end)
{
    int gaps = *seen - 1, gap = gap_of(order, gaps, start, end);
    if (gap == gaps)
        return;
    if (after(start, order->from[gap]) > 0)
        order->to[gap] = start; /* what is left behind it is forgotten */
    else if (after(order->to[gap], end) > 0)
        order->from[gap] = end;
    else {
        for (; gap < gaps - 1; gap++) {
            order->from[gap] = order->from[gap + 1];
            order->to[gap] = order->to[gap + 1];
        }
        --*seen;
    }
}

static inline void leave_gap(Order *order, uint8_t *seen, uint32_t start)
{
    if (*seen == MAX_GAPS + 1) {
        for (int gap = 1; gap < MAX_GAPS; gap++) {
            order->from[gap - 1] = order->from[gap];
            order->to[gap - 1] = order->to[gap];
        }
        --*seen;
    }
    order->from[*seen - 1] = order->next;
    order->to[*seen - 1] = start;
    ++*seen;
}

/* Count a segment as sent. */
static inline void advance(Order *order, uint8_t *seen, uint32_t start, uint32_t end)
{
    if (!*seen)
        *seen = 1;
    else if (start != order->next) {
        if (after(start, order->next) > 0)
            leave_gap(order, seen, start);
        else {
            fill_gap(order, seen, start, end);
            if (after(end, order->next) <= 0)
                return;
        }
    }
    order->next = end;
}

/* What an exact repetition has in common with a segment; never 0. */
static uint64_t identity_of(const Core *core, const Frame *frame, const Packet *packet,
                            uint32_t taken)
{
    uint64_t numbers = (uint64_t)packet->sequence << 32 | taken;
    uint64_t identity = hash_bytes(core->secret, frame->bytes + packet->payload,
                                   packet->end - packet->payload, numbers);
    return identity ? identity : 1;
}

static inline History *history_at(const Core *core, uint32_t index)
{
    return item(&core->histories, index, sizeof(History));
}

static bool is_remembered(const Core *core, const Session *session, bool direction,
                          uint64_t identity)
{
    uint32_t index = session->history[direction];
    for (int i = 0; index && i < REMEMBERED; i++)
        if (history_at(core, index)->segments[i] == identity)
            return true;
    return false;
}

static void remember(Core *core, Session *session, bool direction, uint64_t identity)
{
    uint32_t index = session->history[direction];
    if (!index) {
        if (!(index = take_item(core, &core->histories, sizeof(History))))
            return;
        *history_at(core, index) = (History){0};
        session->history[direction] = index;
        session->turn[direction] = 0;
    }
    history_at(core, index)->segments[session->turn[direction]++ % REMEMBERED] = identity;
}

#endif
