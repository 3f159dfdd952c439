"""Find the headers of a packet that make its session. Part of the plain core.

`links.py` leads to the first IP header, `ip_headers.py` through it; here come the ports behind it
and, where there is one, the way into a tunnel (`tunnels.py`).

Sources: RFC 9293 (TCP), RFC 768 (UDP), RFC 9260 (SCTP), RFC 792 and RFC 4443 (ICMP).
"""

from __future__ import annotations

from typing import NamedTuple

from xai_traffic.capture.core_numpy import tunnels
from xai_traffic.capture.core_numpy.ip_headers import IpHeader, walk
from xai_traffic.capture.core_numpy.links import ip_header
from xai_traffic.capture.core_numpy.octets import MALFORMED, Dropped, need, number
from xai_traffic.capture.records import ICMP, ICMP6, SCTP, TCP, UDP

LEAST_HEADER = {TCP: 20, UDP: 8, SCTP: 12}
LEAST_OF_FRAGMENT = 8
"""Bytes of a transport header that a first fragment must hold: those with the ports."""

FIN, SYN, RST, ACK = 1, 2, 4, 16


class Ends(NamedTuple):
    """The endpoints of a packet: what its session is known by.

    Addresses are 4 or 16 bytes. `outer_...` are those of the first IP header where that is
    another one, else 0 and empty.
    """

    family: int
    protocol: int
    source: bytes
    destination: bytes
    source_port: int = 0
    destination_port: int = 0
    tunnel: int = 0
    depth: int = 0
    outer_family: int = 0
    outer_source: bytes = b""
    outer_destination: bytes = b""


class Decoded(NamedTuple):
    """Where the headers of a packet are, and what they say.

    Attributes:
        ends: its endpoints; without ports where `awaits` is set.
        first_network: offset of the first IP header.
        network: offset of the IP header that makes the session.
        transport: offset behind it; None for a later fragment.
        payload: offset behind the transport header; None where that does not end within the
            datagram.
        end: where the IP datagram ends in the captured bytes.
        declared: where it would end if nothing were cut off.
        flags: control bits of a whole TCP header, else 0.
        sequence: TCP sequence number, else 0.
        icmp: type and code, else zeros.
        fragment: whether any layer is a fragment of its datagram.
        begins: the datagrams whose first fragment this is, outermost first.
        awaits: the datagram whose first fragment knows the endpoints; None where they are known.
    """

    ends: Ends
    first_network: int
    network: int
    transport: int | None
    payload: int | None
    end: int
    declared: int
    flags: int = 0
    sequence: int = 0
    icmp: tuple[int, int] = (0, 0)
    fragment: bool = False
    begins: tuple = ()
    awaits: tuple | None = None

    @property
    def syn(self) -> bool:
        """Whether this opens a connection: SYN without ACK."""
        return self.flags & (SYN | ACK) == SYN


def decode(link: int, data: bytes, inner: bool = True) -> Decoded:
    """Return the decoded headers of the captured bytes.

    Args:
        link: link type.
        data: captured bytes.
        inner: whether to go into tunnels.

    Raises:
        Dropped: with the first reason met on the way from the link layer upwards.
    """
    family, at, end = ip_header(link, data)
    first = walk(data, family, at, end)
    packet = _transport(data, first, inner)
    while inner and packet.transport is not None and packet.ends.depth < tunnels.MAX_TUNNELS:
        deeper = _enter(data, packet, first)
        if deeper is None:
            break
        packet = deeper
    return packet


def _enter(data: bytes, packet: Decoded, first: IpHeader) -> Decoded | None:
    """Return the packet by its headers one tunnel farther in, None if it is no tunnel."""
    ends = packet.ends
    tunnel = tunnels.tunnel_of(ends.protocol, ends.source_port, ends.destination_port)
    if not tunnel:
        return None
    try:
        family, at = tunnels.enter(tunnel, data, packet.payload, packet.end)
        deeper = _transport(data, walk(data, family, at, packet.end), inner=True)
    except Dropped:
        return None
    return deeper._replace(
        ends=deeper.ends._replace(
            tunnel=tunnel,
            depth=ends.depth + 1,
            outer_family=first.family,
            outer_source=first.source,
            outer_destination=first.destination,
        ),
        first_network=first.network,
        fragment=packet.fragment or deeper.fragment,
        begins=packet.begins + deeper.begins,
    )


def _transport(data: bytes, header: IpHeader, inner: bool) -> Decoded:
    """Return the packet by the transport header behind an IP header."""
    protocol, at, end = header.protocol, header.transport, header.end
    ends = Ends(header.family, protocol, header.source, header.destination)
    packet = Decoded(
        ends,
        header.network,
        header.network,
        at,
        at,
        end,
        header.declared,
        fragment=header.datagram is not None,
    )
    ports = protocol in LEAST_HEADER
    # Of an IPv4 datagram without ports every fragment says all there is to know.
    complete = header.family == 4 and not ports
    if complete and not (inner and protocol in tunnels.TUNNEL_PROTOCOLS):
        datagram = None
    else:
        datagram = header.datagram
    if header.later:
        return packet._replace(transport=None, awaits=datagram)
    if datagram is not None:
        packet = packet._replace(begins=(datagram,))
    if protocol in (ICMP, ICMP6) and at + 2 <= end:
        packet = packet._replace(icmp=(data[at], data[at + 1]))
    if not ports:
        return packet
    least = LEAST_HEADER[protocol]
    need(end, at + (LEAST_OF_FRAGMENT if packet.fragment else least))
    ends = ends._replace(source_port=number(data, at, 2), destination_port=number(data, at + 2, 2))
    whole = at + least <= end
    payload, flags, sequence = at + least, 0, 0
    if protocol == TCP:
        sequence = number(data, at + 4, 4)
        if whole:
            words = data[at + 12] >> 4
            if words < 5:
                raise Dropped(MALFORMED)
            payload, flags = at + words * 4, data[at + 13]
    return packet._replace(
        ends=ends,
        payload=payload if payload <= end else None,
        flags=flags,
        sequence=sequence,
    )
