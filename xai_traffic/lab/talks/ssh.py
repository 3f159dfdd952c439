"""Logins and typing over SSH."""

from __future__ import annotations

import random
import struct

from xai_traffic.lab.packets import CLIENT, SERVER, Connection, Slot
from xai_traffic.lab.talks.fillers import think

_CLIENTS = ("OpenSSH_9.6p1 Ubuntu-3ubuntu13", "OpenSSH_9.2p1 Debian-2+deb12u2", "OpenSSH_9.7")
_SERVERS = ("OpenSSH_9.2p1 Debian-2+deb12u2", "OpenSSH_8.9p1 Ubuntu-3ubuntu0.7")
_EXCHANGES = "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256"
_KEYS = "ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-512,rsa-sha2-256"
_CIPHERS = "chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr,aes128-gcm@openssh.com"
_CODES = "umac-64-etm@openssh.com,hmac-sha2-256-etm@openssh.com,hmac-sha2-256"
_KEXINIT, _NEWKEYS, _ECDH_INIT, _ECDH_REPLY = 20, 21, 30, 31
_TAG = 16 + 4  # bytes of a sealed packet's code, and of its length


def ssh(talk: Connection, chance: random.Random) -> None:
    """Log in and type some commands (RFC 4253, RFC 8731); what is sealed is random bytes."""
    talk.open()
    talk.send(SERVER, f"SSH-2.0-{chance.choice(_SERVERS)}\r\n".encode())
    talk.send(CLIENT, f"SSH-2.0-{chance.choice(_CLIENTS)}\r\n".encode())
    talk.send(CLIENT, *_lists(chance, "ext-info-c"))
    talk.send(SERVER, *_lists(chance, "kex-strict-s-v00@openssh.com"))
    talk.send(CLIENT, _packet(_ECDH_INIT, _string(chance.randbytes(32))))
    key = _string(b"ssh-ed25519") + _string(chance.randbytes(32))
    proof = _string(b"ssh-ed25519") + _string(chance.randbytes(64))
    reply = _string(key) + _string(chance.randbytes(32)) + _string(proof)
    talk.wait(chance.uniform(0.001, 0.008))
    talk.send(
        SERVER,
        _packet(_ECDH_REPLY, reply),
        _packet(_NEWKEYS, b""),
        _sealed(chance, 288),  # extensions
    )
    talk.send(CLIENT, _packet(_NEWKEYS, b""))
    # service, the question which ways to log in there are, the key or password, the terminal
    for asked, answered in ((24, 24), (48, 56), (chance.choice((128, 352)), 16), (96, 480)):
        talk.send(CLIENT, _sealed(chance, asked), answered=True)
        talk.wait(chance.uniform(0.001, 0.035))
        talk.send(SERVER, _sealed(chance, answered))
    think(talk, chance)
    for _ in range(chance.randint(2, 7)):
        talk.send(CLIENT, _sealed(chance, 16), answered=True)
        talk.send(SERVER, _sealed(chance, 16))
        talk.wait(max(0.02, chance.lognormvariate(-1.9, 0.5)))  # between two keys: 150 ms
    talk.send(SERVER, _sealed(chance, 8 * int(6 * 60 ** chance.random())))
    think(talk, chance)
    talk.send(CLIENT, _sealed(chance, 24))
    talk.close()


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _padding(size: int) -> int:
    """Return the padding bytes that make a packet's length a multiple of eight (RFC 4253)."""
    return 4 + -(5 + size + 4) % 8


def _packet(kind: int, data: bytes) -> bytes:
    """Return a packet in the clear."""
    padding = _padding(1 + len(data))
    head = struct.pack(">IBB", 2 + len(data) + padding, padding, kind)
    return head + data + bytes(padding)


def _sealed(chance: random.Random, size: int) -> Slot:
    """Return an encrypted packet of `size` bytes, its length and code not counted."""
    return Slot("sealed", chance.randbytes(size + _TAG))


def _lists(chance: random.Random, extension: str) -> tuple[bytes | Slot, ...]:
    """Return KEXINIT: a cookie, and what the sender can do."""
    lists = [f"{_EXCHANGES},{extension}", _KEYS, _CIPHERS, _CIPHERS, _CODES, _CODES]
    lists += ["none,zlib@openssh.com"] * 2 + ["", ""]
    behind = b"".join(_string(each.encode()) for each in lists) + bytes(5)
    padding = _padding(17 + len(behind))
    head = struct.pack(">IBB", 18 + len(behind) + padding, padding, _KEXINIT)
    return head, Slot("cookie", chance.randbytes(16)), behind + bytes(padding)
