"""Community ID, the flow hash that Zeek, Suricata, Arkime and Wireshark share.

Source: Community ID version 1, github.com/corelight/community-id-spec. Of ICMP it hashes type and
counterpart; what a tunnel wraps counts alone, as the specification leaves nesting open.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

import numpy as np

from xai_traffic.capture.records import ANY, ICMP, ICMP6, SCTP, TCP, UDP

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


def community_ids(sessions: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the Community IDs of sessions, bytes30 [N]; empty for one of any protocols.

    That of an ICMP session is the one of its first packet's message.

    Args:
        sessions: SESSION [N].
        seed: see `community_id`.
    """
    protocol = sessions["protocol"]
    first, last, one_way = _ports(sessions)
    ported = np.isin(protocol, (*WITH_PORTS, ICMP, ICMP6))
    source, destination = (
        np.ascontiguousarray(sessions[name]) for name in ("source", "destination")
    )
    swap = ~one_way & _is_after(source, destination, np.where(ported, first - last, 0))
    ids = np.zeros((len(sessions), 30), np.uint8)
    for family, size in ((4, 4), (6, 16)):
        for with_ports in (False, True):
            of = np.flatnonzero(
                (sessions["family"] == family) & (ported == with_ports) & (protocol != ANY)
            )
            if not len(of):
                continue
            turned = swap[of, None]
            ends = source[of, :size], destination[of, :size]
            flows = np.zeros((len(of), 8 + 2 * size), np.uint8)
            flows[:, 0:2] = divmod(seed, 256)
            flows[:, 2 : 2 + size] = np.where(turned, ends[1], ends[0])
            flows[:, 2 + size : 2 + 2 * size] = np.where(turned, ends[0], ends[1])
            flows[:, -6] = protocol[of]
            ports = np.stack([first[of], last[of]], 1)
            ports = np.where(turned, ports[:, ::-1], ports)
            flows[:, -4:] = ports.astype(">u2").view(np.uint8).reshape(-1, 4)
            ids[of] = _hashed(flows if with_ports else flows[:, :-4])
    return ids.reshape(-1).view("S30")


def _ports(sessions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what stands for a session's two ports, int64 [N], and whether it has one way only."""
    first, last = (sessions[name].astype(np.int64) for name in ("source_port", "destination_port"))
    one_way = np.zeros(len(sessions), bool)
    for protocol, pairs in ((ICMP, ICMP_PAIRS), (ICMP6, ICMP6_PAIRS)):
        of = sessions["protocol"] == protocol
        answers = np.full(256, -1)
        answers[list(pairs)] = list(pairs.values())
        answer = answers[sessions["icmp_type"][of]]
        first[of], one_way[of] = sessions["icmp_type"][of], answer < 0
        last[of] = np.where(answer < 0, sessions["icmp_code"][of], answer)
    return first, last, one_way


def _is_after(source: np.ndarray, destination: np.ndarray, tie: np.ndarray) -> np.ndarray:
    """Compare addresses uint8 [N, 16] as numbers; `tie` is positive where equal ones are after."""
    after = tie > 0
    for one, other in zip(source.view(">u8").T[::-1], destination.view(">u8").T[::-1], strict=True):
        after = (one > other) | ((one == other) & after)
    return after


def _hashed(flows: np.ndarray) -> np.ndarray:
    """Return "1:" and the base64 of the SHA-1 of each row, uint8 [N, 30]."""
    ids = np.empty((len(flows), 30), np.uint8)
    ids[:, :2] = tuple(b"1:")
    data, size = flows.tobytes(), flows.shape[1]
    # A 21st byte each lets one call write the base64 of all; it shows in the last letter alone.
    digests = b"".join(
        hashlib.sha1(data[at : at + size], usedforsecurity=False).digest() + b"\0"
        for at in range(0, len(data), size)
    )
    letters = np.frombuffer(binascii.b2a_base64(digests, newline=False), np.uint8)
    ids[:, 2:] = letters.reshape(-1, 28)
    ids[:, -1] = ord("=")
    return ids
