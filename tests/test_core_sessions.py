"""What both cores make of packets: what they drop, where tiles begin, when sessions end."""

import ipaddress
import struct

import capture_bytes as made
import numpy as np
import pytest
from both_cores import CORES, check_invariants, run

from xai_traffic.capture.records import DROPS, ENDS, NONE

SEGMENT = made.tcp(data=b"hello")
SYN, SYN_ACK, ACK = 0x02, 0x12, 0x10


@pytest.fixture(params=CORES)
def core(request):
    return request.param


def fragment_header(word: int) -> bytes:
    return struct.pack(">BBHI", 6, 0, word, 1)


def extensions(*kinds: int) -> bytes:
    """Return a TCP datagram behind extension headers of 8 bytes each, of these kinds."""
    heads = b""
    for _, following in zip(kinds, (*kinds[1:], 6), strict=True):
        heads += bytes([following, 0]) + bytes(6)
    return made.ipv6(heads + SEGMENT, protocol=kinds[0])


IP4, IP6 = made.ipv4(SEGMENT), made.ipv6(SEGMENT, protocol=6)
DECODED = {  # name: (link type, packet, what becomes of it)
    "ethernet": (1, made.ethernet(IP4), ""),
    "ethernet ipv6": (1, made.ethernet(IP6, kind=0x86DD), ""),
    "ethernet cut": (1, made.ethernet(IP4)[:13], "truncated header"),
    "ethernet empty": (1, b"", "truncated header"),
    "arp": (1, made.ethernet(bytes(28), kind=0x0806), "not IP"),
    "llc": (1, made.ethernet(bytes(40), kind=38), "not IP"),
    "vlan": (1, made.ethernet(IP4, tags=[0x8100]), ""),
    "eight tags": (1, made.ethernet(IP4, tags=[0x88A8, 0x8100, 0x9100, 0x9200] * 2), ""),
    "nine tags": (1, made.ethernet(IP4, tags=[0x8100] * 9), "not IP"),
    "vlan cut": (1, made.ethernet(b"", tags=[0x8100])[:17], "truncated header"),
    "null little": (0, b"\x02\0\0\0" + IP4, ""),
    "null big": (0, b"\0\0\0\x1e" + IP6, ""),
    "loop": (108, b"\0\0\0\x18" + IP6, ""),
    "null other": (0, b"\x07\0\0\0" + IP4, "not IP"),
    "null cut": (0, b"\x02\0\0", "truncated header"),
    "raw 4": (101, IP4, ""),
    "raw 6": (12, IP6, ""),
    "raw 14": (14, IP4, ""),
    "raw other": (101, b"\x50" + IP4[1:], "not IP"),
    "raw empty": (101, b"", "truncated header"),
    "ipv4 link": (228, IP4, ""),
    "ipv6 link": (229, IP6, ""),
    "ipv4 link with ipv6": (228, IP6, "malformed header"),
    "cooked": (113, bytes(14) + b"\x08\x00" + IP4, ""),
    "cooked vlan": (113, bytes(14) + b"\x81\x00\0\1\x86\xdd" + IP6, ""),
    "cooked 2": (276, b"\x86\xdd" + bytes(18) + IP6, ""),
    "cooked 2 cut": (276, b"\x86\xdd" + bytes(17), "truncated header"),
    "usb": (220, bytes(80), "unsupported link type"),
    "ipv4 cut": (101, IP4[:19], "truncated header"),
    "ipv4 options": (101, made.ipv4(SEGMENT, words=7), ""),
    "ipv4 options cut": (101, made.ipv4(b"", words=7)[:27], "truncated header"),
    "ipv4 short header": (101, made.ipv4(SEGMENT, words=4), "malformed header"),
    "ipv4 total too small": (101, made.ipv4(SEGMENT, total=19), "malformed header"),
    "ipv4 total 0": (101, made.ipv4(SEGMENT, total=0), ""),
    "ipv4 total ends in the header of tcp": (101, made.ipv4(SEGMENT, total=39), "truncated header"),
    "ipv4 do not fragment": (101, made.ipv4(SEGMENT, fragment=0x4000), ""),
    "ipv4 first fragment": (101, made.ipv4(SEGMENT, fragment=0x2000), ""),
    "ipv4 last fragment": (101, made.ipv4(b"", fragment=1), "fragment"),
    "ipv6 cut": (229, IP6[:39], "truncated header"),
    "ipv6 version": (229, made.ipv6(SEGMENT, version=5), "malformed header"),
    "ipv6 length 0": (229, made.ipv6(SEGMENT, length=0), ""),
    "ipv6 no next header": (229, made.ipv6(b"padding", protocol=59, length=0), ""),
    "ipv6 extensions": (229, extensions(0, 43, 60, 135, 139, 140, 51), ""),
    "16 extensions": (229, extensions(*[60] * 16), ""),
    "17 extensions": (229, extensions(*[60] * 17), "malformed header"),
    "extension cut": (229, made.ipv6(b"\6" + bytes(6), protocol=0), "truncated header"),
    "extension too long": (229, made.ipv6(b"\6\x09" + bytes(30), protocol=0), "truncated header"),
    "extension beyond the datagram": (
        229,
        made.ipv6(b"\6\0" + bytes(6) + SEGMENT, protocol=0, length=7),
        "truncated header",
    ),
    "atomic fragment": (229, made.ipv6(fragment_header(0) + SEGMENT, protocol=44), ""),
    "ipv6 first fragment": (229, made.ipv6(fragment_header(1) + SEGMENT, protocol=44), ""),
    "ipv6 later fragment": (229, made.ipv6(fragment_header(8), protocol=44), "fragment"),
    "ipv6 reserved bits": (229, made.ipv6(fragment_header(6) + SEGMENT, protocol=44), ""),
    "tcp cut": (101, made.ipv4(SEGMENT[:19]), "truncated header"),
    "tcp short header": (101, made.ipv4(made.tcp(words=4)), "malformed header"),
    "tcp options cut": (101, made.ipv4(made.tcp(words=8)[:24]), ""),
    "udp": (101, made.ipv4(made.udp(), protocol=17), ""),
    "udp cut": (101, made.ipv4(made.udp()[:7], protocol=17), "truncated header"),
    "icmp": (101, made.ipv4(b"", protocol=1), ""),
}


