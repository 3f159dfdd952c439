"""Values of fields in words, whatever the bytes are."""

import pytest
from capture_bytes import ethernet, ipv4, tcp
from explained_run import client_hello
from hypothesis import given
from hypothesis import strategies as st

from xai_traffic.capture.fields import Field, dissect
from xai_traffic.report.field_values import domain_name, layers_of, protocol_of, value_of

ROW = {
    "network": 14, "transport": 34, "payload": 54, "link": 1, "protocol": 6, "direction": 0,
    "outer": 65535, "flags": 0, "tunnel": 0, "depth": 0, "start": 0,
}  # fmt: skip


def values_of(packet: bytes) -> dict[str, str]:
    size = len(packet)
    fields = dissect(packet, {**ROW, "length": size, "captured": size, "wire": size})
    return {field.name: value_of(field, packet) for field in fields}


def test_headers_in_words():
    up = {"source": "192.168.7.1", "destination": "10.9.8.7"}
    values = values_of(ethernet(ipv4(tcp(40000, 443, flags=0x12), **up)))
    assert values["eth.dst"] == "02:02:02:02:02:02"
    assert values["eth.type"] == "IPv4 (0x0800)"
    assert values["ip.version"] == "version 4, header of 20 bytes"
    assert values["ip.src"] == "192.168.7.1" and values["ip.dst"] == "10.9.8.7"
    assert values["ip.proto"] == "TCP (6)"
    assert values["tcp.srcport"] == "40000" and values["tcp.dstport"] == "443"
    assert values["tcp.flags"] == "SYN ACK" and values["tcp.hdr_len"] == "20 bytes"


def test_messages_in_words():
    values = values_of(ethernet(ipv4(tcp(1, 443, flags=0x18, data=client_hello("a.example")))))
    assert values["tls.record.content_type"] == "handshake (22)"
    assert values["tls.handshake.type"] == "ClientHello (1)"
    assert values["tls.handshake.version"] == "TLS 1.2 (771)"
    assert values["tls.handshake.extension.type"] == "server_name (0)"
    assert values["tls.handshake.extensions_server_name"] == "a.example"
    head = b"GET /x HTTP/1.1\r\nHost: b.example\r\n\r\n"
    values = values_of(ethernet(ipv4(tcp(1, 80, flags=0x18, data=head))))
    assert values["http.request.uri"] == "/x" and values["http.host"] == "Host: b.example"
    assert values["http"] == "line end"


@pytest.mark.parametrize(
    "name, raw, value",
    [
        ("dns.qry.name", b"\3www\7example\0", "www.example"),
        ("dns.resp.name", b"\xc0\x0c", "…"),
        ("dns.qry.name", b"\0", "(root)"),
        ("dns.flags", b"\x81\x83", "response, no such name"),
        ("dns.aaaa", b"\x20\1\r\xb8" + bytes(11) + b"\1", "2001:db8::1"),
        ("ip.flags", b"\x40\0", "DF, offset 0"),
        ("ip.src#1", b"\x0a\0\0\1", "10.0.0.1"),
        ("ip.src", b"\x0a\0", "0a:00"),
        ("payload", b"USER anonymous\r\nPASS x", "“USER anonymous”, 22 bytes"),
        ("payload", bytes(40), "40 bytes, 00 00 00 00 00 00 …"),
        ("tcp.options.mss", b"\2\4", "kind 2, length 4"),
        ("tcp.options.mss_val", b"\5\xb4", "1460"),
        ("ip.rec_rt", b"\x0a\0\0\1", "10.0.0.1"),
    ],
)
def test_values(name, raw, value):
    assert value_of(Field(name, 2, 2 + len(raw)), b"xx" + raw) == value


@given(st.binary(max_size=256), st.sampled_from([1, 6, 17, 58, 132]), st.integers(0, 200))
def test_nothing_makes_it_fail(data, protocol, network):
    row = {**ROW, "length": len(data), "captured": len(data), "wire": len(data)}
    row |= {"protocol": protocol, "network": network}
    fields = dissect(data, row)
    for field in fields:
        assert isinstance(value_of(field, data), str)
    layers = layers_of(fields)
    assert sum(end - first for _, first, end in layers) == len(fields)
    assert protocol_of(fields)
    assert isinstance(domain_name(data), str)
