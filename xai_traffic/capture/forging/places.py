"""Where addresses stand in packets: those of the session's own headers, around them, and quoted."""

from __future__ import annotations

import numpy as np

from xai_traffic.capture.checksums import ABSENT, Cover
from xai_traffic.capture.core_numpy.shims import MAX_TAGS, VLAN_TAGS
from xai_traffic.capture.fields import header_fields
from xai_traffic.capture.fields.masks import ADDRESSES
from xai_traffic.capture.forging.headers import Headers
from xai_traffic.capture.records import ICMP, ICMP6, TCP, UDP

_ETHERNET, _SLL, _SLL2 = 1, 113, 276
_SIZES = {0: 4, 108: 4, 104: 4, _SLL: 16, _SLL2: 20}
"""Link layers of which all is known without their names: where IP begins."""

_ERRORS = {ICMP: (3, 4, 5, 11, 12), ICMP6: (1, 2, 3, 4)}
"""Types of ICMP messages that quote a packet, 8 bytes behind their beginning."""

Places = tuple[np.ndarray, np.ndarray, int]
"""Packets int [m], offsets in their tiles int [m], bytes of the address."""


def own_addresses(view: Headers) -> list[Places]:
    """Return the addresses of the IP headers that make the session."""
    return _ip_addresses(view, view.network, view.version)


def link_addresses(view: Headers) -> list[Places]:
    """Return the MAC addresses of Ethernet and Linux cooked headers."""
    link, start, before = view.rows["link"], np.zeros_like(view.network), view.network < ABSENT
    ethernet = (link == _ETHERNET) & before & (view.network >= 14)
    found = [_places(view, start, 6, ethernet), _places(view, start + 6, 6, ethernet)]
    for kind, size, at in ((_SLL, 4, 6), (_SLL2, 11, 12)):
        cooked = (link == kind) & before & (view.network >= _SIZES[kind])
        number = view.number(start + size, 2 if kind == _SLL else 1)
        found.append(_places(view, start + at, 6, cooked & (number == 6)))
    return found


def other_addresses(view: Headers) -> list[Places]:
    """Return the addresses of tunnels, wireless links, options and extension headers, by name."""
    found: dict[int, list[tuple[int, int]]] = {4: [], 6: [], 16: []}
    for row in np.flatnonzero(_unusual(view)).tolist():
        data, places = view.tiles[row, : view.length[row]].tobytes(), view.rows[row]
        for field in header_fields(data, places, int(places["link"]), int(places["depth"])):
            size = field.end - field.start
            if field.name in ADDRESSES and size in found:
                found[size].append((row, field.start))
    return [(*np.array(pairs).T, size) for size, pairs in found.items() if pairs]


def quoted_headers(view: Headers) -> tuple[list[Places], tuple[Cover, ...]]:
    """Return the addresses that ICMP errors quote, and the checksums quoted with them."""
    kind, quotes = view.number(view.transport, 1), np.zeros(len(view.length), bool)
    for protocol, kinds in _ERRORS.items():
        quotes |= (view.protocol == protocol) & np.isin(kind, kinds)
    quotes &= view.transport + 28 <= view.length
    if not quotes.any():
        return [], ()
    at = np.where(quotes, view.transport + 8, ABSENT)
    first = view.number(at, 1)
    four, six = first >> 4 == 4, first >> 4 == 6
    size = np.where(four, (first & 15) * 4, 40)
    inner = view.number(at + np.where(four, 9, 6), 1)
    later = four & (view.number(at + 6, 2) & 0x1FFF != 0)
    place = np.where(inner == TCP, 16, np.where(inner == UDP, 6, ABSENT))
    there = (four | six) & (size >= 20) & ~later & (place < ABSENT)
    transport = np.where(there, at + size, ABSENT)
    never, none = np.zeros(len(at), bool), np.full(len(at), ABSENT)
    return _ip_addresses(view, at, np.where(four, 4, np.where(six, 6, 0))), (
        _cover(
            view,
            np.minimum(transport + place, ABSENT),
            transport,
            view.length,
            at + np.where(four, 12, 8),
            at + np.where(four, 20, 40),
            inner == UDP,
        ),
        _cover(
            view, np.where(four & (size >= 20), at + 10, ABSENT), at, at + size, none, none, never
        ),
    )


def _cover(view: Headers, field, start, stop, addresses, behind, udp) -> Cover:
    """Return the checksum, ABSENT where the tile cuts it."""
    field = np.where(field + 2 <= view.length, field, ABSENT)
    stop = np.minimum(stop, view.length)
    return Cover(field, start, stop, addresses, behind, np.zeros(len(field), bool), udp)


def _ip_addresses(view: Headers, network: np.ndarray, version: np.ndarray) -> list[Places]:
    return [
        _places(view, network + at, size, version == family)
        for family, size, ends in ((4, 4, (12, 16)), (6, 16, (8, 24)))
        for at in ends
    ]


def _places(view: Headers, offset: np.ndarray, size: int, where: np.ndarray) -> Places:
    """Return those that the tile has wholly."""
    (rows,) = np.nonzero(where & (offset + size <= view.length))
    return rows, offset[rows], size


def _unusual(view: Headers) -> np.ndarray:
    """Return bool [n]: packets with headers beside a plain link header and a bare IP header."""
    link, network = view.rows["link"], view.network
    usual = np.zeros_like(network)
    for kind, size in _SIZES.items():
        usual[link == kind] = size
    usual[link == _ETHERNET] = 14
    tagged = link == _ETHERNET
    for _ in range(MAX_TAGS):
        tagged = tagged & (usual < network) & np.isin(view.number(usual - 2, 2), VLAN_TAGS)
        usual = usual + 4 * tagged
    around = (network > 0) & ((view.rows["depth"] > 0) | (network != usual))
    header = np.minimum(view.transport, view.payload) - network
    long = header > np.where(view.version == 4, 20, 40)
    return (network < ABSENT) & (around | long)


def unplaced(view: Headers, veil: np.ndarray | None) -> np.ndarray:
    """Return bool [n]: the tile has not both addresses of the session's header to be seen."""
    size = np.where(view.version == 4, 20, 40)
    seen = (view.version > 0) & (view.network + size <= view.length)
    if veil is not None:
        at = np.where(seen, view.network + np.where(view.version == 4, 12, 8), 0)
        seen &= ~veil[np.arange(len(at)), at]
    return ~seen
