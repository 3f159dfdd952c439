"""Read LDAP and Kerberos messages as far as scapy 2.5.0 does, and write them as it writes them.

Scapy decodes their ASN.1 (ITU-T X.690) and encodes it anew: lengths come out as short as they can,
and some tags of LDAP (RFC 4511) as others.
"""

from __future__ import annotations

from xai_traffic.capture.heifip.dns import Unreadable

_BOOLEAN, _INTEGER, _OCTETS, _ENUMERATED, _SEQUENCE = 1, 2, 4, 10, 0x30
_CONSTRUCTED = 0x20
_BIND, _SEARCH, _ABANDON, _ABANDONED = 0x60, 0x63, 0x50, 0x70
_LDAP_OPERATIONS = {0x42, _BIND, 0x61, _SEARCH, 0x64, 0x65, _ABANDON, _ABANDONED}
"""Tags of what LDAP messages scapy knows: binding, searching, unbinding, abandoning."""

_SASL, _CONTROLS = 0xA3, 0xA0
_BEFORE_FILTER = (_OCTETS, _ENUMERATED, _ENUMERATED, _INTEGER, _INTEGER, _BOOLEAN)
_ALL_OF, _ANY_OF = {0xA0: 0x80, 0xA1: 0x81}, {0xA3: 0x88, 0xA5: 0x88, 0xA6: 0x88, 0xA8: 0x88}
_SUBSTRINGS, _PRESENT = 0xA4, 0x87

_KERBEROS_MESSAGES = {0x60, 0x61, 0x62, *range(0x6A, 0x70), 0x7E}
_DEEPEST = 60

Element = tuple[int, bytes]


def read_ldap_message(data: bytes, controls: bool = True) -> tuple[int, bytes]:
    """Return how many bytes the LDAP message takes that data begin with, and its new form.

    Args:
        data: a message and what follows.
        controls: take some behind the operation (LDAP 3, not CLDAP).

    Raises:
        Unreadable: scapy cannot read it.
    """
    tag, begin, end = _bounds(data, 0, len(data))
    parts = _elements(data[begin:end])
    tags = [each for each, _ in parts]
    if tag != _SEQUENCE or len(parts) < 2 or tags[0] != _INTEGER or tags[1] not in _LDAP_OPERATIONS:
        raise Unreadable
    if tags[2:] not in ([], [_CONTROLS] if controls else []):
        raise Unreadable
    kind, content = parts[1]
    if kind == _BIND:
        _check_bind(_elements(content))
    if kind == _SEARCH:
        operation = _written(kind, _search(_elements(content)))
    elif kind == _ABANDON:
        operation = _written(_ABANDONED, content)
    else:
        operation = _encode([(kind, content)])
    return end, _written(tag, _encode(parts[:1]) + operation + _encode(parts[2:]))


def read_kerberos_message(data: bytes) -> tuple[int, bytes]:
    """Return how many bytes the Kerberos message takes that data begin with, and its new form.

    Raises:
        Unreadable: scapy cannot read it.
    """
    tag, _, end = _bounds(data, 0, len(data))
    if tag not in _KERBEROS_MESSAGES:
        raise Unreadable
    return end, _encode(_elements(data[:end]))


def _check_bind(parts: list[Element]) -> None:
    """Refuse to bind by anything but SASL with credentials: scapy gives its tags other numbers."""
    tags = [tag for tag, _ in parts]
    if tags != [_INTEGER, _OCTETS, _SASL]:
        raise Unreadable
    if [tag for tag, _ in _elements(parts[2][1])] != [_OCTETS, _OCTETS]:
        raise Unreadable


def _search(parts: list[Element]) -> bytes:
    if [tag for tag, _ in parts] != [*_BEFORE_FILTER, parts[6][0] if len(parts) > 6 else 0, 0x30]:
        raise Unreadable
    return _encode(parts[:6]) + _filter(*parts[6], 0) + _encode(parts[7:])


def _filter(tag: int, content: bytes, depth: int) -> bytes:
    """Return a filter with scapy's tags; it knows none that negates or extends."""
    if depth > _DEEPEST:
        raise Unreadable
    if tag in _ALL_OF:
        inner = b"".join(_filter(*each, depth + 1) for each in _elements(content))
        return _written(_ALL_OF[tag], inner)
    parts = [] if tag == _PRESENT else _elements(content)
    if tag == _PRESENT:
        return _written(tag, content)
    if tag in _ANY_OF and [each for each, _ in parts] == [_OCTETS, _OCTETS]:
        return _written(_ANY_OF[tag], _encode(parts))
    if tag == _SUBSTRINGS and [each for each, _ in parts] == [_OCTETS, _SEQUENCE]:
        pieces = _elements(parts[1][1])
        if all(each in (0x80, 0x81, 0x82) for each, _ in pieces):
            inner = b"".join(_written(each & 3, text) for each, text in pieces)
            return _written(0x84, _encode(parts[:1]) + _written(_SEQUENCE, inner))
    raise Unreadable


def _bounds(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """Return an element's tag and where its content begins and ends; it must lie within `end`."""
    if at + 2 > end or data[at] & 0x1F == 0x1F:
        raise Unreadable
    size, begin = data[at + 1], at + 2
    if size & 0x80:
        begin += size & 0x7F
        if begin > end:
            raise Unreadable
        size = int.from_bytes(data[at + 2 : begin])
    if begin + size > end:
        raise Unreadable
    return data[at], begin, begin + size


def _elements(data: bytes) -> list[Element]:
    found, at = [], 0
    while at < len(data):
        tag, begin, at = _bounds(data, at, len(data))
        found.append((tag, data[begin:at]))
    return found


def _written(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    octets = (size.bit_length() + 7) // 8
    return bytes([tag, 0x80 | octets]) + size.to_bytes(octets) + content


def _encode(parts: list[Element], depth: int = 0) -> bytes:
    """Return elements with short lengths and numbers."""
    if depth > _DEEPEST:
        raise Unreadable
    made = b""
    for tag, content in parts:
        if tag & _CONSTRUCTED:
            content = _encode(_elements(content), depth + 1)
        elif tag in (_INTEGER, _ENUMERATED):
            content = _number(int.from_bytes(content, signed=True))
        made += _written(tag, content)
    return made


def _number(value: int) -> bytes:
    """Return a number; of those whose first byte were 80 scapy makes one byte more."""
    size = max(1, (value if value >= 0 else -1 - value).bit_length() // 8 + 1)
    made = value.to_bytes(size, signed=True)
    return b"\xff" + made if made[0] == 0x80 else made
