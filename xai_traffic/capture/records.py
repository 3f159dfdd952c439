"""The records that a capture core emits, and the words for what it counts.

Both cores (`native/core.c` and `core_numpy/`) write these layouts byte for byte, so a change here
is a change of the core's contract and must be made in all three places.
"""

from __future__ import annotations

import numpy as np

NONE = 65535
"""An offset that does not exist in this tile."""

TILE = 256
"""Bytes of a packet that layout `tiles` keeps."""

GRID = 64
"""Packets of a session that layout `tiles` keeps."""

ICMP, TCP, UDP, ICMP6, SCTP = 1, 6, 17, 58, 132
"""IP protocol numbers, of IANA."""

ANY = 255
"""Protocol of a session that may hold several (IANA keeps the number free)."""

PACKET = np.dtype(
    [
        ("session", "<i8"),  # 0-based by first packet in the capture
        ("frame", "<i8"),  # 1-based number of the packet in the capture
        ("time_ns", "<i8"),  # nanoseconds since 1970-01-01 UTC
        ("captured", "<u4"),  # bytes of the whole packet that the capture holds
        ("wire", "<u4"),  # bytes of the whole packet on the wire
        ("packet", "<u2"),  # 0-based in the session
        ("start", "<u2"),  # offset in the captured packet of the tile's first byte
        ("length", "<u2"),  # captured bytes in the tile; the rest of it is zero padding
        ("network", "<u2"),  # offset of the IP header from the tile's first byte, NONE if outside
        ("transport", "<u2"),  # same for the header of `protocol`
        ("payload", "<u2"),  # same for the first byte behind the transport header
        ("link", "<u2"),  # link type of the interface (LINKTYPE_ number)
        ("protocol", "u1"),  # IP protocol number (6 TCP, 17 UDP)
        ("direction", "u1"),  # 0 sent by the initiator, 1 by the responder
        ("outer", "<u2"),  # like `network`, of the first IP header if that is another; else NONE
        ("flags", "<u2"),  # CUT, RETRANSMISSION, ...
        ("tunnel", "u1"),  # index into TUNNELS: what wraps the IP header at `network`
        ("depth", "u1"),  # IP headers before the one at `network`
        ("reserved", "u1", 2),
    ]
)
"""One row a tile, 56 bytes."""

CUT, RETRANSMISSION, OUT_OF_ORDER, FRAGMENT = 1, 2, 4, 8
"""Bits of `flags`: the capture holds less than the wire had; TCP data seen before, or that fills a
gap; a part of a fragmented IP datagram."""

TUNNELS = ("", "ipip", "6in4", "gre", "vxlan", "geneve", "gtp", "teredo")
"""What an IP header can lie in."""

SESSION = np.dtype(
    [
        ("session", "<i8"),
        ("first_time", "<i8"),  # time of the first packet, ns
        ("last_time", "<i8"),  # latest time of any packet, ns
        ("packets", "<i8"),  # all packets, tiles or not
        ("bytes", "<i8"),  # sum of `wire`
        ("payload_bytes", "<i8"),  # sum of captured transport payload bytes
        ("source", "u1", 16),  # initiator's address, IPv4 in the first 4 bytes, rest zero
        ("destination", "u1", 16),
        ("source_port", "<u2"),  # 0 where the protocol has none
        ("destination_port", "<u2"),
        ("tiles", "<u2"),
        ("protocol", "u1"),
        ("family", "u1"),  # 4 or 6
        ("end", "u1"),  # index into ENDS
        ("outer_family", "u1"),  # of the first packet's first IP header, 0 if it is in no tunnel
        ("tunnel", "u1"),  # of the first packet, as in PACKET
        ("depth", "u1"),
        ("icmp_type", "u1"),  # of the first packet, 0 for other protocols
        ("icmp_code", "u1"),
        ("reserved", "u1", 2),
        ("outer_source", "u1", 16),
        ("outer_destination", "u1", 16),
    ]
)
"""One row a session that is reported, 128 bytes."""

ENDS = (
    "capture end",
    "new connection",
    "idle timeout",
    "evicted",
    "closed",
    "active timeout",
    "packet limit",
    "quiet",
)
"""Why a session ended, or (the last two) was reported before its end."""

DROPS = (
    "unsupported link type",
    "not IP",
    "encrypted",
    "truncated header",
    "malformed header",
    "fragment",
    "filtered",
    "retransmission",
)
"""Why a core drops a packet, in the order of the checks. (Sessions are dropped later, by name.)"""

FAULTS = (
    "",
    "not a capture: neither pcap nor pcapng",
    "the capture is cut short in the middle of a record",
    "a record claims more bytes than a packet can have",
    "a block's length is impossible",
    "a packet refers to an interface that was not described",
    "a packet claims more bytes than its block holds",
    "a section header has neither byte order",
    "too many interfaces",
)
"""Why a core stops before the end of the stream; 0 means it did not."""

MAX_RECORD = 262_144
"""Longest packet a record may claim (libpcap's MAXIMUM_SNAPLEN)."""

MAX_INTERFACES = 1 << 20
