"""Captures and packets made by hand, for tests that need a certain byte in a certain place."""

from __future__ import annotations

import ipaddress
import struct

MICROSECONDS, NANOSECONDS = 0xA1B2C3D4, 0xA1B23C4D


def _timed(number: int, record) -> tuple:
    return (number, 0, record) if isinstance(record, bytes) else record


def pcap(records, *, order="<", magic=MICROSECONDS, link=1) -> bytes:
    """Return a pcap file of records: bytes, or (seconds, fraction, bytes[, wire length])."""
    out = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link)]
    for number, record in enumerate(records):
        seconds, fraction, data, *wire = _timed(number, record)
        lengths = len(data), wire[0] if wire else len(data)
        out += [struct.pack(order + "IIII", seconds, fraction, *lengths), data]
    return b"".join(out)


def block(kind: int, body: bytes, *, order="<", trailer: int | None = None) -> bytes:
    """Return a pcapng block; `trailer` is its second length where that shall be wrong."""
    body += bytes(-len(body) % 4)
    length = len(body) + 12
    end = length if trailer is None else trailer
    return struct.pack(order + "II", kind, length) + body + struct.pack(order + "I", end)


def section(*, order="<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order=order)


def option(code: int, value: bytes, *, order="<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def interface(*options: bytes, link=1, snaplen=0, order="<", trailer=None) -> bytes:
    body = struct.pack(order + "HHI", link, 0, snaplen) + b"".join(options)
    return block(1, body, order=order, trailer=trailer)


def enhanced(data: bytes, *, number=0, units=0, wire=None, order="<", captured=None, trailer=None):
    """Return an enhanced packet block."""
    lengths = len(data) if captured is None else captured, len(data) if wire is None else wire
    head = struct.pack(order + "IIIII", number, units >> 32, units & 0xFFFFFFFF, *lengths)
    return block(6, head + data, order=order, trailer=trailer)


def simple(data: bytes, *, wire=None, order="<") -> bytes:
    return block(3, struct.pack(order + "I", len(data) if wire is None else wire) + data)


def old_packet(data: bytes, *, number=0, units=0, order="<") -> bytes:
    """Return a block of the obsolete packet type."""
    times = units >> 32, units & 0xFFFFFFFF
    head = struct.pack(order + "HHIIII", number, 0, *times, len(data), len(data))
    return block(2, head + data, order=order)


def tcp(source=1000, destination=80, *, flags=0x10, sequence=1, data=b"", words=5) -> bytes:
    head = struct.pack(">HHIIBBHHH", source, destination, sequence, 0, words << 4, flags, 512, 0, 0)
    return head + bytes(max(0, words - 5) * 4) + data


def udp(source=1000, destination=53, *, data=b"") -> bytes:
    return struct.pack(">HHHH", source, destination, 8 + len(data), 0) + data


def sctp(source=1000, destination=2905, *, data=b"") -> bytes:
    return struct.pack(">HHII", source, destination, 7, 0) + data


def ipv4(
    data: bytes,
    *,
    source="10.0.0.1",
    destination="10.0.0.2",
    protocol=6,
    fragment=0,
    number=0,
    total=None,
    words=5,
    version=4,
) -> bytes:
    """Return an IPv4 datagram; the checksum stays 0.

    `number` is its identification, `fragment` the word with the bits and the offset behind it.
    """
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    total = words * 4 + len(data) if total is None else total
    head = struct.pack(
        ">BBHHHBBH", version << 4 | words, 0, total, number, fragment, 64, protocol, 0
    )
    return head + ends + bytes(max(0, words - 5) * 4) + data


def ipv6(
    data: bytes, *, source="fd00::1", destination="fd00::2", protocol=6, length=None, version=6
) -> bytes:
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    length = len(data) if length is None else length
    return struct.pack(">IHBB", version << 28, length, protocol, 64) + ends + data


def fragment_header(protocol=6, *, offset=0, more=0, number=1) -> bytes:
    """Return the IPv6 extension header of a fragment; the offset in units of 8 bytes."""
    return struct.pack(">BBHI", protocol, 0, offset << 3 | more, number)


def ethernet(data: bytes, *, kind=0x0800, tags=()) -> bytes:
    """Return an Ethernet frame; `tags` are the types of its VLAN tags."""
    tagged = b"".join(struct.pack(">HH", tag, 7) for tag in tags)
    return b"\x02" * 6 + b"\x04" * 6 + tagged + struct.pack(">H", kind) + data


def snap(data: bytes, *, kind=0x0800, organisation=b"\0\0\0") -> bytes:
    """Return an LLC header with SNAP before the data."""
    return b"\xaa\xaa\x03" + organisation + struct.pack(">H", kind) + data


def mpls(data: bytes, *, labels=1) -> bytes:
    """Return a stack of labels, the last one marked, before the data."""
    entries = [struct.pack(">I", (100 + n) << 12 | 64) for n in range(labels)]
    entries[-1] = struct.pack(">I", 77 << 12 | 0x100 | 64)
    return b"".join(entries) + data


def pppoe(data: bytes, *, protocol=b"\x00\x21", kind=0x11, code=0) -> bytes:
    """Return a PPPoE header and a PPP protocol before the data."""
    return struct.pack(">BBHH", kind, code, 5, len(protocol + data)) + protocol + data


def wireless(data: bytes, *, control=0x0008, quality=b"", padding=b"") -> bytes:
    """Return an 802.11 frame around what follows its header.

    `control` is the frame control as a little-endian number (data: 8, and 0x80 for QoS, 0x100 to
    and 0x200 from the distribution system, 0x4000 protected, 0x8000 order); `quality` stands where
    the QoS control and what follows it do.
    """
    addresses = 4 if control & 0x300 == 0x300 else 3
    head = struct.pack("<HH", control, 0) + b"\x02" * 18 + bytes(2) + b"\x04" * 6 * (addresses - 3)
    return head + quality + padding + data


def radiotap(frame: bytes, *, present=(0,), fields=b"", version=0, length=None) -> bytes:
    """Return a radiotap header with these words of field bits, and fields, before a frame."""
    words = b"".join(struct.pack("<I", word) for word in present)
    length = 4 + len(words) + len(fields) if length is None else length
    return struct.pack("<BBH", version, 0, length) + words + fields + frame


def ppi(frame: bytes, *, link=1, fields=b"", length=None) -> bytes:
    length = 8 + len(fields) if length is None else length
    return struct.pack("<BBHI", 0, 0, length, link) + fields + frame


def nflog(*attributes: tuple[int, bytes], family=2, version=0) -> bytes:
    """Return an NFLOG frame of (type, value) attributes."""
    out = struct.pack("<BBH", family, version, 0)
    for kind, value in attributes:
        out += struct.pack("<HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
    return out


def gre(data: bytes, *, protocol=0x0800, flags=0, version=0, fields=b"") -> bytes:
    """Return a GRE header; `fields` are those that the flags announce."""
    return struct.pack(">BBH", flags, version, protocol) + fields + data


def vxlan(frame: bytes, *, flags=8) -> bytes:
    return struct.pack(">B3xI", flags, 42 << 8) + frame


def geneve(data: bytes, *, protocol=0x6558, options=b"", version=0) -> bytes:
    return (
        struct.pack(">BBHI", version << 6 | len(options) // 4, 0, protocol, 42 << 8)
        + options
        + data
    )


def gtp(data: bytes, *, flags=0x30, kind=255, options=b"") -> bytes:
    """Return a GTP-U header, with the four bytes of options and extension headers if any."""
    return struct.pack(">BBHI", flags, kind, len(options + data), 99) + options + data


def teredo(data: bytes, *, identifier=None, authentication=b"", origin=False) -> bytes:
    """Return IPv6 behind the indications of Teredo that are asked for."""
    head = b""
    if identifier is not None:
        lengths = bytes([len(identifier), len(authentication)])
        head += b"\0\1" + lengths + identifier + authentication + bytes(9)
    return head + (b"\0\0" + b"\xff" * 6 if origin else b"") + data
