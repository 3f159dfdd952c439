"""Names for the bytes of DNS messages and HTTP heads.

A tile is the first bytes of a packet, so everything here reads messages that may be cut anywhere,
and believes no length: the cursor's end does. What is not recognised stays unnamed, for the caller
to call payload.
"""

from __future__ import annotations

import re
import string

from xai_traffic.capture.fields.dns_data import name_data, name_size
from xai_traffic.capture.fields.spans import Spans

DNS_PORTS = frozenset((53, 5353, 5355))
DNS_TYPES = {
    1: "A",
    2: "NS",
    5: "CNAME",
    6: "SOA",
    10: "NULL",
    12: "PTR",
    15: "MX",
    16: "TXT",
    28: "AAAA",
    33: "SRV",
    35: "NAPTR",
    41: "OPT",
    43: "DS",
    46: "RRSIG",
    47: "NSEC",
    48: "DNSKEY",
    64: "SVCB",
    65: "HTTPS",
    255: "ANY",
}
_PRINTABLE = frozenset(string.printable.encode()) - frozenset(b"\t\n\r\v\f")

METHODS = (
    b"GET|POST|HEAD|PUT|DELETE|OPTIONS|CONNECT|TRACE|PATCH|PROPFIND|PROPPATCH|MKCOL|COPY|MOVE|"
    b"LOCK|UNLOCK|REPORT|NOTIFY|SUBSCRIBE|UNSUBSCRIBE|M-SEARCH"
)
_REQUEST = re.compile(rb"(" + METHODS + rb") +([^\r\n ]+)(?: (HTTP/\d\.\d)?)?")
_RESPONSE = re.compile(rb"(HTTP/\d\.\d) (\d{3})(?: ([^\r\n]*))?")
_NOTIFICATIONS = (b"NOTIFY", b"SUBSCRIBE", b"UNSUBSCRIBE")
_LINE_END = re.compile(rb"\r\n?|\n")
_HEADER_LINE = re.compile(rb"[ !#-'*+\-.0-9A-Z^-z|~]*(?::|\Z)")  # a name of a header, or its start
_HEADERS = re.compile(
    r"accept|accept_encoding|accept_language|authorization|cache_control|connection|"
    r"content_encoding|content_type|cookie|date|host|last_modified|location|"
    r"proxy_authenticate|proxy_authorization|referer|sec_websocket_accept|"
    r"sec_websocket_extensions|sec_websocket_key|sec_websocket_protocol|"
    r"sec_websocket_version|server|set_cookie|transfer_encoding|upgrade|user_agent|"
    r"www_authenticate|x_forwarded_for"
)


def looks_like_dns(data: bytes) -> bool:
    """Tell whether bytes begin with a DNS header and the first name and type that it promises."""
    if len(data) < 17:
        return False
    opcode, reserved = data[2] >> 3 & 15, data[3] & 0x40
    counts = [int.from_bytes(data[at : at + 2], "big") for at in (4, 6, 8, 10)]
    if opcode not in (0, 4, 5) or reserved or counts[0] != 1 or max(counts[1:]) > 99:
        return False
    at = 12
    while at < len(data) and 0 < data[at] < 64:
        if not _PRINTABLE.issuperset(data[at + 1 : at + 1 + data[at]]):
            return False
        at += 1 + data[at]
    if at >= len(data):
        return at > 13  # the name is cut, and was printable so far
    kind = int.from_bytes(data[at + 1 : at + 3], "big")
    space = int.from_bytes(data[at + 3 : at + 5], "big") & 0x7FFF
    return data[at] == 0 and kind in DNS_TYPES and space in (1, 3, 4, 255)


def name_dns(spans: Spans) -> None:
    """Name a DNS message (RFC 1035, EDNS(0) of RFC 6891)."""
    spans.take("dns.id", 2)
    spans.take("dns.flags", 2)
    questions = spans.take_number("dns.count.queries", 2)
    records = spans.take_number("dns.count.answers", 2)
    records += spans.take_number("dns.count.auth_rr", 2)
    records += spans.take_number("dns.count.add_rr", 2)
    while questions and spans.left:
        spans.take("dns.qry.name", name_size(spans))
        spans.take("dns.qry.type", 2)
        spans.take("dns.qry.class", 2)
        questions -= 1
    while records and spans.left:
        spans.take("dns.resp.name", name_size(spans))
        kind = spans.take_number("dns.resp.type", 2)
        if kind == 41:
            spans.take("dns.rr.udp_payload_size", 2)
            spans.take("dns.resp.ext_rcode", 1)
            spans.take("dns.resp.edns0_version", 1)
            spans.take("dns.resp.z", 2)
        else:
            spans.take("dns.resp.class", 2)
            spans.take("dns.resp.ttl", 4)
        name_data(spans.part(spans.take_number("dns.resp.len", 2)), kind)
        records -= 1


def http_line(data: bytes) -> re.Match[bytes] | None:
    """Return the match of an HTTP request or status line at the start of the bytes."""
    line = _REQUEST.match(data)
    if line and not line[3] and line.end() < len(data):  # "GET key" of some other protocol
        return None
    return line or _RESPONSE.match(data)


def name_http(spans: Spans) -> None:
    """Name an HTTP/1 head (RFC 9112) and what follows it, the start of the body.

    The head ends with an empty line, or before the first one that is no header. A header's field
    is its whole line, as in Wireshark, which knows the common ones by name and calls the others
    `http.request.line` and `http.response.line`, those of notifications (SSDP)
    `http.unknown_header`. Blanks and line ends of the first line, and the empty line, which have
    no name there, are `http`.
    """
    line = http_line(spans.peek(spans.left))
    if line is None:
        return
    base = spans.position
    names = (
        ("http.response.version", "http.response.code", "http.response.phrase")
        if line.re is _RESPONSE
        else ("http.request.method", "http.request.uri", "http.request.version")
    )
    if line.re is _RESPONSE:
        other = "http.response.line"
    else:
        other = "http.unknown_header" if line[1] in _NOTIFICATIONS else "http.request.line"
    for group, name in enumerate(names, 1):
        start, end = line.span(group)
        if end > start:
            spans.take("http", base + start - spans.position)
            spans.take(name, end - start)
    spans.take("http", _line_size(spans))
    while spans.left:
        size = _line_size(spans)
        raw = spans.peek(size)
        if not raw.strip(b"\r\n"):
            spans.take("http", size)
            break
        if not _HEADER_LINE.match(raw):  # as in Wireshark, which does not unfold headers either
            break
        spans.take(_header_name(raw) or other, size)
    spans.rest("http.file_data")


def _line_size(spans: Spans) -> int:
    """Return the bytes of a line with its end: both, or either of carriage return and newline."""
    found = _LINE_END.search(spans.peek(spans.left))
    return found.end() if found else spans.left


def _header_name(line: bytes) -> str | None:
    """Return the name of a header's field, None if it has none of its own."""
    key = line.split(b":", 1)[0].lower().replace(b"-", b"_").decode("latin-1")
    if key == "content_length":
        return "http.content_length_header"
    return f"http.{key}" if _HEADERS.fullmatch(key) else None
