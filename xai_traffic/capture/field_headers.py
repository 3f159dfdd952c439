"""Names for the bytes of link, IP and transport headers.

Every byte gets one name, where Wireshark has several for parts of it or none for all of it:
`ip.version` stands for the byte of version and header length, `ip.flags` for flags and fragment
offset, `ipv6.tclass` for the second byte of an IPv6 header with four bits of the flow label,
`tcp.hdr_len` for the byte before `tcp.flags`.
"""

from __future__ import annotations

from collections.abc import Callable

from xai_traffic.capture.field_spans import Spans
from xai_traffic.capture.records import ICMP, TCP, UDP

ETHERNET, SLL, SLL2 = 1, 113, 276
NULL_LINKS = (0, 108)

TCP_OPTIONS = {
    2: "tcp.options.mss",
    3: "tcp.options.wscale",
    4: "tcp.options.sack_perm",
    5: "tcp.options.sack",
    6: "tcp.options.echo",
    7: "tcp.options.echoreply",
    8: "tcp.options.timestamp",
    19: "tcp.options.md5",
    28: "tcp.options.user_to",
    29: "tcp.options.ao",
    34: "tcp.options.tfo",
    253: "tcp.options.experimental",
    254: "tcp.options.experimental",
}
IP_OPTIONS = {
    7: "ip.options.record_route",
    25: "ip.options.qs",
    68: "ip.options.timestamp",
    82: "ip.options.traceroute",
    130: "ip.options.security",
    131: "ip.options.source_route",
    134: "ip.options.cipso",
    136: "ip.options.sid",
    137: "ip.options.source_route",
    148: "ip.options.routeralert",
}
EXTENSIONS = {0: "ipv6.hopopts", 43: "ipv6.routing", 60: "ipv6.dstopts"}


def name_link(spans: Spans, link: int) -> None:
    """Name the bytes before the IP header; `spans` ends where it begins."""
    if link == ETHERNET:
        spans.take("eth.dst", 6)
        spans.take("eth.src", 6)
        kind = spans.take_number("eth.type", 2)
        _name_tags(spans, kind)
    elif link == SLL:
        spans.take("sll.pkttype", 2)
        spans.take("sll.hatype", 2)
        _name_cooked_address(spans, spans.take_number("sll.halen", 2))
        _name_tags(spans, spans.take_number("sll.etype", 2))
    elif link == SLL2:
        kind = spans.take_number("sll.etype", 2)
        spans.take("sll.unused", 2)
        spans.take("sll.ifindex", 4)
        spans.take("sll.hatype", 2)
        spans.take("sll.pkttype", 1)
        _name_cooked_address(spans, spans.take_number("sll.halen", 1))
        _name_tags(spans, kind)
    elif link in NULL_LINKS:
        spans.take("null.family", 4)
    spans.rest("frame")


def _name_cooked_address(spans: Spans, size: int) -> None:
    """Name the eight address bytes of a Linux cooked header."""
    used = min(size, 8)
    spans.take({6: "sll.src.eth", 4: "sll.src.ipv4"}.get(used, "sll.src.other"), used)
    spans.take("sll.unused", 8 - used)


def _name_tags(spans: Spans, kind: int) -> None:
    """Name VLAN tags up to the IP header; `kind` is the type that announces the first one."""
    while spans.left >= 4:
        provider = kind == 0x88A8
        spans.take("ieee8021ad.id" if provider else "vlan.id", 2)
        kind = spans.take_number("vlan.etype", 2)


def name_network(spans: Spans, transport: int) -> None:
    """Name an IP header, options and extension headers included, up to `transport`."""
    inner = spans.part(transport - spans.position)
    version = inner.number(1) >> 4
    if version == 4:
        _name_ip4(inner)
    elif version == 6:
        _name_ip6(inner)
    inner.rest("ip" if version == 4 else "ipv6" if version == 6 else "frame")


def _name_ip4(spans: Spans) -> None:
    for name, size in (
        ("ip.version", 1),
        ("ip.dsfield", 1),
        ("ip.len", 2),
        ("ip.id", 2),
        ("ip.flags", 2),
        ("ip.ttl", 1),
        ("ip.proto", 1),
        ("ip.checksum", 2),
        ("ip.src", 4),
        ("ip.dst", 4),
    ):
        spans.take(name, size)
    _name_options(spans, "ip.options", IP_OPTIONS, "ip.opt.type", "ip.opt.padding")


