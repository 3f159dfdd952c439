"""Mark TCP segments that come again or late. Part of the plain core.

One direction of a session is watched by the sequence number that it should go on with, and by the
latest two gaps that it left. A segment from before that number fills a gap, then it is out of
order, or it does not, then its bytes were seen before. Numbers are compared modulo 2^32 as in
RFC 9293, section 3.4.
"""

from __future__ import annotations

import collections
import hashlib
from typing import NamedTuple

from xai_traffic.capture.core_numpy.decode import FIN, RST, SYN, Decoded
from xai_traffic.capture.records import OUT_OF_ORDER, RETRANSMISSION, TCP

MAX_GAPS = 2
REMEMBERED = 8
"""Segments among which an exact repetition is looked for."""


class Segment(NamedTuple):
    """The sequence numbers that a segment takes, first and behind the last, and its bytes."""

    start: int
    end: int
    data: bytes


def segment_of(packet: Decoded, data: bytes) -> Segment | None:
    """Return what a packet takes of its direction's sequence numbers, None if it takes nothing."""
    whole = packet.payload is not None and not packet.fragment
    if packet.ends.protocol != TCP or not whole or packet.flags & RST:
        return None
    length = max(0, packet.declared - packet.payload)
    length += bool(packet.flags & SYN) + bool(packet.flags & FIN)
    if length == 0:
        return None
    end = (packet.sequence + length) % 2**32
    return Segment(packet.sequence, end, data[packet.payload : packet.end])


class Direction:
    """What one side of a session has sent.

    Args:
        remember: whether the latest segments are kept, to tell exact repetitions.
    """

    def __init__(self, remember: bool):
        self._next: int | None = None
        self._gaps: list[tuple[int, int]] = []  # [start, end), the oldest first
        self._remember = remember
        self._latest: collections.deque[tuple] = collections.deque(maxlen=REMEMBERED)

    def flag(self, segment: Segment) -> int:
        """Return RETRANSMISSION, OUT_OF_ORDER or 0; change nothing."""
        if self._next is None or _after(segment.start, self._next) >= 0:
            return 0
        return RETRANSMISSION if self._gap(segment) is None else OUT_OF_ORDER

    def repeats(self, segment: Segment) -> bool:
        """Tell whether a retransmission is one of the latest segments, byte for byte."""
        return _after(segment.end, self._next) <= 0 and _identity(segment) in self._latest

    def take(self, segment: Segment) -> None:
        """Count a segment as sent."""
        if self._remember:
            self._latest.append(_identity(segment))
        if self._next is None:
            self._next = segment.end
            return
        ahead = _after(segment.start, self._next)
        if ahead > 0:
            self._gaps = [*self._gaps, (self._next, segment.start)][-MAX_GAPS:]
        elif ahead < 0:
            self._fill(segment)
        if ahead >= 0 or _after(segment.end, self._next) > 0:
            self._next = segment.end

    def _gap(self, segment: Segment) -> int | None:
        """Return the index of the oldest gap that the segment touches."""
        for index, (start, end) in enumerate(self._gaps):
            if _after(end, segment.start) > 0 and _after(segment.end, start) > 0:
                return index
        return None

    def _fill(self, segment: Segment) -> None:
        index = self._gap(segment)
        if index is None:
            return
        start, end = self._gaps[index]
        if _after(segment.start, start) > 0:
            self._gaps[index] = start, segment.start  # what is left behind it is forgotten
        elif _after(end, segment.end) > 0:
            self._gaps[index] = segment.end, end
        else:
            del self._gaps[index]


def _after(first: int, second: int) -> int:
    """Return how far a sequence number lies after another, as a signed number of 32 bits."""
    return (first - second + 2**31) % 2**32 - 2**31


def _identity(segment: Segment) -> tuple:
    return segment.start, segment.end, hashlib.blake2b(segment.data, digest_size=16).digest()
