"""Read captures as sessions: tiles, tables, and an account of every packet."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from xai_traffic.capture import images, layouts
from xai_traffic.capture.batches import CaptureReader, read_batches, stream_start
from xai_traffic.capture.reader import capture_name
from xai_traffic.capture.rules import DEFAULT_FILTER, ReadingRules
from xai_traffic.capture.tables import (
    PACKET_SCHEMA,
    TIME,
    packet_rows_of,
    packet_table,
    session_table,
)
from xai_traffic.terminal import log, printable

__all__ = [
    "PACKET_SCHEMA",
    "TIME",
    "CaptureReader",
    "Gathered",
    "Sessions",
    "choose_sessions",
    "gather",
    "packet_rows_of",
    "packet_table",
    "read_batches",
    "read_capture",
    "read_capture_by",
    "session_table",
]

BELOW_MINIMUM = "below minimum packets"
NO_PAYLOAD = "no payload"


@dataclasses.dataclass(frozen=True, eq=False)
class Sessions:
    """The sessions of one capture, in the order of their first packets.

    Args:
        table: pyarrow, one row a session.
        tiles: uint8 [T, 256], those of a session contiguous, in packet order, masked.
        packets: pyarrow, one row a packet that is in the tiles, in the same order.
        dropped: packets that are in no session, by reason; only reasons that occurred. Packets in
            sessions + dropped = packets in the file.
        fault: why the capture could not be read to its end, None if it was.
        rules: how it was read.
    """

    table: pa.Table
    tiles: np.ndarray
    packets: pa.Table
    dropped: dict[str, int]
    fault: str | None
    rules: ReadingRules

    def __len__(self) -> int:
        """Return the number of sessions."""
        return len(self.table)

    def images(
        self, rows: np.ndarray | None = None, layout: str | None = None
    ) -> np.ndarray | list[np.ndarray]:
        """Return uint8 [N, 128, 128], or what `layouts.py` says of other layouts than `tiles`.

        Args:
            rows: int [N], rows of `table`; all of them by default.
            layout: another that these tiles can give; that of the rules by default.

        Raises:
            ConfigError: the tiles cannot give that layout.
        """
        first, count = (self.table[name].to_numpy() for name in ("first_tile", "tiles"))
        if rows is not None:
            first, count = first[rows], count[rows]
        lengths = self.packets["length"].to_numpy()
        return layouts.make_images(self.rules.layout, self.tiles, first, count, lengths, layout)


class Gathered(NamedTuple):
    """Sessions that are kept, in order, with their tiles contiguous.

    sessions: SESSION [N], `tiles` counting rows of `tiles`; packets: PACKET [n];
    packet_rows: int64 [N]; tiles: uint8 [T, 256]; dropped: packets by reason.
    """

    sessions: np.ndarray
    packets: np.ndarray
    packet_rows: np.ndarray
    tiles: np.ndarray
    dropped: dict[str, int]


def read_capture(
    path: str | os.PathLike,
    *,
    layers: str = "all",
    mask: str = "none",
    rule: str = "connection",
    min_packets: int = 1,
    layout: str = "tiles",
    filter: str = DEFAULT_FILTER,
    idle_timeout: float = 0.0,
    max_open: int = 500_000,
    tunnels: str = "inner",
    retransmissions: str = "keep",
    community_id_seed: int = 0,
) -> Sessions:
    """Read a capture as sessions; for the arguments see `ReadingRules`.

    Raises:
        CaptureError: nothing of it can be read. One that is damaged further on gives the sessions
            before the damage, and names it in `fault`.
        ConfigError: an argument is wrong.
    """
    rules = ReadingRules(
        filter=filter,
        rule=rule,
        layers=layers,
        mask=mask,
        layout=layout,
        min_packets=min_packets,
        idle_timeout=idle_timeout,
        max_open=max_open,
        tunnels=tunnels,
        retransmissions=retransmissions,
        community_id_seed=community_id_seed,
    )
    sessions = read_capture_by(path, rules)
    if sessions.fault:
        log.warning("%s", printable(sessions.fault))
    return sessions


def read_capture_by(
    path: str | os.PathLike, rules: ReadingRules, name: str | None = None
) -> Sessions:
    """Read a capture by the rules of a dataset or run; `name` is what the table calls it.

    What is wrong with a capture's end is in `Sessions.fault`, for the caller to tell.

    Raises:
        CaptureError: nothing of it can be read.
    """
    reader = read_batches(path, rules)
    batches = list(reader)
    tiles, packets, sessions = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    kept = gather(tiles, packets, sessions, rules)
    return Sessions(
        table=session_table(
            kept.sessions,
            name or capture_name(reader.path),
            kept.packet_rows,
            community_id_seed=rules.community_id_seed,
        ),
        tiles=kept.tiles,
        packets=packet_table(kept.packets),
        dropped={**reader.dropped, **kept.dropped},
        fault=reader.fault,
        rules=rules,
    )


def choose_sessions(sessions: np.ndarray, rules: ReadingRules) -> tuple[np.ndarray, dict[str, int]]:
    """Return the SESSION rows that the rules keep, by number, and the packets of the others."""
    sessions = sessions[np.argsort(sessions["session"], kind="stable")]
    dropped: Counter[str] = Counter()
    few = sessions["packets"] < rules.min_packets
    empty = (sessions["payload_bytes"] == 0) & (rules.layers == "payload") & ~few
    for reason, which in ((BELOW_MINIMUM, few), (NO_PAYLOAD, empty)):
        if which.any():
            dropped[reason] = int(sessions["packets"][which].sum())
    return sessions[~few & ~empty], dict(dropped)


def gather(
    tiles: np.ndarray, packets: np.ndarray, sessions: np.ndarray, rules: ReadingRules
) -> Gathered:
    """Put the tiles of each kept session together, in the order of sessions and packets.

    Args:
        tiles: uint8 [n, width], from batches, in their order: those of a session in packet order.
        packets: PACKET [n], likewise.
        sessions: SESSION [m]; packets of sessions that are not among them are left out.
        rules: those they were read by.
    """
    sessions, dropped = choose_sessions(sessions, rules)
    numbers = np.ascontiguousarray(sessions["session"])
    of = np.ascontiguousarray(packets["session"])
    order: np.ndarray | slice = slice(None)  # what is in order already is not copied
    if (of[1:] < of[:-1]).any():
        # Packets of a session come in their order, and a stable sort keeps it.
        order = np.argsort(of, kind="stable")
    row = np.searchsorted(numbers, of[order])
    known = np.append(numbers, -1)[row] == of[order]
    if not known.all():
        order, row = np.arange(len(of))[order][known], row[known]
    packets = packets[order]
    packet_rows = np.bincount(row, minlength=len(sessions)).astype(np.int64)
    if rules.layout == "ustc28":
        written = np.full(len(sessions), stream_start(rules.layers))
        numbered = packets.copy()
        numbered["session"] = row
        begins, _ = images.stream_positions(numbered, written, rules.layers)
        tiles = images.stream_tiles(tiles[order], packets, begins, numbers, rules.layers)
        sessions["tiles"] = images.STREAM_TILES
    else:
        tiles = tiles[order]
    return Gathered(sessions, packets, packet_rows, tiles, dropped)
