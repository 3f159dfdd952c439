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


def ipv4(
    data: bytes,
    *,
    source="10.0.0.1",
    destination="10.0.0.2",
    protocol=6,
    fragment=0,
    total=None,
    words=5,
    version=4,
) -> bytes:
    """Return an IPv4 datagram; the checksum stays 0."""
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    total = words * 4 + len(data) if total is None else total
    head = struct.pack(">BBHHHBBH", version << 4 | words, 0, total, 0, fragment, 64, protocol, 0)
    return head + ends + bytes(max(0, words - 5) * 4) + data


def ipv6(
    data: bytes, *, source="fd00::1", destination="fd00::2", protocol=6, length=None, version=6
) -> bytes:
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    length = len(data) if length is None else length
    return struct.pack(">IHBB", version << 28, length, protocol, 64) + ends + data


def ethernet(data: bytes, *, kind=0x0800, tags=()) -> bytes:
    """Return an Ethernet frame; `tags` are the types of its VLAN tags."""
    tagged = b"".join(struct.pack(">HH", tag, 7) for tag in tags)
    return b"\x02" * 6 + b"\x04" * 6 + tagged + struct.pack(">H", kind) + data
