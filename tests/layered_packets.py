"""Packets put together of named pieces, each of which says which mask hides it.

So a test knows every field of a packet, and what is left of it under a mask, without reading it.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterable

import numpy as np

from xai_traffic.capture.records import NONE, PACKET

SENDER, RECEIVER, NEITHER = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class Piece:
    """Some bytes: their field's name, the masks that hide them, and the bits these keep.

    Of an address `side` tells whose it is. `place` names what begins here, of a packet row.
    """

    name: str
    data: bytes
    mask: str = ""
    keep: bytes = b""
    side: int | None = None
    place: str = ""


def size_of(pieces: Iterable[Piece]) -> int:
    return sum(len(piece.data) for piece in pieces)


def plain(**fields: bytes) -> list[Piece]:
    """Return pieces that no mask hides; two underscores stand for a dot."""
    return [Piece(name.replace("__", "."), data) for name, data in fields.items()]


def address(name: str, text: str, side: int) -> Piece:
    return Piece(name, bytes.fromhex(text), "addresses", side=side)


def ids(name: str, text: str, keep: str = "") -> Piece:
    return Piece(name, bytes.fromhex(text), "ids", bytes.fromhex(keep))


def ethernet(kind: str, suffix="", source="02aabbccddee", target="021122334455") -> list[Piece]:
    return [
        address(f"eth.dst{suffix}", target, RECEIVER),
        address(f"eth.src{suffix}", source, SENDER),
        Piece(f"eth.type{suffix}", bytes.fromhex(kind)),
    ]


def vlan(kind: str, suffix="", number="6123") -> list[Piece]:
    return [
        ids(f"vlan.id{suffix}", number, "f000"),
        Piece(f"vlan.etype{suffix}", bytes.fromhex(kind)),
    ]


def ip4(protocol: int, inner: list[Piece], suffix="", source="0a010203", target="0a040506"):
    total = 20 + size_of(inner)
    return [
        Piece(f"ip.version{suffix}", b"\x45", place="network"),
        Piece(f"ip.dsfield{suffix}", b"\x28"),
        Piece(f"ip.len{suffix}", struct.pack(">H", total)),
        ids(f"ip.id{suffix}", "abcd"),
        Piece(f"ip.flags{suffix}", b"\x40\0"),
        Piece(f"ip.ttl{suffix}", b"\x39", "ttl"),
        Piece(f"ip.proto{suffix}", bytes([protocol])),
        ids(f"ip.checksum{suffix}", "beef"),
        address(f"ip.src{suffix}", source, SENDER),
        address(f"ip.dst{suffix}", target, RECEIVER),
        *inner,
    ]


def ip6(protocol: int, inner: list[Piece], suffix="", extra: list[Piece] | None = None, first=0):
    """Return an IPv6 datagram; `extra` are extension headers, the first of type `first`."""
    extra = extra or []
    return [
        Piece(f"ipv6.version{suffix}", b"\x6a", place="network"),
        ids(f"ipv6.tclass{suffix}", "b1", "f0"),
        ids(f"ipv6.flow{suffix}", "2345"),
        Piece(f"ipv6.plen{suffix}", struct.pack(">H", size_of(extra) + size_of(inner))),
        Piece(f"ipv6.nxt{suffix}", bytes([first if extra else protocol])),
        Piece(f"ipv6.hlim{suffix}", b"\x3f", "ttl"),
        address(f"ipv6.src{suffix}", "20010db8" + "11" * 12, SENDER),
        address(f"ipv6.dst{suffix}", "20010db8" + "22" * 12, RECEIVER),
        *extra,
        *inner,
    ]


def udp(inner: list[Piece], ports=(4000, 5000), suffix="") -> list[Piece]:
    """Return a UDP datagram around a tunnel, or around the payload."""
    length = struct.pack(">H", 8 + size_of(inner))
    return [
        Piece(f"udp.srcport{suffix}", struct.pack(">H", ports[0]), "ports", place="transport"),
        Piece(f"udp.dstport{suffix}", struct.pack(">H", ports[1]), "ports"),
        Piece(f"udp.length{suffix}", length),
        ids(f"udp.checksum{suffix}", "face"),
        *inner,
    ]


def tcp() -> list[Piece]:
    """Return a TCP segment with its payload."""
    return [
        Piece("tcp.srcport", b"\x10\xe1", "ports", place="transport"),
        Piece("tcp.dstport", b"\x01\xbb", "ports"),
        ids("tcp.seq", "01020304"),
        ids("tcp.ack", "05060708"),
        Piece("tcp.hdr_len", b"\x50"),
        Piece("tcp.flags", b"\x18"),
        Piece("tcp.window_size_value", b"\x15\xb3", "window"),
        ids("tcp.checksum", "abcd"),
        Piece("tcp.urgent_pointer", b"\0\x09"),
        *payload(),
    ]


def sctp() -> list[Piece]:
    return [
        Piece("sctp.srcport", b"\x10\xe1", "ports", place="transport"),
        Piece("sctp.dstport", b"\x01\xbb", "ports"),
        ids("sctp.verification_tag", "01020304"),
        ids("sctp.checksum", "05060708"),
        *payload(),
    ]


def payload() -> list[Piece]:
    return [Piece("payload", b"the payload!", "payload", place="payload")]


def session(suffix="") -> list[Piece]:
    """Return an IPv4 datagram with TCP: the headers that make the session."""
    return ip4(6, tcp(), suffix)


def gre(kind: str, inner: list[Piece], key=True) -> list[Piece]:
    keyed = [ids("gre.key", "00c0ffee"), ids("gre.sequence_number", "00000007")]
    flags = b"\x30\0" if key else b"\0\0"
    head = [
        Piece("gre.flags_and_version", flags, place="transport"),
        Piece("gre.proto", bytes.fromhex(kind)),
    ]
    return [*head, *(keyed if key else []), *inner]


def mpls(inner: list[Piece], labels=("00c0a1",)) -> list[Piece]:
    """Return labels, whose last byte holds the traffic class and the bottom of the stack."""
    found = []
    for label in labels:
        found += [ids("mpls.label", label, "00000f"), Piece("mpls.ttl", b"\x40", "ttl")]
    return [*found, *inner]


def pppoe(inner: list[Piece], protocol="0021") -> list[Piece]:
    return [
        *plain(pppoe__version=b"\x11", pppoe__code=b"\0"),
        ids("pppoe.session_id", "0f07"),
        *plain(pppoe__payload_length=struct.pack(">H", 2 + size_of(inner))),
        Piece("ppp.protocol", bytes.fromhex(protocol)),
        *inner,
    ]


def wireless(control: str, addresses: list[Piece], more: list[Piece] | None = None) -> list[Piece]:
    """Return an IEEE 802.11 header with LLC and SNAP, for IPv4."""
    first, rest = addresses[:3], addresses[3:]
    return [
        *plain(wlan__fc=bytes.fromhex(control), wlan__duration=b"\x2c\0"),
        *first,
        ids("wlan.seq", "7013"),
        *rest,
        *(more or []),
        *plain(llc__dsap=b"\xaa", llc__ssap=b"\xaa", llc__control=b"\3"),
        *plain(llc__oui=b"\0\0\0", llc__type=b"\x08\0"),
    ]


def wireless_addresses(*names: str) -> list[Piece]:
    sides = {"da": RECEIVER, "ra": RECEIVER, "sa": SENDER, "ta": SENDER, "bssid": NEITHER}
    return [
        address(f"wlan.{name}", f"0211223344{number:02x}", sides[name])
        for number, name in enumerate(names)
    ]


def to_row(link: int, pieces: list[Piece], direction=0) -> tuple[np.ndarray, np.ndarray]:
    """Return (tile uint8 [1, 256], PACKET [1]) of a packet that layers "all" reads."""
    whole = b"".join(piece.data for piece in pieces)
    places: dict[str, list[int]] = {"network": [], "transport": [], "payload": []}
    at = 0
    for piece in pieces:
        if piece.place:
            places[piece.place].append(at)
        at += len(piece.data)
    row = np.zeros(1, PACKET)
    row["captured"] = row["wire"] = len(whole)
    row["length"] = min(len(whole), 256)
    row["link"], row["direction"] = link, direction
    row["depth"] = len(places["network"]) - 1
    row["outer"] = places["network"][0] if row["depth"][0] else NONE
    for name, found in places.items():
        row[name] = found[-1]
    network = places["network"][-1]
    if whole[network] >> 4 == 4:
        row["protocol"] = whole[network + 9]
    else:
        row["protocol"] = {b"tcp": 6, b"udp": 17, b"sct": 132}[transport_name(pieces)]
    tile = np.zeros((1, 256), np.uint8)
    tile[0, : row["length"][0]] = np.frombuffer(whole[:256], np.uint8)
    return tile, row


def transport_name(pieces: list[Piece]) -> bytes:
    return [piece for piece in pieces if piece.place == "transport"][-1].name[:3].encode()


def masked(pieces: list[Piece], names: tuple[str, ...], direction=0) -> tuple[bytes, list[bool]]:
    """Return the packet under masks, and which bytes are hidden; `header` is not among them."""
    out, marks = b"", []
    for piece in pieces:
        hide = any(name in names for name in piece.mask.split())
        data = piece.data
        if hide and piece.side is not None:
            own = 1 if piece.side == direction else 2
            data = bytes([0 if piece.side == NEITHER else own]) * len(data)
        elif hide:
            keep = piece.keep or bytes(len(data))
            data = bytes(byte & bits for byte, bits in zip(data, keep, strict=True))
        out += data
        marks += [
            hide and (not piece.keep or piece.keep[index] != 255)
            for index in range(len(piece.data))
        ]
    return out, marks
