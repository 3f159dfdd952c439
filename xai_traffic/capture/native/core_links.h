/* From the link type of a frame to its first IP header. Part of the capture core.
 *
 * Sources: tcpdump.org's list of link types with the pages it refers to (SLL, SLL2, NFLOG, PPI, PPP,
 * Cisco HDLC), IEEE 802.11, radiotap.org.
 */
#ifndef XAI_TRAFFIC_CORE_LINKS_H
#define XAI_TRAFFIC_CORE_LINKS_H

#include "core_shims.h"

enum { PPI = 192, PRISM_HEADER = 144, COOKED_LLC = 4 };
enum { WIFI_FROM_AND_TO_DS = 0x0300, WIFI_PROTECTED = 0x4000, WIFI_ORDER = 0x8000 };
enum { RADIOTAP_WORDS = 32, RADIOTAP_PADDED = 0x20, NFLOG_PAYLOAD = 9 };

/* A data frame of IEEE 802.11; `padded`: its header fills a multiple of 4 bytes. */
static Drop wireless(const uint8_t *bytes, Place *place, bool padded)
{
    if (!need(place, 2))
        return TRUNCATED;
    const uint8_t *p = bytes + place->at;
    uint32_t control = little16(p), subtype = control >> 4 & 15;
    if ((control & 3) != 0 || (control >> 2 & 3) != 2 || subtype & 4) /* data, and not null */
        return NOT_IP;
    if (control & WIFI_PROTECTED)
        return ENCRYPTED;
    /* A frame from one distribution system to another has a fourth address. */
    uint32_t quality = (control & WIFI_FROM_AND_TO_DS) == WIFI_FROM_AND_TO_DS ? 30 : 24;
    uint32_t header = quality;
    if (subtype & 8)
        header += control & WIFI_ORDER ? 6 : 2;
    if (!need(place, header))
        return TRUNCATED;
    if (subtype & 8 && p[quality] & 0x80) /* several frames in one */
        return NOT_IP;
    place->at += padded ? (header + 3) & ~3u : header;
    uint32_t type;
    Drop drop = pass_llc(bytes, place, &type);
    return drop == KEPT ? follow(bytes, place, type, false) : drop;
}

static Drop radiotap(const uint8_t *bytes, Place *place)
{
    if (!need(place, 8))
        return TRUNCATED;
    const uint8_t *p = bytes + place->at;
    uint32_t length = little16(p + 2), fields = little32(p + 4), words = 1, flags = 0;
    if (p[0] != 0 || length < 8)
        return MALFORMED;
    if (!need(place, length))
        return TRUNCATED;
    for (uint32_t word = fields; word >> 31; words++) { /* more bits of fields follow */
        if (words == RADIOTAP_WORDS || 8 + 4 * words > length)
            return MALFORMED;
        word = little32(p + 4 + 4 * words);
    }
    if (fields & 2) {
        uint32_t at = 4 + 4 * words;
        if (fields & 1) /* the time stamp before it, aligned to its 8 bytes */
            at = ((at + 7) & ~7u) + 8;
        if (at >= length)
            return MALFORMED;
        flags = p[at];
    }
    place->at += length;
    return wireless(bytes, place, flags & RADIOTAP_PADDED);
}

/* A header that begins with an address family in the byte order of the sender. */
static Drop loopback(const uint8_t *bytes, Place *place, uint32_t header)
{
    if (!need(place, header))
        return TRUNCATED;
    const uint8_t *p = bytes + place->at;
    place->at += header;
    switch (p[0] || p[1] ? little32(p) : big32(p)) {
    case 2:
        return arrive(place, 4);
    case 24: /* AF_INET6 of the BSDs */
    case 28:
    case 30:
        return arrive(place, 6);
    }
    return NOT_IP;
}

static Drop raw(const uint8_t *bytes, Place *place)
{
    if (!need(place, 1))
        return TRUNCATED;
    uint8_t version = bytes[place->at] >> 4;
    return version == 4 || version == 6 ? arrive(place, version) : NOT_IP;
}

static Drop ppp_serial(const uint8_t *bytes, Place *place)
{
    if (!need(place, 1))
        return TRUNCATED;
    uint8_t address = bytes[place->at];
    if (address == 0x0F || address == 0x8F) /* Cisco's unicast and multicast address */
        return typed(bytes, place, 4, 2);
    return ppp(bytes, place, 0xFF);
}

static Drop nflog(const uint8_t *bytes, Place *place)
{
    if (!need(place, 4))
        return TRUNCATED;
    const uint8_t *p = bytes + place->at;
    if (p[0] != 2 && p[0] != 10)
        return NOT_IP;
    if (p[1] != 0)
        return MALFORMED;
    uint8_t family = p[0] == 2 ? 4 : 6;
    place->at += 4;
    while (place->at < place->limit) {
        if (!need(place, 4))
            return TRUNCATED;
        p = bytes + place->at;
        uint32_t length = little16(p), type = little16(p + 2) & 0x7FFF;
        if (length < 4)
            return MALFORMED;
        if (type == NFLOG_PAYLOAD) {
            place->limit = least(place->limit, place->at + length);
            place->at += 4;
            return arrive(place, family);
        }
        if (!need(place, length))
            return TRUNCATED;
        place->at += (length + 3) & ~3u;
    }
    return NOT_IP;
}

/* Linux cooked: one type means LLC, the other small ones are Linux's own. */
static Drop cooked(const uint8_t *bytes, Place *place, uint32_t header, uint32_t type_at)
{
    if (!need(place, header))
        return TRUNCATED;
    uint32_t type = big16(bytes + place->at + type_at);
    place->at += header;
    return follow(bytes, place, type, type == COOKED_LLC);
}

static Drop find_ip(uint32_t link, const uint8_t *bytes, Place *place)
{
    if (link == PPI) { /* radiotap's sibling: any link type behind a header */
        if (!need(place, 8))
            return TRUNCATED;
        const uint8_t *p = bytes + place->at;
        uint32_t length = little16(p + 2);
        if (length < 8)
            return MALFORMED;
        if (!need(place, length))
            return TRUNCATED;
        link = little32(p + 4);
        place->at += length;
    }
    switch (link) {
    case 0:   /* BSD loopback */
    case 108: /* OpenBSD loopback */
        return loopback(bytes, place, 4);
    case 1:
        return ethernet(bytes, place);
    case 12: /* raw IP, under three numbers */
    case 14:
    case 101:
        return raw(bytes, place);
    case 9: /* PPP, as files and as serial lines have it */
    case 50:
        return ppp_serial(bytes, place);
    case 51:
        return follow(bytes, place, TYPE_PPPOE, false);
    case 104: /* Cisco HDLC */
        return typed(bytes, place, 4, 2);
    case 105:
        return wireless(bytes, place, false);
    case 109: /* OpenBSD's enc(4) */
        return loopback(bytes, place, 12);
    case 113:
        return cooked(bytes, place, 16, 14);
    case 119: /* Prism's header has a fixed length */
        if (!need(place, PRISM_HEADER))
            return TRUNCATED;
        place->at += PRISM_HEADER;
        return wireless(bytes, place, false);
    case 127:
        return radiotap(bytes, place);
    case 166: /* PPP of pppd: a direction in the place of the address */
        return ppp(bytes, place, -1);
    case 228:
        return arrive(place, 4);
    case 229:
        return arrive(place, 6);
    case 239:
        return nflog(bytes, place);
    case 276:
        return cooked(bytes, place, 20, 0);
    }
    return UNSUPPORTED_LINK;
}

#endif
