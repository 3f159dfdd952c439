"""Pseudonyms of addresses and host names: stable, of the same length, not to be turned back.

A pseudonym is drawn from a keyed hash (HMAC-SHA-256) of what it stands for, so without the key
no dictionary of addresses or names finds the original. The key is random unless one is given:
then other reports under it have the same pseudonyms.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import pathlib
import re
import secrets
import string

from xai_traffic.errors import RunError

SHORTEST_KEY = 16
"""Bytes a key must have: a shorter one could be guessed."""

_LETTERS = string.ascii_lowercase
_SIGNS = _LETTERS + string.digits
_RUN = re.compile(rb"[0-9A-Za-z\x80-\xff]+")
_MOST_TRIES = 64
_NETWORK = bytes.fromhex("20010db8")  # for documentation (RFC 3849): nobody's address


def read_key(path: pathlib.Path) -> bytes:
    """Read a key of any bytes from a file.

    Raises:
        RunError: it cannot be read, or is too short to keep anything secret.
    """
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise RunError(f"the key {path} cannot be read: {error.strerror}") from error
    if len(key) < SHORTEST_KEY:
        raise RunError(
            f"the key {path} has {len(key)} bytes, and needs {SHORTEST_KEY} or more: make one with "
            "`head -c 32 /dev/urandom | base64`"
        )
    return key


class Pseudonyms:
    """The pseudonyms of one report; no two originals share one while there are enough of them.

    Args:
        key: secret; None for a random one.
    """

    def __init__(self, key: bytes | None = None):
        self._key = key or secrets.token_bytes(32)
        self._known: dict[tuple[str, bytes], bytes] = {}
        self._used: set[tuple[str, bytes]] = set()

    def address(self, raw: bytes) -> bytes:
        """Return the pseudonym of an IPv4, IPv6 or MAC address of 4, 16 or 6 bytes.

        IPv4 addresses come to lie in 240.0.0.0/4, IPv6 in 2001:db8::/32, MAC addresses are locally
        administered: none of them is anybody's. What names no host stays as it is: unspecified,
        loopback, broadcast and multicast, but for the part of it that repeats an address. Bytes of
        another number, which the capture cuts, become other bytes.
        """
        kind = {4: self._four, 16: self._six, 6: self._hardware}.get(len(raw))
        if kind:
            return kind(raw)
        return self._drawn("bytes", raw, lambda digest: digest[: len(raw)])

    def address_text(self, text: str) -> str:
        """Return the pseudonym of an address in words; of what is none, that of a name."""
        try:
            raw = ipaddress.ip_address(text).packed
        except ValueError:
            raw = text.encode("utf-8", "surrogateescape")
            return self.name(raw).decode("utf-8", "surrogateescape")
        return str(ipaddress.ip_address(self.address(raw)))

    def name(self, raw: bytes) -> bytes:
        """Return the pseudonym of a name, of as many bytes, whatever parts it kept in place.

        Each run of letters and digits has its own, a letter first, so a name within another one
        (`example.org` in `www.example.org`) stays recognisable as such. Case does not matter.
        """
        return _RUN.sub(lambda run: self._run(run[0].lower()), raw)

    def _run(self, raw: bytes) -> bytes:
        def letters(digest: bytes) -> bytes:
            drawn = int.from_bytes(hashlib.shake_128(digest).digest(len(raw) + 8), "big")
            signs = []
            for place in range(len(raw)):
                alphabet = _SIGNS if place else _LETTERS
                drawn, number = divmod(drawn, len(alphabet))
                signs.append(alphabet[number])
            return "".join(signs).encode("ascii")

        return self._drawn(f"name {len(raw)}", raw, letters)

    def _four(self, raw: bytes) -> bytes:
        address = ipaddress.IPv4Address(raw)
        if address.is_unspecified or address.is_loopback or address.is_multicast:
            return raw
        if raw == b"\xff" * 4:
            return raw
        return self._drawn("4", raw, lambda digest: bytes([240 | digest[0] & 15]) + digest[1:4])

    def _six(self, raw: bytes) -> bytes:
        address = ipaddress.IPv6Address(raw)
        if address.ipv4_mapped:
            return raw[:12] + self._four(raw[12:])
        # A group within the well-known ones; others carry a network or the end of an address.
        group = address.is_multicast and not any(raw[2:12])
        if address.is_unspecified or address.is_loopback or group:
            return raw
        if address.is_multicast:
            kept = 13 if raw[2:13] == bytes(9) + b"\1\xff" else 2
            tail = self._drawn("6 group", raw, lambda digest: digest[: 16 - kept])
            return raw[:kept] + tail
        return self._drawn("6", raw, lambda digest: _NETWORK + digest[:12])

    def _hardware(self, raw: bytes) -> bytes:
        if raw[:3] == b"\x33\x33\xff":  # the group of a neighbour solicitation
            return raw[:3] + self._drawn("mac group", raw[3:], lambda digest: digest[:3])
        if raw[0] & 1 or not any(raw):
            return raw
        return self._drawn("mac", raw, lambda digest: b"\2" + digest[:5])

    def _drawn(self, kind: str, raw: bytes, made) -> bytes:
        known = self._known.get((kind, raw))
        if known is not None:
            return known
        for attempt in range(_MOST_TRIES):
            said = f"{kind}\0{attempt}\0".encode() + raw
            found = made(hmac.digest(self._key, said, "sha256"))
            if (kind, found) not in self._used:
                break
        self._used.add((kind, found))
        self._known[kind, raw] = found
        return found
