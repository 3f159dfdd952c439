"""What both cores find in tunnels, what they take for no tunnel, and what rows say of it."""

import ipaddress

import capture_bytes as made
import pytest
from both_cores import CORES, check_invariants, run

from xai_traffic.capture.records import NONE, TUNNELS

IN4 = made.ipv4(made.tcp(7, 9, data=b"hello"), source="192.168.0.7", destination="192.168.0.9")
IN6 = made.ipv6(made.tcp(7, 9, data=b"hello"), source="fd99::7", destination="fd99::9")
FRAME = made.ethernet(IN4)
WIFI = made.wireless(made.snap(IN4))
FRAME6 = made.ethernet(IN6, kind=0x86DD, tags=[0x8100])


def ip(data: bytes, protocol: int, **more) -> bytes:
    return made.ipv4(data, protocol=protocol, **more)


def datagram(data: bytes, destination: int, source: int = 40_000) -> bytes:
    return made.ipv4(made.udp(source, destination, data=data), protocol=17)


def gre(data: bytes, **more) -> bytes:
    return ip(made.gre(data, **more), 47)


def gtp(data: bytes = IN4, port: int = 2152, **more) -> bytes:
    return datagram(made.gtp(data, **more), port)


def teredo(data: bytes = IN6, port: int = 3544, **more) -> bytes:
    return datagram(made.teredo(data, **more), port)


def nested(count: int) -> bytes:
    data = IN4
    for _ in range(count):
        data = ip(data, 4)
    return data


