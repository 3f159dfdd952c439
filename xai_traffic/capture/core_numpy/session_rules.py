"""Which packets make a session, and when one ends before the next. Part of the plain core.

Sources of the timed rules: Zeek's scripts/base/init-bare.zeek (tcp_inactivity_timeout,
udp_inactivity_timeout, icmp_inactivity_timeout, tcp_attempt_delay, tcp_close_delay); NFStream 6's
defaults (idle_timeout 120 s, active_timeout 1800 s, its clock of milliseconds).
"""

from __future__ import annotations

import dataclasses

from xai_traffic.capture.core_numpy.decode import FIN, RST, Decoded, Ends
from xai_traffic.capture.core_numpy.tcp_order import Direction
from xai_traffic.capture.records import ENDS, TCP

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

SECOND = 1_000_000_000
MILLISECOND = 1_000_000
ZEEK_IDLE_TCP, ZEEK_IDLE_OTHER = 300 * SECOND, 60 * SECOND
ZEEK_ATTEMPT, ZEEK_CLOSED = 5 * SECOND, 5 * SECOND
NFSTREAM_IDLE_MS, NFSTREAM_ACTIVE_MS = 120_000, 1_800_000


@dataclasses.dataclass
class OpenSession:
    """A session that may still grow; the initiator is the sender of its first packet."""

    number: int
    key: tuple
    first: Decoded
    first_time: int
    last_time: int
    first_clock: int
    last_clock: int
    directions: tuple[Direction, Direction]
    packets: int = 0
    bytes: int = 0
    payload_bytes: int = 0
    tiles: int = 0
    reported: bool = False
    first_sequence: int | None = None  # of the first SYN without ACK
    after_syn: bool = False  # whether the latest packet was a SYN without ACK
    answered: bool = False  # whether the responder sent anything
    finished: int = 0  # bits of the directions that sent a FIN
    reset: bool = False

    def note(self, packet: Decoded, direction: int) -> None:
        """Remember what a packet says of the connection's state."""
        if packet.syn and self.first_sequence is None:
            self.first_sequence = packet.sequence
        self.after_syn = packet.syn
        self.answered |= direction == 1
        if packet.flags & FIN:
            self.finished |= 1 << direction
        self.reset |= bool(packet.flags & RST)


def key_of(rule: str, ends: Ends) -> tuple:
    """Return what packets of one session have in common."""
    source, destination = (
        (ends.source, ends.source_port),
        (ends.destination, ends.destination_port),
    )
    if rule == "host_pair":
        return ends.family, *sorted((ends.source, ends.destination))
    if rule == "unidirectional":
        return ends.family, ends.protocol, source, destination
    return ends.family, ends.protocol, *sorted((source, destination))


def direction_of(rule: str, first: Ends, ends: Ends) -> int:
    """Return 0 where the packet has the sender of the session's first packet, else 1."""
    if rule == "host_pair":
        return int(ends.source != first.source)
    return int((ends.source, ends.source_port) != (first.source, first.source_port))


def reason_to_end(rule: str, session: OpenSession, packet: Decoded, time: int, clock: int) -> int:
    """Return the index into ENDS for which the session ends before this packet, 0 if it goes on.

    Args:
        rule: one of rules.SESSION_RULES.
        session: the open session with the packet's key.
        packet: the packet.
        time: of the packet, ns.
        clock: latest time of any packet, ms.
    """
    if rule == "zeek":
        return _zeek(session, packet, time)
    if rule == "nfstream":
        if clock - session.last_clock >= NFSTREAM_IDLE_MS:
            return IDLE_TIMEOUT
        return ACTIVE_TIMEOUT if clock - session.first_clock >= NFSTREAM_ACTIVE_MS else 0
    if rule == "connection":
        return _new_connection(session, packet)
    if rule == "pcapsplitter" and packet.syn and not session.after_syn:
        return NEW_CONNECTION
    return 0


def _zeek(session: OpenSession, packet: Decoded, time: int) -> int:
    tcp = session.first.ends.protocol == TCP
    since = time - session.last_time
    if since > (ZEEK_IDLE_TCP if tcp else ZEEK_IDLE_OTHER):
        return IDLE_TIMEOUT
    if not tcp:
        return 0
    attempt = session.first.syn and not session.answered
    if attempt and time - session.first_time > ZEEK_ATTEMPT:
        return IDLE_TIMEOUT
    closed = session.reset or session.finished == 0b11
    if closed and (since > ZEEK_CLOSED or packet.syn):
        return CLOSED
    return _new_connection(session, packet)


def _new_connection(session: OpenSession, packet: Decoded) -> int:
    again = not packet.syn or session.first_sequence in (None, packet.sequence)
    return 0 if again else NEW_CONNECTION
