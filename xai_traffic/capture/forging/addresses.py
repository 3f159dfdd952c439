"""New addresses for old ones: the same one for the same host, in every session and header.

Octets that two addresses have in common at their beginning stay common (but for the first one of
an IPv4 address, which alone names no network), and addresses that differ stay different; of MAC
addresses that is true but for one chance in 16 million. This is for tests of models: it does not
hide who is who.

    IPv4    loopback, 0.0.0.0/8, multicast, reserved and broadcast stay; private addresses stay in
            their block, shared (100.64/10), link-local and benchmark ones too; the networks of
            documentation change their hosts only. An octet of the host that is 0 or 255 stays, so
            that the broadcast of a /24 does.
    IPv6    multicast, loopback and the like stay; the first two octets of global addresses, the
            first one of unique local ones and the first eight of link-local ones stay. Octets that
            are 0 stay 0. Of an identifier made of a MAC address (EUI-64) that address is mapped,
            and an IPv4 address in an IPv6 one (mapped, NAT64, 6to4, Teredo) as such.
    MAC     the vendor changes; groups, zeros, and that an address is locally administered, stay.

Sources: IANA's registries of special addresses (RFC 6890), RFC 4291, RFC 3056, RFC 4380, RFC 6052.
"""

from __future__ import annotations

import functools

import numpy as np

from xai_traffic.capture.forging.chance import draw, generator, octet_keys

VENDORS = bytes.fromhex(
    "00000c 000255 000393 000496 000585 00090f 000c29 000db9 001018 001422 00155d 00163e 001a4b "
    "001b21 001c73 001d09 0023ae 002590 005056 006008 009027 00a0c9 00e04c 3cd92b b827eb f8bc12"
)
"""MAC prefixes of vendors that are met often, of IEEE's list; 3 bytes each."""

_OUIS = np.frombuffer(VENDORS, np.uint8).reshape(-1, 3)
_MIXED = {
    100: [range(64, 128)],
    169: [range(254, 255)],
    172: [range(16, 32)],
    192: [range(0, 1), range(88, 89), range(168, 169)],
    198: [range(18, 20), range(51, 52)],
    203: [range(0, 1)],
}
"""First octets of both special and usual addresses: the second octets of the special ones."""

_NAMED = ((192, 0), (192, 88), (198, 51), (203, 0))
"""/16s with a /24 of a meaning of its own (documentation, 6to4 relays): the third octet stays."""

_KEPT_FIRST = {0, 127}
_PRIVATE = 10
_EMBEDDED = (
    (bytes(10) + b"\xff\xff", 12, 0),
    (bytes.fromhex("0064ff9b") + bytes(8), 12, 0),
    (bytes.fromhex("2002"), 2, 0),
    (bytes.fromhex("20010000"), 4, 0),
    (bytes.fromhex("20010000"), 12, 255),
)
"""Beginnings of IPv6 addresses that have an IPv4 address in them: where, and which bits turned."""


def map_ip4(addresses: np.ndarray, seed: int) -> np.ndarray:
    """Return the new address of each IPv4 address, uint8 [n, 4]."""
    old, new = addresses, addresses.copy()
    firsts, seconds = _tables(seed)
    moves = (old[:, 0] < 224) & ~np.isin(old[:, 0], list(_KEPT_FIRST))
    new[moves, 0] = firsts[old[moves, 0]]
    new[moves, 1] = seconds[old[moves, 0], old[moves, 1]]
    named = np.zeros(len(old), bool)
    for first, second in _NAMED:
        named |= (old[:, 0] == first) & (old[:, 1] == second)
    third = moves & ~named
    new[third, 2] = _turned(old, 2, 0, 256, seed, "ip4")[third]
    fourth = moves & (old[:, 3] != 0) & (old[:, 3] != 255)
    new[fourth, 3] = _turned(old, 3, 1, 255, seed, "ip4")[fourth]
    return new


