"""Find the IP header that a datagram carries for others. Part of the plain core.

Sources: RFC 2003 (IP in IP), RFC 4213 (6in4), RFC 2784 and RFC 2890 (GRE), RFC 2637 (PPTP's GRE),
draft-foschiano-erspan (ERSPAN), Wireshark's packet-gre.h (Aruba), RFC 7348 (VXLAN), RFC 8926
(Geneve), 3GPP TS 29.281 (GTP-U), RFC 4380 (Teredo).
"""

from __future__ import annotations

from xai_traffic.capture.core_numpy.links import wireless
from xai_traffic.capture.core_numpy.octets import NOT_IP, Dropped, need, number
from xai_traffic.capture.core_numpy.shims import IPV4, IPV6, MPLS, ethernet, follow, ppp
from xai_traffic.capture.records import TUNNELS, UDP

_, IPIP, SIX_IN_FOUR, GRE, VXLAN, GENEVE, GTP, TEREDO = range(len(TUNNELS))

TUNNEL_PROTOCOLS = {4: IPIP, 41: SIX_IN_FOUR, 47: GRE}
VXLAN_PORT, GENEVE_PORT, GTP_PORT, TEREDO_PORT = 4789, 6081, 2152, 3544
MAX_TUNNELS = 4

BRIDGED, PPTP, ERSPAN, ERSPAN_3 = 0x6558, 0x880B, 0x88BE, 0x22EB
ARUBA = range(0x8200, 0x8380, 0x10)
"""Types of GRE with which Aruba's access points send the 802.11 frames they heard."""
GRE_CHECKSUM, GRE_ROUTING, GRE_KEY, GRE_SEQUENCE, GRE_ACKNOWLEDGE = 0x80, 0x40, 0x20, 0x10, 0x80
GTP_USER_DATA, GTP_OPTIONS, GTP_EXTENDED = 255, 7, 4
MAX_GTP_EXTENSIONS = 16


def tunnel_of(protocol: int, source_port: int, destination_port: int) -> int:
    """Return the index into TUNNELS of what a datagram may be by its protocol and ports, or 0."""
    if protocol != UDP:
        return TUNNEL_PROTOCOLS.get(protocol, 0)
    if destination_port == VXLAN_PORT:
        return VXLAN
    if destination_port == GENEVE_PORT:
        return GENEVE
    if GTP_PORT in (source_port, destination_port):
        return GTP
    return TEREDO if TEREDO_PORT in (source_port, destination_port) else 0


def enter(tunnel: int, data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return (4 or 6, offset of the IP header) within a tunnel.

    Args:
        tunnel: index into TUNNELS, not 0.
        data: the captured bytes.
        at: offset of what stands behind the IP header, or behind the UDP header.
        end: where the datagram ends.

    Raises:
        Dropped: there is no tunnel after all, or no IP in it.
    """
    return _ENTRIES[tunnel](data, at, end)


def _gre(data: bytes, at: int, end: int) -> tuple[int, int]:
    need(end, at + 4)
    flags, more, protocol = data[at], data[at + 1], number(data, at + 2, 2)
    sequence = 4 if flags & GRE_SEQUENCE else 0
    if more & 7 == 1 and protocol == PPTP and flags & GRE_KEY:
        acknowledge = 4 if more & GRE_ACKNOWLEDGE else 0
        return ppp(data, at + 8 + sequence + acknowledge, end)
    if more & 7 != 0 or flags & GRE_ROUTING:
        raise Dropped(NOT_IP)
    at += 4 + (4 if flags & GRE_CHECKSUM else 0) + (4 if flags & GRE_KEY else 0) + sequence
    if protocol in (IPV4, IPV6, *MPLS):
        return follow(data, protocol, at, end)
    if protocol == PPTP:
        return ppp(data, at, end)
    if protocol in ARUBA:
        return wireless(data, at, end)
    if protocol == ERSPAN and sequence:
        at += 8
    elif protocol == ERSPAN_3:
        need(end, at + 12)
        at += 20 if data[at + 11] & 1 else 12  # the platform's own subheader
    elif protocol not in (BRIDGED, ERSPAN):
        raise Dropped(NOT_IP)
    return ethernet(data, at, end)


def _vxlan(data: bytes, at: int, end: int) -> tuple[int, int]:
    need(end, at + 8)
    if not data[at] & 0x08:  # no valid network identifier
        raise Dropped(NOT_IP)
    return ethernet(data, at + 8, end)


def _geneve(data: bytes, at: int, end: int) -> tuple[int, int]:
    need(end, at + 8)
    if data[at] >> 6 != 0:
        raise Dropped(NOT_IP)
    protocol = number(data, at + 2, 2)
    at += 8 + (data[at] & 0x3F) * 4
    if protocol == BRIDGED:
        return ethernet(data, at, end)
    if protocol not in (IPV4, IPV6):
        raise Dropped(NOT_IP)
    return follow(data, protocol, at, end)


def _gtp(data: bytes, at: int, end: int) -> tuple[int, int]:
    need(end, at + 8)
    flags = data[at]
    if flags & 0xF0 != 0x30 or data[at + 1] != GTP_USER_DATA:  # version 1, not GTP'
        raise Dropped(NOT_IP)
    at += 8
    if flags & GTP_OPTIONS:
        need(end, at + 4)
        at += 4
        extensions = 0
        while flags & GTP_EXTENDED and data[at - 1]:
            extensions += 1
            need(end, at + 1)
            length = data[at] * 4
            if extensions > MAX_GTP_EXTENSIONS or length == 0:
                raise Dropped(NOT_IP)
            need(end, at + length)
            at += length
    need(end, at + 1)
    return _version(data, at)


def _teredo(data: bytes, at: int, end: int) -> tuple[int, int]:
    need(end, at + 4)
    if data[at : at + 2] == b"\0\1":  # authentication: two fields, a nonce, a confirmation
        at += 4 + data[at + 2] + data[at + 3] + 9
    need(end, at + 2)
    if data[at : at + 2] == b"\0\0":  # the origin's port and address
        at += 8
    need(end, at + 40)
    if data[at] >> 4 != 6:
        raise Dropped(NOT_IP)
    need(end, at + 40 + number(data, at + 4, 2))
    return 6, at


def _version(data: bytes, at: int) -> tuple[int, int]:
    if data[at] >> 4 not in (4, 6):
        raise Dropped(NOT_IP)
    return data[at] >> 4, at


_ENTRIES = {
    IPIP: lambda data, at, end: (4, at),
    SIX_IN_FOUR: lambda data, at, end: (6, at),
    GRE: _gre,
    VXLAN: _vxlan,
    GENEVE: _geneve,
    GTP: _gtp,
    TEREDO: _teredo,
}
