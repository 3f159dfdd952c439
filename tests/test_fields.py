"""Names of bytes: complete whatever the bytes, and where Wireshark has them."""

import ast
import collections
import inspect
import re
import shutil
import struct
import subprocess
import xml.etree.ElementTree as ElementTree

import dpkt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xai_traffic.capture.fields import Field, describe, dissect
from xai_traffic.capture.fields import applications as field_applications
from xai_traffic.capture.fields import dns_data as field_dns_data
from xai_traffic.capture.fields import headers as field_headers
from xai_traffic.capture.fields import links as field_links
from xai_traffic.capture.fields import options as field_options
from xai_traffic.capture.fields import shims as field_shims
from xai_traffic.capture.fields import tls as field_tls
from xai_traffic.capture.fields import tunnels as field_tunnels
from xai_traffic.capture.records import NONE, PACKET
from xai_traffic.capture.sessions import read_capture
from xai_traffic.errors import CaptureError
from xai_traffic.lab.write import write_lab

ETHERNET = bytes.fromhex("001122334455 66778899aabb 0800")
TLS_NAME = b"shop.example.org"


def row(length, protocol=6, network=NONE, transport=NONE, payload=NONE, link=1, direction=0):
    values = np.zeros((), PACKET)
    values["length"] = values["captured"] = length
    values["protocol"], values["link"], values["direction"] = protocol, link, direction
    values["network"], values["transport"], values["payload"] = network, transport, payload
    return values


