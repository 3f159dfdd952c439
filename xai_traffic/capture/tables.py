"""Tables of sessions and of their packets, made of the rows that a core emits."""

from __future__ import annotations

import socket

import numpy as np
import pyarrow as pa

from xai_traffic.capture.community_id import community_id
from xai_traffic.capture.records import (
    ANY,
    ENDS,
    ICMP,
    ICMP6,
    PACKET,
    SCTP,
    TCP,
    TUNNELS,
    UDP,
)

PROTOCOL_NAMES = {
    TCP: "tcp",
    UDP: "udp",
    ICMP: "icmp",
    ICMP6: "icmp6",
    SCTP: "sctp",
    ANY: "any",
}
"""What a table calls a protocol; others go by their number, as text."""

TIME = pa.timestamp("ns", tz="UTC")
PACKET_SCHEMA = pa.schema(
    [
        ("session", pa.int64()),
        ("packet", pa.int32()),
        ("frame", pa.int64()),
        ("time_ns", pa.int64()),
        ("direction", pa.uint8()),
        ("captured", pa.uint32()),
        ("wire", pa.uint32()),
        ("start", pa.uint16()),
        ("length", pa.uint16()),
        ("network", pa.uint16()),
        ("transport", pa.uint16()),
        ("payload", pa.uint16()),
        ("link", pa.uint16()),
        ("protocol", pa.uint8()),
        ("outer", pa.uint16()),
        ("flags", pa.uint16()),
        ("tunnel", pa.uint8()),
        ("depth", pa.uint8()),
    ]
)
"""Columns of a table of packets; of each, what PACKET says of its field."""


def session_table(
    sessions: np.ndarray,
    capture: str,
    packet_rows: np.ndarray | None = None,
    *,
    community_id_seed: int = 0,
) -> pa.Table:
    """Return the table of sessions whose tiles lie in this order.

    `tunnel`, `outer_source` and `outer_destination` are null where a session lies in no tunnel,
    `icmp_type` and `icmp_code` (of its first packet) where it is not ICMP.

    Args:
        sessions: SESSION [N].
        capture: name of their capture.
        packet_rows: int64 [N], rows in the packet table; equal to the tiles by default.
        community_id_seed: of `community_id`.
    """
    tiles = sessions["tiles"].astype(np.int64)
    sources, destinations, flows = _endpoints(sessions, community_id_seed)
    tunnelled = sessions["outer_family"] > 0
    no_icmp = ~np.isin(sessions["protocol"], (ICMP, ICMP6))
    return pa.table(
        {
            "session": pa.array(sessions["session"], pa.int64()),
            "capture": pa.array([capture] * len(sessions), pa.string()),
            "protocol": pa.array(map(_protocol_name, sessions["protocol"].tolist()), pa.string()),
            "source": pa.array(sources, pa.string()),
            "source_port": pa.array(sessions["source_port"], pa.int32()),
            "destination": pa.array(destinations, pa.string()),
            "destination_port": pa.array(sessions["destination_port"], pa.int32()),
            "first_time": pa.array(sessions["first_time"], pa.int64()).cast(TIME),
            "last_time": pa.array(sessions["last_time"], pa.int64()).cast(TIME),
            "packets": pa.array(sessions["packets"], pa.int64()),
            "bytes": pa.array(sessions["bytes"], pa.int64()),
            "community_id": pa.array(flows, pa.string()),
            "end": pa.array([ENDS[end] for end in sessions["end"].tolist()], pa.string()),
            "first_tile": pa.array(np.cumsum(tiles) - tiles, pa.int64()),
            "tiles": pa.array(tiles, pa.int32()),
            "packet_rows": pa.array(tiles if packet_rows is None else packet_rows, pa.int32()),
            "tunnel": pa.array(
                [TUNNELS[kind] or None for kind in sessions["tunnel"].tolist()], pa.string()
            ),
            "outer_source": _outer(sessions, "outer_source", tunnelled),
            "outer_destination": _outer(sessions, "outer_destination", tunnelled),
            "depth": pa.array(np.ascontiguousarray(sessions["depth"]), pa.uint8()),
            "icmp_type": pa.array(sessions["icmp_type"].copy(), pa.uint8(), mask=no_icmp),
            "icmp_code": pa.array(sessions["icmp_code"].copy(), pa.uint8(), mask=no_icmp),
        }
    )


def packet_table(packets: np.ndarray) -> pa.Table:
    """Return PACKET rows as a table, column by column."""
    return pa.table(
        {
            field.name: pa.array(np.ascontiguousarray(packets[field.name]), field.type)
            for field in PACKET_SCHEMA
        },
        schema=PACKET_SCHEMA,
    )


def packet_rows_of(table: pa.Table) -> np.ndarray:
    """Return PACKET rows of a packet table; the inverse of `packet_table`."""
    packets = np.zeros(len(table), PACKET)
    for name in PACKET_SCHEMA.names:
        packets[name] = table[name].to_numpy()
    return packets


def _protocol_name(number: int) -> str:
    return PROTOCOL_NAMES.get(number, str(number))


def _endpoints(sessions: np.ndarray, seed: int) -> tuple[list[str], list[str], list[str | None]]:
    """Return each session's two addresses as text, and its Community ID.

    A session of any protocols has none. Of ICMP it is that of the first packet's message.
    """
    # Bytes and lists once for all rows: picking fields row by row takes four times as long.
    sources, destinations = (
        np.ascontiguousarray(sessions[name]).tobytes() for name in ("source", "destination")
    )
    columns = ("family", "protocol", "source_port", "destination_port", "icmp_type", "icmp_code")
    rows = zip(*(sessions[name].tolist() for name in columns), strict=True)
    texts: tuple[list[str], list[str]] = [], []
    flows: list[str | None] = []
    for number, (version, protocol, first, second, kind, code) in enumerate(rows):
        family, size = (socket.AF_INET, 4) if version == 4 else (socket.AF_INET6, 16)
        source = sources[number * 16 : number * 16 + size]
        destination = destinations[number * 16 : number * 16 + size]
        if protocol in (ICMP, ICMP6):
            first, second = kind, code
        flows.append(
            None
            if protocol == ANY
            else community_id(protocol, source, destination, first, second, seed=seed)
        )
        texts[0].append(socket.inet_ntop(family, source))
        texts[1].append(socket.inet_ntop(family, destination))
    return *texts, flows


def _outer(sessions: np.ndarray, name: str, tunnelled: np.ndarray) -> pa.Array:
    """Return the outer addresses of one side as text, null for sessions in no tunnel."""
    texts: list[str | None] = [None] * len(sessions)
    for row in np.flatnonzero(tunnelled).tolist():
        version = sessions["outer_family"][row]
        family, size = (socket.AF_INET, 4) if version == 4 else (socket.AF_INET6, 16)
        texts[row] = socket.inet_ntop(family, sessions[name][row, :size].tobytes())
    return pa.array(texts, pa.string())
