"""What a protocol field says, in words: the value column of the field tree.

Values are hostile text, one character a byte where they are quoted: whoever writes them must
escape them for where they go.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

from xai_traffic.capture.fields import Field, masks
from xai_traffic.capture.fields.applications import DNS_TYPES
from xai_traffic.capture.fields.tls import TLS_MESSAGES

LONGEST = 64
"""Characters of a text that a value quotes."""

LAYERS = {
    "eth": "Ethernet",
    "sll": "Linux cooked capture",
    "vlan": "VLAN tag",
    "wlan": "IEEE 802.11",
    "llc": "Logical link control",
    "ppp": "Point-to-point protocol",
    "pppoe": "PPP over Ethernet",
    "mpls": "MPLS label",
    "ip": "Internet Protocol, version 4",
    "ipv6": "Internet Protocol, version 6",
    "ah": "Authentication header",
    "tcp": "Transmission Control Protocol",
    "udp": "User Datagram Protocol",
    "sctp": "Stream Control Transmission Protocol",
    "icmp": "Internet Control Message Protocol",
    "icmpv6": "Internet Control Message Protocol, version 6",
    "gre": "Generic routing encapsulation",
    "vxlan": "VXLAN",
    "geneve": "Geneve",
    "gtp": "GPRS tunnelling protocol",
    "teredo": "Teredo",
    "dns": "Domain Name System",
    "tls": "Transport Layer Security",
    "http": "Hypertext Transfer Protocol",
    "payload": "Payload",
    "frame": "Frame",
}
"""Titles of layers by what their fields' names begin with."""

_OPTION_VALUES = (".mss_val", ".shift", ".tsval", ".tsecr")
_APPLICATIONS = ("tls", "http", "dns")
_TRANSPORTS = ("tcp", "udp", "sctp", "icmpv6", "icmp")
_TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")
_IP_PROTOCOLS = {
    1: "ICMP", 2: "IGMP", 4: "IPv4", 6: "TCP", 17: "UDP", 41: "IPv6", 43: "routing header",
    44: "fragment header", 47: "GRE", 50: "ESP", 51: "AH", 58: "ICMPv6", 59: "nothing",
    60: "destination options", 0: "hop-by-hop options", 132: "SCTP",
}  # fmt: skip
_ETHER_TYPES = {
    0x0800: "IPv4", 0x0806: "ARP", 0x8100: "VLAN", 0x86DD: "IPv6", 0x8847: "MPLS",
    0x8863: "PPPoE discovery", 0x8864: "PPPoE session", 0x88A8: "provider VLAN",
}  # fmt: skip
_TLS_RECORDS = {
    20: "change cipher spec", 21: "alert", 22: "handshake", 23: "application data", 24: "heartbeat"
}  # fmt: skip
_TLS_VERSIONS = {
    0x0300: "SSL 3.0", 0x0301: "TLS 1.0", 0x0302: "TLS 1.1", 0x0303: "TLS 1.2", 0x0304: "TLS 1.3"
}  # fmt: skip
_TLS_EXTENSIONS = {
    0: "server_name", 5: "status_request", 10: "supported_groups", 11: "ec_point_formats",
    13: "signature_algorithms", 16: "application_layer_protocol_negotiation", 21: "padding",
    22: "encrypt_then_mac", 23: "extended_master_secret", 27: "compress_certificate",
    35: "session_ticket", 41: "pre_shared_key", 43: "supported_versions",
    45: "psk_key_exchange_modes", 51: "key_share", 65281: "renegotiation_info",
}  # fmt: skip
_DNS_REPLIES = {
    0: "no error", 1: "format error", 2: "server failure", 3: "no such name", 4: "not known",
    5: "refused",
}  # fmt: skip


def bare_name(field: Field) -> str:
    """Return a field's name without the number of its layer."""
    return field.name.partition("#")[0]


def layer_of(field: Field) -> str:
    """Return what a field's name begins with, and the number of its layer: `ip`, `ip#1`."""
    name, number = field.name.partition("#")[::2]
    return name.partition(".")[0] + ("#" + number if number else "")


def layers_of(fields: Sequence[Field]) -> list[tuple[str, int, int]]:
    """Return the layers of a packet in order: title, and its fields [first, end)."""
    layers: list[tuple[str, int, int]] = []
    for index, field in enumerate(fields):
        name, _, number = layer_of(field).partition("#")
        title = LAYERS.get(name, name.upper()) + (f", layer {number}" if number else "")
        if layers and layers[-1][0] == title:
            layers[-1] = (title, layers[-1][1], index + 1)
        else:
            layers.append((title, index, index + 1))
    return layers


def protocol_of(fields: Sequence[Field]) -> str:
    """Return the innermost protocol that the fields name, as a packet list shows it."""
    found = {layer_of(field) for field in fields}
    for name in (*_APPLICATIONS, *_TRANSPORTS):
        if name in found:
            return {"icmpv6": "ICMPv6"}.get(name, name.upper())
    return "IPv6" if "ipv6" in found else "IP" if "ip" in found else "frame"


