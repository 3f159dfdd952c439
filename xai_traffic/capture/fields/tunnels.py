"""Names for the bytes of tunnels between a datagram's headers and the IP header it carries.

The walk is that of `core_numpy/tunnels.py`, which says where the formats are described.
"""

from __future__ import annotations

from xai_traffic.capture.core_numpy import tunnels
from xai_traffic.capture.fields.links import name_wireless
from xai_traffic.capture.fields.shims import name_ethernet, name_ppp, name_shims
from xai_traffic.capture.fields.spans import Spans


def name_tunnel(spans: Spans, protocol: int, ports: tuple[int, int]) -> None:
    """Name what lies between the headers of a datagram and the IP header within.

    Args:
        spans: from behind the IP header, or the UDP header; ends no later than the IP header.
        protocol: IP protocol of the datagram around.
        ports: its source and destination port, zeros where it has none.
    """
    name = _NAMES.get(tunnels.tunnel_of(protocol, *ports))
    if name is not None:
        name(spans)


def _name_gre(spans: Spans) -> None:
    spans.begin("gre")
    flags, more = spans.number(1), spans.number(1, 1)
    spans.take("gre.flags_and_version", 2)
    protocol = spans.take_number("gre.proto", 2)
    pptp = more & 7 == 1 and protocol == tunnels.PPTP
    if not pptp and flags & (tunnels.GRE_CHECKSUM | tunnels.GRE_ROUTING):
        spans.take_all(("gre.checksum", 2), ("gre.offset", 2))
    if flags & tunnels.GRE_KEY:
        key = (("gre.key.payload_length", 2), ("gre.key.call_id", 2))
        spans.take_all(*(key if pptp else (("gre.key", 4),)))
    if flags & tunnels.GRE_SEQUENCE:
        spans.take("gre.sequence_number", 4)
    if pptp and more & tunnels.GRE_ACKNOWLEDGE:
        spans.take("gre.ack_number", 4)
    if protocol == tunnels.PPTP:
        name_ppp(spans)
    elif protocol == tunnels.ERSPAN:
        if flags & tunnels.GRE_SEQUENCE:  # type II; type I has no header of its own
            spans.begin("erspan")
            spans.take_all(("erspan.version", 2), ("erspan.spanid", 2), ("erspan.index", 4))
        name_ethernet(spans)
    elif protocol == tunnels.ERSPAN_3:
        spans.begin("erspan")
        spans.take_all(("erspan.version", 2), ("erspan.spanid", 2), ("erspan.timestamp", 4))
        spans.take("erspan.sgt", 2)
        if spans.take_number("erspan.hw", 2) & 1:
            spans.take_all(("erspan.platid", 4), ("erspan", 4))
        name_ethernet(spans)
    elif protocol in tunnels.ARUBA:
        name_wireless(spans)
    elif protocol == tunnels.BRIDGED:
        name_ethernet(spans)
    else:
        name_shims(spans, protocol)


def _name_vxlan(spans: Spans) -> None:
    spans.begin("vxlan")
    spans.take_all(("vxlan.flags", 2), ("vxlan.gbp", 2), ("vxlan.vni", 3), ("vxlan.reserved8", 1))
    name_ethernet(spans)


def _name_geneve(spans: Spans) -> None:
    spans.begin("geneve")
    size = (spans.number(1) & 0x3F) * 4
    protocol = spans.number(2, 2)
    spans.take_all(("geneve.version", 1), ("geneve.flags", 1), ("geneve.proto_type", 2))
    spans.take_all(("geneve.vni", 3), ("geneve.reserved", 1))
    options = spans.part(size)
    while options.left:
        value = (options.number(1, 3) & 0x1F) * 4
        options.take_all(("geneve.option.class", 2), ("geneve.option.type", 1))
        options.take_all(("geneve.option.length", 1), ("geneve.option", value))
    if protocol == tunnels.BRIDGED:
        name_ethernet(spans)


def _name_gtp(spans: Spans) -> None:
    spans.begin("gtp")
    flags = spans.number(1)
    spans.take_all(("gtp.flags", 1), ("gtp.message", 1), ("gtp.length", 2), ("gtp.teid", 4))
    if not flags & tunnels.GTP_OPTIONS:
        return
    spans.take_all(("gtp.seq_number", 2), ("gtp.npdu_number", 1))
    following = spans.take_number("gtp.ext_hdr.next", 1)
    if not flags & tunnels.GTP_EXTENDED:
        return
    while following and spans.left:
        header = spans.part(max(spans.number(1) * 4, 1))
        header.take("gtp.ext_hdr.length", 1)
        header.take("gtp.ext_hdr", header.left - 1)
        following = header.take_number("gtp.ext_hdr.next", 1)


def _name_teredo(spans: Spans) -> None:
    spans.begin("teredo")
    if spans.peek(2) == b"\0\1":
        names, values = spans.number(1, 2), spans.number(1, 3)
        spans.take_all(("teredo.auth", 2), ("teredo.auth.idlen", 1), ("teredo.auth.aulen", 1))
        spans.take_all(("teredo.auth.id", names), ("teredo.auth.value", values))
        spans.take_all(("teredo.auth.nonce", 8), ("teredo.auth.conf", 1))
    if spans.peek(2) == b"\0\0":
        spans.take_all(("teredo.orig", 2), ("teredo.orig.port", 2), ("teredo.orig.addr", 4))


_NAMES = {
    tunnels.GRE: _name_gre,
    tunnels.VXLAN: _name_vxlan,
    tunnels.GENEVE: _name_geneve,
    tunnels.GTP: _name_gtp,
    tunnels.TEREDO: _name_teredo,
}
