"""Walk the headers of an IP datagram to its transport. Part of the plain core.

Sources: RFC 791 (IPv4), RFC 8200 (IPv6), RFC 4302 (authentication), RFC 6946 (atomic fragments).
"""

from __future__ import annotations

from typing import NamedTuple

from xai_traffic.capture.core_numpy.octets import MALFORMED, TRUNCATED, Dropped, need, number

NO_NEXT_HEADER = 59
EXTENSION_HEADERS = (0, 43, 60, 135, 139, 140)
FRAGMENT_HEADER, AUTHENTICATION = 44, 51
MAX_EXTENSION_HEADERS = 16
FARTHEST_TRANSPORT = 65_000
"""Offsets of rows have 16 bits: nothing is decoded that begins behind this one."""


class IpHeader(NamedTuple):
    """What the headers of a datagram, or of a fragment of one, say.

    Attributes:
        family: 4 or 6.
        network: offset of the IP header.
        protocol: of what follows; of a later IPv6 fragment, as its fragment header has it.
        source: address, 4 or 16 bytes.
        destination: address.
        transport: offset behind the IP headers.
        end: where the datagram ends in the captured bytes.
        declared: where it would end if nothing were cut off.
        datagram: names the datagram that this is a fragment of, by the last IPv6 fragment header
            where there are several; None if it is whole.
        later: whether this is a fragment without the datagram's first byte.
    """

    family: int
    network: int
    protocol: int
    source: bytes
    destination: bytes
    transport: int
    end: int
    declared: int
    datagram: tuple | None = None
    later: bool = False


def walk(data: bytes, family: int, at: int, end: int) -> IpHeader:
    """Return what stands in the IP header at an offset and in those that belong to it.

    Args:
        data: the captured bytes.
        family: 4 or 6.
        at: offset of the IP header.
        end: where the bytes end: the frame, or the layer around.

    Raises:
        Dropped: the headers are cut or wrong.
    """
    header = (_ipv4 if family == 4 else _ipv6)(data, at, end)
    if header.transport > FARTHEST_TRANSPORT:
        raise Dropped(TRUNCATED)
    return header


def _ipv4(data: bytes, at: int, end: int) -> IpHeader:
    need(end, at + 20)
    length = (data[at] & 15) * 4
    if data[at] >> 4 != 4 or length < 20:
        raise Dropped(MALFORMED)
    need(end, at + length)
    total = number(data, at + 2, 2)
    if 0 < total < length:
        raise Dropped(MALFORMED)
    # Segmentation offload leaves a total length of 0: the datagram is all there is.
    declared = at + total if total else end
    protocol, source, destination = data[at + 9], data[at + 12 : at + 16], data[at + 16 : at + 20]
    datagram, later = None, False
    fragment = number(data, at + 6, 2) & 0x3FFF
    if fragment:  # more fragments, or an offset
        datagram = (4, source, destination, protocol, number(data, at + 4, 2))
        later = fragment & 0x1FFF != 0
    return IpHeader(
        4,
        at,
        protocol,
        source,
        destination,
        at + length,
        min(end, declared),
        declared,
        datagram,
        later,
    )


def _ipv6(data: bytes, at: int, end: int) -> IpHeader:
    need(end, at + 40)
    if data[at] >> 4 != 6:
        raise Dropped(MALFORMED)
    network, source, destination = at, data[at + 8 : at + 24], data[at + 24 : at + 40]
    length = number(data, at + 4, 2)
    protocol = data[at + 6]
    # A payload length of 0 means a jumbogram or segmentation offload.
    offload = length == 0 and protocol != NO_NEXT_HEADER
    declared = end if offload else at + 40 + length
    end = min(end, declared)
    datagram, later = None, False
    at += 40
    headers = 0
    while protocol in (*EXTENSION_HEADERS, FRAGMENT_HEADER, AUTHENTICATION) and not later:
        headers += 1
        if headers > MAX_EXTENSION_HEADERS:
            raise Dropped(MALFORMED)
        need(end, at + 8)
        size = (data[at + 1] + 1) * 8
        if protocol == AUTHENTICATION:
            size = (data[at + 1] + 2) * 4
        if protocol == FRAGMENT_HEADER:
            size = 8
            fragment = number(data, at + 2, 2)
            if fragment & 0xFFF9:  # an offset, or more fragments; else the fragment is atomic
                datagram = (6, source, destination, 0, number(data, at + 4, 4))
                later = fragment & 0xFFF8 != 0
        need(end, at + size)
        protocol = data[at]
        at += size
    return IpHeader(6, network, protocol, source, destination, at, end, declared, datagram, later)
