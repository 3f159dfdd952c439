"""Read one capture, then hand its sessions over one behind the other, in little memory.

Packets of many sessions come mixed, and whether a session is kept is known only at its end. So
what comes is sorted by session some MiB at a time; the sorted runs of a big capture lie in a file,
and of each run the part that belongs to the sessions in turn is read back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np

from xai_traffic.capture.batches import CaptureReader
from xai_traffic.capture.core import tile_shape
from xai_traffic.capture.layouts import RENDERINGS
from xai_traffic.capture.reader import open_chunks
from xai_traffic.capture.records import PACKET, SESSION, TILE
from xai_traffic.capture.rules import ReadingRules

_PIECE = 16 << 20
"""Bytes of tiles and tables that are gathered at a time."""

_MEMORY = 16 << 20
"""Bytes of tiles and packet rows kept in memory, and a quarter of it of session rows."""

_WRITTEN = 1 << 20
"""Bytes put in order before they are written: they stay in the processor's cache."""

_TABLE_ROW = 1024
"""Bytes that a session takes while it becomes a row of the table."""


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Some consecutive sessions of a capture, and all that they hold.

    sessions: SESSION [m], by number; packets: PACKET [n], by session and place in it; tiles:
    uint8 [n, width], masked.
    """

    sessions: np.ndarray
    packets: np.ndarray
    tiles: np.ndarray

    def first_wire(self) -> np.ndarray:
        """Return int64 [m], bytes on the wire of each session's first packet (0: not in a tile)."""
        numbers = np.ascontiguousarray(self.packets["session"])
        first = np.searchsorted(numbers, self.sessions["session"])
        wire = np.append(self.packets["wire"], 0).astype(np.int64)[first]
        return np.where(np.append(numbers, -1)[first] == self.sessions["session"], wire, 0)


