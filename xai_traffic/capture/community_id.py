"""Community ID, the flow hash that Zeek, Suricata, Arkime and Wireshark share.

Source: Community ID version 1, github.com/corelight/community-id-spec. Of ICMP it hashes type and
counterpart; what a tunnel wraps counts alone, as the specification leaves nesting open.
"""

from __future__ import annotations

import base64
import hashlib

from xai_traffic.capture.records import ICMP, ICMP6, SCTP, TCP, UDP

WITH_PORTS = (TCP, UDP, SCTP)

# Message types that answer each other; "ports" of ICMP are the type and its counterpart.
ICMP_PAIRS = {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17, 10: 9, 9: 10}
ICMP6_PAIRS = {
    128: 129,
    129: 128,
    133: 134,
    134: 133,
    135: 136,
    136: 135,
    130: 131,
    131: 130,
    139: 140,
    140: 139,
    144: 145,
    145: 144,
}


def community_id(
    protocol: int,
    source: bytes,
    destination: bytes,
    source_port: int | None = None,
    destination_port: int | None = None,
    *,
    seed: int = 0,
) -> str:
    """Return the Community ID of a flow, the same for both of its directions.

    Args:
        protocol: IP protocol number.
        source, destination: addresses, 4 or 16 bytes in network order.
        source_port, destination_port: for TCP, UDP and SCTP the ports; for ICMP and ICMPv6 the
            type and code of a message; ignored for other protocols.
        seed: 0..65535; sites choose one to keep their hashes apart.
    """
    ports = b""
    swap = source > destination
    if protocol in (*WITH_PORTS, ICMP, ICMP6) and source_port is not None:
        one_way = False
        if protocol in (ICMP, ICMP6):
            pairs = ICMP_PAIRS if protocol == ICMP else ICMP6_PAIRS
            one_way = source_port not in pairs
            destination_port = pairs.get(source_port, destination_port)
        destination_port = destination_port or 0
        # A message without a counterpart has no other direction: it stays as it is.
        swap = not one_way and (source, source_port) > (destination, destination_port)
        first, last = (destination_port, source_port) if swap else (source_port, destination_port)
        ports = first.to_bytes(2, "big") + last.to_bytes(2, "big")
    ends = destination + source if swap else source + destination
    flow = seed.to_bytes(2, "big") + ends + bytes((protocol, 0)) + ports
    return "1:" + base64.b64encode(hashlib.sha1(flow, usedforsecurity=False).digest()).decode()
