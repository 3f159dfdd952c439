"""Names for the bytes of options: of TCP, of IPv4, and those in IPv6's extension headers.

Kind and length of an option go by its own name where Wireshark has one for it (`tcp.options.mss`),
and what it holds by the names of that.

Sources: IANA's lists of options; RFC 791, RFC 8200, RFC 8754 (segment routing), RFC 6554 (RPL).
"""

from __future__ import annotations

from collections.abc import Callable

from xai_traffic.capture.fields.spans import Spans

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
    30: "mptcp",
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
_IP6_OPTIONS = {
    0x01: (("ipv6.opt.padn", 255),),
    0x04: (("ipv6.opt.tel", 1),),
    0x05: (("ipv6.opt.router_alert", 2),),
    0x23: (
        ("ipv6.opt.rpl.flag", 1),
        ("ipv6.opt.rpl.instance_id", 1),
        ("ipv6.opt.rpl.sender_rank", 2),
    ),
    0x63: (
        ("ipv6.opt.rpl.flag", 1),
        ("ipv6.opt.rpl.instance_id", 1),
        ("ipv6.opt.rpl.sender_rank", 2),
    ),
    0xC2: (("ipv6.opt.jumbo", 4),),
    0xC9: (("ipv6.opt.mipv6.home_address", 16),),
}
_SOURCE_ROUTE, _MOBILE, _RPL, _SEGMENTS = 0, 2, 3, 4
"""Types of IPv6 routing headers."""


def name_tcp_options(spans: Spans) -> None:
    """Name TCP options up to the end of `spans`."""
    inside = {2: _name_mss, 3: _name_scale, 8: _name_timestamp}
    _name_options(spans, "tcp.options", TCP_OPTIONS, "tcp.options.unknown", "tcp.options", inside)
    spans.rest("tcp.options")


def name_ip_options(spans: Spans) -> None:
    """Name IPv4 options up to the end of `spans`."""
    inside = {
        7: _name_recorded_route,
        68: _name_times,
        131: _name_source_route,
        137: _name_source_route,
        148: _name_alert,
    }
    _name_options(spans, "ip.options", IP_OPTIONS, "ip.opt.type", "ip.opt.padding", inside)


def _name_options(
    spans: Spans,
    prefix: str,
    names: dict[int, str],
    unknown: str,
    padding: str,
    inside: dict[int, Callable[[Spans], None]],
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
            if kind in inside:
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


def _name_recorded_route(option: Spans) -> None:
    option.take("ip.opt.ptr", 1)
    while option.left >= 4:
        option.take("ip.rec_rt", 4)


def _name_source_route(option: Spans) -> None:
    option.take("ip.opt.ptr", 1)
    while option.left >= 4:
        option.take("ip.src_rt", 4)


def _name_times(option: Spans) -> None:
    option.take("ip.opt.ptr", 1)
    addresses = option.take_number("ip.opt.overflow", 1) & 15
    while option.left >= 4:
        if addresses:
            option.take("ip.opt.time_stamp_addr", 4)
        option.take("ip.opt.time_stamp", 4)


def _name_alert(option: Spans) -> None:
    option.take("ip.opt.ra", 2)


def name_ip6_options(header: Spans) -> None:
    """Name the options of an IPv6 extension header, from behind its first two bytes."""
    while header.left:
        kind = header.number(1)
        if kind == 0:
            header.take("ipv6.opt.pad1", 1)
            continue
        header.take("ipv6.opt.type", 1)
        option = header.part(header.take_number("ipv6.opt.length", 1))
        option.take_all(*_IP6_OPTIONS.get(kind, ()))
        option.rest("ipv6.opt")


def name_route(header: Spans) -> None:
    """Name an IPv6 routing header, from behind its first two bytes."""
    kind = header.take_number("ipv6.routing.type", 1)
    header.take("ipv6.routing.segleft", 1)
    if kind == _SOURCE_ROUTE:
        header.take("ipv6.routing.src.reserved", 4)
        _name_addresses(header, "ipv6.routing.src.addr")
    elif kind == _MOBILE:
        header.take("ipv6.routing.mipv6.reserved", 4)
        header.take("ipv6.routing.mipv6.home_address", 16)
    elif kind == _SEGMENTS:
        addresses = (header.number(1) + 1) * 16
        header.take_all(
            ("ipv6.routing.srh.last_entry", 1),
            ("ipv6.routing.srh.flags", 1),
            ("ipv6.routing.srh.tag", 2),
        )
        _name_addresses(header.part(addresses), "ipv6.routing.srh.addr")
    elif kind == _RPL:
        header.take_all(("ipv6.routing.rpl.cmprI", 1), ("ipv6.routing.rpl.pad", 1))
        header.take("ipv6.routing.rpl.reserved", 2)
        header.rest("ipv6.routing.rpl.address")
    header.rest("ipv6.routing")


def _name_addresses(header: Spans, name: str) -> None:
    while header.left:
        header.take(name, 16)
