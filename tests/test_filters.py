"""The filter language: what matches, what is refused where, and that its program is checked."""

import ipaddress
import itertools
import random

import capture_bytes as made
import pytest
from both_cores import CORES, run

from xai_traffic.capture.filters import INSTRUCTION, MAX_INSTRUCTIONS, Program, compile_filter
from xai_traffic.capture.rules import DEFAULT_FILTER
from xai_traffic.errors import ConfigError

WEB = (6, "10.1.2.3", "192.168.0.9", 40_000, 80, 100)
DNS = (17, "192.168.0.9", "10.1.2.3", 53, 40_000, 300)
DHCP = (17, "0.0.0.0", "255.255.255.255", 68, 67, 342)
PING = (1, "10.1.2.3", "10.1.2.4", 0, 0, 98)
WEB6 = (6, "2001:db8::1", "fe80::2", 80, 81, 1514)
PING6 = (58, "fe80::1", "fe80::2", 0, 0, 70)
ODD = (17, "10.1.2.3", "10.1.2.3", 0, 80, 60)
SIGNAL = (132, "10.9.0.1", "10.9.0.2", 2905, 80, 90)
PACKETS = (WEB, DNS, DHCP, PING, WEB6, PING6, ODD, SIGNAL)


def matches(expression: str, packet: tuple) -> bool:
    protocol, source, destination, *rest = packet
    source, destination = map(ipaddress.ip_address, (source, destination))
    return compile_filter(expression).matches(
        protocol, source.version, source.packed, destination.packed, *rest
    )


CASES = {
    "": PACKETS,
    "   ": PACKETS,
    "tcp": (WEB, WEB6),
    "udp": (DNS, DHCP, ODD),
    "icmp": (PING,),
    "icmp6": (PING6,),
    "ip": (WEB, DNS, DHCP, PING, ODD, SIGNAL),
    "sctp": (SIGNAL,),
    "ip6": (WEB6, PING6),
    "proto 6": (WEB, WEB6),
    "proto udp": (DNS, DHCP, ODD),
    "ip proto \\tcp": (WEB,),
    "ip6 proto 6": (WEB6,),
    "port 80": (WEB, WEB6, ODD, SIGNAL),
    "src port 80": (WEB6,),
    "dst port 80": (WEB, ODD, SIGNAL),
    "src or dst port 80": (WEB, WEB6, ODD, SIGNAL),
    "src and dst portrange 80-81": (WEB6,),
    "port 0": (ODD,),
    "portrange 0-65535": (WEB, DNS, DHCP, WEB6, ODD, SIGNAL),
    "tcp port 80": (WEB, WEB6),
    "sctp src portrange 2900-2910": (SIGNAL,),
    "udp dst portrange 60-80": (DHCP, ODD),
    "tcp port 81 or 53": (WEB6,),
    "port 67 or 68 or 53": (DNS, DHCP),
    "port (67 or 53)": (DNS, DHCP),
    "not port (67 or 53)": (WEB, PING, WEB6, PING6, ODD, SIGNAL),
    "host 10.1.2.3": (WEB, DNS, PING, ODD),
    "src 10.1.2.3": (WEB, PING, ODD),
    "src and dst host 10.1.2.3": (ODD,),
    "dst host fe80::2": (WEB6, PING6),
    "10.1.2.4 or 2001:db8::1": (PING, WEB6),
    "port 80 and (10.1.2.3 or fe80::2) or 81": (WEB, WEB6, ODD),
    "net 10": (WEB, DNS, PING, ODD, SIGNAL),
    "net 10.1.2.4/31": (PING,),
    "net 192.168": (WEB, DNS),
    "net 192.168/17": (WEB, DNS),
    "net 192.128.0.0/9": (WEB, DNS),
    "ip src net 10.0.0.0/8": (WEB, PING, ODD, SIGNAL),
    "net fe80::/10": (WEB6, PING6),
    "src net 2001:db0::/28": (WEB6,),
    "net 0.0.0.0/0": (WEB, DNS, DHCP, PING, ODD, SIGNAL),
    "net ::/0": (WEB6, PING6),
    "less 98": (PING, PING6, ODD, SIGNAL),
    "greater 342": (DHCP, WEB6),
    "not tcp": (DNS, DHCP, PING, PING6, ODD, SIGNAL),
    "! ! tcp": (WEB, WEB6),
    "tcp or udp and port 53": (DNS,),  # from left to right, as in tcpdump
    "tcp or (udp and port 53)": (WEB, DNS, WEB6),
    "udp||tcp&&!port 80": (DNS, DHCP),
    "(((udp)))": (DNS, DHCP, ODD),
    DEFAULT_FILTER: (WEB, DNS, WEB6, ODD),
}


@pytest.mark.parametrize("expression", CASES)
def test_matches(expression):
    assert [p for p in PACKETS if matches(expression, p)] == list(CASES[expression])


