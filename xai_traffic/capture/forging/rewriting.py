"""Write what a new network does to packets, one function a family; checksums come afterwards.

Sources: RFC 9293 (TCP), RFC 7323 (time stamps), RFC 2018 and RFC 2883 (selective acknowledgement).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from xai_traffic.capture.forging.addresses import map_addresses
from xai_traffic.capture.forging.endpoints import Endpoints
from xai_traffic.capture.forging.headers import ACK, RST, Headers, write_number
from xai_traffic.capture.forging.places import Places
from xai_traffic.capture.records import ICMP6, TCP, UDP

_SACK, _TIME_STAMPS, _EDGES = 5, 8, 8
_RANGE = 32
"""Hops below an initial time to live: systems begin with 32, 64, 128 or 255."""


def write_addresses(
    changed: np.ndarray, view: Headers, places: Iterable[Places], seed: int
) -> None:
    """Put the new address over each old one, in place."""
    for rows, at, size in places:
        if len(rows):
            octets = at[:, None] + np.arange(size)
            old = view.tiles[rows[:, None], octets]
            changed[rows[:, None], octets] = map_addresses(old, seed)


def write_ports(changed: np.ndarray, view: Headers, ends: Endpoints) -> None:
    """Put the session's new ports over its old ones, in place; others stay."""
    every, direction = np.arange(len(changed)), view.direction
    known = np.isin(view.protocol, (TCP, UDP)) & (view.transport + 4 <= view.length)
    sides = (direction, 1 - direction)
    fits = known.copy()
    for place, side in enumerate(sides):
        fits &= view.number(view.transport + 2 * place, 2) == ends.ports[every, side]
    for place, side in enumerate(sides):
        write_number(changed, fits, view.transport + 2 * place, 2, ends.new_ports[every, side])


def write_times(changed: np.ndarray, view: Headers, ends: Endpoints) -> None:
    """Set the clocks of both hosts ahead in the TCP option, in place.

    Without the flag ACK the echo means nothing and stays.
    """
    every, direction, echoes = np.arange(len(changed)), view.direction, view.flag(ACK)
    own, others = ends.clocks[every, direction], ends.clocks[every, 1 - direction]
    for at, kind, size in view.tcp_options():
        stamped = (kind == _TIME_STAMPS) & (size == 10)
        _add(changed, view, stamped, at + 2, own)
        _add(changed, view, stamped & echoes, at + 6, others)


def write_sequence(changed: np.ndarray, view: Headers, ends: Endpoints) -> None:
    """Let both directions count from other numbers: seq, ack and SACK edges, in place.

    What refuses a SYN has the number 0 (RFC 9293, 3.10.7.1) and keeps it.
    """
    every, direction = np.arange(len(changed)), view.direction
    own, others = ends.offsets[every, direction], ends.offsets[every, 1 - direction]
    refuses = view.flag(RST) & (view.number(view.transport + 4, 4) == 0)
    _add(changed, view, view.tcp(4, 4) & ~refuses, view.transport + 4, own)
    _add(changed, view, view.tcp(8, 4) & view.flag(ACK), view.transport + 8, others)
    for at, kind, size in view.tcp_options():
        for edge in range(_EDGES):
            inside = (kind == _SACK) & (2 + 4 * edge + 4 <= size)
            _add(changed, view, inside, at + 2 + 4 * edge, others)


def write_ttl(changed: np.ndarray, view: Headers, ends: Endpoints) -> None:
    """Move the sender by some hops, within 32 of the same initial time to live, in place.

    What must not be routed stays: 0 and 1, packets to groups, link-local IPv6, and the 255 by which
    ICMPv6 knows its neighbours (RFC 4861).
    """
    four, six = view.version == 4, view.version == 6
    at = view.network + np.where(four, 8, 7)
    old = view.number(at, 1)
    target = view.number(view.network + np.where(four, 16, 24), 1)
    source = view.number(view.network + 8, 2) & 0xFFC0
    stays = (four & (target >= 224)) | (six & ((target == 0xFF) | (source == 0xFE80)))
    stays |= (view.protocol == ICMP6) & (old == 255)
    low = (old - 1) // _RANGE * _RANGE + 1
    high = np.minimum(low + _RANGE, 256)
    low = np.maximum(low, 2)
    steps = ends.hops[np.arange(len(changed)), view.direction]
    new = low + (old - low - steps) % (high - low)
    write_number(changed, (view.version > 0) & (old > 1) & ~stays, at, 1, new)


def _add(changed: np.ndarray, view: Headers, where: np.ndarray, at: np.ndarray, added) -> None:
    """Add modulo 2^32 to the numbers of four bytes at some rows' offsets."""
    where = where & (at + 4 <= view.length)
    write_number(changed, where, at, 4, view.number(at, 4) + added.astype(np.int64) & 0xFFFFFFFF)