def packet(payload, protocol=6, ports=(40000, 443), options=b"", flags=0x18, trailer=b""):
    """Return (tile, row) of an Ethernet packet."""
    if protocol == 6:
        head = struct.pack(">HHIIBBHHH", *ports, 1, 2, (5 + len(options) // 4) << 4, flags, 9, 0, 0)
        head += options
    else:
        head = struct.pack(">HHHH", *ports, 8 + len(payload), 0)
    ip = dpkt.ip.IP(p=protocol, src=b"\1\2\3\4", dst=b"\5\6\7\x08", data=head + payload)
    ip.len = 20 + len(head) + len(payload)
    whole = ETHERNET + bytes(ip) + trailer
    tile = np.zeros(256, np.uint8)
    held = whole[:256]
    tile[: len(held)] = np.frombuffer(held, np.uint8)
    return tile, row_with(row(len(held), protocol, 14, 34, 34 + len(head)), captured=len(whole))


def row_with(values, **changes):
    for name, value in changes.items():
        values[name] = value
    return values


def spans(tile, values):
    """Return {name: [bytes, ...]} after checking that the fields cover the tile."""
    found = collections.defaultdict(list)
    place = 0
    for field in dissect(tile, values):
        assert isinstance(field, Field)
        assert field.start == place < field.end
        place = field.end
        found[field.name].append(bytes(tile)[field.start : field.end])
    assert place == int(values["length"])
    return found


def client_hello():
    def extension(kind, data):
        return struct.pack(">HH", kind, len(data)) + data

    name = struct.pack(">HBH", len(TLS_NAME) + 3, 0, len(TLS_NAME)) + TLS_NAME
    extensions = extension(0, name) + extension(16, b"\0\x03\x02h2") + extension(23, b"")
    body = b"\3\3" + bytes(range(32)) + b"\x04sess" + b"\0\x04\x13\x01\x13\x02" + b"\1\0"
    body += struct.pack(">H", len(extensions)) + extensions
    message = b"\1" + len(body).to_bytes(3, "big") + body
    return b"\x16\3\1" + struct.pack(">H", len(message)) + message


def dns_message(name=b"\7example\3org\0", flags=0x0100, answers=b"", count=0):
    head = struct.pack(">HHHHHH", 0x1234, flags, 1, count, 0, 0)
    return head + name + b"\0\1\0\1" + answers


def test_headers():
    options = b"\2\4\5\xb4\4\2\x08\x0a" + b"\1\1\1\1\2\2\2\2" + b"\1\3\3\7"
    found = spans(*packet(b"hello", options=options, trailer=b"\0\0\0\0"))
    assert found["eth.dst"] == [ETHERNET[:6]] and found["eth.type"] == [b"\x08\0"]
    assert found["ip.version"] == [b"\x45"] and found["ip.dst"] == [b"\5\6\7\x08"]
    assert found["tcp.srcport"] == [b"\x9c\x40"] and found["tcp.flags"] == [b"\x18"]
    assert found["tcp.options.mss"] == [b"\2\4"] and found["tcp.options.mss_val"] == [b"\5\xb4"]
    assert found["tcp.options.sack_perm"] == [b"\4\2"] and found["tcp.options.nop"] == [b"\1"]
    assert found["tcp.options.timestamp.tsval"] == [b"\1" * 4]
    assert found["tcp.options.timestamp.tsecr"] == [b"\2" * 4]
    assert found["tcp.options.wscale.shift"] == [b"\7"]
    assert found["payload"] == [b"hello"] and found["eth.trailer"] == [bytes(4)]


def test_tls():
    tile, values = packet(client_hello())
    found = spans(tile, values)
    assert found["tls.handshake.extensions_server_name"] == [TLS_NAME]
    assert found["tls.handshake.random"] == [bytes(range(32))]
    assert found["tls.handshake.session_id"] == [b"sess"]
    assert found["tls.handshake.ciphersuites"] == [b"\x13\1\x13\2"]
    assert found["tls.handshake.extensions_alpn_str"] == [b"h2"]
    assert describe(tile, values) == "client to server, TLS ClientHello, SNI shop.example.org"
    ciphertext = b"\x14\3\3\0\1\1" + b"\x16\3\3\0\x10" + b"\1" * 16 + b"\x17\3\3\1\0" + b"\7" * 256
    tile, values = packet(ciphertext)
    found = spans(tile, values)
    assert found["tls.handshake"] == [b"\1" * 16] and "tls.handshake.type" not in found
    assert found["tls.app_data"][0] == b"\7" * (256 - 54 - 6 - 21 - 5)
    assert describe(tile, row_with(values, direction=1)) == (
        "server to client, TLS change cipher spec, encrypted handshake, application data"
    )


def test_http():
    head = (
        b"POST /a/b?c=d HTTP/1.1\r\nHost: example.org\r\nX-Odd: 1\r\nContent-Length: 4\r\n\r\nbody"
    )
    tile, values = packet(head, ports=(40000, 8000))
    found = spans(tile, values)
    assert found["http.request.method"] == [b"POST"] and found["http.request.uri"] == [b"/a/b?c=d"]
    assert found["http.host"] == [b"Host: example.org\r\n"]
    assert found["http.request.line"] == [b"X-Odd: 1\r\n"] and found["http.file_data"] == [b"body"]
    assert describe(tile, values) == "client to server, HTTP POST /a/b?c=d, host example.org"
    tile, values = packet(b"HTTP/1.1 404 Not Found\r\nServer: a\r\n\r\n", ports=(80, 40000))
    assert describe(tile, row_with(values, direction=1)) == "server to client, HTTP 404 Not Found"
    assert spans(tile, values)["http.response.code"] == [b"404"]
    assert "payload" in spans(*packet(b"GET key\r\n", ports=(40000, 6379)))


@pytest.mark.parametrize("line", [b" folded\r\n", b"No-Colon\r\n", b"Odd(name): 1\r\n"])
def test_an_http_head_ends_before_what_is_no_header(line):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding : x\r\n"
    found = spans(*packet(head + line + b"Server: a\r\n", ports=(80, 9)))
    assert found["http.response.line"] == [b"Transfer-Encoding : x\r\n"]  # a blank, no name
    assert found["http.file_data"] == [line + b"Server: a\r\n"]
    notice = packet(b"NOTIFY * HTTP/1.1\r\nNTS: a\r\n", ports=(9, 80))
    assert spans(*notice)["http.unknown_header"] == [b"NTS: a\r\n"]


def test_dns():
    tile, values = packet(dns_message(), protocol=17, ports=(40000, 53))
    found = spans(tile, values)
    assert found["dns.qry.name"] == [b"\7example\3org\0"] and found["dns.qry.type"] == [b"\0\1"]
    assert describe(tile, values) == "client to server, DNS query A example.org"
    answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x0a\0\0\1"
    message = dns_message(flags=0x8180, answers=answer, count=1)
    for case in (
        packet(message, protocol=17, ports=(5454, 40000)),
        packet(struct.pack(">H", len(message)) + message, ports=(53, 40000)),
    ):
        found = spans(*case)
        assert found["dns.a"] == [b"\x0a\0\0\1"] and found["dns.resp.name"] == [b"\xc0\x0c"]
        assert "DNS response A example.org" in describe(*case)
    tile, values = packet(dns_message(flags=0x8183), protocol=17, ports=(53, 40000))
    assert describe(tile, values).endswith("DNS response A example.org, no such name")


def test_words_without_an_application():
    assert describe(*packet(b"", flags=2)) == "client to server, TCP SYN"
    tile, values = packet(b"", flags=0x12)
    assert describe(tile, row_with(values, direction=1)) == "server to client, TCP SYN ACK"
    assert describe(*packet(b"\0" * 700)) == "client to server, TCP, 700 bytes of payload"
    assert describe(*packet(b"EHLO there\r\n")).endswith('TCP, 12 bytes of payload "EHLO there"')
    assert describe(*packet(b"\1" * 9, protocol=17)) == "client to server, UDP, 9 bytes of payload"
    only = np.zeros(256, np.uint8)
    assert describe(only, row(0, payload=0)) == "client to server, TCP, no payload"
    assert describe(only, row(12, protocol=47, payload=0)).startswith("client to server, IP proto")


def test_hostile_text_is_quoted_as_captured():
    line = b"GET /<script>\x1b[31m HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n"
    assert "/<script>\x1b[31m, host \xff\xfe" in describe(*packet(line))


def test_numbers_and_rows_of_tables_are_the_same(tmp_path):
    lab = write_lab(tmp_path / "lab", sessions_per_family=2)
    sessions = read_capture(lab / "Malware/beacon.pcap")
    for tile, values in zip(sessions.tiles, sessions.packets.to_pylist(), strict=True):
        assert dissect(tile, values) == dissect(tile.tobytes(), values)
        spans(tile, values)


APPLICATIONS = (
    client_hello(),
    dns_message(),
    b"\0\x1d" + dns_message(),
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody",
    b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\n\r\n",
    b"\x45\0\0\x40" + b"\0" * 5 + b"\x06" + b"\0" * 10,
    b"\x60" + b"\0" * 5 + b"\0\x40" + b"\1" * 32 + b"\x2b\0\1\1\1\1\1\1",
)
PLACES = st.one_of(st.integers(0, 300), st.just(NONE))


@st.composite
def tiles(draw):
    """Draw any bytes, often with the beginnings of real messages in them, and any offsets."""
    body = bytearray(draw(st.binary(min_size=256, max_size=256)))
    for _ in range(draw(st.integers(0, 3))):
        start, text = draw(st.integers(0, 250)), bytearray(draw(st.sampled_from(APPLICATIONS)))
        for _ in range(draw(st.integers(0, 3))):
            text[draw(st.integers(0, len(text) - 1))] = draw(st.integers(0, 255))
        body[start : start + len(text)] = text
    values = row(
        draw(st.integers(0, 256)),
        protocol=draw(st.sampled_from((6, 17, 1, 58, 132))),
        network=draw(PLACES),
        transport=draw(PLACES),
        payload=draw(PLACES),
        link=draw(st.sampled_from((1, 0, 101, 113, 276, 9))),
        direction=draw(st.integers(0, 1)),
    )
    return bytes(body[:256]), values


@settings(max_examples=400, deadline=None, derandomize=True)
@given(tiles())
def test_any_bytes_and_offsets_are_covered_exactly(drawn):
    tile, values = drawn
    spans(tile, values)
    assert describe(tile, values).startswith(("client to server, ", "server to client, "))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, 255), st.data())
