"""Find the IP header behind the header of a link layer. Part of the plain core.

Sources: tcpdump.org's list of link types with the pages it refers to (SLL, SLL2, NFLOG, PPI, PPP,
Cisco HDLC), IEEE 802.11, radiotap.org.
"""

from __future__ import annotations

from collections.abc import Callable

from xai_traffic.capture.core_numpy.octets import (
    ENCRYPTED,
    MALFORMED,
    NOT_IP,
    UNSUPPORTED,
    Dropped,
    little,
    need,
    number,
)
from xai_traffic.capture.core_numpy.shims import (
    PPPOE,
    ethernet,
    follow,
    llc,
    ppp,
    ppp_protocol,
)

Found = tuple[int, int, int]
"""4 or 6, offset of the IP header, end of the frame."""

FAMILY_IPV4, FAMILIES_IPV6 = 2, {24, 28, 30}
"""AF_INET, and AF_INET6 of the BSDs."""

COOKED_LLC = 4
"""Type of SLL and SLL2 that means LLC; the other small ones are Linux's own."""

NFLOG_PAYLOAD = 9
MAX_PRESENT_WORDS = 32
PPI = 192
FRAME_DATA, SUBTYPE_NO_DATA, SUBTYPE_QOS = 2, 4, 8
FROM_AND_TO_DS, PROTECTED, ORDER = 0x0300, 0x4000, 0x8000
RADIOTAP_PADDED = 0x20


def ip_header(link: int, data: bytes) -> Found:
    """Return (4 or 6, offset of the IP header, end of the frame) in the captured bytes.

    Raises:
        Dropped: with the first reason met on the way.
    """
    return _link(link, data, 0)


def _link(link: int, data: bytes, at: int) -> Found:
    if link not in _LINKS:
        raise Dropped(UNSUPPORTED)
    return _LINKS[link](data, at, len(data))


def _with_end(walk: Callable[[bytes, int, int], tuple[int, int]]):
    return lambda data, at, end: (*walk(data, at, end), end)


def _typed(header: int, field: int):
    """Return the walk of a header of fixed length with an Ethernet type at an offset."""

    def walk(data: bytes, at: int, end: int) -> tuple[int, int]:
        need(end, at + header)
        return follow(data, number(data, at + field, 2), at + header, end)

    return walk


def _cooked(header: int, field: int):
    """Return the walk of SLL or SLL2: as `_typed`, but one type means LLC."""

    def walk(data: bytes, at: int, end: int) -> tuple[int, int]:
        need(end, at + header)
        kind = number(data, at + field, 2)
        return follow(data, kind, at + header, end, may_be_length=kind == COOKED_LLC)

    return walk


def _loopback(header: int):
    """Return the walk of a header that begins with an address family in either byte order."""

    def walk(data: bytes, at: int, end: int) -> tuple[int, int]:
        need(end, at + header)
        families = {number(data, at, 4), little(data, at, 4)}
        if FAMILY_IPV4 in families:
            return 4, at + header
        if families & FAMILIES_IPV6:
            return 6, at + header
        raise Dropped(NOT_IP)

    return walk


def _raw(data: bytes, at: int, end: int) -> tuple[int, int]:
    need(end, at + 1)
    if data[at] >> 4 in (4, 6):
        return data[at] >> 4, at
    raise Dropped(NOT_IP)


