"""heiFIP's renderings against the real heiFIP 1.1.1, and against what it once made.

The real one is run where XAI_TRAFFIC_HEIFIP names the Python that it is installed for (in an
environment of its own: heifip==1.1.1 scapy==2.5.0 cryptography==41.0.1 numpy pillow tqdm).
`python tests/test_heifip.py` then writes the golden files anew.
"""

import json
import os
import pathlib
import struct
import subprocess
import tempfile
import time

import numpy as np
import pytest
from capture_bytes import ethernet, ipv4, ipv6, pcap, tcp, udp
from small_dataset import tiny_config

import xai_traffic as xt
from xai_traffic.capture import core
from xai_traffic.capture.core_numpy import Core
from xai_traffic.capture.filters import compile_filter
from xai_traffic.capture.heifip import RANDOM, draw_noise, render
from xai_traffic.capture.records import NONE, PACKET
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.data.build import convert
from xai_traffic.errors import ConfigError, DatasetError
from xai_traffic.training.job import check_dataset

HERE = pathlib.Path(__file__).parent
GOLDEN = HERE / "golden/heifip"
PYTHON = os.environ.get("XAI_TRAFFIC_HEIFIP")
CORES = ["numpy"] if core._core is None else ["numpy", "c"]
NOISE = bytes(range(1, RANDOM + 1))
ETHERNET, NULL, RAW_IP, SLL, PPP = 1, 0, 101, 113, 9

HOST = b"\x07example\x03com\0"
REQUEST = (
    b"POST /a?b HTTP/1.1\r\nHost: h\r\nuser-agent: me/1\r\nAccept: */*\r\nCookie: a=b\r\n"
    b"Accept-Encoding: gzip\r\nConnection:  close \r\nX: y: z\r\nTE:\r\nCookie: c=d\r\n\r\n"
)
RESPONSE = (
    b"HTTP/1.1 404 Not Found\r\nServer: s\r\nContent-Type: text/html\r\nSet-Cookie: k=v\r\n"
    b"Transfer-Encoding: chunked\r\nDate: now\r\n\r\n"
)
HELLO = bytes.fromhex("160301002c010000280303") + bytes(range(32)) + bytes.fromhex("000002002f0100")


def question(name: bytes = HOST, kind: int = 1) -> bytes:
    return name + struct.pack(">HH", kind, 1)


def record(kind: int, data: bytes, name: bytes = b"\xc0\x0c", size: int | None = None) -> bytes:
    return name + struct.pack(">HHIH", kind, 1, 3600, len(data) if size is None else size) + data


def dns(*counts: int, body: bytes = b"", flags: int = 0x8180) -> bytes:
    return struct.pack(">HHHHHH", 0x1234, flags, *counts, *[0] * (4 - len(counts))) + body


def over_tcp(message: bytes) -> bytes:
    return struct.pack(">H", len(message)) + message


