"""Captures to sessions: session rules, what is kept and dropped, and what is told of it."""

import gzip
import struct

import numpy as np
import pyarrow as pa
import pytest

import xai_traffic as xt
from xai_traffic.capture import core
from xai_traffic.capture.community_id import community_id
from xai_traffic.capture.records import NONE, PACKET, RETRANSMISSION, TUNNELS
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.capture.sessions import (
    packet_rows_of,
    packet_table,
)
from xai_traffic.errors import CaptureError, ConfigError

CORES = ["numpy"] if core._core is None else ["numpy", "c"]
SYN, ACK, FIN = 2, 16, 1
CLIENT, SERVER = bytes((10, 0, 0, 1)), bytes((192, 0, 2, 7))


@pytest.fixture(params=CORES)
def any_core(request, monkeypatch):
    monkeypatch.setenv(core.VARIABLE, request.param)


def ethernet(ip: bytes, kind: int = 0x0800) -> bytes:
    return b"\x02\0\0\0\0\x02" + b"\x02\0\0\0\0\x01" + kind.to_bytes(2, "big") + ip


def ipv4(protocol: int, body: bytes, source: bytes, destination: bytes) -> bytes:
    length = 20 + len(body)
    return struct.pack(">BBHHHBBH", 0x45, 0, length, 1, 0, 64, protocol, 0) + (
        source + destination + body
    )


def tcp(flags: int, *, sequence=1, payload=b"", port=1000, back=False) -> bytes:
    ports = (80, port) if back else (port, 80)
    header = struct.pack(">HHIIBBHHH", *ports, sequence, 0, 0x50, flags, 1024, 0, 0)
    ends = (SERVER, CLIENT) if back else (CLIENT, SERVER)
    return ethernet(ipv4(6, header + payload, *ends))


def udp(payload=b"", *, port=1000) -> bytes:
    header = struct.pack(">HHHH", port, 53, 8 + len(payload), 0)
    return ethernet(ipv4(17, header + payload, CLIENT, SERVER))


def write(path, packets, link: int = 1):
    """Write (seconds, bytes) as a pcap file with nanoseconds; plain bytes come a second apart."""
    data = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, link)
    for number, packet in enumerate(packets):
        seconds, packet = packet if isinstance(packet, tuple) else (number, packet)
        nanoseconds = round(seconds * 1e9)
        data += struct.pack("<II", *divmod(nanoseconds, 10**9))
        data += struct.pack("<II", len(packet), len(packet)) + packet
    path.write_bytes(data)
    return path


def sizes(sessions) -> list[tuple[int, str]]:
    return list(
        zip(*(sessions.table[name].to_pylist() for name in ("packets", "end")), strict=True)
    )


def test_tables(tmp_path, any_core):
    packets = [
        (1.5, tcp(SYN)),
        (2.000000001, udp(b"question")),
        (1.25, tcp(SYN | ACK, back=True)),
        (3, ethernet(b"\0" * 28, 0x0806)),
        (4, tcp(ACK, payload=b"GET /", sequence=2)),
        (5, ethernet(ipv4(1, b"\x08\1\0\0", CLIENT, SERVER))),
    ]
    sessions = xt.read_capture(write(tmp_path / "a.pcap", packets), filter="")
    table = sessions.table.drop_columns(["first_time", "last_time"])
    first, second, third = table.to_pylist()
    assert sessions.table["capture"].to_pylist() == [str(tmp_path / "a.pcap")] * 3
    assert (first["session"], first["protocol"], first["packets"]) == (0, "tcp", 3)
    assert (first["source"], first["source_port"]) == ("10.0.0.1", 1000)
    assert (first["destination"], first["destination_port"]) == ("192.0.2.7", 80)
    assert first["bytes"] == 54 + 54 + 59 and first["end"] == "capture end"
    assert first["community_id"] == community_id(6, CLIENT, SERVER, 1000, 80)
    assert (second["protocol"], second["packets"]) == ("udp", 1)
    assert (third["protocol"], third["source_port"]) == ("icmp", 0)
    assert (third["icmp_type"], third["icmp_code"]) == (8, 1)
    assert third["community_id"] == community_id(1, CLIENT, SERVER, 8, 1)
    assert (first["icmp_type"], first["icmp_code"], first["tunnel"]) == (None, None, None)
    assert (first["outer_source"], first["outer_destination"], first["depth"]) == (None, None, 0)
    assert sessions.table.schema.field("first_time").type == pa.timestamp("ns", "UTC")
    times = [sessions.table[name].cast(pa.int64()) for name in ("first_time", "last_time")]
    assert times[0].to_pylist() == [1_500_000_000, 2_000_000_001, 5_000_000_000]
    assert times[1].to_pylist() == [4_000_000_000, 2_000_000_001, 5_000_000_000]
    assert sessions.table["first_tile"].to_pylist() == [0, 3, 4]
    assert sessions.table["tiles"].to_pylist() == [3, 1, 1]
    assert sessions.dropped == {"not IP": 1} and sessions.fault is None

    rows = sessions.packets.to_pylist()
    assert [row["session"] for row in rows] == [0, 0, 0, 1, 2]
    assert [row["frame"] for row in rows] == [1, 3, 5, 2, 6]
    assert [row["packet"] for row in rows] == [0, 1, 2, 0, 0]
    assert [row["direction"] for row in rows] == [0, 1, 0, 0, 0]
    assert rows[2] == {
        "session": 0, "packet": 2, "frame": 5, "time_ns": 4_000_000_000, "direction": 0,
        "captured": 59, "wire": 59, "start": 0, "length": 59,
        "network": 14, "transport": 34, "payload": 54, "link": 1, "protocol": 6,
        "outer": NONE, "flags": 0, "tunnel": 0, "depth": 0,
    }  # fmt: skip
    assert sessions.tiles.shape == (5, 256) and sessions.tiles.dtype == np.uint8
    assert sessions.tiles[2].tobytes() == packets[4][1].ljust(256, b"\0")
    back = packet_rows_of(sessions.packets)
    assert back.dtype == PACKET and packet_table(back).equals(sessions.packets)


