"""Packets of every kind that heiFIP 1.1.1 renders in a way of its own."""

import struct

from capture_bytes import ethernet, ipv4, ipv6, tcp, udp

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