def options(data: bytes, payload: bytes = b"", ports=(1000, 9999)) -> bytes:
    data += bytes(-len(data) % 4)
    plain = bytearray(tcp(*ports, flags=0xC2, words=5))
    plain[12] = (5 + len(data) // 4) << 4 | 1
    return bytes(plain) + data + payload


def in_ip(data: bytes, protocol: int = 6, **kwargs) -> bytes:
    return ethernet(ipv4(data, protocol=protocol, **kwargs))


SYN = bytes.fromhex("020405b4 0402 080a 00000001 00000002 01 030307")
ODD = bytes.fromhex("1306aabbccdd 0100 fd04abcd 1903ff 080455aa 0500")
ANSWERS = b"".join(
    record(*each)
    for each in (
        (5, b"\x03www\xc0\x0c"),
        (1, bytes([192, 0, 2, 1])),
        (28, bytes(16)),
        (16, b"\x05hello\x02yo"),
        (15, b"\0\x0a\x02mx\xc0\x0c"),
        (6, b"\xc0\x0c\x01a\xc0\x0c" + bytes(20)),
        (33, bytes(6) + HOST),
        (43, b"\0\1\5\1" + bytes(20)),
        (46, struct.pack(">HBBIIIH", 1, 5, 2, 1, 2, 3, 4) + HOST + b"signature"),
        (48, b"\1\0\3\5key"),
        (50, b"\1\0\0\1\2ab\3xyz\0\1\2"),
        (250, HOST + bytes(6) + b"\1\2\0\2ab\0\1\0\0\0\0"),
        (99, b"unknown"),
    )
)
OPTION = record(41, b"\0\x0a\0\4abcd", b"\0")

BIND = bytes.fromhex("300c 020101 6007 020103 0400 8000")
LONG_BIND = bytes.fromhex("308400000011 020101 60810b 020103 040161 8003626364")

SASL = bytes.fromhex("3013 020101 600e 020103 0400 a307 0402 4753 0401 78")
EQUAL, PRESENT = bytes.fromhex("a307 0402 636e 0401 78"), bytes.fromhex("8702 636e")
PARTS = bytes.fromhex("a40f 0402 636e 3009 800161 810162 820163")


def search(wanted: bytes) -> bytes:
    """Return an LDAP search for entries that pass a filter."""
    inner = bytes.fromhex("0400 0a0100 0a0100 020100 020100 010100") + wanted + b"0\0"
    return b"0" + bytes([len(inner) + 5]) + b"\2\1\5\x63" + bytes([len(inner)]) + inner


def smb2(command: int) -> bytes:
    message = b"\xfeSMB\x40\0" + bytes(6) + struct.pack("<H", command) + bytes(50)
    return struct.pack(">I", len(message) + 4) + message


def names(flags: int) -> bytes:
    """Return a question of the NetBIOS name service."""
    name = b"\x20" + b"CK" + b"A" * 30 + b"\0"
    return struct.pack(">HHHHHH", 7, flags, 1, 0, 0, 0) + name + struct.pack(">HH", 32, 1)


MADE = {
    ETHERNET: {
        "syn": in_ip(options(SYN)),
        "odd options": in_ip(options(ODD)),
        "options end": in_ip(options(b"\1\1\0\2\4")),
        "acknowledgement": in_ip(tcp()),
        "frame padding": in_ip(tcp()) + bytes(6),
        "unknown port": in_ip(tcp(1000, 9999, data=b"secret") + b"") + bytes(3),
        "unknown udp port": in_ip(udp(1000, 9999, data=b"secret"), 17),
        "empty udp": in_ip(udp(1000, 9999), 17),
        "udp padding": in_ip(
            udp(1000, 53, data=dns(1, body=question()))[:4]
            + b"\0\x25\0\0"
            + dns(1, body=question())
            + b"pad",
            17,
        ),
        "query": in_ip(udp(data=dns(1, body=question(), flags=0x100)), 17),
        "root query": in_ip(udp(data=dns(1, body=question(b"\0", 2))), 17),
        "answers": in_ip(
            udp(53, 1000, data=dns(1, 13, 0, 1, body=question() + ANSWERS + OPTION)), 17
        ),
        "authority": in_ip(
            udp(53, 9, data=dns(1, 0, 1, body=question() + record(2, b"\1b\xc0\x0c"))), 17
        ),
        "two questions": in_ip(udp(data=dns(2, body=question() + question(b"\xc0\x0c", 28))), 17),
        "dns header alone": in_ip(udp(data=dns(0)), 17),
        "dns promises": in_ip(udp(data=dns(1, flags=0x100)), 17),
        "dns too short": in_ip(udp(data=dns(1)[:7]), 17),
        "dns cut in a record": in_ip(udp(data=dns(1, 1, body=question() + b"\xc0\x0c\0\1\0")), 17),
        "dns cut address": in_ip(udp(data=dns(1, 1, body=question() + record(1, b"abc"))), 17),
        "dns with more behind": in_ip(udp(data=dns(1, body=question()) + b"more"), 17),
        "dns of many": in_ip(udp(data=dns(1, 500, body=question())), 17),
        "dns loop": in_ip(udp(data=dns(1, body=question(b"\1a\xc0\x0c"))), 17),
        "dns pointer before": in_ip(udp(data=dns(1, body=question(b"\xc0\x03"))), 17),
        "dotted label": in_ip(udp(data=dns(1, body=question(b"\x04a.b.\0"))), 17),
        "multicast dns": in_ip(udp(5353, 5353, data=dns(0, 1, body=record(12, HOST, HOST))), 17),
        "llmnr": in_ip(udp(1000, 5355, data=dns(1, body=question())), 17),
        "dns over tcp": in_ip(
            tcp(1000, 53, data=over_tcp(dns(1, 1, body=question() + record(5, HOST))))
        ),
        "dns over tcp, cut": in_ip(tcp(1000, 53, data=over_tcp(dns(1, body=question()))[:20])),
        "request": in_ip(tcp(1000, 80, data=REQUEST)),
        "request with body": in_ip(tcp(1000, 8080, data=REQUEST + b"body")),
        "request, padded": in_ip(tcp(1000, 80, data=REQUEST)) + bytes(4),
        "request line alone": in_ip(tcp(1000, 80, data=b"GET / HTTP/1.0\r\n")),
        "request cut": in_ip(tcp(1000, 80, data=b"GET / HTTP/1.0")),
        "request of another kind": in_ip(tcp(1000, 80, data=b"PATCH / HTTP/1.1\r\n\r\n")),
        "response": in_ip(tcp(80, 1000, data=RESPONSE + b"4\r\nbody\r\n0\r\n\r\n")),
        "response head": in_ip(tcp(80, 1000, data=RESPONSE)),
        "response without reason": in_ip(tcp(80, 1000, data=b"HTTP/1.1 200 \r\nServer: a\r\n\r\n")),
        "http goes on": in_ip(tcp(80, 1000, data=b"the middle of a body")),
        "hello": in_ip(tcp(1000, 443, data=HELLO)),
        "records": in_ip(tcp(443, 1000, data=b"\x17\3\3\0\4abcd\x15\3\3\0\2\1\0")),
        "tls goes on": in_ip(tcp(443, 1000, data=b"the middle of a record")),
        "tls begins": in_ip(tcp(443, 1000, data=b"\x17\3\3\0")),
        "tls elsewhere": in_ip(tcp(1000, 8443, data=HELLO)),
        "time": in_ip(udp(123, 123, data=b"\x23" + bytes(47)), 17),
        "smb goes on": in_ip(tcp(445, 1000, data=b"the middle of a message")),
        "smb echo": in_ip(
            tcp(1000, 445, data=b"\0\0\0\x25\xffSMB\x2b" + bytes(27) + b"\1\1\0\0\0")
        ),
        "smb 2 log off": in_ip(tcp(1000, 445, data=smb2(2) + b"\x04\0\0\0")),
        "smb 2 echo": in_ip(tcp(1000, 445, data=smb2(13) + b"\x04\0\0\0")),
        "smb 2 head alone": in_ip(tcp(1000, 445, data=smb2(13))),
        "ldap bind": in_ip(tcp(1000, 389, data=BIND)),
        "ldap bind, long lengths": in_ip(tcp(1000, 389, data=LONG_BIND)),
        "two ldap binds": in_ip(tcp(1000, 389, data=BIND + LONG_BIND)),
        "ldap bind and more": in_ip(tcp(1000, 389, data=BIND + b"more")),
        "ldap modify": in_ip(tcp(1000, 389, data=BIND.replace(b"\x60", b"\x66"))),
        "ldap abandon": in_ip(tcp(1000, 389, data=bytes.fromhex("3006 020105 500103"))),
        "ldap big number": in_ip(tcp(1000, 389, data=bytes.fromhex("3008 0204 00000080 4200"))),
        "ldap negative number": in_ip(tcp(1000, 389, data=bytes.fromhex("3006 0202 ff80 4200"))),
        "ldap search": in_ip(tcp(1000, 389, data=search(EQUAL))),
        "ldap search of all": in_ip(tcp(1000, 389, data=search(b"\xa0\x0d" + EQUAL + PRESENT))),
        "ldap search of any": in_ip(tcp(1000, 389, data=search(b"\xa1\x09" + EQUAL))),
        "ldap search of none": in_ip(tcp(1000, 389, data=search(b"\xa2\x09" + EQUAL))),
        "ldap search of parts": in_ip(tcp(1000, 389, data=search(PARTS))),
        "cldap": in_ip(udp(1000, 389, data=search(PRESENT) + search(EQUAL)), 17),
        "ldap sasl bind": in_ip(tcp(1000, 389, data=SASL)),
        "ldap cut": in_ip(tcp(1000, 389, data=BIND[:-1])),
        "kerberos goes on": in_ip(tcp(1000, 88, data=b"the middle of a ticket")),
        "name query": in_ip(udp(137, 137, data=names(0x0110)), 17),
        "name refresh": in_ip(udp(137, 137, data=names(0x2810)), 17),
        "datagram": in_ip(udp(138, 138, data=bytes(100)), 17),
        "options of ip": in_ip(tcp(), words=7),
        "no total length": in_ip(tcp(1000, 80, data=b"segment"), total=0),
        "first fragment": in_ip(tcp(1000, 9999, data=b"part"), fragment=0x2000),
        "later fragment": in_ip(b"part of something", fragment=0x0010),
        "cut tcp header": in_ip(tcp()[:12]),
        "tcp header cut in a field": in_ip(tcp()[:11]),
        "smallest first fragment": in_ip(tcp()[:8], fragment=0x2000),
        "equal addresses": ethernet(ipv4(tcp(), destination="10.0.0.1"))[6:12] * 2
        + ethernet(ipv4(tcp(), destination="10.0.0.1"))[12:],
        "vlan": ethernet(struct.pack(">HH", 5, 0x0800) + ipv4(tcp(data=REQUEST)), kind=0x8100),
        "tagged twice": ethernet(
            struct.pack(">HHHH", 5, 0x8100, 6, 0x0800) + ipv4(tcp()), kind=0x8100
        ),
        "ipv6": ethernet(ipv6(options(SYN, b"x")), kind=0x86DD),
        "ipv6 request": ethernet(ipv6(tcp(1000, 80, data=REQUEST)), kind=0x86DD),
        "ipv6 hop by hop": ethernet(
            ipv6(bytes([17, 0, 1, 4, 0, 0, 0, 0]) + udp(data=dns(1, body=question())), protocol=0),
            kind=0x86DD,
        ),
        "ipv6 fragment": ethernet(
            ipv6(bytes([6, 0, 0, 9, 0, 0, 0, 1]) + b"rest", protocol=44), kind=0x86DD
        ),
        "echo": in_ip(b"\x08\0\0\0\0\1\0\1data", 1),
        "unreachable": in_ip(b"\3\3\0\0\0\0\0\0" + ipv4(udp(), protocol=17), 1),
        "another protocol": in_ip(b"abcdefgh", 99),
        "address resolution": ethernet(bytes(28), kind=0x0806),
    },
    NULL: {
        "loopback": struct.pack("<I", 2) + ipv4(tcp(1000, 80, data=REQUEST)),
        "loopback of another kind": struct.pack("<I", 30) + ipv6(tcp()),
    },
    RAW_IP: {
        "raw ip": ipv4(tcp(1000, 80, data=REQUEST)),
        "raw ipv6": ipv6(udp(data=dns(1, body=question())), protocol=17),
    },
    SLL: {"cooked": bytes(14) + b"\x08\0" + ipv4(udp(data=dns(1, body=question())), protocol=17)},
    PPP: {
        "ppp": b"\x00\x21" + ipv4(udp(1, 2, data=b"x"), protocol=17),
        "hdlc": b"\xff\x03\0\x57" + ipv6(tcp()),
    },
}
"""Packets by link type and name."""


def real(captures: list[pathlib.Path], packets: int, rounds: int) -> list:
    """Return what heiFIP makes of captures, see heifip_real.py."""
    command = [PYTHON, HERE / "heifip_real.py", str(packets), str(rounds), *captures]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(done.stdout)


def ours(packet: bytes, link: int, header: bool) -> list:
    """Return our rendering in the same form."""
    data, random = render(packet, link, header, NOISE)
    common = bytearray(data)
    for first, count in random:
        common[first : first + count] = bytes(count)
    return [common[:256].hex(), len(data), [[first, count] for first, count in random]]


def joined(runs: list) -> list:
    """Return runs of bytes with those that touch as one."""
    made = []
    for first, count in runs:
        if made and sum(made[-1]) == first:
            made[-1][1] += count
        else:
            made.append([first, count])
    return made


def made_of_golden() -> list:
    return [
        pytest.param(link, name, mode, id=f"{name}-{mode}")
        for link, packets in MADE.items()
        for name in packets
        for mode in ("none", "header")
    ]


@pytest.fixture(scope="module")
def golden():
    return json.loads((GOLDEN / "made.json").read_text())


@pytest.mark.parametrize("link, name, mode", made_of_golden())
def test_made_packets_look_as_heifip_made_them(golden, link, name, mode):
    theirs = golden[name][mode]
    if theirs is None:  # heiFIP stops; ours goes on
        assert render(MADE[link][name], link, mode == "header", NOISE).data
        return
    data, length, random = ours(MADE[link][name], link, mode == "header")
    assert (data, length, joined(random)) == tuple(theirs)


def test_golden_files_cover_what_is_made(golden):
    assert list(golden) == [name for packets in MADE.values() for name in packets]


needs_heifip = pytest.mark.skipif(
    not PYTHON, reason="XAI_TRAFFIC_HEIFIP names no Python that heiFIP 1.1.1 is installed for"
)


@needs_heifip
def test_golden_files_are_what_heifip_makes_today(golden, tmp_path):
    assert golden_of_real(tmp_path) == golden


CHOICE = [
    "protocols/DNS",
    "protocols/HTTP",
    "protocols/TLS",
    "protocols/MQTT",
    "protocols/QUIC",
]


@needs_heifip
@pytest.mark.parametrize("folder", CHOICE)
def test_real_captures_look_as_heifip_makes_them(captures, folder):
    paths = sorted((captures / folder).iterdir())[:12]
    total = 0
    for path, packets in zip(paths, real(paths, 60, rounds=1), strict=True):
        frames = frames_of(path)
        for number, theirs in enumerate(packets, 1):
            for header, each in enumerate(theirs if number in frames else ()):
                if each is None:  # heiFIP stops
                    continue
                data, length, random = ours(*frames[number], bool(header))
                common = bytearray.fromhex(each[0])
                for first, count in random:
                    common[first : first + count] = bytes(count)
                assert (data, length) == (common.hex(), each[1]), f"{path}, packet {number}"
                total += 1
    assert total > 50


def frames_of(path: pathlib.Path) -> dict[int, tuple[bytes, int]]:
    """Return the IP packets of a capture and their link types, by number."""
    whole = Core("five_tuple", "all", compile_filter(""), 65_535, 65_535, 0, 0, "outer")
    frames = {}
    for tiles, packets, _ in (whole.feed(path.read_bytes()), whole.finish()):
        tiles = np.frombuffer(tiles, np.uint8).reshape(-1, 65_535)
        for tile, row in zip(tiles, np.frombuffer(packets, PACKET), strict=True):
            frames[int(row["frame"])] = tile[: row["length"]].tobytes(), int(row["link"])
    return frames


def write(path: pathlib.Path) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pcap(list(MADE[ETHERNET].values())))
    return path


