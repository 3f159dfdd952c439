"""Packets from nothing: valid Ethernet, IPv4, TCP and UDP, and conversations made of them."""

from __future__ import annotations

import dataclasses
import random
import struct
from collections.abc import Sequence

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


@dataclasses.dataclass(frozen=True)
class Plant:
    """Evidence to hide in a session: bytes that only one family has.

    Args:
        name: what the list of evidence calls it.
        field: Wireshark's name of the field it lies in.
        data: the bytes themselves.
    """

    name: str
    field: str
    data: bytes


@dataclasses.dataclass(frozen=True)
class Mark:
    """Where a plant lies: bytes [start, end) of a packet."""

    plant: Plant
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class Packet:
    """A captured frame, with its time in nanoseconds since 1970 and the plants in it."""

    time_ns: int
    data: bytes
    marks: tuple[Mark, ...]


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    words = struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(source: Host, target: Host, protocol: int, number: int, segment: bytes) -> bytes:
    """Return an Ethernet frame around a segment whose own checksum field is still zero."""
    head = struct.pack(
        ">BBHHHBBH4s4s",
        *(0x45, 0, 20 + len(segment), number, 0x4000, source.ttl, protocol, 0),
        source.address,
        target.address,
    )
    head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
    pseudo = source.address + target.address + struct.pack(">HH", protocol, len(segment))
    value = checksum(pseudo + segment)
    place = 16 if protocol == TCP else 6
    if protocol == UDP and value == 0:
        value = 0xFFFF  # zero says that there is no checksum (RFC 768)
    segment = segment[:place] + struct.pack(">H", value) + segment[place + 2 :]
    return target.mac + source.mac + b"\x08\x00" + head + segment


class Conversation:
    """Packets between two hosts, in order of time, with the round trip's delays.

    Args:
        chance: source of all choices.
        client, server: the ends; `client` sends first.
        ports: source and destination port of the client's packets.
        start_ns: time of the first packet.
    """

    protocol: int

    def __init__(
        self,
        chance: random.Random,
        client: Host,
        server: Host,
        ports: tuple[int, int],
        start_ns: int,
    ):
        self.chance, self.hosts, self.ports = chance, (client, server), ports
        self.now = start_ns
        self.packets: list[Packet] = []
        self.round_trip = chance.uniform(0.004, 0.09)
        self.numbers = [chance.randrange(1 << 16), chance.randrange(1 << 16)]

    def wait(self, seconds: float) -> None:
        """Let time pass, in whole microseconds as captures count it, at least one."""
        self.now += max(int(seconds * 1e6), 1) * 1000

    def emit(self, sender: int, header: bytes, payload: bytes, plants: Sequence[Plant]) -> None:
        """Capture one packet of the sender and let the time to the next one pass."""
        data = frame(
            self.hosts[sender],
            self.hosts[1 - sender],
            self.protocol,
            self.numbers[sender],
            header + payload,
        )
        self.numbers[sender] = (self.numbers[sender] + 1) % (1 << 16)
        marks = []
        for plant in plants:
            place = payload.find(plant.data)
            if place >= 0:
                start = len(data) - len(payload) + place
                marks.append(Mark(plant, start, start + len(plant.data)))
        self.packets.append(Packet(self.now, data, tuple(marks)))
        self.wait(self.chance.uniform(20e-6, 200e-6))

    def travel(self) -> None:
        """Wait until what was sent has arrived and is answered."""
        self.wait(self.round_trip / 2 * self.chance.uniform(0.95, 1.2))


class Datagrams(Conversation):
    """A conversation over UDP."""

    protocol = UDP

    def send(self, sender: int, payload: bytes, plants: Sequence[Plant] = ()) -> None:
        """Send one datagram and wait until it has arrived."""
        ports = self.ports if sender == CLIENT else self.ports[::-1]
        self.emit(sender, struct.pack(">HHHH", *ports, 8 + len(payload), 0), payload, plants)
        self.travel()


class Connection(Conversation):
    """A conversation over TCP, without loss: every byte is numbered, stamped and acknowledged."""

    protocol = TCP

    def __init__(
        self,
        chance: random.Random,
        client: Host,
        server: Host,
        ports: tuple[int, int],
        start_ns: int,
    ):
        super().__init__(chance, client, server, ports, start_ns)
        self.start_ns = start_ns
        self.sequence = [chance.randrange(1 << 32), chance.randrange(1 << 32)]
        self.clocks = [chance.randrange(1 << 31), chance.randrange(1 << 31)]
        self.heard = [0, 0]

    def open(self) -> None:
        """Shake hands."""
        self._segment(CLIENT, SYN)
        self.travel()
        self._segment(SERVER, SYN | ACK)
        self.travel()
        self._segment(CLIENT, ACK)

    def send(self, sender: int, payload: bytes, plants: Sequence[Plant] = ()) -> None:
        """Send bytes in as many segments as they take; the other end acknowledges every second."""
        for index, first in enumerate(range(0, len(payload), SEGMENT)):
            part = payload[first : first + SEGMENT]
            last = first + SEGMENT >= len(payload)
            self._segment(sender, ACK | (PSH if last else 0), part, plants)
            if last or index % 2:
                self.travel()
                self._segment(1 - sender, ACK)

    def close(self) -> None:
        """Let both ends finish, the client first."""
        self._segment(CLIENT, FIN | ACK)
        self.travel()
        self._segment(SERVER, FIN | ACK)
        self.travel()
        self._segment(CLIENT, ACK)

    def _segment(
        self, sender: int, flags: int, payload: bytes = b"", plants: Sequence[Plant] = ()
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
            self.sequence[sender],
            self.sequence[1 - sender] if flags & ACK else 0,
            *((20 + len(options)) << 2, flags, self.hosts[sender].window, 0, 0),
        )
        self.emit(sender, header + options, payload, plants)
        advance = len(payload) + (1 if flags & (SYN | FIN) else 0)
        self.sequence[sender] = (self.sequence[sender] + advance) % (1 << 32)
        self.heard[1 - sender] = stamp