def test_a_seed_of_the_community_id_changes_nothing_else(tmp_path):
    path = write(tmp_path / "a.pcap", [tcp(SYN), udp()])
    plain, seeded = xt.read_capture(path), xt.read_capture(path, community_id_seed=7)
    assert plain.rules == seeded.rules and seeded.rules.to_dict()["community_id_seed"] == 7
    assert ReadingRules.from_dict(seeded.rules.to_dict()).community_id_seed == 7
    expected = community_id(6, CLIENT, SERVER, 1000, 80, seed=7)
    assert seeded.table["community_id"][0].as_py() == expected
    names = ["community_id"]
    assert seeded.table.drop_columns(names).equals(plain.table.drop_columns(names))
    for wrong in (-1, 65_536):
        with pytest.raises(ConfigError, match="community_id_seed"):
            ReadingRules(community_id_seed=wrong)


@pytest.mark.parametrize(
    ("layers", "start", "offsets"),
    [
        ("all", 0, (14, 34, 54)),
        ("network", 14, (0, 20, 40)),
        ("transport", 34, (NONE, 0, 20)),
        ("payload", 54, (NONE, NONE, 0)),
    ],
)
def test_layers(tmp_path, any_core, layers, start, offsets):
    packet = tcp(ACK, payload=b"hello") + b"trailer"
    sessions = xt.read_capture(write(tmp_path / "a.pcap", [packet]), layers=layers)
    (row,) = sessions.packets.to_pylist()
    held = packet[start:] if layers == "all" else packet[start : 54 + 5]
    assert sessions.tiles[0].tobytes() == held.ljust(256, b"\0")
    assert (row["start"], row["length"]) == (start, len(held))
    assert (row["network"], row["transport"], row["payload"]) == offsets


def test_rule_five_tuple(tmp_path, any_core):
    packets = [tcp(SYN), tcp(FIN), tcp(SYN, sequence=9), tcp(ACK, back=True), tcp(SYN, port=2)]
    sessions = xt.read_capture(write(tmp_path / "a.pcap", packets), rule="five_tuple")
    assert sizes(sessions) == [(4, "capture end"), (1, "capture end")]


def test_rule_connection(tmp_path, any_core):
    packets = [
        tcp(ACK),  # caught in the middle: the SYN below is its first
        tcp(SYN, sequence=5),
        tcp(SYN, sequence=5),  # sent again
        tcp(SYN | ACK, sequence=7, back=True),
        tcp(SYN, sequence=6),
        tcp(SYN, sequence=5),
    ]
    sessions = xt.read_capture(write(tmp_path / "a.pcap", packets), rule="connection")
    assert sizes(sessions) == [(4, "new connection"), (1, "new connection"), (1, "capture end")]


def test_rule_pcapsplitter(tmp_path, any_core):
    packets = [
        tcp(ACK),
        tcp(SYN, sequence=5),
        tcp(SYN, sequence=6),  # behind another SYN: goes on
        tcp(SYN | ACK, back=True),
        tcp(SYN, sequence=5),
    ]
    sessions = xt.read_capture(write(tmp_path / "a.pcap", packets), rule="pcapsplitter")
    assert sizes(sessions) == [(1, "new connection"), (3, "new connection"), (1, "capture end")]


