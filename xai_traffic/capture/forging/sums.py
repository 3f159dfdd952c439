"""Checksums that `repair` cannot carry forward: what they cover is hidden, or not in the tile.

They cover addresses and ports of the session, which its row has: so a checksum that a mask leaves
to be seen tells of the new addresses as it told of the old ones.

A sender that leaves its checksums to the network card puts the sum of the pseudo-header alone where
the checksum goes, and a capture on that host sees it. Source: Linux, Documentation/networking/
checksum-offloads.rst.
"""

from __future__ import annotations

import numpy as np

from xai_traffic.capture.checksums import ABSENT, renewed, write_words
from xai_traffic.capture.forging.endpoints import Endpoints
from xai_traffic.capture.forging.headers import Headers
from xai_traffic.capture.records import FRAGMENT, ICMP6, TCP, UDP

_PLACES = {TCP: 16, UDP: 6, ICMP6: 2}


def carry_unseen(
    tiles: np.ndarray,
    view: Headers,
    ends: Endpoints,
    addresses: np.ndarray,
    ports: np.ndarray,
) -> None:
    """Add to checksums what changed out of sight, in place.

    Args:
        addresses, ports: bool [n], they changed and are not seen in the tile.
    """
    delta = np.where(addresses & (ends.family > 0), _sum(ends.new_addresses, ends.addresses), 0)
    four = view.version == 4
    _carry(tiles, np.where(four, view.network + 10, ABSENT), view, delta, np.zeros_like(four))
    moved = (ends.new_ports - ends.ports).astype(np.int64).sum(1)
    delta = delta + np.where(ports & np.isin(view.protocol, (TCP, UDP)), moved, 0)
    _carry(tiles, _transport_sums(view), view, delta, view.protocol == UDP)


def left_to_card(view: Headers, ends: Endpoints) -> tuple[np.ndarray, np.ndarray]:
    """Return which checksums are the sum of a pseudo-header and no more, and which could be.

    Each bool [n]. One right checksum in 65,536 looks so too.
    """
    pseudo, known = _pseudo_sums(view, ends.addresses, ends.family)
    return known & (view.number(_transport_sums(view), 2) == pseudo), known


def leave_to_card(
    tiles: np.ndarray, view: Headers, ends: Endpoints, addresses: np.ndarray, where: np.ndarray
) -> None:
    """Write the sum of the pseudo-header over the checksums of some packets, in place.

    Args:
        addresses: uint8 [n, 2, 16], those that the packets have now.
        where: bool [n].
    """
    pseudo, known = _pseudo_sums(view, addresses, ends.family)
    (rows,) = np.nonzero(where & known)
    write_words(tiles, rows, _transport_sums(view)[rows], pseudo[rows])


def _transport_sums(view: Headers) -> np.ndarray:
    """Return the offset of each TCP, UDP or ICMPv6 checksum, ABSENT where the tile has none."""
    field = np.full_like(view.transport, ABSENT)
    for protocol, place in _PLACES.items():
        field = np.where(view.protocol == protocol, view.transport + place, field)
    return np.where(field + 2 <= view.length, field, ABSENT)


def _pseudo_sums(
    view: Headers, addresses: np.ndarray, family: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (folded sums int64 [n], whether a card would be left with such a packet)."""
    four = view.version == 4
    total = view.number(view.network + np.where(four, 2, 4), 2) + np.where(four, 0, 40)
    size = total - (view.transport - view.network)
    known = (family == view.version) & (view.version > 0) & (size > 0) & (view.rows["depth"] == 0)
    known &= np.isin(view.protocol, (TCP, UDP)) & (view.rows["flags"] & FRAGMENT == 0)
    field = _transport_sums(view)
    known &= (field < ABSENT) & ~((view.protocol == UDP) & (view.number(field, 2) == 0))
    sums = _word_sums(addresses) + view.protocol + np.where(known, size, 0)
    for _ in range(2):
        sums = (sums & 0xFFFF) + (sums >> 16)
    return sums, known


def _carry(
    tiles: np.ndarray, field: np.ndarray, view: Headers, delta: np.ndarray, udp: np.ndarray
) -> None:
    (rows,) = np.nonzero((delta != 0) & (field + 2 <= view.length))
    at, udp = field[rows], udp[rows]
    words = tiles[rows, at].astype(np.int64) << 8 | tiles[rows, at + 1]
    write_words(tiles, rows, at, renewed(words, delta[rows], udp))


def _sum(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    return _word_sums(new) - _word_sums(old)


def _word_sums(addresses: np.ndarray) -> np.ndarray:
    """Return int64 [n], the sum of the 16-bit words of uint8 [n, 2, 16]."""
    words = addresses.reshape(len(addresses), -1, 2).astype(np.int64)
    return (words[..., 0] << 8 | words[..., 1]).sum(1)