# name: (packet behind its link header, kind and number of tunnels, offset of the inner IP header);
# without the last two the packet stays at its outer header
CASES = {
    "ipip": (ip(IN4, 4), "ipip", 1, 20),
    "ipip in ipv6": (made.ipv6(IN4, protocol=4), "ipip", 1, 40),
    "ipip of ipv6": (ip(IN6, 4),),
    "ipip cut": (ip(IN4[:19], 4),),
    "ipip of a cut segment": (ip(IN4[:39], 4, total=60),),
    "ipip beyond the datagram": (ip(IN4, 4, total=59),),
    "ipip of arp": (ip(bytes(28), 4),),
    "6in4": (ip(IN6, 41), "6in4", 1, 20),
    "6in6": (made.ipv6(IN6, protocol=41), "6in4", 1, 40),
    "6in4 of ipv4": (ip(IN4, 41),),
    "four tunnels": (nested(4), "ipip", 4, 80),
    "five tunnels": (nested(5), "ipip", 4, 80),
    "two kinds": (ip(made.ipv6(made.gre(IN4), protocol=47), 41), "gre", 2, 64),
    # GRE
    "gre": (gre(IN4), "gre", 1, 24),
    "gre ipv6": (gre(IN6, protocol=0x86DD), "gre", 1, 24),
    "gre all fields": (gre(IN4, flags=0xB0, fields=bytes(12)), "gre", 1, 36),
    "gre checksum": (gre(IN4, flags=0x80, fields=bytes(4)), "gre", 1, 28),
    "gre routing": (gre(IN4, flags=0x40),),
    "gre reserved": (gre(IN4, flags=0x08), "gre", 1, 24),
    "gre version 2": (gre(IN4, version=2),),
    "gre other": (gre(IN4, protocol=0x0806),),
    "gre cut": (gre(b"")[:23],),
    "gre fields cut": (gre(b"", flags=0x20, fields=bytes(3)),),
    "gre ethernet": (gre(FRAME, protocol=0x6558), "gre", 1, 38),
    "gre ethernet of arp": (gre(made.ethernet(bytes(28), kind=0x0806), protocol=0x6558),),
    "gre ppp": (gre(b"\xff\x03\x00\x21" + IN4, protocol=0x880B), "gre", 1, 28),
    "gre mpls": (gre(made.mpls(IN4, labels=2), protocol=0x8847), "gre", 1, 32),
    "erspan 1": (gre(FRAME, protocol=0x88BE), "gre", 1, 38),
    "erspan 2": (gre(bytes(8) + FRAME, protocol=0x88BE, flags=0x10, fields=bytes(4)), "gre", 1, 50),
    "erspan 3": (gre(bytes(12) + FRAME6, protocol=0x22EB), "gre", 1, 54),
    "erspan 3 and more": (gre(bytes(11) + b"\1" + bytes(8) + FRAME, protocol=0x22EB), "gre", 1, 58),
    "erspan 3 cut": (gre(bytes(11), protocol=0x22EB),),
    "gre aruba": (gre(WIFI, protocol=0x8200), "gre", 1, 56),
    "gre aruba, another": (gre(WIFI, protocol=0x8370), "gre", 1, 56),
    "gre aruba, none": (gre(WIFI, protocol=0x8201),),
    "gre aruba encrypted": (gre(made.wireless(made.snap(IN4), control=0x4008), protocol=0x8200),),
    "pptp": (
        gre(b"\xff\x03\x00\x21" + IN4, protocol=0x880B, flags=0x30, version=1, fields=bytes(8)),
        "gre",
        1,
        36,
    ),
    "pptp acknowledged": (
        gre(b"\x57" + IN6, protocol=0x880B, flags=0x30, version=0x81, fields=bytes(12)),
        "gre",
        1,
        37,
    ),
    "pptp without sequence": (
        gre(b"\x00\x21" + IN4, protocol=0x880B, flags=0x20, version=1, fields=bytes(4)),
        "gre",
        1,
        30,
    ),
    "pptp without key": (
        gre(b"\x21" + IN4, protocol=0x880B, flags=0x10, version=1, fields=bytes(4)),
    ),
    "pptp control": (
        gre(b"\xc0\x21" + IN4, protocol=0x880B, flags=0x20, version=1, fields=bytes(4)),
    ),
    "ppp in version 0": (
        gre(b"\x21" + IN4, protocol=0x880B, flags=0x20, fields=bytes(4)),
        "gre",
        1,
        29,
    ),
    # VXLAN and Geneve
    "vxlan": (datagram(made.vxlan(FRAME), 4789), "vxlan", 1, 50),
    "vxlan vlan": (datagram(made.vxlan(FRAME6), 4789), "vxlan", 1, 54),
    "vxlan without a network": (datagram(made.vxlan(FRAME, flags=0), 4789),),
    "vxlan answer": (datagram(made.vxlan(FRAME), 40_001, 4789),),
    "vxlan of arp": (datagram(made.vxlan(made.ethernet(bytes(28), kind=0x0806)), 4789),),
    "vxlan cut": (datagram(b"\x08" + bytes(6), 4789),),
    "vxlan comes first": (datagram(made.vxlan(FRAME), 4789, 2152), "vxlan", 1, 50),
    "vxlan is the only one tried": (datagram(made.gtp(IN4), 4789, 2152),),
    "vxlan empty": (datagram(b"", 4789),),
    "geneve": (datagram(made.geneve(FRAME), 6081), "geneve", 1, 50),
    "geneve options": (datagram(made.geneve(FRAME, options=bytes(252)), 6081), "geneve", 1, 302),
    "geneve ipv4": (datagram(made.geneve(IN4, protocol=0x0800), 6081), "geneve", 1, 36),
    "geneve ipv6": (datagram(made.geneve(IN6, protocol=0x86DD), 6081), "geneve", 1, 36),
    "geneve mpls": (datagram(made.geneve(made.mpls(IN4), protocol=0x8847), 6081),),
    "geneve version": (datagram(made.geneve(FRAME, version=1), 6081),),
    "geneve answer": (datagram(made.geneve(FRAME), 40_001, 6081),),
    # GTP-U
    "gtp": (gtp(), "gtp", 1, 36),
    "gtp ipv6": (gtp(IN6), "gtp", 1, 36),
    "gtp from the port": (datagram(made.gtp(IN4), 40_001, 2152), "gtp", 1, 36),
    "gtp sequence": (gtp(flags=0x32, options=b"\0\1\0\x85"), "gtp", 1, 40),
    "gtp extension": (gtp(flags=0x34, options=b"\0\0\0\x85\1\0\7\0"), "gtp", 1, 44),
    "gtp two extensions": (
        gtp(flags=0x34, options=b"\0\0\0\x85\2\0\0\0\0\0\0\xc0\1\0\0\0"),
        "gtp",
        1,
        52,
    ),
    "gtp 16 extensions": (
        gtp(flags=0x34, options=b"\0\0\0\x85" + b"\1\0\0\x85" * 15 + b"\1\0\0\0"),
        "gtp",
        1,
        104,
    ),
    "gtp 17 extensions": (
        gtp(flags=0x34, options=b"\0\0\0\x85" + b"\1\0\0\x85" * 16 + b"\1\0\0\0"),
    ),
    "gtp empty extension": (gtp(flags=0x34, options=b"\0\0\0\x85\0\0\7\0"),),
    "gtp extension cut": (gtp(b"", flags=0x34, options=b"\0\0\0\x85\1\0\7"),),
    "gtp options cut": (gtp(b"", flags=0x32, options=b"\0\1\0"),),
    "gtp prime": (gtp(flags=0x20),),
    "gtp version 2": (gtp(flags=0x48),),
    "gtp reserved bit": (gtp(flags=0x38), "gtp", 1, 36),
    "gtp echo": (gtp(kind=1),),
    "gtp of neither": (gtp(b"\x50" + bytes(60)),),
    "gtp nothing": (gtp(b""),),
    # Teredo
    "teredo": (teredo(), "teredo", 1, 28),
    "teredo from the port": (datagram(IN6, 40_001, 3544), "teredo", 1, 28),
    "teredo origin": (teredo(origin=True), "teredo", 1, 36),
    "teredo authentication": (teredo(identifier=b""), "teredo", 1, 41),
    "teredo all": (
        teredo(identifier=b"me", authentication=b"123", origin=True),
        "teredo",
        1,
        28 + 13 + 5 + 8,
    ),
    "teredo of ipv4": (teredo(IN4),),
    "teredo beyond the datagram": (teredo(IN6[:-1]),),
    "teredo shorter than the datagram": (teredo(IN6 + b"trailer"), "teredo", 1, 28),
    "teredo cut": (teredo(b"\0\1\xff\xff"),),
    "teredo bubble": (teredo(made.ipv6(b"", protocol=59)), "teredo", 1, 28),
}


