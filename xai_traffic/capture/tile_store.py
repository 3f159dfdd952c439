"""Keep the tiles of sessions that may still grow, until the sessions are wanted."""

from __future__ import annotations

import os
import tempfile

import numpy as np

from xai_traffic.capture.records import PACKET

MEMORY = 256 << 20
"""Bytes kept in memory; a store that may be larger lies in a temporary file from there on."""

_FIRST = 1024
"""Rows a store begins with."""


class TileStore:
    """Tiles and packet rows by session, added as packets come and taken session by session.

    Rows lie in one array; those of a session are chained from its last one back, and the rows of
    sessions that were taken are used again. A session that is sealed takes no more tiles.

    Args:
        width: bytes of a tile.
        memory: bytes from which on the array lies in a temporary file.
    """

    def __init__(self, width: int, memory: int = MEMORY):
        self._row = np.dtype([("packet", PACKET), ("before", "<i8"), ("tile", "u1", width)])
        self._memory = memory
        self._file = None
        self._rows = np.zeros(0, self._row)
        self._free = np.zeros(0, np.int64)  # a stack: the first `_left` of it
        self._left = 0
        self._last: dict[int, int] = {}  # last row of each session
        self._sealed: dict[int, int] = {}  # likewise

    @property
    def bytes(self) -> int:
        """Bytes that the rows in use take."""
        return (len(self._rows) - self._left) * self._row.itemsize

    def add(self, tiles: np.ndarray, packets: np.ndarray, only_whole: bool = False) -> None:
        """Add packets of any sessions, those of a session in its order.

        Args:
            tiles: uint8 [n, width].
            packets: PACKET [n].
            only_whole: leave out sessions whose first packet is not there: they were sealed.
        """
        order = np.argsort(packets["session"], kind="stable")
        numbers = packets["session"][order]
        first = np.flatnonzero(np.diff(numbers, prepend=-1))
        if only_whole:
            known = packets["packet"][order[first]] == 0
            known |= np.fromiter(map(self._last.__contains__, numbers[first].tolist()), bool)
            kept = np.repeat(known, np.diff(first, append=len(order)))
            order, numbers = order[kept], numbers[kept]
            first = np.flatnonzero(np.diff(numbers, prepend=-1))
        rows = self._take_rows(len(order))
        self._rows["tile"][rows] = tiles[order]
        self._rows["packet"][rows] = packets[order]
        before = np.concatenate([[-1], rows[:-1]]) if len(rows) else rows
        sessions = numbers[first].tolist()
        before[first] = [self._last.get(session, -1) for session in sessions]
        self._rows["before"][rows] = before
        last = rows[np.append(first[1:], len(rows)) - 1] if len(first) else first
        self._last.update(zip(sessions, last.tolist(), strict=True))

    def seal(self, sessions: np.ndarray) -> None:
        """Seal sessions, int64 [n], some of which may have no tiles."""
        for session in sessions.tolist():
            self._sealed[session] = self._last.pop(session, -1)

    def take(self, sessions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (tiles, PACKET rows) of sealed sessions, int64 [n], and forget them.

        Those of a session are in its order, sessions mixed.
        """
        row = np.array([self._sealed.pop(session) for session in sessions.tolist()], np.int64)
        found = []
        while len(row := row[row >= 0]):
            found.append(row)
            row = self._rows["before"][row]
        rows = np.concatenate([*found[::-1], np.zeros(0, np.int64)]).astype(np.int64)
        tiles, packets = self._rows["tile"][rows], self._rows["packet"][rows]
        self._free[self._left : self._left + len(rows)] = rows
        self._left += len(rows)
        return tiles, packets

    def last_times(self) -> np.ndarray:
        """Return the time of the last tile of each session that is not sealed, ns, int64."""
        rows = np.fromiter(self._last.values(), np.int64, len(self._last))
        return self._rows["packet"]["time_ns"][rows]

    def close(self) -> None:
        """Forget all, and the temporary file."""
        self._rows, self._left = np.zeros(0, self._row), 0
        if self._file is not None:
            self._file.close()

    def _take_rows(self, count: int) -> np.ndarray:
        if count > self._left:
            self._grow(max(2 * len(self._rows), len(self._rows) + count - self._left, _FIRST))
        self._left -= count
        return self._free[self._left : self._left + count].copy()

    def _grow(self, size: int) -> None:
        old, used = self._rows, len(self._rows)
        if size * self._row.itemsize <= self._memory:
            self._rows = np.empty(size, self._row)
            self._rows[:used] = old
        else:
            in_memory = self._file is None
            self._file = self._file or tempfile.TemporaryFile(prefix="xai-traffic-")  # noqa: SIM115
            _reserve(self._file.fileno(), size * self._row.itemsize)
            self._rows = np.memmap(self._file, self._row, "r+", shape=size)
            if in_memory:
                self._rows[:used] = old
        free = np.empty(size, np.int64)
        free[: self._left] = self._free[: self._left]
        free[self._left : self._left + size - used] = np.arange(size - 1, used - 1, -1)
        self._free, self._left = free, self._left + size - used


def _reserve(file: int, size: int) -> None:
    """Make a file so long; a full disk shows here, not when a page of it is written."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)
