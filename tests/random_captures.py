"""Draw packets, captures and rules that meet every branch of a core, and damage them."""

from __future__ import annotations

import random

import capture_bytes as made

from xai_traffic.capture.rules import (
    DEFAULT_FILTER,
    LAYERS,
    RETRANSMITTED,
    SESSION_RULES,
    TUNNELLED,
)

FILTERS = ("", DEFAULT_FILTER, "not (port 53 or 80) or less 80", "ip6 or net 192.168.0.0/16")
SHAPES = ((256, 64), (744, 14), (50, 3))
TUNNEL_PORTS = (4789, 6081, 2152, 3544)
STEPS = ((0,), (0, 0, 1, 3, 5, 6), (0, 59, 60, 61, -1), (119,), (0, 0, 300, 301, -61))
"""Seconds between the packets of a capture: around all time-outs."""

Packet = tuple[int, bytes]
"""Protocol or link type, and bytes."""


def draw_rules(rng: random.Random) -> dict:
    width, limit = rng.choice(SHAPES)
    return {
        "rule": rng.choice(SESSION_RULES),
        "layers": rng.choice(LAYERS),
        "filter": rng.choice(FILTERS),
        "width": width,
        "limit": limit,
        "idle_timeout_ns": rng.choice((0, 0, 0, 0, 1, 10**9)),
        "max_open": rng.choice((0, 0, 0, 0, 1, 3)),
        "tunnels": rng.choice(TUNNELLED),
        "retransmissions": rng.choice(RETRANSMITTED),
        "early": rng.random() < 0.3,
    }


def draw_cuts(rng: random.Random, size: int) -> list[int]:
    if size < 1000 and rng.random() < 0.2:
        return [1] * size
    return [rng.choice((0, 1, 5, 40, 900)) for _ in range(rng.choice((0, 3, 20)))]


def _segment(rng: random.Random) -> Packet:
    ports = rng.choice((80, 1000)), rng.choice((80, 1000))
    protocol = rng.choice((6, 6, 6, 17, 132, 1, 58, 59))
    data = bytes(rng.choice((0, 0, 1, 5, 5, 10, 35)))
    if protocol == 6:
        flags = rng.choice((2, 2, 16, 16, 16, 18, 17, 1, 4))
        number = rng.choice((0, 1, 2, 5, 6, 10, 15, 20, 2**32 - 5, 2**31 + 5))
        words = rng.choice((5, 5, 5, 5, 5, 8, 8, 4))
        return 6, made.tcp(*ports, flags=flags, sequence=number, words=words, data=data)
    if protocol == 17:
        return 17, made.udp(rng.choice((53, *TUNNEL_PORTS)), rng.choice((53, 80)), data=data)
    if protocol == 132:
        return 132, made.sctp(*ports, data=data)
    return protocol, bytes([rng.choice((0, 3, 8, 128))]) + bytes(rng.randrange(9))


