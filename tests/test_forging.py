"""Forged packets against dpkt's sums over whole packets, and against what was captured."""

import struct

import dpkt
import numpy as np
import pyarrow as pa
import pytest
from capture_bytes import ethernet, ipv4, ipv6, pcap, sctp, udp
from fragment_bytes import halves4, raw
from hypothesis import given, settings
from hypothesis import strategies as st
from layered_examples import examples
from layered_packets import to_row
from oracle_sums import summed, word_sum
from whole_packets import whole_packets

from xai_traffic.capture.forging import FORGERIES, forge, forgery_name, parse_forgery
from xai_traffic.capture.forging.addresses import map_addresses
from xai_traffic.capture.forging.endpoints import EPHEMERAL, endpoints_of
from xai_traffic.capture.masking import apply_mask
from xai_traffic.capture.sessions import packet_rows_of, read_capture
from xai_traffic.errors import ConfigError
from xai_traffic.lab.write import write_lab

LAYERS = ("all", "network", "transport", "payload")
MASKS = (
    "addresses",
    "ports",
    "addresses+ports",
    "ids",
    "addresses+ports+ids+ttl",
    "header",
    "payload",
    "addresses+header+payload",
)
OPTIONS = (
    b"\x08\x0a" + bytes(range(8)),
    b"\x05\x12" + bytes(range(16)),
    b"\x05\x0a" + bytes(range(8)),
    b"\x02\x04\x05\xb4",
    b"\x01",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forging") / "lab"
    write_lab(folder, sessions_per_family=6, families=("web", "dns", "https"))
    return [whole_packets(folder / "Benign" / f"{name}.pcap") for name in ("web", "dns", "https")]


def tcp_segment(ports, numbers, flags, options, data):
    options += bytes(-len(options) % 4)
    head = struct.pack(">HHIIBB", *ports, *numbers, (5 + len(options) // 4) << 4, flags)
    return head + struct.pack(">HHH", 1000, 0, 0) + options + data


@st.composite
def datagrams(draw):
    """Draw an IP datagram with right checksums, and what is then added to that of transport."""
    data = draw(st.binary(max_size=90))
    ports = draw(st.sampled_from([(51000, 80), (80, 51000), (2000, 3000), (53, 53), (6000, 6000)]))
    if draw(st.booleans()):
        options = b"".join(draw(st.lists(st.sampled_from(OPTIONS), max_size=2)))
        number = st.integers(0, 2**32 - 1)
        flags = draw(st.sampled_from([0x02, 0x12, 0x10, 0x18, 0x04, 0x14]))
        inner, protocol = tcp_segment(ports, (draw(number), draw(number)), flags, options, data), 6
    else:
        inner, protocol = udp(*ports, data=data), 17
    ends = draw(st.permutations(["10.0.0.1", "93.184.216.34"]))
    six = draw(st.booleans())
    if six:
        ends = [f"2001:db8::{end.replace('.', ':')}" for end in ends]
    whole = (ipv6 if six else ipv4)(inner, protocol=protocol, source=ends[0], destination=ends[1])
    return summed(whole), draw(st.sampled_from([0, 0, 0, 1, 0x1234]))


def transport_error(datagram: bytes) -> int | None:
    """Return by how much a transport checksum is wrong, modulo 65535; None where it is none."""
    six = datagram[0] >> 4 == 6
    size, ends = (40, datagram[8:40]) if six else (20, datagram[12:20])
    inner, protocol = datagram[size:], datagram[6 if six else 9]
    if protocol == 17 and inner[6:8] == b"\0\0":
        return None
    pseudo = ends + struct.pack(">HH", protocol, len(inner))
    return word_sum(pseudo + inner) % 0xFFFF


@settings(max_examples=40)
@given(st.lists(datagrams(), min_size=1, max_size=8), st.integers(0, 9), st.data())
def test_checksums_stay_right_and_wrong_ones_as_wrong(tmp_path_factory, made, seed, data):
    forgery = "+".join(data.draw(st.lists(st.sampled_from(FORGERIES), min_size=1)))
    frames = []
    for datagram, wrong in made:
        packet = bytearray(datagram)
        six = packet[0] >> 4 == 6
        at = (40 if six else 20) + (16 if packet[6 if six else 9] == 6 else 6)
        value = int.from_bytes(packet[at : at + 2], "big")
        packet[at : at + 2] = struct.pack(">H", (value + wrong) & 0xFFFF if wrong != 1 else 0)
        frames.append(ethernet(bytes(packet), kind=0x86DD if six else 0x0800))
    path = tmp_path_factory.mktemp("sums") / "a.pcap"
    path.write_bytes(pcap(frames))
    whole = whole_packets(path, rule="five_tuple")
    after = whole.bytes_of(whole.forged(forgery, seed).tiles)
    for old, new in zip(whole.packets, after, strict=True):
        assert len(old) == len(new)
        assert transport_error(new[14:]) == transport_error(old[14:])
        if old[14] == 0x45:
            assert word_sum(new[14:34]) == 0xFFFF
        before, now = dpkt.ethernet.Ethernet(old).data.data, dpkt.ethernet.Ethernet(new).data.data
        assert bytes(before.data) == bytes(now.data)


@pytest.mark.parametrize("forgery", [*FORGERIES, "all"])
def test_only_what_is_named_changes(lab, forgery):
    for whole in lab:
        forged = whole.forged(forgery)
        names = parse_forgery(forgery)
        moved = forged.time_ns - whole.rows["time_ns"]
        assert (moved > 0).all() == ("times" in names) and len(set(moved.tolist())) == 1
        for old, new in zip(whole.packets, whole.bytes_of(forged.tiles), strict=True):
            a, b = dpkt.ethernet.Ethernet(old), dpkt.ethernet.Ethernet(new)
            same = (a.src, a.dst, a.data.src, a.data.dst) == (b.src, b.dst, b.data.src, b.data.dst)
            assert same == ("addresses" not in names)
            assert (a.data.ttl == b.data.ttl) == ("ttl" not in names)
            ports = [(ip.data.sport, ip.data.dport) for ip in (a.data, b.data)]
            assert (ports[0] == ports[1]) == ("ports" not in names)
            for old_port, new_port in zip(*ports, strict=True):
                assert new_port == old_port or old_port >= 1024 and new_port >= EPHEMERAL
            if isinstance(a.data.data, dpkt.tcp.TCP):
                one, two = a.data.data, b.data.data
                assert (one.seq == two.seq) == ("sequence" not in names)
                assert (one.flags, one.win, one.data) == (two.flags, two.win, two.data)
                stamps = [dict(dpkt.tcp.parse_opts(tcp.opts)).get(8) for tcp in (one, two)]
                assert stamps[0] is not None
                assert (stamps[0] == stamps[1]) == ("times" not in names)


def test_a_connection_stays_one_and_counts_as_before(lab):
    """Numbers relative to the first ones of both sides are what they were."""
    for whole in (lab[0], lab[2]):
        for session in range(len(whole.table)):
            told = []
            for packets in (whole.packets, whole.bytes_of(whole.forged().tiles)):
                (rows,) = np.nonzero(whole.session == session)
                ips = [dpkt.ethernet.Ethernet(packets[row]).data for row in rows]
                first = {}
                for ip in ips:
                    stamp = struct.unpack(">II", dict(dpkt.tcp.parse_opts(ip.data.opts))[8])
                    first.setdefault(ip.src, (ip.data.seq, stamp[0]))
                relative = []
                for ip in ips:
                    stamp = struct.unpack(">II", dict(dpkt.tcp.parse_opts(ip.data.opts))[8])
                    own, others = first[ip.src], first[ip.dst]
                    line = [ip.data.seq - own[0], stamp[0] - own[1]]
                    if ip.data.flags & 0x10:
                        line += [ip.data.ack - others[0], stamp[1] - others[1]]
                    relative.append([number % 2**32 for number in line])
                told.append((relative, len({ip.src for ip in ips}), len(set(first))))
            assert told[0] == told[1]


def test_captures_read_again_have_the_same_sessions_of_new_hosts(lab, tmp_path):
    for whole in lab:
        path = tmp_path / "forged.pcap"
        path.write_bytes(whole.capture(whole.forged().tiles))
        again = read_capture(path, filter="ip or ip6").table
        for name in ("protocol", "packets", "bytes", "tiles"):
            assert again[name].to_pylist() == whole.table[name].to_pylist()
        pairs = [table["source"].to_pylist() for table in (whole.table, again)]
        assert len(set(zip(*pairs, strict=True))) == len(set(pairs[0])) == len(set(pairs[1]))
        assert not set(pairs[0]) & set(pairs[1])
        assert set(again["destination_port"].to_pylist()) <= {53, 80, 443, 8080}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("forgery", [*FORGERIES, "all"])
def test_a_masked_packet_forged_is_the_forged_packet_masked(lab, forgery, mask):
    for whole in lab:
        own = whole.rows, whole.session, whole.endpoints(4)
        masked = forge(apply_mask(whole.tiles, whole.rows, mask), *own, forgery, mask=mask).tiles
        forged = forge(whole.tiles, *own, forgery).tiles
        np.testing.assert_array_equal(masked, apply_mask(forged, whole.rows, mask))


@pytest.mark.parametrize("mask", ["ttl", "options", "window+options"])
def test_what_is_hidden_stays_as_it_is(lab, mask):
    for whole in lab:
        masked = apply_mask(whole.tiles, whole.rows, mask)
        forged = forge(masked, whole.rows, whole.session, whole.endpoints(), "all", mask=mask).tiles
        np.testing.assert_array_equal(forged, apply_mask(forged, whole.rows, mask))


@pytest.mark.parametrize(
    "forgery, mask", [("times", "ids"), ("ttl", "ttl+ids"), ("ports", "header")]
)
def test_nothing_changes_where_all_that_is_forged_is_hidden(lab, forgery, mask):
    for whole in lab:
        masked = apply_mask(whole.tiles, whole.rows, mask)
        own = whole.rows, whole.session, whole.endpoints()
        assert (forge(masked, *own, forgery, mask=mask).tiles == masked).all()


@pytest.mark.parametrize("layers", LAYERS)
def test_tiles_that_begin_later_are_forged_alike(tmp_path, layers):
    write_lab(tmp_path / "lab", sessions_per_family=4, families=("web",))
    path = tmp_path / "lab" / "Benign" / "web.pcap"
    whole = whole_packets(path)
    sessions = read_capture(path, filter="ip or ip6", layers=layers)
    rows = packet_rows_of(sessions.packets)
    counts = sessions.table["tiles"].to_numpy()
    session = np.repeat(np.arange(len(counts)), counts)
    forged = forge(sessions.tiles, rows, session, endpoints_of(sessions.table, 2), "all").tiles
    by_frame = dict(
        zip(whole.rows["frame"], whole.bytes_of(whole.forged("all", 2).tiles), strict=True)
    )
    for tile, row in zip(forged, rows, strict=True):
        start = int(row["start"])
        expected = by_frame[row["frame"]][start : start + int(row["length"])]
        assert tile[: row["length"]].tobytes() == expected
        assert not tile[row["length"] :].any()


def test_parts_are_forged_as_the_whole(lab):
    whole = lab[0]
    ends, all_of_it = whole.endpoints(), whole.forged()
    half = whole.session < len(whole.table) // 2
    for part in (half, ~half):
        own = whole.wide_rows[part], whole.session[part], ends
        np.testing.assert_array_equal(
            forge(whole.wide[part], *own, "all").tiles, all_of_it.tiles[part]
        )
    narrow = forge(whole.tiles, whole.rows, whole.session, ends, "all").tiles
    np.testing.assert_array_equal(narrow, all_of_it.tiles[:, :256])
    assert (whole.forged(seed=1).tiles != all_of_it.tiles).any(1).all()


def test_offloaded_checksums_are_pseudo_headers_of_the_initiator(lab):
    for whole in lab:
        forged = whole.forged("addresses+ports", checksums="offloaded").tiles
        repaired = whole.forged("addresses+ports").tiles
        sides = whole.rows["direction"]
        assert (forged[sides == 1] == repaired[sides == 1]).all()
        for packet, side in zip(whole.bytes_of(forged), sides, strict=True):
            ip = dpkt.ethernet.Ethernet(packet).data
            pseudo = ip.src + ip.dst + struct.pack(">HH", ip.p, len(ip.data))
            assert (ip.data.sum == word_sum(pseudo)) == (side == 0)
            assert word_sum(bytes(ip)[:20]) == 0xFFFF


def test_a_checksum_that_was_left_to_the_card_stays_left_to_it(lab):
    whole = lab[0]
    own = whole.wide_rows, whole.session, whole.endpoints()
    captured = forge(whole.wide, *own, "none", checksums="offloaded").tiles
    assert (captured != whole.wide).any()
    np.testing.assert_array_equal(
        forge(captured, *own, "all").tiles, whole.forged(checksums="offloaded").tiles
    )


def test_both_directions_taken_apart_still_fit(tmp_path):
    write_lab(tmp_path / "lab", sessions_per_family=3, families=("web",))
    path = tmp_path / "lab" / "Benign" / "web.pcap"
    both, apart = whole_packets(path), whole_packets(path, rule="unidirectional")
    assert len(apart.table) == 2 * len(both.table)
    told = [
        dict(zip(whole.rows["frame"], whole.bytes_of(whole.forged().tiles), strict=True))
        for whole in (both, apart)
    ]
    assert told[0] == told[1]


def test_fragments_have_the_checksum_of_the_whole_datagram(tmp_path):
    path = tmp_path / "a.pcap"
    whole = summed(ipv4(udp(51000, 53, data=bytes(range(40))), protocol=17))
    right = whole[26:28]
    first, last = halves4()
    first = first[:20] + whole[20:44]
    path.write_bytes(raw([_ip_summed(first), _ip_summed(last[:20] + whole[44:])]))
    packets = whole_packets(path)
    one, two = packets.bytes_of(packets.forged().tiles)
    ip = dpkt.ip.IP(one)
    data = one[20:] + two[20:]
    pseudo = ip.src + ip.dst + struct.pack(">HH", 17, len(data))
    assert word_sum(pseudo + data) == 0xFFFF and data[6:8] != right
    assert word_sum(one[:20]) == word_sum(two[:20]) == 0xFFFF


def _ip_summed(packet: bytes) -> bytes:
    head = packet[:10] + b"\0\0" + packet[12:20]
    return head[:10] + struct.pack(">H", 0xFFFF - word_sum(head)) + head[12:] + packet[20:]


def test_quoted_packets_and_their_checksums_follow(tmp_path):
    lost = summed(ipv4(udp(51000, 53, data=b"where?"), protocol=17))
    answer = struct.pack(">BBHI", 3, 3, 0, 0) + _ip_summed(lost)
    path = tmp_path / "a.pcap"
    back = ipv4(answer, protocol=1, source="10.0.0.2", destination="10.0.0.1")
    path.write_bytes(pcap([ethernet(_ip_summed(lost)), ethernet(summed(back))]))
    whole = whole_packets(path)
    one, two = whole.bytes_of(whole.forged("addresses").tiles)
    assert two[14 + 20 + 8 :] == one[14:]
    assert word_sum(two[34:]) == 0xFFFF and one[26:34] != lost[12:20]


def test_addresses_of_every_layer_follow_and_other_bytes_stay():
    for name, (link, pieces) in examples().items():
        tile, row = to_row(link, pieces)
        table = endpoint_table("10.1.2.3", "10.4.5.6")
        forged = forge(tile, row, np.zeros(1, int), endpoints_of(table), "addresses").tiles[0]
        at = 0
        for piece in pieces:
            old, new = piece.data, forged[at : at + len(piece.data)].tobytes()
            at += len(old)
            plain = piece.name.partition("#")[0]
            kept = not (piece.side is not None or "checksum" in plain or at > 256)
            known = len(old) in (4, 6, 16) and piece.side is not None and at <= 256
            if kept:
                assert new == old, (name, piece.name)
            if known and not plain.startswith(("nflog", "sll")):
                octets = np.frombuffer(old, np.uint8)[None]
                assert new == map_addresses(octets, 0).tobytes(), (name, piece.name)


def endpoint_table(source, destination, ports=((50000, 80),), protocol="tcp"):
    count = len(ports)
    return pa.table(
        {
            "capture": ["a"] * count,
            "protocol": [protocol] * count,
            "source": pa.array([source] * count, pa.string()),
            "destination": pa.array([destination] * count, pa.string()),
            "source_port": pa.array([pair[0] for pair in ports], pa.int32()),
            "destination_port": pa.array([pair[1] for pair in ports], pa.int32()),
        }
    )


def test_ports_of_a_client_stay_apart_and_services_stay():
    ports = [(port, 80) for port in range(40000, 56384)]
    new = endpoints_of(endpoint_table("10.0.0.1", "10.0.0.2", ports)).new_ports
    assert len(set(new[:, 0].tolist())) == len(ports) and new[:, 0].min() == EPHEMERAL
    assert set(new[:, 1].tolist()) == {80}
    for pair, moves in {
        (80, 50000): [False, True],  # the server began
        (53, 53): [False, False],
        (5000, 5000): [False, False],
        (8080, 50000): [False, True],
        (8080, 80): [True, False],
        (8080, 3306): [False, False],
        (4000, 7000): [True, False],
        (0, 0): [False, False],
    }.items():
        (new,) = endpoints_of(endpoint_table("10.0.0.1", "10.0.0.2", [pair])).new_ports
        assert (new != pair).tolist() == moves, pair
    many = endpoints_of(
        endpoint_table("10.0.0.1", "10.0.0.2", [(4000, 7000 + n) for n in range(9)])
    )
    assert set(many.new_ports[:, 0].tolist()) == {4000}  # a service, by its many peers


def test_sessions_without_addresses_keep_what_needs_them():
    ends = endpoints_of(endpoint_table(None, None, [(0, 0)], "any"))
    assert ends.family.tolist() == [0] and not ends.new_addresses.any()


def test_ports_that_a_crc_covers_stay(tmp_path):
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap([ethernet(ipv4(sctp(50000, 2905, data=b"chunk"), protocol=132))]))
    whole = whole_packets(path)
    (new,) = whole.bytes_of(whole.forged().tiles)
    assert new[34:] == whole.packets[0][34:] and new[26:34] != whole.packets[0][26:34]


@pytest.mark.parametrize(
    "ttl, target, moves",
    [
        (64, "93.1.2.3", True),
        (128, "93.1.2.3", True),
        (255, "93.1.2.3", True),
        (2, "93.1.2.3", True),
        (33, "93.1.2.3", True),
        (1, "93.1.2.3", False),
        (0, "93.1.2.3", False),
        (64, "224.0.0.251", False),
    ],
)
def test_times_to_live_stay_plausible(tmp_path, ttl, target, moves):
    packet = bytearray(ipv4(udp(), protocol=17, destination=target))
    packet[8] = ttl
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap([ethernet(bytes(packet))]))
    whole = whole_packets(path)
    for seed in range(8):
        (new,) = whole.bytes_of(whole.forged("ttl", seed).tiles)
        assert (new[22] != ttl) == moves
        initial = next(first for first in (32, 64, 128, 255) if ttl <= first)
        assert initial - 32 < new[22] <= initial or not moves


def test_what_refuses_a_syn_keeps_its_number(tmp_path):
    refusal = tcp_segment((80, 51000), (0, 78), 0x14, b"", b"")
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap([ethernet(summed(ipv4(refusal)))]))
    whole = whole_packets(path)
    tcp = dpkt.ethernet.Ethernet(whole.bytes_of(whole.forged("sequence").tiles)[0]).data.data
    assert tcp.seq == 0 and tcp.ack != 78


def test_names():
    assert parse_forgery("ttl+addresses") == ("addresses", "ttl")
    assert parse_forgery("all") == parse_forgery("+".join(FORGERIES)) == FORGERIES
    assert forgery_name("ttl + ports") == "ports+ttl" and forgery_name("ttl+all") == "all"
    assert parse_forgery("none") == () and forgery_name("none") == "none"
    for name in ("ip", "", "none+ttl", "addresses+"):
        with pytest.raises(ConfigError, match="is unknown, choose 'none', 'all' or join names of"):
            parse_forgery(name)


def test_what_does_not_fit_is_refused(lab):
    whole = lab[0]
    with pytest.raises(ConfigError, match="checksums 'no' are unknown: choose repaired or"):
        whole.forged(checksums="no")
    with pytest.raises(ConfigError, match="seed is -1"):
        whole.forged(seed=-1)
    with pytest.raises(ValueError, match="packet rows"):
        forge(whole.tiles[1:], whole.rows, whole.session, whole.endpoints(), "ttl")
