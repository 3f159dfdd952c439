"""Names for the bytes of link layers, up to the IP header.

The walk is that of `core_numpy/links.py`, which says where the formats are described.
"""

from __future__ import annotations

from collections.abc import Callable

from xai_traffic.capture.fields.shims import (
    name_ethernet,
    name_llc,
    name_ppp,
    name_pppoe,
    name_shims,
)
from xai_traffic.capture.fields.spans import Spans

ETHERNET, SLL, SLL2 = 1, 113, 276
WIRELESS = (105, 119, 127)

_RADIOTAP = (  # of bit 0 and on: alignment, and the fields
    (8, (("radiotap.mactime", 8),)),
    (1, (("radiotap.flags", 1),)),
    (1, (("radiotap.datarate", 1),)),
    (2, (("radiotap.channel.freq", 2), ("radiotap.channel.flags", 2))),
    (2, (("radiotap.fhss.hopset", 1), ("radiotap.fhss.pattern", 1))),
    (1, (("radiotap.dbm_antsignal", 1),)),
    (1, (("radiotap.dbm_antnoise", 1),)),
    (2, (("radiotap.quality", 2),)),
    (2, (("radiotap.txattenuation", 2),)),
    (2, (("radiotap.db_txattenuation", 2),)),
    (1, (("radiotap.txpower", 1),)),
    (1, (("radiotap.antenna", 1),)),
    (1, (("radiotap.db_antsignal", 1),)),
    (1, (("radiotap.db_antnoise", 1),)),
    (2, (("radiotap.rxflags", 2),)),
    (2, (("radiotap.txflags", 2),)),
)
_PRISM = ("hosttime", "mactime", "channel", "rssi", "sq", "signal", "noise", "rate", "istx")
_NFLOG = {
    1: (("nflog.protocol", 2), ("nflog.hook", 1)),
    3: (("nflog.timestamp", 16),),
    4: (("nflog.ifindex_indev", 4),),
    5: (("nflog.ifindex_outdev", 4),),
    6: (("nflog.ifindex_physindev", 4),),
    7: (("nflog.ifindex_physoutdev", 4),),
    10: (("nflog.prefix", 65535),),
    11: (("nflog.uid", 4),),
    14: (("nflog.gid", 4),),
}
_NFLOG_PAYLOAD = 9


def name_link(spans: Spans, link: int) -> None:
    """Name the bytes of a link layer and what follows it, up to the IP header or `spans`' end."""
    if link in _LINKS:
        _LINKS[link](spans)


def _name_cooked(spans: Spans) -> None:
    spans.begin("sll")
    spans.take_all(("sll.pkttype", 2), ("sll.hatype", 2))
    _name_cooked_address(spans, spans.take_number("sll.halen", 2))
    _name_cooked_type(spans, kind := spans.number(2))
    name_shims(spans, kind, may_be_length=kind == 4)


def _name_cooked_2(spans: Spans) -> None:
    spans.begin("sll")
    _name_cooked_type(spans, kind := spans.number(2))
    spans.take_all(("sll.unused", 2), ("sll.ifindex", 4), ("sll.hatype", 2), ("sll.pkttype", 1))
    _name_cooked_address(spans, spans.take_number("sll.halen", 1))
    name_shims(spans, kind, may_be_length=kind == 4)


def _name_cooked_address(spans: Spans, size: int) -> None:
    """Name the eight address bytes of a Linux cooked header."""
    used = min(size, 8)
    spans.take({6: "sll.src.eth", 4: "sll.src.ipv4"}.get(used, "sll.src.other"), used)
    spans.take("sll.unused", 8 - used)


def _name_cooked_type(spans: Spans, kind: int) -> None:
    spans.take("sll.ltype" if kind < 1536 else "sll.etype", 2)


def _name_loopback(spans: Spans) -> None:
    spans.take("null.family", 4)


def _name_enc(spans: Spans) -> None:
    spans.take_all(("enc.af", 4), ("enc.spi", 4), ("enc.flags", 4))


def _name_hdlc(spans: Spans) -> None:
    spans.take_all(("chdlc.address", 1), ("chdlc.control", 1))
    name_shims(spans, spans.take_number("chdlc.protocol", 2))


def _name_ppp_serial(spans: Spans) -> None:
    (_name_hdlc if spans.number(1) in (0x0F, 0x8F) else name_ppp)(spans)


