"""Find the IP and transport headers of a packet. Part of the plain core, see `core_numpy.py`.

Sources: RFC 791, RFC 8200, RFC 9293, RFC 768, IEEE 802.1Q, tcpdump.org's list of link types.
"""

from __future__ import annotations

from typing import NamedTuple

from xai_traffic.capture.records import DROPS, TCP, UDP

(
    UNSUPPORTED,
    NOT_IP,
    ENCRYPTED,
    TRUNCATED,
    MALFORMED,
    FRAGMENT,
    FILTERED,
    RETRANSMISSION,
) = range(len(DROPS))
NO_NEXT_HEADER = 59

NULL, ETHERNET, SLL, LOOP, SLL2, IPV4_ONLY, IPV6_ONLY = 0, 1, 113, 108, 276, 228, 229
RAW = (12, 14, 101)
VLAN_TAGS = (0x8100, 0x88A8, 0x9100, 0x9200)
MAX_TAGS = 8
IPV4, IPV6 = 0x0800, 0x86DD
EXTENSION_HEADERS = (0, 43, 60, 135, 139, 140)
FRAGMENT_HEADER, AUTHENTICATION = 44, 51
MAX_EXTENSION_HEADERS = 16
FARTHEST_TRANSPORT = 65_000


class Dropped(Exception):
    """A packet that belongs to no session; `reason` is an index into DROPS."""

    def __init__(self, reason: int):
        super().__init__(DROPS[reason])
        self.reason = reason


class Decoded(NamedTuple):
    """Where the headers of a packet are, and the endpoints they name.

    `end` is where the IP datagram ends in the captured bytes; `payload` is None where the transport
    header does not end before that. Addresses are 4 or 16 bytes.
    """

    family: int
    protocol: int
    source: bytes
    destination: bytes
    source_port: int
    destination_port: int
    network: int
    transport: int
    payload: int | None
    end: int
    syn: bool
    sequence: int


def decode(link: int, data: bytes) -> Decoded:
    """Return the decoded headers of the captured bytes.

    Raises:
        Dropped: with the first reason met on the way from the link layer upwards.
    """
    family, network = _link_layer(link, data)
    walk = _ipv4 if family == 4 else _ipv6
    protocol, source, destination, transport, end = walk(data, network)
    source_port = destination_port = sequence = 0
    syn = False
    payload: int | None = transport
    if transport > FARTHEST_TRANSPORT:
        raise Dropped(TRUNCATED)
    if protocol in (TCP, UDP):
        if end - transport < (20 if protocol == TCP else 8):
            raise Dropped(TRUNCATED)
        source_port = _number(data, transport, 2)
        destination_port = _number(data, transport + 2, 2)
        payload = transport + 8
    if protocol == TCP:
        words = data[transport + 12] >> 4
        if words < 5:
            raise Dropped(MALFORMED)
        payload = transport + words * 4
        if payload > end:
            payload = None
        sequence = _number(data, transport + 4, 4)
        syn = data[transport + 13] & 0x12 == 0x02
    return Decoded(
        family,
        protocol,
        source,
        destination,
        source_port,
        destination_port,
        network,
        transport,
        payload,
        end,
        syn,
        sequence,
    )


def _number(data: bytes, offset: int, size: int) -> int:
    return int.from_bytes(data[offset : offset + size], "big")


def _need(data: bytes, count: int) -> None:
    if len(data) < count:
        raise Dropped(TRUNCATED)


def _link_layer(link: int, data: bytes) -> tuple[int, int]:
    """Return (4 or 6, offset of the IP header)."""
    if link in (ETHERNET, SLL, SLL2):
        header, field = {ETHERNET: (14, 12), SLL: (16, 14), SLL2: (20, 0)}[link]
        _need(data, header)
        kind = _number(data, field, 2)
        tags = 0
        while kind in VLAN_TAGS:
            tags += 1
            if tags > MAX_TAGS:
                raise Dropped(NOT_IP)
            _need(data, header + 4)
            kind = _number(data, header + 2, 2)
            header += 4
        if kind == IPV4:
            return 4, header
        if kind == IPV6:
            return 6, header
        raise Dropped(NOT_IP)
    if link in (NULL, LOOP):
        _need(data, 4)
        # The family is in the byte order of the machine that captured.
        families = {int.from_bytes(data[:4], "big"), int.from_bytes(data[:4], "little")}
        if 2 in families:
            return 4, 4
        if families & {24, 28, 30}:
            return 6, 4
        raise Dropped(NOT_IP)
    if link in RAW:
        _need(data, 1)
        if data[0] >> 4 in (4, 6):
            return data[0] >> 4, 0
        raise Dropped(NOT_IP)
    if link == IPV4_ONLY:
        return 4, 0
    if link == IPV6_ONLY:
        return 6, 0
    raise Dropped(UNSUPPORTED)


def _ipv4(data: bytes, at: int) -> tuple[int, bytes, bytes, int, int]:
    """Return (protocol, source, destination, transport offset, end of the datagram)."""
    _need(data, at + 20)
    length = (data[at] & 15) * 4
    if data[at] >> 4 != 4 or length < 20:
        raise Dropped(MALFORMED)
    _need(data, at + length)
    total = _number(data, at + 2, 2)
    if 0 < total < length:
        raise Dropped(MALFORMED)
    # Segmentation offload leaves a total length of 0: the datagram is all there is.
    end = min(len(data), at + total) if total else len(data)
    if _number(data, at + 6, 2) & 0x3FFF:  # more fragments, or an offset
        raise Dropped(FRAGMENT)
    return data[at + 9], data[at + 12 : at + 16], data[at + 16 : at + 20], at + length, end


def _ipv6(data: bytes, at: int) -> tuple[int, bytes, bytes, int, int]:
    """Return (protocol, source, destination, transport offset, end of the datagram)."""
    _need(data, at + 40)
    if data[at] >> 4 != 6:
        raise Dropped(MALFORMED)
    source, destination = data[at + 8 : at + 24], data[at + 24 : at + 40]
    length = _number(data, at + 4, 2)
    protocol = data[at + 6]
    # A payload length of 0 means a jumbogram or segmentation offload.
    offload = length == 0 and protocol != NO_NEXT_HEADER
    end = len(data) if offload else min(len(data), at + 40 + length)
    at += 40
    headers = 0
    while protocol in (*EXTENSION_HEADERS, FRAGMENT_HEADER, AUTHENTICATION):
        headers += 1
        if headers > MAX_EXTENSION_HEADERS:
            raise Dropped(MALFORMED)
        if at + 8 > end:
            raise Dropped(TRUNCATED)
        size = (data[at + 1] + 1) * 8
        if protocol == AUTHENTICATION:
            size = (data[at + 1] + 2) * 4
        if protocol == FRAGMENT_HEADER:
            size = 8
            if _number(data, at + 2, 2) & 0xFFF9:  # an offset, or more fragments
                raise Dropped(FRAGMENT)
        if at + size > end:
            raise Dropped(TRUNCATED)
        protocol = data[at]
        at += size
    return protocol, source, destination, at, end
