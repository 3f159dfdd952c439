"""Read captures as sessions: tiles, tables, and an account of every packet."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
from collections import Counter
from collections.abc import Generator, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from xai_traffic.capture import images, layouts
from xai_traffic.capture.community_id import community_id
from xai_traffic.capture.core import Batch, open_core
from xai_traffic.capture.masking import apply_mask, parse_mask
from xai_traffic.capture.reader import capture_name, open_chunks
from xai_traffic.capture.records import ENDS, ICMP, ICMP6, PACKET, SCTP, TCP, UDP
from xai_traffic.capture.rules import DEFAULT_FILTER, ReadingRules
from xai_traffic.errors import CaptureError
from xai_traffic.terminal import log, printable

BELOW_MINIMUM = "below minimum packets"
NO_PAYLOAD = "no payload"

PROTOCOL_NAMES = {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMP6: "icmp6"}
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
    ]
)
"""Columns of a table of packets; of each, what PACKET says of its field."""


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
        stored = self.rules.layout
        lengths = None
        if layouts.needs_lengths(layout or stored):
            lengths = self.packets["length"].to_numpy()
        return layouts.make_images(stored, self.tiles, first, count, lengths, layout)


class CaptureReader:
    """Iterate over what the pieces of a capture give, as they come: `Batch` after `Batch`.

    Sessions come mixed, whether one is kept is known when it ends: see `gather`. Under layout
    ustc28 a batch has only the packets that reach their session's 784 bytes.

    Args:
        path: capture, see `reader.open_chunks`.
        rules: how to read it; tiles are masked by its mask.

    Attributes:
        packets: packet records so far.
        dropped: packets dropped so far by reason.
        fault: why reading stopped before the end, None if it did not; set when all is read.

    Raises:
        CaptureError: from the iterator: it cannot be opened, or is no capture at all.
        ConfigError: filter or mask have an error.
    """

    def __init__(self, path: str | os.PathLike, rules: ReadingRules):
        self.path, self.rules = os.fspath(path), rules
        self.fault: str | None = None
        self._masked = bool(parse_mask(rules.mask))
        self._core = open_core(rules)
        self._written = np.zeros(0, np.int64)
        self._batches = self._read()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return next(self._batches)

    @property
    def packets(self) -> int:
        return self._core.packets

    @property
    def dropped(self) -> dict[str, int]:
        return self._core.dropped

    def close(self) -> None:
        """Close the capture before its end."""
        self._batches.close()

    def _read(self) -> Generator[Batch, None, None]:
        damage = None
        any_bytes = False
        with contextlib.closing(open_chunks(self.path)) as chunks:
            try:
                for chunk in chunks:
                    any_bytes = True
                    yield self._prepare(self._core.feed(chunk))
                    if self._core.fault:
                        break
            except CaptureError as error:
                damage = error
        last = self._prepare(self._core.finish())
        fault = self._core.fault
        if not self._core.packets and damage:
            raise damage
        if not any_bytes:
            raise CaptureError(self.path, "the file is empty: capture or copy it again")
        if fault and fault[0].startswith("not a capture"):
            raise CaptureError(
                self.path,
                f"{fault[0]}; it takes those, also compressed by gzip, zstd or xz: "
                "convert other formats with Wireshark's editcap",
            )
        # The core sees a damaged stream as one cut short: the damage is the better reason.
        if damage:
            self.fault = str(damage)
        elif fault:
            reason, offset, packet = fault
            self.fault = str(
                CaptureError(
                    self.path, f"{reason}; what came before is used", offset=offset, packet=packet
                )
            )
        yield last

    def _prepare(self, batch: Batch) -> Batch:
        tiles, packets, sessions = batch
        if self.rules.layout == "ustc28" and len(packets):
            begins, size = self._advance(packets)
            reach = (begins < images.STREAM) & (size > 0)
            tiles, packets = tiles[reach], packets[reach]
        if self._masked:
            tiles = apply_mask(tiles, packets, self.rules.mask)
        return Batch(tiles, packets, sessions)

    def _advance(self, packets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        more = int(packets["session"].max()) + 1 - len(self._written)
        if more > 0:
            more = max(more, len(self._written))  # double it
            fresh = np.full(more, _stream_start(self.rules.layers))
            self._written = np.concatenate([self._written, fresh])
        return images.stream_positions(packets, self._written, self.rules.layers)


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
    max_open: int = 0,
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
        table=session_table(kept.sessions, name or capture_name(reader.path), kept.packet_rows),
        tiles=kept.tiles,
        packets=packet_table(kept.packets),
        dropped={**reader.dropped, **kept.dropped},
        fault=reader.fault,
        rules=rules,
    )


def read_batches(path: str | os.PathLike, rules: ReadingRules) -> CaptureReader:
    """Open a capture for reading piece by piece; see `CaptureReader`."""
    return CaptureReader(path, rules)


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
    # Packets of a session come in their order, and a stable sort keeps it.
    order = np.argsort(packets["session"], kind="stable")
    row = np.searchsorted(numbers, packets["session"][order])
    known = np.append(numbers, -1)[row] == packets["session"][order]
    order, row = order[known], row[known]
    packets = packets[order]
    packet_rows = np.bincount(row, minlength=len(sessions)).astype(np.int64)
    if rules.layout == "ustc28":
        written = np.full(len(sessions), _stream_start(rules.layers))
        numbered = packets.copy()
        numbered["session"] = row
        begins, _ = images.stream_positions(numbered, written, rules.layers)
        tiles = images.stream_tiles(tiles[order], packets, begins, numbers, rules.layers)
        sessions["tiles"] = images.STREAM_TILES
    else:
        tiles = tiles[order]
    return Gathered(sessions, packets, packet_rows, tiles, dropped)


def session_table(
    sessions: np.ndarray, capture: str, packet_rows: np.ndarray | None = None
) -> pa.Table:
    """Return the table of sessions whose tiles lie in this order.

    Args:
        sessions: SESSION [N].
        capture: name of their capture.
        packet_rows: int64 [N], rows in the packet table; equal to the tiles by default.
    """
    tiles = sessions["tiles"].astype(np.int64)
    ends = _endpoints(sessions)
    return pa.table(
        {
            "session": pa.array(sessions["session"], pa.int64()),
            "capture": pa.array([capture] * len(sessions), pa.string()),
            "protocol": pa.array(map(_protocol_name, sessions["protocol"].tolist()), pa.string()),
            "source": pa.array([end[0] for end in ends], pa.string()),
            "source_port": pa.array(sessions["source_port"], pa.int32()),
            "destination": pa.array([end[1] for end in ends], pa.string()),
            "destination_port": pa.array(sessions["destination_port"], pa.int32()),
            "first_time": pa.array(sessions["first_time"], pa.int64()).cast(TIME),
            "last_time": pa.array(sessions["last_time"], pa.int64()).cast(TIME),
            "packets": pa.array(sessions["packets"], pa.int64()),
            "bytes": pa.array(sessions["bytes"], pa.int64()),
            "community_id": pa.array([end[2] for end in ends], pa.string()),
            "end": pa.array([ENDS[end] for end in sessions["end"].tolist()], pa.string()),
            "first_tile": pa.array(np.cumsum(tiles) - tiles, pa.int64()),
            "tiles": pa.array(tiles, pa.int32()),
            "packet_rows": pa.array(tiles if packet_rows is None else packet_rows, pa.int32()),
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


def _stream_start(layers: str) -> int:
    return len(images.FILE_HEADER) if layers == "all" else 0


def _protocol_name(number: int) -> str:
    return PROTOCOL_NAMES.get(number, str(number))


def _endpoints(sessions: np.ndarray) -> list[tuple[str, str, str | None]]:
    """Return each session's two addresses as text, and its Community ID.

    ICMP's needs message types and SCTP's ports, which a session does not keep: theirs is None.
    """
    # Bytes and lists once for all rows: picking fields row by row takes four times as long.
    sources, destinations = (
        np.ascontiguousarray(sessions[name]).tobytes() for name in ("source", "destination")
    )
    columns = ("family", "protocol", "source_port", "destination_port")
    rows = zip(*(sessions[name].tolist() for name in columns), strict=True)
    ends = []
    for number, (version, protocol, *ports) in enumerate(rows):
        family, size = (socket.AF_INET, 4) if version == 4 else (socket.AF_INET6, 16)
        source = sources[number * 16 : number * 16 + size]
        destination = destinations[number * 16 : number * 16 + size]
        flow = None
        if protocol not in (ICMP, ICMP6, SCTP):
            flow = community_id(protocol, source, destination, *ports)
        names = socket.inet_ntop(family, source), socket.inet_ntop(family, destination)
        ends.append((*names, flow))
    return ends
