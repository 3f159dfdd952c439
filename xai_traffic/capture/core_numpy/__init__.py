"""The capture core in plain Python and NumPy: the oracle for `native/core.c`, and its stand-in.

Written to be read, not to be fast. `formats.py` finds the records, `decode.py` their headers; here
packets become sessions, tiles and rows of `records.py`.
"""

from __future__ import annotations

import collections

from xai_traffic.capture.core_numpy.decode import Decoded, decode
from xai_traffic.capture.core_numpy.formats import Record, RecordReader
from xai_traffic.capture.core_numpy.fragments import Datagrams
from xai_traffic.capture.core_numpy.octets import FILTERED, FRAGMENT, Dropped
from xai_traffic.capture.core_numpy.octets import RETRANSMISSION as REPEATED
from xai_traffic.capture.core_numpy.rows import flags_of, packed, session_row, tile_and_row
from xai_traffic.capture.core_numpy.session_rules import (
    CAPTURE_END,
    EVICTED,
    IDLE_TIMEOUT,
    MILLISECOND,
    PACKET_LIMIT,
    QUIET,
    OpenSession,
    direction_of,
    key_of,
    reason_to_end,
)
from xai_traffic.capture.core_numpy.tcp_order import Direction, segment_of
from xai_traffic.capture.filters import Program
from xai_traffic.capture.records import DROPS, PACKET, RETRANSMISSION, SESSION


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
        self._inner = tunnels == "inner"
        self._drop_repeated = retransmissions == "drop"
        self._early = early
        self._reader = RecordReader()
        self._datagrams = Datagrams()
        self._clock = 0  # latest time of the packets that passed the filter, ms
        # In the order of their numbers. (A plain dict finds its first slowly after deletions.)
        self._open: collections.OrderedDict[tuple, OpenSession] = collections.OrderedDict()
        self._next_session = 0
        self._dropped = [0] * len(DROPS)
        self._tiles: list[bytes] = []
        self._packet_rows: list[dict] = []
        self._session_rows: list[dict] = []

    @property
    def packets(self) -> int:
        """Packet records seen."""
        return self._reader.packets

    @property
    def dropped(self) -> tuple[int, ...]:
        """Packets dropped, parallel to DROPS."""
        dropped = self._dropped[:]
        dropped[FRAGMENT] += self._datagrams.given_up
        return tuple(dropped)

    @property
    def fault(self) -> tuple[int, int, int]:
        """Index into FAULTS, byte offset in the stream, 1-based packet number."""
        return self._reader.fault

    def feed(self, chunk) -> tuple[bytes, bytes, bytes]:
        """Read a piece of the stream; return the tiles, PACKET rows and SESSION rows it made."""
        for record in self._reader.feed(chunk):
            try:
                packet = decode(record.link, record.data, self._inner)
            except Dropped as dropped:
                self._dropped[dropped.reason] += 1
                continue
            for known_record, known_packet in self._with_endpoints(record, packet):
                try:
                    self._packet(known_record, known_packet)
                except Dropped as dropped:
                    self._dropped[dropped.reason] += 1
        return self._flush()

    def finish(self) -> tuple[bytes, bytes, bytes]:
        """End the stream; close and return what is open."""
        self._reader.finish()
        self._datagrams.finish()
        for session in list(self._open.values()):
            self._close(session, CAPTURE_END)
        return self._flush()

    def expire(self, time_ns: int) -> bytes:
        """Return SESSION rows of the open sessions whose latest packet is older; they stay open."""
        for session in self._open.values():
            if session.last_time < time_ns and not session.reported:
                self._report(session, QUIET)
        return self._flush()[2]

    def _with_endpoints(self, record: Record, packet: Decoded) -> list[tuple[Record, Decoded]]:
        """Return the packets whose endpoints are known now, with them: this one, others, none."""
        if packet.awaits is not None:
            ends = self._datagrams.endpoints(record, packet)
            if ends is None:
                return []
            packet = packet._replace(ends=ends)
        known = []
        for datagram in packet.begins:
            for held, fragment in self._datagrams.resolve(datagram, record.time_ns, packet.ends):
                known.append((held, fragment._replace(ends=packet.ends)))
        return [*known, (record, packet)]

    def _packet(self, record: Record, packet: Decoded) -> None:
        """Add a packet to its session, or raise Dropped."""
        ends = packet.ends
        if not self._program.matches(ends.protocol, ends.family, *ends[2:6], record.wire):
            raise Dropped(FILTERED)
        self._clock = max(self._clock, record.time_ns // MILLISECOND)
        session = self._session(packet, record.time_ns)
        direction = direction_of(self._rule, session.first.ends, ends)
        flags = flags_of(record, packet)
        # The sequence numbers of a host pair's connections do not compare.
        segment = None if self._rule == "host_pair" else segment_of(packet, record.data)
        if segment is not None:
            sent = session.directions[direction]
            order = sent.flag(segment)
            if self._drop_repeated and order == RETRANSMISSION and sent.repeats(segment):
                raise Dropped(REPEATED)
            sent.take(segment)
            flags |= order
        if session.tiles < self._limit:
            self._tile(session, record, packet, direction, flags)
            session.tiles += 1
        session.note(packet, direction)
        session.packets += 1
        session.bytes += record.wire
        session.last_time = max(session.last_time, record.time_ns)
        session.last_clock = self._clock
        if packet.payload is not None:
            session.payload_bytes += packet.end - packet.payload
        if self._early and session.tiles == self._limit and not session.reported:
            self._report(session, PACKET_LIMIT)

    def _session(self, packet: Decoded, time_ns: int) -> OpenSession:
        """Return the session this packet belongs to; begin one where the rules say so."""
        key = key_of(self._rule, packet.ends)
        session = self._open.get(key)
        if session is not None:
            if self._idle_timeout_ns and time_ns - session.last_time > self._idle_timeout_ns:
                reason = IDLE_TIMEOUT
            else:
                reason = reason_to_end(self._rule, session, packet, time_ns, self._clock)
            if not reason:
                return session
            self._close(session, reason)
        if self._max_open and len(self._open) >= self._max_open:
            self._close(next(iter(self._open.values())), EVICTED)
        session = OpenSession(
            self._next_session,
            key,
            packet,
            time_ns,
            time_ns,
            self._clock,
            self._clock,
            (Direction(self._drop_repeated), Direction(self._drop_repeated)),
        )
        self._open[key] = session
        self._next_session += 1
        return session

    def _tile(
        self, session: OpenSession, record: Record, packet: Decoded, direction: int, flags: int
    ) -> None:
        tile, row = tile_and_row(record, packet, self._layers, self._width)
        self._tiles.append(tile.ljust(self._width, b"\0"))
        row.update(session=session.number, packet=session.tiles, direction=direction, flags=flags)
        self._packet_rows.append(row)

    def _close(self, session: OpenSession, reason: int) -> None:
        del self._open[session.key]
        if not session.reported:
            self._report(session, reason)

    def _report(self, session: OpenSession, reason: int) -> None:
        session.reported = True
        row = session_row(session, ports=self._rule != "host_pair")
        self._session_rows.append({**row, "end": reason})

    def _flush(self) -> tuple[bytes, bytes, bytes]:
        made = (
            b"".join(self._tiles),
            packed(self._packet_rows, PACKET),
            packed(self._session_rows, SESSION),
        )
        self._tiles, self._packet_rows, self._session_rows = [], [], []
        return made