@pytest.mark.parametrize(
    "expression, position, token",
    [
        ("tcp prt 80", 5, "'prt'"),
        ("port", 5, "its end"),
        ("port 65536", 6, "'65536'"),
        ("port -1", 6, "'-1'"),
        ("port ٣", 6, "'٣'"),
        ("port 80 or http", 12, "'http'"),
        ("portrange 9-3", 11, "'9-3'"),
        ("portrange 9", 11, "'9'"),
        ("proto 256", 7, "'256'"),
        ("src proto 6", 5, "'proto'"),
        ("less x", 6, "'x'"),
        ("tcp less 3", 5, "'less'"),
        ("greater 4294967296", 9, "'4294967296'"),
        ("host 10.0.0.256", 6, "'10.0.0.256'"),
        ("host 10.0.0.0/8", 6, "'10.0.0.0/8'"),
        ("host example.org", 6, "'example.org'"),
        ("host fe80::1%eth0", 6, "'fe80::1%eth0'"),
        ("net 10.0.0.1/8", 5, "'10.0.0.1/8'"),
        ("ip host ::1", 9, "'::1'"),
        ("ip port 80", 1, "'ip'"),
        ("tcp host 10.0.0.1", 1, "'tcp'"),
        ("src or src port 80", 8, "'src'"),
        ("tcp udp", 5, "'udp'"),
        ("tcp and", 8, "its end"),
        ("and tcp", 1, "'and'"),
        ("not", 4, "its end"),
        ("(tcp", 1, "'('"),
        ("tcp)", 4, "')'"),
        ("()", 2, "')'"),
        ("(tcp udp)", 6, "'udp'"),
        ("port (67 or tcp)", 13, "'tcp'"),
        ("tcp & udp", 5, "'&'"),
        ("tcp[13]", 1, "'tcp[13]'"),
        ("ether host 1", 1, "'ether'"),
        ("(" * 64 + "tcp" + ")" * 64, 64, "'('"),
    ],
)
def test_errors_name_position_and_token(expression, position, token):
    with pytest.raises(ConfigError) as caught:
        compile_filter(expression)
    assert f"position {position}, {token}:" in str(caught.value)


def test_length_and_depth_are_bounded():
    fits = " or ".join(["tcp"] * (MAX_INSTRUCTIONS // 2))
    assert len(compile_filter(fits).code) == (MAX_INSTRUCTIONS - 1) * INSTRUCTION.size
    with pytest.raises(ConfigError, match="too long"):
        compile_filter(fits + " or tcp")
    deep = "tcp or (" * 63 + "tcp" + ")" * 63
    assert compile_filter(deep)
    with pytest.raises(ConfigError, match="nested too deep"):
        compile_filter(deep.replace("tcp)", "(tcp)"))
    assert matches("not " * 10_001 + "tcp", DNS)


@pytest.mark.parametrize(
    "code",
    [
        b"\x04",
        bytes(24),
        INSTRUCTION.pack(10, 0, 0, 0, 0, b""),
        INSTRUCTION.pack(4, 4, 0, 0, 0, b""),
        INSTRUCTION.pack(3, 0, 0, 0, 0, b""),
        INSTRUCTION.pack(5, 0, 5, 0, 0, b""),
        INSTRUCTION.pack(6, 0, 4, 33, 0, b""),
        INSTRUCTION.pack(4, 0, 0, 0, 6, b"") * 2,
        INSTRUCTION.pack(4, 0, 0, 0, 6, b"") * 65,
        INSTRUCTION.pack(4, 0, 0, 0, 6, b"") * (MAX_INSTRUCTIONS + 1),
    ],
)
def test_program_is_checked(code):
    with pytest.raises(ConfigError):
        Program("", code)


def random_expression(rng: random.Random, depth: int) -> str:
    if depth and rng.random() < 0.7:
        left, right = (random_expression(rng, depth - 1) for _ in range(2))
        word = rng.choice(("and", "or", "&&", "||"))
        return rng.choice(("", "not ")) + f"({left} {word} {right})"
    return "(" + rng.choice([expression for expression in CASES if expression.strip()]) + ")"


def captured(packet: tuple) -> tuple:
    """Return the packet as a record of a capture."""
    protocol, source, destination, source_port, destination_port, wire = packet
    ports = source_port, destination_port
    data = made.tcp(*ports) if protocol == 6 else made.udp(*ports, data=bytes(4))
    wrap = made.ipv6 if ":" in source else made.ipv4
    return 0, 0, wrap(data, source=source, destination=destination, protocol=protocol), wire


@pytest.mark.parametrize("core", CORES)
def test_cores_evaluate_the_program(core):
    rng = random.Random(2)
    capture = made.pcap(map(captured, PACKETS), link=101)
    drawn = (random_expression(rng, depth) for depth in (1, 3, 5) for _ in range(30))
    for expression in itertools.chain(CASES, drawn):
        wanted = [n for n, packet in enumerate(PACKETS, 1) if matches(expression, packet)]
        assert run(core, capture, filter=expression).table()["frame"].tolist() == wanted