@pytest.mark.parametrize("mode", ["none", "header"])
@pytest.mark.parametrize("name", CORES)
def test_a_capture_gives_renderings(tmp_path, monkeypatch, mode, name):
    monkeypatch.setenv(core.VARIABLE, name)
    monkeypatch.setattr(core, "_WIDE_CHUNK", 1000)
    path = write(tmp_path / "a.pcap")
    sessions = xt.read_capture(path, layout=f"heifip-{mode}", filter="")
    plain = xt.read_capture(path, filter="")
    assert sessions.images().shape == (len(plain), 128, 128)
    for column in ("session", "packet", "frame", "time_ns", "captured", "direction"):
        assert sessions.packets[column].equals(plain.packets[column])
    for column in ("network", "transport", "payload"):
        assert set(sessions.packets[column].to_pylist()) == {NONE}
    packets = list(MADE[ETHERNET].values())
    frames = sessions.packets["frame"].to_numpy()
    noise = draw_noise(frames, sessions.packets["time_ns"].to_numpy())
    lengths = sessions.packets["length"].to_pylist()
    for row, frame in enumerate(frames):
        made = render(packets[frame - 1], ETHERNET, mode == "header", noise[row].tobytes()).data
        assert lengths[row] == min(256, len(made))
        assert sessions.tiles[row].tobytes() == made[:256].ljust(256, b"\0")


