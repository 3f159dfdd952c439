"""Take a pcap or pcapng stream apart into packet records, whatever the size of its pieces.

Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng. Part of the plain core; the one
in C does the same and must find the same faults at the same offsets.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from xai_traffic.capture.records import FAULTS, MAX_INTERFACES, MAX_RECORD

PCAP_MAGICS = {
    bytes.fromhex("a1b2c3d4"): (">", 1000),
    bytes.fromhex("d4c3b2a1"): ("<", 1000),
    bytes.fromhex("a1b23c4d"): (">", 1),
    bytes.fromhex("4d3cb2a1"): ("<", 1),
}
SECTION, INTERFACE, OLD_PACKET, SIMPLE_PACKET, ENHANCED_PACKET = 0x0A0D0D0A, 1, 2, 3, 6
PACKET_BLOCKS = (OLD_PACKET, SIMPLE_PACKET, ENHANCED_PACKET)
LEAST_BODY = {SECTION: 16, INTERFACE: 8, OLD_PACKET: 20, SIMPLE_PACKET: 4, ENHANCED_PACKET: 20}
OPTIONS_READ = 65_536
MAX_PACKET_BLOCK = MAX_RECORD + 65_536
(
    _,
    NOT_A_CAPTURE,
    CUT_SHORT,
    RECORD_TOO_LONG,
    BAD_BLOCK_LENGTH,
    NO_INTERFACE,
    PACKET_TOO_LONG,
    NO_BYTE_ORDER,
    TOO_MANY_INTERFACES,
) = range(len(FAULTS))


class Record(NamedTuple):
    """One packet as the capture holds it."""

    frame: int
    time_ns: int
    link: int
    data: bytes
    wire: int


class Interface(NamedTuple):
    """What an interface description says: `resolution` ticks a second, `offset` seconds."""

    link: int
    snaplen: int
    resolution: int
    offset: int


class RecordReader:
    """Read records from a stream that comes in pieces; at most one block is held back.

    Attributes:
        packets: packet records seen.
        fault: (index into FAULTS, byte offset, packet number); (0, 0, 0) while all is well.
    """

    def __init__(self) -> None:
        self.packets = 0
        self.fault = (0, 0, 0)
        self._buffer = bytearray()
        self._at = 0  # position in the buffer of what is not read yet
        self._base = 0  # offset in the stream of the buffer's first byte
        self._skip = 0  # bytes of the current block still to pass over
        self._unit = 0  # offset in the stream of the current record or block
        self._state: Callable[[], Record | bool] = self._begin
        self._order = "<"
        self._fraction_ns = 1
        self._link = 0
        self._interfaces: list[Interface] = []
        self._total = 0
        self._pending: Record | None = None

    def feed(self, chunk) -> Iterator[Record]:
        """Yield the records that this piece completes."""
        if self.fault[0]:
            return
        self._buffer += chunk
        while not self.fault[0]:
            went_on = self._state()
            if isinstance(went_on, Record):
                yield went_on
            elif not went_on:
                break
        del self._buffer[: self._at]
        self._base += self._at
        self._at = 0

    def finish(self) -> None:
        """Note a fault if the stream ends within a record."""
        left = len(self._buffer) - self._at
        if self.fault[0]:
            return
        if self._state == self._begin and left < 4:
            self._fail(NOT_A_CAPTURE, 0)
        elif left or self._state not in (self._record, self._block):
            self._fail(CUT_SHORT, self._unit)

    def _fail(self, code: int, offset: int) -> bool:
        self.fault = (code, offset, self.packets + 1)
        return False

    def _held(self, count: int) -> bool:
        return len(self._buffer) - self._at >= count

    def _unpack(self, layout: str, offset: int) -> tuple:
        return struct.unpack_from(self._order + layout, self._buffer, self._at + offset)

    # Each state below reads one thing. It returns a Record, True (went on) or False (needs more
    # bytes, or failed).

    def _begin(self) -> bool:
        if not self._held(4):
            return False
        magic = bytes(self._buffer[:4])
        if magic in PCAP_MAGICS:
            self._order, self._fraction_ns = PCAP_MAGICS[magic]
            self._state = self._file_header
        elif magic == SECTION.to_bytes(4, "big"):
            self._state = self._block
        else:
            return self._fail(NOT_A_CAPTURE, 0)
        return True

    def _file_header(self) -> bool:
        if not self._held(24):
            return False
        self._link = self._unpack("I", 20)[0] & 0xFFFF
        self._at += 24
        self._state = self._record
        return True

    def _record(self) -> Record | bool:
        self._unit = self._base + self._at
        if not self._held(16):
            return False
        seconds, fraction, captured, wire = self._unpack("IIII", 0)
        if captured > MAX_RECORD:
            return self._fail(RECORD_TOO_LONG, self._unit)
        if not self._held(16 + captured):
            return False
        data = bytes(self._buffer[self._at + 16 : self._at + 16 + captured])
        self._at += 16 + captured
        self.packets += 1
        time_ns = seconds * 1_000_000_000 + fraction * self._fraction_ns
        return Record(self.packets, time_ns, self._link, data, wire)

    def _block(self) -> bool:
        self._unit = self._base + self._at
        if not self._held(8):
            return False
        # The section's type reads the same in both byte orders.
        kind = self._unpack("I", 0)[0]
        if kind == SECTION:
            if not self._held(12):
                return False
            order = bytes(self._buffer[self._at + 8 : self._at + 12]).hex()
            if order not in ("1a2b3c4d", "4d3c2b1a"):
                return self._fail(NO_BYTE_ORDER, self._unit)
            self._order = ">" if order == "1a2b3c4d" else "<"
        total = self._unpack("I", 4)[0]
        too_long = kind in PACKET_BLOCKS and total > MAX_PACKET_BLOCK
        if total % 4 or total < 12 + LEAST_BODY.get(kind, 0) or too_long:
            return self._fail(BAD_BLOCK_LENGTH, self._unit)
        kept = 8
        if kind == SECTION:
            self._interfaces = []
        elif kind == INTERFACE:
            if len(self._interfaces) >= MAX_INTERFACES:
                return self._fail(TOO_MANY_INTERFACES, self._unit)
            kept = min(total - 4, 8 + OPTIONS_READ)
            if not self._held(kept):
                return False
            self._interfaces.append(self._interface(kept))
        elif kind in PACKET_BLOCKS:
            kept = total - 4
            if not self._packet(kind, total):
                return False
        self._total = total
        self._at += kept
        self._skip = total - 4 - kept
        self._state = self._trailer
        return True

    def _trailer(self) -> Record | bool:
        passed = min(self._skip, len(self._buffer) - self._at)
        self._at += passed
        self._skip -= passed
        if self._skip or not self._held(4):
            return False
        if self._unpack("I", 0)[0] != self._total:
            return self._fail(BAD_BLOCK_LENGTH, self._unit)
        self._at += 4
        self._state = self._block
        record, self._pending = self._pending, None
        if record is None:
            return True
        self.packets += 1
        return record

    def _interface(self, kept: int) -> Interface:
        link, _, snaplen = self._unpack("HHI", 8)
        resolution, offset = 10**6, 0
        at = 16
        while at + 4 <= kept:
            code, length = self._unpack("HH", at)
            if code == 0 or at + 4 + length > kept:
                break
            if code == 9:
                if length < 1:
                    break
                exponent = self._unpack("B", at + 4)[0]
                resolution = 2 ** (exponent & 0x7F) if exponent & 0x80 else 10**exponent
            elif code == 14:
                if length < 8:
                    break
                offset = self._unpack("q", at + 4)[0]
            at += 4 + (length + 3) // 4 * 4
        return Interface(link, snaplen, resolution, offset)

    def _packet(self, kind: int, total: int) -> bool:
        """Set the pending record of a packet block; False where bytes lack or it is wrong."""
        index = ticks = 0
        if kind == SIMPLE_PACKET:
            header, room = 12, total - 16
            if not self._held(header):
                return False
            wire = self._unpack("I", 8)[0]
        else:
            header, room = 28, total - 32
            if not self._held(header):
                return False
            layout = "IIIII" if kind == ENHANCED_PACKET else "HxxIIII"
            index, high, low, captured, wire = self._unpack(layout, 8)
            ticks = high << 32 | low
        if index >= len(self._interfaces):
            return self._fail(NO_INTERFACE, self._unit)
        interface = self._interfaces[index]
        if kind == SIMPLE_PACKET:
            captured = min(wire, room, interface.snaplen or wire)
            time_ns = 0
        else:
            time_ns = ticks * 10**9 // interface.resolution + interface.offset * 10**9
            time_ns = (time_ns + 2**63) % 2**64 - 2**63
        if captured > room:
            return self._fail(PACKET_TOO_LONG, self._unit)
        if captured > MAX_RECORD:
            return self._fail(RECORD_TOO_LONG, self._unit)
        if not self._held(total - 4):
            return False
        first = self._at + header
        data = bytes(self._buffer[first : first + captured])
        self._pending = Record(self.packets + 1, time_ns, interface.link, data, wire)
        return True