class Spool:
    """A capture that is read when its groups are asked for.

    Args:
        path: the capture, "-" for standard input.
        rules: how it is read; sessions that they drop are still in the groups.
        folder: where the rows of a big capture go.
        told: called with the bytes read of the file.

    Attributes:
        seen: packets in the capture; as the others, once the first group is there.
        dropped: packets dropped by reason; those and the sessions' packets make up `seen`.
        fault: what is wrong with the capture from some place on, None if nothing.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        rules: ReadingRules,
        folder: pathlib.Path,
        told: Callable[[int], None] | None = None,
    ):
        self._reader = CaptureReader(path, rules, chunks=open_chunks(path, told))
        self._width, most = tile_shape(rules)
        if rules.layout in RENDERINGS:  # a core reads whole packets for them
            self._width = TILE
        if rules.layout == "ustc28":  # any packet may give one byte of the stream
            most = self._width
        self._row = PACKET.itemsize + self._width
        self._bucket = max(1, _PIECE // (most * self._row))
        self._folder = folder
        self.seen, self.dropped, self.fault = 0, {}, None

    def groups(self) -> Generator[Group, None, None]:
        """Read the capture, then yield all sessions by number, some MiB at a time.

        Raises:
            CaptureError: nothing of it can be read. Damage further on is `fault`.
        """
        with (
            _Rows((PACKET.itemsize, self._width), self._bucket, _MEMORY, self._folder) as rows,
            _Rows((SESSION.itemsize,), self._bucket, _MEMORY // 4, self._folder) as ended,
        ):
            self._read(rows, ended)
            for first, stop in self._parts(rows, ended):
                packets, tiles = rows.take(first, stop)
                (sessions,) = ended.take(first, stop)
                yield Group(sessions.view(SESSION)[:, 0], packets.view(PACKET)[:, 0], tiles)

    def _read(self, rows: _Rows, ended: _Rows) -> None:
        with contextlib.closing(self._reader) as reader:
            for tiles, packets, sessions in reader:
                rows.add(packets, tiles)
                ended.add(sessions)
        self.seen, self.dropped, self.fault = reader.packets, reader.dropped, reader.fault
        del self._reader  # what it remembers of open sessions takes much memory

    def _parts(self, rows: _Rows, ended: _Rows) -> Iterator[tuple[int, int]]:
        """Yield (first, stop) of buckets that are gathered together."""
        counts = rows.counts(), ended.counts()
        size = np.zeros(max(map(len, counts)), np.int64)
        for count, each in zip(counts, (self._row, _TABLE_ROW), strict=True):
            size[: len(count)] += count * each
        for part in consecutive(size, _PIECE):
            yield part.start, part.stop


class _Rows:
    """Rows in columns side by side, by session: sorted runs, in a file but for one.

    Args:
        widths: bytes of a row in each column; the first column begins with a session's number.
        bucket: sessions that are found again together.
        memory: bytes of a run.
        folder: where the file of a big capture goes.
    """

    def __init__(self, widths: Sequence[int], bucket: int, memory: int, folder: pathlib.Path):
        self._bucket, self._folder, self._file = bucket, folder, None
        self._most = max(1, memory // sum(widths))
        self._held = [np.empty((self._most, width), np.uint8) for width in widths]
        self._used = 0
        self._order = np.zeros(0, np.int64)
        # Of each run: its buckets, ascending, and the row each begins at, with the end of the last.
        self._runs: list[tuple[np.ndarray, np.ndarray]] = []
        self._begins: list[list[int]] = []  # bytes into the file, of each run's columns
        self._sorted = False

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self._held = [held[:0] for held in self._held]
        if self._file is not None:
            self._file.close()

    def add(self, *parts: np.ndarray) -> None:
        """Take rows, a part [n] or uint8 [n, ...] for each column."""
        count = len(parts[0])
        if not count:
            return
        columns = [np.ascontiguousarray(part).view(np.uint8).reshape(count, -1) for part in parts]
        at = 0
        while at < count:
            stop = min(count, at + self._most - self._used)
            end = self._used + stop - at
            for held, column in zip(self._held, columns, strict=True):
                held[self._used : end] = column[at:stop]
            self._used, at = end, stop
            if self._used == self._most:
                self._write_run()

    def counts(self) -> np.ndarray:
        """Return how many rows each bucket has, int64 [buckets]; nothing can be added any more."""
        if not self._sorted:
            self._sort_run()
            self._sorted = True
        last = max((int(buckets[-1]) for buckets, _ in self._runs if len(buckets)), default=-1)
        counts = np.zeros(last + 1, np.int64)
        for buckets, begins in self._runs:
            counts[buckets] += np.diff(begins)
        return counts

    def take(self, first: int, stop: int) -> list[np.ndarray]:
        """Return the rows of the buckets from `first` to before `stop`, sorted.

        Rows of a session keep the order in which they came. Of each column uint8 [n, width].
        """
        spans = []
        for buckets, begins in self._runs:
            start, end = begins[np.searchsorted(buckets, (first, stop))]
            spans.append((int(start), int(end)))
        count = sum(end - start for start, end in spans)
        taken = [np.empty((count, held.shape[1]), np.uint8) for held in self._held]
        for column, into in enumerate(taken):
            at = 0
            for run, (start, end) in enumerate(spans):
                part = into[at : at + end - start]
                if run < len(self._begins):
                    self._read(part, self._begins[run][column] + start * into.shape[1])
                else:
                    _put(part, self._held[column], self._order[start:end])
                at += end - start
        if sum(end > start for start, end in spans) > 1:
            order = _sorted(_numbers(taken[0]))
            for column, rows in enumerate(taken):
                taken[column] = np.empty_like(rows)
                _put(taken[column], rows, order)
        return taken

    def _read(self, into: np.ndarray, offset: int) -> None:
        view = memoryview(into).cast("B") if into.size else memoryview(b"")
        self._file.seek(offset)
        while view:
            count = self._file.readinto(view)
            if not count:
                raise OSError("the temporary file of this capture was cut short")
            view = view[count:]

    def _sort_run(self) -> None:
        """Look up where each bucket's rows are among those held."""
        numbers = _numbers(self._held[0][: self._used])
        self._order = _sorted(numbers)
        buckets = numbers[self._order] // self._bucket
        begins = np.flatnonzero(np.diff(buckets, prepend=-1))
        self._runs.append((buckets[begins], np.append(begins, len(buckets))))

    def _write_run(self) -> None:
        """Put the rows held into the file, sorted."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(  # noqa: SIM115 - closed with the rows
                dir=self._folder, prefix="spool-", buffering=0
            )
        self._sort_run()
        end = self._file.seek(0, os.SEEK_END)
        self._begins.append([])
        for held in self._held:
            self._begins[-1].append(end)
            step = min(self._used, max(1, _WRITTEN // held.shape[1]))
            piece = np.empty((step, held.shape[1]), np.uint8)
            for start in range(0, self._used, step):
                order = self._order[start : start + step]
                _put(piece[: len(order)], held, order)
                view = memoryview(piece[: len(order)]).cast("B")
                end += len(view)
                while view:
                    view = view[self._file.write(view) :]
        self._used = 0


def _sorted(numbers: np.ndarray) -> np.ndarray:
    """Return the stable order of int64 [n]."""
    if len(numbers):
        least = numbers.min()
        if numbers.max() - least < 1 << 16:  # NumPy sorts so few different ones by counting
            numbers = (numbers - least).astype(np.uint16)
    return np.argsort(numbers, kind="stable")


def _put(into: np.ndarray, rows: np.ndarray, order: np.ndarray) -> None:
    """Copy rows in an order."""
    np.take(rows, order, axis=0, out=into, mode="clip")  # unlike "raise", it does not buffer


def _numbers(rows: np.ndarray) -> np.ndarray:
    return rows[:, :8].copy().view(np.int64)[:, 0]


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
