"""Headers of many packets that a forgery reads and writes, by the offsets of their rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from xai_traffic.capture.checksums import ABSENT
from xai_traffic.capture.records import NONE, TCP

RST, ACK = 0x04, 0x10
_FLAGS, _OPTIONS = 13, 20


@dataclasses.dataclass(frozen=True, eq=False)
class Headers:
    """n packets as they were captured. Offsets are int32 [n] in the tile, ABSENT where none.

    Args:
        tiles: uint8 [n, width].
        rows: PACKET [n].
        length: captured bytes in the tile.
        network, transport, payload: of the headers that make the session.
        version: 4, 6, or 0 where there is no IP header in the tile.
    """

    tiles: np.ndarray
    rows: np.ndarray
    length: np.ndarray
    network: np.ndarray
    transport: np.ndarray
    payload: np.ndarray
    version: np.ndarray

    @classmethod
    def of(cls, tiles: np.ndarray, rows: np.ndarray) -> Headers:
        """Find the headers of tiles [n, width] with their rows PACKET [n]."""
        length = np.minimum(rows["length"].astype(np.int32), tiles.shape[1])
        places = (
            np.where(rows[name] == NONE, ABSENT, rows[name].astype(np.int32))
            for name in ("network", "transport", "payload")
        )
        found = cls(tiles, rows, length, *places, version=np.zeros_like(length))
        version = found.number(found.network, 1) >> 4
        return dataclasses.replace(found, version=np.where(np.isin(version, (4, 6)), version, 0))

    @property
    def direction(self) -> np.ndarray:
        """Return int [n], 0 for packets of the initiator, 1 for those of the responder."""
        return self.rows["direction"].astype(int)

    @property
    def protocol(self) -> np.ndarray:
        """Return int [n], the IP protocol of the transport header."""
        return self.rows["protocol"].astype(int)

    def number(self, offset: np.ndarray, size: int) -> np.ndarray:
        """Return int64 [n], the big-endian number at each row's offset, 0 where it is cut."""
        inside = offset + size <= self.length
        every, at = np.arange(len(offset)), np.where(inside, offset, 0)
        value = np.zeros(len(offset), np.int64)
        for index in range(size):
            value = value << 8 | self.tiles[every, at + index * inside]
        return np.where(inside, value, 0)

    def tcp(self, first: int, size: int) -> np.ndarray:
        """Return bool [n], whether the tile has these bytes of a TCP header."""
        return (self.protocol == TCP) & (self.transport + first + size <= self.length)

    def flag(self, bit: int) -> np.ndarray:
        """Return bool [n], whether a TCP flag is set."""
        flags = self.number(self.transport + _FLAGS, 1)
        return self.tcp(_FLAGS, 1) & (flags & bit != 0)

    def tcp_options(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield (offset, kind, length) int [n] of the options, in step; kind 0 where none is left.

        The length is clipped to what the tile has of the header.
        """
        behind = np.where(self.payload < ABSENT, self.payload, self.length)
        stop = np.minimum(behind, self.length)
        offset = self.transport + _OPTIONS
        going = (self.protocol == TCP) & (offset < stop)
        while going.any():
            kind, size = self.number(offset, 1), self.number(offset + 1, 1)
            size = np.where(kind == 1, 1, size)
            going &= (kind != 0) & ((kind == 1) | (size >= 2))
            yield offset, np.where(going, kind, 0), np.minimum(size, stop - offset)
            offset = offset + np.where(going, size, 0)
            going = going & (offset < stop)


def write_number(
    tiles: np.ndarray, where: np.ndarray, offset: np.ndarray, size: int, values: np.ndarray
) -> None:
    """Write a big-endian number of `size` bytes at the offsets of the rows bool [n], in place."""
    (rows,) = np.nonzero(where)
    at, values = offset[rows], np.asarray(values)[rows].astype(np.int64)
    for index in range(size):
        tiles[rows, at + index] = values >> 8 * (size - 1 - index) & 255