def _name_ip6(spans: Spans) -> None:
    spans.take("ipv6.version", 1)
    spans.take("ipv6.tclass", 1)
    spans.take("ipv6.flow", 2)
    spans.take("ipv6.plen", 2)
    following = spans.take_number("ipv6.nxt", 1)
    spans.take("ipv6.hlim", 1)
    spans.take("ipv6.src", 16)
    spans.take("ipv6.dst", 16)
    while spans.left:
        upper = spans.number(1)
        if following == 44:
            header = spans.part(8)
            header.take("ipv6.fraghdr.nxt", 1)
            header.take("ipv6.fraghdr.reserved_octet", 1)
            header.take("ipv6.fraghdr.offset", 2)
            header.rest("ipv6.fraghdr.ident")
        elif following == 51:
            header = spans.part((spans.number(1, 1) + 2) * 4)
            header.take("ah.next_header", 1)
            header.take("ah.length", 1)
            header.take("ah.reserved", 2)
            header.take("ah.spi", 4)
            header.take("ah.sequence", 4)
            header.rest("ah.icv")
        else:
            name = EXTENSIONS.get(following, "ipv6")
            header = spans.part((spans.number(1, 1) + 1) * 8)
            known = following in EXTENSIONS
            header.take(f"{name}.nxt" if known else name, 1)
            header.take(f"{name}.len" if known else name, 1)
            if following == 43:
                header.take("ipv6.routing.type", 1)
                header.take("ipv6.routing.segleft", 1)
            header.rest("ipv6.opt" if following in (0, 60) else name)
        following = upper


def name_transport(spans: Spans, protocol: int) -> None:
    """Name a TCP or UDP header; `spans` ends with it."""
    if protocol == TCP:
        for name, size in (
            ("tcp.srcport", 2),
            ("tcp.dstport", 2),
            ("tcp.seq", 4),
            ("tcp.ack", 4),
            ("tcp.hdr_len", 1),
            ("tcp.flags", 1),
            ("tcp.window_size_value", 2),
            ("tcp.checksum", 2),
            ("tcp.urgent_pointer", 2),
        ):
            spans.take(name, size)
        _name_options(
            spans,
            "tcp.options",
            TCP_OPTIONS,
            "tcp.options.unknown",
            "tcp.options",
            inside={8: _name_timestamp, 2: _name_mss, 3: _name_scale},
        )
        spans.rest("tcp.options")
    elif protocol == UDP:
        for name in ("udp.srcport", "udp.dstport", "udp.length", "udp.checksum"):
            spans.take(name, 2)
        spans.rest("udp")
    spans.rest("frame")


def _name_options(
    spans: Spans,
    prefix: str,
    names: dict[int, str],
    unknown: str,
    padding: str,
    inside: dict[int, Callable[[Spans], None]] | None = None,
) -> None:
    """Name options of kind, length, value; kind 0 ends them, kind 1 is a single byte."""
    while spans.left:
        kind = spans.number(1)
        if kind == 0:
            spans.take(f"{prefix}.eol", 1)
            spans.rest(padding)
        elif kind == 1:
            spans.take(f"{prefix}.nop", 1)
        else:
            size = spans.number(1, 1)
            if size < 2:  # cut, or a length that leads nowhere
                spans.rest(unknown)
                break
            name = names.get(kind, unknown)
            option = spans.part(size)
            if inside and kind in inside:
                option.take(name, 2)
                inside[kind](option)
            option.rest(name)


def _name_timestamp(option: Spans) -> None:
    option.take("tcp.options.timestamp.tsval", 4)
    option.take("tcp.options.timestamp.tsecr", 4)


def _name_mss(option: Spans) -> None:
    option.take("tcp.options.mss_val", 2)


def _name_scale(option: Spans) -> None:
    option.take("tcp.options.wscale.shift", 1)


def name_icmp(spans: Spans, protocol: int) -> None:
    """Name the common start of ICMP and ICMPv6 messages; the rest is payload."""
    prefix = "icmp" if protocol == ICMP else "icmpv6"
    spans.take(f"{prefix}.type", 1)
    spans.take(f"{prefix}.code", 1)
    spans.take(f"{prefix}.checksum", 2)
