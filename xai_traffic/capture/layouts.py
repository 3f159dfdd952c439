"""Make images of tiles by layout: the grid, heiFIP's other images, and the stream of ustc28.

All but `ustc28` are made of the same stored tiles when images are asked for, so whatever layout
of TILE_LAYOUTS a capture was read by, it gives the images of the others too; the tiles of `ustc28`
also give the grid that models read. With n packets of a session, of which k <= 64 have a tile:

    tiles          uint8 [N, 128, 128], see `images.py`. heifip-none and heifip-header likewise,
                   of tiles that `heifip/` rendered
    packet         uint8 [P, 16, 16], one image a tile, the sessions' one behind the other
    flow_rows      uint8 [N, 64, 256], one packet a row. heiFIP: k rows, as long as the longest
    flow_appended  uint8 [N, 128, 128], the tiles' bytes one behind the other, without padding,
                   row by row. heiFIP: as many rows of 16 (from its command line 8) as it takes
    tiled_auto     list of N uint8 [16 s, 16 s] with s = ceil(sqrt(k)): sizes differ
    markov_packet  float32 [P, 16, 16], one a tile: row i holds the shares of the half-bytes that
                   follow half-byte i among all that follow it, zeros where none does. Half-bytes
                   run high, low over the tile's bytes, without padding
    markov_flow    float32 [N, 128, 128], the 8 x 8 grid of a session's matrices. heiFIP: 4 x 4,
                   unless it is told otherwise

heiFIP (FACTS: version 1.1.1) takes packets as scapy rebuilds them, and the Markov images and rows
of their whole length; here every image is made of the bytes that tiles keep. In all of them a
masked byte is a byte like others.
"""

from __future__ import annotations

import numpy as np

from xai_traffic.capture import images
from xai_traffic.capture.records import GRID, TILE
from xai_traffic.errors import ConfigError

RENDERINGS = ("heifip-none", "heifip-header")
"""Layouts whose tiles are not the captured bytes: no mask fits them, and nothing explains them."""

TILE_LAYOUTS = (
    "tiles",
    "packet",
    "flow_rows",
    "flow_appended",
    "tiled_auto",
    "markov_packet",
    "markov_flow",
)
"""Layouts whose tiles are packets as captured; they differ only when images are made."""

GRID_LAYOUTS = ("tiles", *RENDERINGS)
"""Layouts whose image is the grid of 8 x 8 tiles that models read."""

HALVES = 16
"""Values of a half-byte."""

_CHUNK = 4096
"""Tiles whose transitions are counted together: 8 MiB of indices."""


def make_images(
    stored: str,
    tiles: np.ndarray,
    first_tile: np.ndarray,
    count: np.ndarray,
    lengths: np.ndarray | None = None,
    layout: str | None = None,
) -> np.ndarray | list[np.ndarray]:
    """Return the images of sessions whose tiles lie contiguous; for their shapes see the module.

    Args:
        stored: layout that the tiles were made by.
        tiles: uint8 [T, 256].
        first_tile: int [N], row of each session's first tile.
        count: int [N], tiles of each session, at most 64.
        lengths: int [T], bytes of each tile that are no padding; see `needs_lengths`.
        layout: that of the images, by default the stored one.

    Raises:
        ConfigError: the tiles cannot give that layout.
    """
    layout = layout or stored
    known = (stored, "tiles") if stored == "ustc28" else TILE_LAYOUTS
    if layout != stored and not (stored in known and layout in known):
        choices = ", ".join(known if stored in known else (stored,))
        raise ConfigError(
            f"layout {layout!r} cannot be made of tiles of layout {stored!r}: choose one of "
            f"{choices}, or read the captures with it"
        )
    first_tile, count = np.asarray(first_tile, np.int64), np.asarray(count, np.int64)
    if layout == "ustc28":
        return images.stream_images(tiles, first_tile)
    if layout in GRID_LAYOUTS:
        return images.images_of(tiles, first_tile, count)
    session, place = images.spread(count)
    rows = first_tile[session] + place
    if layout == "packet":
        return tiles[rows].reshape(-1, images.ROW, images.ROW)
    if layout == "flow_rows":
        made = np.zeros((len(count), GRID, TILE), np.uint8)
        made[session, place] = tiles[rows]
        return made
    if layout == "flow_appended":
        return append_tiles(tiles[rows], np.asarray(lengths)[rows], count)
    if layout == "tiled_auto":
        return [tile_squarely(tiles[f : f + c]) for f, c in zip(first_tile, count, strict=True)]
    matrices = transition_matrices(tiles[rows], np.asarray(lengths)[rows])
    if layout == "markov_packet":
        return matrices
    grids = np.zeros((len(count), GRID, TILE), np.float32)
    grids[session, place] = matrices.reshape(-1, TILE)
    return images.grid_images(grids)