@pytest.mark.parametrize("case", DECODED)
def test_packets_are_kept_or_dropped_by_name(core, case):
    link, packet, reason = DECODED[case]
    result = run(core, made.pcap([packet], link=link))
    check_invariants(result)
    dropped = [name for name, count in zip(DROPS, result.dropped, strict=True) if count]
    assert dropped == ([reason] if reason else [])
    assert len(result.sessions()) == (not reason)
    assert result.fault == (0, 0, 0)


def test_longest_chain_of_extensions_is_within_reach_of_an_offset(core):
    chain = (b"\x3c\xff" + bytes(2046)) * 15 + b"\x06\xff" + bytes(2046)
    packet = made.ipv6(chain + SEGMENT, protocol=60, length=0)
    row = run(core, made.pcap([packet], link=229)).table()[0]
    assert row["transport"] == 40 + 16 * 2048 and row["payload"] == row["transport"] + 20


def test_filter_comes_last_and_sees_the_wire(core):
    packets = [
        (0, 0, made.ethernet(IP4), 2000),
        (0, 0, made.ethernet(IP4), 60),
        (0, 0, made.ethernet(made.ipv4(SEGMENT, fragment=1)), 60),
        (0, 0, made.ethernet(made.ipv4(b"", protocol=1)), 60),
    ]
    result = run(core, made.pcap(packets), filter="tcp and greater 100")
    assert dict(zip(DROPS, result.dropped, strict=True))["filtered"] == 2
    assert dict(zip(DROPS, result.dropped, strict=True))["fragment"] == 1
    assert result.table()["wire"].tolist() == [2000]


