"""Read one capture, then hand its sessions over one behind the other.

Packets of many sessions come mixed, and whether a session is kept is known only at its end. So
the tiles of a big capture go to a spool file as they come, and only the packet and session rows
stay in memory.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterator

import numpy as np

from xai_traffic.capture.reader import STANDARD_INPUT
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.capture.sessions import Gathered, gather, read_batches

_PIECE = 4 << 20
"""Bytes of tiles gathered at a time."""

_MEMORY = 64 << 20
"""Bytes of tiles kept in memory; a capture with more goes to disk."""


@dataclasses.dataclass(frozen=True, eq=False)
class Spool:
    """A capture that was read.

    Args:
        rules: how it was read.
        tiles: uint8 [n, width], in memory or mapped, in order of arrival, masked.
        packets: PACKET [n], sorted by session and place in it.
        places: int64 [n], row of `tiles` of each of `packets`.
        sessions: SESSION [m], sorted by number.
        first: int64 [m], first of `packets` of each session.
        counts: int64 [m], number of `packets` of each session.
        seen: packets in the capture.
        dropped: packets dropped by reason; those and the sessions' packets make up `seen`.
        fault: what is wrong with the capture from some place on, None if nothing.
    """

    rules: ReadingRules
    tiles: np.ndarray
    packets: np.ndarray
    places: np.ndarray
    sessions: np.ndarray
    first: np.ndarray
    counts: np.ndarray
    seen: int
    dropped: dict[str, int]
    fault: str | None

    def first_wire(self) -> np.ndarray:
        """Return int64 [m], bytes on the wire of each session's first packet (0: not in a tile)."""
        wire = np.zeros(len(self.sessions), np.int64)
        some = self.counts > 0
        wire[some] = self.packets["wire"][self.first[some]]
        return wire

    def pieces(self, kept: np.ndarray) -> Iterator[tuple[np.ndarray, Gathered]]:
        """Yield some of the sessions, put together, a few MiB at a time.

        Args:
            kept: int64, ascending rows of `sessions`, none of which the rules drop.

        Yields:
            rows of `sessions`, and what they hold.
        """
        for part in consecutive(self.counts[kept], _PIECE // self.tiles.shape[1]):
            rows = kept[part]
            spans = spans_of(self.first[rows], self.counts[rows])
            tiles = self.tiles[self.places[spans]]
            yield rows, gather(tiles, self.packets[spans], self.sessions[rows], self.rules)


def spool_capture(path: str | os.PathLike, rules: ReadingRules, file: pathlib.Path) -> Spool:
    """Read a capture.

    Args:
        path: the capture, "-" for standard input.
        rules: how it is read; sessions that they drop are still in the spool.
        file: where the tiles of a big capture go, overwritten; it must outlive the spool.

    Raises:
        CaptureError: nothing of it can be read. Damage further on is the spool's `fault`.
    """
    reader = read_batches(path, rules)
    parts = []
    with _Tiles(file) as held:
        for tiles, packets, sessions in reader:
            parts.append((packets, sessions))
            held.add(tiles)
    packets, sessions = (np.concatenate(part) for part in zip(*parts, strict=True))
    del parts
    sessions = sessions[np.argsort(sessions["session"], kind="stable")]
    places = np.argsort(packets["session"], kind="stable")
    packets = packets[places]
    numbers = np.ascontiguousarray(packets["session"])
    first = np.searchsorted(numbers, sessions["session"], side="left")
    last = np.searchsorted(numbers, sessions["session"], side="right")
    return Spool(
        rules=rules,
        tiles=held.array(),
        packets=packets,
        places=places,
        sessions=sessions,
        first=first,
        counts=last - first,
        seen=reader.packets,
        dropped=reader.dropped,
        fault=reader.fault,
    )


class _Tiles:
    """Tiles as they come: in memory up to _MEMORY, then in a file."""

    def __init__(self, file: pathlib.Path):
        self._file, self._stream = file, None
        self._parts: list[np.ndarray] = []
        self._bytes = self._rows = 0

    def __enter__(self) -> _Tiles:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream:
            self._flush()
            self._stream.close()

    def add(self, tiles: np.ndarray) -> None:
        """Take uint8 [n, width]."""
        self._width = tiles.shape[1]
        if len(tiles):
            self._parts.append(tiles)
            self._bytes += tiles.nbytes
            self._rows += len(tiles)
        if self._bytes > _MEMORY:
            self._stream = self._stream or open(self._file, "wb")  # noqa: SIM115
            self._flush()

    def array(self) -> np.ndarray:
        """Return all that came, uint8 [n, width]; call it when the context is left."""
        shape = (self._rows, self._width)
        if self._stream:
            return np.memmap(self._file, np.uint8, "r", shape=shape)
        return np.concatenate(self._parts) if self._parts else np.zeros(shape, np.uint8)

    def _flush(self) -> None:
        for tiles in self._parts:
            self._stream.write(np.ascontiguousarray(tiles))
        self._parts, self._bytes = [], 0


def facts_of_file(path: str | os.PathLike) -> dict[str, str | int | None]:
    """Return `sha256` (in hex) and `bytes` of a capture as it lies on disk.

    Both are None for standard input and pipes, and where the file cannot be read to its end: its
    fault says why.
    """
    unknown = {"sha256": None, "bytes": None}
    try:
        if os.fspath(path) == STANDARD_INPUT or not os.path.isfile(path):
            return unknown
        with open(path, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            return {"sha256": digest, "bytes": stream.tell()}
    except OSError:
        return unknown


def consecutive(counts: np.ndarray, most: int) -> Iterator[slice]:
    """Yield slices that cover `counts` in order, each summing to at most `most` where it can."""
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield slice(start, stop)
        start = stop


def spans_of(first: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return int64 [sum(counts)]: first[0], first[0] + 1, ..., then first[1], ..."""
    begins = np.cumsum(counts) - counts
    return np.repeat(first - begins, counts) + np.arange(int(counts.sum()))
