"""Make pcapng blocks, and put a comment into the block of a packet.

Source: draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import struct

from xai_traffic.capture.core_numpy.formats import ENHANCED_PACKET, INTERFACE, SECTION

COMMENT, MOST = 1, 60_000
"""Code of opt_comment, and the most bytes of one: with it the largest packet still fits a block."""

UNSPECIFIED = b"\xff" * 8
"""The length of a section that does not tell it."""

NO_TIME = "the capture holds no time for this packet (Simple Packet Block): 1970 stands for none"
_END = bytes(4)
_APPLICATION, _RESOLUTION, _FLAGS = 4, 9, 2


def block(order: str, kind: int, body: bytes) -> bytes:
    """Return a block around a body, which is padded to 32 bits."""
    body += bytes(-len(body) % 4)
    head = struct.pack(order + "II", kind, len(body) + 12)
    return head + body + head[4:]


def option(order: str, code: int, value: bytes) -> bytes:
    """Return an option, padded to 32 bits."""
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def comment_option(order: str, text: str) -> bytes:
    """Return the option of a comment; of one too long the first part, whole characters."""
    value = text.encode("utf-8", "backslashreplace")
    return option(order, COMMENT, value[:MOST].decode("utf-8", "ignore").encode())


def section_header(order: str, application: str) -> bytes:
    """Return a section header, of unspecified length, that names who wrote it."""
    body = struct.pack(order + "IHH", 0x1A2B3C4D, 1, 0) + UNSPECIFIED
    body += option(order, _APPLICATION, application.encode())
    return block(order, SECTION, body + _END)


def interface_description(order: str, link: int, snaplen: int, resolution: int) -> bytes:
    """Return the description of an interface; times are in units of 10^-resolution seconds."""
    body = struct.pack(order + "HHI", link, 0, snaplen)
    return block(order, INTERFACE, body + option(order, _RESOLUTION, bytes([resolution])) + _END)


def frame_check_flags(order: str, octets: int) -> bytes:
    """Return the option epb_flags that tells how many octets of checksum end a packet."""
    return option(order, _FLAGS, struct.pack(order + "I", octets << 5))


def enhanced_packet(
    order: str, interface: int, units: int, data: bytes, wire: int, options: bytes
) -> bytes:
    """Return an enhanced packet block; `options` are whole ones without opt_endofopt."""
    head = struct.pack(order + "IIIII", interface, units >> 32, units & 0xFFFFFFFF, len(data), wire)
    body = head + data + bytes(-len(data) % 4)
    return block(order, ENHANCED_PACKET, body + options + _END if options else body)


def with_comment(order: str, held: bytes, captured: int, text: str) -> bytes:
    """Return an enhanced or obsolete packet block with one comment more.

    It stands behind the options that are there, before opt_endofopt. Where the options are damaged
    it stands before the damage, and all their bytes stay.

    Args:
        order: "<" or ">".
        held: the block.
        captured: bytes of its packet.
        text: the comment.
    """
    at, stop = 28 + captured + -captured % 4, len(held) - 4
    while at + 4 <= stop:
        code, length = struct.unpack_from(order + "HH", held, at)
        following = at + 4 + length + -length % 4
        if code == 0 or following > stop:
            break
        at = following
    kind = struct.unpack_from(order + "I", held)[0]
    ends = _END if at == stop else b""
    return block(order, kind, held[8:at] + comment_option(order, text) + ends + held[at:stop])
