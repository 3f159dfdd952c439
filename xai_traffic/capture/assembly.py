"""Put ragged sessions of tiles together into batches, in C where that was built.

A session is `count` tiles from row `first` on. In a batch it has the place of a whole one: 64
tiles one behind the other, or the image that `images.py` describes; what it lacks is zero.
"""

from __future__ import annotations

import math
import sys

import numpy as np

from xai_traffic.capture.records import GRID, TILE

try:
    from xai_traffic.capture import _images
except ImportError:  # no compiler at installation
    _images = None

SIDE, ROW = 8, 16
"""Packets along an image's side, and bytes along a tile's."""

EXTENT = SIDE * ROW
"""Pixels along an image's side."""

ALIGNMENT = 64
"""Bytes; memory that begins at a multiple of them is what JAX takes on a CPU without a copy."""


def assemble(
    tiles: np.ndarray,
    first: np.ndarray,
    count: np.ndarray,
    out: np.ndarray,
    held: np.ndarray | None = None,
) -> np.ndarray:
    """Fill `out` with sessions, and with zeros behind the last of them.

    Args:
        tiles: uint8 [T, width], in memory or mapped.
        first: int [N], row of each session's first tile.
        count: int [N], tiles of each session.
        out: uint8 [B, grid, width], or [B, 128, 128] for images (of 64 tiles of 256 bytes);
            contiguous, B at least N.
        held: int64 [B], how many tiles each place of `out` still holds, brought up to date. Only
            those are overwritten with zeros; without it, or where it says no count at all
            (-1), all that is not filled is.

    Returns:
        `out`.

    Raises:
        IndexError: a session has tiles that do not exist, or more than fit; then `out` holds
            neither the old batch nor the new one, and `held` does not fit it.
        ValueError: the shapes or types do not fit together.
    """
    first = np.ascontiguousarray(first, np.int64)
    count = np.ascontiguousarray(count, np.int64)
    images = out.shape[1:] == (EXTENT, EXTENT)
    grid, width = (GRID, TILE) if images else out.shape[1:]
    if tiles.dtype != np.uint8 or out.dtype != np.uint8:
        raise ValueError(f"tiles are uint8, not {tiles.dtype} and {out.dtype}")
    if tiles.ndim != 2 or tiles.shape[1] != width or not out.flags.c_contiguous:
        raise ValueError(f"tiles {tiles.shape} cannot be put into {out.shape}")
    if first.ndim != 1 or first.shape != count.shape or len(first) > len(out):
        raise ValueError(f"{len(out)} places cannot take {first.shape} and {count.shape} sessions")
    if held is not None and (held.dtype != np.int64 or held.shape != out.shape[:1]):
        raise ValueError(f"held is int64 {out.shape[:1]}, not {held.dtype} {held.shape}")
    if _images is not None and tiles.flags.c_contiguous:
        _images.assemble(tiles, first, count, out, held, width, grid, images)
    else:
        _assemble(tiles, first, count, out, held, images)
    return out


def _assemble(
    tiles: np.ndarray,
    first: np.ndarray,
    count: np.ndarray,
    out: np.ndarray,
    held: np.ndarray | None,
    images: bool,
) -> None:
    """Do the same in NumPy; all sessions are checked before any is written."""
    grid = GRID if images else out.shape[1]
    short = (first < 0) | (first > len(tiles) - count)
    wrong = np.flatnonzero((count < 0) | (count > grid) | (short & (count > 0)))
    if len(wrong):
        raise IndexError(f"the tiles of session {wrong[0]} of the batch are not all there")
    out[...] = 0
    session = np.repeat(np.arange(len(count)), count)
    place = np.arange(len(session)) - np.repeat(np.cumsum(count) - count, count)
    chosen = tiles[first[session] + place]
    if images:
        lines = out.reshape(-1, SIDE, ROW, SIDE, ROW).transpose(0, 1, 3, 2, 4)  # a view
        lines[session, place // SIDE, place % SIDE] = chosen.reshape(-1, ROW, ROW)
    else:
        out[session, place] = chosen
    if held is not None:
        held[:] = 0
        held[: len(count)] = count


class BatchMemory:
    """Memory for batches one after the other: only what the last one left over is zeroed.

    Args:
        size: sessions of a batch, at most.
        grid: tiles of a whole session.
        images: put images together, not dense tiles.

    Attributes:
        batch: uint8 [size, grid, 256] or [size, 128, 128], to be read only; it holds what `fill`
            put there last.
    """

    def __init__(self, size: int, grid: int = GRID, *, images: bool = False):
        shape = (size, EXTENT, EXTENT) if images else (size, grid, TILE)
        self._owner = np.zeros(math.prod(shape) + ALIGNMENT, np.uint8)
        begin = -self._owner.ctypes.data % ALIGNMENT
        self._memory = self._owner[begin : begin + math.prod(shape)].reshape(shape)
        self._held = np.zeros(size, np.int64)
        self.batch = self._memory.view()
        self.batch.flags.writeable = False
        self._unused = self._references()

    @property
    def in_use(self) -> bool:
        """Whether anything refers to the batch: names, views, buffers on a device."""
        return self._references() != self._unused

    def _references(self) -> int:
        # NumPy lets every view refer to the owner, and JAX holds a view of what it reads.
        return sys.getrefcount(self._owner) + sys.getrefcount(self.batch)

    def fill(self, tiles: np.ndarray, first: np.ndarray, count: np.ndarray) -> np.ndarray:
        """Return the batch of some sessions, zero behind them; see `assemble`."""
        try:
            assemble(tiles, first, count, self._memory, self._held)
        except IndexError:
            self._held[:] = -1
            raise
        return self.batch
