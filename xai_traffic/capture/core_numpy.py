"""The capture core in plain Python and NumPy: the oracle for `_core.c`, and its stand-in.

Written to be read, not to be fast. `formats.py` finds the records, `decode.py` their headers; here
packets become sessions, tiles and rows of `records.py`.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from xai_traffic.capture.decode import FILTERED, Decoded, Dropped, decode
from xai_traffic.capture.filters import Program
from xai_traffic.capture.formats import Record, RecordReader
from xai_traffic.capture.records import ANY, CUT, DROPS, ENDS, NONE, PACKET, SESSION

(
    CAPTURE_END,
    NEW_CONNECTION,
    IDLE_TIMEOUT,
    EVICTED,
    CLOSED,
    ACTIVE_TIMEOUT,
    PACKET_LIMIT,
    QUIET,
) = range(len(ENDS))


@dataclasses.dataclass
class OpenSession:
    """A session that may still grow; the initiator is the sender of its first packet."""

    number: int
    key: tuple
    first: Decoded
    first_time: int
    last_time: int
    packets: int = 0
    bytes: int = 0
    payload_bytes: int = 0
    tiles: int = 0
    reported: bool = False
    first_sequence: int | None = None  # of the first SYN without ACK
    after_syn: bool = False  # whether the latest packet was a SYN without ACK


class Core:
    """Turn the pieces of one capture into tiles, packet rows and session rows.

    Args:
        rule: one of rules.SESSION_RULES.
        layers: one of rules.LAYERS.
        program: the filter.
        width: bytes of a tile.
        limit: tiles of a session.
        idle_timeout_ns: nanoseconds without a packet after which a session ends; 0 means never.
        max_open: most sessions open at a time; 0 means any number.
        tunnels: one of rules.TUNNELLED.
        retransmissions: one of rules.RETRANSMITTED.
        early: report a session once, when it has all its tiles or by `expire`.
    """

    def __init__(
        self,
        rule: str,
        layers: str,
        program: Program,
        width: int,
        limit: int,
        idle_timeout_ns: int = 0,
        max_open: int = 0,
        tunnels: str = "inner",
        retransmissions: str = "keep",
        early: bool = False,
    ):
        self._rule, self._layers, self._program = rule, layers, program
        self._width, self._limit = width, limit
        self._idle_timeout_ns, self._max_open = idle_timeout_ns, max_open
        self._tunnels, self._retransmissions = tunnels, retransmissions
        self._early = early
        self._reader = RecordReader()
        self._open: dict[tuple, OpenSession] = {}  # in the order of their numbers
        self._next_session = 0
        self._dropped = [0] * len(DROPS)
        self._tiles: list[bytes] = []
        self._packet_rows: list[tuple] = []
        self._session_rows: list[tuple] = []

    @property
    def packets(self) -> int:
        """Packet records seen."""
        return self._reader.packets

    @property
    def dropped(self) -> tuple[int, ...]:
        """Packets dropped, parallel to DROPS."""
        return tuple(self._dropped)

    @property
    def fault(self) -> tuple[int, int, int]:
        """Index into FAULTS, byte offset in the stream, 1-based packet number."""
        return self._reader.fault

    def feed(self, chunk) -> tuple[bytes, bytes, bytes]:
        """Read a piece of the stream; return the tiles, PACKET rows and SESSION rows it made."""
        for record in self._reader.feed(chunk):
            try:
                self._packet(record)
            except Dropped as dropped:
                self._dropped[dropped.reason] += 1
        return self._flush()

    def finish(self) -> tuple[bytes, bytes, bytes]:
        """End the stream; close and return what is open."""
        self._reader.finish()
        for session in list(self._open.values()):
            self._close(session, CAPTURE_END)
        return self._flush()

    def expire(self, time_ns: int) -> bytes:
        """Return SESSION rows of the open sessions whose latest packet is older; they stay open."""
        for session in self._open.values():
            if session.last_time < time_ns:
                self._report(session, QUIET)
        return self._flush()[2]

    def _packet(self, record: Record) -> None:
        packet = decode(record.link, record.data)
        ends = (packet.source, packet.source_port), (packet.destination, packet.destination_port)
        if not self._program.matches(
            packet.protocol,
            packet.family,
            packet.source,
            packet.destination,
            packet.source_port,
            packet.destination_port,
            record.wire,
        ):
            raise Dropped(FILTERED)
        key = self._key(packet, ends)
        session = self._session(key, packet, record.time_ns)
        first = session.first
        if self._rule == "unidirectional":
            direction = 0
        elif self._rule == "host_pair":
            direction = 0 if packet.source == first.source else 1
        else:
            direction = 0 if ends[0] == (first.source, first.source_port) else 1
        if session.tiles < self._limit:
            self._tile(session, record, packet, direction)
            session.tiles += 1
        session.packets += 1
        session.bytes += record.wire
        session.last_time = max(session.last_time, record.time_ns)
        session.after_syn = packet.syn
        if packet.payload is not None:
            session.payload_bytes += packet.end - packet.payload
        if self._early and session.tiles == self._limit and not session.reported:
            self._report(session, PACKET_LIMIT)

    def _key(self, packet: Decoded, ends: tuple) -> tuple:
        if self._rule == "host_pair":
            return (packet.family, *sorted((packet.source, packet.destination)))
        if self._rule != "unidirectional":
            ends = tuple(sorted(ends))
        return (packet.family, packet.protocol, *ends)

    def _session(self, key: tuple, packet: Decoded, time_ns: int) -> OpenSession:
        """Return the session this packet belongs to; begin one where the rules say so."""
        session = self._open.get(key)
        if session is not None:
            reason = self._reason_to_end(session, packet, time_ns)
            if reason:
                self._close(session, reason)
                session = None
        if session is None:
            if self._max_open and len(self._open) >= self._max_open:
                self._close(next(iter(self._open.values())), EVICTED)
            session = OpenSession(self._next_session, key, packet, time_ns, time_ns)
            self._open[key] = session
            self._next_session += 1
        if packet.syn and session.first_sequence is None:
            session.first_sequence = packet.sequence
        return session

    def _reason_to_end(self, session: OpenSession, packet: Decoded, time_ns: int) -> int:
        """Return why the session ends before this packet, 0 where it goes on."""
        if self._idle_timeout_ns and time_ns - session.last_time > self._idle_timeout_ns:
            return IDLE_TIMEOUT
        if not packet.syn:
            return 0
        if self._rule == "connection":
            again = session.first_sequence in (None, packet.sequence)
            return 0 if again else NEW_CONNECTION
        if self._rule == "pcapsplitter":
            return 0 if session.after_syn else NEW_CONNECTION
        return 0

    def _tile(self, session: OpenSession, record: Record, packet: Decoded, direction: int) -> None:
        start: int | None
        if self._layers == "all":
            start, end = 0, len(record.data)
        else:
            start, end = getattr(packet, self._layers), packet.end
        if start is None:
            start = end = 0
            network = transport = payload = NONE
        else:
            network = _offset(packet.network, start)
            transport = _offset(packet.transport, start)
            payload = _offset(packet.payload, start)
        tile = record.data[start : min(end, start + self._width)]
        self._tiles.append(tile.ljust(self._width, b"\0"))
        self._packet_rows.append(
            (
                session.number,
                record.frame,
                record.time_ns,
                len(record.data),
                record.wire,
                session.tiles,
                start,
                len(tile),
                network,
                transport,
                payload,
                record.link,
                packet.protocol,
                direction,
                NONE,
                CUT if len(record.data) < record.wire else 0,
                0,
                0,
                (0, 0),
            )
        )

    def _close(self, session: OpenSession, reason: int) -> None:
        del self._open[session.key]
        if not session.reported:
            self._report(session, reason)

    def _report(self, session: OpenSession, reason: int) -> None:
        session.reported = self._early
        first = session.first
        any_port = self._rule == "host_pair"
        self._session_rows.append(
            (
                session.number,
                session.first_time,
                session.last_time,
                session.packets,
                session.bytes,
                session.payload_bytes,
                list(first.source.ljust(16, b"\0")),
                list(first.destination.ljust(16, b"\0")),
                0 if any_port else first.source_port,
                0 if any_port else first.destination_port,
                session.tiles,
                ANY if any_port else first.protocol,
                first.family,
                reason,
                0,
                0,
                0,
                0,
                0,
                (0, 0),
                (0,) * 16,
                (0,) * 16,
            )
        )

    def _flush(self) -> tuple[bytes, bytes, bytes]:
        made = (
            b"".join(self._tiles),
            np.array(self._packet_rows, PACKET).tobytes(),
            np.array(self._session_rows, SESSION).tobytes(),
        )
        self._tiles, self._packet_rows, self._session_rows = [], [], []
        return made


def _offset(position: int | None, start: int) -> int:
    """Return a position relative to the tile, NONE where the tile does not have it."""
    if position is None or position < start or position - start >= NONE:
        return NONE
    return position - start
