/* What lies between a link header and IP. Part of the capture core.
 *
 * VLAN tags, LLC with SNAP, MPLS label stacks, PPPoE and PPP, and Ethernet behind MPLS. They nest: a
 * provider may carry tagged Ethernet in MPLS in tagged Ethernet.
 *
 * Sources: IEEE 802.3, 802.1Q and 802.2, RFC 1042 (SNAP), RFC 3032 and RFC 4385 (MPLS), RFC 2516
 * (PPPoE), RFC 1661 and RFC 1662 (PPP).
 */
#ifndef XAI_TRAFFIC_CORE_SHIMS_H
#define XAI_TRAFFIC_CORE_SHIMS_H

#include "core_state.h"

enum { MAX_TAGS = 8, MAX_LABELS = 16, MAX_SHIMS = 24, LONGEST_LENGTH = 1500 };
enum { TYPE_IPV4 = 0x0800, TYPE_IPV6 = 0x86DD, TYPE_PPPOE = 0x8864, TYPE_MPLS = 0x8847 };
enum { TYPE_MPLS_UPSTREAM = 0x8848 };

/* Where decoding stands: offsets in the frame. `at` may lie beyond the limit until `need` is asked. */
typedef struct {
    uint32_t at, limit;
    uint8_t family; /* of the IP header at `at`, once it is found */
} Place;

static inline bool need(const Place *place, uint32_t bytes)
{
    return place->limit >= bytes && place->limit - bytes >= place->at;
}

static inline Drop arrive(Place *place, uint8_t family)
{
    place->family = family;
    return KEPT;
}

static inline bool is_mpls(uint32_t type)
{
    return type == TYPE_MPLS || type == TYPE_MPLS_UPSTREAM;
}

static inline bool is_vlan(uint32_t type)
{
    return type == 0x8100 || type == 0x88A8 || type == 0x9100 || type == 0x9200;
}

/* Read an LLC header; the type is what follows it. */
static Drop pass_llc(const uint8_t *bytes, Place *place, uint32_t *type)
{
    if (!need(place, 3))
        return TRUNCATED;
    const uint8_t *p = bytes + place->at;
    if (p[0] == 0x06 && p[1] == 0x06 && p[2] == 0x03) {
        *type = TYPE_IPV4;
        place->at += 3;
        return KEPT;
    }
    if (p[0] != 0xAA || p[1] != 0xAA || p[2] != 0x03)
        return NOT_IP;
    if (!need(place, 8))
        return TRUNCATED;
    if (p[3] || p[4] || (p[5] && p[5] != 0xF8)) /* whose types are those of Ethernet: 802.1H */
        return NOT_IP;
    *type = big16(p + 6);
    place->at += 8;
    return KEPT;
}

/* Read the PPP protocol field; its first byte is left out where that is 0. */
static Drop pass_ppp_protocol(const uint8_t *bytes, Place *place, uint32_t *type)
{
    if (!need(place, 1))
        return TRUNCATED;
    const uint8_t *p = bytes + place->at;
    uint32_t size = p[0] & 1 ? 1 : 2;
    if (!need(place, size))
        return TRUNCATED;
    place->at += size;
    switch (size == 1 ? p[0] : big16(p)) {
    case 0x0021:
        *type = TYPE_IPV4;
        return KEPT;
    case 0x0057:
        *type = TYPE_IPV6;
        return KEPT;
    case 0x0281:
    case 0x0283:
        *type = TYPE_MPLS;
        return KEPT;
    }
    return NOT_IP;
}

static Drop pass_labels(const uint8_t *bytes, Place *place)
{
    for (int labels = 0; labels < MAX_LABELS; labels++) {
        if (!need(place, 4))
            return TRUNCATED;
        place->at += 4;
        if (bytes[place->at - 2] & 1) /* bottom of the stack */
            return KEPT;
    }
    return NOT_IP;
}

/* Find IP, given an Ethernet type and what it announces; in some fields a small one is a length. */
static Drop follow(const uint8_t *bytes, Place *place, uint32_t type, bool may_be_length)
{
    Drop drop;
    for (int shims = 0, tags = 0;;) {
        if (may_be_length && type <= LONGEST_LENGTH &&
            (drop = pass_llc(bytes, place, &type)) != KEPT)
            return drop;
        may_be_length = false;
        if (type == TYPE_IPV4 || type == TYPE_IPV6)
            return arrive(place, type == TYPE_IPV4 ? 4 : 6);
        if (++shims > MAX_SHIMS)
            return NOT_IP;
        const uint8_t *p = bytes + place->at;
        if (is_vlan(type)) {
            if (++tags > MAX_TAGS)
                return NOT_IP;
            if (!need(place, 4))
                return TRUNCATED;
            type = big16(p + 2);
            may_be_length = true;
            place->at += 4;
        } else if (type == TYPE_PPPOE) {
            if (!need(place, 6))
                return TRUNCATED;
            if (p[0] != 0x11 || p[1] != 0) /* version 1, type 1, session data */
                return NOT_IP;
            place->at += 6;
            if ((drop = pass_ppp_protocol(bytes, place, &type)) != KEPT)
                return drop;
        } else if (is_mpls(type)) {
            if ((drop = pass_labels(bytes, place)) != KEPT)
                return drop;
            if (!need(place, 1))
                return TRUNCATED;
            uint8_t nibble = bytes[place->at] >> 4;
            if (nibble == 4 || nibble == 6)
                return arrive(place, nibble);
            if (nibble != 0 || ++shims > MAX_SHIMS)
                return NOT_IP;
            place->at += 4; /* the control word of a pseudowire: Ethernet */
            if (!need(place, 14))
                return TRUNCATED;
            type = big16(bytes + place->at + 12);
            may_be_length = true;
            place->at += 14;
        } else
            return NOT_IP;
    }
}

/* Find IP behind a header of fixed length that has an Ethernet type in it. */
static inline Drop typed(const uint8_t *bytes, Place *place, uint32_t header, uint32_t type_at)
{
    if (!need(place, header))
        return TRUNCATED;
    uint32_t type = big16(bytes + place->at + type_at);
    place->at += header;
    return follow(bytes, place, type, false);
}

static Drop ethernet(const uint8_t *bytes, Place *place)
{
    if (!need(place, 14))
        return TRUNCATED;
    uint32_t type = big16(bytes + place->at + 12);
    place->at += 14;
    return follow(bytes, place, type, true);
}

/* `address` is what HDLC has before its control byte, or -1 for any. */
static Drop ppp(const uint8_t *bytes, Place *place, int address)
{
    uint32_t type;
    const uint8_t *p = bytes + place->at;
    if (need(place, 2) && (address < 0 || p[0] == address) && p[1] == 0x03)
        place->at += 2;
    Drop drop = pass_ppp_protocol(bytes, place, &type);
    return drop == KEPT ? follow(bytes, place, type, false) : drop;
}

#endif
