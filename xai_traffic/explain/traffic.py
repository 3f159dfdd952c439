"""The packets behind the images: what removals that leave valid packets are made of."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from xai_traffic.capture.images import grid_images, images_of, spread, tiles_of_images
from xai_traffic.capture.layouts import TILE_LAYOUTS
from xai_traffic.capture.masking import parse_mask
from xai_traffic.capture.records import GRID, TILE
from xai_traffic.capture.repair import rows_of


@dataclasses.dataclass(frozen=True, eq=False)
class Traffic:
    """Sessions as tiles and packet rows, those of a session one behind the other.

    Args:
        tiles: uint8 [T, 256], as the model reads them.
        packets: PACKET [T], their rows.
        counts: int [B], tiles of each session, at most 64.
        mask: what is hidden in the tiles.

    Raises:
        ValueError: sizes do not fit.
        ConfigError: unknown mask.
    """

    tiles: np.ndarray
    packets: np.ndarray
    counts: np.ndarray
    mask: str = "none"

    def __post_init__(self) -> None:
        """Refuse what does not fit."""
        parse_mask(self.mask)
        tiles, total = self.tiles, int(self.counts.sum())
        if tiles.shape != (total, TILE) or len(self.packets) != total:
            raise ValueError(
                f"tiles {tiles.shape} and {len(self.packets)} rows do not fit {total} packets"
            )
        if len(self.counts) and self.counts.max() > GRID:
            raise ValueError(f"a session has at most {GRID} tiles, not {self.counts.max()}")

    def __len__(self) -> int:
        """Return the number of sessions."""
        return len(self.counts)

    @property
    def sessions(self) -> np.ndarray:
        """Which session each tile is of, int [T]."""
        return spread(self.counts)[0]

    def places(self) -> np.ndarray:
        """Return the tile of each place of each image, int [B, 64]; -1 where there is none."""
        session, place = spread(self.counts)
        result = np.full((len(self), GRID), -1)
        result[session, place] = np.arange(len(session))
        return result

    def images(self) -> np.ndarray:
        """Return uint8 [B, 128, 128, 1]."""
        first = np.cumsum(self.counts) - self.counts
        return images_of(self.tiles, first, self.counts)[..., None]


def traffic_of(source: Any, rows: np.ndarray) -> Traffic:
    """Return some sessions of a dataset or of a capture that was read.

    Args:
        source: `data.store.Dataset` or `capture.sessions.Sessions`.
        rows: int [B], rows of its table.

    Raises:
        ValueError: its tiles are not packets.
    """
    layout = source.rules.layout
    if layout not in TILE_LAYOUTS:
        raise ValueError(f"under layout {layout!r} tiles are not packets, so none can be replaced")
    rows = np.asarray(rows, np.int64)
    first, counts = (source.table[name].to_numpy()[rows] for name in ("first_tile", "tiles"))
    session, place = spread(counts)
    tiles = first[session] + place
    packets = rows_of(source.packets.take(tiles))
    return Traffic(np.asarray(source.tiles[tiles]), packets, counts, source.rules.mask)


def packets_kept(traffic: Traffic, places: np.ndarray, rows, keep) -> tuple[np.ndarray, ...]:
    """Return what masks over images keep of packets.

    Args:
        places: of `traffic`.
        rows: int [m], sessions.
        keep: bool [m, 128, 128, 1].

    Returns:
        For each of the n packets of these sessions: int [n] mask, int [n] place in the image, int
        [n] tile, bool [n, 256] bytes kept, bool [n, 256] bytes removed, padding being neither.

    Raises:
        ValueError: the masks are not over images.
    """
    keep = np.asarray(keep)
    if keep.shape[1:] != (*grid_images(np.zeros((1, GRID, TILE), bool)).shape[1:], 1):
        raise ValueError(f"packets are removed from images [128, 128, 1], not {keep.shape[1:]}")
    numbers = places[rows]
    mask, place = np.nonzero(numbers >= 0)
    tile = numbers[mask, place]
    held = np.arange(TILE) < traffic.packets["length"][tile].astype(int)[:, None]
    kept = tiles_of_images(keep[..., 0])[mask, place]
    return mask, place, tile, held & kept, held & ~kept


def put_together(count: int, mask, place, tiles) -> np.ndarray:
    """Return uint8 [count, 128, 128, 1] with tiles [n, 256] at places of masks, zeros elsewhere."""
    dense = np.zeros((count, GRID, TILE), np.uint8)
    dense[mask, place] = tiles
    return grid_images(dense)[..., None]