def test_which_header_of_a_tunnel_makes_the_session(tmp_path, any_core):
    inner = ipv4(17, struct.pack(">HHHH", 7, 53, 8, 0), CLIENT, SERVER)
    ends = bytes((198, 51, 100, 1)), bytes((198, 51, 100, 2))
    packets = [ethernet(ipv4(47, b"\0\0\x08\0" + inner, *ends)), udp(port=7)]
    path = write(tmp_path / "a.pcap", packets)
    (row,) = xt.read_capture(path).table.to_pylist()  # the outer header makes no other session
    assert (row["source"], row["packets"], row["protocol"]) == ("10.0.0.1", 2, "udp")
    assert (row["tunnel"], row["depth"]) == ("gre", 1)
    assert (row["outer_source"], row["outer_destination"]) == ("198.51.100.1", "198.51.100.2")
    sessions = xt.read_capture(path)
    first, second = sessions.packets.to_pylist()
    assert (first["outer"], first["network"], TUNNELS[first["tunnel"]]) == (14, 38, "gre")
    assert (second["outer"], second["network"], second["depth"]) == (NONE, 14, 0)

    outer = xt.read_capture(path, tunnels="outer", filter="")
    first, second = outer.table.to_pylist()
    assert (first["protocol"], first["source"], first["tunnel"]) == ("47", "198.51.100.1", None)
    assert second["source"] == "10.0.0.1" and outer.rules.tunnels == "outer"


def test_retransmissions_are_marked_or_left_out(tmp_path, any_core):
    packets = [tcp(SYN), tcp(ACK, sequence=2, payload=b"ab"), tcp(ACK, sequence=2, payload=b"ab")]
    path = write(tmp_path / "a.pcap", packets)
    kept = xt.read_capture(path)
    assert kept.packets["flags"].to_pylist() == [0, 0, RETRANSMISSION] and not kept.dropped
    left = xt.read_capture(path, retransmissions="drop")
    assert left.table["packets"].to_pylist() == [2] and left.dropped == {"retransmission": 1}


def test_rules_of_hosts_and_of_directions(tmp_path, any_core):
    packets = [tcp(SYN), tcp(ACK, back=True), udp(), udp(port=3)]
    path = write(tmp_path / "a.pcap", packets)
    (row,) = xt.read_capture(path, rule="host_pair").table.to_pylist()
    assert (row["protocol"], row["packets"], row["source_port"]) == ("any", 4, 0)
    assert row["community_id"] is None
    ways = xt.read_capture(path, rule="unidirectional")
    assert ways.table["packets"].to_pylist() == [1, 1, 1, 1]
    assert ways.table["source_port"].to_pylist() == [1000, 80, 1000, 3]
    assert set(ways.packets["direction"].to_pylist()) == {0}
    flows = ways.table["community_id"].to_pylist()
    assert flows[0] == flows[1] != flows[2]


def test_rules_with_time_outs_of_their_own(tmp_path, any_core):
    path = write(tmp_path / "a.pcap", [(0, udp()), (61, udp()), (182, udp())])
    assert sizes(xt.read_capture(path, rule="zeek"))[0] == (1, "idle timeout")
    assert len(xt.read_capture(path, rule="zeek")) == 3
    assert [size for size, _ in sizes(xt.read_capture(path, rule="nfstream"))] == [2, 1]
    packets = [tcp(SYN), tcp(FIN, back=True), tcp(FIN, sequence=2), tcp(SYN, sequence=9)]
    sessions = xt.read_capture(write(tmp_path / "a.pcap", packets), rule="zeek")
    assert sizes(sessions) == [(3, "closed"), (1, "capture end")]


def test_idle_timeout(tmp_path, any_core):
    packets = [(0, udp()), (10, udp()), (5, udp()), (20, udp()), (30.5, udp())]
    path = write(tmp_path / "a.pcap", packets)
    assert sizes(xt.read_capture(path)) == [(5, "capture end")]
    sessions = xt.read_capture(path, idle_timeout=10)  # 10 s is not more than 10 s
    assert sizes(sessions) == [(4, "idle timeout"), (1, "capture end")]


def test_max_open(tmp_path, any_core):
    packets = [udp(port=port) for port in (1, 2, 1, 3, 1)]
    sessions = xt.read_capture(write(tmp_path / "a.pcap", packets), max_open=2)
    assert sessions.table["session"].to_pylist() == [0, 1, 2, 3]
    assert sizes(sessions) == [(2, "evicted"), (1, "evicted"), (1, "capture end")] + [
        (1, "capture end")
    ]


@pytest.mark.parametrize("name", ["min_packets", "max_open", "most_per_capture"])
@pytest.mark.parametrize("value", [2.5, -1, "2"])
def test_counts_are_whole_numbers(name, value):
    with pytest.raises(ConfigError, match=f"{name} is {value!r}: give a whole number from 0 up"):
        ReadingRules(**{name: value})


