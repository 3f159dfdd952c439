"""Queries to a PostgreSQL server."""

from __future__ import annotations

import random
import struct

from xai_traffic.lab.packets import CLIENT, SERVER, Connection, Slot
from xai_traffic.lab.talks.fillers import WORDS, hexadecimal, think, words

_LITERAL = 32
_PARAMETERS = (
    ("server_version", "15.6"),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("TimeZone", "Etc/UTC"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
)
_TYPES = ((23, 4), (25, -1), (1043, -1))  # int4, text, varchar: identifier and size
_READY = b"Z\0\0\0\x05I"


def database(talk: Connection, chance: random.Random) -> None:
    """Log in with a password and ask some queries (PostgreSQL's protocol, version 3.0)."""
    user, base = chance.choice(WORDS), chance.choice(WORDS)
    start = f"user\0{user}\0database\0{base}\0application_name\0{chance.choice(WORDS)}\0\0"
    talk.open()
    talk.send(CLIENT, struct.pack(">II", len(start) + 8, 196_608) + start.encode())
    talk.wait(chance.uniform(0.0005, 0.01))
    talk.send(SERVER, _message("R", struct.pack(">I", 5) + chance.randbytes(4)))
    talk.send(
        CLIENT,
        struct.pack(">cI", b"p", 4 + 3 + 32 + 1) + b"md5",
        Slot("password", hexadecimal(chance, 32)),
        b"\0",
    )
    talk.wait(chance.uniform(0.001, 0.02))
    parameters = "".join(f"{name}\0{value}\0|" for name, value in _PARAMETERS).encode().split(b"|")
    talk.send(
        SERVER,
        _message("R", bytes(4)),
        *(_message("S", each) for each in parameters if each),
        _message("K", struct.pack(">I", chance.randrange(300, 40_000)) + chance.randbytes(4)),
        _READY,
    )
    for _ in range(chance.randint(1, 4)):
        think(talk, chance)
        _query(talk, chance)
    talk.send(CLIENT, _message("X", b""))
    talk.close()


def _message(kind: str, body: bytes) -> bytes:
    return kind.encode() + struct.pack(">I", len(body) + 4) + body


def _query(talk: Connection, chance: random.Random) -> None:
    """Select some rows by a key."""
    columns = [(chance.choice(WORDS), *chance.choice(_TYPES)) for _ in range(chance.randint(2, 6))]
    names = ", ".join(name for name, _, _ in columns)
    before = f"SELECT {names} FROM {chance.choice(WORDS)} WHERE token = '".encode()
    behind = f"' ORDER BY {columns[0][0]} LIMIT {chance.choice((10, 20, 50))}\0".encode()
    size = 4 + len(before) + _LITERAL + len(behind)
    key = Slot("literal", hexadecimal(chance, _LITERAL))
    talk.send(CLIENT, struct.pack(">cI", b"Q", size) + before, key, behind)
    talk.wait(chance.uniform(0.0005, 0.1))
    table = chance.randrange(16_384, 90_000)
    heads = (
        name.encode() + b"\0" + struct.pack(">IHIhiH", table, number, kind, width, -1, 0)
        for number, (name, kind, width) in enumerate(columns, 1)
    )
    count = int(1.5 * 20 ** chance.random())
    talk.send(
        SERVER,
        _message("T", struct.pack(">H", len(columns)) + b"".join(heads)),
        *(_message("D", _row(chance, columns)) for _ in range(count)),
        _message("C", f"SELECT {count}\0".encode()),
        _READY,
    )


def _row(chance: random.Random, columns: list[tuple[str, int, int]]) -> bytes:
    """Return a row's values, as text."""
    values = []
    for _, _, width in columns:
        if chance.random() < 0.05:
            values.append(struct.pack(">i", -1))  # null
            continue
        value = str(chance.randrange(10**6)) if width == 4 else words(chance, chance.randint(1, 6))
        values.append(struct.pack(">i", len(value)) + value.encode())
    return struct.pack(">H", len(columns)) + b"".join(values)