@pytest.fixture(params=CORES)
def core(request):
    return request.param


@pytest.mark.parametrize("case", CASES)
def test_the_inner_header_makes_the_session(core, case):
    packet, *wanted = CASES[case]
    frame = made.ethernet(packet, kind=0x0800 if packet[0] >> 4 == 4 else 0x86DD)
    result = run(core, made.pcap([frame]))
    check_invariants(result)
    assert not any(result.dropped)
    row, session = result.table()[0], result.sessions()[0]
    if not wanted:
        assert row[["outer", "tunnel", "depth"]].tolist() == (NONE, 0, 0)
        assert session[["outer_family", "tunnel", "depth"]].tolist() == (0, 0, 0)
        assert not session["outer_source"].any() and not session["outer_destination"].any()
        assert row["network"] == 14 and row["protocol"] == (
            packet[9] if packet[0] >> 4 == 4 else packet[6]
        )
        return
    kind, depth, offset = wanted
    tunnel = TUNNELS.index(kind)
    inner = packet[offset:]
    family, protocol = inner[0] >> 4, inner[9] if inner[0] >> 4 == 4 else inner[6]
    size = 20 if family == 4 else 40
    assert row[["outer", "tunnel", "depth"]].tolist() == (14, tunnel, depth)
    assert row["network"] == 14 + offset and row["transport"] == 14 + offset + size
    assert row["protocol"] == protocol
    assert session[["family", "protocol", "tunnel", "depth"]].tolist() == (
        family,
        protocol,
        tunnel,
        depth,
    )
    if protocol == 6:
        assert row["payload"] == 14 + offset + size + 20 and session["payload_bytes"] == 5
        assert session[["source_port", "destination_port"]].tolist() == (7, 9)
    assert session["outer_family"] == packet[0] >> 4
    outer = packet[12:20] if packet[0] >> 4 == 4 else packet[8:40]
    for name, packed in (
        ("source", outer[: len(outer) // 2]),
        ("destination", outer[len(outer) // 2 :]),
    ):
        assert session["outer_" + name].tobytes() == packed.ljust(16, b"\0")


@pytest.mark.parametrize("case", CASES)
def test_the_outer_header_makes_it_where_that_is_asked(core, case):
    packet = CASES[case][0]
    result = run(core, made.pcap([packet], link=101), tunnels="outer")
    check_invariants(result)
    row, session = result.table()[0], result.sessions()[0]
    assert row[["network", "outer", "tunnel", "depth"]].tolist() == (0, NONE, 0, 0)
    assert session["family"] == packet[0] >> 4 and session["outer_family"] == 0
    assert session["protocol"] == (packet[9] if packet[0] >> 4 == 4 else packet[6])


def test_tiles_begin_at_the_inner_layers(core):
    packet = made.ethernet(datagram(made.vxlan(FRAME) + b"FCS!", 4789))
    # The inner header lies 14 + 28 + 8 + 14 bytes in; the outer datagram has four bytes more.
    wanted = {
        "all": (0, 109 + 4, 64, 84, 104, 14),
        "network": (64, 45, 0, 20, 40, NONE),
        "transport": (84, 25, NONE, 0, 20, NONE),
        "payload": (104, 5, NONE, NONE, 0, NONE),
    }
    for layers, numbers in wanted.items():
        result = run(core, made.pcap([packet]), layers=layers)
        check_invariants(result)
        names = ["start", "length", "network", "transport", "payload", "outer"]
        assert result.table()[names].tolist() == [numbers]


def test_filter_and_sessions_see_the_inner_headers(core):
    back4 = made.ipv4(made.tcp(9, 7), source="192.168.0.9", destination="192.168.0.7")
    packets = [
        ip(IN4, 4),
        gre(back4),
        datagram(made.vxlan(FRAME), 4789),
        IN4,
        datagram(b"none", 4789),
        gre(made.ipv4(b"\x08\x00", protocol=1)),
    ]
    result = run(core, made.pcap(packets, link=101), filter="tcp and host 192.168.0.7 and port 9")
    check_invariants(result)
    assert result.table()["frame"].tolist() == [1, 2, 3, 4]
    assert result.table()["direction"].tolist() == [0, 1, 0, 0]
    assert result.table()["depth"].tolist() == [1, 1, 1, 0]
    # One session, whose first packet came in IP.
    session = result.sessions()[0]
    assert session["packets"] == 4 and TUNNELS[session["tunnel"]] == "ipip"
    assert result.sessions()["packets"].tolist() == [4]
    source = ipaddress.ip_address("10.0.0.1").packed.ljust(16, b"\0")
    assert session["outer_source"].tobytes() == source


def test_outer_addresses_are_the_first_headers(core):
    inner = ip(ip(IN4, 4, source="172.16.0.1"), 4, source="172.16.0.2", destination="172.16.0.3")
    packet = made.ipv6(inner, source="fd00::a", destination="fd00::b", protocol=4)
    session = run(core, made.pcap([packet], link=101)).sessions()[0]
    assert session[["depth", "outer_family", "family"]].tolist() == (3, 6, 4)
    assert session["outer_source"].tobytes() == ipaddress.ip_address("fd00::a").packed
    assert session["outer_destination"].tobytes() == ipaddress.ip_address("fd00::b").packed


def test_deep_nesting_takes_bounded_time(core):
    packets = [nested(3000), gre(made.mpls(IN4, labels=16) * 500, protocol=0x8847)] * 200
    result = run(core, made.pcap(packets, link=101))
    check_invariants(result)
    assert set(result.table()["depth"].tolist()) <= {0, 1, 4}