LAYER_OFFSETS = {
    # (start, length, network, transport, payload) of a TCP segment, an empty one, one whose options
    # are cut off, and an ICMP message
    "all": [
        (0, 63, 14, 34, 54),
        (0, 58, 14, 34, 54),
        (0, 62, 14, 34, NONE),
        (0, 46, 14, 34, 34),
    ],
    "network": [
        (14, 45, 0, 20, 40),
        (14, 40, 0, 20, 40),
        (14, 44, 0, 20, NONE),
        (14, 28, 0, 20, 20),
    ],
    "transport": [
        (34, 25, NONE, 0, 20),
        (34, 20, NONE, 0, 20),
        (34, 24, NONE, 0, NONE),
        (34, 8, NONE, 0, 0),
    ],
    "payload": [
        (54, 5, NONE, NONE, 0),
        (54, 0, NONE, NONE, 0),
        (0, 0, NONE, NONE, NONE),
        (34, 8, NONE, 0, 0),
    ],
}


@pytest.mark.parametrize("layers", LAYER_OFFSETS)
def test_tiles_begin_where_the_layers_say(core, layers):
    trailer = b"FCS!"
    datagrams = [
        made.ipv4(SEGMENT),
        made.ipv4(made.tcp()),
        made.ipv4(made.tcp(words=8)[:24]),
        made.ipv4(b"pingping", protocol=1),
    ]
    packets = [made.ethernet(datagram) + trailer for datagram in datagrams]
    for width in (256, 7):
        result = run(core, made.pcap(packets), layers=layers, width=width)
        check_invariants(result, width)
        rows = result.table()
        names = ("start", "length", "network", "transport", "payload")
        wanted = [(s, min(n, width), *rest) for s, n, *rest in LAYER_OFFSETS[layers]]
        assert rows[list(names)].tolist() == wanted
        for index, (packet, row) in enumerate(zip(packets, rows, strict=True)):
            tile = result.tiles[index * width : (index + 1) * width]
            assert tile[: row["length"]] == packet[row["start"] :][: row["length"]]
        assert result.sessions()["payload_bytes"].tolist() == [5, 8]


def test_ends_are_the_initiators_view(core):
    def packet(family, client, server, back):
        ends = {"source": client, "destination": server}
        ports = [50_000, 80]
        if back:
            ends = {"source": server, "destination": client}
            ports.reverse()
        if family == 4:
            return made.ipv4(made.tcp(*ports), **ends)
        return made.ipv6(made.tcp(*ports), **ends)

    cases = [(4, "10.0.0.9", "10.0.0.1"), (4, "10.0.0.1", "10.0.0.9"), (6, "fd00::9", "fd00::1")]
    packets = [packet(*case, back) for case in cases for back in (0, 1, 1, 0)]
    result = run(core, made.pcap(packets, link=101))
    check_invariants(result)
    # The second case is the same five-tuple but for its ports.
    assert result.table()["direction"].tolist() == [0, 1, 1, 0] * 3
    sessions = result.sessions()
    assert sessions["source_port"].tolist() == [50_000] * 3
    assert sessions["destination_port"].tolist() == [80] * 3
    assert sessions["protocol"].tolist() == [6] * 3 and sessions["family"].tolist() == [4, 4, 6]
    for session, (_, client, server) in zip(sessions, cases, strict=True):
        for name, address in (("source", client), ("destination", server)):
            packed = ipaddress.ip_address(address).packed
            assert session[name].tobytes() == packed.ljust(16, b"\0")


def test_packets_between_equal_endpoints_have_direction_0(core):
    packet = made.ipv4(made.udp(5, 5), protocol=17, source="10.0.0.1", destination="10.0.0.1")
    assert run(core, made.pcap([packet] * 3, link=101)).table()["direction"].tolist() == [0] * 3