def _ppp_any_address(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Walk PPP of pppd, whose first byte says the direction instead of an address."""
    if at + 2 <= end and data[at + 1] == 0x03:
        at += 2
    return follow(data, *ppp_protocol(data, at, end), end)


def _ppp_serial(data: bytes, at: int, end: int) -> tuple[int, int]:
    need(end, at + 1)
    if data[at] in (0x0F, 0x8F):  # Cisco's unicast and multicast address
        return _typed(4, 2)(data, at, end)
    return ppp(data, at, end)


def _pppoe(data: bytes, at: int, end: int) -> tuple[int, int]:
    return follow(data, PPPOE, at, end)


def _nflog(data: bytes, at: int, end: int) -> Found:
    need(end, at + 4)
    family = {2: 4, 10: 6}.get(data[at])
    if family is None:
        raise Dropped(NOT_IP)
    if data[at + 1] != 0:
        raise Dropped(MALFORMED)
    at += 4
    while at < end:
        need(end, at + 4)
        length, kind = little(data, at, 2), little(data, at + 2, 2) & 0x7FFF
        if length < 4:
            raise Dropped(MALFORMED)
        if kind == NFLOG_PAYLOAD:
            return family, at + 4, min(end, at + length)
        need(end, at + length)
        at += (length + 3) // 4 * 4
    raise Dropped(NOT_IP)


def _ppi(data: bytes, at: int, end: int) -> Found:
    need(end, at + 8)
    length, link = little(data, at + 2, 2), little(data, at + 4, 4)
    if length < 8:
        raise Dropped(MALFORMED)
    need(end, at + length)
    if link == PPI:
        raise Dropped(UNSUPPORTED)
    return _link(link, data, at + length)


def _prism(data: bytes, at: int, end: int) -> tuple[int, int]:
    need(end, at + 144)
    return wireless(data, at + 144, end)


def _radiotap(data: bytes, at: int, end: int) -> tuple[int, int]:
    need(end, at + 8)
    length = little(data, at + 2, 2)
    if data[at] != 0 or length < 8:
        raise Dropped(MALFORMED)
    need(end, at + length)
    first = little(data, at + 4, 4)
    words, word = 1, first
    while word >> 31:  # another word of field bits follows
        if words == MAX_PRESENT_WORDS or 8 + 4 * words > length:
            raise Dropped(MALFORMED)
        word = little(data, at + 4 + 4 * words, 4)
        words += 1
    flags = 0
    if first & 2:
        offset = 4 + 4 * words
        if first & 1:  # the time stamp before it, aligned to its 8 bytes
            offset = (offset + 7) // 8 * 8 + 8
        if offset >= length:
            raise Dropped(MALFORMED)
        flags = data[at + offset]
    return wireless(data, at + length, end, padded=bool(flags & RADIOTAP_PADDED))


def wireless(data: bytes, at: int, end: int, padded: bool = False) -> tuple[int, int]:
    """Walk an IEEE 802.11 data frame; `padded`: its header fills a multiple of 4 bytes."""
    need(end, at + 2)
    control = little(data, at, 2)
    version, kind, subtype = control & 3, control >> 2 & 3, control >> 4 & 15
    if kind != FRAME_DATA or version != 0 or subtype & SUBTYPE_NO_DATA:
        raise Dropped(NOT_IP)
    if control & PROTECTED:
        raise Dropped(ENCRYPTED)
    # A frame from one distribution system to another has a fourth address.
    quality = 30 if control & FROM_AND_TO_DS == FROM_AND_TO_DS else 24
    header = quality
    if subtype & SUBTYPE_QOS:
        header += 6 if control & ORDER else 2
    need(end, at + header)
    if subtype & SUBTYPE_QOS and data[at + quality] & 0x80:  # several frames in one
        raise Dropped(NOT_IP)
    if padded:
        header = (header + 3) // 4 * 4
    kind, at = llc(data, at + header, end)
    return follow(data, kind, at, end)


_LINKS: dict[int, Callable[[bytes, int, int], Found]] = {
    link: _with_end(walk)
    for links, walk in (
        ((0, 108), _loopback(4)),  # NULL, LOOP
        ((1,), ethernet),
        ((12, 14, 101), _raw),
        ((9, 50), _ppp_serial),
        ((51,), _pppoe),
        ((104,), _typed(4, 2)),  # Cisco HDLC
        ((105,), wireless),
        ((109,), _loopback(12)),  # ENC
        ((113,), _cooked(16, 14)),  # SLL
        ((119,), _prism),
        ((127,), _radiotap),
        ((166,), _ppp_any_address),
        ((228,), lambda data, at, end: (4, at)),
        ((229,), lambda data, at, end: (6, at)),
        ((276,), _cooked(20, 0)),  # SLL2
    )
    for link in links
}
_LINKS |= {PPI: _ppi, 239: _nflog}
