"""The protocol field of every byte of a tile, and a packet in words.

Names are Wireshark's filter names, so that what an explanation points at can be typed into
Wireshark; only `payload`, for what no dissector here knows, is ours. Where headers begin comes from
the packet row, so names and masks agree on it. DNS is recognised by port or by a header that holds
together, TLS and HTTP by content, on any port.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xai_traffic.capture.fields import applications
from xai_traffic.capture.fields.headers import name_icmp, name_ip, name_network, name_transport
from xai_traffic.capture.fields.links import ETHERNET, WIRELESS, name_link
from xai_traffic.capture.fields.shims import name_ethernet_end
from xai_traffic.capture.fields.spans import Field, Spans
from xai_traffic.capture.fields.tls import TLS_MESSAGES, looks_like_tls, name_tls
from xai_traffic.capture.fields.tunnels import name_tunnel
from xai_traffic.capture.records import FRAGMENT, ICMP, ICMP6, NONE, SCTP, TCP, UDP

__all__ = ["Field", "describe", "dissect"]

_PROTOCOLS = {TCP: "TCP", UDP: "UDP", SCTP: "SCTP", ICMP: "ICMP", ICMP6: "ICMPv6"}
_FLAGS = ((2, "SYN"), (1, "FIN"), (4, "RST"), (32, "URG"), (16, "ACK"))
_REPLIES = {1: "format error", 2: "server failure", 3: "no such name", 5: "refused"}
_LONGEST = 80  # characters of a host name, path or line that a description quotes


def dissect(tile: Any, row: Mapping[str, Any]) -> list[Field]:
    """Name every captured byte of one tile.

    Never raises on account of the bytes or offsets, whatever they hold.

    Args:
        tile: bytes or uint8 [width], as captured (not masked).
        row: its packet row: a PACKET scalar or a mapping with the same names.

    Returns:
        Fields in order, without gap or overlap, from 0 to the row's `length`.
    """
    data = bytes(tile)[: int(row["length"])]
    places = _places(data, row)
    spans = Spans(data, 0, len(data))
    protocol = int(row["protocol"])
    _name_headers(spans, places, int(row["link"]), int(row["depth"]))
    name_transport(spans.part(places["payload"] - spans.position), protocol)
    payload = spans.part(places["end"] - spans.position)
    if int(row["transport"]) == NONE and int(row["flags"]) & FRAGMENT:
        payload.rest("payload")  # maybe a later fragment: no message begins here
    else:
        _name_payload(payload, data, places, protocol)
    _name_trailers(spans, data, row)
    return spans.numbered()


def header_fields(data: bytes, row: Mapping[str, Any], link: int, depth: int) -> list[Field]:
    """Return the fields before the transport header, without numbers of layers.

    Args:
        data: the captured bytes of a tile.
        row: `network`, `transport` and `payload` of its packet row.
        link: link type.
        depth: tunnels.
    """
    spans = Spans(data, 0, len(data))
    _name_headers(spans, _places(data, row), link, depth)
    return spans.fields


def _name_headers(spans: Spans, places: dict[str, int], link: int, depth: int) -> None:
    name_encapsulation(spans.part(places["network"]), link, depth)
    name_network(spans, places["transport"])


def name_encapsulation(spans: Spans, link: int, depth: int) -> None:
    """Name all that lies before the session's IP header, which begins where `spans` ends.

    The headers are followed as the cores do, `depth` tunnels inwards. What they do not explain (in
    rows of a core there is nothing) is `frame`.
    """
    if spans.left:
        name_link(spans, link)
    for _ in range(depth):
        protocol, ports = name_ip(spans), (0, 0)
        if protocol == UDP:
            ports = spans.number(2), spans.number(2, 2)
            name_transport(spans.part(8), UDP)
        name_tunnel(spans, protocol, ports)
    spans.rest("frame")


def _name_trailers(spans: Spans, data: bytes, row: Mapping[str, Any]) -> None:
    """Name what follows the session's datagram: the ends of an inner and of the outer frame."""
    link = int(row["link"])
    inner = [protocol for protocol, _ in spans.layers].count("eth") - (link == ETHERNET)
    if int(row["outer"]) != NONE and int(row["depth"]):
        around = _datagram_end(data, int(row["outer"])) or len(data)
        spans.part(around - spans.position).rest("eth.trailer" if inner > 0 else "frame")
    if link == ETHERNET:
        suffix = "#1" if inner > 0 else ""
        name_ethernet_end(spans, int(row["wire"]), _tagged(spans), suffix)
    spans.rest("wlan.fcs" if link in WIRELESS else "frame")