def segments(*steps) -> bytes:
    """Return a capture of one 5-tuple; steps are (second, flags, sequence number)."""
    return made.pcap(
        [(second, 0, made.ipv4(made.tcp(flags=flags, sequence=n))) for second, flags, n in steps],
        link=101,
    )


TWICE = [(0, SYN, 7), (1, SYN, 7), (2, SYN_ACK, 1), (3, ACK, 8), (4, SYN, 9), (5, ACK, 10)]
REPEATED = [(0, SYN, 7), (1, ACK, 8), (2, SYN, 7), (3, SYN, 7), (4, ACK, 8)]
LATE = [(0, ACK, 1), (1, SYN, 5), (2, SYN, 6), (3, ACK, 7)]


@pytest.mark.parametrize(
    "rule, steps, packets",
    [
        ("five_tuple", TWICE, [6]),
        ("connection", TWICE, [4, 2]),
        ("pcapsplitter", TWICE, [4, 2]),
        ("five_tuple", REPEATED, [5]),
        ("connection", REPEATED, [5]),
        ("pcapsplitter", REPEATED, [2, 3]),
        ("five_tuple", LATE, [4]),
        ("connection", LATE, [2, 2]),
        ("pcapsplitter", LATE, [1, 3]),
    ],
)
def test_rules_begin_sessions(core, rule, steps, packets):
    result = run(core, segments(*steps), rule=rule)
    check_invariants(result)
    sessions = result.sessions()
    assert sessions["packets"].tolist() == packets
    assert [ENDS[end] for end in sessions["end"]] == ["new connection"] * (len(packets) - 1) + [
        "capture end"
    ]
    assert sessions["first_time"][0] == 0 and sessions["last_time"][-1] == steps[-1][0] * 10**9


def test_idle_timeout_is_more_than_so_long_after_the_latest_packet(core):
    steps = [(10, ACK, 1), (15, ACK, 1), (12, ACK, 1), (20, ACK, 1), (26, ACK, 1), (3, ACK, 1)]
    result = run(core, segments(*steps), idle_timeout_ns=5 * 10**9)
    check_invariants(result)
    sessions = result.sessions()
    assert sessions["packets"].tolist() == [4, 2]
    assert [ENDS[end] for end in sessions["end"]] == ["idle timeout", "capture end"]
    assert sessions["first_time"].tolist() == [10 * 10**9, 26 * 10**9]
    assert sessions["last_time"].tolist() == [20 * 10**9, 26 * 10**9]


def test_oldest_session_makes_room(core):
    def packet(port):
        return made.ipv4(made.tcp(source=port))

    packets = [packet(port) for port in (1, 2, 1, 3, 1, 1, 4)]
    result = run(core, made.pcap(packets, link=101), max_open=2)
    check_invariants(result)
    sessions = result.sessions()
    assert sessions["session"].tolist() == [0, 1, 2, 3, 4]
    assert sessions["source_port"].tolist() == [1, 2, 3, 1, 4]
    assert sessions["packets"].tolist() == [2, 1, 1, 2, 1]
    ends = ["evicted"] * 3 + ["capture end"] * 2
    assert [ENDS[end] for end in sessions["end"]] == ends


def test_many_sessions_and_limited_tiles(core):
    count, limit = 1500, 2
    ports = np.random.default_rng(3).permutation(np.repeat(np.arange(count), 4))
    packets = [made.ipv4(made.udp(int(port)), protocol=17) for port in ports]
    for max_open in (0, 700):
        result = run(core, made.pcap(packets, link=101), limit=limit, max_open=max_open)
        check_invariants(result, limit=limit)
        sessions = result.sessions()
        assert sessions["packets"].sum() == 4 * count
        if not max_open:
            _, first = np.unique(ports, return_index=True)
            order = ports[np.sort(first)]
            assert sessions["source_port"].tolist() == order.tolist()
            assert set(sessions["packets"].tolist()) == {4}