def map_ip6(addresses: np.ndarray, seed: int) -> np.ndarray:
    """Return the new address of each IPv6 address, uint8 [n, 16]."""
    old, new = addresses, addresses.copy()
    stays = (old[:, 0] == 0xFF) | ~old[:, :8].any(1)
    kept = np.full(len(old), 2)
    kept[(old[:, 0] & 0xFE) == 0xFC] = 1
    kept[(old[:, 0] == 0xFE) & (old[:, 1] & 0xC0 == 0x80)] = 8
    registry = (old[:, 0] == 0x20) & (old[:, 1] == 0x01)
    special = registry & (old[:, 2] < 0x10)
    kept[special] = 4
    inside = [
        (old[:, : len(head)] == np.frombuffer(head, np.uint8)).all(1) for head, _, _ in _EMBEDDED
    ]
    kept[inside[0] | inside[1]], kept[inside[2]], kept[inside[3]] = 16, 6, 16
    made_of_mac = (old[:, 11] == 0xFF) & (old[:, 12] == 0xFE)
    for place in range(1, 16):
        moves = ~stays & (place >= kept) & (old[:, place] != 0) & ~(made_of_mac & (place >= 8))
        if place == 2:  # none of them may become one of IANA's special ones
            upper = moves & registry
            new[upper, 2] = _turned(old, 2, 0x10, 256, seed, "ip6")[upper]
            moves &= ~registry
        new[moves, place] = _turned(old, place, 1, 256, seed, "ip6")[moves]
    macs = ~stays & made_of_mac & (kept <= 8)
    new[macs, 8:] = _identifiers(old[macs, 8:], seed)
    for found, (_, at, turned) in zip(inside, _EMBEDDED, strict=True):
        four = old[found, at : at + 4] ^ np.uint8(turned)
        new[found, at : at + 4] = map_ip4(four, seed) ^ np.uint8(turned)
    return new


def map_mac(addresses: np.ndarray, seed: int) -> np.ndarray:
    """Return the new address of each MAC address, uint8 [n, 6]."""
    old, new = addresses, addresses.copy()
    stays = (old[:, 0] & 1 == 1) | ~old.any(1)
    local = old[:, 0] & 2 == 2
    keys = octet_keys(old[:, :3])
    chosen = (draw(seed, "vendor", keys) % np.uint64(len(_OUIS))).astype(int)
    chosen = np.where((_OUIS[chosen] == old[:, :3]).all(1), (chosen + 1) % len(_OUIS), chosen)
    vendors = ~stays & ~local
    new[vendors, :3] = _OUIS[chosen[vendors]]
    for place in range(1, 6):
        moves = ~stays & (local | (place >= 3))
        new[moves, place] = _turned(old, place, 0, 256, seed, "mac")[moves]
    return new


def map_addresses(addresses: np.ndarray, seed: int) -> np.ndarray:
    """Return the new addresses of uint8 [n, 4] (IPv4), [n, 6] (MAC) or [n, 16] (IPv6)."""
    return {4: map_ip4, 6: map_mac, 16: map_ip6}[addresses.shape[1]](addresses, seed)


def _identifiers(identifiers: np.ndarray, seed: int) -> np.ndarray:
    """Return interface identifiers uint8 [n, 8] made of MAC addresses, made of the new ones."""
    bit = np.array([2, 0, 0, 0, 0, 0], np.uint8)
    new = identifiers.copy()
    parts = [0, 1, 2, 5, 6, 7]
    new[:, parts] = map_mac(identifiers[:, parts] ^ bit, seed) ^ bit
    return new


def _turned(
    old: np.ndarray, place: int, low: int, high: int, seed: int, purpose: str
) -> np.ndarray:
    """Return one octet within [low, high) moved round by what the octets before it say, not 0."""
    size = high - low
    keys = octet_keys(old[:, :place])
    steps = 1 + (draw(seed, f"{purpose} {place}", keys) % np.uint64(size - 1)).astype(int)
    return (low + (old[:, place].astype(int) - low + steps) % size).astype(np.uint8)


@functools.lru_cache(8)
def _tables(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return new first octets uint8 [256], and new second ones for each first, uint8 [256, 256]."""
    rng = generator(seed, "ip4 tables")
    firsts, seconds = np.arange(256, dtype=np.uint8), np.empty((256, 256), np.uint8)
    usual = [n for n in range(224) if n not in {*_KEPT_FIRST, *_MIXED, _PRIVATE}]
    _cycle(firsts, np.array(usual), rng)
    for first in range(256):
        special = [list(group) for group in _MIXED.get(first, ())]
        rest = sorted(set(range(256)) - {n for group in special for n in group})
        seconds[first] = np.arange(256)
        for group in (*special, rest):
            _cycle(seconds[first], np.array(group), rng)
    return firsts, seconds


def _cycle(table: np.ndarray, members: np.ndarray, rng: np.random.Generator) -> None:
    """Let each member become the next in one random ring, so that none but a lone one stays."""
    ring = rng.permutation(members)
    table[ring] = np.roll(ring, -1)