def _name_pppd(spans: Spans) -> None:
    name_ppp(spans, any_address=True)


def _name_pppoe(spans: Spans) -> None:
    name_shims(spans, name_pppoe(spans))


def _name_nflog(spans: Spans) -> None:
    spans.take_all(("nflog.family", 1), ("nflog.version", 1), ("nflog.res_id", 2))
    while spans.left:
        length, kind = spans.little(2), spans.little(2, 2) & 0x7FFF
        spans.take_all(("nflog.tlv_length", 2), ("nflog.tlv_type", 2))
        if kind == _NFLOG_PAYLOAD:
            return
        value = spans.part(length - 4)
        value.take_all(*_NFLOG.get(kind, ()))
        value.rest("nflog.tlv_value")
        spans.take("nflog.tlv", -length % 4)  # padding


def _name_ppi(spans: Spans) -> None:
    header = spans.part(spans.little(2, 2))
    link = header.little(4, 4)
    header.take_all(("ppi.version", 1), ("ppi.flags", 1), ("ppi.length", 2), ("ppi.dlt", 4))
    while header.left:
        size = header.little(2, 2)
        header.take_all(("ppi.field_type", 2), ("ppi.field_len", 2))
        header.take("ppi", size)
    if link != 192:
        name_link(spans, link)


def _name_prism(spans: Spans) -> None:
    header = spans.part(144)
    header.take_all(("prism.msgcode", 4), ("prism.msglen", 4), ("prism.devname", 16))
    for name in (*_PRISM, "frmlen"):
        header.take_all(("prism.did.type", 4), ("prism.did.status", 2), ("prism.did.length", 2))
        header.take(f"prism.did.{name}", 4)
    name_wireless(spans)


def _name_radiotap(spans: Spans) -> None:
    header = spans.part(spans.little(2, 2))
    begin = header.position
    header.take_all(("radiotap.version", 1), ("radiotap.pad", 1), ("radiotap.length", 2))
    present = word = header.little(4)
    header.take("radiotap.present.word", 4)
    while word >> 31 and header.left:
        word = header.little(4)
        header.take("radiotap.present.word", 4)
    flags = 0
    for bit, (alignment, fields) in enumerate(_RADIOTAP):
        if present >> bit & 1:
            header.take("radiotap", (begin - header.position) % alignment)
            flags = header.number(1) if bit == 1 else flags
            header.take_all(*fields)
    header.rest("radiotap")
    name_wireless(spans, padded=bool(flags & 0x20))


def name_wireless(spans: Spans, padded: bool = False) -> None:
    """Name an IEEE 802.11 data frame; `padded`: its header fills a multiple of 4 bytes."""
    begin = spans.position
    control = spans.little(2)
    to_and_from = control & 0x0300
    # The address of an access point is that of the transmitter or receiver, as the case may be;
    # only where there is none does the network have an address of its own.
    addresses = {
        0: ("wlan.da", "wlan.sa", "wlan.bssid"),
        0x0100: ("wlan.ra", "wlan.sa", "wlan.da"),
        0x0200: ("wlan.da", "wlan.ta", "wlan.sa"),
        0x0300: ("wlan.ra", "wlan.ta", "wlan.da"),
    }[to_and_from]
    spans.take_all(("wlan.fc", 2), ("wlan.duration", 2))
    spans.take_all(*((name, 6) for name in addresses))
    spans.take("wlan.seq", 2)
    if to_and_from == 0x0300:
        spans.take("wlan.sa", 6)
    if control & 0x0080:
        spans.take("wlan.qos", 2)
        if control & 0x8000:
            spans.take("wlan.htc", 4)
    if padded:
        spans.take("wlan", (begin - spans.position) % 4)
    name_shims(spans, name_llc(spans))


_LINKS: dict[int, Callable[[Spans], None]] = {
    0: _name_loopback,
    1: name_ethernet,
    9: _name_ppp_serial,
    50: _name_ppp_serial,
    51: _name_pppoe,
    104: _name_hdlc,
    105: name_wireless,
    108: _name_loopback,
    109: _name_enc,
    113: _name_cooked,
    119: _name_prism,
    127: _name_radiotap,
    166: _name_pppd,
    192: _name_ppi,
    239: _name_nflog,
    276: _name_cooked_2,
}