def test_noise_is_of_the_seed_the_number_and_the_time():
    frames, times = np.array([1, 2, 1, 1]), np.array([5, 5, 6, 5])
    noise = draw_noise(frames, times)
    assert noise.shape == (4, RANDOM) and noise.dtype == np.uint8
    assert len({row.tobytes() for row in noise}) == 3
    np.testing.assert_array_equal(noise[0], noise[3])
    np.testing.assert_array_equal(noise[2], draw_noise(frames[2:3], times[2:3])[0])
    assert not (draw_noise(frames, times, 1) == noise).all(axis=1).any()
    many = draw_noise(np.arange(4000), np.zeros(4000, np.int64))
    assert abs(many.mean() - 127.5) < 1 and abs(many.std() - 73.9) < 1


@pytest.mark.parametrize("what", [{"layers": "payload"}, {"mask": "ports"}])
def test_renderings_take_whole_packets_without_a_mask(what):
    with pytest.raises(ConfigError, match="'heifip-none' renders whole packets"):
        ReadingRules(layout="heifip-none", **what)


def test_models_read_a_dataset_of_renderings(tmp_path):
    write(tmp_path / "in/Benign/a.pcap")
    write(tmp_path / "in/Malware/b.pcap")
    rules = ReadingRules(layout="heifip-header")
    made = xt.open_dataset(convert([tmp_path / "in"], tmp_path / "out", rules=rules).dataset)
    check_dataset(tiny_config(made), made)
    assert made.images([0]).shape == (1, 128, 128)
    with pytest.raises(ConfigError, match="'packet' cannot be made of tiles of layout 'heifip-he"):
        made.images([0], "packet")
    with pytest.raises(DatasetError, match="has layout heifip-header"):
        convert([made.path], tmp_path / "masked", rules=ReadingRules(mask="ports"))


