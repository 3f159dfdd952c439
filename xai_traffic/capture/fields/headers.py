"""Names for the bytes of IP and transport headers.

Every byte gets one name, where Wireshark has several for parts of it or none for all of it:
`ip.version` stands for the byte of version and header length, `ip.flags` for flags and fragment
offset, `ipv6.tclass` for the second byte of an IPv6 header with four bits of the flow label,
`tcp.hdr_len` for the byte before `tcp.flags`.
"""

from __future__ import annotations

from xai_traffic.capture.core_numpy.ip_headers import (
    AUTHENTICATION,
    EXTENSION_HEADERS,
    FRAGMENT_HEADER,
)
from xai_traffic.capture.fields.options import (
    name_ip6_options,
    name_ip_options,
    name_route,
    name_tcp_options,
)
from xai_traffic.capture.fields.spans import Spans
from xai_traffic.capture.records import ICMP, SCTP, TCP, UDP

_MOBILITY = 135
EXTENSIONS = {0: "ipv6.hopopts", 43: "ipv6.routing", 60: "ipv6.dstopts"}


def name_network(spans: Spans, transport: int) -> None:
    """Name an IP header, options and extension headers included, up to `transport`."""
    inner = spans.part(transport - spans.position)
    version = inner.number(1) >> 4
    name_ip(inner)
    inner.rest("ip" if version == 4 else "ipv6" if version == 6 else "frame")


def name_ip(spans: Spans) -> int:
    """Name an IP header as long as it says it is, and return the protocol behind it.

    0 (which no transport has) where there is no IP header, or nothing behind it.
    """
    version = spans.number(1) >> 4
    if version not in (4, 6):
        return 0
    return _name_ip4(spans) if version == 4 else _name_ip6(spans)


def _name_ip4(spans: Spans) -> int:
    spans.begin("ip")
    header = spans.part((spans.number(1) & 15) * 4)
    protocol = header.number(1, 9)
    header.take_all(
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
    )
    name_ip_options(header)
    return protocol


def _name_ip6(spans: Spans) -> int:
    spans.begin("ipv6")
    spans.take_all(("ipv6.version", 1), ("ipv6.tclass", 1), ("ipv6.flow", 2), ("ipv6.plen", 2))
    following = spans.take_number("ipv6.nxt", 1)
    spans.take_all(("ipv6.hlim", 1), ("ipv6.src", 16), ("ipv6.dst", 16))
    while spans.left and following in (*EXTENSION_HEADERS, FRAGMENT_HEADER, AUTHENTICATION):
        upper, size = spans.number(1), (spans.number(1, 1) + 1) * 8
        if following == FRAGMENT_HEADER:
            header = spans.part(8)
            header.take_all(
                ("ipv6.fraghdr.nxt", 1),
                ("ipv6.fraghdr.reserved_octet", 1),
                ("ipv6.fraghdr.offset", 2),
            )
            header.rest("ipv6.fraghdr.ident")
        elif following == AUTHENTICATION:
            header = spans.part((spans.number(1, 1) + 2) * 4)
            header.take_all(
                ("ah.next_header", 1),
                ("ah.length", 1),
                ("ah.reserved", 2),
                ("ah.spi", 4),
                ("ah.sequence", 4),
            )
            header.rest("ah.icv")
        elif following in EXTENSIONS:
            header, name = spans.part(size), EXTENSIONS[following]
            header.take_all((f"{name}.nxt", 1), (f"{name}.len", 1))
            (name_route if following == 43 else name_ip6_options)(header)
        elif following == _MOBILITY:
            header = spans.part(size)
            header.take_all(
                ("mip6.proto", 1),
                ("mip6.hlen", 1),
                ("mip6.mhtype", 1),
                ("mip6.reserved", 1),
                ("mip6.csum", 2),
            )
            header.rest("mip6")
        else:
            spans.take("ipv6", size)
        following = upper
    return following


def name_transport(spans: Spans, protocol: int) -> None:
    """Name a TCP, UDP or SCTP header; `spans` ends with it."""
    if protocol == TCP:
        spans.begin("tcp")
        spans.take_all(
            ("tcp.srcport", 2),
            ("tcp.dstport", 2),
            ("tcp.seq", 4),
            ("tcp.ack", 4),
            ("tcp.hdr_len", 1),
            ("tcp.flags", 1),
            ("tcp.window_size_value", 2),
            ("tcp.checksum", 2),
            ("tcp.urgent_pointer", 2),
        )
        name_tcp_options(spans)
    elif protocol == UDP:
        spans.begin("udp")
        for name in ("udp.srcport", "udp.dstport", "udp.length", "udp.checksum"):
            spans.take(name, 2)
        spans.rest("udp")
    elif protocol == SCTP:
        spans.begin("sctp")
        spans.take_all(
            ("sctp.srcport", 2),
            ("sctp.dstport", 2),
            ("sctp.verification_tag", 4),
            ("sctp.checksum", 4),
        )
    spans.rest("frame")


def name_icmp(spans: Spans, protocol: int) -> None:
    """Name the common start of ICMP and ICMPv6 messages; the rest is payload."""
    prefix = "icmp" if protocol == ICMP else "icmpv6"
    spans.take(f"{prefix}.type", 1)
    spans.take(f"{prefix}.code", 1)
    spans.take(f"{prefix}.checksum", 2)