def _tagged(spans: Spans) -> bool:
    """Tell whether a VLAN tag announces the first IP header."""
    before = ""
    for protocol, _ in spans.layers:
        if protocol in ("ip", "ipv6"):
            break
        before = protocol
    return before == "vlan"


def _places(data: bytes, row: Mapping[str, Any]) -> dict[str, int]:
    """Return where each layer begins and the datagram ends, in order, within the tile."""
    network, transport, payload = (int(row[name]) for name in ("network", "transport", "payload"))
    end = _datagram_end(data, network) or len(data)
    end = min(end, len(data))
    headers = network != NONE or transport != NONE
    # options that the capture cuts have no payload behind them: the header reaches to the end
    behind = min(payload, end) if payload != NONE else end if headers else 0
    middle = min(transport, behind) if transport != NONE else behind
    return {
        "network": min(network, middle) if network != NONE else middle,
        "transport": middle,
        "payload": behind,
        "end": max(end, behind),
    }


def _datagram_end(data: bytes, network: int) -> int:
    """Return where the IP header says that the datagram ends, 0 where it does not say."""
    header = data[network : network + 40]
    if len(header) >= 20 and header[0] >> 4 == 4:
        total = int.from_bytes(header[2:4], "big")
        return network + total if total else 0
    if len(header) == 40 and header[0] >> 4 == 6:
        total = int.from_bytes(header[4:6], "big")
        return network + 40 + total if total or header[6] == 59 else 0
    return 0


def _ports(data: bytes, places: dict[str, int], protocol: int) -> tuple[int, ...]:
    """Return source and destination port where the transport header is in the tile."""
    start = places["transport"]
    raw = data[start : min(start + 4, places["payload"])]
    if protocol not in (TCP, UDP) or len(raw) < 4:
        return ()
    return int.from_bytes(raw[:2], "big"), int.from_bytes(raw[2:], "big")


def _name_payload(spans: Spans, data: bytes, places: dict[str, int], protocol: int) -> None:
    if protocol in (ICMP, ICMP6):
        name_icmp(spans, protocol)
    elif protocol in (TCP, UDP):
        payload = spans.peek(spans.left)
        ports = _ports(data, places, protocol)
        if protocol == TCP and looks_like_tls(payload):
            name_tls(spans)
        elif applications.http_line(payload):
            applications.name_http(spans)
        elif protocol == UDP and 137 not in ports:  # NetBIOS names look like DNS
            known = len(payload) >= 12 and not applications.DNS_PORTS.isdisjoint(ports)
            if known or applications.looks_like_dns(payload):
                applications.name_dns(spans)
        elif protocol == TCP and applications.looks_like_dns(payload[2:]):
            spans.take("dns.length", 2)
            applications.name_dns(spans)
    spans.rest("payload")


def describe(tile: Any, row: Mapping[str, Any]) -> str:
    """Say in one short English phrase what a packet is.

    Host names, paths and lines are quoted as captured, one character a byte: hostile text, which
    whoever writes it must escape for where it goes. Arguments as for `dissect`.
    """
    fields = dissect(tile, row)
    data = bytes(tile)[: int(row["length"])]
    texts: dict[str, list[bytes]] = {}
    for field in fields:
        texts.setdefault(field.name, []).append(data[field.start : field.end])
    way = "server to client" if int(row["direction"]) else "client to server"
    for prefix, words in (("dns.id", _dns_words), ("tls.", _tls_words), ("http.", _http_words)):
        if any(name.startswith(prefix) for name in texts):
            return f"{way}, {words(texts)}"
    return f"{way}, {_transport_words(tile, row, texts)}"


