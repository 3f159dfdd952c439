"""Where the bytes of a packet name hosts: the fields that do, and what in a text looks like it.

What no dissector here knows is searched for the forms that addresses and names take in protocols
of text, in Unicode of two bytes, in DNS and NetBIOS, and for addresses that the session is known
to have. What is encrypted, compressed or coded otherwise is not found.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from xai_traffic.capture.fields import Field, masks
from xai_traffic.report.field_values import bare_name
from xai_traffic.report.pseudonyms import Pseudonyms

ADDRESSES = frozenset(masks.ADDRESSES) | {
    "dns.a",
    "dns.aaaa",
    "dns.svcb.svcparam.ipv4hint.ip",
    "dns.svcb.svcparam.ipv6hint.ip",
}
"""Fields that are an address."""

NAMES = frozenset({
    "dns.qry.name", "dns.resp.name", "dns.ns", "dns.cname", "dns.soa.mname", "dns.soa.rname",
    "dns.ptr.domain_name", "dns.mx.mail_exchange", "dns.srv.target", "dns.svcb.targetname",
    "dns.rrsig.signers_name", "dns.nsec.next_domain_name", "dns.naptr.replacement",
    "dns.tsig.algorithm_name",
})  # fmt: skip
"""Fields that are a domain name, encoded as in DNS."""

SUMS = frozenset({
    "ip.checksum", "tcp.checksum", "udp.checksum", "icmp.checksum", "icmpv6.checksum",
    "gre.checksum", "mip6.csum",
})  # fmt: skip
"""Fields that give away the sum of addresses, which is enough to tell some of them."""

FILES = frozenset({
    "asp", "aspx", "cap", "css", "dll", "exe", "gif", "gz", "htm", "html", "ico", "jpeg", "jpg",
    "js", "json", "jsp", "pcap", "pcapng", "php", "png", "txt", "xml", "xz", "zst",
})  # fmt: skip
"""Endings of files that no host name has."""

_LABEL = rb"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})"
_NAME = re.compile(rb"(?:" + _LABEL + rb"\.)+(?:[A-Za-z][A-Za-z0-9-]+|[A-Za-z]\Z)")
_MAIL = re.compile(rb"[A-Za-z0-9.!#$%&*+/=?^_`{|}~-]+@" + _LABEL + rb"(?:\." + _LABEL + rb")*")
_FOUR = re.compile(rb"(?<![0-9.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9]|\.[0-9])")
_SIX = re.compile(rb"(?<![0-9A-Za-z:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![0-9A-Za-z:])")
_DASHED = re.compile(rb"(?<![0-9])(?:[0-9]{1,3}[-_]){3}[0-9]{1,3}(?![0-9])")
_HARDWARE = re.compile(rb"(?<![0-9A-Fa-f])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![0-9A-Fa-f])")
_PORT = re.compile(rb"(?<=PORT )(?:[0-9]{1,3},){3}[0-9]{1,3}|(?<=\()(?:[0-9]{1,3},){3}[0-9]{1,3}")
_GREETING = re.compile(rb"(?<=EHLO )[^\s\[\]]+|(?<=HELO )[^\s\[\]]+", re.IGNORECASE)
_NETBIOS = re.compile(rb"(?<=\x20)[A-P]{32}")
_WIDE = re.compile(rb"(?:[\x21-\x7e]\x00){4,}")

Change = tuple[int, int, bytes]
"""Bytes [start, end) and what takes their place, as many."""


def redacted(
    data: bytes, fields: Sequence[Field], known: Iterable[bytes], pseudonyms: Pseudonyms
) -> bytes:
    """Return a tile's bytes with pseudonyms where they name hosts, as many bytes.

    Args:
        data: the captured bytes.
        fields: as `dissect` names them.
        known: addresses in bytes that are to be found in payloads, too.
    """
    result = bytearray(data)
    rest = bytearray(data)  # what the fields below have not settled; the settled is blanked
    for field in fields:
        replaced = _field(bare_name(field), data[field.start : field.end], pseudonyms)
        if replaced is not None:
            result[field.start : field.end] = replaced
            rest[field.start : field.end] = bytes(field.end - field.start)
    start = next((field.start for field in fields if not _is_header(field)), len(data))
    for first, end, replaced in changes(bytes(rest[start:]), known, pseudonyms):
        result[start + first : start + end] = replaced
    return bytes(result)


def _is_header(field: Field) -> bool:
    """Tell whether all that a field could say of hosts is settled by its name."""
    headers = ("eth.", "ip.", "ipv6.", "tcp.", "udp.", "sctp.", "vlan.")
    return field.name.startswith(headers) and bare_name(field) != "eth.trailer"


def redacted_text(text: str, pseudonyms: Pseudonyms) -> str:
    """Return a text (a file's name, a reason) with pseudonyms for the addresses and names in it."""

    def address(raw: bytes) -> bytes:
        return pseudonyms.address_text(raw.decode("ascii")).encode("ascii")

    raw = text.encode("utf-8", "surrogateescape")
    for start, end, replaced in sorted(changes(raw, (), pseudonyms, address), reverse=True):
        raw = raw[:start] + replaced + raw[end:]
    return raw.decode("utf-8", "surrogateescape")


def changes(
    raw: bytes,
    known: Iterable[bytes],
    pseudonyms: Pseudonyms,
    address: Callable[[bytes], bytes] | None = None,
) -> list[Change]:
    """Return what is to be replaced in bytes that no dissector knows, without overlap.

    Args:
        known: addresses in bytes that are to be found, too.
        address: returns what takes the place of an IP address in words; by default as many bytes.
    """
    found: list[Change] = []
    left = bytearray(raw)
    # What is found is blanked: a name beside an address must not hide behind their overlap.
    for finder in _finders(known, pseudonyms, address or pseudonyms.name):
        for start, end, replaced in list(finder(bytes(left))):
            if any(left[start:end]):
                left[start:end] = bytes(end - start)
                found.append((start, end, replaced))
    return found


Finder = Callable[[bytes], Iterator[Change]]


def _finders(
    known: Iterable[bytes], pseudonyms: Pseudonyms, address: Callable[[bytes], bytes]
) -> Iterator[Finder]:
    """Yield what finds names of hosts, the surest first."""
    for own in known:
        yield _matches(re.compile(re.escape(own)), pseudonyms.address)
    yield lambda raw: (
        (start, end, _labels(raw[start:end], pseudonyms)) for start, end in _encoded(raw)
    )
    for pattern in (_NETBIOS, _PORT, _GREETING, _MAIL, _HARDWARE):
        yield _matches(pattern, pseudonyms.name)
    for pattern in (_SIX, _FOUR):
        yield _matches(pattern, address, _is_address)
    yield _matches(_DASHED, pseudonyms.name)
    yield lambda raw: _names(raw, pseudonyms)
    yield lambda raw: _wide(raw, pseudonyms)


def _matches(
    pattern: re.Pattern[bytes],
    replace: Callable[[bytes], bytes],
    fits: Callable[[bytes], bool] = lambda raw: True,
) -> Finder:
    return lambda raw: (
        (*found.span(), replace(found[0])) for found in pattern.finditer(raw) if fits(found[0])
    )


def _wide(raw: bytes, pseudonyms: Pseudonyms) -> Iterator[Change]:
    """Yield what is found in text of two bytes a letter, the low one first."""
    for found in _WIDE.finditer(raw):
        for start, end, replaced in changes(found[0][::2], (), pseudonyms):
            wide = b"".join(bytes([value, 0]) for value in replaced)
            yield found.start() + 2 * start, found.start() + 2 * end, wide


def _field(name: str, raw: bytes, pseudonyms: Pseudonyms) -> bytes | None:
    """Return what takes the place of a field's bytes, None where they say nothing of hosts."""
    if name in ADDRESSES:
        return pseudonyms.address(raw)
    if name in NAMES:
        return _labels(raw, pseudonyms)
    if name in SUMS:
        return bytes(len(raw))
    if name.endswith("_server_name"):
        return pseudonyms.name(raw)
    if name == "http.host":
        key, colon, value = raw.partition(b":")
        parts = re.match(rb"(\s*)(\[[^\]\s]*\]?|[^:\s]*)(.*)", value, re.DOTALL)
        return key + colon + parts[1] + pseudonyms.name(parts[2]) + parts[3]
    return None


def _is_address(raw: bytes) -> bool:
    try:
        ipaddress.ip_address(raw.decode("ascii"))
    except ValueError:
        return False
    return True


def _names(raw: bytes, pseudonyms: Pseudonyms) -> Iterator[Change]:
    """Yield host names with dots, without the endings of files."""
    for found in _NAME.finditer(raw):
        name = found[0]
        while name.rpartition(b".")[2].decode("ascii").lower() in FILES:
            name = name.rpartition(b".")[0]
        if b"." in name:
            yield found.start(), found.start() + len(name), pseudonyms.name(name)


def _labels(raw: bytes, pseudonyms: Pseudonyms) -> bytes:
    """Replace the labels of an encoded name, cut or not; lengths and pointers stay."""
    result, place = bytearray(raw), 0
    while place < len(raw) and 0 < raw[place] < 64:
        end = min(place + 1 + raw[place], len(raw))
        result[place + 1 : end] = pseudonyms.name(raw[place + 1 : end])
        place = end
    return bytes(result)


def _encoded(raw: bytes) -> Iterator[tuple[int, int]]:
    """Yield where names of two labels or more stand as DNS encodes them."""
    place = 0
    while place < len(raw):
        end, labels = place, 0
        while end < len(raw) and 0 < raw[end] < 64 and end + 1 + raw[end] <= len(raw):
            label = raw[end + 1 : end + 1 + raw[end]]
            if not re.fullmatch(rb"[A-Za-z0-9_-]+", label):
                break
            end, labels = end + 1 + raw[end], labels + 1
        if labels >= 2 and end < len(raw) and (raw[end] == 0 or raw[end] >= 192):
            yield place, end
            place = end
        place += 1