def _ip(rng: random.Random, protocol: int, data: bytes) -> bytes:
    ends = dict(zip(("source", "destination"), rng.sample("123", 2), strict=True))
    number = rng.choice((1, 2))
    fragment = rng.random() < 0.2
    cut = rng.choice((0, 8, 16, 24)) if fragment else 0
    data, more = data[cut:], fragment and rng.random() < 0.6
    if rng.random() < 0.6:
        ends = {key: "10.0.0." + value for key, value in ends.items()}
        total = rng.choice((*[None] * 12, 0, 0, 30, 9999))
        word = cut // 8 | more << 13 | rng.choice((0, 0, 0x4000))
        return made.ipv4(data, **ends, protocol=protocol, total=total, fragment=word, number=number)
    ends = {key: "fd00::" + value for key, value in ends.items()}
    if fragment:
        data = made.fragment_header(protocol, offset=cut // 8, more=more, number=number) + data
        protocol = 44
    for _ in range(rng.choice((*[0] * 8, 1, 2, 18))):
        header = rng.choice((0, 43, 44, 51, 60))
        size = {44: 8, 51: 12}.get(header, 16)
        data = bytes([protocol, 1]) + bytes(size - 2) + data
        protocol = header
    length = rng.choice((*[None] * 12, 0, 0, 30, 9999))
    return made.ipv6(data, **ends, protocol=protocol, length=length)


def _ethernet(rng: random.Random, ip: bytes) -> bytes:
    kind, data = _shims(rng, ip) if rng.random() < 0.3 else (_type_of(ip), ip)
    tags = [rng.choice((0x8100, 0x88A8))] * rng.choice((0, 0, 0, 0, 1, 2, 8, 9))
    return made.ethernet(data, kind=kind, tags=tags)


def _type_of(ip: bytes) -> int:
    return 0x0800 if ip[0] >> 4 == 4 else 0x86DD


def _shims(rng: random.Random, ip: bytes) -> Packet:
    """Return an Ethernet type that is not IP, and what it announces."""
    which = rng.randrange(5)
    if which == 0:
        return rng.choice((60, 60, 1500, 1501)), made.snap(ip, kind=_type_of(ip))
    if which == 1:
        return 0x8847, made.mpls(ip, labels=rng.choice((1, 2, 16, 17)))
    if which == 2:
        return 0x8848, made.mpls(bytes(4) + _ethernet(rng, ip))
    if which == 3:
        protocol = rng.choice((b"\0\x21", b"\0\x57", b"\x21", b"\x57", b"\xc0\x21"))
        return 0x8864, made.pppoe(ip, protocol=protocol, code=rng.choice((0, 0, 0, 9)))
    return 44, b"\x06\x06\x03" + ip


def _tunnel(rng: random.Random, ip: bytes) -> Packet:
    """Return the protocol and the bytes behind an IP header that carries a datagram."""
    which = rng.randrange(7)
    if which == 0:
        return (4 if ip[0] >> 4 == 4 else 41), ip
    if which == 1:
        return 47, _gre(rng, ip)
    port = TUNNEL_PORTS[which % 4]
    if port == 4789:
        data = made.vxlan(_ethernet(rng, ip), flags=rng.choice((8, 8, 8, 0)))
    elif port == 6081:
        ether = rng.random() < 0.5
        data = made.geneve(
            _ethernet(rng, ip) if ether else ip,
            protocol=0x6558 if ether else _type_of(ip),
            options=bytes(rng.choice((0, 0, 8))),
        )
    elif port == 2152:
        flags, options = rng.choice(
            ((0x30, b""), (0x32, bytes(4)), (0x34, b"\0\0\0\1\1\0\0\0"), (0x34, b"\0\0\0\1\0"))
        )
        data = made.gtp(ip, flags=flags, options=options)
    else:
        identifier = rng.choice((None, b"", b"me"))
        data = made.teredo(ip, identifier=identifier, origin=rng.random() < 0.5)
    ports = (port, 9) if rng.random() < 0.2 else (9, port)
    return 17, made.udp(*ports, data=data)


def _gre(rng: random.Random, ip: bytes) -> bytes:
    flags = rng.choice((0, 0, 0x10, 0x20, 0x80, 0xB0, 0x40))
    fields = bytes(4 * (flags & 0xB0).bit_count())
    which = rng.randrange(6)
    if which == 0:
        return made.gre(_ethernet(rng, ip), protocol=0x6558, flags=flags, fields=fields)
    if which == 1:
        fields += bytes(8) if flags & 0x10 else b""
        return made.gre(_ethernet(rng, ip), protocol=0x88BE, flags=flags, fields=fields)
    if which == 2:
        fields += rng.choice((bytes(12), bytes(11) + b"\1" + bytes(8)))
        return made.gre(_ethernet(rng, ip), protocol=0x22EB, flags=flags, fields=fields)
    if which == 3:
        flags, version, size = rng.choice(((0x20, 1, 4), (0x30, 1, 8), (0x30, 0x81, 12)))
        data = rng.choice((b"\xff\x03\x00\x21", b"\x57")) + ip
        return made.gre(data, protocol=0x880B, flags=flags, version=version, fields=bytes(size))
    if which == 4:
        return made.gre(made.mpls(ip), protocol=0x8847, flags=flags, fields=fields)
    return made.gre(ip, protocol=_type_of(ip), flags=flags, fields=fields)


def _wireless(rng: random.Random, ip: bytes, padded: bool = False) -> bytes:
    control = rng.choice((0x0008, 0x0108, 0x0308, 0x0088, 0x0388, 0x8088, 0x4008, 0x0080, 0x0048))
    quality = b""
    if control & 0x80:
        quality = bytes([rng.choice((0, 0, 0, 0x80))]) + bytes(5 if control & 0x8000 else 1)
    size = (30 if control & 0x300 == 0x300 else 24) + len(quality)
    data = made.snap(ip, kind=_type_of(ip), organisation=rng.choice((b"\0\0\0", b"\0\0\xf8")))
    padding = bytes(-size % 4) if padded else b""
    return made.wireless(data, control=control, quality=quality, padding=padding)


def _radiotap(rng: random.Random, ip: bytes) -> bytes:
    padded = rng.random() < 0.5
    present, fields = rng.choice(
        (
            ((2,), b""),
            ((3,), bytes(8)),
            ((1 << 31 | 2, 0), b""),
            ((1 << 31 | 3, 0), bytes(12)),
            ((1 << 31 | 3, 1 << 31 | 1, 4), bytes(8)),
        )
    )
    fields += b"\x20" if padded else b"\0"
    frame = _wireless(rng, ip, padded)
    return made.radiotap(frame, present=present, fields=fields + bytes(rng.randrange(3)))


def _nflog(rng: random.Random, ip: bytes) -> bytes:
    attributes = [(rng.choice((1, 10, 0x8005)), bytes(rng.randrange(6))) for _ in range(3)]
    at = rng.randrange(4)
    attributes[at:at] = [(rng.choice((9, 0x8009)), ip)]
    return made.nflog(*attributes, family=2 if ip[0] >> 4 == 4 else 10)


def _family(ip: bytes) -> bytes:
    return b"\2\0\0\0" if ip[0] >> 4 == 4 else b"\0\0\0\x1e"


def _typed(ip: bytes) -> bytes:
    return _type_of(ip).to_bytes(2, "big")


def _ppp(ip: bytes) -> bytes:
    return b"\0\x21" if ip[0] >> 4 == 4 else b"\x57"


LINKS = {
    0: lambda rng, ip: _family(ip) + ip,
    1: _ethernet,
    9: lambda rng, ip: rng.choice((b"", b"\xff\x03")) + _ppp(ip) + ip,
    50: lambda rng, ip: rng.choice((b"\xff\x03" + _ppp(ip), b"\x0f\0" + _typed(ip))) + ip,
    51: lambda rng, ip: made.pppoe(ip, protocol=_ppp(ip)),
    101: lambda rng, ip: ip,
    104: lambda rng, ip: b"\x8f\0" + _typed(ip) + ip,
    105: _wireless,
    108: lambda rng, ip: _family(ip) + ip,
    109: lambda rng, ip: _family(ip) + bytes(8) + ip,
    113: lambda rng, ip: bytes(14) + rng.choice((_typed(ip) + ip, b"\0\4\x06\x06\x03" + ip)),
    119: lambda rng, ip: bytes(144) + _wireless(rng, ip),
    127: _radiotap,
    143: lambda rng, ip: ip,
    166: lambda rng, ip: rng.choice((b"", b"\0\x03")) + _ppp(ip) + ip,
    192: lambda rng, ip: _ppi(rng, ip),
    228: lambda rng, ip: ip,
    229: lambda rng, ip: ip,
    239: _nflog,
    276: lambda rng, ip: _typed(ip) + bytes(18) + ip,
}


def _ppi(rng: random.Random, ip: bytes) -> bytes:
    link = rng.choice((1, 101, 105, 127, 192, 70_000))
    frame = LINKS[link](rng, ip) if link < 192 else ip
    return made.ppi(frame, link=link, fields=bytes(rng.randrange(9)))


def random_packet(rng: random.Random, link: int = 1) -> bytes:
    """Return a frame of a link type, cut or with a wrong bit once in a while."""
    data = _ip(rng, *_segment(rng))
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 3, 4, 5))):
        data = _ip(rng, *_tunnel(rng, data))
    frame = LINKS[link](rng, data)
    if rng.random() < 0.1:
        return frame[: rng.randrange(len(frame))]
    if rng.random() < 0.1:
        frame = bytearray(frame)
        frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
    return bytes(frame)


