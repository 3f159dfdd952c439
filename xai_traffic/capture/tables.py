"""Tables of sessions and of their packets, made of the rows that a core emits."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xai_traffic.capture.community_id import community_ids
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

_PROTOCOLS = [PROTOCOL_NAMES.get(number, str(number)) for number in range(256)]

_OCTETS = pa.array([str(number) for number in range(256)])

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
    family, outer = sessions["family"], sessions["outer_family"]
    no_icmp = ~np.isin(sessions["protocol"], (ICMP, ICMP6))
    return pa.table(
        {
            "session": pa.array(sessions["session"], pa.int64()),
            "capture": _words([capture], np.zeros(len(sessions), np.uint8)),
            "protocol": _words(_PROTOCOLS, sessions["protocol"]),
            "source": _addresses(family, sessions["source"]),
            "source_port": pa.array(sessions["source_port"], pa.int32()),
            "destination": _addresses(family, sessions["destination"]),
            "destination_port": pa.array(sessions["destination_port"], pa.int32()),
            "first_time": pa.array(sessions["first_time"], pa.int64()).cast(TIME),
            "last_time": pa.array(sessions["last_time"], pa.int64()).cast(TIME),
            "packets": pa.array(sessions["packets"], pa.int64()),
            "bytes": pa.array(sessions["bytes"], pa.int64()),
            "community_id": _flows(sessions, community_id_seed),
            "end": _words(ENDS, sessions["end"]),
            "first_tile": pa.array(np.cumsum(tiles) - tiles, pa.int64()),
            "tiles": pa.array(tiles, pa.int32()),
            "packet_rows": pa.array(tiles if packet_rows is None else packet_rows, pa.int32()),
            "tunnel": _words([kind or None for kind in TUNNELS], sessions["tunnel"]),
            "outer_source": _addresses(outer, sessions["outer_source"]),
            "outer_destination": _addresses(outer, sessions["outer_destination"]),
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


def _words(words: Sequence[str | None], codes: np.ndarray) -> pa.Array:
    """Return the word of each code, as text."""
    # Through a dictionary: a Python string a row takes fifty times as long.
    codes = pa.array(np.ascontiguousarray(codes), pa.uint8())
    return pa.DictionaryArray.from_arrays(codes, pa.array(words, pa.string())).cast(pa.string())


def _addresses(family: np.ndarray, addresses: np.ndarray) -> pa.Array:
    """Return addresses uint8 [N, 16] as text, null where the family is neither 4 nor 6."""
    column = pa.nulls(len(family), pa.string())
    old, new = family == 4, family == 6
    if old.any():
        octets = (_OCTETS.take(pa.array(addresses[:, place].copy())) for place in range(4))
        texts = pc.binary_join_element_wise(*octets, ".")
        column = texts if old.all() else pc.if_else(pa.array(old), texts, column)
    if new.any():
        # Each address becomes text once, however many sessions have it.
        found = np.ascontiguousarray(addresses[new]).view("V16")[:, 0]
        different, place = np.unique(found, return_inverse=True)
        texts = [socket.inet_ntop(socket.AF_INET6, address) for address in different.tolist()]
        column = pc.replace_with_mask(column, pa.array(new), pa.array(texts).take(pa.array(place)))
    return column


def _flows(sessions: np.ndarray, seed: int) -> pa.Array:
    """Return the Community IDs as text, null for sessions of any protocols."""
    ids = community_ids(sessions, seed)
    size = ids.itemsize
    offsets = np.arange(0, size * (len(ids) + 1), size, dtype=np.int64)
    texts = pa.LargeStringArray.from_buffers(len(ids), pa.py_buffer(offsets), pa.py_buffer(ids))
    flows = texts.cast(pa.string())
    none = sessions["protocol"] == ANY
    return pc.if_else(pa.array(none), pa.scalar(None, pa.string()), flows) if none.any() else flows
