"""Tell what scapy 2.5.0 makes of a transport payload; see `heifip_layers.py`.

A reader takes the payload and returns the (name, bytes) of the layers in it, in order; what they
leave over is `raw`. It raises Unreadable where scapy's fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from xai_traffic.capture.heifip_dns import Unreadable, read_message
from xai_traffic.capture.records import TCP

Parts = list[tuple[str, int]]
Reader = Callable[[bytes], Parts]

HTTP, REQUEST, RESPONSE, DNS, TLS, OTHER = "http", "request", "response", "dns", "tls", "other"

_REQUEST_LINE = re.compile(
    rb"(?:GET|POST|HEAD|PUT|DELETE|OPTIONS|TRACE|CONNECT) .+ HTTP/[0-9]\.[0-9]\n?\Z"
)
_STATUS_LINE = re.compile(rb"HTTP/[0-9]\.[0-9] [0-9]{3} .*\n?\Z")
_RECORD_TYPES = range(20, 24)
_SMB1_COMMANDS = (0x25, 0x72, 0x73, 0x75)


def application_of(protocol: int, source: int, destination: int) -> Reader | None:
    """Return who reads the payload between two ports; None where scapy knows neither."""
    for port, reader in (_TCP if protocol == TCP else _UDP).items():
        if port in (source, destination):
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
        return [(OTHER, len(data))]
    if message[:4] != b"\xffSMB":  # all but a beginning is left over
        return [(OTHER, min(8, len(data)))]
    known = len(message) > 4 and message[4] in _SMB1_COMMANDS
    return [(OTHER, len(data) if known else min(36, len(data)))]


def read_anything(data: bytes) -> Parts:
    return [(OTHER, len(data))]


_TCP: dict[int, Reader] = {
    53: read_dns_over_tcp,
    88: read_anything,
    135: read_anything,
    389: read_anything,
    3268: read_anything,
    445: read_netbios,
    139: read_netbios,
    1723: read_anything,
    2000: read_anything,
    80: read_http,
    8080: read_http,
    443: read_tls,
}
"""By port, in the order in which scapy looks."""

_UDP: dict[int, Reader] = {
    5353: read_dns,
    53: read_dns,
    **dict.fromkeys((88, 1985, 2029, 4500, 500, 1701, 389), read_anything),
    5355: read_local_names,
    **dict.fromkeys((2727, 434, 137, 2055, 2056, 9995, 9996, 6343, 123), read_anything),
    **dict.fromkeys((1812, 1813, 3799, 520, 161, 162, 17754), read_anything),
}