def _text(raw: bytes) -> str:
    text = raw.decode("latin-1")
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _dns_words(texts: dict[str, list[bytes]]) -> str:
    flags = int.from_bytes(texts.get("dns.flags", [b""])[0], "big")
    words = "DNS response" if flags & 0x8000 else "DNS query"
    if "dns.qry.type" in texts:
        number = int.from_bytes(texts["dns.qry.type"][0], "big")
        words += f" {applications.DNS_TYPES.get(number, f'type {number}')}"
    labels, raw = [], texts.get("dns.qry.name", [b""])[0]
    while raw and 0 < raw[0] < 64:
        labels.append(raw[1 : 1 + raw[0]])
        raw = raw[1 + raw[0] :]
    words += f" {_text(b'.'.join(labels))}" if labels else ""
    if flags & 0x8000 and flags & 15:
        words += f", {_REPLIES.get(flags & 15, f'error {flags & 15}')}"
    return words


def _tls_words(texts: dict[str, list[bytes]]) -> str:
    words = [TLS_MESSAGES.get(kind[0], "handshake") for kind in texts.get("tls.handshake.type", [])]
    if "tls.change_cipher_spec" in texts:
        words.append("change cipher spec")
    if "tls.handshake" in texts and "tls.handshake.type" not in texts:
        words.append("encrypted handshake")
    if any(name.startswith("tls.alert") for name in texts):
        words.append("alert")
    if "tls.heartbeat_message" in texts:
        words.append("heartbeat")
    if "tls.app_data" in texts:
        words.append("application data")
    words = list(dict.fromkeys(words)) or ["record header"]
    for name in texts.get("tls.handshake.extensions_server_name", []):
        words.append(f"SNI {_text(name)}")
    return "TLS " + ", ".join(words)


def _http_words(texts: dict[str, list[bytes]]) -> str:
    def first(name: str) -> str:
        return _text(texts.get(name, [b""])[0])

    if "http.response.code" in texts:
        return f"HTTP {first('http.response.code')} {first('http.response.phrase')}".rstrip()
    words = f"HTTP {first('http.request.method')} {first('http.request.uri')}"
    host = texts.get("http.host", [b""])[0].partition(b":")[2].strip()
    return f"{words}, host {_text(host)}" if host else words


def _transport_words(tile: Any, row: Mapping[str, Any], texts: dict[str, list[bytes]]) -> str:
    protocol = int(row["protocol"])
    words = _PROTOCOLS.get(protocol, f"IP protocol {protocol}")
    payload = b"".join(texts.get("payload", []))
    if not payload:
        flags = texts.get("tcp.flags", [b"\0"])[0][0]
        named = [name for bit, name in _FLAGS if flags & bit]
        return f"{words} {' '.join(named)}" if named else f"{words}, no payload"
    for bit, name in _FLAGS[:3]:
        if texts.get("tcp.flags", [b"\0"])[0][0] & bit:
            words += f" {name}"
    words += f", {_payload_size(tile, row)} bytes of payload"
    line = payload.split(b"\n")[0].rstrip(b"\r")
    if len(line) >= 4 and all(32 <= byte < 127 for byte in line):
        words += f' "{_text(line)}"'
    return words


def _payload_size(tile: Any, row: Mapping[str, Any]) -> int:
    """Return the payload's bytes, from the IP header, else as far as the capture goes."""
    data = bytes(tile)[: int(row["length"])]
    end = _datagram_end(data, int(row["network"]))
    if not end:
        cut = len(data) == len(bytes(tile))
        end = int(row["captured"]) - int(row["start"]) if cut else len(data)
    return max(end - int(row["payload"]), 0)
