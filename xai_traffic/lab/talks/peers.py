"""Exchange of a file's pieces between peers of BitTorrent."""

from __future__ import annotations

import random
import struct

from xai_traffic.lab.packets import CLIENT, SERVER, Connection, Slot
from xai_traffic.lab.talks.fillers import alphanumeric, think

_PROTOCOL = b"\x13BitTorrent protocol"
_PROGRAMS = (b"-TR4050-", b"-qB4630-", b"-DE211s-", b"-lt0D60-")
_CHOKE, _UNCHOKE, _INTERESTED, _HAVE, _BITFIELD, _REQUEST, _PIECE = 0, 1, 2, 4, 5, 6, 7
_LARGEST = 16_384


def peers(talk: Connection, chance: random.Random) -> None:
    """Shake hands, ask for blocks of a few pieces and get them (BEP 3)."""
    torrent = chance.randbytes(20)
    count = chance.randint(40, 900)
    talk.open()
    talk.send(CLIENT, *_handshake(chance, torrent))
    talk.send(SERVER, *_handshake(chance, torrent))
    talk.send(SERVER, _message(_BITFIELD, _bits(chance, count, 0.9)))
    talk.send(CLIENT, _message(_BITFIELD, _bits(chance, count, 0.3)))
    talk.send(CLIENT, _message(_INTERESTED))
    talk.wait(chance.uniform(0.005, 1.0))
    talk.send(SERVER, _message(_UNCHOKE))
    left = 24_000  # so that a session stays within the packets of an image
    for _ in range(chance.randint(1, 4)):
        size = min(int(1500 * 11 ** chance.random()), _LARGEST, left)
        if size < 1000:
            break
        left -= size + 1500
        piece, begin = chance.randrange(count), _LARGEST * chance.randrange(16)
        asked = _message(_REQUEST, struct.pack(">III", piece, begin, size))
        talk.send(CLIENT, asked, answered=True)
        talk.wait(chance.uniform(0.001, 0.035))
        head = struct.pack(">IBII", 9 + size, _PIECE, piece, begin)
        talk.send(SERVER, head, Slot("block", chance.randbytes(size)))
        talk.send(CLIENT, _message(_HAVE, struct.pack(">I", piece)))
        if chance.random() < 0.4:
            think(talk, chance)
    if chance.random() < 0.5:
        talk.send(SERVER, _message(_CHOKE))
    talk.close()


def _handshake(chance: random.Random, torrent: bytes) -> tuple[bytes | Slot, ...]:
    """Return a handshake: protocol, extensions (DHT, fast), the torrent, and who asks."""
    name = chance.choice(_PROGRAMS) + alphanumeric(chance, 12)
    return _PROTOCOL + bytes.fromhex("0000000000100005") + torrent, Slot("peer", name)


def _message(kind: int, data: bytes = b"") -> bytes:
    return struct.pack(">IB", 1 + len(data), kind) + data


def _bits(chance: random.Random, count: int, share: float) -> bytes:
    """Return which pieces a peer has, one bit a piece, spare bits zero."""
    bits = "".join("01"[chance.random() < share] for _ in range(count))
    return int(bits + "0" * (-count % 8), 2).to_bytes((count + 7) // 8, "big")
