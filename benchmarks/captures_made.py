"""Make the captures of the benchmark: seeded, without a loop over packets.

A mix holds HTTP-like and TLS-like TCP, DNS, other UDP and ARP over Ethernet, in part over IPv6 or
with a VLAN tag; its sessions overlap in time, and some have far more than 64 packets. Sequence
numbers, lengths and IPv4 checksums are right. Half of the payload is random, half is text.

    python benchmarks/captures_made.py mix|small|single CAPTURE NUMBER SEED [FOLDER]
                                                    a capture; in FOLDER its sessions, each a file
    python benchmarks/captures_made.py repeat CAPTURE BYTES    it over and over, to stdout
    python benchmarks/captures_made.py syns NUMBER             half-open sessions, to stdout
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import pathlib
import sys
from typing import NamedTuple

import numpy as np

MEAN = 600
"""Bytes of a packet of a mix, on average."""

RATE = 100_000
"""Packets a second in the capture's own time."""

KINDS = ("http", "tls", "dns", "udp", "arp", "tls over IPv6", "http with VLAN tag")
SHARES = (0.22, 0.30, 0.18, 0.10, 0.05, 0.08, 0.07)
"""Of the sessions."""

HTTP, TLS, DNS, UDP, ARP, TLS6, VLAN = range(len(KINDS))
TCP_KINDS = (HTTP, TLS, TLS6, VLAN)
PORTS = np.array([80, 443, 53, 5004, 0, 443, 80])
OFFSETS = np.array([14, 14, 14, 14, 14, 14, 18])
"""Of the network header."""

HEADERS = np.array([54, 59, 71, 42, 42, 79, 58])
"""Bytes that are written for each packet, at the least; payload lies behind them."""

RECORD = 16
FILE_HEADER = np.frombuffer(
    bytes.fromhex("d4c3b2a1 0200 0400 00000000 00000000 00000400 01000000"), np.uint8
)
QUESTION = np.frombuffer(b"\x03www\x07example\x00\x00\x01\x00\x01", np.uint8)
FIRST_SECOND = 1_700_000_000
SYN, ACK, FIN, PUSH = 2, 16, 1, 8


class Packets(NamedTuple):
    """The packets of a capture in its order; arrays [n]."""

    session: np.ndarray  # its number
    kind: np.ndarray  # its kind
    reply: np.ndarray  # sent by the server
    flags: np.ndarray  # of TCP
    sent: np.ndarray  # payload bytes that its sender sent before
    received: np.ndarray  # payload bytes that its sender was sent before
    length: np.ndarray  # of the frame
    time: np.ndarray  # microseconds


class Made(NamedTuple):
    """A capture in memory.

    octets: uint8, the file; starts: int64 [n], where each record begins; clients: int64 [n], where
    a byte of the client's address lies; packets: what is in it.
    """

    octets: np.ndarray
    starts: np.ndarray
    clients: np.ndarray
    packets: Packets


