"""Lengths and checksums of changed packets, held to dpkt's sums over whole packets."""

import struct

import dpkt
import numpy as np
import pytest
from capture_bytes import ethernet, fragment_header, ipv4, ipv6, pcap, tcp, udp
from layered_examples import examples
from layered_packets import to_row

from xai_traffic.capture.masking import apply_mask
from xai_traffic.capture.records import NONE
from xai_traffic.capture.repair import plan_repair, repair
from xai_traffic.capture.sessions import packet_rows_of, read_capture

RNG = np.random.default_rng(7)


def word_sum(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def summed(datagram: bytes) -> bytes:
    """Return an IP datagram with dpkt's checksums."""
    ip = (dpkt.ip.IP if datagram[0] >> 4 == 4 else dpkt.ip6.IP6)(datagram)
    if isinstance(ip, dpkt.ip.IP):
        ip.sum = 0
    if not isinstance(ip.data, bytes):
        ip.data.sum = 0
        if isinstance(ip.data, dpkt.icmp6.ICMP6):
            ip.data.sum = 0
    return bytes(ip)


def icmp(kind: int, data: bytes) -> bytes:
    return struct.pack(">BBHI", kind, 0, 0, 77) + data


def datagrams(count: int):
    """Yield (datagram with right checksums, bytes of link header as `ethernet` takes them)."""
    for number in range(count):
        size = int(RNG.choice([0, 1, 7, 60, 181, 400, 777]))
        data = RNG.bytes(size)
        kind = number % 6
        if kind in (0, 1):
            inner = tcp(1000 + number, 80, data=data, words=int(RNG.choice([5, 8])), flags=0x18)
        elif kind in (2, 3):
            inner = udp(1000 + number, 999, data=data)
        else:
            inner = icmp(8 if kind == 4 else 128, data)
        protocol = (6, 6, 17, 17, 1, 58)[kind]
        four = kind in (0, 2, 4)
        wrap = ipv4 if four else ipv6
        options = {"words": int(RNG.choice([5, 7]))} if four else {}
        yield summed(wrap(inner, protocol=protocol, **options)), 0x0800 if four else 0x86DD


def read(folder, frames, **options):
    path = folder / "a.pcap"
    path.write_bytes(pcap(frames))
    sessions = read_capture(path, filter="ip or ip6", **options)
    return sessions.tiles, packet_rows_of(sessions.packets)


def changed_at_random(tiles, rows, share=0.3):
    """Return tiles of which some captured bytes are random, and the number of packets changed."""
    chosen = RNG.random(tiles.shape) < share * RNG.random((len(tiles), 1))
    chosen &= np.arange(tiles.shape[1]) < rows["length"][:, None].astype(int)
    return np.where(chosen, RNG.integers(0, 256, tiles.shape, dtype=np.uint8), tiles)


def test_random_changes_give_dpkts_sums(tmp_path):
    tags = ((), (0x8100,), (0x88A8, 0x8100))
    frames, begins = [], []
    for number, (datagram, kind) in enumerate(datagrams(120)):
        own = tags[number // 6 % 3]
        frames.append(ethernet(datagram, kind=kind, tags=own))
        begins.append(14 + 4 * len(own))
    tiles, rows = read(tmp_path, frames)
    assert len(tiles) == len(frames)
    plan = plan_repair(tiles, rows)
    for _ in range(5):
        found = repair(plan, changed_at_random(tiles, rows))
        assert (found != tiles).any()
        for tile, row in zip(found, rows, strict=True):
            number = row["frame"] - 1
            whole = tile[: row["length"]].tobytes() + frames[number][row["length"] :]
            datagram = whole[begins[number] :]
            assert summed(datagram) == datagram
    np.testing.assert_array_equal(repair(plan, tiles), tiles)