def value_of(field: Field, data: bytes) -> str:
    """Return the value of a field in words.

    Args:
        field: as `dissect` names it.
        data: the tile's captured bytes.
    """
    raw, name = data[field.start : field.end], bare_name(field)
    special = _SPECIAL.get(name)
    if special:
        return special(raw)
    if name in masks.ADDRESSES:
        return _address(raw)
    if name.startswith("tcp.options.") and not name.endswith(_OPTION_VALUES) and len(raw) > 1:
        return f"kind {raw[0]}, length {raw[1]}"
    if name.endswith("checksum"):
        return f"0x{raw.hex()}"
    if name == "http":
        return "line end" if raw.endswith((b"\r", b"\n")) else "blank"
    if (
        name.startswith("http.")
        and name != "http.file_data"
        or name.endswith((".server_name", "_server_name", "_str"))
    ):
        return _quoted(raw)
    if name.endswith(_NAMES):
        return domain_name(raw)
    if len(raw) <= 4 and name not in ("payload", "frame") and not name.startswith("ah."):
        return f"{int.from_bytes(raw, 'big')}"
    return _content(raw)


def domain_name(raw: bytes) -> str:
    """Return an encoded domain name with dots; what is compressed away is an ellipsis."""
    labels, place = [], 0
    while place < len(raw) and 0 < raw[place] < 64:
        labels.append(raw[place + 1 : place + 1 + raw[place]].decode("latin-1"))
        place += 1 + raw[place]
    if place < len(raw) and raw[place] >= 192:
        labels.append("…")
    return _short(".".join(labels)) or "(root)"


_NAMES = (
    ".qry.name", ".resp.name", ".ns", ".cname", ".mname", ".rname", ".domain_name",
    ".mail_exchange", ".target", ".targetname", ".signers_name", ".replacement", ".algorithm_name",
)  # fmt: skip


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _quoted(raw: bytes) -> str:
    return _short(raw.decode("latin-1").strip("\r\n"))


def _content(raw: bytes) -> str:
    """Quote text, and tell the size of everything else."""
    line = raw.split(b"\n")[0].rstrip(b"\r")
    if len(line) >= 4 and all(32 <= byte < 127 for byte in line):
        return f"“{_quoted(line)}”" + (f", {len(raw)} bytes" if len(line) < len(raw) else "")
    if len(raw) <= 8:
        return raw.hex(" ")
    return f"{len(raw)} bytes, {raw[:6].hex(' ')} …"


def _address(raw: bytes) -> str:
    if len(raw) in (4, 16):
        return str(ipaddress.ip_address(raw))
    return raw.hex(":")


def _named(names: dict[int, str]) -> Callable[[bytes], str]:
    def words(raw: bytes) -> str:
        number = int.from_bytes(raw, "big")
        return f"{names[number]} ({number})" if number in names else str(number)

    return words


def _ether_type(raw: bytes) -> str:
    number = int.from_bytes(raw, "big")
    return f"{_ETHER_TYPES.get(number, 'type')} (0x{number:04x})"


def _ip_version(raw: bytes) -> str:
    return f"version {raw[0] >> 4}, header of {(raw[0] & 15) * 4} bytes"


def _ip_flags(raw: bytes) -> str:
    number = int.from_bytes(raw, "big")
    named = [name for bit, name in ((0x4000, "DF"), (0x2000, "MF")) if number & bit]
    return f"{' '.join(named) or 'no flag'}, offset {(number & 0x1FFF) * 8}"


def _tcp_flags(raw: bytes) -> str:
    return " ".join(name for bit, name in enumerate(_TCP_FLAGS) if raw[0] >> bit & 1) or "none"


def _dns_flags(raw: bytes) -> str:
    number = int.from_bytes(raw, "big")
    if not number & 0x8000:
        return "query"
    return f"response, {_DNS_REPLIES.get(number & 15, f'error {number & 15}')}"


def _hexadecimal(raw: bytes) -> str:
    return f"0x{raw.hex()}"


_SPECIAL: dict[str, Callable[[bytes], str]] = {
    **dict.fromkeys(
        ("dns.a", "dns.aaaa", "dns.svcb.svcparam.ipv4hint.ip", "dns.svcb.svcparam.ipv6hint.ip"),
        _address,
    ),
    **dict.fromkeys(("eth.type", "vlan.etype", "sll.etype"), _ether_type),
    **dict.fromkeys(("ip.id", "dns.id", "tls.handshake.ciphersuite"), _hexadecimal),
    "ip.version": _ip_version,
    "ipv6.version": lambda raw: f"version {raw[0] >> 4}",
    "ip.flags": _ip_flags,
    "ip.proto": _named(_IP_PROTOCOLS),
    "ipv6.nxt": _named(_IP_PROTOCOLS),
    "tcp.hdr_len": lambda raw: f"{(raw[0] >> 4) * 4} bytes",
    "tcp.flags": _tcp_flags,
    "tls.record.content_type": _named(_TLS_RECORDS),
    "tls.record.version": _named(_TLS_VERSIONS),
    "tls.handshake.version": _named(_TLS_VERSIONS),
    "tls.handshake.extensions.supported_version": _named(_TLS_VERSIONS),
    "tls.handshake.type": _named(TLS_MESSAGES),
    "tls.handshake.extension.type": _named(_TLS_EXTENSIONS),
    "dns.flags": _dns_flags,
    "dns.qry.type": _named(DNS_TYPES),
    "dns.resp.type": _named(DNS_TYPES),
}  # fmt: skip
