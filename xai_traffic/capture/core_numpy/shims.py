"""Follow what lies between a link header and IP. Part of the plain core, see `__init__.py`.

VLAN tags, LLC with SNAP, MPLS label stacks, PPPoE and PPP, and Ethernet behind MPLS. They nest: a
provider may carry tagged Ethernet in MPLS in tagged Ethernet.

Sources: IEEE 802.3, 802.1Q and 802.2, RFC 1042 (SNAP), RFC 3032 and RFC 4385 (MPLS), RFC 2516
(PPPoE), RFC 1661 and RFC 1662 (PPP).
"""

from __future__ import annotations

from xai_traffic.capture.core_numpy.octets import NOT_IP, Dropped, need, number

IPV4, IPV6, PPPOE = 0x0800, 0x86DD, 0x8864
MPLS = (0x8847, 0x8848)
VLAN_TAGS = (0x8100, 0x88A8, 0x9100, 0x9200)
LONGEST_LENGTH = 1500
"""Largest number in an Ethernet type field that is a length: LLC follows."""

MAX_TAGS = 8
MAX_LABELS = 16
MAX_SHIMS = 24

SNAP, LLC_IPV4 = b"\xaa\xaa\x03", b"\x06\x06\x03"
SNAP_ETHERTYPE = (b"\0\0\0", b"\0\0\xf8")
"""Organisations of SNAP whose protocol numbers are Ethernet types (0000F8: bridges, 802.1H)."""

BOTTOM_OF_STACK = 1
PPP_IN_HDLC = b"\xff\x03"
PPP_PROTOCOLS = {0x0021: IPV4, 0x0057: IPV6, 0x0281: MPLS[0], 0x0283: MPLS[1]}


def ethernet(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return (4 or 6, offset of the IP header) behind an Ethernet header.

    Raises:
        Dropped: it is cut, or leads to something else than IP.
    """
    need(end, at + 14)
    return follow(data, number(data, at + 12, 2), at + 14, end, may_be_length=True)


def ppp(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return (4 or 6, offset of the IP header) behind a PPP header, HDLC framed or not.

    Raises:
        Dropped: as `ethernet`.
    """
    if at + 2 <= end and data[at : at + 2] == PPP_IN_HDLC:
        at += 2
    return follow(data, *ppp_protocol(data, at, end), end)


def ppp_protocol(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return (Ethernet type, offset of what follows) for the PPP protocol field."""
    need(end, at + 1)
    size = 1 if data[at] & 1 else 2  # its first byte is left out where that is 0
    need(end, at + size)
    kind = PPP_PROTOCOLS.get(number(data, at, size))
    if kind is None:
        raise Dropped(NOT_IP)
    return kind, at + size


def llc(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return (Ethernet type, offset of what follows) for an LLC header."""
    need(end, at + 3)
    header = data[at : at + 3]
    if header == LLC_IPV4:
        return IPV4, at + 3
    if header != SNAP:
        raise Dropped(NOT_IP)
    need(end, at + 8)
    if data[at + 3 : at + 6] not in SNAP_ETHERTYPE:
        raise Dropped(NOT_IP)
    return number(data, at + 6, 2), at + 8


def follow(
    data: bytes, kind: int, at: int, end: int, may_be_length: bool = False
) -> tuple[int, int]:
    """Return (4 or 6, offset of the IP header), given an Ethernet type and what follows it.

    Args:
        data: the captured bytes.
        kind: Ethernet type.
        at: offset of what it announces.
        end: where the bytes end.
        may_be_length: whether the type stands in a field that may hold a length instead.

    Raises:
        Dropped: as `ethernet`.
    """
    tags = shims = 0
    while True:
        if may_be_length and kind <= LONGEST_LENGTH:
            kind, at = llc(data, at, end)
        may_be_length = False
        if kind in (IPV4, IPV6):
            return (4 if kind == IPV4 else 6), at
        shims += 1
        if shims > MAX_SHIMS:
            raise Dropped(NOT_IP)
        if kind in VLAN_TAGS:
            tags += 1
            if tags > MAX_TAGS:
                raise Dropped(NOT_IP)
            need(end, at + 4)
            kind, at, may_be_length = number(data, at + 2, 2), at + 4, True
        elif kind == PPPOE:
            need(end, at + 6)
            if data[at] != 0x11 or data[at + 1] != 0:  # version 1, type 1, session data
                raise Dropped(NOT_IP)
            kind, at = ppp_protocol(data, at + 6, end)
        elif kind in MPLS:
            at = _behind_labels(data, at, end)
            need(end, at + 1)
            first = data[at] >> 4
            if first in (4, 6):
                return first, at
            shims += 1
            if first != 0 or shims > MAX_SHIMS:
                raise Dropped(NOT_IP)
            at += 4  # the control word of a pseudowire: Ethernet
            need(end, at + 14)
            kind, at, may_be_length = number(data, at + 12, 2), at + 14, True
        else:
            raise Dropped(NOT_IP)


def _behind_labels(data: bytes, at: int, end: int) -> int:
    for _ in range(MAX_LABELS):
        need(end, at + 4)
        at += 4
        if data[at - 2] & BOTTOM_OF_STACK:
            return at
    raise Dropped(NOT_IP)
