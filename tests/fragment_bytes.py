"""Fragments of one UDP datagram, for tests of what becomes of them."""

from __future__ import annotations

import capture_bytes as made
from both_cores import Result

from xai_traffic.capture.records import DROPS

MORE, LAST = 0x2000, 0x0003
"""Fragment words of a first fragment, and of a last one at byte 24."""

UDP = made.udp(5, 53, data=bytes(range(40)))


def v4(data: bytes, fragment: int, *, protocol=17, number=1, **ends) -> bytes:
    return made.ipv4(data, protocol=protocol, fragment=fragment, number=number, **ends)


def v6(data: bytes, offset: int, more: int, *, protocol=17, number=1, **ends) -> bytes:
    header = made.fragment_header(protocol, offset=offset, more=more, number=number)
    return made.ipv6(header + data, protocol=44, **ends)


def halves4(number=1, **ends) -> tuple[bytes, bytes]:
    return v4(UDP[:24], MORE, number=number, **ends), v4(UDP[24:], LAST, number=number, **ends)


def halves6(number=1, **ends) -> tuple[bytes, bytes]:
    return v6(UDP[:24], 0, 1, number=number, **ends), v6(UDP[24:], 3, 0, number=number, **ends)


def raw(packets, step=0) -> bytes:
    """Return a capture of IP packets, `step` seconds apart."""
    return made.pcap(
        [(number * step, 0, packet) for number, packet in enumerate(packets)], link=101
    )


def dropped(result: Result, reason="fragment") -> int:
    """Return how many packets were dropped; all must be for this reason."""
    assert sum(result.dropped) == dict(zip(DROPS, result.dropped, strict=True))[reason]
    return sum(result.dropped)
