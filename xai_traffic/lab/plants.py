"""Kinds of evidence that can be planted in sessions of any family.

A kind changes chosen packets of a session that is complete and valid without it, and leaves it so:
lengths, times and order stay, checksums are made right again. Only `sequence` is made while the
hosts talk. Each value that a kind writes is one that no session has by itself.
"""

from __future__ import annotations

import dataclasses
import random
import struct
from collections.abc import Callable, Mapping, Sequence

from xai_traffic.capture.records import TILE
from xai_traffic.lab.families import Family
from xai_traffic.lab.packets import CLIENT, SERVER, Connection, Host, Mark, Packet, checksum, seal
from xai_traffic.lab.talks.https import https

PAYLOAD = b"zQ7vK2xW9pLd4TsB"
TTL = 255  # that of a host which starts with it, as network equipment does
TIME_STAMP = 0xE7  # clocks of sessions begin in the lower half of their range
WINDOW = 4380
NAME = b"xk2vq9zt7w3m"
CHECKSUM = 0xB19B
KNOCK = (CLIENT, CLIENT, CLIENT, SERVER)
"""Who sends the packets after the handshake: three keep-alives in a row, then an answer."""
NO_KNOCK = (CLIENT, SERVER, CLIENT, SERVER)
"""The same without the plant: every keep-alive is answered."""

_IP_ID, _TTL, _IP_CHECKSUM, _WINDOW = 18, 22, 24, 48  # bytes of a frame without IP options
_STAMPS = (58, 62)  # of time stamps in a frame of TCP, and in one with SYN
_KNOCK_PACKETS = range(3, 6)


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of evidence.

    Args:
        plant: returns the packets of a session that carry it, by their number; none where the
            session has no place for it. The number asked for is None where a kind chooses itself.
        where: what it takes for a session to have a place, in words.
        default: the packet that carries it if none is asked for; None as `plant` describes.
        transports: what conversations must run over.
        talks: the only talks that have a place, all where empty.
        opening: of sessions with the plant and without it, where a kind needs one.
        prepare: changes all sessions, with plant and without, so that nothing else tells.
        client: the same for a session's client.
    """

    plant: Callable[[Sequence[Packet], int | None], Mapping[int, Packet]]
    where: str
    default: int | None = None
    transports: tuple[type, ...] = ()
    talks: tuple[Callable, ...] = ()
    opening: tuple[Sequence[int], Sequence[int]] = ((), ())
    prepare: Callable[[list[Packet], random.Random], list[Packet]] = lambda packets, _: packets
    client: Callable[[Host, random.Random], Host] = lambda host, _: host

    def fits(self, family: Family) -> bool:
        """Tell whether sessions of a family can have a place for it."""
        runs = not self.transports or family.transport in self.transports
        return runs and (not self.talks or family.talk in self.talks)


def written(packet: Packet, start: int, data: bytes, mark: Mark) -> Packet:
    """Return a packet with other bytes from `start` on, checksums right, and a mark added."""
    changed = seal(packet.data[:start] + data + packet.data[start + len(data) :])
    return dataclasses.replace(packet, data=changed, marks=(*packet.marks, mark))


def _chosen(packets: Sequence[Packet], packet: int | None) -> list[int]:
    """Return the packet asked for, if there is one; all of the client's if none is."""
    if packet is None:
        return [number for number, each in enumerate(packets) if each.sender == CLIENT]
    return [packet] if packet < len(packets) else []


def _field(
    name: str, field: str, start: int, data: bytes
) -> Callable[[Sequence[Packet], int | None], dict[int, Packet]]:
    """Return how to plant a value in a field of the headers."""
    mark = Mark(name, field, start, start + len(data))

    def plant(packets: Sequence[Packet], packet: int | None) -> dict[int, Packet]:
        return {at: written(packets[at], start, data, mark) for at in _chosen(packets, packet)}

    return plant


def _time_stamp(packets: Sequence[Packet], packet: int | None) -> dict[int, Packet]:
    """Plant the high byte of TSval (RFC 7323), and in answers to all packets its echo, TSecr.

    A session in which the three bytes below it wrap has no place: its clock would run backwards.
    A receiver does not echo a single packet's value, which is out of order.
    """
    places = [_STAMPS[0] if each.data[54] == 1 else _STAMPS[1] for each in packets]
    own = [at for at, each in enumerate(packets) if each.sender == CLIENT]
    if len({packets[at].data[places[at]] for at in own}) > 1:
        return {}
    changed = {}
    for at, place in enumerate(places):
        echo = packet is None and packets[at].sender == SERVER
        if echo or at in _chosen(packets, packet):
            start = place + 4 * echo
            field = f"tcp.options.timestamp.{'tsecr' if echo else 'tsval'}"
            mark = Mark("time stamp", field, start, start + 1)
            changed[at] = written(packets[at], start, bytes([TIME_STAMP]), mark)
    return changed