def model_layout(stored: str) -> str:
    """Return the layout by which models read tiles that were made by one.

    The four tiles of a stream (ustc28) lie in the grid as those of four packets would.

    Raises:
        ConfigError: models do not read such tiles.
    """
    if stored == "ustc28" or stored in GRID_LAYOUTS:
        return "tiles" if stored == "ustc28" else stored
    raise ConfigError(
        f"layout {stored!r} is none that models read: choose one of "
        f"{', '.join((*GRID_LAYOUTS, 'ustc28'))}"
    )


def needs_lengths(layout: str) -> bool:
    """Tell whether `make_images` must know where a tile's padding begins."""
    return layout in ("flow_appended", "markov_packet", "markov_flow")


def append_tiles(tiles: np.ndarray, lengths: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return uint8 [N, 128, 128]: the bytes of each session's tiles, without their padding.

    Args:
        tiles: uint8 [T, 256], those of a session one behind the other.
        lengths: int [T].
        count: int [N], tiles of each session.
    """
    side = images.SIDE * images.ROW
    made = np.zeros((len(count), side * side), np.uint8)
    captured = np.arange(TILE) < np.asarray(lengths)[:, None]
    totals = np.zeros(len(count), np.int64)
    session, _ = images.spread(count)
    np.add.at(totals, session, captured.sum(axis=1))
    made[np.arange(side * side) < totals[:, None]] = tiles[captured]
    return made.reshape(-1, side, side)


def tile_squarely(tiles: np.ndarray) -> np.ndarray:
    """Return uint8 [16 s, 16 s], the smallest square grid that holds uint8 [k, 256], row by row."""
    side = int(np.ceil(np.sqrt(len(tiles))))
    grid = np.zeros((side * side, TILE), np.uint8)
    grid[: len(tiles)] = tiles
    grid = grid.reshape(side, side, images.ROW, images.ROW).transpose(0, 2, 1, 3)
    return grid.reshape(side * images.ROW, side * images.ROW)


def transition_matrices(tiles: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return float32 [T, 16, 16]: how often each half-byte follows each, rows summing to 1 or 0.

    Args:
        tiles: uint8 [T, width].
        lengths: int [T], bytes of each tile to look at.
    """
    made = np.empty((len(tiles), HALVES, HALVES), np.float32)
    lengths = np.asarray(lengths, np.int64)
    for part in range(0, len(tiles), _CHUNK):
        some = tiles[part : part + _CHUNK]
        halves = np.empty((len(some), 2 * some.shape[1]), np.int64)
        halves[:, 0::2], halves[:, 1::2] = some >> 4, some & 15
        steps = halves[:, :-1] * HALVES + halves[:, 1:]
        steps += np.arange(len(some))[:, None] * HALVES**2
        real = np.arange(steps.shape[1]) < 2 * lengths[part : part + _CHUNK, None] - 1
        counts = np.bincount(steps[real], minlength=len(some) * HALVES**2)
        counts = counts.reshape(-1, HALVES, HALVES)
        totals = counts.sum(axis=2, keepdims=True)
        made[part : part + _CHUNK] = counts / np.maximum(totals, 1)
    return made