def test_sessions_keep_64_tiles_and_count_on(tmp_path, any_core):
    packets = [udp(bytes([number])) for number in range(70)]
    sessions = xt.read_capture(write(tmp_path / "a.pcap", packets))
    assert sessions.table["packets"].to_pylist() == [70]
    assert sessions.table["tiles"].to_pylist() == [64]
    assert sessions.images()[0, 127 - 13, 112 + 10] == 63  # byte 42 of the last tile


def test_sessions_that_are_dropped(tmp_path, any_core):
    packets = [udp(), tcp(SYN), tcp(ACK), tcp(ACK, payload=b"x", port=2), tcp(ACK, port=2)]
    path = write(tmp_path / "a.pcap", packets)
    sessions = xt.read_capture(path, min_packets=2, layers="payload")
    assert sessions.table["session"].to_pylist() == [2]
    assert sessions.dropped == {"below minimum packets": 1, "no payload": 2}
    assert sessions.tiles[:, 0].tolist() == [ord("x"), 0]  # an empty packet keeps its tile
    assert sessions.packets["payload"].to_pylist() == [0, 0]

    nothing = xt.read_capture(path, min_packets=9)
    assert len(nothing) == 0 and nothing.dropped == {"below minimum packets": 5}
    assert nothing.images().shape == (0, 128, 128) and nothing.tiles.shape == (0, 256)
    assert nothing.table.schema == sessions.table.schema


def test_filter_and_mask(tmp_path, any_core):
    path = write(tmp_path / "a.pcap", [udp(b"abc"), tcp(SYN), udp(port=68)])
    sessions = xt.read_capture(path, mask="ports")
    assert sessions.dropped == {"filtered": 1}  # the default filter leaves out DHCP
    assert not sessions.tiles[:, 34:38].any()
    plain = xt.read_capture(path, filter="udp port 68")
    assert plain.tiles[0, 34:38].tolist() == [0, 68, 0, 53]
    with pytest.raises(ConfigError):
        xt.read_capture(path, filter="udp prt 68")
    with pytest.raises(ConfigError):
        xt.read_capture(path, mask="everything")


def test_a_capture_cut_short(tmp_path, any_core, caplog):
    path = write(tmp_path / "a.pcap", [udp(b"abc"), udp(b"def")])
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    sessions = xt.read_capture(path)
    assert sizes(sessions) == [(1, "capture end")]
    offset = 24 + 16 + 45
    assert sessions.fault.startswith(f"{path}, packet 2, byte offset {offset}: the capture is cut")
    assert sessions.fault in caplog.text

    path.write_bytes(gzip.compress(whole, 0)[:-20])  # damage outranks what follows from it
    sessions = xt.read_capture(path)
    assert "gzip data is damaged" in sessions.fault and str(path) in sessions.fault


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"GIF89a" * 9, "not a capture"),
        (gzip.compress(b"text", mtime=0), "not a capture"),
    ],
    ids=["empty", "picture", "text in gzip"],
)
def test_files_that_are_no_captures(tmp_path, any_core, content, reason):
    path = tmp_path / "a.pcap"
    path.write_bytes(content)
    with pytest.raises(CaptureError, match=reason) as caught:
        xt.read_capture(path)
    assert caught.value.capture == str(path)


def test_pieces_of_any_size_give_the_same(tmp_path, any_core):
    packets = [tcp(SYN, sequence=number, payload=bytes(number)) for number in range(20)]
    data = write(tmp_path / "a.pcap", packets).read_bytes()
    whole = core.open_core(ReadingRules())
    expected = [whole.feed(data), whole.finish()]
    for size in (1, 7, 100):
        one = core.open_core(ReadingRules())
        made = [one.feed(data[at : at + size]) for at in range(0, len(data), size)]
        made.append(one.finish())
        for field in ("tiles", "packets", "sessions"):
            parts = [np.concatenate([getattr(b, field) for b in bs]) for bs in (made, expected)]
            assert parts[0].tobytes() == parts[1].tobytes()


def test_choice_of_core(monkeypatch):
    monkeypatch.setenv(core.VARIABLE, "numpy")
    assert core.core_name() == "numpy"
    monkeypatch.setenv(core.VARIABLE, "rust")
    with pytest.raises(ConfigError, match="choose c or numpy"):
        core.core_name()
    monkeypatch.setattr(core, "_core", None)
    monkeypatch.setenv(core.VARIABLE, "c")
    with pytest.raises(ConfigError, match="compiler"):
        core.core_name()
    monkeypatch.delenv(core.VARIABLE)
    assert core.core_name() == "numpy"
