"""Tell later IP fragments which endpoints they have. Part of the plain core.

Only the first fragment of a datagram holds the transport header. It resolves the datagram: its
endpoints are those of all fragments. Later fragments that came before it are held until it comes.
Nothing is put together, tiles stay as captured, so fragments that overlap need no policy but one:
the latest first fragment decides. Memory is bounded, whatever comes.

Sources: RFC 791 and RFC 815 (IPv4), RFC 8200 section 4.5 (IPv6; also the 60 seconds).
"""

from __future__ import annotations

import collections
import dataclasses

from xai_traffic.capture.core_numpy.decode import Decoded, Ends
from xai_traffic.capture.core_numpy.formats import Record

MAX_DATAGRAMS = 4096
MAX_HELD = 64
"""Most fragments of one datagram that wait."""

MAX_HELD_BYTES = 1 << 24
LIFETIME_NS = 60_000_000_000

Held = tuple[Record, Decoded]


@dataclasses.dataclass
class Datagram:
    """What is known of a fragmented datagram.

    Attributes:
        made: time of the packet that made the entry, ns.
        ends: endpoints that its first fragment named, None before it came.
        held: fragments that wait for it.
    """

    made: int
    ends: Ends | None = None
    held: list[Held] = dataclasses.field(default_factory=list)


class Datagrams:
    """The fragmented datagrams on their way; the oldest makes room.

    Attributes:
        given_up: fragments whose first one was not found.
        waiting: fragments held.
    """

    def __init__(self) -> None:
        self.given_up = 0
        self.waiting = 0
        self._held_bytes = 0
        # In the order in which they were made.
        self._datagrams: collections.OrderedDict[tuple, Datagram] = collections.OrderedDict()

    def endpoints(self, record: Record, packet: Decoded) -> Ends | None:
        """Return the endpoints of a later fragment; None where it is held or given up."""
        datagram = self._meet(packet.awaits, record.time_ns)
        if datagram.ends is not None:
            return datagram.ends
        size = len(record.data)
        if len(datagram.held) >= MAX_HELD or self._held_bytes + size > MAX_HELD_BYTES:
            self.given_up += 1
        else:
            datagram.held.append((record, packet))
            self.waiting += 1
            self._held_bytes += size
        return None

    def resolve(self, key: tuple, time_ns: int, ends: Ends) -> list[Held]:
        """Note the endpoints that a first fragment names; return the fragments that waited."""
        datagram = self._meet(key, time_ns)
        datagram.ends = ends
        return self._release(datagram)

    def finish(self) -> None:
        """Give up all that still waits."""
        for key in list(self._datagrams):
            self._discard(key)

    def _meet(self, key: tuple, time_ns: int) -> Datagram:
        """Return the entry of a datagram, a new one where the last is too old."""
        datagram = self._datagrams.get(key)
        if datagram is not None and abs(time_ns - datagram.made) > LIFETIME_NS:
            self._discard(key)
            datagram = None
        if datagram is None:
            if len(self._datagrams) >= MAX_DATAGRAMS:
                self._discard(next(iter(self._datagrams)))
            datagram = self._datagrams[key] = Datagram(time_ns)
        return datagram

    def _discard(self, key: tuple) -> None:
        self.given_up += len(self._release(self._datagrams.pop(key)))

    def _release(self, datagram: Datagram) -> list[Held]:
        held, datagram.held = datagram.held, []
        self.waiting -= len(held)
        self._held_bytes -= sum(len(record.data) for record, _ in held)
        return held
