"""Five-tuple sessions of a capture by dpkt: a third, independent reading to hold the cores to.

For well-formed captures only: dpkt raises where the cores name a reason. dpkt enters no tunnels:
what it knows are the cores' sessions of `tunnels="outer"`.
"""

from __future__ import annotations

import collections
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

    A later fragment waits for the first one of its datagram, however long. Packets whose headers
    are not whole are left out.

    Raises:
        dpkt.UnpackError: the capture is cut in the middle of a record.
    """
    sessions: dict[tuple, Session] = {}
    ends_of: dict[tuple, tuple] = {}  # of fragmented datagrams
    waiting: dict[tuple, list] = collections.defaultdict(list)
    for time, packet, link in packets_of(data):
        if link not in (NULL, ETHERNET, RAW, COOKED, IPV4):
            return None
        try:
            ip = _ip(packet, link)
        except dpkt.UnpackError:  # cut in the link or IP header
            continue
        if ip is None:
            continue
        datagram, later = _fragment(ip)
        if later:
            waiting[datagram].append((time, packet, len(bytes(ip.data))))
        elif isinstance(ip.data, (dpkt.tcp.TCP, dpkt.udp.UDP)):
            ends = ip.p, (ip.src, ip.data.sport), (ip.dst, ip.data.dport)
            if datagram is not None:
                ends_of[datagram] = ends
                _release(sessions, ends, waiting.pop(datagram, []), width, limit)
            _add(sessions, ends, time, packet, len(ip.data.data), width, limit)
        if later and datagram in ends_of:
            _release(sessions, ends_of[datagram], waiting.pop(datagram), width, limit)
    return list(sessions.values())


def _release(sessions, ends, fragments, width, limit) -> None:
    for fragment in fragments:
        _add(sessions, ends, *fragment, width, limit)


def _add(sessions, ends, time, packet, payload, width, limit) -> None:
    protocol, source, destination = ends
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


def _ip(packet: bytes, link: int) -> dpkt.ip.IP | dpkt.ip6.IP6 | None:
    if link in (RAW, IPV4):
        return (dpkt.ip.IP if packet[0] >> 4 == 4 else dpkt.ip6.IP6)(packet)
    layer = {NULL: dpkt.loopback.Loopback, ETHERNET: dpkt.ethernet.Ethernet}
    ip = layer.get(link, dpkt.sll.SLL)(packet).data
    return ip if isinstance(ip, (dpkt.ip.IP, dpkt.ip6.IP6)) else None


def _fragment(ip: dpkt.ip.IP | dpkt.ip6.IP6) -> tuple[tuple | None, bool]:
    """Return (what names the fragmented datagram, None if it is whole; whether a later part)."""
    if isinstance(ip, dpkt.ip.IP):
        name, more, offset = (ip.src, ip.dst, ip.p, ip.id), ip.mf, ip.offset
    else:
        header = ip.extension_hdrs.get(44)
        if header is None:
            return None, False
        name, more, offset = (ip.src, ip.dst, header.id), header.m_flag, header.frag_off
    return (name if more or offset else None), bool(offset)
