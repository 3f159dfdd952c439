"""Copy a capture to a pcapng file whose packets carry comments; every packet's bytes stay.

A pcapng capture keeps its blocks byte for byte and in order: sections, interfaces, name resolution,
statistics, secrets, blocks unknown. Three things change, no more:

- a packet that gets a comment has one option more, behind those it has (a block that would grow
  beyond what readers take goes without);
- a Simple Packet Block that gets one becomes an Enhanced Packet Block, for it cannot hold options.
  It has no time, so the new block has time 0, and a second comment that says so;
- a section that tells its own length tells none any more, for it grows.

A pcap capture becomes one section of one interface, with the times in the file's own units.

Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Mapping
from typing import BinaryIO, NamedTuple

from xai_traffic.capture.byte_stream import ByteStream
from xai_traffic.capture.core_numpy.formats import (
    BAD_BLOCK_LENGTH,
    CUT_SHORT,
    ENHANCED_PACKET,
    INTERFACE,
    LEAST_BODY,
    MAX_PACKET_BLOCK,
    NO_BYTE_ORDER,
    NO_INTERFACE,
    PACKET_BLOCKS,
    PACKET_TOO_LONG,
    PCAP_MAGICS,
    RECORD_TOO_LONG,
    SECTION,
    SIMPLE_PACKET,
    TOO_MANY_INTERFACES,
)
from xai_traffic.capture.pcapng_blocks import (
    NO_TIME,
    UNSPECIFIED,
    comment_option,
    enhanced_packet,
    frame_check_flags,
    interface_description,
    section_header,
    with_comment,
)
from xai_traffic.capture.reader import CHUNK, open_chunks
from xai_traffic.capture.records import FAULTS, MAX_INTERFACES, MAX_RECORD
from xai_traffic.errors import CaptureError
from xai_traffic.terminal import printable

APPLICATION = "xai-traffic"
_NO_CAPTURE = "not a capture: neither pcap nor pcapng; it cannot be annotated"


class Annotated(NamedTuple):
    """What was copied.

    packets: packets in the copy; commented: those with a comment of ours; untimed: those that
    became Enhanced Packet Blocks of time 0; fault: why the capture could not be copied to its end,
    None if it was.
    """

    packets: int
    commented: int
    untimed: int
    fault: str | None


def annotate(
    source: str | os.PathLike, out: str | os.PathLike, comments: Mapping[int, str]
) -> Annotated:
    """Copy a capture to a pcapng file with comments on its packets.

    Of a capture that is cut or damaged all is copied that comes before the fault. Memory does not
    grow with the capture.

    Args:
        source: capture, see `reader.open_chunks`: pcap or pcapng, plain or compressed.
        out: file to write; one that stands there is replaced.
        comments: by the packet's 1-based number in the capture. Control characters in them are
            escaped.

    Raises:
        CaptureError: it cannot be opened, or is no capture at all.
        OSError: the file cannot be written.
    """
    with contextlib.closing(open_chunks(source)) as pieces, open(out, "wb", CHUNK) as file:
        copy = _Copy(os.fspath(source), ByteStream(pieces), file, comments)
        copy.run()
        return Annotated(copy.packets, copy.commented, copy.untimed, copy.fault)


class _Copy:
    """A capture on its way; its faults are those that the reader finds, at the same places."""

    def __init__(self, name: str, stream: ByteStream, file: BinaryIO, comments: Mapping[int, str]):
        self.packets = self.commented = self.untimed = 0
        self.fault: str | None = None
        self._name, self._stream, self._file = name, stream, file
        self._comments = comments
        self._order = "<"
        self._snaplens: list[int] = []  # of the section's interfaces

    def run(self) -> None:
        """Copy all of it.

        Raises:
            CaptureError: it is no capture.
        """
        stream = self._stream
        known = stream.holds(4)
        magic = bytes(stream.buffer[:4])
        if known and magic in PCAP_MAGICS:
            self._pcap(*PCAP_MAGICS[magic])
        elif known and magic == SECTION.to_bytes(4, "big"):
            while self._block():
                pass
        else:
            raise stream.damage or CaptureError(self._name, _NO_CAPTURE)
        if stream.damage and not self.packets:
            raise stream.damage
        if stream.damage:
            self.fault = str(stream.damage)
        if not self._file.tell():  # not even a header
            raise CaptureError(self._name, f"{FAULTS[CUT_SHORT]}: nothing of it can be copied")

    def _stop(self, code: int, offset: int) -> bool:
        reason = f"{FAULTS[code]}; what came before is used"
        error = CaptureError(self._name, reason, offset=offset, packet=self.packets + 1)
        self.fault = str(error)
        return False

    def _unpack(self, layout: str, offset: int) -> tuple:
        stream = self._stream
        return struct.unpack_from(self._order + layout, stream.buffer, stream.at + offset)

    def _comment(self) -> str | None:
        """Count a packet and return its comment."""
        self.packets += 1
        text = self._comments.get(self.packets)
        if text is None:
            return None
        self.commented += 1
        return text if text.isprintable() else printable(text)

    def _pcap(self, order: str, fraction_ns: int) -> None:
        stream, write = self._stream, self._file.write
        if not stream.holds(24):
            self._stop(CUT_SHORT, 0)
            return
        header = stream.take(24)
        snaplen, link = struct.unpack_from(order + "II", header, 16)
        resolution = 9 if fraction_ns == 1 else 6
        second = 10**resolution
        write(section_header("<", APPLICATION))
        write(interface_description("<", link & 0xFFFF, snaplen, resolution))
        # The checksum's length, in units of 16 bits, and whether it is told.
        checksum = frame_check_flags("<", (link >> 28) * 2) if link & 0x0400_0000 else b""
        record = struct.Struct(order + "IIII")
        while stream.holds(16):
            seconds, fraction, captured, wire = record.unpack_from(stream.buffer, stream.at)
            if captured > MAX_RECORD:
                self._stop(RECORD_TOO_LONG, stream.base + stream.at)
                return
            if not stream.holds(16 + captured):
                break
            stream.at += 16
            data, options, text = stream.take(captured), checksum, self._comment()
            if text is not None:
                options += comment_option("<", text)
            write(enhanced_packet("<", 0, seconds * second + fraction, data, wire, options))
        if len(stream.buffer) > stream.at:
            self._stop(CUT_SHORT, stream.base + stream.at)

    def _block(self) -> bool:
        """Copy a block; False at the end of the stream, or at a fault."""
        stream = self._stream
        at = stream.base + stream.at
        if not stream.holds(8):
            return len(stream.buffer) > stream.at and self._stop(CUT_SHORT, at)
        # The section's type reads the same in both byte orders.
        kind = self._unpack("I", 0)[0]
        if kind == SECTION:
            if not stream.holds(12):
                return self._stop(CUT_SHORT, at)
            orders = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}
            order = orders.get(bytes(stream.buffer[stream.at + 8 : stream.at + 12]))
            if order is None:
                return self._stop(NO_BYTE_ORDER, at)
            self._order = order
        total = self._unpack("I", 4)[0]
        too_long = kind in PACKET_BLOCKS and total > MAX_PACKET_BLOCK
        if total % 4 or total < 12 + LEAST_BODY.get(kind, 0) or too_long:
            return self._stop(BAD_BLOCK_LENGTH, at)
        if kind in PACKET_BLOCKS:
            return self._packet(kind, total, at)
        if kind == SECTION:
            return self._section(total, at)
        if kind == INTERFACE:
            if len(self._snaplens) >= MAX_INTERFACES:
                return self._stop(TOO_MANY_INTERFACES, at)
            if not stream.holds(16):
                return self._stop(CUT_SHORT, at)
            self._snaplens.append(self._unpack("I", 12)[0])
        return self._whole(total, at)

    def _section(self, total: int, at: int) -> bool:
        stream = self._stream
        if not stream.holds(24):
            return self._stop(CUT_SHORT, at)
        self._snaplens = []
        stream.buffer[stream.at + 16 : stream.at + 24] = UNSPECIFIED
        return self._whole(total, at)

    def _whole(self, total: int, at: int) -> bool:
        """Copy a block of any length; one that is cut or wrong leaves nothing in the copy."""
        stream, file = self._stream, self._file
        begun, left = file.tell(), total - 4
        while left and stream.holds(min(left, CHUNK)):
            left -= file.write(stream.take(min(left, CHUNK)))
        code = CUT_SHORT
        if not left and stream.holds(4):
            if self._unpack("I", 0)[0] == total:
                file.write(stream.take(4))
                return True
            code = BAD_BLOCK_LENGTH
        file.seek(begun)
        file.truncate()
        return self._stop(code, at)

    def _packet(self, kind: int, total: int, at: int) -> bool:
        stream = self._stream
        simple = kind == SIMPLE_PACKET
        header = 12 if simple else 28
        if not stream.holds(header):
            return self._stop(CUT_SHORT, at)
        index, room = 0, total - header - 4
        if simple:
            wire = self._unpack("I", 8)[0]
        else:
            index, captured = self._unpack("I8xI" if kind == ENHANCED_PACKET else "H10xI", 8)
        if index >= len(self._snaplens):
            return self._stop(NO_INTERFACE, at)
        if simple:
            captured = min(wire, room, self._snaplens[0] or wire)
        if captured > room:
            return self._stop(PACKET_TOO_LONG, at)
        if captured > MAX_RECORD:
            return self._stop(RECORD_TOO_LONG, at)
        if not stream.holds(total):
            return self._stop(CUT_SHORT, at)
        if self._unpack("I", total - 4)[0] != total:
            return self._stop(BAD_BLOCK_LENGTH, at)
        held, text = stream.take(total), self._comment()
        if text is not None and simple:
            self.untimed += 1
            data = held[12 : 12 + captured]
            options = comment_option(self._order, text) + comment_option(self._order, NO_TIME)
            held = enhanced_packet(self._order, 0, 0, data, wire, options)
        elif text is not None:
            longer = with_comment(self._order, held, captured, text)
            if len(longer) > MAX_PACKET_BLOCK:  # readers would stop at it
                self.commented -= 1
            else:
                held = longer
        self._file.write(held)
        return True
