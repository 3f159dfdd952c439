"""Tell what scapy 2.5.0 makes of a transport payload; see `layers.py`.

A reader takes the payload and returns the (name, bytes) of the layers in it, in order; what they
leave over is `raw`. It raises Unreadable where scapy's fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from xai_traffic.capture.heifip.ber import read_kerberos_message, read_ldap_message
from xai_traffic.capture.heifip.dns import Unreadable, read_message
from xai_traffic.capture.records import TCP

Parts = list[tuple[str, int]]
Reader = Callable[[bytes], Parts]

HTTP, REQUEST, RESPONSE, DNS, TLS, OTHER = "http", "request", "response", "dns", "tls", "other"
LDAP, CLDAP, KERBEROS = "ldap", "cldap", "kerberos"

_REQUEST_LINE = re.compile(
    rb"(?:GET|POST|HEAD|PUT|DELETE|OPTIONS|TRACE|CONNECT) .+ HTTP/[0-9]\.[0-9]\n?\Z"
)
_STATUS_LINE = re.compile(rb"HTTP/[0-9]\.[0-9] [0-9]{3} .*\n?\Z")
_RECORD_TYPES = range(20, 24)
_SMB1_COMMANDS = (0x25, 0x72, 0x73, 0x75)
_TRANSACTION = 0x25
_TRANSACTION_FIELDS = (0, 1, 3, 5, 7, 9, 10, 11, 13, 14, 15, 17, 19, 21, 23, 25, 27, 28, 29)
"""Where the fields that scapy knows of it end."""

_SMB2_COMMANDS = (*range(7), 8, 9, 11, 12, 14, 15, 16)
_SMB2_SUCCESS = (0, 0xC0000016, 0x80000005, 0xC000000D, 0x0000010C)


def application_of(protocol: int, source: int, destination: int) -> Reader | None:
    """Return who reads the payload between two ports; None where scapy knows neither."""
    pair = (source, destination)
    if protocol != TCP and (pair in _BOOTSTRAP or destination in _BOOTSTRAP6):
        return read_anything
    for port, reader in (_TCP if protocol == TCP else _UDP).items():
        if port == destination or port == source and port not in _TO_SERVER_ONLY:
            return reader
    return None


def read_dns(data: bytes) -> Parts:
    return [(DNS, read_message(data).size)]


def read_dns_over_tcp(data: bytes) -> Parts:
    length = int.from_bytes(data[:2])
    if len(data) < 2 or length < 14 or len(data) < length:
        raise Unreadable
    return [(DNS, 2 + read_message(data[2:]).size)]


def read_local_names(data: bytes) -> Parts:
    """Read LLMNR (RFC 4795)."""
    return [(OTHER, read_message(data).size)]


def read_http(data: bytes) -> Parts:
    line, found, _ = data.partition(b"\r\n")
    for name, form in ((REQUEST, _REQUEST_LINE), (RESPONSE, _STATUS_LINE)):
        if found and form.match(line):
            head = data.find(b"\r\n\r\n")
            return [(HTTP, 0), (name, len(data) if head < 0 else head + 4)]
    return [(HTTP, 0)]


def read_tls(data: bytes) -> Parts:
    """Tell TLS records from what goes on in their middle."""
    if len(data) >= 5 and data[0] in _RECORD_TYPES and data[1] == 3:
        return [(TLS, len(data))]
    return [(OTHER, len(data))]


def read_netbios(data: bytes) -> Parts:
    """Read a NetBIOS session message with SMB in it.

    Of SMB 1 scapy knows negotiation, session set-up, tree connection and transactions.
    """
    if 1 < len(data) < 4:
        raise Unreadable
    message = data[4:]
    if message[:4] == b"\xfeSMB":
        known = len(message) <= 64 or _is_known_smb2(message)
        return [(OTHER, len(data) if known else 68)]
    if message[:4] != b"\xffSMB":  # all but a beginning is left over
        return [(OTHER, min(8, len(data)))]
    known = len(message) > 4 and message[4] in _SMB1_COMMANDS
    if known and message[4] == _TRANSACTION:
        known = len(message) - 32 in _TRANSACTION_FIELDS
    return [(OTHER, len(data) if known else min(36, len(data)))]


def _is_known_smb2(message: bytes) -> bool:
    status, command = int.from_bytes(message[8:12], "little"), message[12] | message[13] << 8
    refused = message[16] & 1 and status not in _SMB2_SUCCESS
    return bool(refused) or command in _SMB2_COMMANDS


def read_ldap(data: bytes, name: str = LDAP) -> Parts:
    """Read LDAP messages one behind the other, as far as they are known."""
    parts, at = [], 0
    while at < len(data):
        try:
            size, _ = read_ldap_message(data[at:], controls=name == LDAP)
        except Unreadable:
            if parts:
                break
            raise
        parts.append((name, size))
        at += size
    return parts


def read_cldap(data: bytes) -> Parts:
    return read_ldap(data, CLDAP)


def read_kerberos(data: bytes) -> Parts:
    return [(KERBEROS, read_kerberos_message(data)[0])]


def read_kerberos_over_tcp(data: bytes) -> Parts:
    if len(data) < 4:
        raise Unreadable
    try:
        return [(OTHER, 4), *read_kerberos(data[4:])]
    except Unreadable:
        return [(OTHER, 4)]


def read_netbios_names(data: bytes) -> Parts:
    """Read a message of the NetBIOS name service, of the kinds that are known."""
    if len(data) < 12:
        raise Unreadable
    opcode, flags = data[2] >> 3 & 15, (data[2] & 7) << 4 | data[3] >> 4
    questions, answers = data[4:6] == b"\0\1", data[6:8] == b"\0\1"
    more, response = data[10:12] == b"\0\1", data[2] >> 7
    known = (
        (opcode == 0 and questions and flags in (0x11, 0x01, 0))
        or (opcode == 0 and response and answers and flags in (0x50, 0x40))
        or (opcode == 5 and questions and more and flags == 0x11)
        or (opcode == 7 and response and answers and flags == 0x40)
    )
    return [(OTHER, len(data) if known else 12)]


def read_anything(data: bytes) -> Parts:
    return [(OTHER, len(data))]


_TCP: dict[int, Reader] = {
    53: read_dns_over_tcp,
    88: read_kerberos_over_tcp,
    135: read_anything,
    389: read_ldap,
    3268: read_ldap,
    445: read_netbios,
    139: read_netbios,
    1723: read_anything,
    2000: read_anything,
    80: read_http,
    8080: read_http,
    443: read_tls,
}
"""By port, in the order in which scapy looks."""

_BOOTSTRAP, _BOOTSTRAP6 = ((68, 67), (67, 68), (67, 67)), (546, 547)
_TO_SERVER_ONLY = (69,)

_UDP: dict[int, Reader] = {
    5353: read_dns,
    53: read_dns,
    88: read_kerberos,
    **dict.fromkeys((1985, 2029, 4500, 500, 1701), read_anything),
    389: read_cldap,
    5355: read_local_names,
    137: read_netbios_names,
    **dict.fromkeys((2727, 434, 2055, 2056, 9995, 9996, 6343, 123), read_anything),
    **dict.fromkeys((69, 1812, 1813, 3799, 520, 161, 162, 17754), read_anything),
}
