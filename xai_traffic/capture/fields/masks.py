"""What masks hide of headers that are not the session's own: those around it, and their options.

`masking.py` finds the session's own headers by offsets, for many packets at once. Tunnels, shims
and most link layers are rarer and of many forms; here their fields are hidden by their names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from xai_traffic.capture.fields.spans import Field

INITIATOR, RESPONDER = 1, 2
"""What the bytes of an address become."""

_SENDER, _RECEIVER, _NEITHER = 0, 1, 2

ADDRESSES = {
    "eth.src": _SENDER,
    "eth.dst": _RECEIVER,
    "sll.src.eth": _SENDER,
    "sll.src.ipv4": _SENDER,
    "sll.src.other": _SENDER,
    "wlan.sa": _SENDER,
    "wlan.ta": _SENDER,
    "wlan.da": _RECEIVER,
    "wlan.ra": _RECEIVER,
    "wlan.bssid": _NEITHER,
    "ip.src": _SENDER,
    "ip.dst": _RECEIVER,
    "ip.rec_rt": _NEITHER,
    "ip.src_rt": _NEITHER,
    "ip.opt.time_stamp_addr": _NEITHER,
    "ipv6.src": _SENDER,
    "ipv6.dst": _RECEIVER,
    "ipv6.routing.src.addr": _NEITHER,
    "ipv6.routing.mipv6.home_address": _NEITHER,
    "ipv6.routing.srh.addr": _NEITHER,
    "ipv6.routing.rpl.address": _NEITHER,
    "ipv6.opt.mipv6.home_address": _NEITHER,
    "teredo.orig.addr": _NEITHER,
    "nflog.tlv_value": _NEITHER,
}
"""Fields that mask `addresses` hides, and whose address they hold: routers between, and the
network itself, are neither sender nor receiver."""

_ALL = b""
FIELDS: dict[str, dict[str, bytes]] = {
    "ports": dict.fromkeys(("udp.srcport", "udp.dstport", "teredo.orig.port"), _ALL),
    "ids": {
        **dict.fromkeys(
            (
                "ip.id",
                "ip.checksum",
                "ip.opt.time_stamp",
                "ipv6.flow",
                "ipv6.fraghdr.ident",
                "ah.spi",
                "ah.sequence",
                "ah.icv",
                "udp.checksum",
                "gre.checksum",
                "gre.key",
                "gre.key.call_id",
                "gre.sequence_number",
                "gre.ack_number",
                "erspan.index",
                "erspan.timestamp",
                "erspan.sgt",
                "erspan.platid",
                "erspan",
                "vxlan.gbp",
                "vxlan.vni",
                "geneve.vni",
                "geneve.option",
                "gtp.teid",
                "gtp.seq_number",
                "gtp.npdu_number",
                "gtp.ext_hdr",
                "teredo.auth.id",
                "teredo.auth.value",
                "teredo.auth.nonce",
                "pppoe.session_id",
                "pweth.cw.sequence_number",
                "wlan.seq",
                "radiotap.mactime",
                "prism.did.hosttime",
                "prism.did.mactime",
                "nflog.timestamp",
                "nflog.uid",
                "nflog.gid",
                "nflog.tlv_value",
                "enc.spi",
            ),
            _ALL,
        ),
        "ipv6.tclass": b"\xf0",  # with four bits of the flow label
        "vlan.id": b"\xf0\0",  # with priority and drop eligibility
        "ieee8021ad.id": b"\xf0\0",
        "mpls.label": b"\0\0\x0f",  # with traffic class and bottom of stack
        "erspan.version": b"\xf0\0",  # with the VLAN
        "erspan.spanid": b"\xfc\0",  # with class of service and more
    },
    "ttl": dict.fromkeys(("ip.ttl", "ipv6.hlim", "mpls.ttl"), _ALL),
}
"""Fields that the other masks hide, with the bits to keep where that is not all."""


class Cover(NamedTuple):
    """Bytes [start, end) of a tile: `keep` of their bits stay, then `fill` is set."""

    start: int
    end: int
    keep: bytes
    fill: int


def covers(
    data: bytes, fields: Iterable[Field], names: tuple[str, ...], direction: int
) -> Iterator[Cover]:
    """Yield what masks put over some fields.

    Args:
        data: captured bytes of the tile.
        fields: without numbers of layers.
        names: masks, as `masking.parse_mask` gives them.
        direction: of the packet, 0 from the initiator.
    """
    for field in fields:
        size = field.end - field.start
        for name in names:
            if name == "addresses":
                end = ADDRESSES.get(field.name)
                if end is not None and not _names_group(field.name, data[field.start : field.end]):
                    own = INITIATOR if end == direction else RESPONDER
                    fill = 0 if end == _NEITHER else own
                    yield Cover(field.start, field.end, bytes(size), fill)
            elif (keep := FIELDS.get(name, {}).get(field.name)) is not None:
                yield Cover(field.start, field.end, keep[:size].ljust(size, b"\0"), 0)


def _names_group(name: str, address: bytes) -> bool:
    """Tell whether an address is multicast or broadcast, which masks keep."""
    if name.startswith("ipv6.") and len(address) == 16:
        return address[0] == 0xFF
    if name.startswith("ip."):
        return 224 <= address[0] < 240 or address == b"\xff\xff\xff\xff"
    return name.startswith(("eth.", "wlan.")) and address[0] & 1 == 1
