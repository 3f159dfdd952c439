"""Write HTTP heads and TCP headers as heiFIP 1.1.1's HEADER mode does."""

from __future__ import annotations

_REQUEST_FIELDS = (
    "User_Agent",
    "Content_Type",
    "Connection",
    "Accept",
    "Accept_Charset",
    "Cookie",
    "TE",
)
_RESPONSE_FIELDS = (
    "Connection",
    "Content_Encoding",
    "Content_Type",
    "Server",
    "Set_Cookie",
    "Transfer_Encoding",
)
_SYN = b"\0\2"
"""The flags of a header that is cut before them."""

_END, _NO_OPERATION, _MD5, _MOOD = 0, 1, 19, 25


def request_form(head: bytes) -> bytes:
    """Return method, path and the fields that HEADER keeps, of a request's head."""
    line, _, rest = head.partition(b"\r\n")
    words = line.split(None, 2)
    method, path = words[:2] if len(words) == 3 else (b"GET", b"/")
    return method + b" " + path + b" " + _fields(rest, _REQUEST_FIELDS)


def response_form(head: bytes) -> bytes:
    """Return status and the fields that HEADER keeps, of a response's head."""
    line, _, rest = head.partition(b"\r\n")
    words = line.split(None, 2)
    status = words[1] if len(words) == 3 else b"200"
    return status + b" " + _fields(rest, _RESPONSE_FIELDS)


def tcp_form(header: bytes) -> bytes:
    """Return the flags as two bytes and the options, of a TCP header with its options."""
    if len(header) < 14:
        return _SYN
    return bytes([header[12] & 1, header[13]]) + options_form(header[20:])


def options_form(options: bytes) -> bytes:
    """Return TCP options as scapy 2.5.0 writes the ones that it read, filled up to 4 bytes."""
    made = bytearray()
    while options:
        kind = options[0]
        if kind in (_END, _NO_OPERATION):
            made.append(kind)
            options = options[1:]
            if kind == _END:
                break
            continue
        size = max(2, options[1]) if len(options) > 1 else 2
        value, options = options[2:size], options[size:]
        if kind == _MD5:
            value = value[:16].ljust(16, b"\0")
        elif kind == _MOOD and len(value) == 1:
            value = b""
        made += bytes([kind, 2 + len(value)]) + value
    return bytes(made) + bytes(-len(made) % 4)


def _fields(lines: bytes, names: tuple[str, ...]) -> bytes:
    """Return the header fields of these names that have a value; of several the last."""
    values = {}
    for line in lines.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        key, found, value = line.partition(b":")
        if found:
            values[key.strip().replace(b"-", b"_").lower()] = value.strip()
    made = b""
    for name in names:
        value = values.get(name.lower().encode())
        if value:
            made += name.encode() + b": " + value + b"\r\n"
    return made