def test_messages_cut_anywhere_are_covered_exactly(size, data):
    text = bytearray(data.draw(st.sampled_from(APPLICATIONS)) * 3)
    for _ in range(data.draw(st.integers(0, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    protocol = data.draw(st.sampled_from((6, 17)))
    tile = bytes(text[:size]) + bytes(max(256 - size, 0))
    values = row(min(size, len(text)), protocol=protocol, payload=0)
    spans(tile[:256], values)
    describe(tile[:256], values)


def test_real_tiles_are_covered_for_all_layers(captures):
    paths = [
        *sorted((captures / "protocols").glob("*/*.pcap*"))[::40],
        *sorted((captures / "hostile").rglob("*.pcap*"))[::40],
        *sorted((captures / "malware").rglob("*.pcap*"))[::10],
    ]
    seen = 0
    for number, path in enumerate(paths):
        layers = ("all", "network", "transport", "payload")[number % 4]
        try:
            sessions = read_capture(path, layers=layers, filter="")
        except CaptureError:
            continue
        for tile, values in list(zip(sessions.tiles, sessions.packets.to_pylist(), strict=True))[
            :60
        ]:
            spans(tile, values)
            describe(tile, values)
            seen += 1
    assert seen > 300


@pytest.fixture(scope="module")
def tshark():
    path = shutil.which("tshark")
    if path is None:
        pytest.skip("tshark is not installed")
    return path


def test_names_are_wiresharks(tshark):
    known = set()
    for kind in ("fields", "protocols"):
        listed = subprocess.run([tshark, "-G", kind], capture_output=True, text=True, check=True)
        for line in listed.stdout.splitlines():
            known.update(line.split("\t")[1:4])
    ours = set()
    for module in (
        field_applications,
        field_dns_data,
        field_headers,
        field_links,
        field_options,
        field_shims,
        field_tls,
        field_tunnels,
    ):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and re.fullmatch(r"[a-z0-9]+\.[a-z0-9_.]*[a-z0-9]", text):
                ours.add(text)
    ours -= {"ip.options"}  # a prefix
    ours |= {"eth.trailer", "dns.srv.target", "dns.soa.minimum_ttl", "ip.options.nop"}
    assert len(ours) > 90
    assert ours <= known


# Ours stand for one byte or for kind and length where Wireshark's cover more, or less; or for what
# the capture has and Wireshark does not show.
COARSER = {
    "ip.flags",
    "ipv6.flow",
    "ipv6.tclass",
    "tcp.flags",
    "tcp.options",
    "tcp.options.mss",
    "tcp.options.timestamp",
    "tcp.options.wscale",
    "sll.unused",
    "http",
    "http.file_data",
    "payload",
    "tls.handshake",
    "tls.app_data",
    "tls.record.content_type",
    "tls.handshake.extension.data",
    "dns.data",
}


def wireshark_spans(tshark, path):
    """Return {frame: {name: {(start, size)}}} of the first frames."""
    options = ("tcp.desegment_tcp_streams:FALSE", "ip.defragment:FALSE")
    command = [tshark, "-r", str(path), "-T", "pdml", "-c", "60"]
    command += [part for option in options for part in ("-o", option)]
    result = subprocess.run(command, capture_output=True, check=True)
    frames = {}
    for number, element in enumerate(ElementTree.fromstring(result.stdout), 1):
        found = frames.setdefault(number, collections.defaultdict(set))
        for field in element.iter("field"):
            if field.get("pos") and field.get("size"):
                place = int(field.get("pos")), int(field.get("size"))
                found[field.get("name")].add(place)
    return frames


def agreement(tshark, path):
    """Return how often each name was found where Wireshark has it."""
    theirs = wireshark_spans(tshark, path)
    sessions = read_capture(path)
    agreed = collections.Counter()
    for tile, values in zip(sessions.tiles, sessions.packets.to_pylist(), strict=True):
        frame = theirs.get(values["frame"])
        for field in dissect(tile, values) if frame else ():
            if field.name in COARSER or not (there := frame.get(field.name)):
                continue
            if field.start > max(there)[0]:  # Wireshark leaves messages that are cut to the next
                continue
            size = field.end - field.start
            cut = field.end == len(tile)
            found = any(place[0] == field.start and (cut or place[1] == size) for place in there)
            assert found, (path.name, values["frame"], field, sorted(there))
            agreed[field.name] += 1
    return agreed


def test_lab_fields_lie_where_wireshark_has_them(tshark, tmp_path):
    lab = write_lab(tmp_path / "lab", sessions_per_family=2)
    agreed = collections.Counter()
    for path in (lab / "Benign/web.pcap", lab / "Benign/dns.pcap"):
        agreed += agreement(tshark, path)
    for name in ("eth.dst", "ip.ttl", "tcp.seq", "tcp.options.timestamp.tsval", "udp.length"):
        assert agreed[name]
    for name in ("http.request.uri", "http.cookie", "http.response.line", "dns.qry.name", "dns.a"):
        assert agreed[name]


def test_real_fields_lie_where_wireshark_has_them(tshark, captures):
    folder = captures / "protocols"
    paths = [
        folder / "DNS/zeek__dns__ech.pcap",
        folder / "TLS/zeek__tls__openjdk-25.0.2-zeek.org.pcap",
        folder / "TLS/suricata__tls__tls-random-6989__input.pcap",
        folder / "TLS/suricata__bug-7264-tcp-3whs-ack-data-tls-01__input.pcap",
        folder / "HTTP/suricata__http-evader__http-evader-017__input.pcap",
    ]
    agreed = sum((agreement(tshark, path) for path in paths), collections.Counter())
    names = (
        "ipv6.src",
        "sll.etype",
        "tls.record.length",
        "tls.handshake.random",
        "tls.handshake.extensions_server_name",
        "tls.handshake.ciphersuites",
        "http.host",
        "dns.resp.type",
    )
    for name in names:
        assert agreed[name], name
