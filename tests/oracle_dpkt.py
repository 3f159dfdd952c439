"""Five-tuple sessions of a capture by dpkt: a third, independent reading to hold the cores to.

For well-formed captures only: dpkt raises where the cores name a reason.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator

import dpkt

NULL, ETHERNET, RAW, COOKED, IPV4 = 0, 1, 101, 113, 228


@dataclasses.dataclass
class Session:
    """A session as the core counts it; `tiles` are the first bytes of its first packets."""

    source: bytes
    destination: bytes
    source_port: int
    destination_port: int
    protocol: int
    packets: int = 0
    payload_bytes: int = 0
    tiles: list[bytes] = dataclasses.field(default_factory=list)
    directions: list[int] = dataclasses.field(default_factory=list)
    times: list[int] = dataclasses.field(default_factory=list)


def packets_of(data: bytes) -> Iterator[tuple[float, bytes, int]]:
    """Yield (time in seconds, captured bytes, link type)."""
    pcapng = data[:4] == b"\x0a\x0d\x0d\x0a"
    reader = (dpkt.pcapng.Reader if pcapng else dpkt.pcap.Reader)(io.BytesIO(data))
    for time, packet in reader:
        yield float(time), packet, reader.datalink()


def sessions_of(data: bytes, width: int = 256, limit: int = 64) -> list[Session] | None:
    """Return the TCP and UDP sessions of the capture, None if it holds what dpkt does not know.

    Fragments are left out, as are packets whose headers are not whole.

    Raises:
        dpkt.UnpackError: the capture is cut in the middle of a record.
    """
    sessions: dict[frozenset, Session] = {}
    for time, packet, link in packets_of(data):
        if link not in (NULL, ETHERNET, RAW, COOKED, IPV4):
            return None
        try:
            found = _endpoints(packet, link)
        except dpkt.UnpackError:  # cut in the link or IP header
            found = None
        if found is None:
            continue
        protocol, source, destination, payload = found
        key = protocol, frozenset((source, destination))
        if key not in sessions:
            sessions[key] = Session(source[0], destination[0], source[1], destination[1], protocol)
        session = sessions[key]
        session.packets += 1
        session.payload_bytes += payload
        if len(session.tiles) < limit:
            session.tiles.append(packet[:width].ljust(width, b"\0"))
            initiator = session.source, session.source_port
            session.directions.append(0 if source == initiator else 1)
            session.times.append(round(time * 1e6))
    return list(sessions.values())


def _endpoints(packet: bytes, link: int) -> tuple | None:
    """Return (protocol, (address, port), (address, port), payload bytes) of a whole segment."""
    if link in (RAW, IPV4):
        ip = (dpkt.ip.IP if packet[0] >> 4 == 4 else dpkt.ip6.IP6)(packet)
    else:
        layer = {NULL: dpkt.loopback.Loopback, ETHERNET: dpkt.ethernet.Ethernet}
        ip = layer.get(link, dpkt.sll.SLL)(packet).data
    if isinstance(ip, dpkt.ip.IP):
        if ip.mf or ip.offset:
            return None
        protocol = ip.p
    elif isinstance(ip, dpkt.ip6.IP6):
        fragment = ip.extension_hdrs.get(44)
        if fragment is not None and (fragment.frag_off or fragment.m_flag):
            return None
        protocol = ip.p
    else:
        return None
    segment = ip.data
    if not isinstance(segment, (dpkt.tcp.TCP, dpkt.udp.UDP)):
        return None
    return protocol, (ip.src, segment.sport), (ip.dst, segment.dport), len(segment.data)
