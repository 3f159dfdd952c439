"""Packets from nothing: valid Ethernet, IPv4, TCP and UDP, and conversations made of them."""

from __future__ import annotations

import dataclasses
import random
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from xai_traffic.capture.records import TCP, UDP

FIN, SYN, PSH, ACK = 1, 2, 8, 16
CLIENT, SERVER = 0, 1
SEGMENT = 1448
"""Payload bytes of a full TCP segment: an Ethernet frame less headers and time stamps."""


@dataclasses.dataclass(frozen=True)
class Host:
    """One end of a conversation, as the capture's vantage point sees it.

    Args:
        mac: 6 bytes of the interface, or of the gateway for hosts behind it.
        address: 4 bytes.
        ttl: time to live left at the vantage point.
        window: TCP window that it offers.
    """

    mac: bytes
    address: bytes
    ttl: int
    window: int


class Slot(NamedTuple):
    """Bytes of a message that its protocol leaves to the sender: filler, or a plant's place.

    Args:
        name: what a family's plants call it.
        filler: what stands there without a plant; a plant has as many bytes.
        field: Wireshark's name of the field it lies in.
    """

    name: str
    filler: bytes
    field: str = "payload"


@dataclasses.dataclass(frozen=True)
class Plant:
    """Evidence to hide in a session: bytes that only one side of the labels has.

    Args:
        name: what the list of evidence calls it.
        data: the bytes themselves.
    """

    name: str
    data: bytes


class Mark(NamedTuple):
    """Where something lies: bytes [start, end) of a packet, in a field; a slot's or a plant's."""

    name: str
    field: str
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class Packet:
    """A captured frame.

    Args:
        time_ns: nanoseconds since 1970.
        sender: CLIENT or SERVER.
        data: its bytes from the Ethernet header on.
        slots: where slots without a plant lie.
        marks: where plants lie.
    """

    time_ns: int
    sender: int
    data: bytes
    slots: tuple[Mark, ...] = ()
    marks: tuple[Mark, ...] = ()


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    words = struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def seal(data: bytes) -> bytes:
    """Return an Ethernet frame of ours, whatever was written into it, with its checksums right."""
    head, segment = bytearray(data[14:34]), bytearray(data[34:])
    head[10:12] = b"\0\0"
    head[10:12] = struct.pack(">H", checksum(bytes(head)))
    protocol = head[9]
    place = 16 if protocol == TCP else 6
    segment[place : place + 2] = b"\0\0"
    pseudo = bytes(head[12:20]) + struct.pack(">HH", protocol, len(segment))
    value = checksum(pseudo + segment)
    if protocol == UDP and value == 0:
        value = 0xFFFF  # zero says that there is no checksum (RFC 768)
    segment[place : place + 2] = struct.pack(">H", value)
    return data[:14] + bytes(head) + bytes(segment)


def frame(source: Host, target: Host, protocol: int, number: int, segment: bytes) -> bytes:
    """Return an Ethernet frame around a segment, its checksums filled in."""
    head = struct.pack(
        ">BBHHHBBH4s4s",
        *(0x45, 0, 20 + len(segment), number, 0x4000, source.ttl, protocol, 0),
        source.address,
        target.address,
    )
    return seal(target.mac + source.mac + b"\x08\x00" + head + segment)


class Conversation:
    """Packets between two hosts, in order of time, with the round trip's delays.

    Args:
        chance: source of all choices.
        client, server: the ends; `client` sends first.
        ports: source and destination port of the client's packets.
        start_ns: time of the first packet.
        plants: by the name of the slot that each goes to.
        opening: who sends the packets of an exchange of keep-alives after the handshake (TCP).
    """

    protocol: int

    def __init__(
        self,
        chance: random.Random,
        client: Host,
        server: Host,
        ports: tuple[int, int],
        start_ns: int,
        plants: Mapping[str, Plant] | None = None,
        opening: Sequence[int] = (),
    ):
        self.chance, self.hosts, self.ports = chance, (client, server), ports
        self.now, self.start_ns = start_ns, start_ns
        self.plants, self.opening = plants or {}, opening
        self.packets: list[Packet] = []
        self.round_trip = chance.uniform(0.004, 0.09)
        self.numbers = [chance.randrange(1 << 16), chance.randrange(1 << 16)]

    def wait(self, seconds: float) -> None:
        """Let time pass, in whole microseconds as captures count it, at least one."""
        self.now += max(int(seconds * 1e6), 1) * 1000

    def write(self, parts: Sequence[bytes | Slot]) -> tuple[bytes, list[tuple[Mark, bool]]]:
        """Return a message of parts, and where its slots lie and whether a plant is there."""
        message, places = b"", []
        for part in parts:
            if isinstance(part, Slot):
                plant = self.plants.get(part.name)
                text = plant.data if plant else part.filler
                name = plant.name if plant else part.name
                end = len(message) + len(text)
                places.append((Mark(name, part.field, len(message), end), plant is not None))
                message += text
            else:
                message += part
        return message, places

    def emit(
        self, sender: int, header: bytes, payload: bytes, places: Sequence[tuple[Mark, bool]] = ()
    ) -> None:
        """Capture one packet of the sender and let the time to the next one pass."""
        data = frame(
            self.hosts[sender],
            self.hosts[1 - sender],
            self.protocol,
            self.numbers[sender],
            header + payload,
        )
        self.numbers[sender] = (self.numbers[sender] + 1) % (1 << 16)
        base = len(data) - len(payload)
        found: tuple[list[Mark], list[Mark]] = ([], [])
        for mark, planted in places:
            place = mark._replace(start=base + mark.start, end=base + mark.end)
            found[planted].append(place)
        self.packets.append(Packet(self.now, sender, data, *map(tuple, found)))
        self.wait(self.chance.uniform(20e-6, 200e-6))

    def travel(self) -> None:
        """Wait until what was sent has arrived and is answered."""
        self.wait(self.round_trip / 2 * self.chance.uniform(0.95, 1.2))


