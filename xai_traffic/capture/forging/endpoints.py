"""What a new network gives to the two ends of each session: addresses, ports, clocks, distances.

Of the two ports that of the client is drawn anew. A port below 1024 is a service's, and so is one
in SERVICES if the other is not below 1024. Where neither is, the client is the end with fewer
peers, or the initiator of the first session of both. Where both are, or are the same, both stay.

All of it is drawn by what names a host or a connection, not by its place in a table, so a host has
one new address and one clock in all sessions, and both directions of a connection that a session
rule takes apart get numbers that fit together.
"""

from __future__ import annotations

import dataclasses
import socket

import numpy as np
import pyarrow as pa

from xai_traffic.capture.forging.addresses import map_ip4, map_ip6
from xai_traffic.capture.forging.chance import draw, generator, octet_keys, text_keys
from xai_traffic.errors import ConfigError

EPHEMERAL, PORTS = 49152, 65536 - 49152
"""IANA's dynamic ports (RFC 6335): the first of them, and how many."""

WELL_KNOWN = 1024
"""Ports below are services'."""

SERVICES = np.array(
    [1080, 1194, 1433, 1434, 1521, 1645, 1646, 1701, 1723, 1812, 1813, 1883, 1900, 2049, 2152]
    + [2222, 2404, 3128, 3306, 3389, 3478, 3544, 3702, 4500, 4789, 5060, 5061, 5072, 5222, 5228]
    + [5246, 5247, 5353, 5355, 5432, 5672, 5900, 5938, 6081, 6379, 6667, 8000, 8008, 8080, 8081]
    + [8443, 8554, 8883, 8888, 9000, 9200, 11211, 20000, 27017, 44818, 47808]
)
"""Registered ports of services that are met often, of IANA's list."""

MAX_HOPS = 30
_DAY = 86_400 * 10**9
_MAX_DAYS = 3650


@dataclasses.dataclass(frozen=True, eq=False)
class Endpoints:
    """N sessions; columns of [N, 2] are of the initiator and of the responder.

    Args:
        seed: of all draws.
        family: uint8 [N], 4, 6, or 0 where the addresses are not known.
        addresses, new_addresses: uint8 [N, 2, 16], IPv4 in the first four.
        ports, new_ports: int32 [N, 2], 0 where there are none, or several.
        clocks: uint32 [N, 2], what the clock of a host is ahead of the old one.
        offsets: uint32 [N, 2], what is added to the sequence numbers that an end sends.
        hops: int32 [N, 2], 1 to MAX_HOPS.
        delay: int64 [N], ns, what is added to times of capture.
    """

    seed: int
    family: np.ndarray
    addresses: np.ndarray
    new_addresses: np.ndarray
    ports: np.ndarray
    new_ports: np.ndarray
    clocks: np.ndarray
    offsets: np.ndarray
    hops: np.ndarray
    delay: np.ndarray

    def __len__(self) -> int:
        """Return the number of sessions."""
        return len(self.family)

    def take(self, rows: np.ndarray) -> Endpoints:
        """Return some sessions, as often as `rows` names them."""
        columns = [field.name for field in dataclasses.fields(self) if field.name != "seed"]
        return Endpoints(self.seed, *(getattr(self, name)[rows] for name in columns))


def endpoints_of(sessions: pa.Table, seed: int = 0) -> Endpoints:
    """Return what the new network gives to sessions.

    New ports are dealt so that connections stay apart: give all sessions that go together.

    Args:
        sessions: `capture`, `protocol`, `source`, `source_port`, `destination`, `destination_port`.
        seed: of all draws, at least 0.

    Raises:
        ConfigError: the seed is negative.
    """
    if seed < 0:
        raise ConfigError(f"seed is {seed}: give a number from 0 up")
    family, addresses = _addresses_of(sessions)
    ports = np.stack(
        [sessions[f"{side}_port"].to_numpy() for side in ("source", "destination")], axis=1
    ).astype(np.int32)
    capture, protocol = text_keys(sessions["capture"]), text_keys(sessions["protocol"])
    hosts = octet_keys(addresses.reshape(-1, 16)).reshape(-1, 2)
    hosts = np.where(
        family[:, None] > 0, hosts ^ family[:, None].astype(np.uint64), capture[:, None]
    )
    ends = draw(seed, "end", hosts, ports.astype(np.uint64))
    days = draw(seed, "days", capture) % np.uint64(_MAX_DAYS) + np.uint64(1)
    time = draw(seed, "time of day", capture) % np.uint64(_DAY)
    new = np.zeros_like(addresses)
    four, six = family == 4, family == 6
    new[four, :, :4] = map_ip4(addresses[four, :, :4].reshape(-1, 4), seed).reshape(-1, 2, 4)
    new[six] = map_ip6(addresses[six].reshape(-1, 16), seed).reshape(-1, 2, 16)
    return Endpoints(
        seed=seed,
        family=family,
        addresses=addresses,
        new_addresses=new,
        ports=ports,
        new_ports=_new_ports(ports, hosts, protocol, seed),
        clocks=draw(seed, "clock", hosts).astype(np.uint32),
        # the order of the keys tells who sends
        offsets=draw(
            seed, "sequence", capture[:, None], protocol[:, None], ends, ends[:, ::-1]
        ).astype(np.uint32),
        hops=(draw(seed, "hops", hosts) % np.uint64(MAX_HOPS)).astype(np.int32) + 1,
        delay=(days.astype(np.int64) * _DAY + time.astype(np.int64)),
    )