def make_mix(packets: int, seed: int) -> Made:
    """Make a mix of so many packets, of MEAN bytes on average."""
    rng = np.random.default_rng(seed)
    sizes = np.clip(rng.lognormal(2.1, 1.35, packets // 4 + 8), 1, 5000).astype(np.int64)
    kinds = rng.choice(len(KINDS), len(sizes), p=SHARES)
    sizes[kinds == DNS] = rng.choice([1, 2], (kinds == DNS).sum(), p=[0.1, 0.9])
    sizes[kinds == ARP] = 1
    return _make(rng, sizes, kinds, packets)


def make_small(packets: int, seed: int) -> Made:
    """Make the worst case: sessions of 20 packets, TCP and UDP, each of 64 bytes."""
    rng = np.random.default_rng(seed)
    sessions = -(-packets // 20)
    return _make(rng, np.full(sessions, 20), rng.choice([HTTP, UDP], sessions), packets, 64)


def make_single(packets: int, seed: int) -> Made:
    """Make sessions of one packet of 64 bytes each."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice([HTTP, UDP], packets)
    return _make(rng, np.ones(packets, np.int64), kinds, packets, 64)


def _make(
    rng: np.random.Generator, sizes: np.ndarray, kinds: np.ndarray, packets: int, fixed: int = 0
) -> Made:
    """Make the packets session by session, then put them in the order of time."""
    until = np.cumsum(sizes)
    sessions = int(np.searchsorted(until, packets)) + 1
    sizes, kinds = sizes[:sessions].copy(), kinds[:sessions]
    sizes[-1] -= until[sessions - 1] - packets
    first = np.cumsum(sizes) - sizes
    session = np.repeat(np.arange(sessions), sizes)
    place = np.arange(packets) - first[session]
    kind = kinds[session]
    tcp = np.isin(kind, TCP_KINDS)
    reply = np.where(place < 2, place == 1, rng.random(packets) < 0.6)
    flags = np.where(place == 0, SYN, np.where(place == 1, SYN | ACK, ACK))
    flags[(place > 2) & (place == sizes[session] - 1)] |= FIN
    opening = tcp & (place < 2)
    length = _lengths(rng, kind, opening, packets) if not fixed else np.full(packets, fixed)
    data = np.where(tcp & ~opening, length - _payload_offset(kind), 0)
    flags[data > 0] |= PUSH
    from_client, from_server = (
        _sum_before(np.where(reply == side, data + opening, 0), first, session)
        for side in (False, True)
    )
    duration = rng.exponential(0.2e6, sessions) * np.minimum(sizes, 20)
    begin = rng.random(sessions) * packets / RATE * 1e6
    time = begin[session] + np.where(place > 0, rng.random(packets), 0) * duration[session]
    # within a session times must rise: sort by (session, time), which leaves places in order
    time = time[np.lexsort((time, session))].astype(np.int64)
    order = np.argsort(time, kind="stable")
    columns = (
        session,
        kind,
        reply,
        flags,
        np.where(reply, from_server, from_client),
        np.where(reply, from_client, from_server),
        length,
        time,
    )
    return _write(rng, Packets(*(column[order] for column in columns)))


def _lengths(
    rng: np.random.Generator, kind: np.ndarray, opening: np.ndarray, packets: int
) -> np.ndarray:
    """Draw lengths of frames; as many TCP segments are full as the mean needs."""
    small = HEADERS[kind] + rng.integers(0, 40, packets)
    length = np.where(kind == UDP, rng.integers(80, 400, packets), small)
    length[kind == ARP] = 60
    length[kind == DNS] = HEADERS[DNS]
    length[opening] = _payload_offset(kind)[opening]
    segments = np.flatnonzero(np.isin(kind, TCP_KINDS) & ~opening)
    gain = 1250 - length[segments].mean() if len(segments) else 1.0
    share = (MEAN * packets - length.sum()) / (gain * max(len(segments), 1))
    full = segments[rng.random(len(segments)) < share]
    length[full] = np.where(rng.random(len(full)) < 0.7, 1514, rng.integers(200, 1100, len(full)))
    return length


def _payload_offset(kind: np.ndarray) -> np.ndarray:
    return np.where(kind == TLS6, 74, np.where(kind == VLAN, 58, 54))


def _sum_before(values: np.ndarray, first: np.ndarray, session: np.ndarray) -> np.ndarray:
    """Return what the packets of the same session before each one add up to."""
    before = np.cumsum(values) - values
    return before - before[first][session]


def _write(rng: np.random.Generator, packets: Packets) -> Made:
    until = np.cumsum(packets.length + RECORD) + len(FILE_HEADER)
    starts = until - packets.length - RECORD
    most = int(RECORD + HEADERS.max())
    octets = np.empty(int(until[-1]) + most, np.uint8)  # with room for the last header
    payload = _payload(rng, len(octets))
    for begin in range(0, len(octets), len(payload)):
        octets[begin : begin + len(payload)] = payload[: len(octets) - begin]
    octets[: len(FILE_HEADER)] = FILE_HEADER
    rows = np.lib.stride_tricks.as_strided(octets, (len(octets) - most + 1, most), (1, 1))
    clients = np.empty(len(starts), np.int64)
    for part in range(0, len(starts), 1 << 16):  # stays in the cache
        span = slice(part, part + (1 << 16))
        some = Packets(*(column[span] for column in packets))
        opening = some.flags & SYN > 0  # those of TLS have no record, and are shorter
        for kind, opens in itertools.product(np.unique(some.kind), (False, True)):
            chosen = np.flatnonzero((some.kind == kind) & (opening == opens))
            if not len(chosen):
                continue
            head, client = _headers(kind, Packets(*(column[chosen] for column in some)))
            head = head[:, : RECORD + some.length[chosen].min()]
            at = starts[span][chosen]
            rows[:, : head.shape[1]][at] = head
            clients[part + chosen] = at + RECORD + client
    return Made(octets[:-most], starts, clients, packets)


def _payload(rng: np.random.Generator, most: int) -> np.ndarray:
    """Return `most` or 16 MiB, farther than compressors look back, random and text by turns."""
    half = min(most // 8192 + 1, 2048)
    pieces = rng.integers(0, 256, (2 * half, 4096), np.uint8)
    words = rng.integers(97, 123, (512, 5), np.uint8)
    words = np.concatenate([words, np.full((512, 1), 32, np.uint8)], axis=1)
    text = words[(rng.random((half, 683)) ** 3 * 512).astype(np.int64)]
    pieces[::2] = text.reshape(half, -1)[:, :4096]
    return pieces.reshape(-1)


def _headers(kind: int, packets: Packets) -> tuple[np.ndarray, np.ndarray]:
    """Return records' heads uint8 [n, w], and where in the frame lies the client's address."""
    n = len(packets.length)
    made = np.zeros((n, RECORD + HEADERS[kind]), np.uint8)
    record = np.empty((n, 4), "<u4")
    record[:, 0], record[:, 1] = np.divmod(packets.time, 1_000_000)
    record[:, 0] += FIRST_SECOND
    record[:, 2:] = packets.length[:, None]
    made[:, :RECORD] = record.view(np.uint8)
    frame, network = made[:, RECORD:], int(OFFSETS[kind])
    frame[:, :12] = np.frombuffer(b"\x02\0\0\0\0\x01\x02\0\0\0\0\x02", np.uint8)
    ethertype = {ARP: 0x0806, TLS6: 0x86DD}.get(kind, 0x0800)
    if kind == VLAN:
        _put16(frame, 12, 0x8100)
        _put16(frame, 14, 7)
    _put16(frame, network - 2, ethertype)
    client = 0x0A000000 + (packets.session & 0xFFFFFF)
    server = 0xC6120000 + packets.session * 7 % 5000
    if kind == ARP:
        frame[:, 14:22] = np.frombuffer(bytes.fromhex("0001080006040001"), np.uint8)
        _put32(frame, 28, client)
        _put32(frame, 38, server)
        return made, np.full(n, 28)
    source = np.where(packets.reply, server, client)
    destination = np.where(packets.reply, client, server)
    inside = packets.length - network
    if kind == TLS6:
        frame[:, network] = 0x60
        _put16(frame, network + 4, inside - 40)
        frame[:, network + 6], frame[:, network + 7] = 6, 64
        for place, address in ((8, source), (24, destination)):
            _put32(frame, network + place, 0x20010DB8)
            _put32(frame, network + place + 12, address)
        at = np.where(packets.reply, network + 36, network + 20)
        transport = network + 40
    else:
        frame[:, network] = 0x45
        _put16(frame, network + 2, inside)
        _put16(frame, network + 4, packets.sent + packets.session)
        frame[:, network + 6] = 0x40
        frame[:, network + 8] = np.where(packets.reply, 57, 64)
        frame[:, network + 9] = 6 if kind in TCP_KINDS else 17
        _put32(frame, network + 12, source)
        _put32(frame, network + 16, destination)
        words = frame[:, network : network + 20].astype(np.int64)
        sums = (words[:, ::2] * 256 + words[:, 1::2]).sum(axis=1)
        _put16(frame, network + 10, ~((sums & 0xFFFF) + (sums >> 16)))
        at = np.where(packets.reply, network + 16, network + 12)
        transport = network + 20
    near, far = 1024 + packets.session * 31 % 60_000, PORTS[kind]
    _put16(frame, transport, np.where(packets.reply, far, near))
    _put16(frame, transport + 2, np.where(packets.reply, near, far))
    if kind in TCP_KINDS:
        first = packets.session * 2_654_435_761
        _put32(frame, transport + 4, first + packets.sent + packets.reply * 77)
        answered = (packets.flags & ACK > 0) * (first + packets.received + ~packets.reply * 77)
        _put32(frame, transport + 8, answered)
        frame[:, transport + 12], frame[:, transport + 13] = 0x50, packets.flags
        _put16(frame, transport + 14, 64_240)
        if kind != HTTP and frame.shape[1] > transport + 20:  # a record of application data
            frame[:, transport + 20 : transport + 23] = (0x17, 3, 3)
            _put16(frame, transport + 23, np.maximum(packets.length - transport - 25, 0))
    else:
        _put16(frame, transport + 4, packets.length - transport)
        if kind == DNS:
            _put16(frame, 42, packets.session)
            _put16(frame, 44, np.where(packets.reply, 0x8180, 0x0100))
            frame[:, 47] = 1
            frame[:, 54:] = QUESTION
    return made, at


def _put16(frame: np.ndarray, place: int, values: np.ndarray | int) -> None:
    frame[:, place] = np.asarray(values) >> 8 & 0xFF
    frame[:, place + 1] = np.asarray(values) & 0xFF


def _put32(frame: np.ndarray, place: int, values: np.ndarray | int) -> None:
    _put16(frame, place, np.asarray(values) >> 16)
    _put16(frame, place + 2, values)


def write_made(made: Made, path: pathlib.Path) -> None:
    """Write a capture, and beside it (.npz) where its records and addresses are."""
    made.octets.tofile(path)
    np.savez(path.with_suffix(".npz"), starts=made.starts, clients=made.clients)


def write_sessions(made: Made, folder: pathlib.Path, least: int = 3) -> int:
    """Write each TCP and UDP session over IPv4 as a capture, as heiFIP wants them."""
    folder.mkdir()
    order = np.argsort(made.packets.session, kind="stable")
    session = made.packets.session[order]
    starts, ends = made.starts[order], (made.starts + made.packets.length + RECORD)[order]
    first = np.flatnonzero(np.diff(session, prepend=-1))
    kinds = made.packets.kind[order][first]
    written = 0
    for begin, end, kind in zip(first, [*first[1:], len(session)], kinds, strict=True):
        if end - begin < least or kind in (ARP, TLS6):
            continue
        records = [made.octets[starts[k] : ends[k]] for k in range(begin, end)]
        np.concatenate([FILE_HEADER, *records]).tofile(folder / f"{session[begin]}.pcap")
        written += 1
    return written


def repeat(path: pathlib.Path, wanted: int) -> None:
    """Write a capture to stdout until so many bytes are out, each time later and from elsewhere."""
    octets = np.fromfile(path, np.uint8)
    where = np.load(path.with_suffix(".npz"))
    words = np.lib.stride_tricks.as_strided(octets, (len(octets) - 3, 4), (1, 1))
    seconds = words[where["starts"]].copy().view("<u4").ravel()
    span = np.uint32(seconds.max() - seconds.min() + 1)
    header = len(FILE_HEADER)
    written, round_number = 0, 0
    _write_all(octets[:header])
    while written < wanted:
        _write_all(octets[header:])
        written += len(octets) - header
        round_number += 1
        seconds += span
        words[where["starts"]] = seconds.view(np.uint8).reshape(-1, 4)
        octets[where["clients"]] = 1 + round_number % 126  # the first byte of 10.0.0.0


def syns(number: int) -> None:
    """Write a SYN of each of so many sessions to stdout."""
    _write_all(FILE_HEADER)
    block = 100_000
    for first in range(0, number, block):
        session = np.arange(first, first + min(block, number - first))
        count = len(session)
        time = session * 1_000_000 // RATE
        none = np.zeros(count, np.int64)
        length = np.full(count, HEADERS[HTTP])
        packets = Packets(session, none + HTTP, none > 0, none + SYN, none, none, length, time)
        _write_all(_headers(HTTP, packets)[0])


def _write_all(octets: np.ndarray) -> None:
    left = memoryview(np.ascontiguousarray(octets)).cast("B")
    while left:
        left = left[os.write(sys.stdout.fileno(), left[: 1 << 20]) :]


MAKERS = {"mix": make_mix, "small": make_small, "single": make_single}


def main() -> None:
    """Write what the command line asks for."""
    with contextlib.suppress(OSError):  # stdout may be a file
        fcntl.fcntl(sys.stdout, fcntl.F_SETPIPE_SZ, 1 << 20)
    what, *arguments = sys.argv[1:]
    if what in MAKERS:
        made = MAKERS[what](int(float(arguments[1])), int(arguments[2]))
        path = pathlib.Path(arguments[0])
        write_made(made, path)
        if arguments[3:]:
            print(write_sessions(made, pathlib.Path(arguments[3])))
    elif what == "repeat":
        repeat(pathlib.Path(arguments[0]), int(float(arguments[1])))
    else:
        syns(int(float(arguments[0])))


if __name__ == "__main__":
    main()