def _slot(
    name: str, data: bytes, slot: str = ""
) -> Callable[[Sequence[Packet], int | None], dict[int, Packet]]:
    """Return how to plant bytes in the first slot of the client, or of the packet asked for."""

    def plant(packets: Sequence[Packet], packet: int | None) -> dict[int, Packet]:
        for at in _chosen(packets, packet):
            for place in packets[at].slots:
                end = place.start + len(data)
                if slot in ("", place.name) and end <= min(place.end, TILE):
                    mark = Mark(name, place.field, place.start, end)
                    return {at: written(packets[at], place.start, data, mark)}
        return {}

    return plant


def _checksum(packets: Sequence[Packet], packet: int | None) -> dict[int, Packet]:
    """Plant a checksum of the IPv4 header by the choice of its identification (RFC 1071)."""
    changed = {}
    mark = Mark("checksum", "ip.checksum", _IP_CHECKSUM, _IP_CHECKSUM + 2)
    for at in _chosen(packets, packet):
        head = packets[at].data[14:18] + b"\0\0" + packets[at].data[20:24] + b"\0\0"
        others = ~checksum(head + packets[at].data[26:34]) & 0xFFFF
        number = ((~CHECKSUM & 0xFFFF) - others) % 0xFFFF
        changed[at] = written(packets[at], _IP_ID, struct.pack(">H", number), mark)
    return changed


def _knock(packets: Sequence[Packet], packet: int | None) -> dict[int, Packet]:
    """Mark the packets of a knock, which the hosts have made already."""
    changed = {}
    for at in _KNOCK_PACKETS:
        mark = Mark("three keep-alives in a row", "frame", 0, len(packets[at].data))
        changed[at] = dataclasses.replace(packets[at], marks=(mark,))
    return changed


def _random_numbers(packets: list[Packet], chance: random.Random) -> list[Packet]:
    """Give every packet an identification by chance, as some systems do, and never the plant."""
    changed = []
    for packet in packets:
        number, data = chance.randrange(1 << 16), b""
        while not data or data[_IP_CHECKSUM:][:2] == struct.pack(">H", CHECKSUM):
            raw = struct.pack(">H", number)
            data = seal(packet.data[:_IP_ID] + raw + packet.data[_IP_ID + 2 :])
            number = (number + 1) % (1 << 16)  # one draw a packet, whatever it gives
        changed.append(dataclasses.replace(packet, data=data))
    return changed


def _any_address(host: Host, chance: random.Random) -> Host:
    """Give a client any address of its /16, so that no identification tells of a checksum."""
    number = chance.randrange(1, (1 << 16) - 1)
    return dataclasses.replace(host, address=host.address[:2] + struct.pack(">H", number))


_ANYWHERE = "a packet of that number"

KINDS: dict[str, Kind] = {
    "payload": Kind(
        _slot("payload", PAYLOAD),
        f"{len(PAYLOAD)} bytes of its sender's choice among the packet's first {TILE}",
    ),
    "ttl": Kind(_field("time to live", "ip.ttl", _TTL, bytes([TTL])), _ANYWHERE),
    "time_stamp": Kind(_time_stamp, _ANYWHERE, transports=(Connection,)),
    "window": Kind(
        _field("window", "tcp.window_size_value", _WINDOW, struct.pack(">H", WINDOW)),
        _ANYWHERE,
        transports=(Connection,),
    ),
    "sni": Kind(_slot("server name", NAME, "sni"), "a ClientHello: packet 3", talks=(https,)),
    # One packet: the checksums of several would leave their identifications equal or close.
    "checksum": Kind(_checksum, _ANYWHERE, default=0, prepare=_random_numbers, client=_any_address),
    "sequence": Kind(
        _knock,
        "a handshake; its packets are always 3 to 5",
        transports=(Connection,),
        opening=(KNOCK, NO_KNOCK),
        prepare=_random_numbers,  # counted ones would tell how many packets each host has sent
    ),
}