def _addresses_of(sessions: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return (family uint8 [N], addresses uint8 [N, 2, 16])."""
    addresses = np.zeros((len(sessions), 2, 16), np.uint8)
    families = np.zeros((len(sessions), 2), np.uint8)
    for end, side in enumerate(("source", "destination")):
        encoded = sessions[side].combine_chunks().dictionary_encode()
        texts = encoded.dictionary.to_pylist()
        parsed = np.zeros((len(texts) + 1, 17), np.uint8)  # the last one: not known
        for row, text in enumerate(texts):
            six = ":" in text
            octets = socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, text)
            parsed[row, : 1 + len(octets)] = [6 if six else 4, *octets]
        places = encoded.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)
        families[:, end], addresses[:, end] = parsed[places, 0], parsed[places, 1:]
    same = families[:, 0] == families[:, 1]
    return np.where(same, families[:, 0], 0).astype(np.uint8), addresses


def _new_ports(ports: np.ndarray, hosts: np.ndarray, protocol: np.ndarray, seed: int) -> np.ndarray:
    """Return ports int32 [N, 2], of each session the client's drawn anew.

    Ports of one client to one service are dealt from one ring, so up to PORTS of them stay apart.
    """
    new = ports.copy()
    rank = (ports >= WELL_KNOWN) * np.where(np.isin(ports, SERVICES), 1, 2)
    moves = (rank[:, 0] != rank[:, 1]) | (rank == 2).all(1)
    (rows,) = np.nonzero(moves & (ports > 0).all(1) & (ports[:, 0] != ports[:, 1]))
    if not len(rows):
        return new
    ends = draw(0, "end", protocol[rows, None], hosts[rows], ports[rows].astype(np.uint64))
    alike = rank[rows, 0] == rank[rows, 1]
    client = np.where(alike, _clients(ends), rank[rows].argmax(1))
    every = np.arange(len(rows))
    service = draw(0, "service", ends[every, 1 - client], hosts[rows, client])
    pairs = np.stack([service, ports[rows, client].astype(np.uint64)], axis=1)
    pairs, place = np.unique(pairs, axis=0, return_inverse=True)
    begins = np.flatnonzero(np.r_[True, pairs[1:, 0] != pairs[:-1, 0]])
    number = np.arange(len(pairs)) - np.repeat(begins, np.diff(np.r_[begins, len(pairs)]))
    start = (draw(seed, "ports", pairs[:, 0]) % np.uint64(PORTS)).astype(np.int64)
    ring = generator(seed, "ring of ports").permutation(PORTS)
    dealt = EPHEMERAL + ring[(start + number) % PORTS]
    new[rows, client] = dealt[place.reshape(-1)]
    return new


def _clients(ends: np.ndarray) -> np.ndarray:
    """Return which of two ends uint64 [n, 2] is the client, the same in all sessions of both."""
    peers = np.unique(np.concatenate([ends, ends[:, ::-1]]), axis=0)
    known, count = np.unique(peers[:, 0], return_counts=True)
    most = count[np.searchsorted(known, ends)]
    client = np.where(most[:, 0] > most[:, 1], 1, 0)
    turned = ends[:, 0] > ends[:, 1]
    _, first, flow = np.unique(
        np.sort(ends, axis=1), axis=0, return_index=True, return_inverse=True
    )
    return (client ^ turned)[first][flow.reshape(-1)] ^ turned
