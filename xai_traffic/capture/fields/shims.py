"""Names for the bytes between a link header and IP: VLAN tags, LLC, MPLS, PPPoE, PPP, Ethernet.

The walk is that of `core_numpy/shims.py`, which says where the formats are described.
"""

from __future__ import annotations

from xai_traffic.capture.core_numpy.shims import (
    BOTTOM_OF_STACK,
    LLC_IPV4,
    LONGEST_LENGTH,
    MAX_SHIMS,
    MPLS,
    PPP_IN_HDLC,
    PPP_PROTOCOLS,
    PPPOE,
    SNAP,
    VLAN_TAGS,
)
from xai_traffic.capture.fields.spans import Spans

NOTHING = -1
"""A type that announces nothing known."""

SHORTEST_FRAME = 60
"""Bytes of an Ethernet frame on the wire without its checksum."""

_IPV4, _PROVIDER_TAG = 0x0800, 0x88A8


def name_ethernet(spans: Spans) -> None:
    """Name an Ethernet header and what follows it, up to the IP header."""
    spans.begin("eth")
    spans.take_all(("eth.dst", 6), ("eth.src", 6))
    kind = spans.number(2)
    spans.take("eth.len" if kind <= LONGEST_LENGTH else "eth.type", 2)
    name_shims(spans, kind, may_be_length=True)


def name_ethernet_end(spans: Spans, size: int, tagged: bool, suffix: str = "") -> None:
    """Name the padding, trailer and checksum behind what an Ethernet frame carries.

    What is padding and what a checksum nothing in the frame tells: this follows Wireshark.

    Args:
        spans: from the end of what the frame carries to the end of the capture.
        size: bytes of the frame on the wire, which begins with the capture.
        tagged: whether a VLAN tag announced what it carries; then that has the trailer.
        suffix: put behind the names.
    """
    padding = spans.peek(max(SHORTEST_FRAME - spans.position, 0))
    if size >= SHORTEST_FRAME and not any(padding):
        spans.take(f"eth.padding{suffix}", len(padding))
    trailer = size - spans.position
    if size >= SHORTEST_FRAME + 4 and trailer >= 4 and not tagged:
        spans.take(f"eth.trailer{suffix}", trailer - 4)
        spans.take(f"eth.fcs{suffix}", 4)
    spans.rest("vlan.trailer" if tagged else f"eth.trailer{suffix}")


def name_shims(spans: Spans, kind: int, may_be_length: bool = False) -> None:
    """Name what lies before IP, given its Ethernet type or, in some places, length."""
    for _ in range(MAX_SHIMS):
        if not spans.left:
            return
        if may_be_length and kind <= LONGEST_LENGTH:
            kind = name_llc(spans)
        may_be_length = False
        if kind in VLAN_TAGS:
            kind = _name_tag(spans, provider=kind == _PROVIDER_TAG)
            may_be_length = True
        elif kind == PPPOE:
            kind = name_pppoe(spans)
        elif kind in MPLS:
            _name_labels(spans)
            if spans.left and spans.number(1) >> 4 == 0:  # no IP, so a pseudowire's control word
                spans.take_all(("pweth.cw", 2), ("pweth.cw.sequence_number", 2))
                name_ethernet(spans)
            return
        else:
            return


def _name_tag(spans: Spans, provider: bool) -> int:
    """Name a VLAN tag and return the Ethernet type, or length, behind it."""
    kind = spans.number(2, 2)
    if provider:
        spans.begin("ieee8021ad")
        spans.take_all(("ieee8021ad.id", 2), ("ieee8021ah.etype", 2))
    else:
        spans.begin("vlan")
        spans.take_all(("vlan.id", 2), ("vlan.len" if kind <= LONGEST_LENGTH else "vlan.etype", 2))
    return kind


def name_llc(spans: Spans) -> int:
    """Name an LLC header, with SNAP if it is one, and return the Ethernet type it stands for."""
    header = spans.peek(3)
    spans.begin("llc")
    spans.take_all(("llc.dsap", 1), ("llc.ssap", 1), ("llc.control", 1))
    if header == LLC_IPV4:
        return _IPV4
    if header != SNAP:
        return NOTHING
    spans.take("llc.oui", 3)
    return spans.take_number("llc.type", 2)


def name_pppoe(spans: Spans) -> int:
    """Name a PPPoE header and the PPP protocol, and return the Ethernet type it stands for."""
    spans.begin("pppoe")
    spans.take_all(
        ("pppoe.version", 1),
        ("pppoe.code", 1),
        ("pppoe.session_id", 2),
        ("pppoe.payload_length", 2),
    )
    spans.begin("ppp")
    return _name_ppp_protocol(spans)


def name_ppp(spans: Spans, any_address: bool = False) -> None:
    """Name a PPP header and what follows it; `any_address`: the first byte is a direction."""
    spans.begin("ppp")
    header = spans.peek(2)
    if header == PPP_IN_HDLC or any_address and header[1:] == PPP_IN_HDLC[1:]:
        spans.take_all(("ppp.address", 1), ("ppp.control", 1))
    name_shims(spans, _name_ppp_protocol(spans))


def _name_ppp_protocol(spans: Spans) -> int:
    compressed = spans.number(1) & 1
    protocol = spans.take_number("ppp.protocol", 1 if compressed else 2)
    return PPP_PROTOCOLS.get(protocol, NOTHING)


def _name_labels(spans: Spans) -> None:
    spans.begin("mpls")
    while spans.left:
        bottom = spans.number(1, 2) & BOTTOM_OF_STACK
        spans.take_all(("mpls.label", 3), ("mpls.ttl", 1))
        if bottom:
            return
