/* Into the IP header that a datagram carries for others. Part of the capture core.
 *
 * Sources: RFC 2003 (IP in IP), RFC 4213 (6in4), RFC 2784 and RFC 2890 (GRE), RFC 2637 (PPTP's GRE),
 * draft-foschiano-erspan (ERSPAN), Wireshark's packet-gre.h (Aruba), RFC 7348 (VXLAN), RFC 8926
 * (Geneve), 3GPP TS 29.281 (GTP-U), RFC 4380 (Teredo).
 */
#ifndef XAI_TRAFFIC_CORE_TUNNELS_H
#define XAI_TRAFFIC_CORE_TUNNELS_H

#include "core_ip.h"
#include "core_links.h"

enum { TYPE_BRIDGED = 0x6558, TYPE_PPTP = 0x880B, TYPE_ERSPAN = 0x88BE, TYPE_ERSPAN_3 = 0x22EB };
enum { ARUBA_FIRST = 0x8200, ARUBA_LAST = 0x8370 }; /* 802.11 frames that access points heard */
enum { GRE_CHECKSUM = 0x80, GRE_ROUTING = 0x40, GRE_KEY = 0x20, GRE_SEQUENCE = 0x10 };
enum { GRE_ACKNOWLEDGE = 0x80 };
enum { GTP_DATA = 255, GTP_OPTIONS = 7, GTP_EXTENDED = 4, MAX_GTP_EXTENSIONS = 16 };

/* What a datagram may be by its protocol and ports. */
static inline Tunnel tunnel_by_ports(uint16_t source, uint16_t destination)
{
    if (destination == 4789)
        return VXLAN;
    if (destination == 6081)
        return GENEVE;
    if (destination == 2152 || source == 2152)
        return GTP;
    return destination == 3544 || source == 3544 ? TEREDO : NO_TUNNEL;
}

static inline Tunnel tunnel_of(const Packet *packet)
{
    switch (packet->protocol) {
    case 4:
        return IPIP;
    case 41:
        return SIX_IN_FOUR;
    case 47:
        return GRE;
    case UDP:
        return tunnel_by_ports(packet->source_port, packet->destination_port);
    }
    return NO_TUNNEL;
}

/* All of the following return whether they found the place of an IP header. */

static bool enter_gre(const uint8_t *bytes, Place *place)
{
    if (!need(place, 4))
        return false;
    const uint8_t *p = bytes + place->at;
    uint32_t type = big16(p + 2), sequence = p[0] & GRE_SEQUENCE ? 4 : 0;
    unsigned version = p[1] & 7;
    if (version == 1 && type == TYPE_PPTP && p[0] & GRE_KEY) {
        place->at += 8 + sequence + (p[1] & GRE_ACKNOWLEDGE ? 4 : 0);
        return ppp(bytes, place, 0xFF) == KEPT;
    }
    if (version != 0 || p[0] & GRE_ROUTING)
        return false;
    place->at += 4 + (p[0] & GRE_CHECKSUM ? 4 : 0) + (p[0] & GRE_KEY ? 4 : 0) + sequence;
    if (type == TYPE_IPV4 || type == TYPE_IPV6 || is_mpls(type))
        return follow(bytes, place, type, false) == KEPT;
    if (type == TYPE_PPTP)
        return ppp(bytes, place, 0xFF) == KEPT;
    if (type >= ARUBA_FIRST && type <= ARUBA_LAST && type % 16 == 0)
        return wireless(bytes, place, false) == KEPT;
    if (type == TYPE_ERSPAN_3) {
        if (!need(place, 12))
            return false;
        place->at += bytes[place->at + 11] & 1 ? 20 : 12; /* the platform's own subheader */
    } else if (type == TYPE_ERSPAN)
        place->at += sequence ? 8 : 0; /* its first type has no header */
    else if (type != TYPE_BRIDGED)
        return false;
    return ethernet(bytes, place) == KEPT;
}

static bool enter_vxlan(const uint8_t *bytes, Place *place)
{
    if (!need(place, 8) || !(bytes[place->at] & 0x08)) /* a network identifier is there */
        return false;
    place->at += 8;
    return ethernet(bytes, place) == KEPT;
}

static bool enter_geneve(const uint8_t *bytes, Place *place)
{
    if (!need(place, 8) || bytes[place->at] >> 6 != 0)
        return false;
    uint32_t type = big16(bytes + place->at + 2);
    place->at += 8 + (bytes[place->at] & 0x3Fu) * 4;
    if (type == TYPE_BRIDGED)
        return ethernet(bytes, place) == KEPT;
    place->family = type == TYPE_IPV4 ? 4 : 6;
    return type == TYPE_IPV4 || type == TYPE_IPV6;
}

static bool enter_gtp(const uint8_t *bytes, Place *place)
{
    if (!need(place, 8))
        return false;
    const uint8_t *p = bytes + place->at;
    if ((p[0] & 0xF0) != 0x30 || p[1] != GTP_DATA) /* version 1, and not GTP' */
        return false;
    uint8_t flags = p[0];
    place->at += 8;
    if (flags & GTP_OPTIONS) {
        if (!need(place, 4))
            return false;
        place->at += 4;
        bool more = flags & GTP_EXTENDED;
        for (int extensions = 0; more && bytes[place->at - 1]; extensions++) {
            if (extensions == MAX_GTP_EXTENSIONS || !need(place, 1))
                return false;
            uint32_t length = bytes[place->at] * 4u;
            if (length == 0 || !need(place, length))
                return false;
            place->at += length;
        }
    }
    return raw(bytes, place) == KEPT;
}

static bool enter_teredo(const uint8_t *bytes, Place *place)
{
    if (!need(place, 4))
        return false;
    const uint8_t *p = bytes + place->at;
    if (p[0] == 0 && p[1] == 1) /* authentication: two fields, a nonce, a confirmation */
        place->at += 4u + p[2] + p[3] + 9u;
    if (!need(place, 2))
        return false;
    p = bytes + place->at;
    if (p[0] == 0 && p[1] == 0) /* the origin's port and address */
        place->at += 8;
    if (!need(place, 40))
        return false;
    p = bytes + place->at;
    place->family = 6;
    return p[0] >> 4 == 6 && need(place, 40u + big16(p + 4));
}

static bool enter(Tunnel tunnel, const uint8_t *bytes, Place *place)
{
    switch (tunnel) {
    case IPIP:
    case SIX_IN_FOUR:
        place->family = tunnel == IPIP ? 4 : 6;
        return true;
    case GRE:
        return enter_gre(bytes, place);
    case VXLAN:
        return enter_vxlan(bytes, place);
    case GENEVE:
        return enter_geneve(bytes, place);
    case GTP:
        return enter_gtp(bytes, place);
    case TEREDO:
        return enter_teredo(bytes, place);
    default:
        return false;
    }
}

#endif