class Datagrams(Conversation):
    """A conversation over UDP."""

    protocol = UDP

    def send(self, sender: int, *parts: bytes | Slot) -> None:
        """Send one datagram and wait until it has arrived."""
        ports = self.ports if sender == CLIENT else self.ports[::-1]
        payload, places = self.write(parts)
        self.emit(sender, struct.pack(">HHHH", *ports, 8 + len(payload), 0), payload, places)
        self.travel()


class Connection(Conversation):
    """A conversation over TCP, without loss: every byte is numbered, stamped and acknowledged."""

    protocol = TCP

    def __init__(self, *ends, **more):
        super().__init__(*ends, **more)
        chance = self.chance
        self.sequence = [chance.randrange(1 << 32), chance.randrange(1 << 32)]
        self.clocks = [chance.randrange(1 << 31), chance.randrange(1 << 31)]
        self.heard = [0, 0]

    def open(self) -> None:
        """Shake hands, and exchange the keep-alives of the opening: the client's ask (RFC 9293)."""
        self._segment(CLIENT, SYN)
        self.travel()
        self._segment(SERVER, SYN | ACK)
        self.travel()
        self._segment(CLIENT, ACK)
        for sender in self.opening:
            self._segment(sender, ACK, back=sender == CLIENT)
            self.travel()

    def send(self, sender: int, *parts: bytes | Slot, answered: bool = False) -> None:
        """Send bytes in as many segments as they take; the other end acknowledges every second.

        Args:
            sender: CLIENT or SERVER.
            parts: what the message is put together from.
            answered: whether the other end sends next, and so soon that its message acknowledges.
        """
        message, places = self.write(parts)
        for index, first in enumerate(range(0, len(message), SEGMENT)):
            part = message[first : first + SEGMENT]
            last = first + SEGMENT >= len(message)
            self._segment(sender, ACK | (PSH if last else 0), part, _within(places, first))
            if last or index % 2:
                self.travel()
                if not (last and answered):
                    self._segment(1 - sender, ACK)

    def close(self) -> None:
        """Let both ends finish, the client first."""
        self._segment(CLIENT, FIN | ACK)
        self.travel()
        self._segment(SERVER, FIN | ACK)
        self.travel()
        self._segment(CLIENT, ACK)

    def _segment(
        self,
        sender: int,
        flags: int,
        payload: bytes = b"",
        places: Sequence[tuple[Mark, bool]] = (),
        *,
        back: bool = False,
    ) -> None:
        passed = (self.now - self.start_ns) // 1_000_000
        stamp = (self.clocks[sender] + passed) % (1 << 32)
        echo = self.heard[sender] if flags & ACK else 0
        stamps = struct.pack(">BBII", 8, 10, stamp, echo)
        if flags & SYN:
            options = b"\x02\x04\x05\xb4\x04\x02" + stamps + b"\x01\x03\x03\x07"
        else:
            options = b"\x01\x01" + stamps
        header = struct.pack(
            ">HHIIBBHHH",
            *(self.ports if sender == CLIENT else self.ports[::-1]),
            (self.sequence[sender] - back) % (1 << 32),
            self.sequence[1 - sender] if flags & ACK else 0,
            *((20 + len(options)) << 2, flags, self.hosts[sender].window, 0, 0),
        )
        self.emit(sender, header + options, payload, places)
        advance = len(payload) + (1 if flags & (SYN | FIN) else 0)
        self.sequence[sender] = (self.sequence[sender] + advance) % (1 << 32)
        self.heard[1 - sender] = stamp


def _within(places: Sequence[tuple[Mark, bool]], first: int) -> list[tuple[Mark, bool]]:
    """Return the parts of places that lie in the segment whose first byte is `first`."""
    found = []
    for mark, planted in places:
        start, end = max(mark.start - first, 0), min(mark.end - first, SEGMENT)
        if start < end:
            # behind the first segment no message begins, so no dissector of single packets knows it
            field = mark.field if first == 0 else "payload"
            found.append((Mark(mark.name, field, start, end), planted))
    return found
