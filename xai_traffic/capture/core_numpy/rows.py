"""Make the tile and the rows of `records.py`. Part of the plain core, see `__init__.py`."""

from __future__ import annotations

import numpy as np

from xai_traffic.capture.core_numpy.decode import Decoded
from xai_traffic.capture.core_numpy.formats import Record
from xai_traffic.capture.core_numpy.session_rules import OpenSession
from xai_traffic.capture.records import ANY, CUT, FRAGMENT, NONE


def flags_of(record: Record, packet: Decoded) -> int:
    """Return the flags that a packet has by itself."""
    cut = CUT if len(record.data) < record.wire else 0
    return cut | (FRAGMENT if packet.fragment else 0)


def tile_and_row(record: Record, packet: Decoded, layers: str, width: int) -> tuple[bytes, dict]:
    """Return the tile's captured bytes, and what PACKET says of the packet alone.

    Args:
        record: the packet as captured.
        packet: its headers.
        layers: where the tile begins, one of rules.LAYERS.
        width: most bytes of it.
    """
    start, end = _extent(record, packet, layers)
    network = transport = payload = outer = NONE
    if start is None:
        start = end = 0
    else:
        network = _offset(packet.network, start)
        transport = _offset(packet.transport, start)
        payload = _offset(packet.payload, start)
        if packet.ends.depth:
            outer = _offset(packet.first_network, start)
    tile = record.data[start : min(end, start + width)]
    return tile, {
        "frame": record.frame,
        "time_ns": record.time_ns,
        "captured": len(record.data),
        "wire": record.wire,
        "start": start,
        "length": len(tile),
        "network": network,
        "transport": transport,
        "payload": payload,
        "link": record.link,
        "protocol": packet.ends.protocol,
        "outer": outer,
        "tunnel": packet.ends.tunnel,
        "depth": packet.ends.depth,
    }


def session_row(session: OpenSession, ports: bool) -> dict:
    """Return what SESSION says of a session so far.

    Args:
        session: the session.
        ports: whether it has a protocol and ports; a host pair's has several.
    """
    ends = session.first.ends
    icmp_type, icmp_code = session.first.icmp
    return {
        "session": session.number,
        "first_time": session.first_time,
        "last_time": session.last_time,
        "packets": session.packets,
        "bytes": session.bytes,
        "payload_bytes": session.payload_bytes,
        "source": _address(ends.source),
        "destination": _address(ends.destination),
        "source_port": ends.source_port if ports else 0,
        "destination_port": ends.destination_port if ports else 0,
        "tiles": session.tiles,
        "protocol": ends.protocol if ports else ANY,
        "family": ends.family,
        "outer_family": ends.outer_family,
        "tunnel": ends.tunnel,
        "depth": ends.depth,
        "icmp_type": icmp_type,
        "icmp_code": icmp_code,
        "outer_source": _address(ends.outer_source),
        "outer_destination": _address(ends.outer_destination),
    }


def packed(rows: list[dict], layout: np.dtype) -> bytes:
    """Return rows as the bytes of a record array; reserved bytes are 0."""
    if not rows:
        return b""
    table = np.zeros(len(rows), layout)
    for name in rows[0]:
        table[name] = [row[name] for row in rows]
    return table.tobytes()


def _extent(record: Record, packet: Decoded, layers: str) -> tuple[int | None, int]:
    """Return (first byte of the tile, None if it has none; where it ends at the latest)."""
    if layers == "all":
        return 0, len(record.data)
    if layers == "network":
        return packet.network, packet.end
    if layers == "transport" and packet.transport is not None:
        return packet.transport, packet.end
    return packet.payload, packet.end  # later fragments have no transport header


def _offset(position: int | None, start: int) -> int:
    """Return a position relative to the tile, NONE where the tile does not have it."""
    if position is None or position < start or position - start >= NONE:
        return NONE
    return position - start


def _address(address: bytes) -> list[int]:
    return list(address.ljust(16, b"\0"))
