"""Packets of a capture in tiles as wide as the longest, so that whole packets can be forged."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
import pyarrow as pa
from capture_bytes import pcap
from oracle_dpkt import packets_of

from xai_traffic.capture.forging import Forged, forge
from xai_traffic.capture.forging.endpoints import Endpoints, endpoints_of
from xai_traffic.capture.sessions import packet_rows_of, read_capture


@dataclasses.dataclass
class Whole:
    """All packets with a tile, in the order of sessions: `tiles` are as read, `wide` whole ones."""

    tiles: np.ndarray
    rows: np.ndarray
    wide: np.ndarray
    wide_rows: np.ndarray
    session: np.ndarray
    table: pa.Table
    link: int

    @property
    def packets(self) -> list[bytes]:
        return self.bytes_of(self.wide)

    def bytes_of(self, wide: np.ndarray) -> list[bytes]:
        lengths = self.wide_rows["length"].tolist()
        return [tile[:length].tobytes() for tile, length in zip(wide, lengths, strict=True)]

    def endpoints(self, seed: int = 0) -> Endpoints:
        return endpoints_of(self.table, seed)

    def forged(self, forgery: str = "all", seed: int = 0, **options) -> Forged:
        own = self.wide_rows, self.session, self.endpoints(seed)
        return forge(self.wide, *own, forgery, **options)

    def capture(self, wide: np.ndarray) -> bytes:
        """Return a capture of the packets, at their times, in the order of the frames."""
        order = np.argsort(self.rows["frame"], kind="stable")
        packets, times = self.bytes_of(wide), self.rows["time_ns"]
        records = [
            (int(times[n] // 10**9), int(times[n] % 10**9 // 1000), packets[n]) for n in order
        ]
        return pcap(records, link=self.link)


def whole_packets(path: pathlib.Path, **rules) -> Whole:
    """Read a capture of one link type."""
    captured = list(packets_of(path.read_bytes()))
    (link,) = {link for _, _, link in captured}
    sessions = read_capture(path, **{"filter": "ip or ip6", **rules})
    rows = packet_rows_of(sessions.packets)
    packets = [captured[frame - 1][1] for frame in rows["frame"]]
    wide = np.zeros((len(rows), max(256, *map(len, packets))), np.uint8)
    for tile, packet in zip(wide, packets, strict=True):
        tile[: len(packet)] = np.frombuffer(packet, np.uint8)
    wide_rows = rows.copy()
    wide_rows["length"] = [len(packet) for packet in packets]
    counts = sessions.table["tiles"].to_numpy()
    session = np.repeat(np.arange(len(counts)), counts)
    link = {12: 101, 14: 101}.get(link, link)
    return Whole(sessions.tiles, rows, wide, wide_rows, session, sessions.table, link)