def test_any_bytes_have_a_rendering():
    random = np.random.default_rng(7)
    packets = [(link, packet) for link, made in MADE.items() for packet in made.values()]
    for _ in range(3000):
        link, packet = packets[random.integers(len(packets))]
        packet = bytearray(packet[: random.integers(len(packet) + 1)])
        for place in random.integers(0, max(1, len(packet)), random.integers(1, 5)):
            packet[place : place + 1] = random.bytes(1)
        for header in (False, True):
            made = render(bytes(packet), link, header, NOISE)
            assert all(first + count <= len(made.data) for first, count in made.random)


def test_a_message_of_pointers_takes_no_time():
    pointers = b"".join(struct.pack(">H", 0xC000 | 12 + 2 * n) for n in range(1, 8000))
    message = dns(30_000, body=pointers)
    started = time.monotonic()
    render(in_ip(udp(data=message), 17), ETHERNET, True, NOISE)
    assert time.monotonic() - started < 2


def golden_of_real(folder: pathlib.Path) -> dict:
    """Return what the golden file holds, made by the real heiFIP."""
    golden = {}
    for link, packets in MADE.items():
        capture = folder / f"{link}.pcap"
        capture.write_bytes(pcap(list(packets.values()), link=link))
        (pairs,) = real([capture], len(packets), rounds=6)
        for name, pair in zip(packets, pairs, strict=True):
            golden[name] = dict(zip(("none", "header"), pair, strict=True))
    return golden


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made = golden_of_real(pathlib.Path(folder))
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(pair)}" for name, pair in made.items())
    (GOLDEN / "made.json").write_text("{\n" + lines + "\n}\n")
