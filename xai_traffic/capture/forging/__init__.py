"""Forge packets as another network would have carried them: a test of what a model rests on.

Every host, connection and clock changes alike in all packets and sessions, so what is forged is
traffic that could have been captured, and says of its sessions what it said before.

    addresses   MAC (another vendor), IPv4 and IPv6 addresses, those of tunnels around and those
                that ICMP errors quote too: see `addresses.py` for what stays.
    ports       the client's TCP or UDP port becomes another one of IANA's dynamic range. Ports of
                services stay: a change of network does not change them. See `endpoints.py`.
    times       each host's clock in TCP time stamps runs ahead by a constant, echoes by that of the
                other host; times of capture move by up to ten years, alike in all of a capture.
    ttl         each sender is 1 to 30 hops elsewhere, within 32 hops of the same initial TTL.
    sequence    each direction counts from another number: seq, the other's ack and SACK edges.
    all         all of these.

Names compose with "+", "none" forges nothing. Checksums are carried forward by what changed (RFC
1624): right ones stay right, wrong ones stay as wrong, a UDP checksum of 0 stays 0. Where an end of
a session left them to its network card, they are the sum of the pseudo-header alone, and stay so.
"offloaded" lets the initiator leave all of its TCP and UDP checksums so, but for fragments and in
tunnels.

What a mask hides stays hidden. A checksum that it does not hide changes with the addresses and
ports of the session's own headers, also where these are hidden or not in the tile; it does not show
a hidden time to live or option, nor hidden addresses of tunnels around.

Left alone: everything that TCP and UDP carry (names, addresses in DNS, FTP or SIP); ports and
numbers that ICMP errors quote, addresses in neighbour discovery; TTL around the session's own
header; ports of SCTP, whose CRC32c covers them; ports of sessions that hold several connections
(rule host_pair); identifications, flow labels, VLANs and identifiers of tunnels; DHCP, multicast
groups made of addresses. Not repaired: checks of link layers, signatures (TCP MD5 and AO, AH), and
transport checksums of packets on a source route, which cover its last hop, of datagrams that are
fragmented within the transport header, and of DCCP, UDP-Lite, OSPF and VRRP over IP addresses.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from xai_traffic.capture.forging.endpoints import Endpoints
from xai_traffic.capture.forging.headers import Headers
from xai_traffic.capture.forging.places import (
    link_addresses,
    other_addresses,
    own_addresses,
    quoted_headers,
    unplaced,
)
from xai_traffic.capture.forging.rewriting import (
    write_addresses,
    write_ports,
    write_sequence,
    write_times,
    write_ttl,
)
from xai_traffic.capture.forging.sums import carry_unseen, leave_to_card, left_to_card
from xai_traffic.capture.masking import hidden, parse_mask
from xai_traffic.capture.repair import plan_repair, repair, rows_of
from xai_traffic.errors import ConfigError

FORGERIES = ("addresses", "ports", "times", "ttl", "sequence")
"""Names of the forgeries, in the order of a canonical name; "all" is all of them."""

CHECKSUMS = ("repaired", "offloaded")

_ETHERNET = 1
_ROWS = 8192  # rows worked on at once: the working arrays stay within some MiB


class Forged(NamedTuple):
    """Packets of the other network.

    Args:
        tiles: uint8 [n, width].
        time_ns: int64 [n], when they were captured.
    """

    tiles: np.ndarray
    time_ns: np.ndarray


def parse_forgery(forgery: str) -> tuple[str, ...]:
    """Return the forgeries that a name like "ports+addresses" is made of, in canonical order.

    "none" gives an empty tuple.

    Raises:
        ConfigError: an unknown name; the message lists the known ones.
    """
    names = [name.strip() for name in forgery.split("+")]
    if names == ["none"]:
        return ()
    for name in names:
        if name not in (*FORGERIES, "all"):
            raise ConfigError(
                f"forgery {forgery!r}: {name!r} is unknown, choose 'none', 'all' or join names of "
                f"{', '.join(FORGERIES)} with '+'"
            )
    return FORGERIES if "all" in names else tuple(name for name in FORGERIES if name in names)


def forgery_name(forgery: str) -> str:
    """Return the canonical spelling, equal for names of the same forgery."""
    names = parse_forgery(forgery)
    return "all" if names == FORGERIES else "+".join(names) or "none"


def forge(
    tiles: np.ndarray,
    packets: Any,
    session: np.ndarray,
    endpoints: Endpoints,
    forgery: str,
    *,
    checksums: str = "repaired",
    mask: str = "none",
) -> Forged:
    """Return packets as the other network of `endpoints` would have carried them.

    Args:
        tiles: uint8 [n, width].
        packets: n packet rows, PACKET array or pyarrow table.
        session: int [n], which of the sessions of `endpoints` each packet is of.
        endpoints: see `endpoints_of`.
        forgery: names joined by "+", see the module.
        checksums: one of CHECKSUMS.
        mask: what is hidden in the tiles.

    Raises:
        ConfigError: unknown forgery, mask or checksums.
        ValueError: sizes do not fit.
    """
    names, rows, tiles = parse_forgery(forgery), rows_of(packets), np.asarray(tiles, np.uint8)
    if checksums not in CHECKSUMS:
        raise ConfigError(f"checksums {checksums!r} are unknown: choose {' or '.join(CHECKSUMS)}")
    if not len(tiles) == len(rows) == len(session):
        raise ValueError(f"{len(tiles)} tiles, {len(rows)} packet rows, {len(session)} sessions")
    forged, parts = np.array(tiles), [slice(n, n + _ROWS) for n in range(0, len(tiles), _ROWS)]
    left = _left_to_card(tiles, rows, session, endpoints, parts)
    if checksums == "offloaded":
        left |= rows["direction"] == 0
    for part in parts:
        own = endpoints.take(session[part])
        forged[part] = _forged(tiles[part], rows[part], own, names, left[part], mask)
    times = rows["time_ns"] + endpoints.delay[session] * ("times" in names)
    return Forged(forged, times)


def _forged(
    tiles: np.ndarray,
    rows: np.ndarray,
    ends: Endpoints,
    names: tuple[str, ...],
    left: np.ndarray,
    mask: str,
) -> np.ndarray:
    view, veil = Headers.of(tiles, rows), _veil(tiles, rows, mask)
    changed, quoted = tiles.copy(), ()
    if "addresses" in names:
        quotes, quoted = quoted_headers(view)
        places = [*link_addresses(view), *own_addresses(view), *other_addresses(view), *quotes]
        write_addresses(changed, view, places, ends.seed)
    for name, write in (
        ("ports", write_ports),
        ("times", write_times),
        ("ttl", write_ttl),
        ("sequence", write_sequence),
    ):
        if name in names:
            write(changed, view, ends)
    if veil is not None:
        changed[veil] = tiles[veil]  # what is hidden must not be carried into checksums
    plan = plan_repair(tiles, rows)
    result = repair(dataclasses.replace(plan, covers=(*quoted, *plan.covers)), changed)
    moved = unplaced(view, veil) & ("addresses" in names)
    carry_unseen(result, view, ends, moved, _hidden_ports(view, veil) & ("ports" in names))
    now = ends.new_addresses if "addresses" in names else ends.addresses
    leave_to_card(result, view, ends, now, left)
    return result if veil is None else np.where(veil, tiles, result)


def _left_to_card(
    tiles: np.ndarray,
    rows: np.ndarray,
    session: np.ndarray,
    endpoints: Endpoints,
    parts: list[slice],
) -> np.ndarray:
    """Return bool [n]: packets of a direction of which all were left to the card, two at least."""
    left, could = np.zeros((2, len(tiles)), bool)
    for part in parts:
        view = Headers.of(tiles[part], rows[part])
        left[part], could[part] = left_to_card(view, endpoints.take(session[part]))
    side = np.asarray(session, np.int64) * 2 + rows["direction"]
    _, side = np.unique(side, return_inverse=True)
    some, most = np.bincount(side, left), np.bincount(side, could)
    return left & ((some == most) & (some > 1))[side]


def _veil(tiles: np.ndarray, rows: np.ndarray, mask: str) -> np.ndarray | None:
    """Return bool [n, width], the bytes that the mask hides; None where it hides nothing."""
    names = parse_mask(mask)
    if not names:
        return None
    veil = hidden(tiles, rows, mask)
    # In masked tiles 01 looks like the mark of a group of Ethernet addresses.
    veil[rows["link"] == _ETHERNET, :12] |= "addresses" in names
    return veil


def _hidden_ports(view: Headers, veil: np.ndarray | None) -> np.ndarray:
    """Return bool [n]: the tile has the ports of a TCP or UDP header, but hidden."""
    there = view.transport + 4 <= view.length
    if veil is None:
        return np.zeros_like(there)
    return there & veil[np.arange(len(there)), np.where(there, view.transport, 0)]