def _talk(rng: random.Random) -> bytes:
    """Return a TCP segment between two hosts: many of them make long sessions."""
    ends = rng.choice((("10.0.0.1", 1000, "10.0.0.2", 80), ("10.0.0.2", 80, "10.0.0.1", 1000)))
    data = bytes(rng.choice((0, 1, 5, 10)))
    flags = rng.choice((2, 16, 16, 16, 16, 16, 16, 18, 17, 4))
    number = rng.choice((0, 1, 2, 5, 6, 10, 15, 20, 25, 2**32 - 5))
    tcp = made.tcp(ends[1], ends[3], flags=flags, sequence=number, data=data)
    return made.ipv4(tcp, source=ends[0], destination=ends[2])


def random_capture(rng: random.Random) -> bytes:
    """Return a pcap or pcapng capture of a few packets of any link type."""
    order = rng.choice("<>")
    link = rng.choice(list(LINKS))
    if rng.random() < 0.3:
        packets = [LINKS[link](rng, _talk(rng)) for _ in range(rng.randrange(50))]
    else:  # some come again, so that sessions, datagrams and segments meet
        pool = [random_packet(rng, link) for _ in range(rng.randrange(1, 12))]
        packets = [rng.choice(pool) for _ in range(rng.randrange(25))]
    steps = rng.choice(STEPS)
    second = 100_000
    if rng.random() < 0.6:
        records = []
        for packet in packets:
            second += rng.choice(steps)
            wire = len(packet) + rng.choice((0, 0, 0, 90))
            records.append((second, rng.choice((0, 1, 999_999)), packet, wire))
        magic = rng.choice((made.MICROSECONDS, made.NANOSECONDS))
        return made.pcap(records, order=order, magic=magic, link=link)
    code = rng.choice((b"\0", b"\6", b"\6", b"\6", b"\x09", b"\x15", b"\xa0"))
    resolution = made.option(9, code, order=order)
    parts = [made.section(order=order), made.interface(resolution, link=link, order=order)]
    for packet in packets:
        second += rng.choice(steps)
        units = second * 10**6 if rng.random() < 0.9 else rng.getrandbits(64)
        kind = rng.randrange(12)
        if kind < 9:
            parts.append(made.enhanced(packet, units=units, order=order))
        elif kind == 9:
            parts.append(made.old_packet(packet, units=units, order=order))
        else:
            parts.append(made.block(rng.choice((4, 5, 77)), bytes(rng.randrange(90)), order=order))
    return b"".join(parts)


def damage(rng: random.Random, data: bytes) -> bytes:
    """Return the capture with a few bytes changed, taken out or cut off."""
    data = bytearray(data)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(data))
        kind = rng.randrange(4)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + 4] = rng.choice((b"\xff" * 4, bytes(4), b"\0\0\4\0", b"\0\4\0\0"))
        elif kind == 2 and len(data) > 8:
            del data[at : at + 4]
        elif len(data) > 300:
            del data[at:]
            data += b"\0" * 4
    return bytes(data)
