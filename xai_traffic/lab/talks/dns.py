"""Look-ups over DNS."""

from __future__ import annotations

import random
import struct

from xai_traffic.lab.packets import CLIENT, SERVER, Datagrams, Slot
from xai_traffic.lab.talks.fillers import hexadecimal, host_name, think, words

LABEL = 18
"""Bytes of the slot "label"."""


def dns(talk: Datagrams, chance: random.Random) -> None:
    """Look up a few names over one socket (RFC 1035)."""
    domain = host_name(chance)
    for _ in range(chance.randint(2, 6)):
        label = Slot("label", words(chance, 4, "-")[:LABEL].encode(), "dns.qry.name")
        tail = hexadecimal(chance, chance.randint(4, 24))
        rest = tail + b"".join(bytes([len(part)]) + part for part in domain.encode().split(b"."))
        number, kind = chance.randrange(1 << 16), chance.choice((1, 1, 1, 28, 16))
        size = bytes([LABEL + len(tail)])
        question = (size, label, rest + b"\0" + struct.pack(">HH", kind, 1))
        talk.send(CLIENT, struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0), *question)
        talk.wait(chance.uniform(0.001, 0.08))
        note = hexadecimal(chance, chance.randint(8, 40))
        data = {
            1: bytes([198, 51, 100, chance.randrange(1, 255)]),
            28: bytes.fromhex("20010db8") + chance.randbytes(12),
            16: bytes([len(note)]) + note,
        }[kind]
        seconds = chance.choice((60, 300, 3600))
        answer = struct.pack(">HHHIH", 0xC00C, kind, 1, seconds, len(data)) + data
        talk.send(SERVER, struct.pack(">HHHHHH", number, 0x8180, 1, 1, 0, 0), *question, answer)
        think(talk, chance)
