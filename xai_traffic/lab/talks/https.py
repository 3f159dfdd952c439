"""Pages over TLS 1.3."""

from __future__ import annotations

import random
import struct

from xai_traffic.lab.packets import CLIENT, SERVER, Connection, Slot
from xai_traffic.lab.talks.fillers import host_name, think, words

LABEL = 12
"""Bytes of the slot "sni", the first label of the server's name."""

_CHANGE_CIPHER_SPEC = bytes.fromhex("140303000101")
_RECORD = 16_384
_PROGRAMS = (  # cipher suites and protocols that a program offers: a browser, a tool
    ("130113031302c02bc02fcca9cca8c02cc030c00ac009c013c014009c009d002f0035", (b"h2", b"http/1.1")),
    ("130113021303c02bc02fc02cc030cca9cca8c013c014009c009d002f0035", (b"h2", b"http/1.1")),
    ("130213031301c02cc030cca9cca8c02bc02fc024c028c023c027", (b"http/1.1",)),
)
_SIGNATURES = "040308040401050308050501080606010201"
_GROUPS = "001d00170018"


def https(talk: Connection, chance: random.Random) -> None:
    """Fetch a few pages over one connection (RFC 8446); what is sealed is random bytes."""
    suites, protocols = chance.choice(_PROGRAMS)
    label = words(chance, 3, "-")[: LABEL - 1].encode() + b"s"
    domain = host_name(chance).encode()
    number = chance.randbytes(32)
    talk.open()
    talk.send(CLIENT, *_client_hello(chance, (label, domain), number, suites, protocols))
    talk.wait(chance.uniform(0.0005, 0.01))
    suite = bytes.fromhex(suites[: 4 * 3])[2 * chance.randrange(3) :][:2]
    # the rest of the server's handshake: extensions, certificate, its proof, and the end
    sealed = [chance.randint(28, 60), chance.randint(1800, 3600), chance.randint(96, 300), 53]
    talk.send(
        SERVER,
        _server_hello(chance, number, suite),
        _CHANGE_CIPHER_SPEC,
        *(part for size in sealed for part in _record(chance, size)),
    )
    talk.wait(chance.uniform(0.0005, 0.004))
    talk.send(CLIENT, _CHANGE_CIPHER_SPEC, *_record(chance, 53))
    if chance.random() < 0.7:  # tickets
        talk.send(SERVER, *_record(chance, 250), *_record(chance, 250))
    for _ in range(chance.randint(1, 3)):
        talk.send(CLIENT, *_record(chance, int(80 * 6 ** chance.random())))
        talk.wait(chance.uniform(0.004, 0.2))
        talk.send(SERVER, *_record(chance, int(200 * 50 ** chance.random())))
        think(talk, chance)
    talk.send(CLIENT, *_record(chance, 19))  # close_notify
    talk.close()


def _record(chance: random.Random, size: int) -> tuple[bytes, Slot]:
    """Return a record of application data."""
    size = min(size, _RECORD)
    head = struct.pack(">BHH", 23, 0x0303, size)
    return head, Slot("sealed", chance.randbytes(size), "tls.app_data")


def _extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">HH", kind, len(data)) + data


def _sized(data: bytes, size: int = 2) -> bytes:
    return len(data).to_bytes(size, "big") + data


def _client_hello(
    chance: random.Random,
    name: tuple[bytes, bytes],
    number: bytes,
    suites: str,
    protocols: tuple[bytes, ...],
) -> tuple[bytes | Slot, ...]:
    """Return a ClientHello; the server's name comes first, so that a tile holds it."""
    label, domain = name
    size = LABEL + 1 + len(domain)
    behind = b"".join(
        (
            b"." + domain,
            _extension(23, b""),  # extended_master_secret
            _extension(65281, b"\0"),  # renegotiation_info
            _extension(10, _sized(bytes.fromhex(_GROUPS))),
            _extension(11, b"\x01\x00"),
            _extension(13, _sized(bytes.fromhex(_SIGNATURES))),
            _extension(16, _sized(b"".join(_sized(each, 1) for each in protocols))),
            _extension(43, b"\x04\x03\x04\x03\x03"),
            _extension(45, b"\x01\x01"),
            _extension(51, _sized(b"\x00\x1d" + _sized(chance.randbytes(32)))),
        )
    )
    server_name = struct.pack(">HHHBH", 0, size + 5, size + 3, 0, size)
    extensions = len(server_name) + LABEL + len(behind)
    before = b"\x20" + number + _sized(bytes.fromhex(suites)) + b"\x01\x00"
    before += struct.pack(">H", extensions) + server_name
    body = 2 + 32 + len(before) + LABEL + len(behind)
    return (
        struct.pack(">BHHB", 22, 0x0301, body + 4, 1) + body.to_bytes(3, "big") + b"\x03\x03",
        Slot("random", chance.randbytes(32), "tls.handshake.random"),
        before,
        Slot("sni", label, "tls.handshake.extensions_server_name"),
        behind,
    )


def _server_hello(chance: random.Random, number: bytes, suite: bytes) -> bytes:
    """Return a ServerHello with the client's session number, as RFC 8446 asks."""
    share = b"\x00\x1d" + _sized(chance.randbytes(32))
    extensions = _extension(51, share) + _extension(43, b"\x03\x04")
    body = b"\x03\x03" + chance.randbytes(32) + _sized(number, 1) + suite + b"\0"
    body += _sized(extensions)
    return struct.pack(">BHHB", 22, 0x0303, len(body) + 4, 2) + _sized(body, 3)
