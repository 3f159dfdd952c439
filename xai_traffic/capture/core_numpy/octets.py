"""Read the bytes of a packet, or say why it is dropped. Part of the plain core."""

from __future__ import annotations

from xai_traffic.capture.records import DROPS

(
    UNSUPPORTED,
    NOT_IP,
    ENCRYPTED,
    TRUNCATED,
    MALFORMED,
    FRAGMENT,
    FILTERED,
    RETRANSMISSION,
) = range(len(DROPS))


class Dropped(Exception):
    """A packet that belongs to no session; `reason` is an index into DROPS."""

    def __init__(self, reason: int):
        super().__init__(DROPS[reason])
        self.reason = reason


def number(data: bytes, offset: int, size: int) -> int:
    """Return the unsigned number in network byte order at an offset."""
    return int.from_bytes(data[offset : offset + size], "big")


def little(data: bytes, offset: int, size: int) -> int:
    """Return the unsigned number in little-endian byte order at an offset."""
    return int.from_bytes(data[offset : offset + size], "little")


def need(end: int, position: int) -> None:
    """Raise Dropped("truncated header") where the bytes end before a position."""
    if position > end:
        raise Dropped(TRUNCATED)
